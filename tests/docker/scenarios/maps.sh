# Which attribute is in which table, in the words of `map`. Sourced.
# shellcheck shell=bash disable=SC2016
pvt=vendor/vendor.dovecot/pvt
for owner in folder user; do
    crypt=$pvt/crypt
    [ $owner = folder ] || crypt=$pvt/server/$pvt/crypt
    map "shared/\$mailbox/$crypt/active" "${owner}_active" mailbox
    map "shared/\$mailbox/$crypt/pubkeys/\$id" "${owner}_pubkeys" "mailbox id"
    map "priv/\$mailbox/$crypt/privkeys/\$id" "${owner}_privkeys" "mailbox id" username
done
