#!/usr/bin/env bash
# deb.sh [OUT]: builds the Debian package for the Dovecot at hand from a copy of the sources, without a network, has lintian
# look at it, and puts it into OUT (build/deb). Where no Debian package has a cargo that is new enough, PATH's is taken.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
out=${1:-build/deb}
mkdir -p "$out"

# debhelper gives the build a home of its own, in which rustup's front ends don't find what they stand for.
dir=$(cargo_dir)
[ -n "$dir" ] || die "no cargo >= $(msrv): run scripts/ensure-deps.sh deb"
sysroot=$("$dir/rustc" --print sysroot)
[ ! -x "$sysroot/bin/cargo" ] || dir=$sysroot/bin
profiles=
[ "$dir" = /usr/bin ] || profiles=pkg.dovecot-mail-crypt.own-cargo

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/dist.sh --folder "$work/source"
say "dpkg-buildpackage, with $("$dir/rustc" --version)"
# What make and cargo were told here is not for the package.
(cd "$work/source" && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u CARGO_TARGET_DIR -u CARGO_BUILD_FLAGS -u DOVECOT_CONFIG -u DESTDIR \
    PATH="$dir:$PATH" DEB_BUILD_PROFILES="$profiles" dpkg-buildpackage -b -us -uc) >"$out/build.log" 2>&1 ||
    { tail -n 40 "$out/build.log"; die "the package doesn't build; see $out/build.log"; }
say "lintian"
lintian --allow-root --fail-on error,warning --info "$work"/*.changes
mv "$work"/*.deb "$out/"
say "built: $out/$(sed -n 's/^\(dovecot-mail-crypt_[^ ]*\.deb\) .*/\1/p' "$work/source/debian/files")"
