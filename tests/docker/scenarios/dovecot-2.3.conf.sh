#!/bin/bash
# Prints dovecot.conf for Dovecot 2.3, and writes the other files that it names. DICT, REDIS: see host.sh.
set -eu

user() { printf '%s:{PLAIN}secret:5000:5000::/mail/%s::%s\n' "$1" "$1" "$2"; }
{
    for name in alice carol dave erin grace; do
        user "$name" "userdb_mail_crypt_private_password=of-the-key-of-$name"
    done
    user bob ""
    user frank "userdb_mail_crypt_private_password=of-the-key-of-frank userdb_mail=mdbox:~/mdbox"
} >/etc/dovecot/users

# map PATTERN TABLE FIELDS USERNAME-FIELD; the words that begin with $ are the dict's own.
# shellcheck disable=SC2016
map() {
    printf 'map {\n  pattern = %s\n  table = %s\n  value_field = value\n%s  fields {\n' "$1" "$2" "${4:+  username_field = $4
}"
    for field in $3; do printf '    %s = $%s\n' "$field" "$field"; done
    printf '  }\n}\n'
}
{
    echo "connect = host=postgres dbname=mail user=mail password=attributes connect_timeout=5 tcp_user_timeout=5000"
    . /scenarios/maps.sh
} >/etc/dovecot/attributes.conf

case $DICT in
    pgsql) dict=pgsql:/etc/dovecot/attributes.conf ;;
    redis) dict=redis:host=$REDIS:password=attributes:timeout_msecs=5000:prefix=attributes/ ;;
esac
case $DICT in
    file) echo "mail_attribute_dict = file:%h/dovecot-attributes:lock=flock" ;;
    *)
        cat <<END
mail_attribute_dict = proxy::attributes
dict {
  attributes = $dict
}
END
        ;;
esac
cat <<'END'
protocols = imap lmtp
log_path = /dev/stderr
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
postmaster_address = postmaster@example.org
mail_location = maildir:~/Maildir
mail_plugins = mail_crypt
mail_temp_dir = /dev/shm
doveadm_password = between-backends
passdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
userdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
namespace inbox {
  inbox = yes
}
service dict {
  unix_listener dict {
    mode = 0666
  }
}
service doveadm {
  inet_listener {
    port = 2425
  }
}
service lmtp {
  inet_listener lmtp {
    port = 24
  }
}
plugin {
  mail_crypt_curve = prime256v1
  mail_crypt_save_version = 2
}
END
