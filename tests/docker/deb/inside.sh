#!/usr/bin/env bash
# inside.sh STEP: one step of an administrator's with the package. Runs in the container; the test is in /deb-test, the
# packages that `make deb` has built in /built, Dovecot's in /packages, the scenarios' configuration in /scenarios.
set -euo pipefail
step=${1:?inside.sh STEP}
shift
export DEBIAN_FRONTEND=noninteractive
package=dovecot-mail-crypt
config=/server/dovecot.conf
modules=/usr/lib/dovecot/modules
core=dovecot-core

index() { (cd "/packages/$1" && dpkg-scanpackages . >Packages 2>/dev/null); }
field() { dpkg-deb -f "$1" "$2"; }
version_in() { field "$(echo "/packages/$1/$core"_*.deb)" Version; }
abi_in() { field "$(echo "/packages/$1/$core"_*.deb)" Provides | grep -o 'dovecot-abi-[0-9a-z.]*'; }
repack() { /deb/repack.sh /packages/ours/*.deb "$@"; }

case $step in
    # ours; newer: its next version; broken: one that dpkg can't unpack; for-next: that for the other Dovecot
    prepare)
        abi=$(abi_in own)
        # It depends on nothing, and would go on alone.
        dpkg --purge dovecot-dev >/dev/null
        mkdir -p /server /mail /packages/ours
        # It takes longer than all else, and knows of no module.
        rm -f /var/lib/man-db/auto-update
        useradd -u 5000 -M -s /usr/sbin/nologin mail-store
        chown 5000:5000 /mail
        printf '#!/bin/sh\necho "$1 $2" >>/server/asked\nexit 101\n' >/usr/sbin/policy-rc.d
        for deb in /built/"$package"_*.deb; do
            if [[ ", $(field "$deb" Depends)," = *", $abi,"* ]]; then cp "$deb" /packages/ours/; fi
        done
        version=$(field /packages/ours/*.deb Version)
        repack /packages/newer "s/^Version: .*/Version: 1:$version/" usr/lib/dovecot/modules/lib10_mail_crypt_plugin.so
        repack /packages/broken "s/^Version: .*/Version: 2:$version/" usr/bin/doveadm
        next=$(version_in next | sed -E 's/^([0-9]+:)?([0-9.]*[0-9]).*/\1\2/')
        repack /packages/for-next "s/^Version: .*/Version: 3:$version/; s/$abi/$(abi_in next)/
            /^Depends/s/\($core\) (>= [^)]*)/\1/; s/^Conflicts: .*/Conflicts: $core (<< $next), $core (>= $next.~)/" \
            usr/lib/dovecot/modules/lib10_mail_crypt_plugin.so
        for folder in ours newer broken for-next; do index $folder; done
        ;;
    # sources FOLDER..: what apt knows of
    sources)
        rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
        for folder in "$@"; do echo "deb [trusted=yes] file:/packages/$folder ./"; done >/etc/apt/sources.list
        apt-get -q update
        ;;
    apt) apt-get -q -y --allow-downgrades --no-install-recommends -o Dpkg::Options::=--force-confold "$@" ;;
    dpkg) dpkg "$@" ;;
    # Dovecot goes, whatever depends on it
    force-remove)
        dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'dovecot-*' | sed -n 's/^installed //p' | grep -vx $package |
            xargs dpkg --force-depends --remove
        ;;
    # dpkg-in FOLDER PACKAGE: dpkg -i, without apt
    dpkg-in) dpkg -i "/packages/$1/$2"_*.deb ;;
    serve)
        line=$(dovecot --version | cut -d. -f1,2)
        DICT="file" /scenarios/"dovecot-$line.conf.sh" >$config
        exec dovecot -F -c $config >/proc/1/fd/1 2>&1
        ;;
    stop) doveadm -c $config stop ;;
    # Was Dovecot told to restart since this was asked last?
    asked) cat /server/asked 2>/dev/null || true; rm -f /server/asked ;;
    # Of which ABI is what Dovecot would load as mail_crypt, and who has it?
    module)
        file=$modules/lib10_mail_crypt_plugin.so
        [ -e $file ] || exit 0
        grep -aoE '[0-9]+\.[0-9]+\.ABIv[0-9]+' $file | sed -n 1p
        if grep -qF libmail_crypt_core $file; then echo ours; else echo packaged; fi
        ;;
    # All that either may change: mode, owner, content or target of each file and folder; diversions; what dpkg finds changed.
    inventory)
        for folder in /usr/lib/dovecot /usr/lib/$package /usr/local /usr/bin/mail-crypt /usr/share/man /usr/share/lintian /usr/share/doc/$package /var/lib/$package; do
            [ -e "$folder" ] || continue
            find "$folder" -printf '%y %m %u:%g %p %l\n'
            find "$folder" -type f -exec sha256sum {} +
        done | sort
        dpkg-divert --list | grep dovecot | sort || true
        for name in $core $package; do
            [ "$(dpkg-query -W -f '${db:Status-Status}' $name 2>/dev/null)" != installed ] || dpkg -V $name | grep -v ' /usr/share/doc/' || true
        done
        dpkg --audit
        ;;
    state) dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null || echo not-installed ;;
    *) echo "no step '$step'" >&2; exit 2 ;;
esac
