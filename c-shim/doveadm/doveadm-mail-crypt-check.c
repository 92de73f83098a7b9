/* doveadm mailbox crypt check: walks the folders and their mails, and shows the core what lies on disk. The mails are in
   doveadm-mail-crypt-check-mails.c. */

#include "compat.h"
#include "dict.h"
#include "module-dir.h"
#include "mail-namespace.h"
#include "mail-storage-private.h"
#include "mailbox-list-iter.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "mail-crypt-plugin.h"
#include "mail-crypt-acl-plugin.h"
#include "doveadm-mail-crypt.h"
#include "doveadm-mail-crypt-check.h"
#include "doveadm-mail-crypt-check-private.h"

#include <sysexits.h>

/* Somebody should do something. It is one of the codes that a doveadm server can tell. */
#define EX_PROBLEMS EX_DATAERR

void crypt_check_failed(struct crypt_check_cmd *cmd)
{
	cmd->ctx.exit_code = EX_TEMPFAIL;
	mcrs_check_incomplete(cmd->check);
}

void crypt_check_error(struct crypt_check_cmd *cmd, struct mailbox *box,
		       const struct mcrs_error *error)
{
	i_error("%s%s", box == NULL ? "" : cryptokey_prefix(mailbox_get_vname(box)),
		error->text);
	crypt_check_failed(cmd);
}

static void crypt_check_box_error(struct crypt_check_cmd *cmd, struct mailbox *box,
				  const char *what)
{
	i_error("Mailbox %s can't be %s: %s", mailbox_get_vname(box), what,
		mailbox_get_last_internal_error(box, NULL));
	crypt_check_failed(cmd);
}

static void crypt_check_print_rows(struct crypt_check_cmd *cmd)
{
	struct mcrs_admin_row row;
	const char *const *cell;

	while (mcrs_check_next_row(cmd->check, &row) > 0) {
		if (cmd->summary)
			continue;
		for (cell = row.cells; *cell != NULL; cell++)
			doveadm_print(*cell);
	}
}

/* One line with the numbers of a user, or of all. */
static void crypt_check_print_counts(const char *name, const uint64_t *counts)
{
	char text[512];
	unsigned int i;

	mcrs_check_text(counts, text, sizeof(text));
	T_BEGIN {
		/* a line is printed when all of it is there */
		for (i = 0; i < MCRS_CHECK_COUNTS; i++)
			doveadm_print(t_strdup_printf("%"PRIu64, counts[i]));
		doveadm_print(t_strdup_printf("%s: %s", name, text));
	} T_END;
}

/* Shares */

struct crypt_check_acl {
	struct crypt_check_cmd *cmd;
	struct mcrs_error error;
};

static int
crypt_check_acl_entry(const struct acl_rights *rights, void *context)
{
	struct crypt_check_acl *acl = context;

	return mcrs_check_acl_entry(acl->cmd->check, rights, &acl->error);
}

static void crypt_check_shares(struct crypt_check_cmd *cmd, struct mailbox *box)
{
	struct module *module =
		module_dir_find(mail_storage_service_modules, "mail_crypt_acl");
	struct crypt_check_acl acl = { .cmd = cmd };
	mail_crypt_acl_entries_t *entries = module == NULL ? NULL :
		module_get_symbol_quiet(module, "mail_crypt_acl_entries");
	int known = entries == NULL ? 0 :
		entries(box, crypt_check_acl_entry, &acl);

	if (known < 0 && acl.error.text[0] == '\0') {
		i_strocpy(acl.error.text, "the ACL can't be read",
			  sizeof(acl.error.text));
	}
	if (known < 0 ||
	    mcrs_check_shares(cmd->check, box, known > 0, &acl.error) < 0)
		crypt_check_error(cmd, box, &acl.error);
}

/* Folders */

static void crypt_check_open_folder(struct crypt_check_cmd *cmd,
				    struct mailbox *box)
{
	struct mailbox_metadata metadata;
	struct mcrs_error error;
	int ret;

	if (mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0) {
		crypt_check_box_error(cmd, box, "asked for its GUID");
		return;
	}
	ret = mcrs_check_begin_folder(cmd->check, box, metadata.guid, &error);
	if (ret == 0)
		return;
	if (ret < 0) {
		crypt_check_error(cmd, box, &error);
		return;
	}
	crypt_check_shares(cmd, box);
	crypt_check_mails(cmd, box);
	if (mcrs_check_end_folder(cmd->check, &error) < 0)
		crypt_check_error(cmd, box, &error);
}

static void
crypt_check_folder(struct crypt_check_cmd *cmd, const struct mailbox_info *info)
{
	struct mailbox *box;

	box = mailbox_alloc(info->ns->list, info->vname, MAILBOX_FLAG_READONLY |
			    MAILBOX_FLAG_IGNORE_ACLS);
	if (mailbox_open(box) < 0)
		crypt_check_box_error(cmd, box, "opened");
	/* Maildir gives mail its UIDs when it looks: as any client's session does */
	else if (strcmp(box->storage->name, "maildir") == 0 &&
		 mailbox_sync(box, 0) < 0)
		crypt_check_box_error(cmd, box, "synced");
	/* a virtual folder shows the mails of others */
	else if (box->virtual_vfuncs == NULL)
		crypt_check_open_folder(cmd, box);
	crypt_check_print_rows(cmd);
	mailbox_free(&box);
}

/* Returns the number of folders. */
static unsigned int
crypt_check_namespace(struct crypt_check_cmd *cmd, struct mail_namespace *ns,
		      const char *mask)
{
	struct mailbox_list_iterate_context *iter;
	const struct mailbox_info *info;
	unsigned int count = 0;

	iter = mailbox_list_iter_init(ns->list, mask,
		MAILBOX_LIST_ITER_SKIP_ALIASES | MAILBOX_LIST_ITER_RAW_LIST |
		MAILBOX_LIST_ITER_NO_AUTO_BOXES |
		MAILBOX_LIST_ITER_RETURN_NO_FLAGS);
	while ((info = mailbox_list_iter_next(iter)) != NULL) T_BEGIN {
		if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) == 0) {
			crypt_check_folder(cmd, info);
			count++;
		}
	} T_END;
	if (mailbox_list_iter_deinit(&iter) < 0) {
		i_error("Listing mailboxes failed: %s",
			mailbox_list_get_last_internal_error(ns->list, NULL));
		crypt_check_failed(cmd);
	}
	return count;
}

/* The user's own folders, also those that no client is shown. */
static void crypt_check_mask(struct crypt_check_cmd *cmd, struct mail_user *user,
			     const char *mask)
{
	struct mail_namespace *ns;
	unsigned int count = 0;

	for (ns = user->namespaces; ns != NULL; ns = ns->next) {
		if (ns->type == MAIL_NAMESPACE_TYPE_PRIVATE &&
		    ns->alias_for == NULL)
			count += crypt_check_namespace(cmd, ns, mask);
	}
	if (count == 0 && strpbrk(mask, "*%") == NULL) {
		i_error("Mailbox %s doesn't exist, or isn't the user's own",
			mask);
		if (cmd->ctx.exit_code == 0)
			cmd->ctx.exit_code = DOVEADM_EX_NOTFOUND;
		mcrs_check_incomplete(cmd->check);
	}
}

/* The user */

/* A dict may not know how to list everything; then nothing is said of old GUIDs. */
static void crypt_check_attributes(struct crypt_check_cmd *cmd,
				   struct mail_user *user)
{
	struct dict_iterate_context *iter;
	const char *key, *value, *error;

	if (user->_attr_dict == NULL)
		return;
	iter = dict_iterate_init(user->_attr_dict,
				 mail_user_get_dict_op_settings(user),
				 DICT_PATH_PRIVATE, DICT_ITERATE_FLAG_RECURSE |
				 DICT_ITERATE_FLAG_NO_VALUE);
	while (dict_iterate(iter, &key, &value))
		mcrs_check_attribute(cmd->check, key);
	(void)dict_iterate_deinit(&iter, &error);
}

static void crypt_check_user(struct crypt_check_cmd *cmd, struct mail_user *user)
{
	static const char *const everything[] = { "*", NULL };
	const char *const *masks = cmd->whole ? everything : cmd->masks;
	uint64_t counts[MCRS_CHECK_COUNTS] = { 0 };
	struct mcrs_error error;
	unsigned int i;

	for (; *masks != NULL; masks++)
		crypt_check_mask(cmd, user, *masks);
	if (cmd->whole)
		crypt_check_attributes(cmd, user);
	if (mcrs_check_end_user(cmd->check, &error) < 0)
		crypt_check_error(cmd, NULL, &error);
	crypt_check_print_rows(cmd);
	/* over HTTP an exit code comes in place of what was found */
	if (mcrs_check_add_counts(cmd->check, counts) > 0 &&
	    cmd->ctx.exit_code == 0 &&
	    cmd->ctx.cctx->conn_type != DOVEADM_CONNECTION_TYPE_HTTP)
		cmd->ctx.exit_code = EX_PROBLEMS;
	if (cmd->summary)
		crypt_check_print_counts(user->username, counts);
	for (i = 0; i < MCRS_CHECK_COUNTS; i++)
		cmd->total[i] += counts[i];
	cmd->users++;
}

/* Returns 1 if the user has an INBOX, 0 if not, -1 if that can't be told. Opening one makes it. */
static int crypt_check_has_inbox(struct mail_user *user)
{
	struct mail_namespace *ns = mail_namespace_find_inbox(user->namespaces);
	enum mailbox_existence existence;
	struct mailbox *box;
	int ret;

	if (ns == NULL)
		return 0;
	box = mailbox_alloc(ns->list, "INBOX",
			    MAILBOX_FLAG_READONLY | MAILBOX_FLAG_IGNORE_ACLS);
	ret = mailbox_exists(box, FALSE, &existence);
	if (ret < 0) {
		i_error("INBOX can't be looked for: %s",
			mailbox_get_last_internal_error(box, NULL));
	}
	mailbox_free(&box);
	return ret < 0 ? -1 : existence == MAILBOX_EXISTENCE_SELECT ? 1 : 0;
}

static void
crypt_check_with_keys(struct crypt_check_cmd *cmd, struct mail_user *user,
		      struct mcrs_user *crypt_user)
{
	struct mcrs_error error;
	int ret = crypt_check_has_inbox(user);

	if (ret == 0) {
		i_info("User %s has no INBOX yet: there is nothing to check",
		       user->username);
	} else if (ret < 0) {
		cmd->ctx.exit_code = EX_TEMPFAIL;
	} else if (mcrs_check_new(crypt_user, cmd->full, cmd->whole,
				  &cmd->check, &error) < 0) {
		i_error("%s", error.text);
		cmd->ctx.exit_code = EX_TEMPFAIL;
	} else {
		crypt_check_user(cmd, user);
		mcrs_check_free(&cmd->check);
	}
}

/* As elsewhere in doveadm: a temporary failure wins, or else the first one. Returns 0, or -1 if this user has one. */
static int crypt_check_end(struct crypt_check_cmd *cmd, int others)
{
	int own = cmd->ctx.exit_code;

	if (others != 0 && own != EX_TEMPFAIL)
		cmd->ctx.exit_code = others;
	return own == 0 ? 0 : -1;
}

static int
crypt_check_run(struct doveadm_mail_cmd_context *ctx, struct mail_user *user)
{
	struct crypt_check_cmd *cmd = (struct crypt_check_cmd *)ctx;
	mail_crypt_user_get_t *get = cryptokey_mail_plugin("mail_crypt_user_get");
	struct mcrs_user *crypt_user = get == NULL ? NULL : get(user);
	int others = ctx->exit_code;

	ctx->exit_code = 0;
	if (crypt_user != NULL) {
		crypt_check_with_keys(cmd, user, crypt_user);
	} else if (!ctx->iterate_single_user) {
		i_info("mail_crypt isn't enabled for user %s, skipping",
		       user->username);
	} else {
		i_error("mail_crypt isn't enabled for user %s", user->username);
		ctx->exit_code = EX_CONFIG;
	}
	return crypt_check_end(cmd, others);
}

/* The command */

static bool crypt_check_flag(struct crypt_check_cmd *cmd, const char *name)
{
	bool value;

	/* a false from the HTTP API is set as well */
	return doveadm_cmd_param_bool(cmd->ctx.cctx, name, &value) && value;
}

/* A server that does the work is asked about one user at a time, and would otherwise tell everything. */
static void crypt_check_fix_params(struct crypt_check_cmd *cmd)
{
	/* they are the command's own, const for its readers */
	struct doveadm_cmd_param *params =
		(struct doveadm_cmd_param *)cmd->ctx.cctx->argv;
	int i;

	for (i = 0; i < cmd->ctx.cctx->argc; i++) {
		struct doveadm_cmd_param *param = &params[i];

		if (param->type == CMD_PARAM_BOOL && param->short_opt == 's') {
			param->value.v_bool = cmd->summary;
			param->value_set = cmd->summary;
		} else if (param->type == CMD_PARAM_BOOL && !param->value.v_bool) {
			param->value_set = FALSE;
		}
	}
	compat_doveadm_params_changed(&cmd->ctx);
}

static void crypt_check_init(COMPAT_DOVEADM_INIT_PARAMS)
{
	struct crypt_check_cmd *cmd = (struct crypt_check_cmd *)ctx;
	struct mcrs_admin_column column;
	unsigned int i;

	cmd->masks = compat_doveadm_args(ctx, "mailbox");
	cmd->whole = cmd->masks[0] == NULL;
	cmd->full = crypt_check_flag(cmd, "full");
	cmd->summary = crypt_check_flag(cmd, "summary") ||
		!ctx->iterate_single_user;
	crypt_check_fix_params(cmd);
	/* the parameters may have moved */
	cmd->masks = compat_doveadm_args(ctx, "mailbox");
	for (i = 0; mcrs_check_column(cmd->summary, i, &column) > 0; i++)
		doveadm_print_header(column.key, column.title, 0);
}

static void crypt_check_deinit(struct doveadm_mail_cmd_context *ctx)
{
	struct crypt_check_cmd *cmd = (struct crypt_check_cmd *)ctx;

	/* where a server does the work, nobody was counted here */
	if (cmd->users == 0 || ctx->iterate_single_user ||
	    ctx->cctx->conn_type != DOVEADM_CONNECTION_TYPE_CLI)
		return;
	doveadm_print_sticky("username", "TOTAL");
	crypt_check_print_counts(t_strdup_printf("TOTAL of %u users", cmd->users),
				 cmd->total);
}

static struct doveadm_mail_cmd_context *crypt_check_alloc(void)
{
	struct crypt_check_cmd *cmd = doveadm_mail_cmd_alloc(struct crypt_check_cmd);

	compat_doveadm_cmd_init(&cmd->ctx, "fs");
	cmd->ctx.v.init = crypt_check_init;
	cmd->ctx.v.run = crypt_check_run;
	cmd->ctx.v.deinit = crypt_check_deinit;
	doveadm_print_init(DOVEADM_PRINT_TYPE_FORMATTED);
	doveadm_print_formatted_set_format("%{text}\n");
	return &cmd->ctx;
}

struct doveadm_cmd_ver2 crypt_check_command = {
	.name = "mailbox crypt check",
	.mail_cmd = crypt_check_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[--full] [--summary] [<mailbox mask> [...]]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('f', "full", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('s', "summary", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "mailbox", CMD_PARAM_ARRAY, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
};
