/* doveadm mailbox cryptokey ..: secrets and keys in standard input, in a file, or typed. */

#include "compat.h"
#include "array.h"
#include "askpass.h"
#include "istream.h"
#include "safe-memset.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"

#include <fcntl.h>
#include <unistd.h>

/* More than any key or password has. */
#define INPUT_MAX (64*1024)

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

/* Returns NULL, or what went wrong. */
static const char *
cryptokey_read_fd(struct cryptokey_cmd *cmd, int fd, const char *name)
{
	ssize_t ret;

	/* not through a stream: its buffers would keep what they read */
	while (cmd->input.size <= INPUT_MAX &&
	       (ret = read(fd, cmd->input.data + cmd->input.size,
			   INPUT_MAX + 1 - cmd->input.size)) != 0) {
		if (ret < 0)
			return t_strdup_printf("read(%s) failed: %m", name);
		cmd->input.size += ret;
	}
	return NULL;
}

/* Puts the file of a key before the secrets. Returns NULL, or what went wrong. */
static const char *
cryptokey_read_key_file(struct cryptokey_cmd *cmd, const char *path)
{
	const char *error;
	int fd = open(path, O_RDONLY);

	if (fd == -1)
		return t_strdup_printf("open(%s) failed: %m", path);
	error = cryptokey_read_fd(cmd, fd, path);
	if (close(fd) < 0 && error == NULL)
		error = t_strdup_printf("close(%s) failed: %m", path);
	if (error == NULL && cmd->input.size > 0 &&
	    cmd->input.size < INPUT_MAX &&
	    cmd->input.data[cmd->input.size - 1] != '\n')
		cmd->input.data[cmd->input.size++] = '\n';
	return error;
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

/* Returns NULL, or what went wrong. */
static const char *cryptokey_read_any(struct cryptokey_cmd *cmd)
{
	switch (cmd->ctx.cctx->conn_type) {
	case DOVEADM_CONNECTION_TYPE_CLI:
		if (cmd->ctx.cmd_input == NULL)
			return cryptokey_read_fd(cmd, STDIN_FILENO, "stdin");
		break;
	case DOVEADM_CONNECTION_TYPE_TCP:
		if (cmd->ctx.cmd_input == NULL)
			doveadm_mail_get_input(&cmd->ctx);
		break;
	default:
		if (cmd->ctx.cmd_input == NULL)
			return "There is no standard input: use the parameters";
		break;
	}
	return cryptokey_read_stream(cmd, cmd->ctx.cmd_input);
}

static void cryptokey_input_end(struct cryptokey_cmd *cmd, const char *error)
{
	if (error == NULL && cmd->input.size > INPUT_MAX)
		error = "The input is too long for a key or a password";
	if (error != NULL)
		cmd->usage_error = p_strdup(cmd->ctx.pool, error);
	cryptokey_pass_input_on(cmd);
}

void cryptokey_read_input(struct cryptokey_cmd *cmd)
{
	cmd->input.data = p_malloc(cmd->ctx.pool, INPUT_MAX + 1);
	cryptokey_input_end(cmd, cryptokey_read_any(cmd));
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

/* Asks for one line, twice if there is another prompt. */
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

/* Asks for what a line may say, and leaves the line out if nothing is typed. */
static void
cryptokey_ask_optional(struct cryptokey_cmd *cmd, const char *prompt)
{
	const char *typed = t_askpass(prompt);

	if (typed[0] != '\0')
		cryptokey_input_add(cmd, typed);
	safe_memset((char *)typed, 0, strlen(typed));
}

/* Asks for what would stand in standard input. */
static void cryptokey_ask_secrets(struct cryptokey_cmd *cmd)
{
	/* the key of a slot to add is a public one */
	if (cmd->key_file != NULL && cmd->verb != MCRS_ADMIN_SLOT_ADD)
		cryptokey_ask_optional(cmd, "Password of the key (empty: none): ");
	switch (cmd->verb) {
	case MCRS_ADMIN_SLOT_ADD:
		cryptokey_ask_optional(cmd, "Password, or what else opens the "
				       "keys (empty: as configured): ");
		if (strcmp(cmd->slot_type, "password") == 0)
			cryptokey_ask(cmd, "Second password: ",
				      "Confirm second password: ");
		else if (cmd->given)
			cryptokey_ask(cmd, "Secret of the app: ", NULL);
		break;
	case MCRS_ADMIN_SLOT_TEST:
		if (cmd->key_file == NULL)
			cryptokey_ask(cmd, "Secret: ", NULL);
		break;
	case MCRS_ADMIN_RESET:
		if (cmd->key_file == NULL && !cmd->abandon)
			cryptokey_ask(cmd, "Recovery code, or what else opens "
				      "the keys: ", NULL);
		cryptokey_ask(cmd, "New password: ", "Confirm new password: ");
		break;
	case MCRS_ADMIN_REOPEN:
		if (cmd->key_file == NULL)
			cryptokey_ask(cmd, "Old password or code: ", NULL);
		cryptokey_ask_optional(cmd, "Today's password "
				       "(empty: as configured): ");
		break;
	case MCRS_ADMIN_ROTATE:
		cryptokey_ask_optional(cmd, "Password (empty: as configured): ");
		break;
	}
}

void cryptokey_read_secrets(struct cryptokey_cmd *cmd)
{
	bool cli = cmd->ctx.cctx->conn_type == DOVEADM_CONNECTION_TYPE_CLI;
	bool typed = cli && cmd->ctx.cmd_input == NULL &&
		isatty(STDIN_FILENO) > 0;
	const char *error = NULL;

	cmd->input.data = p_malloc(cmd->ctx.pool, INPUT_MAX + 1);
	if (cmd->key_file == NULL)
		;
	else if (strcmp(cmd->key_file, FROM_INPUT) == 0)
		error = typed ? "A key can't be typed: give its file" : NULL;
	else if (!cli)
		error = "Put the key into the input, and use -k -";
	else
		error = cryptokey_read_key_file(cmd, cmd->key_file);
	if (error != NULL)
		;
	else if (typed)
		cryptokey_ask_secrets(cmd);
	/* the HTTP API has an input only if it is given as a file */
	else if (cmd->ctx.cctx->conn_type != DOVEADM_CONNECTION_TYPE_HTTP ||
		 cmd->ctx.cmd_input != NULL)
		error = cryptokey_read_any(cmd);
	if (cmd->usage_error == NULL)
		cryptokey_input_end(cmd, error);
}

static bool cryptokey_is_input(const char *password)
{
	return password != NULL && strcmp(password, FROM_INPUT) == 0;
}

/* Passwords that stand in the input, or are typed, come from there in order: the old one first. */
void cryptokey_read_passwords(struct cryptokey_cmd *cmd, bool ask_old,
			      bool ask_new)
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

void cryptokey_wipe_input(struct cryptokey_cmd *cmd)
{
	if (cmd->input.data != NULL)
		safe_memset(cmd->input.data, 0, INPUT_MAX + 1);
}
