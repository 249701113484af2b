#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs a build into a temporary prefix, moves that prefix, and builds programs against it: with
# find_package and with pkg-config, shared and static, in C and C++. Every header also compiles alone.
# usage: consumers.sh BUILD_DIR     (environment: CC, CXX)
set -u
build=${1:?usage: consumers.sh BUILD_DIR}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
CC=${CC:-cc}
CXX=${CXX:-c++}
warn='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror'
passed=0
failed=0

# check NAME COMMAND...: one line, and the output of what fails
check() {
    label=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok: $label"
        passed=$((passed + 1))
    else
        echo "FAILED: $label: $*"
        sed 's/^/    /' "$work/log"
        failed=$((failed + 1))
    fi
}

# links NAME yes|no: whether the program needs the shared library
links() {
    if readelf -d "$1" | grep -q 'NEEDED.*libtrueno'; then found=yes; else found=no; fi
    [ "$found" = "$2" ] || { echo "$1: needs libtrueno.so: $found, expected: $2"; return 1; }
}

# Moved after the install: nothing in it may point to where it was.
cmake --install "$build" --prefix "$work/first" >"$work/log" 2>&1 ||
    { echo "FAILED: cmake --install"; cat "$work/log"; exit 1; }
prefix=$work/moved
mv "$work/first" "$prefix"
pc=$(find "$prefix" -name trueno.pc)
libdir=$(dirname "$(dirname "$pc")")
check "nothing installed names the prefix or the source" sh -c \
    "! grep -rlF -e '$work/first' -e '$(cd "$here/../.." && pwd)/' '$prefix' --include='*.cmake' --include='*.pc' --include='*.h'"
check "the shared library has its links" test -L "$libdir/libtrueno.so"

for header in "$prefix"/include/trueno.h "$prefix"/include/trueno/*.h; do
    name=${header#"$prefix"/include/}
    echo "#include <$name>" >"$work/one.c"
    cp "$work/one.c" "$work/one.cpp"
    # shellcheck disable=SC2086
    check "$name alone in C11" $CC -std=c11 $warn -fsyntax-only -I"$prefix/include" "$work/one.c"
    # shellcheck disable=SC2086
    check "$name alone in C++17" $CXX -std=c++17 $warn -fsyntax-only -I"$prefix/include" \
        "$work/one.cpp"
done

for kind in shared static trueno; do
    check "find_package, $kind: configure" cmake -S "$here" -B "$work/$kind" \
        -DCMAKE_PREFIX_PATH="$prefix" -DLINK=$kind -DCMAKE_C_COMPILER="$CC" \
        -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_C_FLAGS="$warn" -DCMAKE_CXX_FLAGS="$warn"
    check "find_package, $kind: build" cmake --build "$work/$kind"
    if [ $kind = static ]; then needs=no; else needs=yes; fi
    for lang in c cpp; do
        check "find_package, $kind, $lang: linkage" links "$work/$kind/consumer_$lang" $needs
        check "find_package, $kind, $lang: run" "$work/$kind/consumer_$lang"
    done
done

export PKG_CONFIG_PATH="$libdir/pkgconfig"
# shellcheck disable=SC2046,SC2086
for kind in shared static; do
    if [ $kind = static ]; then
        libs=$(pkg-config --static --libs trueno | sed 's/-ltrueno/-l:libtrueno.a/') needs=no
    else
        libs=$(pkg-config --libs trueno) needs=yes
    fi
    cflags=$(pkg-config --cflags trueno)
    check "pkg-config, $kind, c: build" \
        $CC -std=c11 $warn $cflags "$here/consumer.c" -o "$work/pc_${kind}_c" $libs
    check "pkg-config, $kind, cpp: build" \
        $CXX -std=c++17 $warn $cflags "$here/consumer.cpp" -o "$work/pc_${kind}_cpp" $libs
    for lang in c cpp; do
        check "pkg-config, $kind, $lang: linkage" links "$work/pc_${kind}_$lang" $needs
        check "pkg-config, $kind, $lang: run" env LD_LIBRARY_PATH="$libdir" \
            "$work/pc_${kind}_$lang"
    done
done
check "version of trueno.pc" test "$(pkg-config --modversion trueno)" = \
    "$(sed -n 's/^#define TRUENO_VERSION  *"\([0-9.]*\)".*/\1/p' "$prefix/include/trueno/base.h")"
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
