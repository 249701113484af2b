#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures runs of many models on this machine: the corpus that the tuner's pretrained regressor is made of.

Models of random weights in published shapes, cut to a few layers so that each takes seconds, are made one after the
other; each is a model with its own true size, and no figure is extrapolated. Every model runs at each level of the
instruction set and with each number of threads: twice three prompts of random lengths and a generation, behind a context
of random length. The order is random (--seed), so that a machine that changes its speed does not favour a type; another
seed measures other runs.

One line per run: where and when, what was measured, the probes beside it, and the features (trueno/features.h) that the
tuner would be given. `kept` is 0 where the bandwidth before and after differs by more than --steady: such lines stay in
the file, and training leaves them out.

    bench/corpus.py --out bench/corpus/runs.csv            # appends a session; run it on an otherwise idle machine
    build/release/bin/trueno-tuner-train bench/corpus/runs.csv --eval
"""
import argparse
import csv
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile

# shape, layers (0: all of them), most tokens of a test, those before it included
SHAPES = [
    ("smollm2-135m", 0, 1024), ("gemma3-270m", 0, 1024), ("smollm2-360m", 12, 1536), ("qwen2.5-0.5b", 10, 1536),
    ("qwen3-0.6b", 10, 1536), ("gemma3-1b", 6, 1024), ("tinyllama-1.1b", 0, 160), ("tinyllama-1.1b", 7, 512),
    ("llama-3.2-1b", 5, 512), ("qwen2.5-1.5b", 5, 512), ("qwen3-1.7b", 5, 512), ("smollm2-1.7b", 5, 512),
    ("llama-3.2-3b", 3, 384), ("gemma3-4b", 3, 384), ("phi3-mini", 3, 384), ("llama-2-7b", 2, 256),
    ("mistral-7b", 2, 256), ("qwen2.5-7b", 1, 256), ("llama-8b", 2, 256), ("qwen3-8b", 2, 256),
    ("llama-2-13b", 1, 256), ("phi4-14b", 1, 256), ("qwen2.5-32b", 1, 160),
]
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16", "BF16"]
LEVELS = ["avx512", "avxvnni", "avx2"]
DEPTHS = [0, 16, 64, 128, 256, 512, 1024]  # tokens before a test
MAX_PROMPT = 512
GENERATED = 12

FEATURES = [
    "model_params_b", "hidden_dim", "num_layers", "num_heads", "intermediate_dim", "vocab_size", "kv_heads", "head_dim",
    "rope_theta", "tie_embeddings", "seq_len", "kv_cache_tokens", "prompt_tokens", "generated_tokens", "quant",
    "quant_group_size", "bits_per_weight", "quant_scheme_idx", "has_scales", "gpu_mem_bw_gbs", "gpu_compute_tflops",
    "sm_count", "tensor_cores", "vram_gb", "cpu_threads", "numa_nodes", "system_ram_gb", "is_unified_memory",
    "power_limit", "weight_bytes_per_pass", "kv_bytes_per_token", "cache_bytes", "phase",
]
FIELDS = ["session", "utc", "model", "type", "level", "threads", "test", "tps", "read_min", "read_max", "kept"] + FEATURES


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="CSV file; a session is appended")
    p.add_argument("--bin", default="build/release/bin", help="folder of the programs [build/release/bin]")
    p.add_argument("--threads", default="1,2", help="numbers of threads [1,2]")
    p.add_argument("--types", default=",".join(TYPES), help="[%s]" % ",".join(TYPES))
    p.add_argument("--shapes", default="", help="names, separated by commas [all]")
    p.add_argument("--levels", default="", help="instruction sets [those of %s that this CPU has]" % ",".join(LEVELS))
    p.add_argument("--minutes", type=float, default=60, help="begin no model after so many minutes [60]")
    p.add_argument("--steady", type=float, default=0.15, help="largest relative change of bandwidth [0.15]")
    p.add_argument("--seed", type=int, default=1, help="of the order and of the tests [1]")
    p.add_argument("--tmp", default=tempfile.gettempdir(), help="folder for a model at a time")
    return p.parse_args()


def levels_of(bin_dir):
    """The levels that this CPU has."""
    found = []
    for level in LEVELS:
        env = dict(os.environ, TRUENO_CPU=level)
        run = subprocess.run([bin_dir + "/trueno-bench", "probe", "-t", "1", "-o", "json"], env=env, capture_output=True)
        if run.returncode == 0:
            found.append(level)
    return found


def number(x):
    return "%.9g" % x if isinstance(x, float) else str(x)


def rows_of(results, args, session, name, level):
    utc = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for r in results:
        low, high = r["read_gbs_min"], r["read_gbs_max"]
        row = {"session": session, "utc": utc, "model": name, "type": r["type"], "level": level,
               "threads": r["threads"], "test": r["test"].replace(" ", ""), "tps": number(r["tps_median"]),
               "read_min": number(low), "read_max": number(high), "kept": int(high <= (1 + args.steady) * low)}
        for field in FEATURES:
            if field in r["features"]:
                row[field] = number(r["features"][field])
        yield row


def draw_test(rng, most):
    """Tokens before, and three different lengths of prompts, evenly on a logarithmic scale; `most` together."""
    depth = rng.choice([d for d in DEPTHS if 2 * d <= most])
    prompts = set()
    while len(prompts) < 3:
        prompts.add(round(min(MAX_PROMPT, most - depth) ** rng.random()))
    return depth, sorted(prompts)


def measure(args, path, name, level, tests, session, writer):
    n = 0
    for depth, prompts in tests:
        command = [args.bin + "/trueno-bench", "-m", path, "-p", ",".join(map(str, prompts)), "-n", str(GENERATED),
                   "-d", str(depth), "-t", args.threads, "-r", "1", "-o", "json"]
        run = subprocess.run(command, env=dict(os.environ, TRUENO_CPU=level), capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit("corpus.py: %s failed: %s" % (" ".join(command), run.stderr.strip()))
        for row in rows_of(json.loads(run.stdout), args, session, name, level):
            writer.writerow(row)
            n += 1
    return n


def main():
    args = arguments()
    jobs = [(s, l, most, t) for s, l, most in SHAPES for t in args.types.split(",")
            if not args.shapes or s in args.shapes.split(",")]
    rng = random.Random(args.seed)
    rng.shuffle(jobs)
    levels = args.levels.split(",") if args.levels else levels_of(args.bin)
    begin = datetime.datetime.now()
    session = begin.strftime("%Y%m%d-%H%M%S")
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    new = not os.path.exists(args.out) or os.path.getsize(args.out) == 0
    done = 0
    with open(args.out, "a", newline="") as out, tempfile.TemporaryDirectory(dir=args.tmp) as tmp:
        writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        for i, (shape, layers, most, kind) in enumerate(jobs):
            minutes = (datetime.datetime.now() - begin).total_seconds() / 60
            if minutes > args.minutes:
                print("\ncorpus.py: out of time, %d of %d models measured" % (i, len(jobs)), file=sys.stderr)
                break
            path = os.path.join(tmp, "model.gguf")
            command = [args.bin + "/trueno-mkmodel", "--shape", shape, "--type", kind, "-o", path]
            command += ["--layers", str(layers)] if layers else []
            subprocess.run(command, check=True, capture_output=True)
            name = shape + ("-%dl" % layers if layers else "")
            for level in levels:
                tests = [draw_test(rng, most) for _ in range(2)]
                done += measure(args, path, name, level, tests, session, writer)
            out.flush()
            os.unlink(path)
            print("\r%3d/%d models, %5d runs, %5.1f min" % (i + 1, len(jobs), done, minutes), end="", file=sys.stderr)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
