/* doveadm mailbox cryptokey ..: what is printed and logged, and access to the mail plugin. */

#include "compat.h"
#include "module-dir.h"
#include "mail-storage-service.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"

#include <sysexits.h>

void *cryptokey_mail_plugin(const char *symbol)
{
	struct module *module =
		module_dir_find(mail_storage_service_modules, "mail_crypt");

	return module == NULL ? NULL : module_get_symbol_quiet(module, symbol);
}

void cryptokey_failed(struct cryptokey_cmd *cmd, int exit_code)
{
	/* as elsewhere in doveadm: a temporary failure wins, else the first one */
	if (cmd->ctx.exit_code == 0 || exit_code == EX_TEMPFAIL)
		cmd->ctx.exit_code = exit_code;
}

const char *cryptokey_prefix(const char *mailbox)
{
	return mailbox[0] == '\0' ? "User key: " :
		t_strdup_printf("Mailbox %s: ", mailbox);
}

void cryptokey_error(struct cryptokey_cmd *cmd, const char *prefix,
		     const struct mcrs_error *error)
{
	i_error("%s%s", prefix, error->text);
	cryptokey_failed(cmd, error->temporary ? EX_TEMPFAIL :
			      error->usage ? EX_USAGE : EX_DATAERR);
}

void cryptokey_print_headers(const struct cryptokey_cmd *cmd)
{
	enum doveadm_print_header_flags flags =
		mcrs_admin_layout(cmd->verb) == MCRS_LAYOUT_VALUES ?
		DOVEADM_PRINT_HEADER_FLAG_HIDE_TITLE : 0;
	struct mcrs_admin_column column;
	unsigned int i;

	for (i = 0; mcrs_admin_column(cmd->verb, i, &column) > 0; i++)
		doveadm_print_header(column.key, column.title, flags);
}

static void
cryptokey_print_row(struct cryptokey_cmd *cmd, const struct mcrs_admin_row *row)
{
	const char *const *cell;

	if (row->note != NULL)
		i_info("%s", row->note);
	for (cell = row->cells; *cell != NULL; cell++)
		doveadm_print(*cell);
	if (row->error != NULL) {
		i_error("%s", row->error);
		cryptokey_failed(cmd, EX_DATAERR);
	}
	cmd->matched++;
}

void cryptokey_print_rows(struct cryptokey_cmd *cmd)
{
	struct mcrs_admin_row row;

	while (mcrs_admin_next_row(cmd->admin, &row) > 0) T_BEGIN {
		cryptokey_print_row(cmd, &row);
	} T_END;
}
