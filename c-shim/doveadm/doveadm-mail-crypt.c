/* doveadm mailbox cryptokey ..: the commands. Their parameters are in doveadm-mail-crypt-input.c, what they do
   in doveadm-mail-crypt-run.c, the search for mails that need a key in doveadm-mail-crypt-scan.c. */

#include "compat.h"
#include "module-dir.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"

EXPORT extern const char *doveadm_mail_crypt_plugin_version;
EXPORT void doveadm_mail_crypt_plugin_init(struct module *module);
EXPORT void doveadm_mail_crypt_plugin_deinit(void);

const char *doveadm_mail_crypt_plugin_version = DOVECOT_ABI_VERSION;

static struct doveadm_mail_cmd_context *
cryptokey_alloc(int verb, const char *getopt_args,
		const char *print_type, void (*init)(COMPAT_DOVEADM_INIT_PARAMS))
{
	struct cryptokey_cmd *cmd = doveadm_mail_cmd_alloc(struct cryptokey_cmd);

	cmd->verb = verb;
	compat_doveadm_cmd_init(&cmd->ctx, getopt_args);
	cmd->ctx.v.preinit = cryptokey_preinit;
	cmd->ctx.v.init = init;
	cmd->ctx.v.run = cryptokey_run;
	cmd->ctx.v.deinit = cryptokey_deinit;
	doveadm_print_init(print_type);
	return &cmd->ctx;
}

static struct doveadm_mail_cmd_context *cryptokey_generate_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_GENERATE, "URf",
			       DOVEADM_PRINT_TYPE_TABLE, cryptokey_init_masks);
}

static struct doveadm_mail_cmd_context *cryptokey_list_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_LIST, "U",
			       DOVEADM_PRINT_TYPE_TABLE, cryptokey_init_masks);
}

static struct doveadm_mail_cmd_context *cryptokey_export_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_EXPORT, "U",
			       DOVEADM_PRINT_TYPE_PAGER, cryptokey_init_masks);
}

static struct doveadm_mail_cmd_context *cryptokey_password_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_PASSWORD, "NOCo:n:",
			       DOVEADM_PRINT_TYPE_PAGER, cryptokey_init_password);
}

static struct doveadm_mail_cmd_context *cryptokey_import_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_IMPORT, "Ufm:",
			       DOVEADM_PRINT_TYPE_TABLE, cryptokey_init_one);
}

static struct doveadm_mail_cmd_context *cryptokey_delete_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_DELETE, "Ufm:",
			       DOVEADM_PRINT_TYPE_TABLE, cryptokey_init_one);
}

static struct doveadm_cmd_ver2 cryptokey_commands[] = { {
	.name = "mailbox cryptokey generate",
	.mail_cmd = cryptokey_generate_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-URf] [<mailbox mask> [...]]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('U', "user-key-only", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('R', "re-encrypt-box-keys", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('f', "force", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "mailbox", CMD_PARAM_ARRAY, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey list",
	.mail_cmd = cryptokey_list_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "-U | <mailbox mask> [...]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('U', "user-key", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "mailbox", CMD_PARAM_ARRAY, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey export",
	.mail_cmd = cryptokey_export_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "-U | <mailbox mask> [...]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('U', "user-key", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "mailbox", CMD_PARAM_ARRAY, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey password",
	.mail_cmd = cryptokey_password_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX
		"[-O | -o <password>] {-N | -n <password> | -C}",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('C', "clear-password", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('N', "ask-new-password", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('n', "new-password", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('O', "ask-old-password", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('o', "old-password", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey import",
	.mail_cmd = cryptokey_import_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-f] {-U | -m <mailbox>} [<file>]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('U', "user-key", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('m', "mailbox", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('f', "force", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "file", CMD_PARAM_ISTREAM, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey delete",
	.mail_cmd = cryptokey_delete_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX
		"[-f] {-U | -m <mailbox>} <key id> [...]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('U', "user-key", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('m', "mailbox", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('f', "force", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "key-id", CMD_PARAM_ARRAY, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
} };

void doveadm_mail_crypt_plugin_init(struct module *module ATTR_UNUSED)
{
	unsigned int i;

	if (mcrs_init(MCRS_VERSION) < 0)
		i_fatal("mail_crypt: the doveadm module and libmail_crypt_core "
			"are of different versions");
	for (i = 0; i < N_ELEMENTS(cryptokey_commands); i++)
		doveadm_cmd_register_ver2(&cryptokey_commands[i]);
}

void doveadm_mail_crypt_plugin_deinit(void)
{
}
