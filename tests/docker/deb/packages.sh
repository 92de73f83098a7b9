#!/usr/bin/env bash
# packages.sh: runs while the image is built, and gets all that the test needs a network for: in /packages/own are the
# installed Dovecot's packages, in security the same with a newer version and the same ABI, in next a Dovecot with another
# ABI: that of the backports where there is one, else the same once more under other names.
set -euo pipefail

dovecot() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'dovecot-*' | sed -n 's/^installed //p'; }
# fetch FOLDER APT-GET-ARGUMENTS..
fetch() {
    local folder=/packages/$1
    shift
    mkdir -p "$folder/partial"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -d -o "Dir::Cache::archives=$folder" "$@" >/dev/null
    rm -rf "$folder/partial" "$folder/lock"
}
index() { (cd "/packages/$1" && dpkg-scanpackages . >Packages 2>/dev/null); }

apt-get -q update >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends build-essential debhelper dpkg-dev lintian >/dev/null
# Packages of other sources are for one ABI, too, and would go with it.
apt-get -q -y purge dovecot-fts-xapian >/dev/null
# shellcheck disable=SC2046
fetch own --reinstall install $(dovecot)
index own

version=$(dpkg-query -W -f '${Version}' dovecot-core)
quoted=$(sed 's/[.+]/\\&/g' <<<"$version")
for deb in /packages/own/*.deb; do
    case $deb in */dovecot-core_*) file=usr/lib/dovecot/modules/lib10_mail_crypt_plugin.so ;; *) file= ;; esac
    /deb/repack.sh "$deb" /packages/security "s/$quoted/$version+security1/g" $file
done
index security

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
if [ "$suite" = bookworm ]; then
    mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | awk -v suite="$suite" '$2 == suite { print $1; exit }')
    echo "deb $mirror $suite-backports main" >/etc/apt/sources.list.d/backports.list
    apt-get -q update >/dev/null
    # shellcheck disable=SC2046
    fetch next -t "$suite-backports" install $(dovecot)
    rm /etc/apt/sources.list.d/backports.list
else
    # To sed a + is a plus sign, and \+ isn't.
    quoted=$(sed 's/[.]/\\&/g' <<<"$version")
    for deb in /packages/own/*.deb; do
        /deb/repack.sh "$deb" /packages/next "s/$quoted/1:2.9.0-1/g; s/\(dovecot-abi-[0-9.]*\)\.abiv[0-9]*/\1.abiv99/g" \
            "$(case $deb in */dovecot-core_*) echo usr/lib/dovecot/modules/lib10_mail_crypt_plugin.so ;; esac)"
    done
fi
index next
