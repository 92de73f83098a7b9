/* doveadm mailbox cryptokey ..: walks the folders that the core asks for, and has it do the rest. */

#include "compat.h"
#include "mail-namespace.h"
#include "mail-storage.h"
#include "mailbox-list-iter.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "mail-crypt-plugin.h"
#include "doveadm-mail-crypt.h"

#include <sysexits.h>

static struct mcrs_user *cryptokey_user(struct mail_user *user)
{
	mail_crypt_user_get_t *get =
		cryptokey_mail_plugin("mail_crypt_user_get");

	return get == NULL ? NULL : get(user);
}

/* Does the step with the keys of a folder, or (box is NULL) of the user, and prints what came of it. */
static int
cryptokey_do(struct cryptokey_cmd *cmd, const struct mcrs_admin_step *step,
	     struct mailbox *box)
{
	struct mcrs_error error;
	int ret;

	if (step->mails)
		ret = cryptokey_scan(cmd, box, &error);
	else
		ret = mcrs_admin_do(cmd->admin, box, &error);
	if (ret < 0) {
		cryptokey_error(cmd, cryptokey_prefix(box == NULL ? "" :
				mailbox_get_vname(box)), &error);
	}
	cryptokey_print_rows(cmd);
	return ret;
}

static int
cryptokey_open(struct cryptokey_cmd *cmd, struct mailbox *box)
{
	if (mailbox_open(box) == 0)
		return 0;
	i_error("Opening mailbox %s failed: %s", mailbox_get_vname(box),
		mailbox_get_last_internal_error(box, NULL));
	doveadm_mail_failed_mailbox(&cmd->ctx, box);
	return -1;
}

#define LIST_FLAGS (MAILBOX_LIST_ITER_SKIP_ALIASES | \
	MAILBOX_LIST_ITER_NO_AUTO_BOXES | MAILBOX_LIST_ITER_RETURN_NO_FLAGS)

/* Returns the number of folders, or -1 if something failed in one of them. Ends the iteration. */
static int
cryptokey_each_listed(struct cryptokey_cmd *cmd, struct mailbox_list *list,
		      struct mailbox_list_iterate_context *iter,
		      const struct mcrs_admin_step *step)
{
	const struct mailbox_info *info;
	struct mailbox *box;
	int count = 0, ret = 0;

	while ((info = mailbox_list_iter_next(iter)) != NULL) T_BEGIN {
		if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) == 0) {
			box = mailbox_alloc(info->ns->list, info->vname,
					    MAILBOX_FLAG_IGNORE_ACLS);
			if (cryptokey_open(cmd, box) < 0 ||
			    cryptokey_do(cmd, step, box) < 0)
				ret = -1;
			mailbox_free(&box);
			count++;
		}
	} T_END;
	if (mailbox_list_iter_deinit(&iter) < 0) {
		i_error("Listing mailboxes failed: %s",
			mailbox_list_get_last_internal_error(list, NULL));
		doveadm_mail_failed_list(&cmd->ctx, list);
		ret = -1;
	}
	return ret < 0 ? -1 : count;
}

/* Every folder of that name in which there may be keys: also those that no client is shown, because
   their namespace isn't listed, or because the user's own rights hide them. Returns their number, or
   -1 if something failed in one of them. */
static int
cryptokey_every_folder(struct cryptokey_cmd *cmd, struct mail_user *user,
		       const char *mask, enum mail_namespace_type types,
		       const struct mcrs_admin_step *step)
{
	struct mail_namespace *ns;
	int count, total = 0, ret = 0;

	for (ns = user->namespaces; ns != NULL; ns = ns->next) {
		enum mailbox_list_iter_flags flags = LIST_FLAGS;

		if ((ns->type & types) == 0 || ns->alias_for != NULL)
			continue;
		if (ns->type == MAIL_NAMESPACE_TYPE_PRIVATE)
			flags |= MAILBOX_LIST_ITER_RAW_LIST;
		count = cryptokey_each_listed(cmd, ns->list,
			mailbox_list_iter_init(ns->list, mask, flags), step);
		if (count < 0)
			ret = -1;
		total += count;
	}
	return ret < 0 ? -1 : total;
}

/* Returns 0, or -1 if something failed or a mailbox that was named isn't there. */
static int
cryptokey_masks(struct cryptokey_cmd *cmd, struct mail_user *user,
		const struct mcrs_admin_step *step)
{
	const char *const *masks = cmd->args;
	int count, ret = 0;

	for (; *masks != NULL; masks++) {
		count = cryptokey_every_folder(cmd, user, *masks,
					       MAIL_NAMESPACE_TYPE_PRIVATE, step);
		if (count == 0 && strpbrk(*masks, "*%") == NULL) {
			i_error("Mailbox %s doesn't exist, or isn't the user's own",
				*masks);
			cryptokey_failed(cmd, DOVEADM_EX_NOTFOUND);
			count = -1;
		}
		if (count < 0)
			ret = -1;
	}
	return ret;
}

/* Does the step in each of the folders that it is about; box is the one that was named. Returns 0, or -1 if
   something failed in one of them. */
static int
cryptokey_walk(struct cryptokey_cmd *cmd, struct mail_user *user,
	       struct mailbox *box, const struct mcrs_admin_step *step)
{
	enum mail_namespace_type types = MAIL_NAMESPACE_TYPE_PRIVATE;

	switch (step->folders) {
	case MCRS_FOLDERS_USER_KEYS:
		return cryptokey_do(cmd, step, NULL);
	case MCRS_FOLDERS_NAMED:
		return cryptokey_do(cmd, step, box);
	case MCRS_FOLDERS_MASKS:
		return cryptokey_masks(cmd, user, step);
	case MCRS_FOLDERS_ALL:
		types = MAIL_NAMESPACE_TYPE_MASK_ALL;
		break;
	}
	return cryptokey_every_folder(cmd, user, "*", types, step) < 0 ? -1 : 0;
}

static void
cryptokey_run_steps(struct cryptokey_cmd *cmd, struct mail_user *user,
		    struct mailbox *box)
{
	struct mcrs_admin_step step;
	bool failed = FALSE;

	while (mcrs_admin_next_step(cmd->admin, failed, &step) > 0) T_BEGIN {
		/* the outcome of the last step is known only now */
		cryptokey_print_rows(cmd);
		failed = cryptokey_walk(cmd, user, box, &step) < 0;
	} T_END;
	cryptokey_print_rows(cmd);
}

/* Import and delete work on one folder, or on the user's keys. */
static void
cryptokey_run_named(struct cryptokey_cmd *cmd, struct mail_user *user)
{
	struct mailbox *box = doveadm_mailbox_find(user, cmd->mailbox);

	if (cryptokey_open(cmd, box) == 0)
		cryptokey_run_steps(cmd, user, box);
	mailbox_free(&box);
}

static void
cryptokey_run_verb(struct cryptokey_cmd *cmd, struct mail_user *user)
{
	if (cmd->mailbox != NULL)
		cryptokey_run_named(cmd, user);
	else
		cryptokey_run_steps(cmd, user, NULL);
	/* a user may have no slots, and no folder whose key is renewed */
	if (cmd->matched == 0 && cmd->ctx.exit_code == 0 &&
	    cmd->verb <= MCRS_ADMIN_DELETE)
		i_warning(cmd->verb == MCRS_ADMIN_LIST ?
			  "mailbox cryptokey list: Nothing was matched. "
			  "Use -U or specify mask?" :
			  "mailbox cryptokey: Nothing was matched");
}

/* Returns 0 and sets cmd->admin, or -1. */
static int
cryptokey_begin(struct cryptokey_cmd *cmd, struct mcrs_user *user,
		struct mcrs_error *error)
{
	struct mcrs_admin_request request = {
		.verb = cmd->verb,
		.user_key = cmd->user_key,
		.rekey = cmd->rekey,
		.force = cmd->force,
		.all = cmd->verb == MCRS_ADMIN_LIST &&
			str_array_find(cmd->args, "*"),
		.folders = cmd->folders,
		.abandon = cmd->abandon,
		.needed = cmd->needed,
		.undo = cmd->undo,
		.no_undo = cmd->no_undo,
		.compat = cmd->compat,
		.clear = cmd->clear,
		.given = cmd->given,
		.key_in_input = cmd->key_file != NULL,
		.slot_type = cmd->slot_type,
		.slot = cmd->slot,
		.label = cmd->label,
		.key_ids = cmd->verb == MCRS_ADMIN_DELETE ? cmd->args : NULL,
		.old_password = cmd->old_password,
		.new_password = cmd->new_password,
		.input = cmd->input.data,
		.input_size = cmd->input.size
	};

	return mcrs_admin_new(user, &request, &cmd->admin, error);
}

/* Combines this user's exit code with that of earlier users, as doveadm does: a temporary failure wins, or
   else the first one. Returns 0, or -1 if this user failed. */
static int cryptokey_end(struct cryptokey_cmd *cmd, int others)
{
	int own = cmd->ctx.exit_code;

	cmd->ctx.exit_code = others;
	if (own == 0)
		return 0;
	cryptokey_failed(cmd, own);
	return -1;
}

int cryptokey_run(struct doveadm_mail_cmd_context *ctx, struct mail_user *user)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;
	struct mcrs_user *crypt_user = cryptokey_user(user);
	struct mcrs_error error;
	int others = ctx->exit_code;

	/* what happened to earlier users doesn't matter for this one */
	ctx->exit_code = 0;
	cmd->matched = 0;
	if (cmd->usage_error != NULL) {
		i_error("%s", cmd->usage_error);
		ctx->exit_code = EX_USAGE;
	} else if (crypt_user == NULL && !ctx->iterate_single_user) {
		i_info("mail_crypt isn't enabled for user %s, skipping",
		       user->username);
	} else if (crypt_user == NULL) {
		i_error("mail_crypt isn't enabled for user %s",
			user->username);
		cryptokey_failed(cmd, EX_CONFIG);
	} else if (cryptokey_begin(cmd, crypt_user, &error) < 0) {
		cryptokey_error(cmd, "", &error);
	} else {
		cryptokey_run_verb(cmd, user);
		mcrs_admin_free(&cmd->admin);
	}
	return cryptokey_end(cmd, others);
}
