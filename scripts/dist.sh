#!/usr/bin/env bash
# dist.sh [--folder FOLDER]: the sources with all crates, which build without a network, as build/dist/NAME-VERSION.tar.xz,
# or as a folder. Its contents are those of the checkout; the archive of a commit is the same wherever it is made.
# (One thread alone would write another xz than several, which all write the same.)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
umask 022

name=dovecot-mail-crypt-$(crate_version)

# What git knows and what is new; where there is no git, everything that isn't made.
sources() {
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard
    else
        find . \( -path ./target -o -path ./build -o -path ./vendor -o -path ./debian/cargo -o -name __pycache__ \) -prune \
            -o ! -type d -printf '%P\0'
    fi
}

# lay FOLDER: the sources into it.
lay() {
    vendor_crates
    mkdir -p "$1"
    sources | tar -c --null --no-recursion --files-from=- --ignore-failed-read --owner=0 --group=0 2>/dev/null | tar -x --no-same-permissions -C "$1"
    cp -RL vendor "$1/vendor"
    rm -f "$1/vendor/.for"
}

if [ "${1:-}" = --folder ]; then
    lay "${2:?}"
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lay "$work/$name"
mkdir -p build/dist
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
tar -C "$work" -c --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=go=rX "$name" |
    xz -T2 >"build/dist/$name.tar.xz.new"
mv "build/dist/$name.tar.xz.new" "build/dist/$name.tar.xz"
say "build/dist/$name.tar.xz"
