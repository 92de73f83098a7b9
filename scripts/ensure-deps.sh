#!/usr/bin/env bash
# Installs what a step needs and the machine lacks:
# ensure-deps.sh bench|bench-count|bench-micro|build|chaos|chart|check|deb|demo|docker|fuzz|memcheck|test
#
# On Debian and its kin through apt-get (sudo when not root), saying what and why; nothing is called
# when all is there. Elsewhere it only says what is needed. DEPS=no turns it off.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

step=${1:?ensure-deps.sh bench|bench-count|bench-micro|build|chaos|chart|check|deb|demo|docker|fuzz|memcheck|test}
[ "${DEPS:-yes}" != no ] || exit 0

# dovecot-dev has the headers; the libraries that the core is linked with are in dovecot-core, which it doesn't depend on.
packages=(gcc libc6-dev make pkg-config libssl-dev libclang-dev dovecot-core dovecot-dev ca-certificates scdoc)
demo=(dovecot-imapd dovecot-lmtpd dovecot-pop3d python3 python3-cryptography util-linux)
optional=()
case $step in
    build) ;;
    check) packages+=(git shellcheck) ;;
    deb) packages+=(build-essential debhelper dpkg-dev lintian) ;;
    bench | chaos | demo) packages+=("${demo[@]}") ;;
    chart) packages=(python3 python3-matplotlib) ;;
    bench-micro) packages+=(openssl python3) ;;
    bench-count | memcheck) packages+=("${demo[@]}" libc6-dbg valgrind) ;;
    test) packages+=("${demo[@]}" dovecot-sieve python3-pytest python3-pytest-xdist
        python3-pytest-timeout openssl strace)
        # Plugins that are tried beside ours; a Debian that lacks one, or has it for another Dovecot, goes without.
        optional=(dovecot-auth-lua dovecot-flatcurve dovecot-fts-xapian dovecot-sqlite) ;;
    # Only the pure part is fuzzed. libFuzzer is C++.
    fuzz) packages=(g++ libc6-dev make pkg-config libssl-dev ca-certificates) ;;
    # The engine itself is the machine's own affair.
    docker)
        packages=(ca-certificates debootstrap git python3 python3-cryptography python3-pytest python3-pytest-timeout)
        command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || packages+=(docker-compose) ;;
    *) die "unknown step '$step'" ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    [ -n "$(cargo_dir)" ] || die "cargo and rustc >= $(msrv) are needed"
    [[ $step =~ ^(chart|docker|fuzz)$ ]] || [ -n "$(dovecot_config_file)" ] || die "Dovecot's development files are needed (dovecot-config, headers)"
    exit 0
fi

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p'; }

# Can it be had, with what is to be installed anyway?
installable() {
    [ -n "$(candidate "$1")" ] &&
        apt-get -qq --simulate --no-remove --no-install-recommends install "${missing[@]}" "$1" >/dev/null 2>&1
}

# add_optional: what is lacking of the optional packages and can be had becomes missing.
add_optional() {
    local package
    for package in "${optional[@]}"; do
        [[ " ${missing[*]} " == *" $package "* ]] || installed "$package" || ! installable "$package" || missing+=("$package")
    done
}

# What cargo fmt and cargo clippy are in, where cargo itself is a package; a cargo of another origin brings its own.
lint_packages() {
    local dir
    dir=$(cargo_dir)
    if [ -n "$dir" ] && { [ "$dir" != /usr/bin ] || { [ -x "$dir/cargo-fmt" ] && [ -x "$dir/cargo-clippy" ]; }; }; then
        return
    fi
    case $(dpkg-query -W -f '${db:Status-Status} ${Package}' cargo-web cargo 2>/dev/null)" ${missing[*]}" in
        *"installed cargo-web"* | *" cargo-web"*) echo "rustfmt-web rust-web-clippy" ;;
        *) echo "rustfmt rust-clippy" ;;
    esac
}

missing=()
for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
done
add_optional
want_cargo=no
[ -n "$(cargo_dir)" ] || want_cargo=yes
if [ "$step" = check ] && [ $want_cargo = no ]; then
    # shellcheck disable=SC2207
    missing+=($(lint_packages))
fi
[ ${#missing[@]} -gt 0 ] || [ $want_cargo = yes ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        die "not root and no sudo; needed: ${missing[*]}$([ $want_cargo = no ] || echo " and cargo >= $(msrv)")"
    as_root=(sudo)
fi

# Dovecot's packages start the service right after they are unpacked. Who only builds, tries or tests
# doesn't want a mail server on all interfaces, so the start is denied as long as apt-get runs.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    "${as_root[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}

say "refreshing the list of packages (apt-get update)"
apt update >/dev/null || say "apt-get update failed; going on with the lists at hand"
add_optional

if [ $want_cargo = yes ]; then
    # Debian 12 has its current Rust under a name of its own; from Debian 13 the plain one is enough.
    for suffix in "" -web; do
        version=$(candidate "cargo$suffix")
        if [ -n "$version" ] && at_least "$version" "$(msrv)"; then
            missing+=("cargo$suffix" "rustc$suffix")
            break
        fi
        version=
    done
    [ -n "$version" ] || die "no cargo >= $(msrv) on PATH and none in the packages: see https://rustup.rs"
fi
if [ "$step" = check ] && [ $want_cargo = yes ]; then
    # shellcheck disable=SC2207
    missing+=($(lint_packages))
fi

say "installing for 'make $step': ${missing[*]}"
# Never removes anything: an old rustc that is in the way is the administrator's to decide about.
apt install -y --no-remove --no-install-recommends "${missing[@]}" >/dev/null
if [[ " ${missing[*]} " == *" dovecot-"* ]]; then
    say "the system's own Dovecot was not started now; on the next boot it is, unless: systemctl disable dovecot"
fi
