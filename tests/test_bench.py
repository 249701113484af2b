#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trueno-bench says what it promises, and bench/compare.py computes what it says. No speed is judged.

usage: test_bench.py BIN_DIR    (trueno-bench, trueno-mkmodel); the gguf package, if there, counts the weights
"""
import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
import compare  # noqa: E402

passed, failed, skipped = 0, 0, 0


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {name}\n  {detail}")


def near(a, b):
    return math.isclose(a, b, rel_tol=1e-6)


def run(program, *args, status=0):
    done = subprocess.run([program, *args], capture_output=True, text=True)
    check(f"{' '.join(args)} exits with {status}", done.returncode == status, f"{done.returncode}: {done.stderr}")
    return done.stdout


# ------------------------------------------------------------------------------------ trueno-bench


def weights(path):
    """Bytes and elements of layers and output, and bytes of an embedding row, by the gguf package."""
    from gguf import GGUFReader  # tests/gguf is no such package
    layers, output, row = [0, 0], [0, 0], 0
    tensors = GGUFReader(path).tensors
    tied = all(t.name != "output.weight" for t in tensors)
    for t in tensors:
        if len(t.shape) != 2:
            continue
        size = [int(t.n_bytes), int(t.n_elements)]
        if t.name == "token_embd.weight":
            row = size[0] // int(t.shape[1])
        if t.name == ("token_embd.weight" if tied else "output.weight"):
            output = size
        elif t.name != "token_embd.weight":
            layers = [a + b for a, b in zip(layers, size)]
    return layers, output, row


def check_model(bench, mkmodel, folder, options):
    global skipped
    path = os.path.join(folder, "toy.gguf")
    run(mkmodel, "--arch", "llama", "--shape", "toy-256", *options, "-o", path)
    rows = json.loads(run(bench, "-m", path, "-p", "5", "-n", "3", "-b", "2", "-r", "2", "-t", "1,2", "-o", "json"))
    check("tests and threads", [(r["test"], r["threads"]) for r in rows] ==
          [("pp5", 1), ("tg3", 1), ("pp5", 2), ("tg3", 2)], rows)
    deep = json.loads(run(bench, "-m", path, "-p", "5", "-n", "3", "-d", "7", "-r", "1", "-t", "1", "--kv", "q8_0",
                          "--mapped", "-o", "json"))
    check("tests at a depth", [r["test"] for r in deep] == ["pp5 @ d7", "tg3 @ d7"], deep)
    check("rates at a depth", all(r["tps_median"] > 0 and r["gbs"] > 0 for r in deep), deep)
    run(bench, "-m", path, "--kv", "q9", status=2)
    for r in rows:
        check("order of rates", 0 < r["tps_min"] <= r["tps_median"] <= r["tps_max"], r)
        check("order of probes", 0 < r["read_gbs_min"] <= r["read_gbs"] <= r["read_gbs_max"], r)
        check("rates", r["gbs"] > 0 and r["gmacs"] > 0 and r["peak_gmacs"] >= 0, r)
    try:
        layers, output, row = weights(path)
    except ImportError:
        skipped += 1
        print("skipped: weights are not counted without the gguf package")
        return
    for r in rows:
        # three batches of at most two tokens, logits for the last one; or three tokens alone
        n, batches, logits = (5, 3, 1) if r["test"] == "pp5" else (3, 3, 3)
        total = batches * layers[0] + logits * output[0] + n * row
        check("bytes per token", near(r["gbs"] * 1e9 / r["tps_median"], total / n), r)
        check("products per token",
              near(r["gmacs"] * 1e9 / r["tps_median"], (n * layers[1] + logits * output[1]) / n), r)


def check_kernels(bench):
    common = ["kernels", "--rows", "48", "--cols", "256,512", "-r", "3", "-o", "json"]
    rows = json.loads(run(bench, *common, "--type", "Q4_K,BF16", "-n", "1,5", "-t", "2", "--hot", "--cold"))
    check("rows", len(rows) == 16, len(rows))
    for r in rows:
        row_bytes = {"Q4_K": 144 / 256, "BF16": 2}[r["type"]] * r["k"]
        check("order of times", 0 < r["ns_min"] <= r["ns_median"] <= r["ns_max"], r)
        check("GB/s", near(r["gbs"], r["n"] * row_bytes / r["ns_median"]), r)
        check("GMAC/s", near(r["gmacs"], r["m"] * r["n"] * r["k"] / r["ns_median"]), r)
        check("roofs", r["read_gbs"] > 0 and r["peak_gmacs"] >= 0 and r["threads"] == 2, r)
    check("caches", {r["cache"] for r in rows} == {"hot", "cold"})
    every = json.loads(run(bench, *common, "--type", "Q8_0", "-n", "2", "--all"))
    names = [r["kernel"] for r in every if r["k"] == 256]
    check("each kernel once", names and len(set(names)) == len(names), names)
    forced = json.loads(run(bench, *common, "-n", "2", "--kernel", names[0]))
    check("forced kernel", {(r["kernel"], r["type"]) for r in forced} == {(names[0], "Q8_0")}, forced)


def check_usage(bench):
    for args in (["kernels", "--kernel", "none"], ["kernels", "--type", "Q9"], ["kernels", "-n", "0"],
                 ["kernels", "-o", "xml"], ["probe", "-t", "x"], []):
        run(bench, *args, status=2)
    run(bench, "kernels", "--cols", "100", status=1)
    row, = json.loads(run(bench, "probe", "-t", "1", "-o", "json"))
    check("probe", row["read_gbs"] > 0 and (row["int8_gmacs"] > 0) == (row["int8_instruction"] != ""), row)
    for text in (run(bench, "probe"), run(bench, "kernels", "--rows", "16", "--cols", "256", "-n", "1", "-r", "1")):
        check("columns of markdown", len({line.count("|") for line in text.splitlines()}) == 1, text)


# -------------------------------------------------------------------------------------- compare.py


class Fake:
    """An engine and a machine that say what they are told to."""

    def __init__(self, rates=(), read=()):
        self.rates, self.read, self.log = list(rates), list(read), []

    def measure(self, test):
        self.log.append(test)
        return self.rates.pop(0)

    def probe(self):
        return {"read_gbs": self.read.pop(0), "int8_gmacs": 500.0}


def check_arithmetic():
    ours = Fake([20, 22, 24, 26], [50, 50, 50, 50, 40, 50, 50, 50, 50])
    other = Fake([10, 11, 12, 13])
    pairs = compare.measure_pairs(ours, other, ("tg", 8), 4, lambda text: None)
    check("A B B A", [p["ours_first"] for p in pairs] == [True, False, True, False])
    check("probes are shared", len(ours.read) == 0 and pairs[1]["probes"][2] is pairs[2]["probes"][0])
    row = compare.summarise(pairs, ("tg", 8), "read_gbs", 1.0)
    check("unsteady pairs are dropped", (row["used"], row["pairs"]) == (2, 4), row)
    check("ratio", near(row["ratio"], 2) and row["verdict"] == "faster", row)
    row = compare.summarise(pairs, ("pp", 8), "int8_gmacs", 10.0)
    check("prefill pairs are kept", row["used"] == 4 and near(row["ours"], 23), row)
    check("share of the peak", near(row["share_ours"], 10 * 23 / 500), row)
    check("spread", near(row["spread_ours"], math.log(24 / 22)), row)
    check("bandwidth before and after", near(compare.share_of_roof(pairs[1:2], "ours", "read_gbs", 1), 22 / 45))
    check("inside the interval", compare.verdict(1.1, (0.9, 1.2), 0) == "no difference")
    check("inside the spread", compare.verdict(0.95, (0.94, 0.96), 0.1) == "no difference")
    check("slower", compare.verdict(0.8, (0.7, 0.9), 0.1) == "slower")
    low, high = compare.bootstrap([float(i) for i in range(101)])
    check("bootstrap", 30 < low < 50 < high < 70, (low, high))  # normal theory: 50 -+ 1.96 * 1.25 * 29 / sqrt(101)
    text = '[{"n_prompt":4,"n_gen":0,"avg_ts":1.5,"samples_ts":[3.0,1.0]},{"n_prompt":0,"n_gen":4,"avg_ts":7.0}]'
    rows = json.loads(text)
    check("llama-bench's samples", compare.llama_bench_rate(rows, ("pp", 4)) == 2)
    check("llama-bench's mean", compare.llama_bench_rate(rows, ("tg", 4)) == 7)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    bench, mkmodel = (os.path.join(sys.argv[1], name) for name in ("trueno-bench", "trueno-mkmodel"))
    check_arithmetic()
    with tempfile.TemporaryDirectory() as folder:
        check_model(bench, mkmodel, folder, ["--type", "Q4_K"])
        check_model(bench, mkmodel, folder, ["--type", "F16", "--tied"])
    check_kernels(bench)
    check_usage(bench)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
