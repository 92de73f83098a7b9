#ifndef DOVEADM_MAIL_CRYPT_CHECK_PRIVATE_H
#define DOVEADM_MAIL_CRYPT_CHECK_PRIVATE_H

#include "doveadm-mail.h"

struct crypt_check_cmd {
	struct doveadm_mail_cmd_context ctx;

	/* What the administrator wants; whole: all folders */
	bool full, summary, whole;
	const char *const *masks;

	/* Of the current user */
	struct mcrs_check *check;

	unsigned int users;
	uint64_t total[MCRS_CHECK_COUNTS];
};

/* Something couldn't be looked at: the exit code says so. */
void crypt_check_failed(struct crypt_check_cmd *cmd);
/* The same, and logs why; box is NULL if it isn't about one. */
void crypt_check_error(struct crypt_check_cmd *cmd, struct mailbox *box,
		       const struct mcrs_error *error);
/* Shows every mail of the open folder to the core, and what the index cache has of them. */
void crypt_check_mails(struct crypt_check_cmd *cmd, struct mailbox *box);

#endif
