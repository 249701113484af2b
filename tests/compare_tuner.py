#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What trueno-generate --tuner does to real models: nothing to the tokens, and something or nothing to the speed.

Tokens: for each prompt the greedy tokens of the modes off, frozen and learn must be the same. Speed: pairs of runs of
learn and off in the order A B B A ..., decoded tokens per second. Printed for each model:

  ratio      median of learn / off of the pairs, above 1 if learning is faster, with its quartiles
  95 %       bootstrap interval of that median
  A/A, B/B   how far two neighbouring runs of learn, of off differ: median of |log ratio|, in percent
  verdict    "no difference" if 1 is in the interval or the ratio is within the larger of A/A and B/B

What is learned goes to a temporary folder, and from one run to the next; --cache names another one, which stays. The
exit status is 1 if any tokens differ. Run it on an otherwise idle machine. Examples:

  tests/compare_tuner.py model.gguf
  tests/compare_tuner.py a.gguf b.gguf --prompts prompts.txt --pairs 20 -o json > result.json
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
import compare  # noqa: E402

MODES = ("off", "frozen", "learn")
PROMPTS = """\
The capital of France is
Once upon a time there was a
The three primary colours are
Water boils at
def fibonacci(n):
The quick brown fox
In the beginning
To make a good cup of tea, first
The largest planet of the solar system is
E = mc^2 means that
Dear Sir or Madam,
1, 1, 2, 3, 5, 8,
The opposite of hot is
My favourite season is autumn because
A recipe for pancakes:
#include <stdio.h>
SELECT name FROM
The moon is
If it rains tomorrow, we will
Shakespeare wrote
The square root of 144 is
Monday, Tuesday, Wednesday,
A haiku about the sea:
The train to London leaves at
Photosynthesis is the process by which
Breaking news:
Q: What is the speed of light? A:
Il était une fois
Es war einmal ein
Había una vez
A list of things to pack for a holiday:
The doctor looked at the patient and said
Gravity is
The first man on the moon was
It was a dark and stormy night
The meaning of life is
Two plus two equals
Cats and dogs are
The recipe needs flour, sugar and
Democracy means
In 1969,
The cure for the common cold
Why did the chicken cross the road?
Roses are red,
A prime number is
The history of Rome begins
Electric cars are
The internet was invented
Good morning! How are
x = [i * i for i in range(10)]
""".splitlines()


class Generator:
    def __init__(self, args, model, cache):
        self.program, self.model, self.threads = os.path.join(args.bin, "trueno-generate"), model, args.threads
        self.report = os.path.join(cache, "report.json")
        self.env = dict(os.environ, XDG_CACHE_HOME=os.path.abspath(cache))

    def run(self, mode, prompt, n, *options):
        """The report of one run."""
        command = [self.program, "-m", self.model, "-p", prompt, "-n", str(n), "--temp", "0", "--tuner", mode, "--json",
                   self.report, *(["-t", str(self.threads)] if self.threads else []), *options]
        done = subprocess.run(command, capture_output=True, env=self.env)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr.decode(errors='replace')[-2000:]}")
        with open(self.report, encoding="utf-8") as f:
            return json.load(f)


def different(generator, prompts, n):
    """[(prompt, mode)] whose tokens are not those of off; and how many calls were of kernels on trial."""
    bad, explored = [], 0
    for i, prompt in enumerate(prompts):
        reports = {mode: generator.run(mode, prompt, n) for mode in MODES}
        explored += reports["learn"]["tuner"]["explored"]
        bad += [(prompt, mode) for mode in MODES if reports[mode]["tokens"] != reports["off"]["tokens"]]
        compare.progress(f"tokens: {i + 1}/{len(prompts)} prompts, {len(bad)} differ")
    compare.progress("")
    return bad, explored


def paired(generator, prompt, n, n_pairs):
    """[{mode: tokens/s}] in the order A B B A ..., and the last report of learn."""
    pairs, last = [], None
    for i in range(n_pairs):
        rates = {}
        for mode in ("learn", "off") if i % 2 == 0 else ("off", "learn"):
            report = generator.run(mode, prompt, n, "--ignore-eos")
            rates[mode] = report["decode_tps"]
            last = report if mode == "learn" else last
        pairs.append(rates)
        compare.progress(f"speed: {i + 1}/{n_pairs} pairs")
    compare.progress("")
    return pairs, last


def summarise(pairs):
    logs = [math.log(p["learn"] / p["off"]) for p in pairs]
    ratio, interval = math.exp(statistics.median(logs)), [math.exp(v) for v in compare.bootstrap(logs)]
    quartiles = statistics.quantiles(logs, n=4)
    spreads = [compare.self_spread([p[mode] for p in pairs]) for mode in ("learn", "off")]
    return dict(learn=statistics.median(p["learn"] for p in pairs), off=statistics.median(p["off"] for p in pairs),
                ratio=ratio, quartiles=[math.exp(quartiles[0]), math.exp(quartiles[2])], interval=interval,
                spread_learn=spreads[0], spread_off=spreads[1],
                verdict=compare.verdict(ratio, interval, max(spreads)))


def print_row(row):
    speed = "| - | - | - | - | - | - | - |"
    if "ratio" in row:
        speed = (f"| {row['learn']:.1f} | {row['off']:.1f} | {row['ratio']:.3f} "
                 f"| {row['quartiles'][0]:.3f} .. {row['quartiles'][1]:.3f} "
                 f"| {row['interval'][0]:.3f} .. {row['interval'][1]:.3f} "
                 f"| {100 * row['spread_learn']:.1f} %, {100 * row['spread_off']:.1f} % | {row['verdict']} |")
    same = row["prompts"] - len({prompt for prompt, _ in row["different"]})
    print(f"| {os.path.basename(row['model'])} | {same}/{row['prompts']} "
          f"| {row['explored']} {speed}", flush=True)
    for prompt, mode in row["different"]:
        print(f"FAILED: {mode} gives other tokens than off after: {prompt}", file=sys.stderr)


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", metavar="MODEL", help="GGUF file")
    p.add_argument("--prompts", metavar="FILE", help="one prompt a line [50 short ones]")
    p.add_argument("--first", type=int, metavar="N", help="only the first N prompts")
    p.add_argument("-n", "--predict", type=int, default=32, help="tokens after each prompt [%(default)s]")
    p.add_argument("--pairs", type=int, default=10, help="pairs of timed runs, 0 or at least 2 [%(default)s]")
    p.add_argument("--gen", type=int, default=500, help="tokens of a timed run [%(default)s]")
    p.add_argument("-t", "--threads", type=int, help="[all CPUs]")
    p.add_argument("--bin", default="build/release/bin", help="folder of trueno-generate [%(default)s]")
    p.add_argument("--cache", metavar="DIR", help="where learned choices are kept [a temporary folder]")
    p.add_argument("-o", "--output", choices=("md", "json"), default="md", help="json has all samples [%(default)s]")
    args = p.parse_args()
    if args.pairs == 1 or args.pairs < 0:
        p.error("--pairs must be 0 or at least 2")
    return args


def compare_model(args, model, prompts, cache):
    generator = Generator(args, model, cache)
    bad, explored = different(generator, prompts, args.predict)
    row = dict(model=model, prompts=len(prompts), different=bad, explored=explored)
    if args.pairs:
        pairs, last = paired(generator, prompts[0], args.gen, args.pairs)
        row.update(summarise(pairs), gen=args.gen, samples=pairs, tuner=last["tuner"])
    return row


def main():
    args = parse_args()
    prompts = PROMPTS
    if args.prompts:
        with open(args.prompts, encoding="utf-8") as f:
            prompts = [line for line in f.read().splitlines() if line.strip()]
    prompts = prompts[:args.first]
    if not prompts:
        sys.exit("no prompts")
    if args.output == "md":
        print("| model | same tokens | calls on trial | learn t/s | off t/s | ratio | quartiles | 95 % | A/A, B/B "
              "| verdict |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache or folder
        os.makedirs(cache, exist_ok=True)
        for model in args.models:
            rows.append(compare_model(args, model, prompts, cache))
            if args.output == "md":
                print_row(rows[-1])
    if args.output == "json":
        json.dump(rows, sys.stdout, indent=1)
        print()
    sys.exit(any(row["different"] for row in rows))


if __name__ == "__main__":
    main()
