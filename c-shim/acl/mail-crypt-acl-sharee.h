#ifndef MAIL_CRYPT_ACL_SHAREE_H
#define MAIL_CRYPT_ACL_SHAREE_H

/* Another user, with a session beside the current one. */
struct mail_crypt_acl_sharee {
	struct mail_user *user;

	struct mail_storage_service_user *service_user;
	/* What is active again after mail_crypt_acl_sharee_close() */
	struct ioloop_context *ioloop_ctx;
	char *log_prefix;
};

/* Looks the user up and opens a session, with the privileges and in the folder that the process has
   now. Returns 1, 0 if there is no such user, or -1 and sets error_r if that can't be told. */
int mail_crypt_acl_sharee_open(struct mail_user *user, const char *username,
			       struct mail_crypt_acl_sharee *sharee_r,
			       const char **error_r);
/* Closes the session that a call which returned 1 opened. */
void mail_crypt_acl_sharee_close(struct mail_crypt_acl_sharee *sharee);

#endif
