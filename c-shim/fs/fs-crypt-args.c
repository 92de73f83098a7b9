/* What Dovecot 2.3's fs drivers have in common: they get their parameters and their parents' in one string. */

#include "compat.h"
#include "mail-namespace.h"
#include "mailbox-list.h"

#include "fs-crypt-args.h"

/* A process without mail storage, such as the dict service, doesn't have these. */
#pragma weak mailbox_list_fs_get_list
#pragma weak mailbox_list_get_namespace

struct mail_user *fs_crypt_user(struct fs *fs)
{
	struct mailbox_list *list;

	if (mailbox_list_fs_get_list == NULL)
		return NULL;
	list = mailbox_list_fs_get_list(fs);
	return list == NULL ? NULL : mailbox_list_get_namespace(list)->user;
}

int fs_crypt_user_setting(struct mail_user *user, const char *name,
			  const char **value_r)
{
	if (name == NULL)
		return 0;
	*value_r = compat_setting_lookup(user, name);
	return *value_r == NULL ? 0 : 1;
}

int fs_crypt_args_init(struct fs *fs, const char *args,
		       const struct fs_settings *set,
		       mcrs_fs_setting_fn setting, const char **error_r)
{
	const char *parent_args;
	size_t parent;

	if (fs_crypt_common_init(fs, args, setting, &parent, error_r) < 0)
		return -1;
	args += parent;
	parent_args = strchr(args, ':');
	return fs_init(t_strcut(args, ':'),
		       parent_args == NULL ? "" : parent_args + 1,
		       set, &fs->parent, error_r);
}
