#!/bin/sh
# SPDX-License-Identifier: MIT
# What the libraries of a build define and need: only trueno_ symbols come out, nothing that ends the
# process, prints or changes its state goes in, baseline code has no instruction above the baseline.
# usage: symbols.sh BUILD_DIR
set -u
build=$(cd "${1:?usage: symbols.sh BUILD_DIR}" && pwd) || exit 1
so=$build/lib/libtrueno.so
a=$build/lib/libtrueno.a
passed=0
failed=0
skipped=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for file in "$so" "$a"; do
    [ -e "$file" ] || { echo "FAILED: no $file"; exit 1; }
done

# report NAME TEXT: fine if TEXT is empty
report() {
    if [ -z "$2" ]; then
        echo "ok: $1"
        passed=$((passed + 1))
    else
        echo "FAILED: $1"
        echo "$2" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

exported=$(nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sed 's/@.*//')
report "the shared library exports only trueno_ names" "$(echo "$exported" | grep -v '^trueno_')"
[ -n "$exported" ] || report "the shared library exports something" "nothing"

# Every function of the headers is exported, and nothing else.
root=$(cd "$(dirname "$0")/.." && pwd)
cat "$root"/include/trueno/*.h | tr '\n' ' ' | grep -o 'TRUENO_API [^(;]*(' |
    sed -n 's/.*[ *]\(trueno_[a-z0-9_]*\)($/\1/p' | sort -u >"$work/declared"
echo "$exported" | sort -u >"$work/exported"
report "declared (<) and exported (>) functions are the same" \
    "$(diff "$work/declared" "$work/exported" | grep '^[<>]')"

banned='abort exit _exit _Exit quick_exit raise kill __assert_fail __assert longjmp _longjmp siglongjmp
printf puts putchar putc fprintf vprintf vfprintf dprintf vdprintf fputs fputc fwrite perror
stdout stderr setlocale setenv putenv unsetenv clearenv system popen signal sigaction fesetround
fesetenv feenableexcept'
pattern=$(for name in $banned; do printf '%s|__%s_chk|' "$name" "$name"; done)
pattern="^(${pattern%|})\$"
for file in "$so" "$a"; do
    report "$(basename "$file") does not need what ends the process, prints or changes its state" \
        "$(nm -u "$file" 2>/dev/null | awk '$1 == "U" || $1 == "w" { print $2 }' | sed 's/@.*//' |
            grep -E "$pattern" | sort -u)"
done

report "the shared library has a SONAME" \
    "$(readelf -d "$so" | grep -q 'SONAME.*libtrueno\.so\.[0-9]' || echo none)"
report "no executable stack, no text relocations" \
    "$(readelf -lW "$so" | grep 'GNU_STACK.*E' ; readelf -d "$so" | grep TEXTREL)"

# Objects whose source has no instruction-set suffix run on any CPU of the architecture.
case $(uname -m) in
x86_64)
    mkdir "$work/objects"
    (cd "$work/objects" && ar x "$a")
    report "each object of the static library has a name of its own" \
        "$(ar t "$a" | sort | uniq -d)"
    wide=
    for object in "$work"/objects/*.o; do
        case $(basename "$object") in
        *_avx*.c.o | *_amx*.c.o) continue ;;
        esac
        [ -e "$object" ] || wide="no objects found"
        # VEX and EVEX mnemonics start with v; verr and verw do not need AVX
        if objdump -d --no-show-raw-insn "$object" |
            grep -E '%[yz]mm|^ *[0-9a-f]+:[[:space:]]+v[a-z]' |
            grep -Evq '[[:space:]](verr|verw)[[:space:]]'; then
            wide="$wide $(basename "$object")"
        fi
    done
    report "baseline objects have no AVX instructions" "$wide"
    ;;
*)
    echo "skip: baseline instructions are looked at on x86-64 only"
    skipped=1
    ;;
esac
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
