#!/usr/bin/env bash
# The Debian package and the static program, as somebody gets them who has nothing else of the project.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Works in an image with the program "$@" and looks at the result with it.
try() {
    "$@" img create -q -f qcow2 disk.qcow2 64M
    "$@" io -c 'write -q -P 7 1M 64k' -c flush disk.qcow2
    "$@" img convert -O vmdk disk.qcow2 disk.vmdk
    "$@" img compare disk.qcow2 disk.vmdk
    "$@" img check -q disk.qcow2
}

scripts/deb >/dev/null
package=$(ls target/deb/cairn_*.deb)
dpkg-deb -x "$package" "$work/root"
[ -n "$(dpkg-deb -f "$package" Depends)" ]
for file in usr/bin/cairn usr/share/man/man1/cairn-img-convert.1.gz usr/share/bash-completion/completions/cairn \
    usr/share/zsh/vendor-completions/_cairn usr/share/fish/vendor_completions.d/cairn.fish usr/share/doc/cairn/copyright; do
    [ -s "$work/root/$file" ] || { echo "FAILED  the package lacks $file"; exit 1; }
done
[ "$("$work/root/usr/lib/cairn/bin/qemu-img" --version | cut -d' ' -f1-2)" = "qemu-img version" ]
(mkdir "$work/deb" && cd "$work/deb" && try "$work/root/usr/bin/cairn" >/dev/null)
if [ "$(id -u)" = 0 ] && [ -n "${CI:-}" ]; then
    # For true only where the machine is there for tests.
    dpkg -i "$package" >/dev/null
    (cd "$work" && cairn --version && man -w cairn-img-convert >/dev/null)
    dpkg -r cairn >/dev/null
fi
echo "  ok  the Debian package has program, man pages, completions and links, and works"

scripts/static >/dev/null
if file -L target/static/cairn | grep -q 'dynamically linked\|interpreter'; then
    echo "FAILED  target/static/cairn needs libraries"
    exit 1
fi
mkdir -p "$work/empty/proc" "$work/empty/tmp"
install -m 755 target/static/cairn "$work/empty/cairn"
in_empty_root() { unshare --user --map-root-user --mount sh -c 'mount --rbind /proc "$0/proc"; exec chroot "$0" "$@"' "$work/empty" "$@"; }
if in_empty_root /cairn --version >/dev/null; then
    try in_empty_root /cairn >/dev/null
    echo "  ok  the static program works in a root that has nothing else"
else
    echo "left out: this machine does not let a user make a root of its own (unshare)"
fi
