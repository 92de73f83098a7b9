#!/usr/bin/env bash
# base-image.sh SUITE: sees to it that there is an image debian:SUITE-slim.
#
# Pulled where there is a registry; else made with debootstrap, under the same name. MIRROR is where debootstrap gets
# packages from, if not from where it does by itself.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. tests/docker/lines.sh
suite=${1:?base-image.sh SUITE}
image=debian:$suite-slim

if docker image inspect "$image" >/dev/null 2>&1; then exit; fi
if timeout 300 docker pull -q "$image" >/dev/null 2>&1; then exit; fi

say "no registry to pull $image from: making it with debootstrap"
command -v debootstrap >/dev/null || scripts/ensure-deps.sh docker
[ "$(id -u)" -eq 0 ] || die "debootstrap needs root: sudo tests/docker/base-image.sh $suite"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make_root() {
    rm -rf "$work/root"
    debootstrap --variant=minbase "$suite" "$work/root" ${MIRROR:+"$MIRROR"} >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log"; return 1; }
}
three_times make_root

# debootstrap leaves a line for the suite; updates are beside it, by the same mirror.
if [ "$suite" != sid ]; then
    sources=$work/root/etc/apt/sources.list
    main=$(sed "s/ $suite main.*/ $suite/" "$sources")
    {
        echo "$main-updates main"
        echo "${main% *}-security $suite-security main"
    } >>"$sources"
fi
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
tar -C "$work/root" --numeric-owner -c . | docker import - "$image" >/dev/null
