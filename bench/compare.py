#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Speed of libtrueno against another engine on the same models, in interleaved pairs.

The opponent is a program with the options and the JSON output of llama-bench, or llama-cpp-python. The order is
A B B A ..., with a probe of the machine between all runs. Printed for each model and test:

  ratio      median of the ratios of pairs, above 1 if libtrueno is faster, with its quartiles
  95 %       bootstrap interval of that median
  A/A, B/B   how far two neighbouring runs of the same engine differ: median of |log ratio|, in percent
  roof       what libtrueno / the opponent reach of the read bandwidth (tg) or of the peak of this CPU's dot products
             (pp), by the probes before and after
  pairs      used, of all: decode pairs whose three probes differ by more than 10 % are dropped
  verdict    "no difference" if 1 is in the interval or the ratio is within the larger of A/A and B/B

Run it on an otherwise idle machine, and give an opponent its best options. Examples:

  bench/compare.py -m model.gguf --opponent ../llama.cpp/build/bin/llama-bench --opponent-args "-fa 1"
  bench/compare.py -m a.gguf -m b.gguf --opponent llama-cpp-python --env TRUENO_CPU=avx2 -o json > result.json
"""
import argparse
import json
import math
import os
import random
import shlex
import statistics
import subprocess
import sys
import time

MAX_PROBE_RATIO = 1.10
FLOAT_TYPES = ("F32", "F16", "BF16")

# ------------------------------------------------------------------------------------------- engines


def run_json(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def test_options(test):
    """("pp", 512) -> the options of trueno-bench and llama-bench that run this test alone."""
    kind, n = test
    return ["-p", str(n), "-n", "0"] if kind == "pp" else ["-p", "0", "-n", str(n)]


class Ours:
    def __init__(self, args, path, threads):
        self.env = dict(os.environ, **dict(pair.split("=", 1) for pair in args.env))
        self.bench = f"{args.bin}/trueno-bench"
        self.options = ["-t", str(threads), "-o", "json"]
        self.path = path
        self.model = None  # what trueno-bench says of the model and its last run

    def measure(self, test):
        command = [self.bench, "-m", self.path, "-r", "1"] + test_options(test) + self.options
        self.model = run_json(command, self.env)[0]
        return self.model["tps_median"]

    def probe(self):
        return run_json([self.bench, "probe"] + self.options, self.env)[0]


class LlamaBench:
    def __init__(self, args, path, threads):
        self.command = [args.opponent, "-m", path, "-t", str(threads), "-r", "1", "-o", "json"]
        self.command += shlex.split(args.opponent_args)

    def measure(self, test):
        return llama_bench_rate(run_json(self.command + test_options(test)), test)

    def close(self):
        pass


def llama_bench_rate(rows, test):
    kind, n = test
    wanted = (n, 0) if kind == "pp" else (0, n)
    for row in rows:
        if (row["n_prompt"], row["n_gen"]) == wanted:
            return statistics.median(row["samples_ts"]) if row.get("samples_ts") else row["avg_ts"]
    raise ValueError(f"the opponent's output has no test {kind}{n}")


class LlamaPython:
    """A process that keeps the model loaded, measures when told to, and sleeps otherwise."""

    def __init__(self, args, path, threads):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", "-m", path, "-p", str(args.prompt), "-n", str(args.gen), "-t",
             str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("the llama-cpp-python process did not start")

    def measure(self, test):
        self.process.stdin.write(test[0] + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def llama_python_worker(path, n_prompt, n_gen, threads):
    """Writes tokens/s of the test named on each line of stdin."""
    import llama_cpp

    @llama_cpp.llama_log_callback
    def quiet(_level, _text, _user):
        pass

    llama_cpp.llama_log_set(quiet, None)
    llama_cpp.llama_backend_init()
    mp = llama_cpp.llama_model_default_params()
    mp.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(path.encode(), mp)
    cp = llama_cpp.llama_context_default_params()
    cp.n_ctx = max(n_prompt, n_gen) + 32
    cp.n_batch = cp.n_ubatch = 512
    cp.n_threads = cp.n_threads_batch = threads
    ctx = llama_cpp.llama_init_from_model(model, cp)
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(tokens):
        for at in range(0, len(tokens), 512):
            part = tokens[at:at + 512]
            ids = (llama_cpp.llama_token * len(part))(*part)  # the batch only points to it
            batch = llama_cpp.llama_batch_get_one(ids, len(part))
            if llama_cpp.llama_decode(ctx, batch) != 0:
                raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(ctx)

    def measure(kind):
        n = n_prompt if kind == "pp" else n_gen
        ids = [(i * 7919 + 1) % n_vocab for i in range(n)]
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), True)
        decode([1])
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), True)
        start = time.perf_counter()
        for part in [ids] if kind == "pp" else [[i] for i in ids]:
            decode(part)
        return n / (time.perf_counter() - start)

    measure("pp")
    print("ready", flush=True)
    for line in sys.stdin:
        print(measure(line.strip()), flush=True)


# ---------------------------------------------------------------------------------------- arithmetic


def measure_pairs(ours, opponent, test, n_pairs, progress):
    """[{"ours", "opponent": tokens/s, "probes": before, between, after}] in the order A B B A ..."""
    pairs, probe = [], ours.probe()
    for i in range(n_pairs):
        probes, rates = [probe], {}
        for name in ("ours", "opponent") if i % 2 == 0 else ("opponent", "ours"):
            rates[name] = (ours if name == "ours" else opponent).measure(test)
            probe = ours.probe()
            probes.append(probe)
        pairs.append(dict(rates, ours_first=i % 2 == 0, probes=probes))
        progress(f"{test[0]}{test[1]}: {i + 1}/{n_pairs} pairs")
    return pairs


def is_steady(pair):
    read = [probe["read_gbs"] for probe in pair["probes"]]
    return max(read) <= MAX_PROBE_RATIO * min(read)


def bootstrap(values, rounds=2000):
    """95 % interval of the median."""
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds) - 1]


def self_spread(rates):
    """Median of |log(next/this)|: what two runs of one engine differ by."""
    return statistics.median(abs(math.log(b / a)) for a, b in zip(rates, rates[1:])) if len(rates) > 1 else 0.0


def share_of_roof(pairs, name, roof, per_token):
    """Median of rate * per_token / roof, by the probes before and after each run; None without a roof."""
    shares = []
    for pair in pairs:
        at = 0 if (name == "ours") == pair["ours_first"] else 1
        limit = (pair["probes"][at][roof] + pair["probes"][at + 1][roof]) / 2
        if limit > 0:
            shares.append(pair[name] * per_token / limit)
    return statistics.median(shares) if shares else None


def verdict(ratio, interval, spread):
    inside = interval[0] <= 1 <= interval[1] or abs(math.log(ratio)) <= spread
    return "no difference" if inside else "faster" if ratio > 1 else "slower"


def summarise(pairs, test, roof, per_token):
    """Figures of one model and test. Decode depends on memory: unsteady pairs are dropped there."""
    used = [p for p in pairs if is_steady(p)] if test[0] == "tg" else pairs
    out = {"test": f"{test[0]}{test[1]}", "pairs": len(pairs), "used": len(used)}
    if len(used) < 2:
        return dict(out, verdict="too few steady pairs")
    logs = [math.log(p["ours"] / p["opponent"]) for p in used]
    spreads = [self_spread([p[name] for p in used]) for name in ("ours", "opponent")]
    ratio = math.exp(statistics.median(logs))
    interval = [math.exp(v) for v in bootstrap(logs)]
    quartiles = statistics.quantiles(logs, n=4)
    return dict(
        out, ours=statistics.median(p["ours"] for p in used), opponent=statistics.median(p["opponent"] for p in used),
        ratio=ratio, quartiles=[math.exp(quartiles[0]), math.exp(quartiles[2])], interval=interval,
        spread_ours=spreads[0], spread_opponent=spreads[1], roof=roof,
        share_ours=share_of_roof(used, "ours", roof, per_token),
        share_opponent=share_of_roof(used, "opponent", roof, per_token), verdict=verdict(ratio, interval, max(spreads)))


# -------------------------------------------------------------------------------------------- output


def percent(value):
    return "-" if value is None else f"{100 * value:.1f}"


def print_row(row):
    head = f"| {os.path.basename(row['model'])} | {row['threads']} | {row['test']} |"
    if "ratio" not in row:
        print(f"{head} - | - | - | - | - | - | - | {row['used']}/{row['pairs']} | {row['verdict']} |", flush=True)
        return
    print(f"{head} {row['ours']:.1f} | {row['opponent']:.1f} | {row['ratio']:.3f} "
          f"| {row['quartiles'][0]:.3f} .. {row['quartiles'][1]:.3f} "
          f"| {row['interval'][0]:.3f} .. {row['interval'][1]:.3f} "
          f"| {percent(row['spread_ours'])} %, {percent(row['spread_opponent'])} % "
          f"| {percent(row['share_ours'])} / {percent(row['share_opponent'])} % "
          f"| {row['used']}/{row['pairs']} | {row['verdict']} |", flush=True)


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="" if text else "\r", file=sys.stderr, flush=True)


def compare(args, path, threads):
    """The rows of one model and number of threads."""
    ours = Ours(args, path, threads)
    opponent = (LlamaPython if args.opponent == "llama-cpp-python" else LlamaBench)(args, path, threads)
    for kind, n in (("pp", args.prompt), ("tg", args.gen)):
        if n == 0:
            continue
        pairs = measure_pairs(ours, opponent, (kind, n), args.pairs, progress)
        progress("")
        model = ours.model
        peak = "f32_gmacs" if model["type"] in FLOAT_TYPES else "int8_gmacs"
        roof, rate = ("read_gbs", "gbs") if kind == "tg" else (peak, "gmacs")
        row = summarise(pairs, (kind, n), roof, model[rate] / model["tps_median"])
        yield dict(model=path, type=model["type"], cpu=model["cpu"], threads=threads, opponent_program=args.opponent,
                   opponent_args=args.opponent_args, samples=pairs, **row)
    opponent.close()


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", action="append", required=True, help="GGUF file; may be repeated")
    p.add_argument("--opponent", default="llama-cpp-python", metavar="PROGRAM",
                   help="a llama-bench, or llama-cpp-python [%(default)s]")
    p.add_argument("--opponent-args", default="", metavar="TEXT", help='its further options, as in "-fa 1 -rtr 1"')
    p.add_argument("--env", action="append", default=[], metavar="NAME=VALUE",
                   help="for libtrueno only, e.g. TRUENO_CPU=avx2; may be repeated")
    p.add_argument("-p", "--prompt", type=int, default=512, help="prompt tokens, 0: no such test [%(default)s]")
    p.add_argument("-n", "--gen", type=int, default=64, help="generated tokens, 0: no such test [%(default)s]")
    p.add_argument("-t", "--threads", default="2", help="thread counts, separated by commas [%(default)s]")
    p.add_argument("--pairs", type=int, default=10, help="interleaved pairs, at least 2 [%(default)s]")
    p.add_argument("--bin", default="build/release/bin", help="folder of trueno-bench [%(default)s]")
    p.add_argument("-o", "--output", choices=("md", "json"), default="md", help="json has all samples [%(default)s]")
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.pairs < 2:
        p.error("--pairs must be at least 2")
    if any("=" not in pair for pair in args.env):
        p.error("--env needs NAME=VALUE")
    return args


def main():
    args = parse_args()
    if args.worker:
        llama_python_worker(args.model[0], args.prompt, args.gen, int(args.threads))
        return
    if args.output == "md":
        print("| model | threads | test | libtrueno t/s | opponent t/s | ratio | quartiles | 95 % | A/A, B/B | roof "
              "| pairs | verdict |")
        print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for path in args.model:
        for threads in args.threads.split(","):
            for row in compare(args, path, int(threads)):
                rows.append(row)
                if args.output == "md":
                    print_row(row)
    if args.output == "json":
        json.dump(rows, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
