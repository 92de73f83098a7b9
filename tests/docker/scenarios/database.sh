#!/bin/bash
# database.sh postgres|redis: the database in the foreground. While /tmp/down is there, it is not: so the container,
# and with it the address, stays when the database goes.
set -eu

start_postgres() {
    local bin
    bin=$(echo /usr/lib/postgresql/*/bin)
    if [ ! -d /data ]; then
        install -d -o postgres /data
        su postgres -c "$bin/initdb -D /data -A trust -E UTF8 --locale=C" >/dev/null
        echo "host mail mail all scram-sha-256" >>/data/pg_hba.conf
        su postgres -c "$bin/pg_ctl -w -t 120 -D /data -o '-h \"\"' start" >/dev/null
        su postgres -c "psql -q -v ON_ERROR_STOP=1" </scenarios/attributes.sql
        su postgres -c "$bin/pg_ctl -w -t 120 -m fast -D /data stop" >/dev/null
    fi
    exec su postgres -c "exec $bin/postgres -D /data -h 0.0.0.0"
}

start_redis() {
    mkdir -p /data
    exec redis-server --bind 0.0.0.0 --protected-mode no --dir /data --appendonly yes --requirepass attributes
}

while :; do
    while [ -e /tmp/down ]; do sleep 0.2; done
    ("start_$1") || true
    sleep 0.2
done
