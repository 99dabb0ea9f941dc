#!/bin/sh
# Fetches the built-in texts from Debian packages into a folder (default build/data) and verifies them.
#   datasets/fetch.sh [DIR]
# Needs apt-get, dpkg-deb, gzip, sed, sha256sum; nothing is installed. A text that is there and right is left alone.
# Exit: 0 all texts are there · 2 a text isn't the expected one, or no apt-get · 4 download or writing failed.
set -eu
export LC_ALL=C
dir=${1:-build/data}
work=

say() { printf '%s\n' "fetch: $*"; }
fail() { code=$1; shift; printf '%s\n' "fetch: $*" >&2; exit "$code"; }
is_right() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$2  -" ]; }

# download PACKAGE: its files under $work/PACKAGE.
download() {
    # As root apt would drop to user _apt, who can't write here, and warn.
    get="apt-get -qq -o APT::Sandbox::User=root download $1"
    if ! (cd "$work" && $get) >"$work/log" 2>&1; then
        [ "$(id -u)" = 0 ] || fail 4 "$1: apt-get can't download it ($(head -n 1 "$work/log")); try 'apt-get update' as root first"
        say "$1: not in apt's lists yet, running apt-get update"
        apt-get -qq update >"$work/log" 2>&1 || fail 4 "apt-get update failed: $(head -n 1 "$work/log")"
        (cd "$work" && $get) >"$work/log" 2>&1 || fail 4 "$1: apt-get can't download it: $(head -n 1 "$work/log")"
    fi
    dpkg-deb -x "$work/$1"_*.deb "$work/$1" 2>"$work/log" || fail 4 "$1: the package can't be unpacked: $(head -n 1 "$work/log")"
}

jargon() { gzip -dc "$work/jargon-text/usr/share/doc/jargon-text/jargon.txt.gz"; }

# The tame files in the order of their names; overstrikes (x, backspace) dropped; an empty line after each entry.
fortunes() {
    for name in computers debian education food goedel linux magic news perl platitudes science sports startrek tao wisdom; do
        sed -e 's/.\x08//g' -e 's/^%$//' "$work/fortunes/usr/share/games/fortunes/$name" || return 1
        echo; echo
    done
}

# fetch FILE SHA256 PACKAGE FUNCTION
fetch() {
    if is_right "$dir/$1" "$2"; then say "$dir/$1 is there"; return; fi
    say "$dir/$1: from Debian package $3"
    download "$3"
    "$4" >"$work/$1" 2>"$work/log" || fail 2 "$3: doesn't hold the expected files: $(head -n 1 "$work/log")"
    is_right "$work/$1" "$2" || fail 2 "$1: SHA-256 of the text in $3 is $(sha256sum <"$work/$1" | cut -c1-64), but $2 is wanted"
    mv "$work/$1" "$dir/$1" 2>"$work/log" || fail 4 "$dir/$1: can't be written: $(head -n 1 "$work/log")"
}

for tool in apt-get dpkg-deb gzip sed sha256sum; do
    command -v "$tool" >/dev/null || fail 2 "$tool isn't there: the texts come from Debian packages; put jargon.txt and fortunes.txt into $dir by hand"
done
mkdir -p "$dir" 2>/dev/null || fail 4 "$dir: can't be made"
[ -w "$dir" ] || fail 4 "$dir: can't be written"
work=$(mktemp -d "$dir/.fetch.XXXXXX") || fail 4 "$dir: can't be written"
work=$(cd "$work" && pwd)
trap 'rm -rf "$work"' EXIT
trap 'exit 4' HUP INT TERM

fetch jargon.txt 40dfb4b98191a670a09a183d5798d50f243d23fdbd1495dcc0aca2ce5895ba97 jargon-text jargon
fetch fortunes.txt 91f1c7e7c1de5793fd98e0acbdc7be20443114f733f578444e7e1204360dd782 fortunes fortunes
