#!/usr/bin/env bash
# deb-twice.sh: is the package the same, to the byte, when it is built again, in another folder, time zone, language and with
# another umask? Called by `make deb-twice`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
out=build/deb-twice
rm -rf $out
(umask 022; TZ=UTC LC_ALL=C.UTF-8 scripts/deb.sh $out/1)
mkdir -p $out/another-folder
(umask 027; TMPDIR=$PWD/$out/another-folder TZ=Pacific/Kiritimati LC_ALL=C DEB_BUILD_OPTIONS=parallel=1 scripts/deb.sh $out/2)
for deb in $out/1/*.deb; do
    cmp "$deb" "$out/2/${deb##*/}" || die "$deb is not the same again"
done
say "the same twice: $(cd $out/1 && echo *.deb)"
