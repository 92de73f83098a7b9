#ifndef OWN_SETTINGS_H
#define OWN_SETTINGS_H

/* Dovecot 2.4: the settings that the packaged plugin doesn't have. Its config process learns about them from
   settings/mail-crypt-settings.c; the modules that ask for them have the same description. */

struct setting_parser_info;

/* What reading needs: apart, so that nothing else can keep it from being had. */
struct own_read_settings {
	pool_t pool;
	bool crypt_read_plain;
};

/* What making user keys needs. */
struct own_key_settings {
	pool_t pool;
	/* texts: the core says what is wrong with them, and only where they are needed */
	const char *crypt_password_rounds;
	const char *crypt_password_kdf;
	const char *crypt_escrow_public_key_file;
	const char *crypt_escrow_public_key2_file;
	const char *crypt_escrow_public_key3_file;
	const char *crypt_escrow_public_key4_file;
};

/* What reading mail of TREES needs: its own names. */
struct own_trees_settings {
	pool_t pool;
	/* texts, as above */
	const char *trees_enabled;
	const char *trees_version;
	const char *trees_public_key;
	const char *trees_locked_secretbox;
	const char *trees_sk_nonce;
	const char *trees_secretbox_key;
	const char *trees_password;
	const char *trees_pwhash_algo;
	const char *trees_pwhash_opslimit;
	const char *trees_pwhash_memlimit;
	const char *trees_pwhash_salt;
};

/* A release that has others adds a struct, and leaves these as they are: a Dovecot that runs while ours is upgraded goes
   on reading. */
extern const struct setting_parser_info own_read_info;
extern const struct setting_parser_info own_key_info;
extern const struct setting_parser_info own_trees_info;

#endif
