#!/usr/bin/env bash
# Runs while an image is built: prepare.sh SUITE [PACKAGE..] installs the Dovecot of that suite and what
# `make test` and `make memcheck` need, or only the packages that are named.
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=${1:?}
shift

# Nothing starts by itself, nothing is worth an fsync, and a mirror may fail once.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe-io
printf 'path-exclude /usr/share/%s/*\n' doc man locale >/etc/dpkg/dpkg.cfg.d/small
printf 'Acquire::Retries "5";\nAcquire::http::Timeout "60";\nAcquire::Languages "none";\n' \
    >/etc/apt/apt.conf.d/80mail-crypt
# How the host reaches its mirror holds in here as well.
cat apt.conf >>/etc/apt/apt.conf.d/80mail-crypt

case $suite in
    *-backports)
        # From the mirror that the suite itself comes from, however the image names it.
        apt-get -q update >/dev/null
        mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | awk -v suite="${suite%-backports}" '$2 == suite { print $1; exit }')
        echo "deb $mirror $suite main" >/etc/apt/sources.list.d/backports.list
        printf 'Package: dovecot-*\nPin: release n=%s\nPin-Priority: 990\n' "$suite" >/etc/apt/preferences.d/dovecot
        ;;
esac
# The oldest Rust that is promised to do, where the suite has it beside newer ones.
printf 'Package: rustc-web cargo-web libstd-rust-web*\nPin: version %s.*\nPin-Priority: 990\n' \
    "$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)" >/etc/apt/preferences.d/rust

if [ $# -gt 0 ]; then
    apt-get -q update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >/dev/null
else
    # The scenarios' dict, and userdb in examples/: packages of their own, of the same Dovecot.
    apt-get -q update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends dovecot-ldap dovecot-pgsql postgresql slapd >/dev/null
    scripts/ensure-deps.sh test
    scripts/ensure-deps.sh memcheck
fi
apt-get clean
