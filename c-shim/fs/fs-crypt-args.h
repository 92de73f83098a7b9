#ifndef FS_CRYPT_ARGS_H
#define FS_CRYPT_ARGS_H

#include "fs-crypt-common.h"

struct mail_user;

#pragma GCC visibility push(hidden)

/* As fs_crypt_common_init(), and makes the parent that args speak of. */
int fs_crypt_args_init(struct fs *fs, const char *args,
		       const struct fs_settings *set,
		       mcrs_fs_setting_fn setting, const char **error_r);

/* The mail user whose storage uses fs; NULL if it isn't a storage's. */
struct mail_user *fs_crypt_user(struct fs *fs);
/* Answers a setting of this user as an mcrs_fs_setting_fn does. */
int fs_crypt_user_setting(struct mail_user *user, const char *name,
			  const char **value_r);

#pragma GCC visibility pop

#endif
