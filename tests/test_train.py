#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trueno-tuner-train judges predictions as it says, refuses bad corpora, and writes the same file for the same corpus.

usage: test_train.py BIN_DIR    (trueno-tuner-train)

Figures of the roofline are computed here a second time, from its formulas, on made-up runs with a known law. Where
bench/corpus/runs.csv is there, training on it must give src/tuner/pretrained.bin. No text but what is generated says how accurate
predictions are.
"""
import math
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")

FIELDS = [
    "session", "utc", "model", "type", "level", "threads", "test", "tps", "read_min", "read_max", "kept",
    "model_params_b", "hidden_dim", "num_layers", "num_heads", "intermediate_dim", "vocab_size", "kv_heads", "head_dim",
    "rope_theta", "tie_embeddings", "seq_len", "kv_cache_tokens", "prompt_tokens", "generated_tokens", "quant",
    "quant_group_size", "bits_per_weight", "quant_scheme_idx", "has_scales", "gpu_mem_bw_gbs", "gpu_compute_tflops",
    "sm_count", "tensor_cores", "vram_gb", "cpu_threads", "numa_nodes", "is_unified_memory", "weight_bytes_per_pass",
    "kv_bytes_per_token", "phase",
]
# name: params in 10^9, hidden, layers, heads, ffn, vocabulary, kv heads, head size, rope theta, tied
MODELS = {
    "a": (0.5, 896, 24, 14, 4864, 151936, 2, 64, 1e6, 1),
    "b": (1.1, 2048, 22, 32, 5632, 32000, 4, 64, 1e4, 0),
    "c": (3.2, 3072, 28, 24, 8192, 128256, 8, 128, 5e5, 1),
}
TYPES = {"Q4_K": (32, 4.5, 4), "Q8_0": (32, 8.5, 1), "F16": (1, 16, 0)}
# test: seq_len, resident tokens, prompt, generated
TESTS = {"pp32@d16": (48, 16, 32, ""), "pp128": (128, 0, 128, ""), "tg12@d16": (28, 16, "", 12),
         "tg8@d400": (408, 400, "", 8)}
N_SLOTS = 42
INERT = (8, 17, 18, 19)

passed, failed, skipped = 0, 0, 0


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {name}\n  {detail}")


def train(program, *args, status=0):
    done = subprocess.run([program, *args], capture_output=True, text=True)
    check(f"{' '.join(args)} exits with {status}", done.returncode == status, f"{done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


# -------------------------------------------------------------------------------- made-up runs


def times(row):
    """Tokens, seconds at the roof, and seconds above it that are usual on a CPU."""
    prefill = row["phase"] == "prefill"
    tokens = row["prompt_tokens"] if prefill else 1
    table = row["vocab_size"] * row["hidden_dim"]
    layers = row["model_params_b"] * 1e9 - table * (1 if row["tie_embeddings"] else 2)
    first = row["seq_len"] - tokens + 1
    attended = tokens * (first + row["seq_len"]) / 2
    flops = 2 * (tokens * layers + table)  # logits of one token
    flops += 4 * row["num_heads"] * row["head_dim"] * row["num_layers"] * attended
    size = row["weight_bytes_per_pass"] + (row["kv_cache_tokens"] + tokens) * row["kv_bytes_per_token"]
    mem, cmp = size / (row["gpu_mem_bw_gbs"] * 1e9), flops / (row["gpu_compute_tflops"] * 1e12)
    return tokens, max(mem, cmp), (1 / 0.85 - 1) * mem + (1 / 0.60 - 1) * cmp + 0.2 * min(mem, cmp)


def make_rows():
    rng, rows = random.Random(5), []
    for model, (params, hidden, layers, heads, ffn, vocab, kv_heads, head, theta, tied) in MODELS.items():
        for kind, (group, bits, scheme) in TYPES.items():
            for threads in (1, 2):
                for level in ("avx2", "avx512"):
                    for test, (seq, kv, prompt, generated) in TESTS.items():
                        row = dict(session=f"s{len(rows) % 2}", model=model,
                                   utc="2026-01-0%dT00:00:00Z" % (1 + len(rows) % 3),
                                   type=kind, level=level, threads=threads, test=test, read_min=20, read_max=21, kept=1,
                                   model_params_b=params, hidden_dim=hidden, num_layers=layers, num_heads=heads,
                                   intermediate_dim=ffn, vocab_size=vocab, kv_heads=kv_heads, head_dim=head,
                                   rope_theta=theta, tie_embeddings=tied, seq_len=seq, kv_cache_tokens=kv,
                                   prompt_tokens=prompt, generated_tokens=generated, quant=kind, quant_group_size=group,
                                   bits_per_weight=bits, quant_scheme_idx=scheme, has_scales=int(scheme > 0),
                                   gpu_mem_bw_gbs=rng.uniform(19, 22) * threads, sm_count=2, vram_gb=0,
                                   gpu_compute_tflops=(0.4 if level == "avx2" else 0.9) * threads,
                                   tensor_cores=1, cpu_threads=threads, numa_nodes=1, is_unified_memory=1,
                                   weight_bytes_per_pass=params * 1e9 * bits / 8,
                                   kv_bytes_per_token=4 * layers * kv_heads * head,
                                   phase="prefill" if prompt else "decode")
                        # the law: two threads lose three times as much, prefill half as much again
                        f = -math.log(3) * (threads == 2) - (0.4 if prompt else 0) + rng.gauss(0, 0.1)
                        tokens, floor, excess = times(row)
                        row["tps"] = tokens / (floor + excess * math.exp(-f))
                        rows.append(row)
    return rows


def write(path, rows, fields=FIELDS):
    with open(path, "w") as out:
        out.write(",".join(fields) + "\n")
        for row in rows:
            out.write(",".join("%.17g" % row[f] if isinstance(row[f], float) else str(row[f]) for f in fields) + "\n")
    return path


# ------------------------------------------------------------------------------------ --eval


def tables(text):
    """{(phase, split, predictor): figures}, fractions for percentages."""
    found, phase = {}, None
    for line in text.splitlines():
        phase = line[3:] if line.startswith("## ") else phase
        cells = [c.strip() for c in line.strip("|").split("|")]
        if line.startswith("| ") and phase in ("Decode", "Prefill") and cells[1] in ("roofline", "ridge", "forest"):
            found[phase, cells[0], cells[1]] = [float(c[:-1]) / 100 if c.endswith("%") else float(c) for c in cells[2:]]
    return found


def figures(rows, phase, column):
    """What the roofline's row must say, each of these rows held out with its value of a column."""
    errors, bias, held, width, right, pairs = [], 0, 0, 0, 0, 0
    mine = [r for r in rows if r["phase"] == phase]
    for r in mine:
        tokens, floor, excess = times(r)
        r["predicted"], r["roof"] = tokens / (floor + excess), tokens / floor
        r["score"] = abs(math.log(r["tps"] / r["predicted"]))
    for r in mine:
        errors.append(abs(r["predicted"] / r["tps"] - 1))
        bias += math.log(r["predicted"] / r["tps"]) / len(mine)
        others = sorted(o["score"] for o in mine if o[column] != r[column])
        factor = math.exp(others[math.ceil(0.9 * (len(others) + 1)) - 1])
        low, high = r["predicted"] / factor, min(r["predicted"] * factor, r["roof"])
        held += (low <= r["tps"] <= high) / len(mine)
        width += (high - low) / r["predicted"] / len(mine)
        for o in mine:
            if o[column] == r[column] and r["tps"] > 1.03 * o["tps"]:
                pairs += 1
                right += 1 if r["predicted"] > o["predicted"] else 0.5 * (r["predicted"] == o["predicted"])
    errors.sort()
    n = len(errors)
    median = (errors[(n - 1) // 2] + errors[n // 2]) / 2
    configs = len({tuple(r[k] for k in ("model", "type", "level", "threads", "test")) for r in mine})
    return [n, configs, sum(errors) / n, median, errors[math.ceil(0.9 * n) - 1], bias, right / pairs, held, width]


def check_eval(program, folder, rows):
    path = write(os.path.join(folder, "runs.csv"), rows)
    text, log = train(program, path, "--eval", "--trees", "20")
    found = tables(text)
    splits = {"one model": "model", "one type": "type", "one number of threads": "threads", "one level": "level",
              "one session": "session"}
    for name, column in splits.items():
        for phase in ("decode", "prefill"):
            said = found.get((phase.capitalize(), name, "roofline"), [])
            wanted = figures(rows, phase, column)
            good = len(said) == len(wanted) and all(abs(a - b) <= 0.00051 for a, b in zip(said, wanted))
            check(f"figures of the roofline, {phase}, {name}", good, f"{said}\n  {wanted}")
    check("one table row for each", len(found) == 2 * 6 * 3, len(found))
    for phase in ("Decode", "Prefill"):
        roof, forest = (found[phase, "one model", p][2] for p in ("roofline", "forest"))
        check(f"{phase}: the forest learned the law", forest < 0.5 * roof, f"{forest} {roof}")
        coverage = found[phase, "one model", "forest"][7]
        check(f"{phase}: its interval holds", coverage >= 0.7, coverage)
    check("dates", "2026-01-01 to 2026-01-03, sessions: 2" in text, text)
    check("rows", f"Rows: {len(rows)} of 144 configurations" in text, text)
    check("machine", "2 cores" in text and "avx2/avx512" in text, text)
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    order = [cells[2].strip() for cells in lines if len(cells) == 6][2:]
    check("importance: threads are in the law, heads are not",
          "cpu_threads" in order and order.index("cpu_threads") < order.index("num_heads"), order)
    check("counts on stderr", f"{len(rows)} rows" in log, log)


def check_left_out(program, folder, rows):
    changed = [dict(r) for r in rows]
    for r in changed[:7]:
        r["kept"] = 0
    for r in changed[10:13]:
        tokens, floor, _ = times(r)
        r["tps"] = tokens / floor
    text, _ = train(program, write(os.path.join(folder, "left.csv"), changed), "--eval", "--trees", "5")
    check("what is left out", "7 measured while the machine was unsteady, 3 at or above their roof" in text and
          f"Rows: {len(rows) - 10} of" in text, text)


# ------------------------------------------------------------------------------------ the file


def check_file(program, folder, rows):
    path = write(os.path.join(folder, "runs.csv"), rows)
    out = [os.path.join(folder, n) for n in ("1.bin", "2.bin", "3.bin", "4.bin")]
    train(program, path, "-o", out[0], "--trees", "20")
    train(program, path, "--eval", "-o", out[1], "--trees", "20")
    train(program, path, "-o", out[2], "--trees", "20", "--seed", "2")
    other = [dict(r) for r in rows]
    other[0]["tps"] *= 0.9
    train(program, write(os.path.join(folder, "other.csv"), other), "-o", out[3], "--trees", "20")
    data = [open(p, "rb").read() for p in out]
    check("same corpus and seed, same bytes", data[0] == data[1])
    check("another seed, other trees", data[0][800:] != data[2][800:] and data[0][24:32] == data[2][24:32])
    check("another corpus, another hash", data[0][24:32] != data[3][24:32])
    check("another corpus, another error", data[0][40:48] != data[3][40:48])
    p = data[0]
    magic, version, crc, size, _, n, mape, machine, date = struct.unpack_from("<8sIIQQQd64s16s", p)
    check("day of the last measurement", date.rstrip(b"\0").decode() == max(r["utc"] for r in rows)[:10], date)
    check("header", magic == b"TRUENOPT" and version == 2 and size == len(p) <= 300 * 1024 and n == len(rows), p[:48])
    check("checksum", crc == zlib.crc32(p[16:]))
    check("machine", machine.rstrip(b"\0") == b"2 cores, 44 GB/s, avx2/avx512", machine)
    found = tables(train(program, path, "--eval", "--trees", "20")[0])
    parts = [found[phase, "one model", "forest"] for phase in ("Decode", "Prefill")]
    check("error of both phases", abs(mape - sum(f[0] * f[2] for f in parts) / n) < 0.00051, mape)
    table = [struct.unpack_from("<dd", p, 128 + 16 * i) for i in range(N_SLOTS)]
    check("importances are shares", abs(sum(t[0] for t in table) - 1) < 1e-9 and min(t[0] for t in table) >= 0, table)
    check("what models do not see has none", all(table[i][0] == 0 for i in INERT) and table[8][1] == 0, table)
    constant = [table[i] for i in (10, 12, 14, 17, 18, 19, 20, 25, 26, 29, 32, 33, 36, 38)]
    same = [t for t in constant if t[0] or not math.isnan(t[1])]
    check("what does not vary is not identified", not same, same)
    check("what the law goes by is important", min(table[i][0] for i in (27, 30, 37)) > 0.02, table)


def check_interval(program, folder, rows):
    """Where models differ in what others do not tell, the file's confidence is that of models held out."""
    unlike = [dict(r) for r in rows]
    for r in unlike:
        tokens, floor, excess = times(r)
        r["tps"] = tokens / (floor + excess * {"a": 1, "b": 9, "c": 0.1}[r["model"]])
    out = os.path.join(folder, "unlike.bin")
    train(program, write(os.path.join(folder, "unlike.csv"), unlike), "-o", out)
    with open(out, "rb") as f:
        confidence, = struct.unpack_from("<d", f.read(), 800 + 64)  # src/tuner/regressor_bytes.c
    check("confidence is of models that were held out", confidence < 0.6, confidence)


def check_shipped(program, folder):
    global skipped
    corpus = os.path.join("bench", "corpus", "runs.csv")
    if not os.path.exists(os.path.join(ROOT, corpus)):
        skipped += 1
        print("skipped: no " + corpus)
        return
    out = os.path.join(folder, "pretrained.bin")
    train(program, os.path.join(ROOT, corpus), "-o", out)
    with open(out, "rb") as new, open(os.path.join(ROOT, "src", "tuner", "pretrained.bin"), "rb") as old:
        check("src/tuner/pretrained.bin comes from " + corpus, new.read() == old.read())


# ---------------------------------------------------------------------------------- bad input


def check_bad(program, folder, rows):
    good = open(write(os.path.join(folder, "good.csv"), rows)).read().splitlines()
    at = {name: i for i, name in enumerate(FIELDS)}

    def edited(name, value):
        cells = good[4].split(",")
        cells[at[name]] = value
        return good[:4] + [",".join(cells)] + good[5:]

    cases = [
        ("unknown column", [good[0] + ",color"] + [g + ",red" for g in good[1:]], ":1: unknown column 'color'"),
        ("two columns", [good[0] + ",tps"] + [g + ",1" for g in good[1:]], ":1: two columns 'tps'"),
        ("no column", [good[0].replace("tps,", "", 1)] + good[1:], ":1: no column 'tps'"),
        ("bad number", edited("hidden_dim", "many"), ":5: column 'hidden_dim' is 'many'"),
        ("half a number", edited("tps", "12x"), ":5: column 'tps' is '12x'"),
        ("not a number", edited("head_dim", "nan"), ":5: column 'head_dim' is 'nan'"),
        ("infinite", edited("tps", "inf"), ":5: column 'tps' is 'inf'"),
        ("no rate", edited("tps", ""), ":5: column 'tps' is ''"),
        ("rate of 0", edited("tps", "0"), ":5: column 'tps' is '0'"),
        ("kept", edited("kept", "yes"), ":5: column 'kept' is 'yes'"),
        ("type", edited("quant", "Q9"), ":5: column 'quant' is 'Q9'"),
        ("phase", edited("phase", "warm"), ":5: column 'phase' is 'warm'"),
        ("model", edited("model", ""), ":5: column 'model' is ''"),
        ("feature out of range", edited("num_heads", "-3"), ":5: num_heads"),
        ("too few fields", good[:4] + [good[4].rsplit(",", 1)[0]] + good[5:], ":5: fewer than 41 fields"),
        ("too many fields", good[:4] + [good[4] + ",1"] + good[5:], ":5: more than 41 fields"),
        ("no rows", good[:1], "no rows"),
        ("one model", [good[0]] + good[1:40], "rows of one model"),
        ("nothing", [], "empty"),
        ("a NUL", good[:4] + ["\0" + good[4]] + good[5:], "NUL"),
    ]
    for name, lines, message in cases:
        path = os.path.join(folder, "bad.csv")
        with open(path, "w") as out:
            out.write("".join(line + "\n" for line in lines))
        _, log = train(program, path, "--eval", "--trees", "5", status=1)
        check(name, message in log, log)
    _, log = train(program, os.path.join(folder, "none.csv"), "--eval", status=1)
    check("no file", "none.csv" in log, log)
    train(program, os.path.join(folder, "good.csv"), "-o", os.path.join(folder, "no", "such"), "--trees", "5", status=1)
    train(program, os.path.join(folder, "good.csv"), "-o", os.path.join(folder, "x"), "--trees", "0", status=1)
    for args in ([], ["--eval"], [os.path.join(folder, "good.csv")], ["x.csv", "--colour"]):
        train(program, *args, status=2)
    check("help", "CORPUS.csv" in train(program, "--help")[0])


TYPED = re.compile(r"\d ?%[^.%\n]{0,20}\b(MAPE|mean error|accuracy)\b|\b(MAPE|mean error|accuracy)\b( of| is|:)? \d", re.I)


def check_typed_figures():
    """How accurate predictions are is said by what is generated, and nowhere else."""
    check("typed figures would be found", TYPED.search("has 8.2 % MAPE") and TYPED.search("an accuracy of 95") and
          not TYPED.search("mean error of predictions: %.1f %%"), TYPED.pattern)
    for folder in ("README.md", "docs", "include", "src", "examples"):
        top = os.path.join(ROOT, folder)
        paths = [top] if os.path.isfile(top) else [os.path.join(d, f) for d, _, files in os.walk(top) for f in files]
        for path in sorted(paths):
            if not path.endswith((".md", ".c", ".h", ".py", ".sh")) or path.endswith("docs/tuner-accuracy.md"):
                continue
            with open(path, encoding="utf-8") as f:
                found = [line for line in f if TYPED.search(line)]
            check("no accuracy is typed into " + os.path.relpath(path, ROOT), not found, found)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    program = os.path.join(sys.argv[1], "trueno-tuner-train")
    rows = make_rows()
    with tempfile.TemporaryDirectory() as folder:
        check_eval(program, folder, rows)
        check_left_out(program, folder, rows)
        check_file(program, folder, rows)
        check_interval(program, folder, rows)
        check_bad(program, folder, rows)
        check_shipped(program, folder)
    check_typed_figures()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
