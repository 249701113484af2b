#!/bin/sh
# SPDX-License-Identifier: MIT
# From a fresh checkout to generated text: installs what is missing (Debian and Ubuntu), builds the
# library, fetches a small real model, and lets it write, with what the tuner predicts, chooses and
# measures. Safe to repeat.
set -eu

usage()
{
    cat <<'EOF'
Usage: sh examples/quickstart.sh [options]

Installs missing packages (apt-get, as root or with sudo), builds libtrueno into build/quickstart,
fetches a small model into ${XDG_CACHE_HOME:-~/.cache}/trueno/models, and generates text. What the
tuner learns of this machine goes to tuner.trw beside it.

Options:
  --model NAME    smollm2: SmolLM2 135M Instruct, answers questions; Apache License 2.0 [default]
                  gemma:   Gemma 3 270M, continues texts; Gemma Terms of Use
  --prompt TEXT   the question, or the beginning of the text
  -n N            tokens to generate [128]
  --help          this text
EOF
}

die()
{
    echo "quickstart: $*" >&2
    exit 1
}

model=smollm2
prompt=
n=128
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) usage && exit 0 ;;
    --model | --prompt | -n)
        [ $# -ge 2 ] || die "option $1 needs a value"
        case "$1" in
        --model) model=$2 ;;
        --prompt) prompt=$2 ;;
        -n) n=$2 ;;
        esac
        shift 2
        ;;
    *)
        echo "quickstart: unknown option '$1'" >&2
        usage >&2
        exit 2
        ;;
    esac
done
case "$model" in
smollm2 | gemma) ;;
*) die "unknown model '$model': smollm2 or gemma" ;;
esac

cd "$(dirname "$0")/.."
mkdir -p build
log=build/quickstart.log
: >"$log"

# Says what failed and shows the end of the log.
failed()
{
    echo "quickstart: $1; the end of $log:" >&2
    tail -n 20 "$log" >&2
    exit 1
}

# ----------------------------------------------------------------------------- packages

# Debian packages of what this machine does not have.
missing()
{
    command -v cc >/dev/null || echo build-essential
    command -v cmake >/dev/null || echo cmake
    command -v ninja >/dev/null || echo ninja-build
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists libpcre2-8 2>/dev/null || echo libpcre2-dev
    pkg-config --exists jansson 2>/dev/null || echo libjansson-dev
    pkg-config --exists zlib 2>/dev/null || echo zlib1g-dev
    command -v python3 >/dev/null || echo python3
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
}

as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "packages are missing and this is neither root nor is there sudo: $packages"
    fi
}

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ]; then
    command -v apt-get >/dev/null || die "please install these packages or their like: $packages"
    echo "Installing $packages" >&2
    as_root apt-get update -qq >>"$log" 2>&1 || failed "apt-get update failed"
    # the names are words
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ca-certificates $packages >>"$log" 2>&1 || failed "apt-get install failed"
fi

# -------------------------------------------------------------------------------- build

# Passes on the steps of the build as one line, where somebody looks.
show_steps()
{
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case "$line" in
        "["*) if [ -t 2 ]; then printf '\r\033[K%.70s' "$line" >&2; fi ;;
        esac
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

echo "Building libtrueno ..." >&2
cmake --preset release -B build/quickstart -DTRUENO_BUILD_TESTS=OFF >>"$log" 2>&1 ||
    failed "configuring failed"
rm -f build/quickstart/built
{
    cmake --build build/quickstart --target trueno-generate 2>&1 && : >build/quickstart/built
} | show_steps
[ -f build/quickstart/built ] || failed "building failed"

# ------------------------------------------------------------------------------ generate

path=$(sh examples/fetch_model.sh "$model")
set -- -m "$path" -n "$n" --tuner learn
if [ "$model" = smollm2 ]; then
    set -- "$@" --chat --temp 0 -p "${prompt:-Explain in a few sentences why the sky is blue.}"
else # a base model: it continues
    # greedy text of a base model runs in circles: draw, with a seed
    set -- "$@" --temp 0.7 --top-p 0.9 --seed 3 \
        -p "${prompt:-Once upon a time, in a small village by the sea, there lived}"
fi
exec build/quickstart/bin/trueno-generate "$@"
