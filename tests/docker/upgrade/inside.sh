#!/usr/bin/env bash
# inside.sh STEP: one step of an administrator's on a Debian that is upgraded under an installed plugin. Runs in the
# container; the sources are in /src, the crates in /vendor, what cargo makes in /target, packages in /packages.
set -euo pipefail
step=${1:?inside.sh STEP}
shift
cd /src
. scripts/lib.sh
export CI=true DEPS=no CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true CARGO_BUILD_FLAGS="--locked --offline"
# What is tried here is how it is installed, not how fast it is.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 DEBIAN_FRONTEND=noninteractive
config=/server/dovecot.conf

# The Dovecot packages that are at hand, and those that are installed.
dovecot_debs() { find /packages/now/ -name 'dovecot-*.deb'; }
dovecot_packages() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'dovecot-*' 2>/dev/null | sed -n 's/^[a-z][a-z] *//p' |
    while read -r package; do [ "$(dpkg-query -W -f '${db:Status-Status}' "$package")" = not-installed ] || echo "$package"; done; }

case $step in
    prepare)
        mkdir -p ~/.cargo /server /mail
        printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "/vendor"\n' >~/.cargo/config.toml
        ln -s /src/tests/docker/scenarios /scenarios
        useradd -u 5000 -M -s /usr/sbin/nologin mail-store
        chown 5000:5000 /mail
        ;;
    # What README says: make && make install
    make)
        make
        make install
        ;;
    install) make install ;;
    uninstall) make uninstall ;;
    # upgrade SUITE: what apt does when its sources have changed
    upgrade)
        ln -sfn "$1" /packages/now
        find "/packages/$1" -name '*.deb' -print0 |
            xargs -0 apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold install
        ;;
    purge) dovecot_packages | xargs dpkg --purge ;;
    remove) dovecot_packages | xargs dpkg --remove ;;
    reinstall) dovecot_debs | xargs dpkg --force-confold -i ;;
    serve)
        line=$(dovecot --version | cut -d. -f1,2)
        DICT="file" /scenarios/"dovecot-$line.conf.sh" >$config
        exec dovecot -F -c $config >/proc/1/fd/1 2>&1
        ;;
    stop) doveadm -c $config stop ;;
    # All that an installation of either may change: mode, owner, content or target of each file and folder.
    inventory)
        for folder in /usr/lib/dovecot /usr/lib/dovecot-mail-crypt /usr/local /var/lib/dovecot-mail-crypt; do
            [ -e "$folder" ] || continue
            find "$folder" -printf '%y %m %u:%g %p %l\n'
            find "$folder" -type f -exec sha256sum {} +
        done | sort
        dpkg-divert --list | grep dovecot | sort || true
        [ "$(dpkg-query -W -f '${db:Status-Status}' dovecot-core 2>/dev/null)" != installed ] || dpkg -V dovecot-core || true
        ;;
    *) die "no step '$step'" ;;
esac
