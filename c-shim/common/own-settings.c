/* Dovecot 2.4: the description of the settings that the packaged plugin doesn't have. */

#include "config.h"
#include "lib.h"
#include "settings-parser.h"

#include "own-settings.h"

/* The structs have names that none of Dovecot's will have: it aborts where there are two. */

static const struct setting_define own_read_defines[] = {
	SETTING_DEFINE_STRUCT_BOOL("crypt_read_plain", crypt_read_plain,
				   struct own_read_settings),
	SETTING_DEFINE_LIST_END
};

static const struct own_read_settings own_read_defaults = {
	.crypt_read_plain = TRUE
};

const struct setting_parser_info own_read_info = {
	.name = "dovecot_mail_crypt_read",
	.defines = own_read_defines,
	.defaults = &own_read_defaults,
	.struct_size = sizeof(struct own_read_settings),
	.pool_offset1 = 1 + offsetof(struct own_read_settings, pool)
};

#define FIELD(type, key) \
	SETTING_DEFINE_STRUCT_##type(#key, key, struct own_key_settings)

static const struct setting_define own_key_defines[] = {
	FIELD(STR, crypt_password_rounds),
	FIELD(STR, crypt_password_kdf),
	FIELD(FILE, crypt_escrow_public_key_file),
	FIELD(FILE, crypt_escrow_public_key2_file),
	FIELD(FILE, crypt_escrow_public_key3_file),
	FIELD(FILE, crypt_escrow_public_key4_file),
	SETTING_DEFINE_LIST_END
};

static const struct own_key_settings own_key_defaults = {
	.crypt_password_rounds = "100000",
	.crypt_password_kdf = "pbkdf2",
	.crypt_escrow_public_key_file = "",
	.crypt_escrow_public_key2_file = "",
	.crypt_escrow_public_key3_file = "",
	.crypt_escrow_public_key4_file = ""
};

const struct setting_parser_info own_key_info = {
	.name = "dovecot_mail_crypt_keys",
	.defines = own_key_defines,
	.defaults = &own_key_defaults,
	.struct_size = sizeof(struct own_key_settings),
	.pool_offset1 = 1 + offsetof(struct own_key_settings, pool)
};

#define TREES_FIELD(key) \
	SETTING_DEFINE_STRUCT_STR(#key, key, struct own_trees_settings)

static const struct setting_define own_trees_defines[] = {
	TREES_FIELD(trees_enabled),
	TREES_FIELD(trees_version),
	TREES_FIELD(trees_public_key),
	TREES_FIELD(trees_locked_secretbox),
	TREES_FIELD(trees_sk_nonce),
	TREES_FIELD(trees_secretbox_key),
	TREES_FIELD(trees_password),
	TREES_FIELD(trees_pwhash_algo),
	TREES_FIELD(trees_pwhash_opslimit),
	TREES_FIELD(trees_pwhash_memlimit),
	TREES_FIELD(trees_pwhash_salt),
	SETTING_DEFINE_LIST_END
};

static const struct own_trees_settings own_trees_defaults = {
	.trees_enabled = "",
	.trees_version = "",
	.trees_public_key = "",
	.trees_locked_secretbox = "",
	.trees_sk_nonce = "",
	.trees_secretbox_key = "",
	.trees_password = "",
	.trees_pwhash_algo = "",
	.trees_pwhash_opslimit = "",
	.trees_pwhash_memlimit = "",
	.trees_pwhash_salt = ""
};

const struct setting_parser_info own_trees_info = {
	.name = "dovecot_mail_crypt_trees",
	.defines = own_trees_defines,
	.defaults = &own_trees_defaults,
	.struct_size = sizeof(struct own_trees_settings),
	.pool_offset1 = 1 + offsetof(struct own_trees_settings, pool)
};
