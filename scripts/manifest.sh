# What `make install` has put on this system, so that `make uninstall` needs nothing else to take it back. Sourced by
# install.sh, with DESTDIR and STATEDIR set.
# shellcheck shell=bash
#
# One entry a line, its fields separated by tabs; paths are absolute, without DESTDIR:
#   moduledir PATH        the module folder of the Dovecot that it was installed into
#   coredir PATH          the core's folder
#   dovecot PATH          the file that says which ABI that Dovecot has
#   folder PATH           a folder that wasn't there before
#   file PATH SHA256      a file of ours
#   aside PATH SHA256 ABI a packaged file that lies at PATH.distrib (only without dpkg, which knows by itself)
manifest=${DESTDIR:-}$STATEDIR/manifest

checksum() { sha256sum <"$1" | cut -d' ' -f1; }

# entries KIND: the paths of these entries, in their order, each once.
entries() {
    [ ! -e "$manifest" ] || awk -F'\t' -v kind="$1" '$1 == kind && !seen[$2]++ { print $2 }' "$manifest"
}

# has_entry FIELD..: is there this entry?
has_entry() {
    local IFS=$'\t'
    [ -e "$manifest" ] && grep -qxF -- "$*" "$manifest"
}

# entry FIELD..: prints one.
entry() {
    local IFS=$'\t'
    printf '%s\n' "$*"
}

# ours PATH: is what lies there what we put there?
ours() { [ -f "${DESTDIR:-}$1" ] && has_entry file "$1" "$(checksum "${DESTDIR:-}$1")"; }

# write_manifest: from standard input; what is there is replaced as a whole.
write_manifest() {
    mkdir -p "${manifest%/*}"
    { echo "# What 'make install' of dovecot-mail-crypt has put here. 'make uninstall' goes by it."; cat; } >"$manifest.new"
    mv -f "$manifest.new" "$manifest"
}

# names_core FILE: is it a module that needs our core?
names_core() { grep -qF libmail_crypt_core.so "$1" 2>/dev/null; }

# The module folders that may be meant where there is no manifest: the one that is named, and those with diversions.
module_folders() {
    [ -z "$MODULEDIR" ] || printf '%s\n' "$MODULEDIR"
    if have_divert; then
        dpkg-divert --list '*/lib10_mail_crypt_plugin.so' |
            sed -n 's|^local diversion of \(/.*\)/lib10_mail_crypt_plugin\.so to .*\.distrib$|\1|p'
    fi
}

# Makes a manifest where there is none, of what can be told to be ours: installed before there were checksums, or its
# manifest was lost. Such a list of paths lay in the core's folder.
adopt() {
    local modules core file
    modules=$(module_folders | while read -r modules; do
        for file in $PACKAGED_MODULES; do
            if names_core "${DESTDIR:-}$modules/$file"; then printf '%s\n' "$modules"; break; fi
        done
    done | sed -n 1p)
    [ -n "$modules" ] || return 0
    core=$(cd "${DESTDIR:-}$modules/../.." && pwd)/dovecot-mail-crypt
    core=${COREDIR:-${core#"${DESTDIR:-}"}}
    {
        entry moduledir "$modules"
        entry coredir "$core"
        {
            for file in $PACKAGED_MODULES; do
                if names_core "${DESTDIR:-}$modules/$file"; then printf '%s\n' "$modules/$file"; fi
            done
            # No package has a file of this name, and it needs no core to tell it by.
            printf '%s\n' "$modules/settings/libmail_crypt_settings.so"
            for file in "${DESTDIR:-}$core"/libmail_crypt_core.so.*; do printf '%s\n' "${file#"${DESTDIR:-}"}"; done
            grep -v "^$modules/" "${DESTDIR:-}$core/manifest" 2>/dev/null || true
            printf '%s\n' "$core/manifest"
        } | sort -u | while read -r file; do
            if [ -f "${DESTDIR:-}$file" ]; then entry file "$file" "$(checksum "${DESTDIR:-}$file")"; fi
        done
    } | write_manifest
}
