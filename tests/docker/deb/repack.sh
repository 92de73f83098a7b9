#!/usr/bin/env bash
# repack.sh DEB FOLDER SED-SCRIPT [FILE]: another package in FOLDER, whose control file the script has changed and, if it is
# named, one FILE, by some bytes at its end that nothing looks at.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb -R "$1" "$work/deb"
sed -i "$3" "$work/deb/DEBIAN/control"
if [ -n "${4:-}" ]; then
    mkdir -p "$(dirname "$work/deb/$4")"
    echo "changed" >>"$work/deb/$4"
    (cd "$work/deb" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | xargs -0 md5sum) >"$work/md5sums"
    mv "$work/md5sums" "$work/deb/DEBIAN/md5sums"
fi
mkdir -p "$2"
dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/deb" "$2" >/dev/null
