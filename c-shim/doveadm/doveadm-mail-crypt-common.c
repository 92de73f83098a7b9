/* doveadm mailbox cryptokey ..: what is printed and logged, and access to the mail plugin. */

#include "compat.h"
#include "module-dir.h"
#include "mail-storage-service.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"

#include <sysexits.h>

#define DONE "\xE2\x9C\x93" /* U+2713, a check mark */
#define FAILED "x"
#define USER_KEY "<userkey>"

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
	cryptokey_failed(cmd, error->temporary ? EX_TEMPFAIL : EX_DATAERR);
}

static void
cryptokey_print_row(struct cryptokey_cmd *cmd, const struct mcrs_key_row *row)
{
	switch (cmd->verb) {
	case MCRS_ADMIN_LIST:
		doveadm_print(row->mailbox);
		doveadm_print(row->active ? "yes" : "no");
		doveadm_print(row->id);
		break;
	case MCRS_ADMIN_EXPORT:
		doveadm_print(row->mailbox);
		doveadm_print(row->id);
		doveadm_print(row->ok ? "" :
			      t_strdup_printf("ERROR: %s", row->text));
		/* openssl wants BEGIN at the beginning of a line */
		doveadm_print(!row->ok ? "" :
			      t_strdup_printf("\n%s", row->text));
		if (!row->ok) {
			i_error("%s%s", cryptokey_prefix(row->mailbox), row->text);
			cryptokey_failed(cmd, EX_DATAERR);
		}
		break;
	default:
		if (row->note != NULL)
			i_info("%s", row->note);
		doveadm_print(row->ok ? DONE : FAILED);
		doveadm_print(row->mailbox[0] == '\0' ? USER_KEY : row->mailbox);
		doveadm_print(row->id);
		break;
	}
	cmd->matched++;
}

void cryptokey_print_rows(struct cryptokey_cmd *cmd)
{
	struct mcrs_key_row row;

	while (mcrs_admin_next_row(cmd->admin, &row) > 0) T_BEGIN {
		cryptokey_print_row(cmd, &row);
	} T_END;
}
