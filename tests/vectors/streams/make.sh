#!/bin/sh
# Makes the vectors of this folder with the Dovecot that is installed: see README.md.
# usage: make.sh FOLDER   (not as root, who may not save mail; FOLDER takes the new files)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
keys=$here/../keys
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/run" "$work/fs"
cp "$here/plain" "$out/plain"

dcrypt=$(find /usr/lib/dovecot -name libdcrypt_openssl.so -printf %h)
# shellcheck disable=SC1091,SC2086,SC2154
(. /usr/lib/dovecot/dovecot-config
 gcc -o "$work/streamvec" "$here/streamvec.c" -DHAVE_CONFIG_H -DMODULES="\"$dcrypt\"" \
	$DOVECOT_CFLAGS $LIBDOVECOT_INCLUDE $LIBDOVECOT -Wl,-rpath,"$dovecot_pkglibdir")

USER=$(id -un)
export USER HOME="$work"
how=; case $(dovecot --version) in 2.3.*) ;; *) how=--no-userdb-lookup ;; esac
user=$USER group=$(id -gn)
case $(dovecot --version) in
2.3.*)
	conf() { # PUBLIC_KEY PRIVATE_KEY
		cat <<EOF
base_dir = $work/run
state_dir = $work/run
log_path = $work/log
ssl = no
mail_uid = $user
mail_gid = $group
first_valid_uid = 0
first_valid_gid = 0
mail_location = maildir:$work/mail
mail_plugins = mail_crypt
plugin {
  mail_crypt_global_public_key = <$1
  mail_crypt_global_private_key = <$2
  mail_crypt_save_version = $3
}
EOF
	}
	;;
*)
	conf() {
		cat <<EOF
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = $work/run
state_dir = $work/run
log_path = $work/log
ssl = no
mail_uid = $user
mail_gid = $group
first_valid_uid = 0
first_valid_gid = 0
mail_driver = maildir
mail_path = $work/mail
mail_plugins {
  mail_crypt = yes
}
crypt_global_public_key_file = $1
crypt_global_private_key main {
  crypt_private_key_file = $2
}
crypt_write_algorithm = $3
EOF
	}
	;;
esac

# What the fs driver writes.
fs() { # KEY ALGORITHM
	doveadm -c "$work/fs.conf" fs put crypt \
		"algo=$2:public_key_path=$keys/$1.pub.pem:posix:prefix=$work/fs/" "$here/plain" it
	mv "$work/fs/it" "$out/$1.$2"
}

# What the mail plugin writes: KEY, save_version or write algorithm, name of the file.
mail() {
	rm -rf "$work/mail"
	conf "$keys/$1.pub.pem" "$keys/$1.pem" "$2" >"$work/mail.conf"
	chmod 600 "$work/mail.conf"
	doveadm -c "$work/mail.conf" save $how <"$here/plain"
	mv "$work"/mail/new/* "$out/$1.$3" 2>/dev/null || mv "$work"/mail/cur/* "$out/$1.$3"
}

# What the library writes: KEY, ALGORITHM, FLAGS, name of the file.
lib() {
	"$work/streamvec" write "$2" "$3" "$keys/$1.pub.pem" <"$here/plain" >"$out/$1.$4"
}

conf "$keys/p256.pub.pem" "$keys/p256.pem" 0 >"$work/fs.conf"
case $(dovecot --version) in
2.3.*)
	for cipher in aes-128 aes-192 aes-256 camellia-128 camellia-192 camellia-256 \
		aria-128 aria-192 aria-256 sm4; do
		for mode in gcm cbc ctr cfb ofb; do
			case $cipher-$mode in
			aes-*-ctr | camellia-*-gcm | sm4-gcm) ;; # has no object identifier
			*) fs p256 $cipher-$mode-sha256 ;;
			esac
		done
	done
	for digest in md5 sha1 sha384 sha512; do
		fs p256 aes-256-cbc-$digest
		fs p256 aes-256-gcm-$digest
	done
	fs p256 des-ede3-cbc-sha256
	fs p256 id-aes256-GCM-sha256
	for key in p384 p521 rsa; do
		fs $key aes-256-gcm-sha256
		fs $key aes-256-cbc-sha256
	done
	for key in p256 p521; do
		mail $key 1 mail-v1
		mail $key 2 mail-v2
	done
	for cipher in aes-256-cbc camellia-256-ctr aes-128-cfb; do
		lib p256 $cipher-sha256 4 none-$cipher
	done
	;;
*)
	mail p256 aes-256-gcm-sha256 mail-24
	mail p256 chacha20-poly1305-sha256 mail-24-chacha
	for key in x25519 x448; do
		mail $key aes-256-gcm-sha256 mail-24
	done
	lib p256 chacha20-poly1305-sha256 2 lib-24-chacha
	lib p256 aes-256-gcm-sha256 18 lib-24-same-gcm
	lib p256 aes-128-cbc-sha256 17 lib-24-same-cbc
	lib p256 chacha20-poly1305-sha256 18 lib-24-same-chacha
	lib rsa aes-256-gcm-sha256 18 lib-24-same-gcm
	;;
esac
