#!/bin/sh
# SPDX-License-Identifier: MIT
# The one test command: installs what is missing (Debian, Ubuntu), builds, and runs every test that
# this machine can run. One line per step; what was skipped says why; full logs are in
# build/test-logs. The last line is "N passed, N failed, N skipped"; the exit status is 1 if anything
# failed. Safe to repeat: a second run builds only what changed.
set -u
cd "$(dirname "$0")/.." || exit 1

# ------------------------------------------------------------------ what there is

# Debian packages: without the first ones nothing works, without the others steps are skipped.
NEEDED='build-essential cmake ninja-build pkg-config libpcre2-dev libjansson-dev zlib1g-dev
    libcmocka-dev'
WANTED='python3 python3-venv clang clang-format doxygen libopenblas0 gcc-aarch64-linux-gnu
    libc6-dev-arm64-cross qemu-user'
# The libraries of an ARM build; they are only unpacked, below build/.
ARM64_PACKAGES='libpcre2-8-0 libpcre2-dev libjansson4 libjansson-dev libcmocka0 libcmocka-dev
    zlib1g zlib1g-dev'
# Python packages of the comparisons with other implementations, in a venv under build/.
ORACLES='numpy==2.2.6 gguf==0.19.0 scikit-learn==1.7.2'
ORACLE_LLAMA='llama-cpp-python==0.3.36' # compiled from source: minutes the first time
# Suites that are not ctest programs, in this order; one that is not there is left out. They exit
# with 0 (all well), 77 (skipped; the last line says why) or something else, and may end with a line
# "N passed, N failed, N skipped".
suites() {
    suite tests/compare_ggml.py build/release/lib/libtrueno.so
    suite tests/compare_tokens.py build/release/bin/trueno-tokenize \
        "${TRUENO_TEST_DATA:-no-test-data}"/vocab/*.gguf
    suite tests/compare_forest.py build/release/bin/oracle_forest
    suite tests/test_bench.py build/release/bin
    suite tests/test_examples.py build/release/bin
    suite tests/test_train.py build/release/bin
    suite tests/test_corpus.py build/release/bin
    suite tests/compare_llama.sh build/release/bin
}
# Tests in which threads meet: the ones for ThreadSanitizer.
TSAN_TESTS='test_thread test_mem test_ctx test_matmul test_matrix test_session test_probe test_tuned
    test_tuner_threads'
CLANG_FORMAT_VERSION=14 # others lay out some lines differently

LOGS=build/test-logs
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}
PIP_SECONDS=${PIP_SECONDS:-900}

usage() {
    cat <<END
usage: sh tests/run.sh [--quick] [--no-install] [--help]
  --quick       release build and its tests only
  --no-install  use what is there: no apt-get, no pip
Environment:
  JOBS                jobs at once (all CPUs)
  TRUENO_TEST_DATA    folder of test data (../shared/data if it is there)
  TRUENO_TEST_PYTHON  interpreter that has the oracles (a venv is made in build/)
  PIP_SECONDS         time limit for compiling llama.cpp (900)
END
}

quick=no
install=yes
for arg in "$@"; do
    case $arg in
    --quick) quick=yes ;;
    --no-install) install=no ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

# ------------------------------------------------------------- steps and counting

passed=0
failed=0
skipped=0
mkdir -p "$LOGS"

have() {
    command -v "$1" >/dev/null 2>&1
}

# begin NAME: sets step_name, log, step_start
begin() {
    step_name=$1
    log=$LOGS/$(echo "$1" | tr -c 'A-Za-z0-9\n' '-').log
    step_start=$(date +%s)
    [ -t 1 ] && printf '[ .. ] %s\r' "$step_name"
    return 0
}

# finish RC PASSED FAILED SKIPPED: prints the line of the step and adds up
finish() {
    seconds=$(($(date +%s) - step_start))
    passed=$((passed + $2))
    failed=$((failed + $3))
    skipped=$((skipped + $4))
    detail=
    [ $(($2 + $3 + $4)) -gt 1 ] && detail=": $2 passed, $3 failed, $4 skipped"
    if [ "$1" -eq 0 ]; then
        printf '[ ok ] %s%s (%s s)\n' "$step_name" "$detail" "$seconds"
    else
        printf '[FAIL] %s%s (%s s), %s\n' "$step_name" "$detail" "$seconds" "$log"
    fi
}

skip() {
    printf '[skip] %s: %s\n' "$1" "$2"
    skipped=$((skipped + 1))
}

# "P F S" of the last line "P passed, F failed, S skipped" of a log, if it has one
own_counts() {
    sed -n 's/^ *\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed, \([0-9][0-9]*\) skipped$/\1 \2 \3/p' \
        "$1" | tail -n 1
}

# What a failed step said: the paragraphs "FAILED: ..." of our scripts, else the end of the log
why() {
    if grep -q '^FAILED: ' "$1"; then
        awk '/^[^ ]/ { show = /^FAILED: / } show' "$1" | head -n 60
    else
        tail -n 30 "$1"
    fi
}

# step NAME COMMAND...: runs it with its output in the log; counts as one, or as what it counted
step() {
    begin "$1"
    shift
    "$@" >"$log" 2>&1
    rc=$?
    if [ $rc -eq 77 ]; then
        skip "$step_name" "$(tail -n 1 "$log")"
        return 0
    fi
    counts=$(own_counts "$log")
    if [ -z "$counts" ]; then
        counts='0 1 0'
        [ $rc -eq 0 ] && counts='1 0 0'
    elif [ $rc -ne 0 ]; then # failed in another way than by its own count
        counts=$(echo "$counts" | awk '{ print $1, ($2 ? $2 : 1), $3 }')
    fi
    # shellcheck disable=SC2086
    finish $rc $counts
    sed -n 's/^skip  /       skipped: /p' "$log" | cut -c1-200
    [ $rc -eq 0 ] || why "$log" | cut -c1-200 | sed 's/^/       | /'
    return $rc
}

# "P F S" of a log of ctest -V. Programs with cmocka, or with a summary line of their own, count by
# their cases; others as one. A program that failed without a failed case (a crash) adds one.
ctest_counts() {
    awk '
    function number(text) { match(text, /[0-9]+/); return substr(text, RSTART, RLENGTH) + 0 }
    /^[0-9]+: / {
        id = $1 + 0; rest = substr($0, index($0, ": ") + 2)
        if (rest ~ /^\[  PASSED  \] [0-9]+ test/) { p[id] += number(rest); own[id] = 1 }
        if (rest ~ /^\[  FAILED  \] [0-9]+ test/) { f[id] += number(rest); own[id] = 1 }
        if (rest ~ /^\[  SKIPPED \] [0-9]+ test/) { s[id] += number(rest); own[id] = 1 }
        if (rest ~ /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/) {
            split(rest, n, /[^0-9]+/); p[id] = n[1]; f[id] = n[2]; s[id] = n[3]; own[id] = 1
        }
    }
    /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
        match($0, /#[0-9]+/); id = substr($0, RSTART + 1, RLENGTH - 1) + 0
        good = ($0 ~ / Passed +[0-9.]+ sec/); skip = ($0 ~ /\*\*\*Skipped/)
        if (skip) S++
        else if (!own[id]) { if (good) P++; else F++ }
        else { P += p[id]; F += f[id]; S += s[id]; if (!good && !f[id]) F++ }
        any = 1
    }
    END { if (!any) F = 1; print P + 0, F + 0, S + 0 }' "$1"
}

# run_ctest NAME BUILD_DIR [ctest arguments]
run_ctest() {
    begin "$1"
    dir=$2
    shift 2
    $wrap ctest --test-dir "$dir" -j "$JOBS" -V "$@" >"$log" 2>&1
    rc=$?
    counts=$(ctest_counts "$log")
    case $counts in
    *' 0 '*) ;;
    *) rc=1 ;;
    esac
    # shellcheck disable=SC2086
    finish $rc $counts
    sed -n 's/^[0-9]*: \[  SKIPPED \] \([A-Za-z_].*\)/       skipped: \1/p' "$log" | sort -u
    [ $rc -eq 0 ] || grep -E '\*\*\*[A-Z]|\[  (FAILED|ERROR|  LINE) |^[0-9]+: .*(ERROR: |runtime error|WARNING: Thread)' \
        "$log" | head -n 40 | cut -c1-200 | sed 's/^/       | /'
    return $rc
}

# --------------------------------------------------------------------- packages

# What dpkg does not know as installed, of the packages named
missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok' ||
            printf '%s ' "$package"
    done
}

install_packages() {
    [ $install = yes ] && have apt-get && have dpkg-query || return 0
    # shellcheck disable=SC2086
    needed=$(missing_packages $NEEDED)
    wanted=
    # shellcheck disable=SC2086
    [ $quick = no ] && wanted=$(missing_packages $WANTED)
    [ -n "$needed$wanted" ] || return 0
    sudo=
    if [ "$(id -u)" -ne 0 ]; then
        sudo='sudo -n'
        if ! $sudo true 2>/dev/null; then
            [ -z "$needed" ] || skip "packages" "not root and no sudo; missing: $needed"
            return 0
        fi
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    step "apt-get update" $sudo apt-get update -q
    # shellcheck disable=SC2086
    [ -z "$needed" ] || step "install $needed" $sudo apt-get install -qy --no-install-recommends $needed
    for package in $wanted; do # one by one: a release may lack some
        begin "install $package"
        if $sudo apt-get install -qy --no-install-recommends "$package" >"$log" 2>&1; then
            finish 0 0 0 0
        else
            skip "install $package" "$(tail -n 1 "$log")"
        fi
    done
}

# Makes build/venv with the oracles and puts it in front of PATH. Without it suites skip themselves.
prepare_python() {
    if [ -n "${TRUENO_TEST_PYTHON:-}" ]; then
        PATH=$(dirname "$TRUENO_TEST_PYTHON"):$PATH
        return 0
    fi
    venv=build/venv
    if [ $install = yes ] && have python3 && [ ! -e $venv/complete ]; then
        step "python oracles" sh -c "
            (test -x $venv/bin/pip || python3 -m venv $venv) && $venv/bin/pip install -q $ORACLES ||
            exit 77"
        if [ -x $venv/bin/pip ]; then
            step "python oracle $ORACLE_LLAMA" sh -c "
                CMAKE_ARGS='-DLLAVA_BUILD=OFF' CMAKE_BUILD_PARALLEL_LEVEL=$JOBS \
                    timeout $PIP_SECONDS $venv/bin/pip install -q '$ORACLE_LLAMA' &&
                touch $venv/complete || { echo \"pip: status \$?\"; exit 77; }"
        fi
    fi
    [ -x $venv/bin/python3 ] && PATH=$PWD/$venv/bin:$PATH
    return 0
}

# ------------------------------------------------------------------------ steps

release_build() {
    cmake --preset release -DTRUENO_WERROR=ON && cmake --build build/release -j "$JOBS"
}

clang_build() {
    have clang || { echo "clang is not installed"; return 77; }
    cmake -S . -B build/clang -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Release \
        -DTRUENO_WERROR=ON -DTRUENO_BUILD_TESTS=OFF && cmake --build build/clang -j "$JOBS"
}

# sanitizer_build PRESET TARGET...
sanitizer_build() {
    preset=$1
    shift
    cmake --preset "$preset" -DTRUENO_BUILD_PROGRAMS=OFF &&
        cmake --build "build/$preset" -j "$JOBS" --target "$@"
}

# Programs of ctest, without the kernel checker: test_NAME, and replay_NAME for each fuzz target
test_targets() {
    find tests -name 'test_*.c' | sed 's|.*/||; s|\.c$||'
    find tests/fuzz -name 'fuzz_*.c' 2>/dev/null | sed 's|.*/fuzz_|replay_|; s|\.c$||'
}

# The tests of TSAN_TESTS that the tree has
tsan_tests() {
    for test in $TSAN_TESTS; do
        for file in tests/*/"$test.c"; do
            [ -e "$file" ] && echo "$test"
        done
    done
}

# ThreadSanitizer wants memory laid out in a way that newer kernels give only without randomisation.
tsan_run() {
    wrap=
    setarch "$(uname -m)" -R true 2>/dev/null && wrap="setarch $(uname -m) -R"
    # shellcheck disable=SC2086
    if $wrap build/tsan/bin/test_ctx 2>&1 | grep -q 'unexpected memory mapping'; then
        skip "tests under ThreadSanitizer" "it does not run on this kernel"
    else
        run_ctest "tests under ThreadSanitizer" build/tsan \
            -R "/($(tsan_tests | tr '\n' '|')none)\$"
    fi
    wrap=
}

# Unpacks ARM64_PACKAGES below build/arm64/root. apt gets lists and a cache of its own there: nothing
# of this system changes, and it needs no root.
arm64_libraries() {
    dir=$PWD/build/arm64
    [ "$(cat "$dir/root/complete" 2>/dev/null)" = "$ARM64_PACKAGES" ] && return 0
    if [ $install = no ] || ! have apt-get || ! have dpkg-deb; then
        echo "none there, and --no-install or no apt-get"
        return 77
    fi
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/debs" "$dir/root"
    apt="-q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists=$dir/lists
        -o Dir::State::status=/dev/null -o Dir::Cache=$dir/cache"
    # shellcheck disable=SC2086
    apt-get $apt update && (cd "$dir/debs" && apt-get $apt download $ARM64_PACKAGES) ||
        { echo "apt-get finds no arm64 packages"; return 77; }
    for deb in "$dir"/debs/*.deb; do
        dpkg-deb -x "$deb" "$dir/root" || return 1
    done
    echo "$ARM64_PACKAGES" >"$dir/root/complete"
}

arm64_build() {
    cmake -S . -B build/arm64/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DTRUENO_WERROR=ON \
        -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64.cmake" -DTRUENO_ARM64_ROOT="$PWD/build/arm64/root" &&
        cmake --build build/arm64/build -j "$JOBS"
}

# Everything built for ARM; the layers up to the tuner tested on three CPUs that qemu plays: with
# int8 matrix products, with dot products, with neither. /proc/self is the emulator's (test_mem),
# spinning threads are slow there (test_thread), and so are a million predictions (test_physics).
arm64() {
    for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
        have $tool || { skip "ARM" "$tool is not installed"; return 0; }
    done
    step "libraries for ARM" arm64_libraries
    [ -e build/arm64/root/complete ] || return 0
    step "build for ARM, warnings are errors" arm64_build || return 1
    kernels='^check/|simd/test_registry$'
    export QEMU_CPU=max
    run_ctest "tests on ARM, emulated: all features" build/arm64/build \
        -R '^(base|gguf|quant|simd|tuner|check)/' -E '/test_(mem|thread|physics)$'
    QEMU_CPU=neoverse-n1
    run_ctest "kernels on ARM, emulated: dot products" build/arm64/build -R "$kernels"
    QEMU_CPU=cortex-a72
    run_ctest "kernels on ARM, emulated: plain NEON" build/arm64/build -R "$kernels"
    unset QEMU_CPU
}

# x86_check CPU OP...: the checker on an emulated CPU. OpenBLAS uses the kernels that any of them runs,
# whatever the environment says of this machine.
x86_check() {
    cpu=$1
    shift
    printf '%s\n' "$@" | OPENBLAS_CORETYPE=Nehalem xargs -P "$JOBS" -I OP \
        qemu-x86_64 -cpu "$cpu" build/release/bin/trueno-check --op OP | awk -v runs=$# '
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5; n++; next }
        { print }
        END {
            if (n != runs) f++ # one crashed
            printf "%d passed, %d failed, %d skipped\n", p, f, s
            exit f > 0
        }'
}

# Without norms and gates: at the end of a row they use vmaskmovps, and this emulator reads the lanes
# that it leaves out, beyond the last page. They are checked on the real CPU, as are those kernels of
# OpenBLAS that do the same.
x86_haswell() {
    ops='gemm quantize rope_norm rope_neox kv_store attention attn_merge'
    if qemu-x86_64 -cpu Haswell build/release/bin/trueno-check --op rope_neox 2>&1 |
        grep -q '^skip rope_neox_avx2:'; then
        echo "this qemu does not emulate AVX2"
        return 77
    fi
    # shellcheck disable=SC2086
    x86_check Haswell $ops
}

# Older x86 CPUs: as the context's cap, and emulated.
older_x86() {
    [ "$(uname -m)" = x86_64 ] || { skip "older x86 CPUs" "this is $(uname -m)"; return 0; }
    export TRUENO_CPU=avx2
    run_ctest "tests with the AVX2 kernels" build/release \
        -R '^simd/test_matrix$|^model/test_(forward|session)$'
    unset TRUENO_CPU
    have qemu-x86_64 || { skip "emulated x86 CPUs" "qemu-x86_64 is not installed"; return 0; }
    step "kernels on an emulated Haswell (AVX2)" x86_haswell
    step "kernels on an emulated Nehalem (no AVX)" x86_check Nehalem gemm quantize rmsnorm swiglu \
        geglu rope_norm rope_neox kv_store attention attn_merge
    step "model on an emulated Haswell" qemu-x86_64 -cpu Haswell build/release/bin/test_forward
}

docs() {
    have doxygen || { echo "doxygen is not installed"; return 77; }
    mkdir -p build && doxygen docs/Doxyfile
}

format() {
    tool=
    for name in "clang-format-$CLANG_FORMAT_VERSION" clang-format; do
        have "$name" && "$name" --version | grep -q "version $CLANG_FORMAT_VERSION\." && tool=$name
    done
    [ -n "$tool" ] || { echo "needs clang-format $CLANG_FORMAT_VERSION"; return 77; }
    find include src tests examples bench \( -name '*.c' -o -name '*.h' -o -name '*.cpp' \) \
        -exec "$tool" --dry-run --Werror {} +
}

# suite FILE ARGUMENT...
suite() {
    file=$1
    [ -e "$file" ] || return 0
    case "$*" in
    *'*'*) # a pattern that found nothing
        skip "$file" "no test data; TRUENO_TEST_DATA names its folder"
        return 0
        ;;
    esac
    case $file in
    *.py)
        if have python3; then step "$file" python3 "$@"; else skip "$file" "no python3"; fi
        ;;
    *) step "$file" sh "$@" ;;
    esac
}

# ------------------------------------------------------------------------- main

# In a function, so that the shell has read all of this file before the first step.
main() {
    wrap=
    export ASAN_OPTIONS="${ASAN_OPTIONS:-allocator_may_return_null=1}"
    export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
    export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1}"
    if [ -z "${TRUENO_TEST_DATA:-}" ] && [ -d ../shared/data ]; then
        TRUENO_TEST_DATA=$(cd ../shared/data && pwd)
        export TRUENO_TEST_DATA
    fi

    install_packages
    for tool in cc cmake ninja pkg-config; do
        have $tool || { echo "$tool is not installed; needed are: $NEEDED"; exit 1; }
    done

    if step "release build, gcc, warnings are errors" release_build; then
        run_ctest "tests" build/release
        release=yes
    else
        release=no
    fi

    if [ $quick = no ]; then
        step "clang build, warnings are errors" clang_build
        step "format" format
        step "documentation" docs
        if [ $release = yes ]; then
            step "symbols" sh tests/symbols.sh build/release
            step "installed package" sh tests/install/consumers.sh build/release
            older_x86
        fi
        arm64
        # shellcheck disable=SC2046
        step "build for AddressSanitizer, UBSan" sanitizer_build asan $(test_targets) &&
            run_ctest "tests under AddressSanitizer, UBSan" build/asan -E '^check/'
        # shellcheck disable=SC2046
        step "build for ThreadSanitizer" sanitizer_build tsan $(tsan_tests) && tsan_run
        if [ $release = yes ]; then
            prepare_python
            suites
        fi
    fi

    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
}

main
