#!/bin/sh
# The Debian package as a stranger gets it: tests/deb.sh PACKAGE.deb. In a new bare Debian (debootstrap, about 210 MB in $TMPDIR, removed at the end)
# it is installed by apt, runs, and is removed. Wants root, debootstrap and the network; the last line is "N passed, N failed".
package=$1
passed=0 failed=0
[ -f "$package" ] || { echo "deb: $package is missing: make deb" >&2; exit 2; }
[ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null || { echo "deb: wants root and debootstrap (apt-get install debootstrap)" >&2; exit 2; }
. /etc/os-release
sources=/etc/apt/sources.list.d/debian.sources
mirror=$(awk '/^URIs:/{ print $2; exit }' $sources 2>/dev/null || awk '/^deb /{ print $2; exit }' /etc/apt/sources.list)
root=$(mktemp -d) || exit 4
chmod 755 "$root"
trap 'umount "$root/proc" "$root/dev" 2>/dev/null; rm -rf --one-file-system "$root" "$root.log"' EXIT
trap 'exit 4' HUP INT TERM
debootstrap --variant=minbase "$VERSION_CODENAME" "$root" "$mirror" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 4; }
# apt as it is here: sources, keys, certificates, proxies.
rm -f "$root/etc/apt/sources.list"
cp -r /etc/apt/. "$root/etc/apt/"
cp /usr/share/keyrings/debian-archive-keyring.* "$root/usr/share/keyrings/" 2>/dev/null
cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null
mkdir -p "$root/etc/ssl" && cp -rL /etc/ssl/certs "$root/etc/ssl/" 2>/dev/null
cp "$package" "$root/srv/dsbench.deb"
mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" || exit 4

inside() { chroot "$root" /usr/bin/env -i HOME=/srv LANG=C.UTF-8 OMP_WAIT_POLICY=passive DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd /srv && $1" >"$root.log" 2>&1; }
# told NAME COMMAND: it succeeds in there.
told() {
    if inside "$2"; then passed=$((passed + 1)); echo "ok $1"; else failed=$((failed + 1)); echo "FAILED $1: $(tail -n 3 "$root.log")"; fi
}
told nothing-of-it-yet '! command -v dsbench'
told apt-installs-it 'apt-get update -qq && apt-get install -y -qq --no-install-recommends ./dsbench.deb'
told version 'dsbench --version'
told doctor 'dsbench doctor'
told run-on-the-built-in-model 'dsbench run --schemes bf16,int4-rtn --chunks 1 --context 64 --repeats 0 --run-id smoke && dsbench layers smoke | grep -q int4-rtn'
told suite-by-name-of-its-file 'dsbench run /usr/share/dsbench/suites/quick.json --chunks 1 --context 64 --repeats 0'
told report 'dsbench report smoke -o page.html && grep -q int4-rtn page.html'
told manual-page 'gzip -dc /usr/share/man/man1/dsbench.1.gz | grep -q "^.TH DSBENCH" || ! [ -d /usr/share/man/man1 ]'
told completion-loads 'bash -c ". /usr/share/bash-completion/completions/dsbench; COMP_WORDS=(dsbench rep) COMP_CWORD=1; _dsbench; [ \"\$COMPREPLY\" = report ]"'
told zsh-completion 'grep -q "^#compdef dsbench" /usr/share/zsh/vendor-completions/_dsbench'
told nothing-outside-usr '! dpkg -L dsbench | grep -v "^/usr\|^/\.$"'
told licence 'grep -q "MIT License" /usr/share/doc/dsbench/copyright'
told is-removed-whole 'apt-get purge -y -qq dsbench && ! [ -e /usr/bin/dsbench ] && ! [ -e /usr/share/dsbench ]'
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
