#!/bin/sh
# A Debian package of what `make install` installs: harness/deb.sh BUILD VERSION MAKE. Leaves BUILD/dsbench_VERSION_ARCH.deb; installs nothing.
# What it depends on is asked of dpkg-shlibdeps, which names the packages of the libraries that the program is linked with.
set -eu
build=$1 version=$2 make=$3
missing=
for tool in dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev gzip:gzip; do command -v "${tool%%:*}" >/dev/null || missing="$missing ${tool#*:}"; done
[ -z "$missing" ] || { echo "deb: needs packages that are not here: apt-get install$missing" >&2; exit 2; }
umask 022
work=$(cd "$build" && pwd)/deb
root=$work/root
rm -rf "$work"
mkdir -p "$root/DEBIAN" "$work/debian"

$make --no-print-directory BUILD="$build" DESTDIR="$root" PREFIX=/usr ZSHDIR=/usr/share/zsh/vendor-completions install >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
strip --strip-unneeded "$root/usr/bin/dsbench"
doc=$root/usr/share/doc/dsbench
install -D -m 644 LICENSE "$doc/copyright"
printf '\nThe texts in /usr/share/dsbench/data are those of the Debian packages that datasets/fetch.sh names, under their own terms.\n' >>"$doc/copyright"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
gzip -9n "$root/usr/share/man/man1/dsbench.1"

arch=$(dpkg --print-architecture)
printf 'Source: dsbench\n\nPackage: dsbench\nArchitecture: %s\n' "$arch" >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/dsbench 2>log) || { cat "$work/log" >&2; exit 1; }
cat >"$root/DEBIAN/control" <<EOF
Package: dsbench
Version: $version
Architecture: $arch
Maintainer: The dsbench authors <dsbench@localhost>
Installed-Size: $(du -sk "$root/usr" | cut -f 1)
Depends: ${depends#shlibs:Depends=}
Recommends: gnuplot-nox | gnuplot
Section: science
Priority: optional
Description: accuracy and speed of quantized Mixture-of-Experts language models
 Runs quantization schemes of one model through one engine beside the
 unquantized reference and tells which to ship: what each costs in accuracy,
 where the damage arises (layer, expert, router), and how fast it is. Comes
 with a small built-in model and texts.
EOF
package=$build/dsbench_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 4; }
rm -rf "$work"
echo "$package"
