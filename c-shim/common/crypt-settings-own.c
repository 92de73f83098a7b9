/* Dovecot 2.4: looks up the settings that the packaged plugin doesn't have. Each struct by itself: what is wrong with one
   is no error of what the others are for. */

#include "compat.h"
#include "settings.h"
#include "settings-parser.h"
#include "own-settings.h"
#include "crypt-settings-private.h"

static void
compat_settings_add_own_read(struct compat_settings *set, struct event *event)
{
	const struct own_read_settings *own;
	const char *error;

	if (settings_get(event, &own_read_info, 0, &own, &error) < 0) {
		compat_settings_add(set, COMPAT_OWN_READ_ERROR, error);
		return;
	}
	compat_settings_add_always(set, "mail_crypt_read_plain",
				   own->crypt_read_plain ? "yes" : "no");
	settings_free(own);
}

static void
compat_settings_add_own_keys(struct compat_settings *set, struct event *event)
{
	const struct own_key_settings *own;
	const char *error;

	if (settings_get(event, &own_key_info, 0, &own, &error) < 0) {
		compat_settings_add(set, COMPAT_OWN_KEY_ERROR, error);
		return;
	}
	/* never empty, unless they are set so */
	compat_settings_add_always(set, "mail_crypt_password_rounds",
				   own->crypt_password_rounds);
	compat_settings_add_always(set, "mail_crypt_password_kdf",
				   own->crypt_password_kdf);
	compat_settings_add_file(set, "mail_crypt_escrow_public_key",
				 own->crypt_escrow_public_key_file);
	compat_settings_add_file(set, "mail_crypt_escrow_public_key2",
				 own->crypt_escrow_public_key2_file);
	compat_settings_add_file(set, "mail_crypt_escrow_public_key3",
				 own->crypt_escrow_public_key3_file);
	compat_settings_add_file(set, "mail_crypt_escrow_public_key4",
				 own->crypt_escrow_public_key4_file);
	settings_free(own);
}

static void
compat_settings_add_own_trees(struct compat_settings *set, struct event *event)
{
	const struct own_trees_settings *own;
	const char *error;

	if (settings_get(event, &own_trees_info, 0, &own, &error) < 0) {
		compat_settings_add(set, COMPAT_OWN_TREES_ERROR, error);
		return;
	}
	compat_settings_add(set, "trees_enabled", own->trees_enabled);
	compat_settings_add(set, "trees_version", own->trees_version);
	compat_settings_add(set, "trees_public_key", own->trees_public_key);
	compat_settings_add(set, "trees_locked_secretbox",
			    own->trees_locked_secretbox);
	compat_settings_add(set, "trees_sk_nonce", own->trees_sk_nonce);
	compat_settings_add(set, "trees_secretbox_key",
			    own->trees_secretbox_key);
	compat_settings_add(set, "trees_password", own->trees_password);
	compat_settings_add(set, "trees_pwhash_algo", own->trees_pwhash_algo);
	compat_settings_add(set, "trees_pwhash_opslimit",
			    own->trees_pwhash_opslimit);
	compat_settings_add(set, "trees_pwhash_memlimit",
			    own->trees_pwhash_memlimit);
	compat_settings_add(set, "trees_pwhash_salt", own->trees_pwhash_salt);
	settings_free(own);
}

void compat_settings_add_own(struct compat_settings *set, struct event *event)
{
	compat_settings_add_own_read(set, event);
	compat_settings_add_own_keys(set, event);
	compat_settings_add_own_trees(set, event);
}
