#ifndef DOVEADM_MAIL_CRYPT_H
#define DOVEADM_MAIL_CRYPT_H

#include "doveadm-mail.h"

struct mcrs_error;

/* In place of a password or of a file's name: it stands in the input. */
#define FROM_INPUT "-"

/* Secrets, wiped when the command ends. */
struct cryptokey_input {
	unsigned char *data;
	size_t size;
};

struct cryptokey_cmd {
	struct doveadm_mail_cmd_context ctx;
	/* MCRS_ADMIN_* */
	int verb;

	/* What the administrator wants */
	bool user_key, rekey, force, clear, undo, no_undo, compat;
	bool needed, folders, abandon, given;
	/* NUL-terminated, in input or in the arguments */
	const char *old_password, *new_password;
	const char *mailbox, *key_file;
	const char *slot_type, *slot, *label;
	/* Masks or key ids */
	const char *const *args;
	/* What was read from standard input, or typed */
	struct cryptokey_input input;
	/* Why nothing may be done */
	const char *usage_error;

	/* Of the current user */
	struct mcrs_admin *admin;
	unsigned int matched;
};

/* The parameters, in doveadm-mail-crypt-input.c: a command's callbacks */
void cryptokey_preinit(struct doveadm_mail_cmd_context *ctx);
void cryptokey_init_masks(COMPAT_DOVEADM_INIT_PARAMS);
void cryptokey_init_one(COMPAT_DOVEADM_INIT_PARAMS);
void cryptokey_init_password(COMPAT_DOVEADM_INIT_PARAMS);
void cryptokey_init_secrets(COMPAT_DOVEADM_INIT_PARAMS);
void cryptokey_deinit(struct doveadm_mail_cmd_context *ctx);

/* What stands in standard input, or is typed, in doveadm-mail-crypt-secrets.c. What can't be read is a usage error. */
void cryptokey_read_input(struct cryptokey_cmd *cmd);
void cryptokey_read_secrets(struct cryptokey_cmd *cmd);
void cryptokey_read_passwords(struct cryptokey_cmd *cmd, bool ask_old,
			      bool ask_new);
void cryptokey_wipe_input(struct cryptokey_cmd *cmd);

/* Does what was asked for, for one user. Returns 0, or -1: the command's exit code says why. */
int cryptokey_run(struct doveadm_mail_cmd_context *ctx, struct mail_user *user);

/* Shows every mail of the folder to the core, which knows the chosen key. Returns 0 if none of them
   needs it, or -1 and the error: one does, or can't be read. */
int cryptokey_scan(struct cryptokey_cmd *cmd, struct mailbox *box,
		   struct mcrs_error *error);

/* Looks up a function of the mail plugin. It can't be linked to: it may only be loaded for some users, and
   long after this module. */
void *cryptokey_mail_plugin(const char *symbol);

/* What a message about the keys of this mailbox (empty: the user's own) begins with. */
const char *cryptokey_prefix(const char *mailbox);
/* Says what the rows consist of. */
void cryptokey_print_headers(const struct cryptokey_cmd *cmd);
/* Prints the rows that the core has produced. */
void cryptokey_print_rows(struct cryptokey_cmd *cmd);

/* Logs the error, and has the exit code say that there was one. */
void cryptokey_error(struct cryptokey_cmd *cmd, const char *prefix,
		     const struct mcrs_error *error);
void cryptokey_failed(struct cryptokey_cmd *cmd, int exit_code);

#endif
