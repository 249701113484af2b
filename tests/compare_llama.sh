#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs compare_llama.py on the real models of the quickstart. Usage: compare_llama.sh [BIN_DIR [PYTHON]]
# Exit status 77: skipped, with the reason on the last line.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${1:-$root/build/release/bin}
python=${2:-python3}
"$python" -c 'import llama_cpp, numpy' 2>/dev/null || {
    echo "skipped: the Python package llama-cpp-python is not installed"
    exit 77
}
models=
for name in smollm2 gemma; do
    if path=$(sh "$root/examples/fetch_model.sh" "$name"); then
        models="$models $path"
    else
        echo "note: model $name could not be fetched; compared without it"
    fi
done
# shellcheck disable=SC2086 # a list of paths without spaces
exec "$python" "$root/tests/compare_llama.py" --bin "$bin" $models
