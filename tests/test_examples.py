#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of the tuner run, and print what Python computes too. No speed is judged.

usage: test_examples.py BIN_DIR    (trueno-tuner-usage, trueno-ml-tuner-demo, trueno-ml-tuner-evolution)
"""
import math
import os
import re
import subprocess
import sys
import tempfile

passed, failed, skipped = 0, 0, 0

Q4_K_BYTES = 144 / 256  # of a weight
NUMBER = r"([-+]?\d+(?:\.\d+)?)"


def check(name, good, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {name}\n  {detail}")


def near(a, b, tolerance):
    """Printed figures are rounded: `tolerance` is half of the last digit, or an allowed error."""
    return abs(a - b) <= tolerance


def run(program, *args, status=0, stderr="", **environment):
    """The text that it prints. stderr: a pattern for all of what it says there; a variable that is None is unset."""
    env = {**os.environ, **environment}
    env = {name: value for name, value in env.items() if value is not None}
    done = subprocess.run([program, *args], capture_output=True, encoding="utf-8", env=env, timeout=120)
    what = " ".join([os.path.basename(program), *args])
    check(f"{what} exits with {status}", done.returncode == status, f"{done.returncode}: {done.stderr}")
    check(f"{what}: stderr", re.fullmatch(stderr, done.stderr, re.S), done.stderr)
    return done.stdout


def find(pattern, text):
    """The groups of the only place where a line matches, numbers as floats."""
    found = re.findall(f"^{pattern}$", text, re.M)
    check(f"one line is '{pattern}'", len(found) == 1, f"{len(found)} of them in\n{text}")
    groups = found[0] if found else [math.nan] * re.compile(pattern).groups
    groups = [groups] if isinstance(groups, str) else groups
    return [float(g) if re.fullmatch(NUMBER, str(g)) else g for g in groups]


def rule(batch):
    return "VectorizedQ4K" if batch <= 3 else "BatchedQ4K"


def check_usage(program, options):
    text = run(program, "--help")
    check("help names the options", text.startswith("Usage: ") and all(o in text for o in options), text)
    check("nothing printed", run(program, "--nonsense", status=2, stderr=".*unknown option '--nonsense'.*--help.*") == "")


# ------------------------------------------------------------------------------ trueno-tuner-usage


def log_encoder(value, scale, bits):
    return math.log2(1 + value / scale) / bits


def check_features(text):
    rows = re.findall(r"^([* ]) +(\d+)  (\w+) +([-0-9.e+]+) .* ([0-9.]+)$", text, re.M)
    check("42 features", [int(r[1]) for r in rows] == list(range(42)), text)
    slots = {name: (mark, float(raw), float(x)) for mark, _, name, raw, x in rows}
    for name, given, raw, x in [("model_params_b", True, 1.5, log_encoder(1.5, 2**-10, 24)),
                                ("hidden_dim", False, 1536, log_encoder(1536, 1, 18)),
                                ("batch_size", True, 4, log_encoder(4, 1, 16)),
                                ("top_p", False, 1, 1.0), ("quant_q4_k", True, 1, 1.0), ("quant_f32", True, 0, 0.0),
                                ("bits_per_weight", False, 4.5, 4.5 / 64),
                                ("gpu_mem_bw_gbs", True, 1000, log_encoder(1000, 1, 16)),
                                ("gpu_compute_tflops", False, 100, log_encoder(100, 2**-6, 22)),
                                ("vram_gb", False, 24, log_encoder(24, 1, 16))]:
        mark, got, vector = slots.get(name, ("", math.nan, math.nan))
        check(f"feature {name}", (mark == " ") == given and got == raw and near(vector, x, 1e-6), (mark, got, vector, x))


def check_throughput(text):
    roof = 1000e9 / (7e9 * Q4_K_BYTES)
    for what, expected in [("7 B Q4_K, 1000 GB/s", roof), ("the same at 4 bits", 1000e9 / (7e9 / 2)),
                           ("four sequences together", 4 * roof)]:
        top, tps, lo, hi, bound = find(rf"{what} +roof +{NUMBER} tok/s, predicted +{NUMBER} "
                                       rf"\({NUMBER} \.\. {NUMBER}\), (\w+)-bound", text)
        check(f"roof: {what}", near(top, expected, 0.005), (top, expected))
        check(f"below the roof: {what}", 0 < lo < tps < top and hi <= top and bound == "memory", (lo, tps, hi, top))
        # the prior: a quarter of the bandwidth and more is lost
        check(f"prior: {what}", 0.5 * top < tps < 0.75 * top, (tps, top))
    check("253.97", near(roof, 253.97, 0.005), roof)


def rule_confidence(batch):
    """By the cost model that classifier.h documents, for a product [8960, 1536] at 1000 GB/s and 100 TFLOPS."""
    read = 8960 * 1536 * Q4_K_BYTES / (0.75 * 1000e9)
    column = 2 * 8960 * 1536 / (0.45 * 100e12)
    pairs = [(math.ceil(batch / 3) * read, batch * column), (read, max(batch, 4) * column)]
    few, many = (max(p) + 0.2 * min(p) for p in pairs)
    mine, other = (few, many) if batch <= 3 else (many, few)
    z = (math.log(1.02) + math.log(other / mine)) / (0.25 * math.sqrt(2))
    return 100 * min(max(0.5 * math.erfc(-z / math.sqrt(2)), 0.01), 0.99)


def check_kernels(text):
    for batch in range(1, 9):
        kernel, share, other, _ = find(rf"batch {batch}: (\w+) {NUMBER} %, or (\w+) {NUMBER} %", text)
        check(f"rule of batch {batch}", kernel == rule(batch) and other != kernel, kernel)
        check(f"confidence of batch {batch}", near(share, rule_confidence(batch), 0.05), (share, rule_confidence(batch)))


def check_training(regressor, classifier):
    used, distinct, held_out, error = find(
        rf"learned from {NUMBER} rows, {NUMBER} of them different; error on {NUMBER} held-out rows {NUMBER} %", regressor)
    check("report", (used, distinct) == (100, 8) and 50 < held_out <= 100 and error < 5, regressor)
    for batch in range(1, 9):
        measured, predicted = find(rf"batch {batch}: measured {NUMBER}, predicted {NUMBER} tok/s", regressor)
        truth = 200 + 80 * batch
        check(f"forest at batch {batch}", measured == truth and near(predicted, truth, 0.05 * truth), predicted)
        kernel, share = find(rf"batch {batch}: (\w+), {NUMBER} %", classifier)
        check(f"trained kernel of batch {batch}", kernel == rule(batch) and 50 < share <= 100, (kernel, share))
    rows, right, held_out = find(rf"learned from {NUMBER} rows; right in {NUMBER} % of {NUMBER} held-out rows", classifier)
    check("report of the classifier", rows == 100 and right > 90 and 50 < held_out <= 100, classifier)


def check_recommendation(text):
    tps, = find(rf"Throughput: {NUMBER} tok/s", text)
    check("recommended throughput", 0 < tps < 4 * 1000e9 / (1.5e9 * Q4_K_BYTES), tps)
    check("recommended kernel", find(r"Best kernel: (\w+)", text) == ["BatchedQ4K"])
    gains = [float(g) for g in re.findall(rf"^  - .*: {NUMBER} % tokens/s \(", text, re.M)]
    check("experiments by gain", gains and gains == sorted(gains, reverse=True) and gains[-1] > 1.5, text)
    check("no experiment is the present state", "CUDA" not in text and "advance 4 " not in text, text)


def check_brick(text):
    threads, gbs, tflops, tps = find(rf"this CPU, {NUMBER} threads: {NUMBER} GB/s, {NUMBER} TFLOP/s; "
                                     rf"batch 4: {NUMBER} tok/s predicted", text)
    roofs = [4 * gbs * 1e9 / (1.5e9 * Q4_K_BYTES), tflops * 1e12 / (2 * 1.2e9)]  # 1.2e9: less than all matrices
    check("predicted below the roof", threads >= 1 and 0 < tps < 1.01 * min(roofs), (tps, roofs))
    kernel, variant, n = find(r"(\w+), run by (\w+): (\d+) assertions hold", text)
    check("kernel and variant", kernel == "BatchedQ4K" and variant.startswith("gemm_q4_k_") and n == 2, text)
    runs, rate, seen = find(rf"{NUMBER} runs, {NUMBER} columns/s; {NUMBER} observations", text)
    candidates = re.findall(r"^  [* ] (gemm_q4_k_\w+)", text, re.M)
    check("candidates", variant in candidates and len(set(candidates)) == len(candidates), text)
    check("runs were observed", runs == 200 and rate > 0 and seen == (200 if len(candidates) > 1 else 0), text)
    check("the explanation counts them", len(candidates) == 1 or f"\n{seen:.0f} calls, " in text, text)


def check_tuner_usage(program):
    check_usage(program, ["--only"])
    text = run(program)
    parts = re.split(r"^== (\w+)$", text, flags=re.M)
    part = dict(zip(parts[1::2], parts[2::2]))
    names = ["basic_features", "throughput_prediction", "kernel_selection", "train_regressor", "train_classifier",
             "recommendation", "brick_integration"]
    check("one part for each function", list(part) == names, list(part))
    if list(part) != names:
        return
    check_features(part["basic_features"])
    check_throughput(part["throughput_prediction"])
    check_kernels(part["kernel_selection"])
    check_training(part["train_regressor"], part["train_classifier"])
    check_recommendation(part["recommendation"])
    check_brick(part["brick_integration"])
    for name in names[:-1]:
        alone = run(program, "--only", name, HOME=None, XDG_CACHE_HOME=None)
        check(f"the same again: {name}", alone.strip() == f"== {name}{part[name]}".strip(), alone)
    run(program, "--only", "none", status=2, stderr=".*--only is 'none'.*")


# ---------------------------------------------------------------------------- trueno-ml-tuner-demo


def table_rows(text):
    """batch -> (tokens/s, full cells of 24, % of the roof, kernel, % confidence), of the last table."""
    rows = {}
    for line in re.findall(rf"^ +(\d) +{NUMBER}  ([█░]+) +{NUMBER} %   (\w+) {NUMBER} %$", text, re.M):
        check("width of a bar", len(line[2]) == 24, line)
        rows[int(line[0])] = (float(line[1]), line[2].count("█"), float(line[3]), line[4], float(line[5]))
    check("batches 1 to 8", sorted(rows) == list(range(1, 9)), text)
    return rows


def check_table(rows):
    most = max(r[0] for r in rows.values())
    for batch, (tps, cells, share, _, _) in rows.items():
        roof = batch * 1000e9 / (1.5e9 * Q4_K_BYTES)  # without keys and values, of which there are few
        check(f"share of the roof, batch {batch}", near(share, 100 * tps / roof, 0.005 * share + 0.05), (share, tps, roof))
        check(f"bar of batch {batch}", near(cells, 24 * tps / most, 0.51), (cells, tps))


def check_panel(panel, row):
    tps, lo, hi = find(rf"  throughput +{NUMBER} tokens/s +{NUMBER} \.\. {NUMBER} \(.*\)", panel)
    roof, = find(rf"  roofline +{NUMBER} tokens/s +memory-bound.*", panel)
    check("panel and table agree", tps == row[0] and f"kernel       {row[3]}, {row[4]:.0f} %" in panel, panel)
    check("interval", 0 < lo <= tps <= hi <= roof, (lo, tps, hi, roof))


def check_demo(program):
    check_usage(program, ["--forest"])
    text = run(program, HOME="/dev/null", XDG_CACHE_HOME="/dev/null")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "README.md"), encoding="utf-8") as readme:
        check("the README quotes it", f"```\n{text}```\n" in readme.read(), text)
    before = table_rows(text)
    check_table(before)
    check_panel(text, before.get(4))
    check("rates rise with the batch", all(before[b][0] < before[b + 1][0] for b in range(1, 8)), before)
    check("rules", all(r[3] == rule(b) and near(r[4], rule_confidence(b), 0.51) for b, r in before.items()), before)
    check("nothing was learned", "by rule" in text and "model        prior" in text and "forest" not in text, text)

    trained = run(program, "--forest")
    check("the same again", run(program, "--forest") == trained)
    first, _, second = trained.partition("\nTraining ")
    check("before is as without training", table_rows(first) == before, first)
    after = table_rows(second)
    check_table(after)
    check_panel(second, after.get(4))
    check("models of the second panel", "model        random forest" in second and "by the trained forest" in second, second)
    used, given, distinct = find(rf"throughput: {NUMBER} of {NUMBER} rows used, {NUMBER} of them different", second)
    mean, _, _, held_out = find(rf"  held-out error: mean {NUMBER} %, median {NUMBER} %, bias {NUMBER} %, "
                                rf"on {NUMBER} rows out of bag", second)
    check("report", (used, given, distinct) == (100, 100, 8) and 50 < held_out <= 100 and mean < 5, second)
    check("the data's weakness is told", "rows repeat" in second and "kv_cache_tokens" in second, second)
    errors = [[], []]
    for batch in range(1, 9):
        truth = 200 + 80 * batch
        check(f"forest at batch {batch}", near(after[batch][0], truth, 0.05 * truth) and after[batch][3] == rule(batch))
        sample, old, off_old, new, off_new = find(
            rf" +{batch} +{NUMBER} +{NUMBER} +{NUMBER} % +{NUMBER} +{NUMBER} %   {rule(batch)} -> {rule(batch)}", second)
        check(f"comparison at batch {batch}", (sample, old, new) == (truth, before[batch][0], after[batch][0]), second)
        for got, tps, sums in [(off_old, old, errors[0]), (off_new, new, errors[1])]:
            sums.append(abs(100 * (tps / truth - 1)))
            check(f"error at batch {batch}", near(got, 100 * (tps / truth - 1), 0.1), (got, tps))
    old, new = find(rf"mean \|error\| on these batches: {NUMBER} % before, {NUMBER} % after", second)
    check("mean errors", near(old, sum(errors[0]) / 8, 0.1) and near(new, sum(errors[1]) / 8, 0.1), (old, new, errors))


# ----------------------------------------------------------------------- trueno-ml-tuner-evolution


def check_pretrained(text):
    mape, n = find(rf"mean error of predictions: {NUMBER} % on {NUMBER} runs, leave one model out, measured on: .+, "
                   r"until 20\d\d-\d\d-\d\d", text)
    check("pretrained", "version 1.0.0-pretrained\n" in text and 0 < mape < 100 and n >= 50, text)
    shares = [float(x) for x in re.findall(rf"^  \w+: {NUMBER} %$", text, re.M)]
    check("importances", len(shares) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.3, shares)


def check_start(text):
    tps, lo, hi, roof = find(rf"7 B Q4_K, batch 4: {NUMBER} tok/s \({NUMBER} \.\. {NUMBER}\) below a roof of {NUMBER}", text)
    # geometry of a 7 B model: 32 layers, 32 heads of 128; four tokens of F16 keys and values, and four new ones
    kv = 8 * 2 * 2 * 32 * 32 * 128
    check("roof", near(roof, 4 * 1000e9 / (7e9 * Q4_K_BYTES + kv), 0.05), roof)
    check("prior", near(lo, tps / 2, 0.06) and hi <= roof and lo < tps < hi, (lo, tps, hi))
    check("begins untrained", "version 1.0.0: " in text, text)
    return tps


def check_learner(text, start):
    pairs = [(float(p), float(m)) for p, m in re.findall(rf"^predicted +{NUMBER} tok/s, measured {NUMBER}$", text, re.M)]
    check("measured", [m for _, m in pairs] == [150, 155, 152, 158] and near(pairs[0][0], start, 0.06), pairs)
    mean = weight = 0.0
    for predicted, measured in pairs:
        mean, weight = 0.9 * mean + 0.1 * abs(math.log(predicted / measured)), 0.9 * weight + 0.1
    check("updates", find(r"updates: (\d+)", text) == [4])
    loss, = find(rf"EMA loss: {NUMBER}", text)
    check("loss", near(loss, mean / weight, 2e-4), (loss, mean / weight))
    check("four updates are too few", "\nconverging: no" in text, text)
    version, tps = find(rf"the tuner after applying: version (\S+), {NUMBER} tok/s", text)
    check("learned", version == "1.0.0-online-4" and near(tps, 153.75, 0.03 * 153.75), (version, tps))


def check_bandit(text, name):
    arms = {k: (int(n), float(r)) for k, n, r in re.findall(rf"^  ran (\w+) (\d+) times?, mean reward {NUMBER}$", text, re.M)}
    check(f"{name}: arms", set(arms) == {"VectorizedQ4K", "BatchedQ4K"} and sum(n for n, _ in arms.values()) == 100, arms)
    for kernel, tps in [("VectorizedQ4K", 160), ("BatchedQ4K", 140)]:
        check(f"{name}: rewards of {kernel}", near(arms.get(kernel, (0, 0))[1], tps / 200, 0.08 * tps / 200), arms)
    best = max(arms, key=lambda k: arms[k][1], default="")
    check(f"{name}: best kernel", find(r"  best kernel: (\w+)", text) == [best] and best == "VectorizedQ4K", text)
    rate, = find(rf"  exploration rate: {NUMBER}", text)
    others = sum(n for k, (n, _) in arms.items() if k != best)
    # what ran without being the best of its time: the others, and up to each arm's first run
    check(f"{name}: exploration rate", 0.01 <= rate <= (others + 2) / 100 and others < 50, (rate, others))
    regret, upper = find(rf"  cumulative regret: {NUMBER}, with 95 % confidence not above {NUMBER}", text)
    lost = sum(n * (arms[best][1] - mean) for n, mean in arms.values())
    check(f"{name}: regret", near(regret, lost, 0.015) and regret < upper < 4 * regret + 1, (regret, lost, upper))


def check_store(text, folder, where):
    # one line for each number of threads; a calibration measures several
    points = re.findall(rf"^(known|measured now): (\d+) threads read {NUMBER} GB/s$", text, re.M)
    threads = [int(n) for _, n, _ in points]
    check("bandwidth", points and all(w == where and float(g) > 0 for w, _, g in points) and
          threads == sorted(set(threads)) and threads[0] >= 1 and (where == "known" or len(points) == 1), text)
    gbs = points[-1][2] if points else None
    if folder:
        path, = find(r"saved to (.*)", text)
        check("saved", path == os.path.join(folder, "trueno", "tuner.trw") and os.path.isfile(str(path)), path)
    size, entries, added, usable, digests, verdict = find(
        r"exported (\d+) bytes of JSON; an empty tuner that imports them: (\d+) entries, (\d+) added, "
        r"(\d+) usable here; digest (\w{16} -> \w{16}), (.*)", text)
    check("import", entries == added and usable <= entries, text)
    old, _, new = str(digests).partition(" -> ")
    check("round trip", size > 100 and old != new and verdict == "that of this one", text)
    return gbs, new


def check_calibration(text):
    find(r"calibrated to: ([a-z0-9.-]+)", text)
    gbs, gmacs = find(rf"read bandwidth {NUMBER} GB/s, 8-bit products {NUMBER} GMAC/s", text)
    contexts, runs, ms, rest = find(rf"{NUMBER} contexts measured, {NUMBER} kernel runs, {NUMBER} ms(.*)", text)
    check("measured", gbs > 0 and gmacs >= 0 and contexts <= 18 and runs >= 5 * contexts and ms > 0, text)
    check("what was left out is told", contexts == 18 or "the time was up" in rest, text)
    changed, _ = find(rf"{NUMBER} contexts run another kernel than the default; differences from {NUMBER} % can be told", text)
    check("no more changed than measured", changed <= contexts, text)
    applied = "\nlocal error: " in text and ", applied\n" in text
    if "too few contexts to judge" not in text:
        after, before, gain, _ = find(rf"local error: {NUMBER} %, was {NUMBER} %: improvement {NUMBER} %, (not applied|applied)",
                                      text)
        slack = 0.1 + 100 * 0.05 * (1 + after / before) / before  # both are rounded to 0.1 %
        check("improvement", near(gain, 100 * (1 - after / before), slack), (after, before, gain))
    check("version", find(r"version (\S+)", text) == ["1.0.0-calibrated" if applied else "1.0.0"], text)


def sections(text):
    parts = re.split(r"^== (.*)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def check_sections(text):
    part = sections(text)
    bandits = "bandits, 100 rounds on a simulated machine"
    names = ["pretrained", "start", "calibration", "online learning", bandits, "store"]
    check("sections", list(part) == names, list(part))
    if list(part) != names:
        return None
    check_pretrained(part["pretrained"])
    check_learner(part["online learning"], check_start(part["start"]))
    for name in ("UCB1", "Thompson sampling"):
        found = re.search(rf"^{name}, .*\n((?:  .*\n)+)", part[bandits], re.M)
        check(f"{name} ran", found, part[bandits])
        if found:
            check_bandit(found[1], name)
    return part


def check_evolution(program, folder):
    check_usage(program, ["--calibrate"])
    text = run(program, XDG_CACHE_HOME=folder)
    part = check_sections(text)
    if not part:
        return
    check("not calibrated", part["calibration"].strip() == "skipped: --calibrate does it", part["calibration"])
    first = check_store(part["store"], folder, "measured now")
    again = run(program, XDG_CACHE_HOME=None, HOME=os.path.join(folder, "home"))
    check("the same again", again.split("== store")[0] == text.split("== store")[0], again)
    second = check_store(sections(run(program, XDG_CACHE_HOME=folder)).get("store", ""), folder, "known")
    check("kept in the file", second == first, (first, second))

    calibrated = check_sections(run(program, "--calibrate", XDG_CACHE_HOME=folder))
    if calibrated:
        check_calibration(calibrated["calibration"])
        check_store(calibrated["store"], folder, "known")


def check_bad_places(program, folder):
    """Nowhere to write, a store that is garbage: told, and no failure."""
    file = os.path.join(folder, "file")
    with open(file, "w") as f:
        f.write("not a folder")
    for name, env in [("a file as the cache", {"XDG_CACHE_HOME": file}),
                      ("a file as home", {"XDG_CACHE_HOME": None, "HOME": file}),
                      ("nothing set", {"XDG_CACHE_HOME": None, "HOME": None})]:
        text = run(program, **env)
        check(name, re.search(r"^not saved: .+", text, re.M) and "saved to" not in text, text)
        check_store(text, None, "measured now")
    os.makedirs(os.path.join(folder, "garbage", "trueno"))
    with open(os.path.join(folder, "garbage", "trueno", "tuner.trw"), "wb") as f:
        f.write(bytes(range(256)) * 4)
    text = run(program, XDG_CACHE_HOME=os.path.join(folder, "garbage"), stderr=".*the store is not used.*\n")
    check("garbage is told", "reading it: ok" not in text, text)
    check_store(text, None, "measured now")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    usage, demo, evolution = (os.path.join(sys.argv[1], name) for name in
                              ("trueno-tuner-usage", "trueno-ml-tuner-demo", "trueno-ml-tuner-evolution"))
    check_tuner_usage(usage)
    check_demo(demo)
    with tempfile.TemporaryDirectory() as folder:
        check_evolution(evolution, folder)
        check_bad_places(evolution, folder)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
