/* doveadm mailbox cryptokey ..: the commands' parameters and what they read from standard input. */

#include "compat.h"
#include "array.h"
#include "askpass.h"
#include "istream.h"
#include "safe-memset.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"

#include <sysexits.h>
#include <unistd.h>

/* More than any key or password has. */
#define INPUT_MAX (64*1024)
#define FROM_INPUT "-"

/* Appends one line to the input. */
static void cryptokey_input_add(struct cryptokey_cmd *cmd, const char *line)
{
	size_t len = strlen(line);

	if (cmd->input.data == NULL)
		cmd->input.data = p_malloc(cmd->ctx.pool, INPUT_MAX + 1);
	if (len + 1 > INPUT_MAX - cmd->input.size) {
		cmd->usage_error = "The password is too long";
		return;
	}
	memcpy(cmd->input.data + cmd->input.size, line, len);
	cmd->input.data[cmd->input.size + len] = '\n';
	cmd->input.size += len + 1;
}

static const char *cryptokey_read_stdin(struct cryptokey_cmd *cmd)
{
	ssize_t ret;

	/* not through a stream: its buffers would keep what they read */
	while (cmd->input.size <= INPUT_MAX &&
	       (ret = read(STDIN_FILENO, cmd->input.data + cmd->input.size,
			   INPUT_MAX + 1 - cmd->input.size)) != 0) {
		if (ret < 0)
			return t_strdup_printf("read(stdin) failed: %m");
		cmd->input.size += ret;
	}
	return NULL;
}

static const char *
cryptokey_read_stream(struct cryptokey_cmd *cmd, struct istream *input)
{
	const unsigned char *data;
	size_t size;

	/* the HTTP API has read it to its end already */
	if (input->v_offset != 0)
		i_stream_seek(input, 0);
	while (cmd->input.size <= INPUT_MAX &&
	       i_stream_read_more(input, &data, &size) > 0) {
		size = I_MIN(size, INPUT_MAX + 1 - cmd->input.size);
		memcpy(cmd->input.data + cmd->input.size, data, size);
		cmd->input.size += size;
		i_stream_skip(input, size);
	}
	return input->stream_errno == 0 ? NULL :
		t_strdup_printf("read(%s) failed: %s", i_stream_get_name(input),
				i_stream_get_error(input));
}

/* The server that may do the work has to read the same input. */
static void cryptokey_pass_input_on(struct cryptokey_cmd *cmd)
{
	i_stream_unref(&cmd->ctx.cmd_input);
	cmd->ctx.cmd_input =
		i_stream_create_from_data(cmd->input.data, cmd->input.size);
	i_stream_set_name(cmd->ctx.cmd_input, "input");
}

static void cryptokey_read_input(struct cryptokey_cmd *cmd)
{
	enum doveadm_client_type type = cmd->ctx.cctx->conn_type;
	const char *error;

	cmd->input.data = p_malloc(cmd->ctx.pool, INPUT_MAX + 1);
	if (cmd->ctx.cmd_input != NULL) {
		error = cryptokey_read_stream(cmd, cmd->ctx.cmd_input);
	} else if (type == DOVEADM_CONNECTION_TYPE_CLI) {
		error = cryptokey_read_stdin(cmd);
	} else if (type == DOVEADM_CONNECTION_TYPE_TCP) {
		doveadm_mail_get_input(&cmd->ctx);
		error = cryptokey_read_stream(cmd, cmd->ctx.cmd_input);
	} else {
		error = "There is no standard input: use the parameters";
	}
	if (error == NULL && cmd->input.size > INPUT_MAX)
		error = "The input is too long for a key or a password";
	if (error != NULL)
		cmd->usage_error = p_strdup(cmd->ctx.pool, error);
	cryptokey_pass_input_on(cmd);
}

/* Takes the next line of the input, and ends it with a NUL. */
static const char *cryptokey_next_line(struct cryptokey_cmd *cmd, size_t *pos)
{
	char *line = (char *)cmd->input.data + *pos;
	size_t left = cmd->input.size - *pos;
	char *end = left == 0 ? NULL : memchr(line, '\n', left);

	if (left == 0)
		return NULL;
	if (end == NULL)
		end = line + left;
	*pos = I_MIN((size_t)(end - (char *)cmd->input.data) + 1,
		     cmd->input.size);
	if (end > line && end[-1] == '\r')
		end--;
	if (memchr(line, '\0', end - line) != NULL) {
		cmd->usage_error = "There is a NUL byte in the password";
		return NULL;
	}
	/* the data has room for one byte more */
	return p_strndup(cmd->ctx.pool, line, end - line);
}

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

		if (!param->value_set || param->type != CMD_PARAM_BOOL ||
		    param->short_opt == '\0' ||
		    strchr("URfCON", param->short_opt) == NULL)
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
	switch (cmd->verb) {
	case MCRS_ADMIN_LIST:
		doveadm_print_header("box", "Folder", 0);
		doveadm_print_header("active", "Active", 0);
		doveadm_print_header("pubid", "Public ID", 0);
		break;
	case MCRS_ADMIN_EXPORT:
		doveadm_print_header("box", "Folder", 0);
		doveadm_print_header("name", "Public ID", 0);
		doveadm_print_header("error", "Error", 0);
		doveadm_print_header("key", "Key", 0);
		break;
	default:
		doveadm_print_header("success", "  ", 0);
		doveadm_print_header("box", "Folder", 0);
		doveadm_print_header("pubid", "Public ID", 0);
		break;
	}
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
	doveadm_print_header("success", "  ", 0);
	doveadm_print_header("box", "Folder", 0);
	doveadm_print_header("pubid", "Public ID", 0);
}

/* Passwords */

static void
cryptokey_ask(struct cryptokey_cmd *cmd, const char *prompt, const char *again)
{
	const char *password = t_askpass(prompt), *second;

	if (again != NULL) {
		second = t_askpass(again);
		if (strcmp(password, second) != 0)
			cmd->usage_error = "The passwords don't match";
		safe_memset((char *)second, 0, strlen(second));
	}
	if (cmd->usage_error == NULL)
		cryptokey_input_add(cmd, password);
	safe_memset((char *)password, 0, strlen(password));
}

static const char *
cryptokey_password_usage(struct cryptokey_cmd *cmd, bool ask_old, bool ask_new)
{
	if (ask_old && cmd->old_password != NULL)
		return "Use either -o or -O";
	if (ask_new && cmd->new_password != NULL)
		return "Use either -n or -N";
	if (cmd->clear && (ask_new || cmd->new_password != NULL))
		return "Use either -C or a new password";
	if (!cmd->clear && !ask_new && cmd->new_password == NULL)
		return "No new password: use -n or -N, or say -C to clear it";
	if (cmd->new_password != NULL && cmd->new_password[0] == '\0')
		return "The new password is empty: say -C to clear it";
	if ((ask_old || ask_new) &&
	    cmd->ctx.cctx->conn_type != DOVEADM_CONNECTION_TYPE_CLI)
		return "There is nobody to ask for a password";
	return NULL;
}

static bool cryptokey_is_input(const char *password)
{
	return password != NULL && strcmp(password, FROM_INPUT) == 0;
}

/* Passwords that stand in the input, or are typed, come from there in order: the old one first. */
static void
cryptokey_get_passwords(struct cryptokey_cmd *cmd, bool ask_old, bool ask_new)
{
	bool read_old = cryptokey_is_input(cmd->old_password);
	bool read_new = cryptokey_is_input(cmd->new_password);
	size_t pos = 0;

	if ((read_old && ask_new) || (ask_old && read_new)) {
		cmd->usage_error = "Either type both passwords, or none";
		return;
	}
	if (read_old || read_new)
		cryptokey_read_input(cmd);
	if (ask_old)
		cryptokey_ask(cmd, "Old password: ", NULL);
	if (ask_new && cmd->usage_error == NULL)
		cryptokey_ask(cmd, "New password: ", "Confirm new password: ");
	if (cmd->usage_error != NULL)
		return;
	if (ask_old || ask_new)
		cryptokey_pass_input_on(cmd);
	if (read_old || ask_old)
		cmd->old_password = cryptokey_next_line(cmd, &pos);
	if (read_new || ask_new)
		cmd->new_password = cryptokey_next_line(cmd, &pos);
	if (cmd->usage_error != NULL)
		;
	else if ((read_old && cmd->old_password == NULL) ||
		 (read_new && cmd->new_password == NULL))
		cmd->usage_error = "No password in the input";
	else if (cmd->new_password != NULL && cmd->new_password[0] == '\0')
		cmd->usage_error = "The new password is empty: say -C to clear it";
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
		cryptokey_get_passwords(cmd, ask_old, ask_new);
	cryptokey_check_usage(cmd);
	cryptokey_fix_params(cmd);
	doveadm_print_header_simple("result");
}

void cryptokey_deinit(struct doveadm_mail_cmd_context *ctx)
{
	struct cryptokey_cmd *cmd = (struct cryptokey_cmd *)ctx;

	i_stream_unref(&ctx->cmd_input);
	if (cmd->input.data != NULL)
		safe_memset(cmd->input.data, 0, INPUT_MAX + 1);
	if (cmd->old_password != NULL)
		safe_memset((char *)cmd->old_password, 0,
			    strlen(cmd->old_password));
	if (cmd->new_password != NULL)
		safe_memset((char *)cmd->new_password, 0,
			    strlen(cmd->new_password));
}
