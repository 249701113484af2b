#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Speed of libtrueno against llama.cpp (llama-cpp-python) on the same model, in interleaved pairs.

Both engines stay loaded in processes of their own, which measure one test when told to and sleep otherwise. The order
within a pair alternates (A B, B A, ...). Printed are the medians and, since other work on the machine moves both
engines of a pair alike, the median of the ratios of pairs with its quartiles. A ratio above 1 means that libtrueno is
faster. Run it on an otherwise idle machine.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time


def llama_worker(path, n_prompt, n_gen, threads):
    """Measures on every line of stdin: writes {"pp": tokens/s, "tg": tokens/s}."""
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
    cp.n_ctx = n_prompt + n_gen + 32
    cp.n_batch = cp.n_ubatch = 512
    cp.n_threads = cp.n_threads_batch = threads
    ctx = llama_cpp.llama_init_from_model(model, cp)
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(tokens):
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)  # the batch only points to it
        batch = llama_cpp.llama_batch_get_one(ids, len(tokens))
        if llama_cpp.llama_decode(ctx, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(ctx)

    def measure():
        prompt = [(i * 7919 + 1) % n_vocab for i in range(n_prompt)]
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), True)
        start = time.perf_counter()
        decode(prompt)
        pp = n_prompt / (time.perf_counter() - start)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(ctx), True)
        decode([1])
        start = time.perf_counter()
        for i in range(n_gen):
            decode([(i * 7919 + 1) % n_vocab])
        return {"pp": pp, "tg": n_gen / (time.perf_counter() - start)}

    measure()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


class Ours:
    def __init__(self, args, path, threads):
        self.command = [f"{args.bin}/trueno-bench", "-m", path, "-p", str(args.prompt), "-n", str(args.gen), "-t",
                        str(threads), "-b", "512", "-r", "1", "-o", "json"]

    def measure(self):
        out = json.loads(subprocess.run(self.command, check=True, capture_output=True).stdout)
        by_test = {row["test"][:2]: row["tps_median"] for row in out}
        return {"pp": by_test["pp"], "tg": by_test["tg"]}


class Llama:
    def __init__(self, args, path, threads):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", "-m", path, "-p", str(args.prompt), "-n", str(args.gen), "-t",
             str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("the llama.cpp process did not start")

    def measure(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(args, path, threads):
    ours, llama, pairs = Ours(args, path, threads), Llama(args, path, threads), []
    for i in range(args.pairs):
        first, second = (ours, llama) if i % 2 == 0 else (llama, ours)
        a, b = first.measure(), second.measure()
        pairs.append((a, b) if i % 2 == 0 else (b, a))
        if sys.stderr.isatty():
            print(f"\r{i + 1}/{args.pairs} pairs", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r" + " " * 20 + "\r", end="", file=sys.stderr)
    llama.close()
    for test, n in (("pp", args.prompt), ("tg", args.gen)):
        ratios = sorted(a[test] / b[test] for a, b in pairs)
        low, mid, high = statistics.quantiles(ratios, n=4)
        print(f"| {path.split('/')[-1]} | {threads} | {test}{n} | {statistics.median(a[test] for a, _ in pairs):.1f} | "
              f"{statistics.median(b[test] for _, b in pairs):.1f} | {mid:.2f} | {low:.2f} .. {high:.2f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", action="append", required=True, help="GGUF file; may be repeated")
    p.add_argument("-p", "--prompt", type=int, default=512, help="prompt tokens [%(default)s]")
    p.add_argument("-n", "--gen", type=int, default=64, help="generated tokens [%(default)s]")
    p.add_argument("-t", "--threads", default="2", help="thread counts, separated by commas [%(default)s]")
    p.add_argument("--pairs", type=int, default=10, help="interleaved pairs, at least 2 [%(default)s]")
    p.add_argument("--bin", default="build/release/bin", help="folder of trueno-bench [%(default)s]")
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker:
        llama_worker(args.model[0], args.prompt, args.gen, int(args.threads))
        return
    print("| model | threads | test | libtrueno t/s | llama.cpp t/s | ratio | quartiles |")
    print("|---|---|---|---|---|---|---|")
    for path in args.model:
        for threads in args.threads.split(","):
            compare(args, path, int(threads))


if __name__ == "__main__":
    main()
