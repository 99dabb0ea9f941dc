#!/bin/sh
# Installs, through apt-get, the Debian packages that are missing: setup.sh [demo|check]. Says which and why; a second time it
# does nothing. Works as root or with sudo. Exit: 0 all there · 4 something is missing and can't be installed.
set -eu
what=${1:-demo}

packages="gcc:compiler make:build pkg-config:finds_libraries libc6-dev:C_library libjansson-dev:JSON libsqlite3-dev:database libpcre2-dev:tokenizers libutf8proc-dev:tokenizers nettle-dev:checksums liblapacke-dev:GPTQ libopenblas-dev:GPTQ"
case $what in
demo) packages="$packages gnuplot-nox:plots fonts-dejavu-core:text_in_plots" ;;
check) packages="$packages gnuplot-nox:plots fonts-dejavu-core:text_in_plots libcmocka-dev:tests" ;;
*) echo "setup: '$what' is unknown; demo or check is wanted" >&2; exit 2 ;;
esac

has() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "setup: no apt-get here; going on with what is installed (wanted: $(echo "$packages" | sed 's/:[^ ]*//g'))"
    exit 0
fi
missing=
for row in $packages; do
    has "${row%%:*}" && continue
    [ -n "$missing" ] || echo "setup: installing through apt-get:"
    printf '  %-18s %s\n' "${row%%:*}" "$(echo "${row#*:}" | tr _ ' ')"
    missing="$missing ${row%%:*}"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup: not root and no sudo; as root: apt-get install --no-install-recommends$missing" >&2; exit 4; }
    sudo="sudo"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$log" 2>&1 </dev/null; }
install || { $sudo apt-get update -qq >"$log" 2>&1 && install; } || { tail -n 5 "$log" >&2; echo "setup: apt-get could not install$missing" >&2; exit 4; }
