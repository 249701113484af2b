#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the roofline of this machine and what the matrix products reach under it: docs/roofline.svg.

Runs trueno-bench kernels with weights from memory, for several formats and numbers of vectors. A product of M vectors
with weights of b bytes each does M/b products per byte read; the roofs are the read bandwidth and the peak of the CPU's
dot products (8-bit integers; float32 for BF16), as probed during the run. Needs gnuplot. Use an idle machine.
"""
import argparse
import json
import statistics
import subprocess
import sys

FLOAT_TYPES = ("F32", "F16", "BF16")
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#e07b00", "#7f5f3f")


def measure(args):
    command = [f"{args.bin}/trueno-bench", "kernels", "--cold", "--type", args.types, "--rows", str(args.rows), "--cols",
               str(args.cols), "-n", args.vectors, "-t", str(args.threads), "-r", "7", "-o", "json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def script(rows, args):
    """gnuplot's input, data included."""
    read = statistics.median(r["read_gbs"] for r in rows)
    peaks = {}
    for name, is_float in (("8-bit dot products", False), ("float32 multiply-adds", True)):
        values = [r["peak_gmacs"] for r in rows if (r["type"] in FLOAT_TYPES) == is_float]
        if values:
            peaks[name] = statistics.median(values)
    types = list(dict.fromkeys(r["type"] for r in rows))
    intensity = {id(r): r["gmacs"] / r["gbs"] for r in rows}
    left, right = min(intensity.values()) / 1.5, max(intensity.values()) * 1.5
    bottom = min(r["gmacs"] for r in rows) / 2
    top = max(peaks.values()) * 2
    out = [f"set terminal svg noenhanced size 900,600 font 'sans-serif,14' background '#ffffff'\nset output '{args.output}'",
           f"set title '{args.rows} x {args.cols} weights from memory, {args.threads} thread{'s' * (args.threads > 1)}: "
           f"{read:.0f} GB/s, {' and '.join(f'{p:.0f}' for p in peaks.values())} GMAC/s'",
           f"set logscale xy 10\nset xrange [{left}:{right}]\nset yrange [{bottom}:{top}]",
           "set xlabel 'products per byte of weights'\nset ylabel 'GMAC/s'\nset grid\nset key bottom right"]
    for i, t in enumerate(types):
        out += [f"$d{i} << END"] + [f"{intensity[id(r)]} {r['gmacs']}" for r in rows if r["type"] == t] + ["END"]
    curves = [f"[{left}:{right}] {read}*x title 'read bandwidth' lw 2 lc rgb '#000000'"]
    for (name, peak), dash in zip(peaks.items(), (1, 2)):
        curves.append(f"{peak} title 'peak of {name}' lw 2 dt {dash} lc rgb '#666666'")
    curves += [f"$d{i} with linespoints pt {4 + i} ps 0.7 lc rgb '{COLOURS[i % len(COLOURS)]}' title '{t}'"
               for i, t in enumerate(types)]
    return "\n".join(out + ["plot " + ", \\\n     ".join(curves)]) + "\n"


def table(rows):
    """Shares of the roofs as markdown: of the bandwidth for one vector, of the peak for the most."""
    print("| format | M = 1: GB/s | % of read | most vectors: GMAC/s | % of peak |\n|---|---|---|---|---|")
    for t in dict.fromkeys(r["type"] for r in rows):
        own = sorted((r for r in rows if r["type"] == t), key=lambda r: r["m"])
        low, high = own[0], own[-1]
        peak = f"{100 * high['gmacs'] / high['peak_gmacs']:.0f}" if high["peak_gmacs"] else "-"
        print(f"| {t} | {low['gbs']:.1f} | {100 * low['gbs'] / low['read_gbs']:.0f} | {high['gmacs']:.0f} | {peak} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default="build/release/bin", help="folder of trueno-bench [%(default)s]")
    p.add_argument("--types", default="Q4_0,Q4_K,Q5_K,Q6_K,Q8_0,BF16", help="[%(default)s]")
    p.add_argument("--rows", type=int, default=5632, help="[%(default)s]")
    p.add_argument("--cols", type=int, default=2048, help="[%(default)s]")
    p.add_argument("-n", "--vectors", default="1,2,4,8,16,32,64,128,256,512", help="[%(default)s]")
    p.add_argument("-t", "--threads", type=int, default=1, help="[%(default)s]")
    p.add_argument("-o", "--output", default="docs/roofline.svg", help="[%(default)s]")
    p.add_argument("--data", help="keep the measurements (JSON); drawn from instead of measured anew if it exists")
    args = p.parse_args()
    try:
        with open(args.data or "", encoding="utf-8") as f:
            rows = json.load(f)
    except FileNotFoundError:
        rows = measure(args)
        if args.data:
            with open(args.data, "w", encoding="utf-8") as f:
                json.dump(rows, f, indent=1)
    try:
        subprocess.run(["gnuplot"], input=script(rows, args), text=True, check=True)
    except FileNotFoundError:
        sys.exit("gnuplot is not installed (Debian: gnuplot-nox)")
    table(rows)


if __name__ == "__main__":
    main()
