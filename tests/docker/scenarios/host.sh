#!/bin/bash
# A mail server: installs what inside.sh built (PLUGIN=ours; packaged: nothing), and runs Dovecot in the foreground.
# DICT says where mailbox attributes are: pgsql, redis or file.
set -eu
export DICT=${DICT:-file}

if [ "${PLUGIN:-ours}" = ours ]; then
    cd /target/install
    DEPS=no make -s install >/dev/null
fi
id mail-store >/dev/null 2>&1 || useradd -u 5000 -M -s /usr/sbin/nologin mail-store
install -d -o mail-store -g mail-store /mail

line=$(dovecot --version | cut -d. -f1,2)
# Redis is named by its address in 2.3, and names may take a moment on a new network.
if [ "$DICT" = redis ]; then
    until REDIS=$(getent hosts redis | cut -d' ' -f1) && [ -n "$REDIS" ]; do sleep 0.2; done
    export REDIS
fi
rm -rf /etc/dovecot
mkdir -p /etc/dovecot
chmod 755 /etc/dovecot
/scenarios/"dovecot-$line.conf.sh" >/etc/dovecot/dovecot.conf
exec dovecot -F
