/* doveadm mailbox crypt convert: its parameters, the folders, and what is said about them. What is done with a folder is
   in mail-crypt-convert-folder.c. */

#include "compat.h"
#include "array.h"
#include "ioloop.h"
#include "sleep.h"
#include "time-util.h"
#include "mail-namespace.h"
#include "mail-storage-private.h"
#include "mailbox-list-iter.h"
#include "doveadm-print.h"

#include "mail-crypt-plugin.h"
#include "doveadm-mail-crypt.h"
#include "mail-crypt-convert.h"
#include "mail-crypt-convert-cmd.h"

#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

/* How often progress is told: in seconds, on a terminal and elsewhere */
#define CONVERT_TELL_TERMINAL 1
#define CONVERT_TELL_LOG 60

static void convert_failed(struct convert_cmd *cmd, int exit_code)
{
	/* as elsewhere in doveadm: a temporary failure wins, else the first one */
	if (cmd->ctx.exit_code == 0 || exit_code == EX_TEMPFAIL)
		cmd->ctx.exit_code = exit_code;
}

/* What is logged doesn't go on in the line of the progress. */
static void convert_end_line(struct convert_cmd *cmd)
{
	if (cmd->line_open)
		fputc('\n', stderr);
	cmd->line_open = FALSE;
}

void convert_error(struct convert_cmd *cmd, struct mailbox *box,
		   const struct mcrs_error *error)
{
	convert_end_line(cmd);
	if (box != NULL)
		i_error("Mailbox %s: %s", mailbox_get_vname(box), error->text);
	else
		i_error("%s", error->text);
	convert_failed(cmd, error->temporary ? EX_TEMPFAIL : EX_DATAERR);
}

void convert_leave(struct convert_folder *folder, uint32_t uid, const char *why)
{
	struct convert_cmd *cmd = folder->cmd;
	const char *guid = "";

	convert_end_line(cmd);
	if (folder->mail == NULL || folder->mail->uid != uid ||
	    mail_get_special(folder->mail, MAIL_FETCH_GUID, &guid) < 0)
		guid = "";
	i_error("Mailbox %s: UID %u%s%s was left as it is: %s",
		mailbox_get_vname(folder->box), uid,
		*guid == '\0' ? "" : ", GUID ", guid, why);
	if (cmd->stop) {
		i_error("Mailbox %s: Stopped: no more can be written",
			mailbox_get_vname(folder->box));
	}
	convert_failed(cmd, cmd->stop ? EX_TEMPFAIL : EX_DATAERR);
	folder->counts.left++;
}

void convert_syscall_error(struct convert_folder *folder, const char *function,
			   const char *path)
{
	convert_end_line(folder->cmd);
	i_error("Mailbox %s: %s(%s) failed: %m",
		mailbox_get_vname(folder->box), function, path);
	convert_failed(folder->cmd, EX_TEMPFAIL);
	folder->cmd->stop = TRUE;
}

/* Progress */

static const char *convert_size(uint64_t bytes)
{
	if (bytes < 10*1024)
		return t_strdup_printf("%"PRIu64" B", bytes);
	if (bytes < 10*1024*1024)
		return t_strdup_printf("%"PRIu64" KB", bytes / 1024);
	return t_strdup_printf("%"PRIu64" MB", bytes / 1024 / 1024);
}

static void
convert_tell(struct convert_folder *folder, unsigned int seq, long long msecs)
{
	struct convert_cmd *cmd = folder->cmd;
	uint64_t secs_left = (uint64_t)msecs * (folder->count - seq) / seq / 1000;
	const char *line = t_strdup_printf("%s: %u of %u mails, %s, %s/s, %u:%02u left",
		mailbox_get_vname(folder->box), seq, folder->count,
		convert_size(cmd->bytes),
		convert_size(cmd->bytes * 1000 / I_MAX(msecs, 1)),
		(unsigned int)(secs_left / 60), (unsigned int)(secs_left % 60));

	if (cmd->terminal) {
		fprintf(stderr, "\r%s\033[K", line);
		cmd->line_open = TRUE;
	} else {
		i_info("%s", line);
	}
}

void convert_progress(struct convert_folder *folder, unsigned int seq)
{
	struct convert_cmd *cmd = folder->cmd;
	int interval = cmd->terminal ? CONVERT_TELL_TERMINAL : CONVERT_TELL_LOG;
	struct timeval now;
	long long msecs;
	unsigned int pause;

	i_gettimeofday(&now);
	msecs = timeval_diff_msecs(&now, &cmd->started);
	if (timeval_diff_msecs(&now, &cmd->told) >= interval * 1000) {
		convert_tell(folder, seq, msecs);
		cmd->told = now;
	}
	if (cmd->max_rate == NULL)
		return;
	pause = mcrs_convert_pause(folder->convert, cmd->bytes, I_MAX(msecs, 0));
	if (pause > 0)
		(void)i_sleep_intr_msecs(pause);
}

/* Folders */

void convert_print(struct mailbox *box, const struct convert_counts *counts)
{
	doveadm_print(mailbox_get_vname(box));
	doveadm_print_num(counts->mails);
	doveadm_print_num(counts->converted);
	doveadm_print_num(counts->bytes);
	doveadm_print_num(counts->older);
	doveadm_print_num(counts->left);
}

/* Returns TRUE if the mailbox was taken over. */
static bool convert_box(struct convert_cmd *cmd, struct mailbox *box)
{
	struct convert_counts counts;
	int ret;

	if (mailbox_open(box) < 0 ||
	    mailbox_sync(box, MAILBOX_SYNC_FLAG_FULL_READ) < 0) {
		convert_end_line(cmd);
		i_error("Opening mailbox %s failed: %s", mailbox_get_vname(box),
			mailbox_get_last_internal_error(box, NULL));
		doveadm_mail_failed_mailbox(&cmd->ctx, box);
		return FALSE;
	}
	/* it has other folders' mails */
	if (strcmp(box->storage->name, "virtual") == 0)
		return FALSE;
	if (strcmp(box->storage->name, "mdbox") == 0) {
		convert_mdbox_add(cmd, box);
		return TRUE;
	}
	ret = convert_folder_run(cmd, box, &counts);
	convert_end_line(cmd);
	if (ret == 0)
		convert_print(box, &counts);
	return FALSE;
}

#define LIST_FLAGS (MAILBOX_LIST_ITER_RAW_LIST | MAILBOX_LIST_ITER_SKIP_ALIASES | \
	MAILBOX_LIST_ITER_NO_AUTO_BOXES | MAILBOX_LIST_ITER_RETURN_NO_FLAGS)

/* Returns the number of folders. */
static unsigned int
convert_listed(struct convert_cmd *cmd, struct mailbox_list *list, const char *mask)
{
	struct mailbox_list_iterate_context *iter;
	const struct mailbox_info *info;
	struct mailbox *box;
	unsigned int count = 0;

	iter = mailbox_list_iter_init(list, mask, LIST_FLAGS);
	while (!cmd->stop && (info = mailbox_list_iter_next(iter)) != NULL) T_BEGIN {
		if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) == 0) {
			box = mailbox_alloc(info->ns->list, info->vname,
					    MAILBOX_FLAG_IGNORE_ACLS);
			if (!convert_box(cmd, box))
				mailbox_free(&box);
			count++;
		}
	} T_END;
	if (mailbox_list_iter_deinit(&iter) < 0) {
		i_error("Listing mailboxes failed: %s",
			mailbox_list_get_last_internal_error(list, NULL));
		doveadm_mail_failed_list(&cmd->ctx, list);
	}
	return count;
}

/* The user's own folders, also those that no client is shown. */
static void
convert_mask(struct convert_cmd *cmd, struct mail_user *user, const char *mask)
{
	struct mail_namespace *ns;
	unsigned int count = 0;

	for (ns = user->namespaces; ns != NULL; ns = ns->next) {
		if (ns->type == MAIL_NAMESPACE_TYPE_PRIVATE &&
		    ns->alias_for == NULL)
			count += convert_listed(cmd, ns->list, mask);
	}
	if (count == 0 && !cmd->stop && strpbrk(mask, "*%") == NULL) {
		i_error("Mailbox %s doesn't exist, or isn't the user's own", mask);
		convert_failed(cmd, DOVEADM_EX_NOTFOUND);
	}
}

static void convert_user_mail(struct convert_cmd *cmd, struct mail_user *user)
{
	static const char *const all[] = { "*", NULL };
	const char *const *mask = cmd->masks[0] == NULL ? all : cmd->masks;

	i_gettimeofday(&cmd->started);
	cmd->told = cmd->started;
	cmd->bytes = 0;
	for (; *mask != NULL && !cmd->stop; mask++)
		convert_mask(cmd, user, *mask);
	convert_mdbox_run(cmd, user);
}

struct mcrs_convert_request convert_request(const struct convert_cmd *cmd)
{
	return (struct mcrs_convert_request) {
		.to = cmd->to,
		.max_rate = cmd->max_rate,
		.rekey = cmd->rekey,
		.dry_run = cmd->dry_run
	};
}

static int convert_run(struct doveadm_mail_cmd_context *ctx, struct mail_user *user)
{
	struct convert_cmd *cmd = (struct convert_cmd *)ctx;
	mail_crypt_user_get_t *get =
		cryptokey_mail_plugin("mail_crypt_user_get");
	int own, others = ctx->exit_code;

	/* what happened to earlier users doesn't matter for this one */
	ctx->exit_code = 0;
	cmd->user = get == NULL ? NULL : get(user);
	if (cmd->usage_error != NULL) {
		i_error("%s", cmd->usage_error);
		ctx->exit_code = EX_USAGE;
	} else if (cmd->stop) {
		convert_failed(cmd, EX_TEMPFAIL);
	} else if (cmd->user == NULL && !ctx->iterate_single_user) {
		i_info("mail_crypt isn't enabled for user %s, skipping",
		       user->username);
	} else if (cmd->user == NULL) {
		i_error("mail_crypt isn't enabled for user %s", user->username);
		convert_failed(cmd, EX_CONFIG);
	} else {
		convert_user_mail(cmd, user);
	}
	own = ctx->exit_code;
	ctx->exit_code = others;
	if (own != 0)
		convert_failed(cmd, own);
	return own == 0 ? 0 : -1;
}

/* Parameters */

static bool convert_flag(struct convert_cmd *cmd, const char *name)
{
	bool value;

	return doveadm_cmd_param_bool(cmd->ctx.cctx, name, &value) && value;
}

static void convert_preinit(struct doveadm_mail_cmd_context *ctx)
{
	struct convert_cmd *cmd = (struct convert_cmd *)ctx;

	cmd->rekey = convert_flag(cmd, "rekey");
	cmd->dry_run = convert_flag(cmd, "dry-run");
	(void)doveadm_cmd_param_str(ctx->cctx, "to", &cmd->to);
	(void)doveadm_cmd_param_str(ctx->cctx, "max-rate", &cmd->max_rate);
}

static void convert_print_headers(void)
{
	static const char *const numbers[] = {
		"mails", "converted", "bytes", "older", "left"
	};
	unsigned int i;

	doveadm_print_header("mailbox", "mailbox", DOVEADM_PRINT_HEADER_FLAG_EXPAND);
	for (i = 0; i < N_ELEMENTS(numbers); i++) {
		doveadm_print_header(numbers[i], numbers[i],
				     DOVEADM_PRINT_HEADER_FLAG_RIGHT_JUSTIFY |
				     DOVEADM_PRINT_HEADER_FLAG_NUMBER);
	}
}

static void convert_init(COMPAT_DOVEADM_INIT_PARAMS)
{
	struct convert_cmd *cmd = (struct convert_cmd *)ctx;
	struct mcrs_convert_request request = convert_request(cmd);
	struct mcrs_error error;
	bool cli = ctx->cctx->conn_type == DOVEADM_CONNECTION_TYPE_CLI;

	cmd->masks = compat_doveadm_args(ctx, "mailbox");
	cmd->terminal = cli && isatty(STDERR_FILENO) > 0;
	if (mcrs_convert_check_request(&request, &error) < 0)
		cmd->usage_error = p_strdup(ctx->pool, error.text);
	/* a server has other commands to serve */
	if (cmd->usage_error != NULL && cli)
		i_fatal_status(EX_USAGE, "%s", cmd->usage_error);
	compat_doveadm_params_changed(ctx);
	convert_print_headers();
}

static struct doveadm_mail_cmd_context *convert_alloc(void)
{
	struct convert_cmd *cmd = doveadm_mail_cmd_alloc(struct convert_cmd);

	compat_doveadm_cmd_init(&cmd->ctx, "t:rnm:");
	cmd->ctx.v.preinit = convert_preinit;
	cmd->ctx.v.init = convert_init;
	cmd->ctx.v.run = convert_run;
	doveadm_print_init(DOVEADM_PRINT_TYPE_TABLE);
	return &cmd->ctx;
}

struct doveadm_cmd_ver2 convert_command = {
	.name = "mailbox crypt convert",
	.mail_cmd = convert_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX
		"[-t encrypted|plain] [-r] [-n] [-m <rate>] [<mailbox mask> [...]]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('t', "to", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('r', "rekey", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('n', "dry-run", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('m', "max-rate", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('\0', "mailbox", CMD_PARAM_ARRAY, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
};
