#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares our weight formats with ggml's, through both shared libraries.

    python3 tests/compare_ggml.py [build/release/lib/libtrueno.so] [--gguf FILE] [--weights N]
    python3 tests/compare_ggml.py --golden tests/quant/golden_blocks.h

Decoding must give the same bits on random bytes; encoding must have an RMSE of at most 1.02 times
ggml's on every distribution. --golden writes what ggml says as a C table (clang-format it), with
which the unit tests do the same where ggml is absent. ggml comes with the Python package
llama_cpp_python. Exit status: 0 all well, 1 a difference, 2 wrong arguments, 77 something needed is
not installed.
"""
import argparse
import ctypes
import importlib.util
import pathlib
import sys

SKIP = 77
RMSE_LIMIT = 1.02
OK, ERR_NUMERIC = 0, 12

# name: number in files, weights per block, bytes per block, byte offsets of f16 fields
FORMATS = {
    "F16": (1, 1, 2, []),
    "BF16": (30, 1, 2, []),
    "Q4_0": (2, 32, 18, [0]),
    "Q4_1": (3, 32, 20, [0, 2]),
    "Q5_0": (6, 32, 22, [0]),
    "Q5_1": (7, 32, 24, [0, 2]),
    "Q8_0": (8, 32, 34, [0]),
    "Q2_K": (10, 256, 84, [80, 82]),
    "Q3_K": (11, 256, 110, [108]),
    "Q4_K": (12, 256, 144, [0, 2]),
    "Q5_K": (13, 256, 176, [0, 2]),
    "Q6_K": (14, 256, 210, [208]),
}
ENCODED = [name for name in FORMATS if name not in ("Q2_K", "Q3_K")]


def skip(why):
    print(f"compare_ggml: skipped: {why}")
    sys.exit(SKIP)


def load_ggml():
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        skip("the Python package llama_cpp_python is not installed")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "lib"
    paths = sorted(folder.glob("libggml-base.*"))
    if not paths:
        skip(f"no libggml-base in {folder}")
    lib = ctypes.CDLL(str(paths[0]))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                                        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_void_p]
    return lib


def load_ours(path):
    try:
        lib = ctypes.CDLL(str(pathlib.Path(path).resolve()))
    except OSError as error:
        print(f"compare_ggml: cannot load {path}: {error}", file=sys.stderr)
        sys.exit(2)
    for name in ("trueno_dequantize", "trueno_quantize"):
        function = getattr(lib, name)
        function.restype = ctypes.c_int
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return lib


class Pair:
    """The same operations through both libraries."""

    def __init__(self, ours, ggml):
        self.ours, self.ggml = ours, ggml

    def our_decode(self, name, data, n):
        out = np.full(n, np.nan, np.float32)
        status = self.ours.trueno_dequantize(out.ctypes.data, data.ctypes.data, FORMATS[name][0], n)
        assert status == OK, f"trueno_dequantize {name}: status {status}"
        return out

    def ggml_decode(self, name, data, n):
        out = np.full(n, np.nan, np.float32)
        symbol = {"F16": "ggml_fp16_to_fp32_row", "BF16": "ggml_bf16_to_fp32_row"}.get(
            name, "dequantize_row_" + name.replace("Q", "q"))
        function = getattr(self.ggml, symbol)
        function.restype = None
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        function(data.ctypes.data, out.ctypes.data, n)
        return out

    def our_encode(self, name, x):
        out = np.zeros(encoded_bytes(name, x.size), np.uint8)
        status = self.ours.trueno_quantize(out.ctypes.data, x.ctypes.data, FORMATS[name][0], x.size)
        assert status == OK, f"trueno_quantize {name}: status {status}"
        return out

    def ggml_encode(self, name, x):
        out = np.zeros(encoded_bytes(name, x.size), np.uint8)
        wrote = self.ggml.ggml_quantize_chunk(FORMATS[name][0], x.ctypes.data, out.ctypes.data, 0,
                                              1, x.size, None)
        assert wrote == out.size, f"ggml_quantize_chunk {name}: {wrote} bytes of {out.size}"
        return out


def encoded_bytes(name, n):
    _, block, block_bytes, _ = FORMATS[name]
    return n // block * block_bytes


def random_blocks(rng, name, n, scales):
    """Random bytes, with the f16 fields drawn as `scales` says."""
    _, block, block_bytes, fields = FORMATS[name]
    data = rng.integers(0, 256, (n // block, block_bytes), dtype=np.uint8)
    if scales == "plain":
        for at in fields:
            values = rng.normal(0, 0.01, n // block).astype(np.float16)
            data[:, at:at + 2] = values.view(np.uint8).reshape(-1, 2)
    return data.reshape(-1)


def check_decode(pair, rng, n):
    """Any bytes at all, and blocks with scales as in real files. NaN equals NaN."""
    failures = 0
    print(f"{'decode':8}{'weights':>10}{'any bytes':>12}{'real scales':>14}")
    for name in FORMATS:
        columns = []
        for scales in ("any", "plain"):
            data = random_blocks(rng, name, n, scales)
            a, b = pair.our_decode(name, data, n), pair.ggml_decode(name, data, n)
            same = (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))
            columns.append(int(np.count_nonzero(~same)))
        failures += any(columns)
        words = ["equal" if not c else f"{c} differ" for c in columns]
        print(f"{name:8}{n:>10}{words[0]:>12}{words[1]:>14}")
    return failures


def distributions(rng, n, real):
    spikes = rng.normal(0, 0.02, n)
    spikes[::97] *= 30
    sets = {
        "cosine": 0.1 + 2 * np.cos(np.arange(n)),
        "gaussian": rng.normal(0, 0.02, n),
        "uniform": rng.uniform(-1, 1, n),
        "laplace": rng.laplace(0, 0.02, n),
        "student": rng.standard_t(3, n) * 0.02,
        "spikes": spikes,
        "shifted": rng.normal(0.05, 0.02, n),
    }
    sets = {key: np.ascontiguousarray(value, np.float32) for key, value in sets.items()}
    if real is not None:
        sets["real"] = real
    return sets


def rmse(x, y):
    return float(np.sqrt(np.mean((x.astype(np.float64) - y.astype(np.float64)) ** 2)))


def check_encode(pair, sets):
    failures = 0
    print(f"\nRMSE of our encoding / ggml's (at most {RMSE_LIMIT}); * = same bytes")
    print(f"{'encode':8}" + "".join(f"{key:>11}" for key in sets))
    for name in ENCODED:
        line = f"{name:8}"
        for x in sets.values():
            ours, theirs = pair.our_encode(name, x), pair.ggml_encode(name, x)
            our_error = rmse(x, pair.ggml_decode(name, ours, x.size))
            their_error = rmse(x, pair.ggml_decode(name, theirs, x.size))
            ratio = our_error / their_error if their_error else float(our_error > 0) + 1
            same = "*" if np.array_equal(ours, theirs) else " "
            failures += not ratio <= RMSE_LIMIT
            line += f"{ratio:>10.4f}{same}"
        print(line)
    return failures


def real_weights(path, n):
    """Up to `n` weights from the matrices of a GGUF file, as little quantised as it has."""
    try:
        import gguf
    except ImportError:
        skip("--gguf needs the Python package gguf")
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        if len(tensor.shape) == 2:
            found.setdefault(tensor.tensor_type.name, []).append(tensor)
    for kind in ("F32", "BF16", "F16", "Q8_0", "Q6_K", "Q5_K", "Q5_0", "Q4_K", "Q4_1", "Q4_0"):
        tensors = found.get(kind)
        if tensors:
            each = n // len(tensors) // 256 * 256 or 256
            parts = [gguf.dequantize(t.data, t.tensor_type).reshape(-1)[:each] for t in tensors]
            print(f"real weights: {kind} of {pathlib.Path(path).name}")
            x = np.ascontiguousarray(np.concatenate(parts)[:n], np.float32)
            return x[:x.size // 256 * 256]
    skip(f"no matrix of a plain type in {path}")


# ------------------------------------------------------------ golden figures
# The generators are those of tests/quant/quant_test.h.

GOLDEN_BLOCKS = 512     # of which only a hash is kept
GOLDEN_WEIGHTS = 32768  # of each distribution
DISTRIBUTIONS = ("cosine", "bell", "uniform", "heavy")
MASK = (1 << 64) - 1


def splitmix(seed):
    while True:
        seed = (seed + 0x9e3779b97f4a7c15) & MASK
        z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9 & MASK
        z = (z ^ z >> 27) * 0x94d049bb133111eb & MASK
        yield z ^ z >> 31


def golden_weights(kind):
    numbers = splitmix(DISTRIBUTIONS.index(kind) + 1)
    i24 = lambda: (next(numbers) >> 40) - (1 << 23)
    if kind == "cosine":
        return np.float32(0.1 + 2 * np.cos(np.arange(GOLDEN_WEIGHTS)))
    each = 4 if kind == "bell" else 1
    x = np.float32([sum(i24() for _ in range(each)) for _ in range(GOLDEN_WEIGHTS)])
    x = x * np.float32(2.0 ** -23)
    return x * x * x if kind == "heavy" else x


def golden_bytes(name, n_blocks):
    """Random bytes whose f16 fields are below 2 in magnitude: no NaN anywhere."""
    number, block, block_bytes, fields = FORMATS[name]
    numbers = splitmix(number)
    data = np.array([next(numbers) >> 56 for _ in range(n_blocks * block_bytes)], np.uint8)
    data = data.reshape(n_blocks, block_bytes)
    for at in fields or ([0] if name == "F16" else []):
        data[:, at + 1] &= 0xbf
    if name == "BF16":
        data[:, 1] &= 0xbf
    return data.reshape(-1)


def fnv1a(words):
    value = 0xcbf29ce484222325
    for word in words:
        value = (value ^ int(word)) * 0x100000001b3 & MASK
    return value


def write_golden(ggml, path):
    pair = Pair(None, ggml)
    lines = ["/* SPDX-License-Identifier: MIT */",
             "/* What ggml decodes and how well it encodes, written by tests/compare_ggml.py --golden.",
             " * Blocks and weights come from the generators in quant_test.h. */", ""]
    for name in FORMATS:
        n = max(FORMATS[name][1], 16)
        bits = pair.ggml_decode(name, golden_bytes(name, n // FORMATS[name][1]), n).view(np.uint32)
        lines.append(f"static const uint32_t golden_{name.lower()}[{n}] = {{")
        for row in bits.reshape(-1, 8):
            lines.append("    " + ", ".join(f"0x{b:08x}" for b in row) + ",")
        lines += ["};", ""]
    lines += ["/* `hash`: FNV-1a, by words, over the bits of GOLDEN_BLOCKS blocks. `rmse`: of each",
              " * distribution of quant_test.h, seed 1 + its number; 0 where ggml was not asked. */",
              "enum { GOLDEN_BLOCKS = %d, GOLDEN_WEIGHTS = %d };" % (GOLDEN_BLOCKS, GOLDEN_WEIGHTS),
              "struct golden {", "    trueno_dtype type;", "    size_t n; /* weights in bits */",
              "    const uint32_t *bits;", "    uint64_t hash;", "    double rmse[DISTRIBUTIONS];",
              "};", "", "static const struct golden goldens[] = {"]
    sets = [golden_weights(kind) for kind in DISTRIBUTIONS]
    for name in FORMATS:
        n = GOLDEN_BLOCKS * FORMATS[name][1]
        decoded = pair.ggml_decode(name, golden_bytes(name, GOLDEN_BLOCKS), n)
        errors = [rmse(x, pair.ggml_decode(name, pair.ggml_encode(name, x), x.size))
                  if name in ENCODED else 0 for x in sets]
        lines.append(f"    {{TRUENO_TYPE_{name}, {max(FORMATS[name][1], 16)}, "
                     f"golden_{name.lower()}, 0x{fnv1a(decoded.view(np.uint32)):016x},")
        lines.append("     {" + ", ".join(f"{e:.6e}" for e in errors) + "}},")
    lines += ["};", ""]
    pathlib.Path(path).write_text("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", nargs="?", default="build/release/lib/libtrueno.so")
    parser.add_argument("--golden", metavar="FILE", help="write ggml's figures and stop")
    parser.add_argument("--gguf", help="take real weights from this file, too")
    parser.add_argument("--weights", type=int, default=262144, help="per format [262144]")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.weights < 256 or args.weights % 256:
        parser.error("--weights must be a positive multiple of 256")

    if args.golden:
        write_golden(load_ggml(), args.golden)
        return 0
    pair = Pair(load_ours(args.library), load_ggml())
    rng = np.random.default_rng(args.seed)
    failures = check_decode(pair, rng, args.weights)
    real = real_weights(args.gguf, args.weights) if args.gguf else None
    failures += check_encode(pair, distributions(rng, args.weights, real))
    print(f"\n{failures} failures" if failures else "\nall equal within the limits")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        import numpy as np
    except ImportError:
        skip("numpy is not installed")
    sys.exit(main())
