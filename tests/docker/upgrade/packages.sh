#!/usr/bin/env bash
# packages.sh: fetches what the upgrades of a Debian 12 bring into /packages: in backports the Dovecot of bookworm-backports,
# in trixie that of Debian 13, its OpenSSL, and what both need. Runs while the image is built, as the last thing that is
# done to it: apt's sources are trixie's afterwards.
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

# bookworm-backports has none for its Dovecot: an administrator has to take it out as well.
apt-get -q -y purge dovecot-fts-xapian >/dev/null
apt-get -q update >/dev/null
mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' | awk '$2 == "bookworm" { print $1; exit }')
echo "deb $mirror bookworm-backports main" >/etc/apt/sources.list.d/backports.list
apt-get -q update >/dev/null
# shellcheck disable=SC2046
fetch backports -t bookworm-backports install $(dovecot)

rm /etc/apt/sources.list.d/backports.list
grep -rl bookworm /etc/apt/sources.list /etc/apt/sources.list.d | xargs -r sed -i 's/bookworm/trixie/g'
apt-get -q update >/dev/null
# shellcheck disable=SC2046
fetch trixie install $(dovecot) libssl-dev
rm -rf /var/lib/apt/lists/*
