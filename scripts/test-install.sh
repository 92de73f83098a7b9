#!/usr/bin/env bash
# Installs for real and takes it back, and proves that nothing else changed. Called by `make test-install`.
#
# As root it happens in a private mount namespace, over copies of the folders that an installation touches:
# the system itself never sees it. Where namespaces are denied (plain containers), it happens on the system
# only if CI=true says that the machine is there to be used up. An ordinary user can only try DESTDIR.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

moduledir=$(dovecot_config dovecot_moduledir)
libdir=$(dirname "$(dovecot_config dovecot_pkglibdir)")
coredir=$libdir/dovecot-mail-crypt
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
      printf '%s\n' ".$coredir/libmail_crypt_core.so.0" ".$coredir/manifest" ./usr/local/bin/mail-crypt
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
    command -v dpkg >/dev/null || return 0
    dpkg -V dovecot-core >"$work/verify" || true
    ! grep "$moduledir" "$work/verify" || die "dpkg finds changed files"
}

try_system() {
    make -s uninstall >/dev/null 2>&1 || true
    inventory "$moduledir" | sort -u >"$work/before"
    make -s install >/dev/null
    check_installed
    say "ok: ours are in place, the packaged files aside, all others untouched"
    make -s install >/dev/null
    check_installed
    say "ok: installing again changes nothing"
    make -s uninstall >/dev/null
    inventory "$moduledir" | sort -u >"$work/after"
    expect_same "$work/before" "$work/after" "uninstall did not bring the packaged files back as they were"
    [ ! -e /usr/local/bin/mail-crypt ] || die "uninstall left the tool"
    [ ! -e "$coredir" ] || die "uninstall left $coredir"
    ! dpkg-divert --list 2>/dev/null | grep "$moduledir" || die "uninstall left diversions"
    verify_packages
    say "ok: after uninstall everything is as before, to the byte"
}

# Covers a folder with a writable copy of itself that lives in memory.
cover() {
    mkdir -p "$work/cover/$2/up" "$work/cover/$2/work"
    mount -t overlay -o "lowerdir=$1,upperdir=$work/cover/$2/up,workdir=$work/cover/$2/work" none "$1"
}

if [ "${1:-}" = --private ]; then
    work=${2:?}
    mount -t tmpfs none "$work"
    cover "$libdir" lib
    cover /usr/local local
    [ ! -d /var/lib/dpkg ] || cover /var/lib/dpkg dpkg
    try_system
    exit
fi

# In a container there may be namespaces and yet no overlays.
can_cover() {
    # shellcheck disable=SC2016
    unshare -m sh -c 'mount -t tmpfs none "$1" && cd "$1" && mkdir a b c d &&
        mount -t overlay -o lowerdir=a,upperdir=b,workdir=c none d' sh "$work" 2>/dev/null
}

make -s build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
try_destdir
if [ "$(id -u)" -ne 0 ]; then
    say "not root: only DESTDIR was tried"
elif can_cover; then
    unshare -m "$0" --private "$work"
elif [ "${CI:-}" = true ]; then
    say "no mount namespaces here: installing on this system, and taking it back"
    try_system
else
    die "no mount namespaces here; CI=true lets it happen on this system"
fi
