/* doveadm mailbox cryptokey ..: the commands. Their parameters are in doveadm-mail-crypt-input.c, what they read in
   doveadm-mail-crypt-secrets.c, what they do in doveadm-mail-crypt-run.c, the search for mails that need a key in doveadm-mail-crypt-scan.c. */

#include "compat.h"
#include "module-dir.h"
#include "doveadm-print.h"
#include "doveadm-mail.h"

#include "doveadm-mail-crypt.h"
#include "doveadm-mail-crypt-check.h"
#include "mail-crypt-convert-cmd.h"

EXPORT extern const char *doveadm_mail_crypt_plugin_version;
EXPORT void doveadm_mail_crypt_plugin_init(struct module *module);
EXPORT void doveadm_mail_crypt_plugin_deinit(void);

const char *doveadm_mail_crypt_plugin_version = DOVECOT_ABI_VERSION;

static struct doveadm_mail_cmd_context *
cryptokey_alloc(int verb, const char *getopt_args,
		void (*init)(COMPAT_DOVEADM_INIT_PARAMS))
{
	struct cryptokey_cmd *cmd = doveadm_mail_cmd_alloc(struct cryptokey_cmd);
	const char *print_type = DOVEADM_PRINT_TYPE_TABLE;

	cmd->verb = verb;
	compat_doveadm_cmd_init(&cmd->ctx, getopt_args);
	cmd->ctx.v.preinit = cryptokey_preinit;
	cmd->ctx.v.init = init;
	cmd->ctx.v.run = cryptokey_run;
	cmd->ctx.v.deinit = cryptokey_deinit;
	switch (mcrs_admin_layout(verb)) {
	case MCRS_LAYOUT_PAGER:
		print_type = DOVEADM_PRINT_TYPE_PAGER;
		break;
	case MCRS_LAYOUT_VALUES:
		print_type = DOVEADM_PRINT_TYPE_FLOW;
		break;
	}
	doveadm_print_init(print_type);
	return &cmd->ctx;
}

static struct doveadm_mail_cmd_context *cryptokey_generate_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_GENERATE, "URf", cryptokey_init_masks);
}

static struct doveadm_mail_cmd_context *cryptokey_list_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_LIST, "Un", cryptokey_init_masks);
}

static struct doveadm_mail_cmd_context *cryptokey_export_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_EXPORT, "U", cryptokey_init_masks);
}

static struct doveadm_mail_cmd_context *cryptokey_password_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_PASSWORD, "NOCzZPo:n:", cryptokey_init_password);
}

static struct doveadm_mail_cmd_context *cryptokey_import_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_IMPORT, "Ufm:", cryptokey_init_one);
}

static struct doveadm_mail_cmd_context *cryptokey_delete_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_DELETE, "Ufm:", cryptokey_init_one);
}

static struct doveadm_mail_cmd_context *cryptokey_slot_list_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_SLOT_LIST, "", cryptokey_init_secrets);
}

static struct doveadm_mail_cmd_context *cryptokey_slot_add_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_SLOT_ADD, "n:l:k:g",
			       cryptokey_init_secrets);
}

static struct doveadm_mail_cmd_context *cryptokey_slot_remove_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_SLOT_REMOVE, "f",
			       cryptokey_init_secrets);
}

static struct doveadm_mail_cmd_context *cryptokey_slot_test_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_SLOT_TEST, "k:",
			       cryptokey_init_secrets);
}

static struct doveadm_mail_cmd_context *cryptokey_reset_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_RESET, "ak:", cryptokey_init_secrets);
}

static struct doveadm_mail_cmd_context *cryptokey_reopen_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_REOPEN, "k:", cryptokey_init_secrets);
}

static struct doveadm_mail_cmd_context *cryptokey_rotate_alloc(void)
{
	return cryptokey_alloc(MCRS_ADMIN_ROTATE, "b", cryptokey_init_secrets);
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
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "-U [-n] | <mailbox mask> [...]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('U', "user-key", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('n', "needed", CMD_PARAM_BOOL, 0)
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
		"[-Z] [-O | -o <password>] {-N | -n <password> | -C | -P} | -z",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('C', "clear-password", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('N', "ask-new-password", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('n', "new-password", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('O', "ask-old-password", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('o', "old-password", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('P', "compat", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('z', "undo", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('Z', "no-undo", CMD_PARAM_BOOL, 0)
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
}, {
	.name = "mailbox cryptokey slot list",
	.mail_cmd = cryptokey_slot_list_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX,
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey slot add",
	.mail_cmd = cryptokey_slot_add_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX
		"[-n <name>] [-l <label>] {recovery | app [-g] | password | "
		"key -k <file>} [<file>]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('n', "name", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('l', "label", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('k', "key-file", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('g', "given", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "type", CMD_PARAM_STR, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAM('\0', "file", CMD_PARAM_ISTREAM, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey slot remove",
	.mail_cmd = cryptokey_slot_remove_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-f] <name>",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('f', "force", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "name", CMD_PARAM_STR, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey slot test",
	.mail_cmd = cryptokey_slot_test_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-k <file>] [<file>]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('k', "key-file", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('\0', "file", CMD_PARAM_ISTREAM, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey reset",
	.mail_cmd = cryptokey_reset_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-a | -k <file>] [<file>]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('a', "abandon", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('k', "key-file", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('\0', "file", CMD_PARAM_ISTREAM, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey reopen",
	.mail_cmd = cryptokey_reopen_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-k <file>] [<file>]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('k', "key-file", CMD_PARAM_STR, 0)
DOVEADM_CMD_PARAM('\0', "file", CMD_PARAM_ISTREAM, CMD_PARAM_FLAG_POSITIONAL)
DOVEADM_CMD_PARAMS_END
}, {
	.name = "mailbox cryptokey rotate",
	.mail_cmd = cryptokey_rotate_alloc,
	.usage = DOVEADM_CMD_MAIL_USAGE_PREFIX "[-b] [<file>]",
DOVEADM_CMD_PARAMS_START
DOVEADM_CMD_MAIL_COMMON
DOVEADM_CMD_PARAM('b', "folders", CMD_PARAM_BOOL, 0)
DOVEADM_CMD_PARAM('\0', "file", CMD_PARAM_ISTREAM, CMD_PARAM_FLAG_POSITIONAL)
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
	doveadm_cmd_register_ver2(&crypt_check_command);
	doveadm_cmd_register_ver2(&convert_command);
}

void doveadm_mail_crypt_plugin_deinit(void)
{
}
