/* doveadm mailbox cryptokey ..: the commands' parameters. */

#include "compat.h"
#include "array.h"
#include "istream.h"
#include "safe-memset.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"

#include <sysexits.h>

/* On the command line this is the end; a server has other commands to serve. */
static void cryptokey_check_usage(struct cryptokey_cmd *cmd)
{
	if (cmd->usage_error != NULL &&
	    cmd->ctx.cctx->conn_type == DOVEADM_CONNECTION_TYPE_CLI)
		i_fatal_status(EX_USAGE, "%s", cmd->usage_error);
}

/* Parameters */

static bool cryptokey_flag(struct cryptokey_cmd *cmd, const char *name)
{
	bool value;

	/* a false from the HTTP API is set as well */
	return doveadm_cmd_param_bool(cmd->ctx.cctx, name, &value) && value;
}

/* Changes the parameters that are sent to the server that may do the work: a flag that is false isn't
   sent, and what was typed here is sent as input. */
static void cryptokey_fix_params(struct cryptokey_cmd *cmd)
{
	/* they are the command's own, const for its readers */
	struct doveadm_cmd_param *params =
		(struct doveadm_cmd_param *)cmd->ctx.cctx->argv;
	bool typed_old = FALSE, typed_new = FALSE;
	int i;

	for (i = 0; i < cmd->ctx.cctx->argc; i++) {
		struct doveadm_cmd_param *param = &params[i];

		if (!param->value_set)
			continue;
		/* what was read from the file is sent as input */
		if (param->short_opt == 'k' && param->type == CMD_PARAM_STR)
			param->value.v_string = FROM_INPUT;
		if (param->type != CMD_PARAM_BOOL)
			continue;
		if (!param->value.v_bool) {
			param->value_set = FALSE;
		} else if (cmd->input.data != NULL &&
			   (param->short_opt == 'O' || param->short_opt == 'N')) {
			param->value_set = FALSE;
			if (param->short_opt == 'O')
				typed_old = TRUE;
			else
				typed_new = TRUE;
		}
	}
	for (i = 0; i < cmd->ctx.cctx->argc; i++) {
		if ((typed_old && params[i].short_opt == 'o') ||
		    (typed_new && params[i].short_opt == 'n')) {
			params[i].value.v_string = FROM_INPUT;
			params[i].value_set = TRUE;
		}
	}
	compat_doveadm_params_changed(&cmd->ctx);
}

void cryptokey_preinit(struct doveadm_mail_cmd_context *ctx)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;

	cmd->user_key = cryptokey_flag(cmd, "user-key") ||
		cryptokey_flag(cmd, "user-key-only");
	cmd->rekey = cryptokey_flag(cmd, "re-encrypt-box-keys");
	cmd->force = cryptokey_flag(cmd, "force");
	cmd->clear = cryptokey_flag(cmd, "clear-password");
	cmd->undo = cryptokey_flag(cmd, "undo");
	cmd->no_undo = cryptokey_flag(cmd, "no-undo");
	cmd->compat = cryptokey_flag(cmd, "compat");
	cmd->needed = cryptokey_flag(cmd, "needed");
	cmd->folders = cryptokey_flag(cmd, "folders");
	cmd->abandon = cryptokey_flag(cmd, "abandon");
	cmd->given = cryptokey_flag(cmd, "given");
	(void)doveadm_cmd_param_str(ctx->cctx, "type", &cmd->slot_type);
	(void)doveadm_cmd_param_str(ctx->cctx, "name", &cmd->slot);
	(void)doveadm_cmd_param_str(ctx->cctx, "label", &cmd->label);
	(void)doveadm_cmd_param_str(ctx->cctx, "key-file", &cmd->key_file);
	if (cmd->verb == MCRS_ADMIN_IMPORT || cmd->verb == MCRS_ADMIN_DELETE)
		(void)doveadm_cmd_param_str(ctx->cctx, "mailbox", &cmd->mailbox);
}

void cryptokey_init_masks(COMPAT_DOVEADM_INIT_PARAMS)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;

	cmd->args = compat_doveadm_args(ctx, "mailbox");
	cryptokey_fix_params(cmd);
	/* listing nothing works: scripts rely on it */
	if (cmd->args[0] == NULL && !cmd->user_key && !cmd->rekey &&
	    cmd->verb != MCRS_ADMIN_LIST)
		cmd->usage_error = "Nothing to do: use -U or specify a mailbox mask";
	cryptokey_check_usage(cmd);
	cryptokey_print_headers(cmd);
}

void cryptokey_init_one(COMPAT_DOVEADM_INIT_PARAMS)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;

	if (cmd->verb == MCRS_ADMIN_DELETE)
		cmd->args = compat_doveadm_args(ctx, "key-id");
	cryptokey_fix_params(cmd);
	if ((cmd->mailbox != NULL) == cmd->user_key)
		cmd->usage_error = "Use either -U or -m mailbox";
	else if (cmd->verb == MCRS_ADMIN_DELETE && cmd->args[0] == NULL)
		cmd->usage_error = "No key id was given";
	else if (cmd->verb == MCRS_ADMIN_IMPORT)
		cryptokey_read_input(cmd);
	cryptokey_check_usage(cmd);
	cryptokey_print_headers(cmd);
}

static const char *
cryptokey_password_usage(struct cryptokey_cmd *cmd, bool ask_old, bool ask_new)
{
	if (cmd->undo && (ask_old || ask_new || cmd->clear || cmd->compat ||
			  cmd->old_password != NULL ||
			  cmd->new_password != NULL))
		return "--undo needs no password";
	if (cmd->undo)
		return NULL;
	if (ask_old && cmd->old_password != NULL)
		return "Use either -o or -O";
	if (ask_new && cmd->new_password != NULL)
		return "Use either -n or -N";
	if (cmd->clear && (ask_new || cmd->new_password != NULL))
		return "Use either -C or a new password";
	if (cmd->clear && cmd->compat)
		return "Use either -C or --compat";
	if (!cmd->clear && !cmd->compat && !ask_new &&
	    cmd->new_password == NULL)
		return "No new password: use -n or -N, or say -C to clear it";
	if (cmd->new_password != NULL && cmd->new_password[0] == '\0')
		return "The new password is empty: say -C to clear it";
	if ((ask_old || ask_new) &&
	    cmd->ctx.cctx->conn_type != DOVEADM_CONNECTION_TYPE_CLI)
		return "There is nobody to ask for a password";
	return NULL;
}

void cryptokey_init_password(COMPAT_DOVEADM_INIT_PARAMS)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;
	bool ask_old = cryptokey_flag(cmd, "ask-old-password");
	bool ask_new = cryptokey_flag(cmd, "ask-new-password");
	const char *value;

	/* copies, since they will be wiped */
	if (doveadm_cmd_param_str(ctx->cctx, "old-password", &value))
		cmd->old_password = p_strdup(ctx->pool, value);
	if (doveadm_cmd_param_str(ctx->cctx, "new-password", &value))
		cmd->new_password = p_strdup(ctx->pool, value);

	cmd->usage_error = cryptokey_password_usage(cmd, ask_old, ask_new);
	if (cmd->usage_error == NULL)
		cryptokey_read_passwords(cmd, ask_old, ask_new);
	cryptokey_check_usage(cmd);
	cryptokey_fix_params(cmd);
	cryptokey_print_headers(cmd);
}

void cryptokey_init_secrets(COMPAT_DOVEADM_INIT_PARAMS)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;

	if (cmd->verb == MCRS_ADMIN_SLOT_ADD && cmd->slot_type == NULL)
		cmd->usage_error = "No type was given: recovery, app, password or key";
	else if (cmd->verb == MCRS_ADMIN_SLOT_REMOVE && cmd->slot == NULL)
		cmd->usage_error = "No slot was given";
	else if (cmd->verb != MCRS_ADMIN_SLOT_LIST &&
		 cmd->verb != MCRS_ADMIN_SLOT_REMOVE)
		cryptokey_read_secrets(cmd);
	cryptokey_check_usage(cmd);
	cryptokey_fix_params(cmd);
	cryptokey_print_headers(cmd);
}

void cryptokey_deinit(struct doveadm_mail_cmd_context *ctx)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;

	i_stream_unref(&ctx->cmd_input);
	cryptokey_wipe_input(cmd);
	if (cmd->old_password != NULL)
		safe_memset((char *)cmd->old_password, 0,
			    strlen(cmd->old_password));
	if (cmd->new_password != NULL)
		safe_memset((char *)cmd->new_password, 0,
			    strlen(cmd->new_password));
}
