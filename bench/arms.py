#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures every kernel that may compute a product, for many products, and says how good the default is.

A context is a product: weight type, rows, columns, vectors, threads, level of the instruction set. All kernels that give
the same bits for it are timed side by side by `trueno-bench traces`: a line holds one call of each, in random order, so a
line shares one state of the machine. One row for each kernel of a context: its median and least time, and the median of
ln(time / default's time) over the lines, with an interval between order statistics that holds it with 95 %. All kernels
are kept, the slow ones too. The order of contexts is random (--seed).

    bench/arms.py --out bench/corpus/arms.csv --minutes 10    # appends a session; the machine should do nothing else
    bench/arms.py --eval bench/corpus/arms.csv > docs/kernel-choice.md
"""
import argparse
import csv
import datetime
import math
import os
import random
import subprocess
import sys

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16", "BF16", "F32"]
LEVELS = ["avx512", "avxvnni", "avx2"]
# rows and columns of published models: attention, feed-forward up and down, output
SHAPES = [
    (576, 576), (1536, 576), (576, 1536), (896, 896), (4864, 896), (896, 4864), (2048, 1024), (3072, 1024), (1024, 3072),
    (2048, 2048), (5632, 2048), (2048, 5632), (8192, 2048), (2048, 8192), (8960, 1536), (1536, 8960), (3072, 3072),
    (8192, 3072), (3072, 8192), (4096, 4096), (11008, 4096), (14336, 4096), (4096, 11008), (4096, 14336), (1024, 4096),
    (32000, 2048),
]
VECTORS = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64, 128, 256, 512]
FIELDS = ["session", "utc", "level", "type", "rows", "cols", "vectors", "threads", "variant", "default", "lines",
          "median_ns", "min_ns", "log_ratio", "ci_lo", "ci_hi"]
LINES = 60  # at most, of a context; the interval of the median of 60 is that between the 22nd from either end
BUDGET_MS = 400.0


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", help="CSV file; a session is appended")
    p.add_argument("--eval", help="CSV file to judge, instead of measuring")
    p.add_argument("--bin", default="build/release/bin", help="folder of the programs [build/release/bin]")
    p.add_argument("--minutes", type=float, default=10, help="begin no context after so many minutes [10]")
    p.add_argument("--seed", type=int, default=1, help="of the order [1]")
    args = p.parse_args()
    if bool(args.out) == bool(args.eval):
        p.error("give either --out or --eval")
    return args


# --------------------------------------------------------------------------- measuring


def order_interval(n):
    """k: the median is between the k-th value from either end, from 0, with at least 95 %."""
    k, below = 0, 0.5 ** n
    while below <= 0.025:
        k += 1
        below += math.comb(n, k) * 0.5 ** n
    return max(k - 1, 0)


def median(values):
    v = sorted(values)
    return (v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2


def record(args, level, kind, rows, cols, vectors, threads, lines):
    """Names of the kernels and the lines of their times; None: there is nothing to compare."""
    command = [args.bin + "/trueno-bench", "traces", "--type", kind, "--rows", str(rows), "--cols", str(cols),
               "-n", str(vectors), "-t", str(threads), "--lines", str(lines)]
    run = subprocess.run(command, env=dict(os.environ, TRUENO_CPU=level), capture_output=True, text=True)
    if run.returncode != 0:
        return None
    head = [line for line in run.stdout.splitlines() if line.startswith("#")]
    data = [[float(x) for x in line.split()] for line in run.stdout.splitlines() if line and line[0] != "#"]
    return head[2][2:].split(), data


def lines_for(rows, cols, vectors, threads):
    """As many as fit into the budget, by a guess of 100 GMAC/s a thread and 20 GB/s, four kernels a line."""
    ms = max(rows * cols * vectors / (1e11 * threads), rows * cols * 0.7 / 2e10) * 1e3
    return max(12, min(LINES, int(BUDGET_MS / (4 * ms))))


def rows_of(names, data, context):
    k = order_interval(len(data))
    for i, name in enumerate(names):
        ratios = sorted(math.log(line[i] / line[0]) for line in data)
        times = [line[i] for line in data]
        yield dict(context, variant=name, default=names[0], lines=len(data), median_ns="%.0f" % median(times),
                   min_ns="%.0f" % min(times), log_ratio="%.5f" % median(ratios), ci_lo="%.5f" % ratios[k],
                   ci_hi="%.5f" % ratios[-1 - k])


def measure(args):
    jobs = [(l, t, r, c, v, n) for l in LEVELS for t in TYPES for r, c in SHAPES for v in VECTORS for n in (1, 2)]
    random.Random(args.seed).shuffle(jobs)
    begin = datetime.datetime.now()
    session = begin.strftime("%Y%m%d-%H%M%S")
    new = not os.path.exists(args.out) or os.path.getsize(args.out) == 0
    n_contexts = n_rows = 0
    with open(args.out, "a", newline="") as out:
        writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        for level, kind, rows, cols, vectors, threads in jobs:
            minutes = (datetime.datetime.now() - begin).total_seconds() / 60
            if minutes > args.minutes:
                break
            found = record(args, level, kind, rows, cols, vectors, threads, lines_for(rows, cols, vectors, threads))
            if not found:
                continue
            utc = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            context = {"session": session, "utc": utc, "level": level, "type": kind, "rows": rows, "cols": cols,
                       "vectors": vectors, "threads": threads}
            for row in rows_of(*found, context):
                writer.writerow(row)
                n_rows += 1
            n_contexts += 1
            out.flush()
            print("\r%5d contexts, %6d kernels, %5.1f of %g min" % (n_contexts, n_rows, minutes, args.minutes), end="",
                  file=sys.stderr)
    print(file=sys.stderr)


# -------------------------------------------------------------------------- evaluating


def contexts_of(path):
    """Rows by context, as measured in one session."""
    found = {}
    with open(path, newline="") as f:
        for row in csv.DictReader(f):
            key = tuple(row[k] for k in ("session", "level", "type", "rows", "cols", "vectors", "threads"))
            found.setdefault(key, []).append(row)
    return found


def regret(rows):
    """What the default loses against the best kernel, as a share, and the name of that one."""
    faster = [r for r in rows if r["variant"] != r["default"] and float(r["ci_hi"]) < 0]
    if not faster:
        return 0.0, rows[0]["default"]
    best = min(faster, key=lambda r: float(r["log_ratio"]))
    return math.exp(-float(best["log_ratio"])) - 1, best["variant"]


def band(vectors):
    return "1" if vectors == 1 else "2-8" if vectors <= 8 else "9-64" if vectors <= 64 else "65-"


def table(title, groups):
    print("\n| %s | products | mean regret | p95 | largest | within 2 %% |" % title)
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in sorted(groups, key=lambda g: (int(g.partition("-")[0]) if g[0].isdigit() else 0, g)):
        v = sorted(groups[name])
        print("| %s | %d | %.2f %% | %.1f %% | %.1f %% | %.1f %% |" % (
            name, len(v), 100 * sum(v) / len(v), 100 * v[min(len(v) - 1, int(0.95 * len(v)))], 100 * v[-1],
            100 * sum(x <= 0.02 for x in v) / len(v)))


INTRODUCTION = """# How good the default kernels are

What runs if nobody measures is a rule: of the kernels that give the same bits the last one of the registry that the CPU
can run. Here all of them were measured side by side for many products, on weights that come from memory. The regret of
a product is what the default's time exceeds the best kernel's by, the best being the one of the least median ratio to
the default among those whose interval (95 %, of the median) says that they are faster, else the default itself. So this
is what the tuner can gain at most by choosing kernels, and what is lost without it.

- Generator: `bench/arms.py --eval bench/corpus/arms.csv`
- Date of the measurements: {first} to {last}, sessions: {sessions}
- {contexts} products, {kernels} kernels measured, all of them kept
"""


def evaluate(path):
    groups = {"all": {}, "vectors": {}, "type": {}, "level": {}}
    worst = []
    contexts = contexts_of(path)
    rows = [r for rows in contexts.values() for r in rows]
    days = [r["utc"][:10] for r in rows]
    print(INTRODUCTION.format(first=min(days), last=max(days), sessions=len({r["session"] for r in rows}),
                              contexts=len(contexts), kernels=len(rows)), end="")
    for key, rows in contexts.items():
        session, level, kind, n, k, vectors, threads = key
        r, name = regret(rows)
        worst.append((r, "%s %s [%s, %s] x %s, %s threads" % (level, kind, n, k, vectors, threads), name,
                      rows[0]["default"]))
        for group, value in (("all", "all"), ("vectors", band(int(vectors))), ("type", kind), ("level", level)):
            groups[group].setdefault(value, []).append(r)
    for group in groups:
        table(group, groups[group])
    print("\n## The largest\n\n| regret | product | faster | default |\n| ---: | --- | --- | --- |")
    for r, *text in sorted(worst, reverse=True)[:8]:
        print("| %.1f %% | %s |" % (100 * r, " | ".join(text)))


def main():
    args = arguments()
    if args.eval:
        evaluate(args.eval)
    else:
        measure(args)


if __name__ == "__main__":
    main()
