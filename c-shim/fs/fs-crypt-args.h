#ifndef FS_CRYPT_ARGS_H
#define FS_CRYPT_ARGS_H

#include "fs-crypt-common.h"

struct mail_user;

#pragma GCC visibility push(hidden)

/* Does what fs_crypt_common_init() does, and makes the parent that args name. Returns 0, or -1 and sets *error_r. */
int fs_crypt_args_init(struct fs *fs, const char *args,
		       const struct fs_settings *set,
		       mcrs_fs_setting_fn setting, const char **error_r);

/* Returns the mail user whose storage uses fs, NULL if no storage does. */
struct mail_user *fs_crypt_user(struct fs *fs);
/* Answers a setting of this user as an mcrs_fs_setting_fn does. */
int fs_crypt_user_setting(struct mail_user *user, const char *name,
			  const char **value_r);

#pragma GCC visibility pop

#endif
