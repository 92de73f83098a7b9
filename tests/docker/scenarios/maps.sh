# Which attribute is in which table, in the words of `map`; the first pattern that fits counts. Sourced.
# shellcheck shell=bash disable=SC2016
pvt=vendor/vendor.dovecot/pvt
for owner in folder user; do
    crypt=$pvt/crypt
    [ $owner = folder ] || crypt=$pvt/server/$pvt/crypt
    map "shared/\$mailbox/$crypt/pubkeys/\$id" "${owner}_pubkeys" "mailbox id"
    map "priv/\$mailbox/$crypt/privkeys/\$id" "${owner}_privkeys" "mailbox id" username
    # The user's slots; what else stands there is in the table above.
    [ $owner = folder ] || map "priv/\$mailbox/$crypt/\$name" user_slots "mailbox name" username
    # There is one name, "active", but Dovecot can't list where a pattern ends in a word.
    map "shared/\$mailbox/$crypt/\$name" "${owner}_active" "mailbox name"
done
# What else a folder has, such as a comment: doveadm sync asks for it.
map "priv/\$mailbox/\$name" plain_private "mailbox name" username
map "shared/\$mailbox/\$name" plain_shared "mailbox name"
