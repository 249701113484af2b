#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trueno-bench says what it promises, bench/compare.py computes what it says, and trueno-generate --tuner changes no
text. No speed is judged.

usage: test_bench.py BIN_DIR    (trueno-bench, trueno-generate, trueno-mkmodel); the gguf package, if there, counts the
                                weights
"""
import json
import math
import os
import re
import struct
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


def check_tuner(bench):
    row = json.loads(run(bench, "tuner", "-o", "json"))
    names = {"cached_p50_ns", "cached_p99_ns", "learning_p50_ns", "observe_p50_ns", "uncached_p50_ns",
             "forest100_p50_ns", "forest100_predict_p50_ns", "forest100_cold_us", "save_ms", "load_ms"}
    check("figures of the tuner", names | {"cpu", "clock_ns", "store_entries"} == set(row), row)
    check("figures are above 0", all(row[name] > 0 or name == "load_ms" for name in names), row)  # a difference
    check("p50 and p99", row["cached_p50_ns"] <= row["cached_p99_ns"], row)
    # where one kernel alone computes a product, nothing is raced, observed or stored
    check("entries of the store", row["store_entries"] in ([1000] if row["cpu"].startswith("avx") else [0, 1000]), row)
    text = run(bench, "tuner")
    check("columns of the tuner's table", len({line.count("|") for line in text.splitlines()}) == 1, text)
    run(bench, "tuner", "-o", "xml", status=2)
    return row


# -------------------------------------------------------------------------------- trueno-generate


def write_vocabulary(path):
    """A GGUF file with nothing but the vocabulary of a SentencePiece model of single bytes."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + ["\u2581"]
    types = [2, 3, 3] + [6] * 256 + [1]  # unknown, control, byte, normal

    def text(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    def array(kind, items):
        return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)

    keys = {
        "general.architecture": struct.pack("<I", 8) + text("llama"),
        "tokenizer.ggml.model": struct.pack("<I", 8) + text("llama"),
        "tokenizer.ggml.tokens": array(8, [text(t) for t in tokens]),
        "tokenizer.ggml.scores": array(6, [struct.pack("<f", -i) for i in range(len(tokens))]),
        "tokenizer.ggml.token_type": array(5, [struct.pack("<i", t) for t in types]),
        "tokenizer.ggml.unknown_token_id": struct.pack("<II", 4, 0),
        "tokenizer.ggml.bos_token_id": struct.pack("<II", 4, 1),
        "tokenizer.ggml.eos_token_id": struct.pack("<II", 4, 2),
    }
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)))
        f.write(b"".join(text(key) + value for key, value in keys.items()))


class Generator:
    """trueno-generate on a toy with text, with a cache folder of its own."""

    def __init__(self, bin_dir, folder):
        self.program, self.folder = os.path.join(bin_dir, "trueno-generate"), folder
        self.model, vocabulary = (os.path.join(folder, name) for name in ("text.gguf", "vocabulary.gguf"))
        write_vocabulary(vocabulary)
        run(os.path.join(bin_dir, "trueno-mkmodel"), "--arch", "llama", "--shape", "toy-256", "--type", "Q4_K",
            "--vocab", vocabulary, "-o", self.model)

    def run(self, *options, cache="cache", n=200, status=0):
        """stdout (bytes), stderr, and the report's "tuner"; None without one."""
        report = os.path.join(self.folder, "report.json")
        env = dict(os.environ, XDG_CACHE_HOME=os.path.join(self.folder, cache))
        done = subprocess.run([self.program, "-m", self.model, "-p", "Hello", "-n", str(n), "--temp", "0", "--ignore-eos",
                               "-t", "2", "--json", report, *options], capture_output=True, env=env)
        errors = done.stderr.decode(errors="replace")
        check(f"generate {options} exits with {status}", done.returncode == status, errors)
        if status:
            return done.stdout, errors, None
        with open(report, encoding="utf-8") as f:
            return done.stdout, errors, json.load(f).get("tuner")


def check_lines(errors, tuner):
    """What is printed is what is reported."""
    said = tuner["predicted"]
    if said is None:  # a CPU without an instruction whose peak could be measured
        check("why nothing is predicted", "note: tuner: nothing is predicted" in errors and "outcome    " in errors, errors)
        return
    number = r"([0-9.]+)"  # of any size, where the report has nine digits
    printed = re.findall(rf"^predicted  {number} tokens/s \({number} to {number}, .*\), roof {number}$", errors, re.M)
    want = [said[k] for k in ("tps", "lo", "hi", "roofline_tps")]
    check("line of the prediction", len(printed) == 1 and all(abs(float(a) - b) <= 0.0051 + 1e-8 * b
                                                            for a, b in zip(printed[0], want)), errors)
    for line in (f"chosen     {said['kernel']}, {said['variant']} ({said['source']}), 2 threads\n",
                 f"outcome    {tuner['measured_tps']:.2f} tokens/s, {tuner['deviation_pct']:+.1f} %, "
                 f"{'within' if tuner['within'] else 'outside'} the interval, {tuner['explored']} calls explored, "
                 f"{tuner['changed']} choices changed\n"):
        check("lines of the tuner", errors.count(line) == 1, (line, errors))
    check("interval", 0 <= said["lo"] <= said["tps"] <= said["hi"] <= said["roofline_tps"], said)
    check("within", tuner["within"] == (said["lo"] <= tuner["measured_tps"] <= said["hi"]), tuner)
    check("deviation", near(1 + tuner["deviation_pct"] / 100, tuner["measured_tps"] / said["tps"]), tuner)


def check_modes(g, row):
    """row: of trueno-bench tuner."""
    rivals, can_predict = row["store_entries"] > 0, row["cpu"] != "ref"  # there no int8 peak can be measured
    plain, errors, tuner = g.run()
    check("no tuner, no word of it", tuner is None and "predicted" not in errors and "outcome" not in errors, errors)
    check("text", len(plain) > 200, plain)
    store = os.path.join(g.folder, "cache", "trueno", "tuner.trw")
    got = {}
    for mode in ("off", "frozen"):
        text, errors, got[mode] = g.run("--tuner", mode)
        check_lines(errors, got[mode])
        check(f"text of {mode}", text == plain, text)
        check(f"{mode} learns nothing", not os.path.exists(store) and not got[mode]["saved"] and
              got[mode]["explored"] == got[mode]["observations"] == got[mode]["runs"] == 0, got[mode])
    text, errors, learned = g.run("--tuner", "learn")
    check_lines(errors, learned)
    check("text of learn", text == plain, text)
    check("a store is left", os.path.isfile(store) and os.path.getsize(store) > 0 and learned["saved"], learned)
    said = learned["predicted"]
    check("a prediction", (said is not None) == can_predict, learned)
    if said:
        # weights that stay in the caches may be faster than memory, and then teach nothing
        possible = learned["measured_tps"] < said["roofline_tps"]
        check("a run was observed", learned["runs"] == 1, learned)
        check("a run was learned", learned["version"].endswith("-online-1") == possible, learned)
    text, errors, frozen = g.run("--tuner", "frozen")
    check("text of frozen with a store", text == plain, text)
    if said:
        check("the stored roof", near(frozen["predicted"]["roofline_tps"], said["roofline_tps"]), frozen)
    check("calls were observed", (learned["observations"] > 0) == (learned["explored"] > 0) == rivals, learned)
    check("stored choices", (frozen["stored_used"] > 0) == rivals, (learned, frozen))
    text, errors, off = g.run("--tuner", "off")
    check("off reads no store", text == plain and off["stored_used"] == 0, off)


def check_trouble(g):
    plain = g.run(n=20)[0]
    with open(os.path.join(g.folder, "file"), "w", encoding="utf-8"):
        pass
    text, errors, tuner = g.run("--tuner", "learn", cache="file/cache", n=20)  # nobody can make that folder
    check("text without a cache folder", text == plain, text)
    check("a note without a cache folder", "note: tuner: nothing is stored" in errors and not tuner["saved"], errors)
    text, errors, tuner = g.run("--tuner", "frozen", n=4)
    check("too short for a rate", tuner["measured_tps"] == 0 and tuner["within"] is None and
          "outcome    fewer than 8 tokens" in errors, errors)
    check("wrong mode", b"" == g.run("--tuner", "maybe", status=2)[0])


def check_profile(g):
    plain, errors, _ = g.run(n=20)
    check("no table unless asked for", "share" not in errors, errors)
    text, errors, _ = g.run("--profile", n=20)
    check("text of a profiled run", text == plain, text)
    lines = [line.split() for line in errors.splitlines()]
    at = lines.index(["stage", "calls", "ms", "share"])
    rows = {row[0]: (int(row[1]), float(row[2]), float(row[3])) for row in lines[at + 1:at + 8]}
    check("stages", list(rows) == ["qkv", "attention", "attn_out", "gate_up", "down", "output", "all"], errors)
    passes, ms, share = rows.pop("all")
    check("passes", passes == 20 and rows["output"][0] == 20, rows)  # the prompt, and 19 tokens
    check("calls", {rows[s][0] % passes for s in rows} == {0} and len({rows[s][0] for s in list(rows)[:5]}) == 1, rows)
    check("milliseconds add up", ms > 0 and abs(sum(r[1] for r in rows.values()) - ms) < 0.04, (rows, ms))
    check("shares add up", share == 100 and abs(sum(r[2] for r in rows.values()) - 100) < 0.4, rows)


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
        generator = Generator(sys.argv[1], folder)
        check_modes(generator, check_tuner(bench))
        check_trouble(generator)
        check_profile(generator)
    check_kernels(bench)
    check_usage(bench)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
