/* The "crypt" driver of Dovecot 2.4. All that it is told is in the crypt_* settings: those of the user whose
   storage uses it, or of the named filter that it is in. */

#include "compat.h"

#include "fs-crypt-common.h"

EXPORT extern const char *fs_crypt_version;
EXPORT extern const struct fs fs_class_crypt;

const char *fs_crypt_version = DOVECOT_ABI_VERSION;

static int
fs_crypt_setting(void *context, const char *name, const char **value_r)
{
	struct fs *_fs = context;
	struct crypt_fs *fs = CRYPT_FS(_fs);

	if (name == NULL) {
		*value_r = compat_setting_lookup(fs->settings, COMPAT_ERROR);
		return *value_r == NULL ? 0 : -1;
	}
	*value_r = compat_setting_lookup(fs->settings, name);
	return *value_r == NULL ? 0 : 1;
}

static struct fs *fs_crypt_alloc(void)
{
	return fs_crypt_common_alloc(&fs_class_crypt);
}

static int
fs_crypt_init_settings(struct fs *_fs, const struct fs_parameters *params,
		       const char **error_r)
{
	struct crypt_fs *fs = CRYPT_FS(_fs);
	size_t parent;

	if (compat_fs_settings_get(_fs->event, &fs->settings, error_r) < 0 ||
	    fs_crypt_common_init(_fs, NULL, fs_crypt_setting, &parent,
				 error_r) < 0)
		return -1;
	fs->read_plain = compat_setting_lookup(fs->settings,
					       COMPAT_FS_PLAIN_FALLBACK) != NULL;
	return fs_init_parent(_fs, params, error_r);
}

const struct fs fs_class_crypt = {
	.name = "crypt",
	.v = FS_CRYPT_VFUNCS(fs_crypt_alloc, fs_crypt_init_settings)
};

COMPAT_FS_MAIL_PLUGIN(fs_crypt, fs_class_crypt)
