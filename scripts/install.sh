#!/usr/bin/env bash
# install.sh install|uninstall: puts our modules in place of the packaged mail_crypt ones, and back.
#
# With DESTDIR the files are only laid there. Without, the packaged files are first moved aside to
# NAME.distrib, through dpkg-divert where there is one, so that an upgrade of Dovecot doesn't overwrite ours.
# The offline tool and the manual pages go where no package puts files. What was put where stands in
# STATEDIR/manifest; only what still is as it was put there is ever removed.
# Environment: DESTDIR, STATEDIR, COREDIR, MODULEDIR (the last two may be empty for uninstall); to install also
# BUILT (the folder of what was built), MODULES (files below modules in there), SONAME, BINDIR, MANDIR, PKGLIBDIR.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/manifest.sh

action=${1:?install.sh install|uninstall}
root=${DESTDIR:-}
umask 022

if [ -z "$root" ]; then
    [ "$(id -u)" -eq 0 ] || die "make $action without DESTDIR needs root"
fi
have_divert() { [ -z "$root" ] && command -v dpkg-divert >/dev/null && [ -d /var/lib/dpkg ]; }

# refuse_package: a package of ours has diverted Dovecot's files, and dpkg knows ours by their names. Only apt may change that.
refuse_package() {
    local package
    have_divert || return 0
    package=$(dpkg-divert --list '*/lib10_mail_crypt_plugin.so' | sed -n 's/^diversion of .* by \(.*\)$/\1/p' | sed -n 1p)
    [ -z "$package" ] || die "the package $package is installed: 'apt remove $package' takes it back. Nothing was changed"
}

# ---- Which Dovecot -----------------------------------------------------------------------------

# abi FILE: the ABI of the Dovecot that this was built with, 2.3.ABIv19(2.3.19.1) or 2.4.ABIv1; empty if it doesn't say.
abi() { { grep -aoE '[0-9]+\.[0-9]+\.ABIv[0-9]+(\([^)]*\))?' "$1" 2>/dev/null || true; } | sed -n 1p; }

# The file in which the installed Dovecot says what it compares a module's ABI with; empty if there is none.
abi_file() {
    local file
    for file in "$PKGLIBDIR"/libdovecot-storage.so{.*,} "${MODULEDIR%/*}"/libdovecot-storage.so{.*,}; do
        if [ -n "$(abi "$file")" ]; then printf '%s\n' "$file"; return; fi
    done
}

# Modules of one release in a Dovecot of another are mail that can't be read or delivered.
check_abi() {
    local file have want
    have=$(abi_file)
    if [ -z "$have" ]; then
        [ -n "$root" ] || die "no libdovecot-storage.so beside $MODULEDIR: can't tell whether it is the Dovecot that was built for"
        return 0
    fi
    have=$(abi "$have")
    for file in $MODULES; do
        want=$(abi "$BUILT/modules/$file")
        [ "$want" = "$have" ] || die "$file was built for Dovecot ${want:-?}, but installed is $have: nothing was changed.
       Install the development files of the Dovecot that runs (dovecot-dev), and run 'make' again"
    done
}

# ---- The packaged files ------------------------------------------------------------------------

# put_aside FILE: FILE.distrib holds what the package brought, now and after upgrades.
put_aside() {
    if have_divert; then
        [ "$(dpkg-divert --truename "$1")" != "$1.distrib" ] || return 0
        # Where ours lies there already, there is nothing to move.
        dpkg-divert --local "$(ours "$1" && echo --no-rename || echo --rename)" --divert "$1.distrib" --add "$1" >/dev/null
    elif [ -e "$1" ] && ! ours "$1"; then
        mv -f "$1" "$1.distrib"
    fi
}

# bring_back FILE: undoes put_aside. If there still is a FILE, it isn't ours.
bring_back() {
    if have_divert; then
        [ "$(dpkg-divert --truename "$1")" = "$1.distrib" ] || return 0
        if [ -e "$1" ] && [ -e "$1.distrib" ]; then
            say "left alone: $1 is not what was installed; the packaged file stays $1.distrib"
        else
            dpkg-divert --local --rename --divert "$1.distrib" --remove "$1" >/dev/null
        fi
    elif [ -e "$1.distrib" ] && [ -z "$root" ]; then
        bring_back_without_dpkg "$1"
    fi
}

# An upgrade has put a new file there, or has left the one that lies aside behind.
bring_back_without_dpkg() {
    local abi_now="" from
    from=$(entries dovecot | sed -n 1p)
    [ -z "$from" ] || abi_now=$(abi "$from")
    if [ ! -e "$1" ] && { [ -z "$(entry_abi "$1")" ] || [ "$(entry_abi "$1")" = "$abi_now" ]; }; then
        mv "$1.distrib" "$1"
    elif has_entry aside "$1" "$(checksum "$1.distrib")" "$(entry_abi "$1")"; then
        say "removed: $1.distrib is of an earlier Dovecot"
        rm -f "$1.distrib"
    else
        say "left alone: $1.distrib is not what was put aside"
    fi
}

# The ABI of the Dovecot whose file was put aside; empty if that isn't known.
entry_abi() { [ ! -e "$manifest" ] || awk -F'\t' -v path="$1" '$1 == "aside" && $2 == path { print $4; exit }' "$manifest"; }

# The packaged files that exist here: not every Dovecot has all of them.
packaged_here() {
    local file
    for file in $PACKAGED_MODULES; do
        file=$MODULEDIR/$file
        if [ -e "$file" ] || [ -e "$file.distrib" ] || [[ " $MODULES " == *" ${file#"$MODULEDIR"/} "* ]]; then
            printf '%s\n' "$file"
        fi
    done
}

# The entries of what lies aside: it may have been put there now, or before an upgrade.
aside_entries() {
    local file sum
    ! have_divert || return 0
    for file in $PACKAGED_MODULES; do
        file=$MODULEDIR/$file
        [ -e "$file.distrib" ] || continue
        sum=$(checksum "$file.distrib")
        if has_entry aside "$file" "$sum" "$(entry_abi "$file")"; then
            entry aside "$file" "$sum" "$(entry_abi "$file")"
        else
            entry aside "$file" "$sum" "$(abi "$(abi_file)")"
        fi
    done
}

# ---- Installing --------------------------------------------------------------------------------

# What goes where: from, a tab, to.
plan() {
    local file
    printf '%s\t%s\n' "$BUILT/libmail_crypt_core.so" "$COREDIR/$SONAME"
    for file in $MODULES; do printf '%s\t%s\n' "$BUILT/modules/$file" "$MODULEDIR/$file"; done
    printf '%s\t%s\n' "$BUILT/bin/mail-crypt" "$BINDIR/mail-crypt"
    for file in "$BUILT"/man/*; do
        printf '%s\t%s\n' "$file" "$MANDIR/man${file##*.}/${file##*/}"
    done
}

# The name under which a file waits in its folder.
waiting() { printf '%s/.%s.new\n' "${1%/*}" "${1##*/}"; }

# The folders that are missing on the way to PATH, the outermost first.
missing_folders() {
    local folder=${1%/*}
    [ -d "$root$folder" ] || [ -z "$folder" ] || { missing_folders "$folder"; printf '%s\n' "$folder"; }
}

check_built() {
    local file
    [ -r "$BUILT/libmail_crypt_core.so" ] && [ -x "$BUILT/bin/mail-crypt" ] || die "nothing built for this Dovecot: run 'make' first"
    [ -n "$MODULEDIR" ] || die "no dovecot-config says where modules belong: install dovecot-dev, or set DOVECOT_CONFIG"
    for file in $MODULES; do
        [ -r "$BUILT/modules/$file" ] || die "$BUILT/modules/$file is not there: run 'make' first"
        [ "${file%/*}" != settings ] || continue
        grep -qF "$COREDIR" "$BUILT/modules/$file" ||
            die "$BUILT/modules/$file was built for another COREDIR: run 'make COREDIR=$COREDIR' first"
    done
}

# Everything is on its disk before the first name changes, so that a running server sees either the packaged modules
# or ours, but for the instant of the renames.
lay_beside() {
    local from to
    while IFS=$'\t' read -r from to; do
        install -D -T -m "$([ -x "$from" ] && echo 755 || echo 644)" "$from" "$root$(waiting "$to")"
    done < <(plan)
}

# Removes folders that were made for us, the outermost last, where nothing is in them.
remove_empty() {
    local folder
    tac | while read -r folder; do rmdir "$root$folder" 2>/dev/null || true; done
}

clear_waiting() {
    local to
    while read -r to; do rm -f "$root$(waiting "$to")" || true; done
}

# new_entries: those of this installation. Folders that an earlier one made are still ours.
new_entries() {
    local from to
    entry moduledir "$MODULEDIR"
    entry coredir "$COREDIR"
    entry dovecot "$(abi_file)"
    while read -r to; do entry folder "$to"; done <<<"$folders"
    while IFS=$'\t' read -r from to; do entry file "$to" "$(checksum "$from")"; done < <(plan)
}

do_install() {
    local from to folders
    check_built
    check_abi
    [ -e "$manifest" ] || adopt
    folders=$({ entries folder; plan | while IFS=$'\t' read -r from to; do missing_folders "$to"; done; } | awk 'NF && !seen[$0]++')
    trap 'plan | cut -f2 | clear_waiting; remove_empty <<<"$folders"; die "nothing was installed"' ERR
    lay_beside

    # From here on the manifest knows both, what was there before and what comes: whatever happens, uninstall undoes it.
    { new_entries; grep -v '^#' "$manifest" 2>/dev/null || true; } | write_manifest
    trap 'trap - ERR; do_uninstall; die "nothing is installed, the packaged mail_crypt is back"' ERR
    if [ -z "$root" ]; then
        for to in $(packaged_here); do put_aside "$to"; done
    fi
    while IFS=$'\t' read -r from to; do mv -fT "$root$(waiting "$to")" "$root$to"; done < <(plan)
    remove_obsolete
    { new_entries; [ -n "$root" ] || aside_entries; } | write_manifest
    trap - ERR
    say "installed: $MODULES, with the core in $COREDIR"
    if [ -z "$root" ]; then
        say "the packaged mail_crypt is put aside as *.distrib; 'make uninstall' brings it back"
        say "restart Dovecot: processes that run keep the modules that they loaded"
    fi
}

# What an earlier installation put there and this one doesn't, maybe for a Dovecot that lies elsewhere.
remove_obsolete() {
    local file old
    entries file | while read -r file; do
        if ! plan | cut -f2 | grep -qxF "$file" && ours "$file"; then rm -f "$root$file"; fi
    done
    entries moduledir | while read -r old; do
        [ "$old" != "$MODULEDIR" ] || continue
        for file in $PACKAGED_MODULES; do bring_back "$old/$file"; done
    done
}

# ---- Uninstalling ------------------------------------------------------------------------------

# The core last: until then some module may still be loaded against it.
our_files() { entries file | { grep -v /libmail_crypt_core || true; }; entries file | { grep /libmail_crypt_core || true; }; }

do_uninstall() {
    local file folder moduledir
    [ -e "$manifest" ] || adopt
    if [ ! -e "$manifest" ]; then
        [ -n "$MODULEDIR" ] || die "no $manifest, and no dovecot-config says where modules are: set MODULEDIR"
        say "nothing of ours is installed in $MODULEDIR"
        return
    fi
    our_files | while read -r file; do
        if ours "$file"; then
            rm -f "$root$file"
        elif [ -e "$root$file" ]; then
            say "left alone: $file is not what was installed"
        fi
    done
    entries file | clear_waiting
    for moduledir in $(entries moduledir); do
        for file in $PACKAGED_MODULES; do bring_back "$moduledir/$file"; done
    done
    # Dovecot may be gone, and its folders kept only by what was in them.
    { entries moduledir | while read -r folder; do printf '%s\n' "${folder%/*}" "$folder" "$folder/doveadm" "$folder/settings"; done
      entries folder
      entries coredir
    } | remove_empty
    rm -f "$manifest"
    rmdir "$root$STATEDIR" 2>/dev/null || true
    say "uninstalled"
    [ -n "$root" ] || say "restart Dovecot: processes that run keep the modules that they loaded"
}

refuse_package
case $action in
    install) do_install ;;
    uninstall) do_uninstall ;;
    *) die "unknown action '$action'" ;;
esac
