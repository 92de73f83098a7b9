#!/usr/bin/env bash
# Installs the package that `make deb` has built, and takes it out again, and proves that nothing else changed. Called by
# `make test-deb`. As root, in a private copy of the system's folders where namespaces and overlays are to be had; else on
# the system, if CI=true says that the machine is there to be used up.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/cover.sh

package=dovecot-mail-crypt
moduledir=$(dovecot_config dovecot_moduledir)
release=$(dpkg-query -W -f '${Version}' dovecot-dev | sed -E 's/^([0-9]+:)?([0-9.]*[0-9]).*/\2/')
deb=${DEB:-$PWD/build/deb/${package}_$(crate_version)+dovecot${release}_$(dpkg --print-architecture).deb}

# All that the package may change: mode, owner, size and content or target of each file, and dpkg's diversions.
inventory() {
    find /usr/lib/dovecot /usr/lib/$package /usr/bin /usr/local/bin /usr/share/man /usr/share/doc/$package /var/lib/$package \
        -printf '%y %m %u:%g %p %l\n' 2>/dev/null | sort || true
    find "$moduledir" /usr/share/man/man1 -type f -exec sha256sum {} + | sort
    dpkg-divert --list | grep -F dovecot | sort || true
    dpkg -V dovecot-core || true
}
expect_as_before() { diff -u "$work/before" <(inventory) || die "$1"; }
install_deb() { dpkg -i "$deb" >"$work/said" 2>&1 || { cat "$work/said"; die "dpkg -i failed"; }; }
run_dpkg() { dpkg "$@" >"$work/said" 2>&1 || { cat "$work/said"; die "dpkg $* failed"; }; }

check_installed() {
    local file
    rm -rf "$work/content"
    dpkg-deb -x "$deb" "$work/content"
    (cd "$work/content$moduledir" && find . -type f) | while read -r file; do
        cmp "$work/content$moduledir/$file" "$moduledir/$file" || die "$file is not ours"
        ldd "$moduledir/$file" | grep "/usr/lib/$package/libmail_crypt_core.so.0" >/dev/null || die "$file doesn't find its core"
    done
    for file in $PACKAGED_MODULES; do
        [ -e "$work/content$moduledir/$file" ] || [ ! -e "$moduledir/$file" ] || die "the packaged $file is mixed with ours"
    done
    [ -z "$(dpkg -V dovecot-core $package 2>&1 | grep -v ' /usr/share/\(doc\|man\|locale\)/' || true)" ] || die "dpkg finds changed files"
    [ "$(mail-crypt --version)" = "mail-crypt $(crate_version)" ] || die "mail-crypt --version says $(mail-crypt --version)"
    grep -q '^dovecot .*restart' "$work/asked" || { cat "$work/said" "$work/asked"; die "Dovecot was not asked to restart"; }
    : >"$work/asked"
}

# Between dpkg and a service there is this: nothing is started or stopped here, but who asked for it is known.
deny_services() {
    printf '#!/bin/sh\necho "$1 $2" >>%s\nexit 101\n' "$work/asked" >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
}

try() {
    deny_services
    inventory >"$work/before"
    install_deb
    check_installed
    say "ok: ours are in place, Dovecot's own aside, and Dovecot is restarted"
    install_deb
    check_installed
    say "ok: installing again changes nothing"
    ! make -s install-files >"$work/said" 2>&1 || die "make install went over the package"
    grep -q "the package $package" "$work/said" || { cat "$work/said"; die "why?"; }
    ! make -s uninstall >"$work/said" 2>&1 || die "make uninstall took the package's files"
    grep -q "the package $package" "$work/said" || { cat "$work/said"; die "why?"; }
    install_deb
    check_installed
    say "ok: make install and uninstall leave a package alone"
    run_dpkg --remove $package
    expect_as_before "removal did not bring everything back as it was"
    grep -q '^dovecot .*restart' "$work/asked" || { cat "$work/said" "$work/asked"; die "Dovecot was not asked to restart"; }
    say "ok: after removal everything is as before, to the byte, and Dovecot is restarted"
    install_deb
    run_dpkg --purge $package
    expect_as_before "purging did not bring everything back as it was"
    try_in_the_way
    try_make_install
}

# A file of another origin where Dovecot's own would go.
try_in_the_way() {
    local first=$moduledir/lib05_mail_crypt_acl_plugin.so.distrib
    echo "in the way" >"$first"
    ! dpkg -i "$deb" >"$work/said" 2>&1 || die "installed over a file in the way"
    [ "$(cat "$first")" = "in the way" ] || die "the file in the way was changed"
    rm "$first"
    dpkg --purge $package >/dev/null 2>&1 || true
    expect_as_before "an installation that failed changed something"
    say "ok: an installation that fails leaves everything as it was"
}

try_make_install() {
    [ -e "$(make -s build-folder)/bin/mail-crypt" ] || { say "nothing is built here: not tried beside make install"; return; }
    make -s install >/dev/null
    inventory >"$work/make-installed"
    ! dpkg -i "$deb" >"$work/said" 2>&1 || die "the package went over make install"
    grep -q "make uninstall" "$work/said" || { cat "$work/said"; die "why?"; }
    diff -u "$work/make-installed" <(inventory) || die "a package that was refused changed something"
    make -s uninstall >/dev/null
    dpkg --purge $package >/dev/null 2>&1 || true
    expect_as_before "make uninstall did not bring everything back"
    install_deb
    check_installed
    run_dpkg --purge $package
    expect_as_before "purging did not bring everything back as it was"
    say "ok: the package refuses to go over make install, and goes in after make uninstall"
}

if [ "${1:-}" = --private ]; then
    work=${2:?}
    mount -t tmpfs none "$work"
    for folder in /usr /var /etc; do cover $folder "$work/cover$folder"; done
    try
    exit
fi

[ -r "$deb" ] || die "no $deb: run 'make deb' first"
[ "$(id -u)" -eq 0 ] || die "dpkg needs root"
[ "$(dpkg-query -W -f '${db:Status-Status}' $package 2>/dev/null)" != installed ] || die "$package is installed here: remove it first"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if can_cover "$work"; then
    DEB=$deb unshare -m "$0" --private "$work"
elif [ "${CI:-}" = true ]; then
    say "no mount namespaces here: installing on this system, and taking it back"
    try
else
    die "no mount namespaces here; CI=true lets it happen on this system"
fi
