# Shared by the scripts beside it: where things are, and how to say what goes on.
# shellcheck shell=bash

lib_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The oldest Rust that Cargo.toml promises to build with.
msrv() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml; }

crate_version() { sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml; }

# at_least HAVE WANT: HAVE is the same version or a newer one.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$2" ]; }

# three_times COMMAND..: what fetches from a network may fail and then not
three_times() {
    local try
    for try in 1 2 3; do
        "$@" && return
        say "failed (try $try of 3): $*"
        sleep $((try * 5))
    done
    return 1
}

# The directory of the first cargo on PATH (or Debian's) that is new enough; empty if there is none.
cargo_dir() {
    local dir version
    local -a dirs
    IFS=: read -r -a dirs <<<"$PATH"
    for dir in "${dirs[@]}" "$HOME/.cargo/bin" /usr/bin; do
        [ -x "$dir/cargo" ] && [ -x "$dir/rustc" ] || continue
        version=$("$dir/cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
        if [ -n "$version" ] && at_least "$version" "$(msrv)"; then
            printf '%s\n' "$dir"
            return
        fi
    done
}

# Dovecot's own description of where it is installed; empty if its development files are not there.
dovecot_config_file() {
    local file
    for file in ${DOVECOT_CONFIG:-/usr/lib/dovecot/dovecot-config /usr/lib64/dovecot/dovecot-config \
        /usr/lib/*/dovecot/dovecot-config /usr/local/lib/dovecot/dovecot-config}; do
        [ -r "$file" ] && { printf '%s\n' "$file"; return; }
    done
}

# dovecot_config NAME: one value of that description.
dovecot_config() {
    local file
    file=$(dovecot_config_file)
    [ -n "$file" ] || die "no dovecot-config: install dovecot-dev, or set DOVECOT_CONFIG to the file"
    # The file is written for a shell, and its values contain spaces and nested quotes.
    # shellcheck disable=SC1090
    (. "$file" && eval "printf '%s\n' \"\$$1\"")
}

# The release line of the headers, 2.3 or 2.4; empty if there are none.
dovecot_line() {
    [ -n "$(dovecot_config_file)" ] || return 0
    sed -n 's/^#define PACKAGE_VERSION "\([0-9]*\.[0-9]*\).*/\1/p' "$(dovecot_config dovecot_pkgincludedir)/config.h"
}

short_hash() { sha256sum | cut -c1-8; }

# What a Dovecot is to be told by from all others that are ever installed here: its version, and all that is compiled in.
dovecot_id() {
    local headers version
    [ -n "$(dovecot_config_file)" ] || { echo no-dovecot; return; }
    headers=$(dovecot_config dovecot_pkgincludedir)
    version=$(sed -n 's/^#define PACKAGE_VERSION "\(.*\)"/\1/p' "$headers/config.h")
    printf 'dovecot-%s-%s\n' "$version" "$({
        uname -m
        cat "$(dovecot_config_file)"
        (cd "$headers" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
    } | short_hash)"
}

# cargo_target [NAME]: cargo's folder, below CARGO_TARGET_DIR where that is set: one for each libcrypto and Dovecot, or
# for NAME, which needs no Dovecot. cargo tells by file times whether headers have changed, and packages bring old ones.
cargo_target() {
    local base=${CARGO_TARGET_DIR:-$lib_root/target} name
    name=${1:-$(dovecot_id)}-openssl-$(pkg-config --modversion libcrypto 2>/dev/null || echo unknown)
    case $base in
        */"$name" | */"$name"/*) printf '%s\n' "$base" ;;
        *) printf '%s/%s\n' "$base" "$name" ;;
    esac
}

# The crates come from Cargo.lock, once; containers and package builds have no registry.
vendor_crates() {
    ! cmp -s Cargo.lock vendor/.for || return 0
    say "the crates, into vendor/"
    three_times scripts/cargo vendor --locked --quiet vendor >/dev/null
    cp Cargo.lock vendor/.for
}

# The files of the packaged plugin, below the module folder. One process must never hold modules of
# both, so these come and go together, whichever of them we replace already.
# shellcheck disable=SC2034
PACKAGED_MODULES="
lib10_mail_crypt_plugin.so
lib05_mail_crypt_acl_plugin.so
doveadm/libdoveadm_mail_crypt_plugin.so
libfs_crypt.so
libfs_mail_crypt.so
"
