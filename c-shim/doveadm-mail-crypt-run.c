/* doveadm mailbox cryptokey ..: finds the folders that are meant and has the core do the rest. */

#include "compat.h"
#include "mail-namespace.h"
#include "mail-storage.h"
#include "mailbox-list-iter.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "mail-crypt-plugin.h"
#include "doveadm-mail-crypt.h"

#include <sysexits.h>

/* Something to do with the keys of one folder, or (box is NULL) of the user. */
typedef int cryptokey_step_t(struct cryptokey_cmd *cmd, struct mailbox *box,
			     struct mcrs_error *error);

static struct mcrs_user *cryptokey_user(struct mail_user *user)
{
	mail_crypt_user_get_t *get =
		cryptokey_mail_plugin("mail_crypt_user_get");

	return get == NULL ? NULL : get(user);
}

/* Does the step and prints what came of it; id is the key's where it is known before. */
static int
cryptokey_do(struct cryptokey_cmd *cmd, cryptokey_step_t *step,
	     struct mailbox *box, const char *id)
{
	const char *name = box == NULL ? "" : mailbox_get_vname(box);
	struct mcrs_error error;
	int ret;

	ret = step(cmd, box, &error);
	cryptokey_print_rows(cmd);
	if (ret == 0)
		return 0;

	cryptokey_error(cmd, cryptokey_prefix(name), &error);
	if (id != NULL || cmd->verb == CRYPTOKEY_GENERATE ||
	    cmd->verb == CRYPTOKEY_IMPORT)
		cryptokey_print_done(cmd, FALSE, name, id != NULL ? id :
				     t_strdup_printf("ERROR: %s", error.text));
	return -1;
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
		      cryptokey_step_t *step)
{
	const struct mailbox_info *info;
	struct mailbox *box;
	int count = 0, ret = 0;

	while ((info = mailbox_list_iter_next(iter)) != NULL) T_BEGIN {
		if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) == 0) {
			box = mailbox_alloc(info->ns->list, info->vname,
					    MAILBOX_FLAG_IGNORE_ACLS);
			if (cryptokey_open(cmd, box) < 0 ||
			    cryptokey_do(cmd, step, box, NULL) < 0)
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
		       cryptokey_step_t *step)
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
		cryptokey_step_t *step)
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

/* What the verbs do with the keys of one folder or of the user */

static int
cryptokey_generate(struct cryptokey_cmd *cmd, struct mailbox *box,
		   struct mcrs_error *error)
{
	return mcrs_admin_generate(cmd->admin, box, cmd->force, error);
}

/* The user key comes before anything else, and is only mentioned when it is new. */
static int
cryptokey_first_user_key(struct cryptokey_cmd *cmd,
			 struct mailbox *box ATTR_UNUSED,
			 struct mcrs_error *error)
{
	struct mcrs_key_row row;

	if (mcrs_admin_generate(cmd->admin, NULL, FALSE, error) < 0)
		return -1;
	while (mcrs_admin_next(cmd->admin, &row) > 0) {
		if (row.fresh)
			cryptokey_print_row(cmd, &row);
	}
	return 0;
}

static int
cryptokey_check_new_user_key(struct cryptokey_cmd *cmd, struct mailbox *box,
			     struct mcrs_error *error)
{
	return mcrs_admin_check_new_user_key(cmd->admin, box, cmd->rekey,
					     &cmd->left, error);
}

static int
cryptokey_rekey(struct cryptokey_cmd *cmd, struct mailbox *box,
		struct mcrs_error *error)
{
	return mcrs_admin_rekey(cmd->admin, box, error);
}

static int
cryptokey_list(struct cryptokey_cmd *cmd, struct mailbox *box,
	       struct mcrs_error *error)
{
	return mcrs_admin_list(cmd->admin, box, error);
}

static int
cryptokey_list_without_folder(struct cryptokey_cmd *cmd,
			      struct mailbox *box ATTR_UNUSED,
			      struct mcrs_error *error)
{
	return mcrs_admin_list_without_folder(cmd->admin, error);
}

static int
cryptokey_export(struct cryptokey_cmd *cmd, struct mailbox *box,
		 struct mcrs_error *error)
{
	return mcrs_admin_export(cmd->admin, box, error);
}

static int
cryptokey_import(struct cryptokey_cmd *cmd, struct mailbox *box,
		 struct mcrs_error *error)
{
	return mcrs_admin_import(cmd->admin, box, cmd->input.data,
				 cmd->input.size, cmd->force, error);
}

static int
cryptokey_doom(struct cryptokey_cmd *cmd, struct mailbox *box,
	       struct mcrs_error *error)
{
	return mcrs_admin_doom(cmd->admin, box, cmd->key_id, cmd->force, error);
}

static int
cryptokey_doom_folder(struct cryptokey_cmd *cmd, struct mailbox *box,
		      struct mcrs_error *error)
{
	return mcrs_admin_doom_folder(cmd->admin, box, error);
}

static int
cryptokey_delete(struct cryptokey_cmd *cmd, struct mailbox *box,
		 struct mcrs_error *error)
{
	return mcrs_admin_delete(cmd->admin, box, cmd->force, error);
}

static int
cryptokey_spare(struct cryptokey_cmd *cmd, struct mailbox *box,
		struct mcrs_error *error)
{
	return mcrs_admin_spare(cmd->admin, box, error);
}

/* Is the key of box (NULL: of the user) unneeded? */
static int
cryptokey_check_needed(struct cryptokey_cmd *cmd, struct mail_user *user,
		       struct mailbox *box)
{
	if (cmd->force)
		return 0;
	if (box != NULL)
		return cryptokey_every_folder(cmd, user, "*",
					      MAIL_NAMESPACE_TYPE_PRIVATE,
					      cryptokey_scan) < 0 ? -1 : 0;
	return cryptokey_every_folder(cmd, user, "*",
				      MAIL_NAMESPACE_TYPE_MASK_ALL,
				      cryptokey_doom_folder) < 0 ? -1 : 0;
}

/* The verbs, for one user */

static void
cryptokey_run_generate(struct cryptokey_cmd *cmd, struct mail_user *user)
{
	if (cmd->user_key && cmd->force &&
	    (cryptokey_every_folder(cmd, user, "*", MAIL_NAMESPACE_TYPE_PRIVATE,
				    cryptokey_check_new_user_key) < 0 ||
	     cryptokey_do(cmd, cryptokey_check_new_user_key, NULL, NULL) < 0))
		return;
	if (cryptokey_do(cmd, cmd->user_key ? cryptokey_generate :
			 cryptokey_first_user_key, NULL, NULL) < 0)
		return;
	if (cmd->left > 0 && !cmd->rekey)
		i_info("%zu folder key(s) stay under the older user key(s): "
		       "generate -R puts them under the new one", cmd->left);
	if (cmd->rekey) {
		(void)cryptokey_every_folder(cmd, user, "*",
					     MAIL_NAMESPACE_TYPE_PRIVATE,
					     cryptokey_rekey);
		(void)cryptokey_do(cmd, cryptokey_rekey, NULL, NULL);
	} else if (!cmd->user_key)
		(void)cryptokey_masks(cmd, user, cryptokey_generate);
}

static void
cryptokey_run_keys(struct cryptokey_cmd *cmd, struct mail_user *user,
		   cryptokey_step_t *step)
{
	if (cmd->user_key)
		(void)cryptokey_do(cmd, step, NULL, NULL);
	else
		(void)cryptokey_masks(cmd, user, step);
}

static void
cryptokey_run_list(struct cryptokey_cmd *cmd, struct mail_user *user)
{
	cryptokey_run_keys(cmd, user, cryptokey_list);
	/* only who has listed all folders knows which keys have none */
	if (!cmd->user_key && str_array_find(cmd->args, "*"))
		(void)cryptokey_do(cmd, cryptokey_list_without_folder, NULL, NULL);
}

static void
cryptokey_delete_one(struct cryptokey_cmd *cmd, struct mail_user *user,
		     struct mailbox *box, const char *id)
{
	cmd->key_id = id;
	if (cryptokey_do(cmd, cryptokey_doom, box, id) < 0)
		return;
	if (cryptokey_check_needed(cmd, user, box) < 0)
		cryptokey_print_done(cmd, FALSE, box == NULL ? "" :
				     mailbox_get_vname(box), id);
	else if (cryptokey_do(cmd, cryptokey_delete, box, id) == 0)
		return;
	(void)cryptokey_do(cmd, cryptokey_spare, box, NULL);
}

static void
cryptokey_run_delete(struct cryptokey_cmd *cmd, struct mail_user *user,
		     struct mailbox *box)
{
	const char *const *ids;

	for (ids = cmd->args; *ids != NULL; ids++) T_BEGIN {
		cryptokey_delete_one(cmd, user, box, *ids);
	} T_END;
}

/* Import and delete work on one folder, or on the user's keys. */
static void
cryptokey_run_one(struct cryptokey_cmd *cmd, struct mail_user *user)
{
	struct mailbox *box = cmd->user_key ? NULL :
		doveadm_mailbox_find(user, cmd->mailbox);

	if (box != NULL && cryptokey_open(cmd, box) < 0)
		; /* said */
	else if (cmd->verb == CRYPTOKEY_DELETE)
		cryptokey_run_delete(cmd, user, box);
	else
		(void)cryptokey_do(cmd, cryptokey_import, box, NULL);
	if (box != NULL)
		mailbox_free(&box);
}

static void cryptokey_run_password(struct cryptokey_cmd *cmd)
{
	struct mcrs_error error;
	int ret;

	ret = mcrs_admin_password(cmd->admin, cmd->old_password,
				  cmd->new_password, cmd->clear, &error);
	if (ret >= 0) {
		doveadm_print(t_strdup_printf("Changed password for %d key(s)",
					      ret));
	} else {
		cryptokey_error(cmd, "", &error);
		doveadm_print(error.text);
	}
	cmd->matched++;
}

static void
cryptokey_run_verb(struct cryptokey_cmd *cmd, struct mail_user *user)
{
	switch (cmd->verb) {
	case CRYPTOKEY_GENERATE:
		cryptokey_run_generate(cmd, user);
		break;
	case CRYPTOKEY_LIST:
		cryptokey_run_list(cmd, user);
		break;
	case CRYPTOKEY_EXPORT:
		cryptokey_run_keys(cmd, user, cryptokey_export);
		break;
	case CRYPTOKEY_PASSWORD:
		cryptokey_run_password(cmd);
		break;
	case CRYPTOKEY_IMPORT:
	case CRYPTOKEY_DELETE:
		cryptokey_run_one(cmd, user);
		break;
	}
	if (cmd->matched == 0 && cmd->ctx.exit_code == 0)
		i_warning(cmd->verb == CRYPTOKEY_LIST ?
			  "mailbox cryptokey list: Nothing was matched. "
			  "Use -U or specify mask?" :
			  "mailbox cryptokey: Nothing was matched");
}

/* Joins this user's exit code with that of the users before, as doveadm does: a temporary failure wins,
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

	/* what came of the users before is none of this one's affair */
	ctx->exit_code = 0;
	cmd->matched = 0;
	cmd->left = 0;
	if (cmd->usage_error != NULL) {
		i_error("%s", cmd->usage_error);
		ctx->exit_code = EX_USAGE;
	} else if (crypt_user == NULL && !ctx->iterate_single_user) {
		i_info("mail_crypt isn't enabled for user %s, skipping",
		       user->username);
		return 0;
	} else if (crypt_user == NULL) {
		i_error("mail_crypt isn't enabled for user %s",
			user->username);
		cryptokey_failed(cmd, EX_CONFIG);
	} else if (mcrs_admin_new(crypt_user, &cmd->admin, &error) < 0) {
		cryptokey_error(cmd, "", &error);
	} else {
		cryptokey_run_verb(cmd, user);
		mcrs_admin_free(&cmd->admin);
	}
	return cryptokey_end(cmd, others);
}
