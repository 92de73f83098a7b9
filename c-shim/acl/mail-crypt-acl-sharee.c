/* Opens a session of a user with whom a folder is shared, to get that user's public key. */

#include "compat.h"
#include "ioloop.h"
#include "mail-storage-service.h"

#include "mail-crypt-acl-sharee.h"

#include <unistd.h>

/* From here on log lines are about the first user again, whatever happened to the other one. */
static void mail_crypt_acl_sharee_restore(struct mail_crypt_acl_sharee *sharee)
{
	struct ioloop_context *now =
		io_loop_get_current_context(current_ioloop);

	if (now != sharee->ioloop_ctx) {
		if (now != NULL)
			io_loop_context_deactivate(now);
		if (sharee->ioloop_ctx != NULL)
			io_loop_context_activate(sharee->ioloop_ctx);
	}
	i_set_failure_prefix("%s", sharee->log_prefix);
	i_free(sharee->log_prefix);
}

static int
mail_crypt_acl_sharee_lookup(struct mail_storage_service_ctx *ctx,
			     const struct mail_storage_service_input *input,
			     struct mail_crypt_acl_sharee *sharee,
			     const char **error_r)
{
	uid_t euid = geteuid();
	int ret;

	ret = mail_storage_service_lookup(ctx, input, &sharee->service_user,
					  error_r);
	/* a service whose users have several uids looks them up as root */
	if (geteuid() != euid && seteuid(euid) < 0)
		i_fatal("mail_crypt_acl: seteuid(%s) failed: %m", dec2str(euid));
	if (ret <= 0)
		return ret;

	if (mail_storage_service_next(ctx, sharee->service_user, &sharee->user,
				      error_r) < 0) {
		mail_storage_service_user_unref(&sharee->service_user);
		return -1;
	}
	return 1;
}

int mail_crypt_acl_sharee_open(struct mail_user *user, const char *username,
			       struct mail_crypt_acl_sharee *sharee_r,
			       const char **error_r)
{
	const struct mail_storage_service_input *old_input;
	struct mail_storage_service_input input;
	int ret;

	i_zero(sharee_r);
	if (compat_service_user(user) == NULL) {
		*error_r = "This session can't look up other users";
		return -1;
	}
	old_input = mail_storage_service_user_get_input(compat_service_user(user));

	compat_service_input_init(&input, old_input);
	input.username = username;
	input.session_id_prefix = user->session_id;
	/* The userdb has to be asked explicitly: a session that began with a login doesn't do it. The process
	   keeps its privileges and its working directory. */
	input.flags_override_add = MAIL_STORAGE_SERVICE_FLAG_USERDB_LOOKUP |
		MAIL_STORAGE_SERVICE_FLAG_NO_RESTRICT_ACCESS |
		MAIL_STORAGE_SERVICE_FLAG_NO_CHDIR |
		MAIL_STORAGE_SERVICE_FLAG_NO_LOG_INIT;
	input.flags_override_remove = MAIL_STORAGE_SERVICE_FLAG_NO_NAMESPACES;

	sharee_r->ioloop_ctx = io_loop_get_current_context(current_ioloop);
	sharee_r->log_prefix = i_strdup(i_get_failure_prefix());
	ret = mail_crypt_acl_sharee_lookup(
		mail_storage_service_user_get_service_ctx(compat_service_user(user)),
		&input, sharee_r, error_r);
	if (ret <= 0)
		mail_crypt_acl_sharee_restore(sharee_r);
	return ret > 0 ? 1 : ret == 0 ? 0 : -1;
}

void mail_crypt_acl_sharee_close(struct mail_crypt_acl_sharee *sharee)
{
	mail_user_deinit(&sharee->user);
	mail_storage_service_user_unref(&sharee->service_user);
	mail_crypt_acl_sharee_restore(sharee);
}
