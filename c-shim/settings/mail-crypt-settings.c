/* What Dovecot 2.4's config process loads from modules/settings/, so that it knows our settings. It is in every doveconf,
   and so in the start of every Dovecot: it does nothing, and needs neither the core nor any other library. */

#include "compat.h"
#include "own-settings.h"

struct setting_parser_info;

/* Looked up by their names. */
EXPORT extern const char *mail_crypt_settings_version;
EXPORT extern const struct setting_parser_info *mail_crypt_settings_set_infos[];

const char *mail_crypt_settings_version = DOVECOT_ABI_VERSION;
const struct setting_parser_info *mail_crypt_settings_set_infos[] = {
	&own_read_info,
	&own_key_info,
	&own_trees_info,
	NULL
};
