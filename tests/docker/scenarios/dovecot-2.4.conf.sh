#!/bin/bash
# Prints dovecot.conf for Dovecot 2.4, and writes the other files that it names. DICT, REDIS: see host.sh.
set -eu

user() { printf '%s:{PLAIN}secret:5000:5000::/mail/%s::%s\n' "$1" "$1" "$2"; }
{
    for name in alice carol dave erin grace; do
        user "$name" "userdb_crypt_user_key_password=of-the-key-of-$name"
    done
    user bob ""
    user frank "userdb_crypt_user_key_password=of-the-key-of-frank userdb_mail_driver=mdbox userdb_mail_path=~/mdbox"
} >/etc/dovecot/users

# map PATTERN TABLE FIELDS USERNAME-FIELD; the words that begin with $ are the dict's own.
# shellcheck disable=SC2016
map() {
    printf 'dict_map %s {\n  sql_table = %s\n%s' "$1" "$2" "${4:+  username_field = $4
}"
    for field in $3; do printf '  key_field %s {\n    value = $%s\n  }\n' "$field" "$field"; done
    printf '  value_field value {\n  }\n}\n'
}
cat <<'END'
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
END
case $DICT in
    file) printf 'mail_attribute {\n  dict file {\n    path = %%{home}/dovecot-attributes\n    lock_method = flock\n  }\n}\n' ;;
    *)
        printf 'mail_attribute {\n  dict proxy {\n    name = attributes\n  }\n}\ndict_server {\ndict attributes {\n'
        if [ "$DICT" = pgsql ]; then
            cat <<'END'
  driver = sql
  sql_driver = pgsql
  pgsql postgres {
    parameters {
      dbname = mail
      user = mail
      password = attributes
      connect_timeout = 5
      tcp_user_timeout = 5000
    }
  }
END
            . /scenarios/maps.sh
        else
            printf '  driver = redis\n  redis_host = %s\n  redis_password = attributes\n' "$REDIS"
            printf '  redis_key_prefix = attributes/\n  redis_request_timeout = 5s\n'
        fi
        printf '}\n}\n'
        ;;
esac
cat <<'END'
protocols = imap lmtp
log_path = /dev/stderr
ssl = no
auth_allow_cleartext = yes
auth_failure_delay = 0
postmaster_address = postmaster@example.org
mail_driver = maildir
mail_path = ~/Maildir
mail_plugins {
  mail_crypt = yes
}
mail_temp_dir = /dev/shm
doveadm_password = between-backends
passdb passwd-file {
  passwd_file_path = /etc/dovecot/users
}
userdb passwd-file {
  passwd_file_path = /etc/dovecot/users
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
  inet_listener tcp {
    port = 2425
  }
}
service lmtp {
  inet_listener lmtp {
    port = 24
  }
}
crypt_user_key_curve = prime256v1
END
