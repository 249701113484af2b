#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares trueno-tokenize with llama.cpp (through llama_cpp) on fixed-seed texts of many scripts.

usage: compare_tokens.py TRUENO_TOKENIZE MODEL...

Each text is encoded with special tokens recognised and not, and some with BOS. Texts are valid
UTF-8; how a broken byte is encoded is not the same in both. Prints counts; exit status 1 on any
difference, 77 if llama_cpp is not installed.
"""
import random
import subprocess
import sys

try:
    import llama_cpp
except ImportError:
    print("compare_tokens.py: skipped, the Python package llama_cpp is not installed")
    sys.exit(77)

N_TEXTS = 160
SPECIAL = [
    "<s>", "<unk>", "<bos>", "<eos>", "<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "<|end|>", "<|eot_id|>",
    "<fim_prefix>", "<repo_name>", "<file_sep>", "[INST]", "<0x0A>", "<unused7>", "<h1>",
    "</table>", "[multimodal]", "<|im_", "im_end|>",
]
CODE = [
    "for (int i = 0; i < n; i++) {\n\tsum += a[i]*b[i];\n}\n", "def f(x):\n    return x**2 # sq\n",
    "#include <stdio.h>\r\n", "std::vector<std::pair<int,int>>&& v", "SELECT * FROM t WHERE a<>b;",
    "https://example.org/a/b?c=d&e=%20f#g", "user@example.com", "{\"k\": [1, 2.5e-3, null]}",
    "$x = `ls -la | grep '^d'`;", "if [[ $# -ne 2 ]]; then\n  exit 1\nfi\n", "0xDEADbeef", "a->b::c",
]
PROSE = [
    "The quick brown fox jumps over the lazy dog.", "Don't we'll I'VE they're he'd IT'S",
    "Füße, naïve café, Ångström", "Быстрая коричневая лиса", "Η γρήγορη αλεπού",
    "السلام عليكم ورحمة الله", "שלום עולם", "敏捷的棕色狐狸", "素早い茶色の狐がジャンプ", "빠른 갈색 여우",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "Xin chào thế giới", "გამარჯობა", "Բարեւ", "ආයුබෝවන්",
    "3.14159 1,000,000 2024-02-29 12:34:56", "½ ² Ⅷ ٣٤٥ 〇一二三", "… — “quoted” ‘text’ «guillemets»",
    "🦙👩‍👩‍👧‍👦🇩🇪👍🏽❤️😶‍🌫️", "e\u0301 a\u0308 \u200b\u200d\ufeff x", "ﬁﬂ ＡＢＣ １２３ ｶﾅ",
]
SPACES = [" ", "  ", "   ", "       ", " " * 40, "\n", "\n\n", "\n" * 35, "\t", "\t\t", " \n", "\n ",
          "\r\n", " \t \n ", "\u00a0", "\u3000", "\u2003", "\u0085", "\u180e", "\u2028"]
BLOCKS = [(0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA),
          (0x620, 0x64A), (0x905, 0x939), (0xE01, 0xE3A), (0x1100, 0x1112), (0x2010, 0x2027),
          (0x2190, 0x21FF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
          (0xAC00, 0xD7A3), (0xFF01, 0xFF5E), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F),
          (0x20000, 0x20100)]


def random_characters(rng):
    low, high = rng.choice(BLOCKS)
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 8)))


def make_text(rng, with_special):
    parts = []
    for _ in range(rng.randint(1, 25)):
        kind = rng.random()
        if kind < 0.25:
            parts.append(rng.choice(SPACES))
        elif kind < 0.45:
            parts.append(rng.choice(PROSE))
        elif kind < 0.6:
            parts.append(rng.choice(CODE))
        elif kind < 0.7:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 12))))
        elif kind < 0.8 and with_special:
            parts.append(rng.choice(SPECIAL))
        else:
            parts.append(random_characters(rng))
        if rng.random() < 0.4:
            parts.append(" ")
    return "".join(parts)


def run(program, model, text, *options):
    done = subprocess.run([program, "-m", model, *options], input=text, capture_output=True)
    if done.returncode:
        sys.exit("compare_tokens.py: " + done.stderr.decode(errors="replace").strip())
    return done.stdout


def check_text(program, model, other, text, bos, parse):
    options = (["--bos"] if bos else []) + ([] if parse else ["--no-special"])
    ours = [int(i) for i in run(program, model, text, *options).split()]
    theirs = other.tokenize(text, add_bos=bos, special=parse)
    if ours == theirs:
        return True
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    print(f"  differ at id {at} (bos {bos}, parse {parse}): {text!r}")
    print(f"    trueno    {ours[max(0, at - 3):at + 8]}")
    print(f"    llama.cpp {theirs[max(0, at - 3):at + 8]}")
    return False


def check_model(program, model):
    rng = random.Random(20240229)
    other = llama_cpp.Llama(model, vocab_only=True, verbose=False)
    n_good = n_bad = n_ids = 0
    texts = [b""] + [s.encode() for s in PROSE + CODE + SPACES]
    texts += [make_text(rng, i % 2 == 0).encode() for i in range(N_TEXTS)]
    for i, text in enumerate(texts):
        for parse in (False, True):
            good = check_text(program, model, other, text, bos=i % 4 == 0, parse=parse)
            n_good += good
            n_bad += not good
        ids = run(program, model, text, "--no-special")
        n_ids += len(ids.split())
        if run(program, model, ids, "--decode", "--no-special") != text:
            print(f"  text, ids, text is not the same: {text!r}")
            n_bad += 1
    print(f"{model}: {n_good} encodings equal, {n_bad} differences, {n_ids} ids")
    return n_bad


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, models = sys.argv[1], sys.argv[2:]
    sys.exit(1 if sum([check_model(program, model) for model in models]) else 0)


if __name__ == "__main__":
    main()
