#!/usr/bin/env bash
# stage.sh BUILT STAGE: makes STAGE/modules, a full copy of the installed Dovecot's module folder with
# the modules in BUILT in place of the packaged mail_crypt ones, and their core in a folder inside it.
#
# Copies, not links: the folder gets bound over the installed one. Environment: MODULES (files below
# BUILT), CORE, STAGED (the core's place below modules), MODULEDIR (the installed folder).
# The last line printed is the folder's path.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
built=${1:?} stage=${2:?}

# Dovecot's processes run as other users, and have to read it.
umask 022
[ -d "$MODULEDIR" ] || die "no module folder at $MODULEDIR"
mkdir -p "$stage/modules"
exec 9>"$stage/.lock"
flock 9

# Made beside the old one, then exchanged file by file: the folder itself stays, because a private
# Dovecot that is still running may have it mounted.
new=$(mktemp -d "$stage/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
cp -rL "$MODULEDIR/." "$new/"
for file in $PACKAGED_MODULES; do
    rm -f "$new/$file" "$new/$file.distrib"
done
for file in $MODULES; do
    install -D -m 755 "$built/$file" "$new/$file"
done
install -D -m 755 "$CORE" "$new/$STAGED"
chmod -R u+w,a+rX "$new"

(cd "$stage/modules" && find . -type f) | while read -r file; do
    [ -e "$new/$file" ] || rm "$stage/modules/$file"
done
(cd "$new" && find . -type d) | while read -r folder; do
    mkdir -p "$stage/modules/$folder"
done
(cd "$new" && find . -type f) | while read -r file; do
    cmp -s "$new/$file" "$stage/modules/$file" || mv -f "$new/$file" "$stage/modules/$file"
done

say "ours: $MODULES" >&2
printf '%s\n' "$stage/modules"
