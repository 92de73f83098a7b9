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

/* A release that has others adds a struct, and leaves these as they are: a Dovecot that runs while ours is upgraded goes
   on reading. */
extern const struct setting_parser_info own_read_info;
extern const struct setting_parser_info own_key_info;

#endif
