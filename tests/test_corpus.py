#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests the scripts that measure and judge: bench/corpus.py and bench/arms.py.

    python3 tests/test_corpus.py [build/release/bin]

What is computed is compared with sums of binomial probabilities and with made-up measurements; each script also measures
for some seconds, and its lines are complete, possible and distinct. Exit status: 0 all well, 1 a difference.
"""
import csv
import importlib.util
import io
import math
import os
import random
import re
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
passed = failed = 0


def check(name, right, said=""):
    global passed, failed
    passed += bool(right)
    failed += not right
    if not right:
        print("FAILED: %s\n  %s" % (name, str(said)[:2000]))


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(ROOT, "bench", name + ".py"))
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module


def tail(n, k):
    """P(Binomial(n, 1/2) <= k)"""
    return sum(math.comb(n, i) for i in range(k + 1)) / 2 ** n


def test_intervals(arms):
    for n in range(6, 200):
        k = arms.order_interval(n)
        check("interval of %d" % n, 1 - 2 * tail(n, k) >= 0.95 - 1e-12 or k == 0, k)
        check("no narrower one of %d" % n, 1 - 2 * tail(n, k + 1) < 0.95, k)
    check("medians", arms.median([3, 1, 2]) == 2 and arms.median([4, 1, 2, 3]) == 2.5)


def test_draws(corpus):
    rng = random.Random(1)
    for _ in range(2000):
        most = rng.choice([160, 256, 512, 1536])
        depth, prompts = corpus.draw_test(rng, most)
        if not (depth in corpus.DEPTHS and len(set(prompts)) == 3 and prompts == sorted(prompts) and
                prompts[0] >= 1 and prompts[-1] <= corpus.MAX_PROMPT and depth + prompts[-1] <= most):
            check("draw", False, (most, depth, prompts))
    check("draws are within their limits", True)


def made_up(arms, path):
    """Two products: of one the default is 10 % behind, of the other nobody is proven faster."""
    rows = [("a", "d", 0, 0, 0), ("b", "d", -0.0953, -0.11, -0.08), ("c", "d", -0.2, -0.5, 0.1)]
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, arms.FIELDS, lineterminator="\n")
        writer.writeheader()
        for vectors, kernels in ((1, rows), (100, [rows[0], rows[2]])):
            for name, _, ratio, low, high in kernels:
                writer.writerow(dict(session="s", utc="2026-01-0%dT00:00:00Z" % (1 + vectors % 2), level="avx2", type="Q4_K",
                                     rows=64, cols=256, vectors=vectors, threads=1, variant=name, default="a", lines=9,
                                     median_ns=1, min_ns=1, log_ratio=ratio, ci_lo=low, ci_hi=high))


def test_regret(arms, folder):
    path = os.path.join(folder, "made_up.csv")
    made_up(arms, path)
    text = io.StringIO()
    with redirect_stdout(text):
        arms.evaluate(path)
    text = text.getvalue()
    check("all products", "| all | 2 | 5.00 % | 10.0 % | 10.0 % | 50.0 % |" in text, text)
    check("by vectors", "| 1 | 1 | 10.00 % |" in text and "| 65- | 1 | 0.00 % |" in text, text)
    check("the largest", "| 10.0 % | avx2 Q4_K [64, 256] x 1, 1 threads | b | a |" in text, text)
    check("counts and days", "2026-01-01 to 2026-01-02, sessions: 1" in text and "2 products, 5 kernels" in text, text)


def measured(script, bin_dir, path, *options):
    done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", script), "--bin", bin_dir, "--out", path, *options],
                          capture_output=True, text=True)
    check("%s measures" % script, done.returncode == 0 and os.path.exists(path), done.stderr)
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def test_arms(arms, bin_dir, folder):
    path = os.path.join(folder, "arms.csv")
    for seed in ("1", "2"):  # appended, with one header
        rows = measured("arms.py", bin_dir, path, "--minutes", "0.02", "--seed", seed)
    check("fields of arms", rows and list(rows[0]) == arms.FIELDS and len({r["session"] for r in rows}) >= 1, rows[:1])
    for r in rows:
        low, ratio, high = float(r["ci_lo"]), float(r["log_ratio"]), float(r["ci_hi"])
        check("a row of arms", 0 < float(r["min_ns"]) <= float(r["median_ns"]) and low <= ratio <= high and
              (r["variant"] != r["default"] or low == high == 0), r)


def test_corpus(corpus, bin_dir, folder):
    level = corpus.levels_of(bin_dir)
    if not level:
        print("skipped: no level of this CPU has a probe")
        return 1
    path = os.path.join(folder, "runs.csv")
    rows = measured("corpus.py", bin_dir, path, "--shapes", "smollm2-135m", "--types", "Q8_0", "--levels", level[0],
                    "--threads", "1", "--tmp", folder)
    check("fields of runs", rows and list(rows[0]) == corpus.FIELDS, rows[:1])
    check("runs of a model", len(rows) == 8, len(rows))
    for r in rows:
        check("a run", float(r["tps"]) > 0 and 0 < float(r["read_min"]) <= float(r["read_max"]) and r["kept"] in "01" and
              r["model"] == "smollm2-135m" and re.fullmatch(r"(pp|tg)\d+(@d\d+)?", r["test"]) and
              r["phase"] == ("decode" if r["test"].startswith("tg") else "prefill"), r)
        check("its features", float(r["hidden_dim"]) == 576 and float(r["num_layers"]) == 30 and
              abs(float(r["model_params_b"]) - 0.135) < 0.001, r)
    return 0


def main():
    bin_dir = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/release/bin")
    arms, corpus = load("arms"), load("corpus")
    with tempfile.TemporaryDirectory() as folder:
        test_intervals(arms)
        test_draws(corpus)
        test_regret(arms, folder)
        test_arms(arms, bin_dir, folder)
        skipped = test_corpus(corpus, bin_dir, folder)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
