#!/usr/bin/env bash
# Installs for real and takes it back, and proves that nothing else changed. Called by `make test-install`.
#
# As root it happens in a private mount namespace, over copies of the folders that an installation touches:
# the system itself never sees it. Where namespaces are denied (plain containers), it happens on the system
# only if CI=true says that the machine is there to be used up. An ordinary user can only try DESTDIR.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/cover.sh

moduledir=$(dovecot_config dovecot_moduledir)
libdir=$(dirname "$(dovecot_config dovecot_pkglibdir)")
coredir=$libdir/dovecot-mail-crypt
statedir=/var/lib/dovecot-mail-crypt
built=$(make -s build-folder)

# Every file below a folder: mode, owner, checksum, name.
inventory() {
    (cd "$1" && find . -type f -printf '%m %u:%g ' -exec sha256sum {} \; | sort -k4)
}
expect_same() { diff -u "$1" "$2" || die "$3"; }
our_modules() { (cd "$built/modules" && find . -type f -name '*.so' | sort); }

try_destdir() {
    local dest=$work/dest
    make -s install DESTDIR="$dest" >/dev/null
    (cd "$dest" && find . ! -type d | sort) >"$work/laid"
    { our_modules | sed "s|^\.|.$moduledir|"
      printf '%s\n' ".$coredir/libmail_crypt_core.so.0" ".$statedir/manifest" ./usr/local/bin/mail-crypt
      find "$built/man" -type f -printf './usr/local/share/man/man%f/%f\n' | sed 's|/man[^/]*\.\([1-8]\)/|/man\1/|'; } | sort >"$work/wanted"
    expect_same "$work/wanted" "$work/laid" "DESTDIR: other files than ours were laid there"
    make -s uninstall DESTDIR="$dest" >/dev/null
    [ -z "$(find "$dest" ! -type d)" ] || die "DESTDIR: uninstall left files"
    say "ok: DESTDIR gets exactly our files, and loses them again"
}

check_installed() {
    local file
    our_modules | while read -r file; do
        cmp "$built/modules/$file" "$moduledir/$file" || die "$file is not ours"
        [ "${file%/*}" != ./settings ] || continue
        ldd "$moduledir/$file" | grep "$coredir/libmail_crypt_core.so.0" >/dev/null || die "$file doesn't find its core"
    done
    for file in $PACKAGED_MODULES; do
        [ -e "$built/modules/$file" ] || [ ! -e "$moduledir/$file" ] || die "the packaged $file is mixed with ours"
    done
    # All that is not mail_crypt is as it was, and the packaged files are all there, aside.
    inventory "$moduledir" | sed 's/\.distrib$//' | sort -u >"$work/now"
    comm -23 "$work/before" "$work/now" >"$work/lost"
    [ ! -s "$work/lost" ] || { cat "$work/lost"; die "these packaged files were changed or lost"; }
    verify_packages
}

# dpkg knows about diversions: a package whose file was overwritten shows up here.
verify_packages() {
    command -v dpkg-divert >/dev/null || return 0
    dpkg -V dovecot-core >"$work/verify" || true
    ! grep "$moduledir" "$work/verify" || die "dpkg finds changed files"
}

try_system() {
    make -s uninstall >/dev/null 2>&1 || true
    inventory "$moduledir" | sort -u >"$work/before"
    folders >"$work/folders"
    make -s install >/dev/null
    check_installed
    say "ok: ours are in place, the packaged files aside, all others untouched"
    make -s install >/dev/null
    check_installed
    say "ok: installing again changes nothing"
    make -s uninstall >/dev/null
    check_uninstalled
    say "ok: after uninstall everything is as before, to the byte"
    try_another_abi
    try_failure
    try_without_development_files
    try_lost_manifest
    try_changed_file
    try_without_dpkg
}

# The folders that an installation may make.
folders() { { find "$libdir/dovecot" "$coredir" "$statedir" /usr/local -type d 2>/dev/null || true; } | sort; }

check_uninstalled() {
    inventory "$moduledir" | sort -u >"$work/after"
    expect_same "$work/before" "$work/after" "uninstall did not bring the packaged files back as they were"
    expect_same "$work/folders" <(folders) "uninstall left or removed folders"
    [ ! -e /usr/local/bin/mail-crypt ] || die "uninstall left the tool"
    ! dpkg-divert --list 2>/dev/null | grep "$moduledir" || die "uninstall left diversions"
    verify_packages
}

# with_abi FROM TO COMMAND..: runs it while the installed Dovecot says that its ABI is another.
with_abi() {
    local library code=0
    library=$(readlink -f "$libdir/dovecot/libdovecot-storage.so.0")
    cp -a "$library" "$work/library"
    sed "s/$1\.ABI/$2.ABI/" "$work/library" >"$work/changed"
    ! cmp -s "$work/library" "$work/changed" || die "$library doesn't say its ABI"
    cat "$work/changed" >"$library"
    shift 2
    "$@" || code=$?
    cp -a "$work/library" "$library"
    return $code
}

try_another_abi() {
    local line
    line=$(dovecot_line)
    ! with_abi "$line" 9.9 make -s install >"$work/said" 2>&1 || die "installed into a Dovecot with another ABI"
    grep -q "was built for Dovecot $line.* but installed is 9.9.ABI" "$work/said" || { cat "$work/said"; die "why?"; }
    check_uninstalled
    make -s install >/dev/null
    ! with_abi "$line" 9.9 make -s install >"$work/said" 2>&1 || die "installed into a Dovecot with another ABI"
    check_installed
    make -s uninstall >/dev/null
    check_uninstalled
    say "ok: another ABI is refused, and nothing is changed"
}

# A file that can't be laid, first where nothing has been changed yet, then in the middle.
try_failure() {
    mkdir -p /usr/local/bin/.mail-crypt.new/in-the-way
    ! make -s install >/dev/null 2>&1 || die "what can't be done was said to be done"
    rm -r /usr/local/bin/.mail-crypt.new
    check_uninstalled
    mkdir -p /usr/local/bin/mail-crypt/in-the-way
    ! make -s install >/dev/null 2>&1 || die "what can't be done was said to be done"
    rm -r /usr/local/bin/mail-crypt
    check_uninstalled
    say "ok: an installation that fails leaves everything as it was"
}

try_without_development_files() {
    make -s install >/dev/null
    make -s uninstall DOVECOT_CONFIG="$work/none" >/dev/null
    check_uninstalled
    ! make -s uninstall DOVECOT_CONFIG="$work/none" >/dev/null 2>&1 || die "says uninstalled, without knowing from where"
    say "ok: uninstall needs no dovecot-config, and says when it can't know what to do"
}

# Nor the manifest, or only the list of names that once lay in the core's folder.
try_lost_manifest() {
    local page
    make -s install >/dev/null
    sed -n 's/^file\t\([^\t]*\)\t.*/\1/p' "$statedir/manifest" >"$coredir/manifest"
    rm -r "$statedir"
    make -s uninstall >/dev/null
    # Whose folders these were is not known then.
    rmdir /usr/local/share/man/man[17] 2>/dev/null || true
    check_uninstalled
    make -s install >/dev/null
    rm -r "$statedir" /usr/local/bin/mail-crypt
    for page in "$built"/man/*; do rm "/usr/local/share/man/man${page##*.}/${page##*/}"; done
    make -s uninstall DOVECOT_CONFIG="$work/none" >/dev/null
    rmdir /usr/local/share/man/man[17] 2>/dev/null || true
    check_uninstalled
    say "ok: ours are told by themselves where the manifest is lost"
}

# What somebody else has put in the place of ours is never removed or overwritten by a file that lay aside.
try_changed_file() {
    make -s install >/dev/null
    echo "another tool" >/usr/local/bin/mail-crypt
    make -s uninstall >/dev/null
    [ "$(cat /usr/local/bin/mail-crypt)" = "another tool" ] || die "another tool was removed"
    rm /usr/local/bin/mail-crypt
    rmdir /usr/local/bin 2>/dev/null && mkdir /usr/local/bin
    check_uninstalled
    say "ok: what is no longer ours stays"
}

# ---- Without dpkg ------------------------------------------------------------------------------

# Other package managers know of no diversions: an upgrade puts new files over ours, and removes those that are gone.
try_without_dpkg() {
    local changed=$moduledir/lib10_mail_crypt_plugin.so gone=$moduledir/libfs_crypt.so
    cp -as /usr/bin "$work/bin"
    rm "$work/bin/dpkg-divert"
    local PATH=$work/bin:/usr/sbin:/sbin
    ! command -v dpkg-divert >/dev/null || die "dpkg-divert is still there"
    cp -a "$moduledir" "$work/modules"

    make -s install >/dev/null
    check_installed
    make -s install >/dev/null
    check_installed
    make -s uninstall >/dev/null
    check_uninstalled
    say "ok: without dpkg, the packaged files come back, too"

    make -s install >/dev/null
    echo "new release" >"$changed"
    make -s uninstall >/dev/null
    expect_upgraded
    say "ok: without dpkg, a new release's file stays, and the old one doesn't come back"

    make -s install >/dev/null
    echo "new release" >"$changed"
    make -s install >/dev/null
    cmp "$built/modules/${changed##*/}" "$changed" || die "installing again after an upgrade: ours isn't there"
    make -s uninstall >/dev/null
    expect_upgraded
    say "ok: without dpkg, installing again after an upgrade puts the new release's file aside"

    make -s install >/dev/null
    rm "$gone"
    with_abi "$(dovecot_line)" 9.9 make -s uninstall >/dev/null
    [ ! -e "$gone" ] && [ ! -e "$gone.distrib" ] || die "a file that the new release doesn't have came back"
    restore_modules
    say "ok: without dpkg, a file that the new release doesn't have stays away"
}

# Everything as it was, but for the one file of the new release.
expect_upgraded() {
    [ "$(cat "$changed")" = "new release" ] || die "the new release's file is gone"
    restore_modules "${changed##*/}"
}

# restore_modules [FILE]: FILE may be another; nothing else, and nothing may lie aside.
restore_modules() {
    [ -z "$(find "$moduledir" -name '*.distrib' -o -name '.*.new')" ] || die "something was left aside"
    [ $# -eq 0 ] || cp -a "$work/modules/$1" "$moduledir/$1"
    [ $# -gt 0 ] || cp -a "$work/modules/." "$moduledir/"
    check_uninstalled
}

if [ "${1:-}" = --private ]; then
    work=${2:?}
    mount -t tmpfs none "$work"
    cover "$libdir" "$work/cover/lib"
    cover /usr/local "$work/cover/local"
    cover /var/lib "$work/cover/state"
    try_system
    exit
fi

make -s build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
try_destdir
if [ "$(id -u)" -ne 0 ]; then
    say "not root: only DESTDIR was tried"
elif can_cover "$work"; then
    unshare -m "$0" --private "$work"
elif [ "${CI:-}" = true ]; then
    say "no mount namespaces here: installing on this system, and taking it back"
    try_system
else
    die "no mount namespaces here; CI=true lets it happen on this system"
fi
