/* The "mail-crypt" driver of Dovecot 2.3: keys from files, or from the settings of the mail user whose storage
   uses it. */

#include "compat.h"

#include "fs-crypt-args.h"

EXPORT extern const char *fs_mail_crypt_version;
EXPORT extern const struct fs fs_class_mail_crypt;

const char *fs_mail_crypt_version = DOVECOT_ABI_VERSION;

static int
fs_mail_crypt_setting(void *context, const char *name, const char **value_r)
{
	struct mail_user *user = fs_crypt_user(context);

	if (user == NULL) {
		*value_r = "mail-crypt without key files works only in a "
			"mail user's storage (there is crypt for the rest)";
		return -1;
	}
	return fs_crypt_user_setting(user, name, value_r);
}

static struct fs *fs_mail_crypt_alloc(void)
{
	return fs_crypt_common_alloc(&fs_class_mail_crypt);
}

static int
fs_mail_crypt_init(struct fs *fs, const char *args,
		   const struct fs_settings *set, const char **error_r)
{
	return fs_crypt_args_init(fs, args, set, fs_mail_crypt_setting,
				  error_r);
}

const struct fs fs_class_mail_crypt = {
	.name = "mail-crypt",
	.v = FS_CRYPT_VFUNCS(fs_mail_crypt_alloc, fs_mail_crypt_init)
};
