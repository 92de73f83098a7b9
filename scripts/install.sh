#!/usr/bin/env bash
# install.sh install|uninstall: puts our modules in place of the packaged mail_crypt ones, and back.
#
# With DESTDIR the files are only laid there. Without, the packaged files are first moved aside to
# NAME.distrib, through dpkg-divert where there is one, so that an upgrade of Dovecot doesn't overwrite ours.
# The offline tool and the manual pages go where no package puts files.
# Environment: DESTDIR, COREDIR, MODULEDIR; to install also BUILT (the folder of what was built), MODULES (files below
# modules in there), SONAME, BINDIR, MANDIR.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

action=${1:?install.sh install|uninstall}
moduledir=${DESTDIR:-}$MODULEDIR
coredir=${DESTDIR:-}$COREDIR
# What we put there, one absolute path (without DESTDIR) a line.
manifest=$coredir/manifest
umask 022

if [ -z "${DESTDIR:-}" ]; then
    [ "$(id -u)" -eq 0 ] || die "make $action without DESTDIR needs root"
fi
have_divert() { command -v dpkg-divert >/dev/null && [ -d /var/lib/dpkg ]; }
ours() { [ -e "$manifest" ] && grep -qxF "$1" "$manifest"; }

# put_aside FILE: FILE.distrib holds what the package brought, now and after upgrades.
put_aside() {
    if have_divert; then
        dpkg-divert --local --rename --divert "$1.distrib" --add "$1" >/dev/null
    elif [ -e "$1" ] && [ ! -e "$1.distrib" ] && ! ours "$1"; then
        mv "$1" "$1.distrib"
    fi
}

# bring_back FILE: undoes put_aside. FILE itself is already gone.
bring_back() {
    if have_divert; then
        if [ "$(dpkg-divert --truename "$1")" = "$1.distrib" ]; then
            dpkg-divert --local --rename --divert "$1.distrib" --remove "$1" >/dev/null
        fi
    elif [ -e "$1.distrib" ]; then
        mv "$1.distrib" "$1"
    fi
}

# The packaged files that exist here: not every Dovecot has all of them.
packaged_here() {
    local file
    for file in $PACKAGED_MODULES; do
        file=$MODULEDIR/$file
        if [ -e "$file" ] || [ -e "$file.distrib" ] || [[ " ${MODULES:-} " == *" ${file#"$MODULEDIR"/} "* ]]; then
            printf '%s\n' "$file"
        fi
    done
}

# What was built besides modules: from, a tab, to.
extras() {
    local page
    printf '%s\t%s\n' "$BUILT/bin/mail-crypt" "$BINDIR/mail-crypt"
    for page in "$BUILT"/man/*; do
        printf '%s\t%s\n' "$page" "$MANDIR/man${page##*.}/${page##*/}"
    done
}

do_install() {
    local file core
    core=$BUILT/libmail_crypt_core.so
    [ -r "$core" ] && [ -x "$BUILT/bin/mail-crypt" ] || die "nothing built: run 'make' first"
    for file in $MODULES; do
        [ -r "$BUILT/modules/$file" ] || die "$BUILT/modules/$file is not there: run 'make' first"
        grep -qF "$COREDIR" "$BUILT/modules/$file" ||
            die "$BUILT/modules/$file was built for another COREDIR: run 'make COREDIR=$COREDIR' first"
    done

    # Everything is on its disk before the first name changes, so that a running server sees either
    # the packaged modules or ours, but for the instant of the renames.
    mkdir -p "$coredir"
    install -m 755 "$core" "$coredir/.$SONAME.new"
    mv -f "$coredir/.$SONAME.new" "$coredir/$SONAME"
    for file in $MODULES; do
        install -D -m 755 "$BUILT/modules/$file" "$moduledir/$(dirname "$file")/.${file##*/}.new"
    done

    if [ -z "${DESTDIR:-}" ]; then
        trap 'do_uninstall' ERR
        for file in $(packaged_here); do put_aside "$file"; done
    fi
    # What an earlier version put there and this one doesn't know.
    for file in $PACKAGED_MODULES; do
        if ours "$MODULEDIR/$file" && [[ " $MODULES " != *" $file "* ]]; then rm -f "$moduledir/$file"; fi
    done
    {
        printf '%s\n' "$COREDIR/$SONAME"
        for file in $MODULES; do printf '%s\n' "$MODULEDIR/$file"; done
        extras | cut -f2
    } >"$manifest"
    extras | while IFS=$'\t' read -r from to; do
        install -D -m "$([ -x "$from" ] && echo 755 || echo 644)" "$from" "${DESTDIR:-}$to"
    done
    for file in $MODULES; do
        mv -f "$moduledir/$(dirname "$file")/.${file##*/}.new" "$moduledir/$file"
    done
    trap - ERR
    say "installed: $MODULES, with the core in $COREDIR"
    if [ -z "${DESTDIR:-}" ]; then
        say "the packaged mail_crypt is put aside as *.distrib; 'make uninstall' brings it back"
        say "restart Dovecot: processes that run keep the modules that they loaded"
    fi
}

do_uninstall() {
    local file
    trap - ERR
    for file in $PACKAGED_MODULES; do
        rm -f "$moduledir/$(dirname "$file")/.${file##*/}.new"
        if ours "$MODULEDIR/$file"; then rm -f "$moduledir/$file"; fi
        if [ -z "${DESTDIR:-}" ]; then bring_back "$MODULEDIR/$file"; fi
    done
    if [ -e "$manifest" ]; then
        while read -r file; do
            case $file in
                "$MODULEDIR"/* | "$COREDIR"/*) ;;
                *) rm -f "${DESTDIR:-}$file" ;;
            esac
        done <"$manifest"
    fi
    # The core last: until now some module may still have been loaded against it.
    rm -f "$manifest" "$coredir"/libmail_crypt_core.so.*
    rmdir "$coredir" 2>/dev/null || true
    say "uninstalled"
}

case $action in
    install) do_install ;;
    uninstall) do_uninstall; [ -n "${DESTDIR:-}" ] || say "restart Dovecot: processes that run keep the modules that they loaded" ;;
    *) die "unknown action '$action'" ;;
esac
