#!/bin/sh
# Machines that this one isn't, under qemu-user: tests/machines.sh BUILD MAKE. Installs nothing; says what it needs.
# The plain x86-64 program on processors of SSE2 alone and of AVX2, and an aarch64 build on processors without dot products, with
# them, and with I8MM: the level that each picks, the kernel tests, and traces of the built-in model, which are equal bit for bit.
# Not covered: AVX-512 and AMX, which qemu lacks; their tests run where the processor has them. The last line is "N passed, N failed".
build=$1 make=$2 cross=aarch64-linux-gnu
passed=0 failed=0
libs=$(printf '%s-dev:arm64 ' libcmocka libjansson libsqlite3 libpcre2 libutf8proc nettle liblapacke libopenblas)
tests="test_kernels test_kernel_cases test_kernels_gemm test_kernels_block test_kernels_attention test_kernels_rows"

[ "$(uname -m)" = x86_64 ] || { echo "machines: wants an x86-64 machine; here is $(uname -m), whose own kernels 'make check' runs" >&2; exit 2; }
missing=
for tool in qemu-x86_64:qemu-user qemu-aarch64:qemu-user $cross-gcc:gcc-$cross; do
    command -v "${tool%%:*}" >/dev/null || case " $missing" in *" ${tool#*:} "*) ;; *) missing="$missing${tool#*:} " ;; esac
done
[ -e /usr/lib/$cross/libcmocka.so ] && [ -e /usr/lib/$cross/liblapacke.so ] || missing="$missing$libs"
if [ -n "$missing" ]; then
    echo "machines: needs packages that are not here: dpkg --add-architecture arm64 && apt-get update && apt-get install --no-install-recommends ${missing% }" >&2
    exit 2
fi

export OMP_WAIT_POLICY=passive
unset DSBENCH_ISA
PKG_CONFIG_LIBDIR=/usr/lib/$cross/pkgconfig $make --no-print-directory BUILD="$build/aarch64" CC=$cross-gcc all $(printf "$build/aarch64/tests/%s " $tests) || exit 1
tmp=$(mktemp -d) || exit 4
trap 'rm -rf "$tmp"' EXIT
echo '{ "sequences": [[5, 6, 7, 100, 2000], [9]] }' >"$tmp/tokens.json"

# told NAME COMMAND ...: one check; its output only where it fails.
told() {
    name=$1; shift
    if "$@" >"$tmp/log" 2>&1; then passed=$((passed + 1)); echo "ok   $name"; return 0; fi
    failed=$((failed + 1)); echo "FAIL $name"; tail -n 20 "$tmp/log" | sed 's/^/     /'
    return 1
}
trace() { "$@" trace --model models/dsmoe-tiny --tokens "$tmp/tokens.json" --scheme "$scheme" -o "$tmp/got"; }
trace_is() { trace "$@" && cmp "$tmp/got" "$tmp/$scheme"; }
picks() { level=$1; shift; "$@" doctor --json | grep "used: $level\""; } # doctor's own status tells of other things, as of texts that are not fetched

for scheme in reference dynamic-int8 int4-rtn; do trace "$build/dsbench" >"$tmp/log" 2>&1 && mv "$tmp/got" "$tmp/$scheme" || { cat "$tmp/log"; echo "0 passed, 1 failed"; exit 1; }; done
for machine in x86_64:qemu64:ref x86_64:Haswell:avx2 aarch64:cortex-a72:ref aarch64:neoverse-n1:neon aarch64:max:neon; do
    kind=${machine%%:*} level=${machine##*:} cpu=${machine#*:}
    cpu=${cpu%:*} programs=$build
    [ "$kind" = x86_64 ] || programs=$build/aarch64
    run="qemu-$kind -cpu $cpu $programs"
    told "$cpu picks $level" picks "$level" $run/dsbench
    for test in $tests; do told "$cpu $test" $run/tests/$test; done
    for scheme in reference dynamic-int8 int4-rtn; do told "$cpu traces $scheme as this machine does" trace_is $run/dsbench; done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
