/* doveadm mailbox cryptokey delete: does any mail need the key? The mails of all folders are looked at: mdbox may
   have put mail under a folder's key into another one. */

#include "compat.h"
#include "istream.h"
#include "mail-search-build.h"
#include "mail-storage.h"
#include "doveadm-mail.h"

#include "mail-crypt-plugin.h"
#include "doveadm-mail-crypt.h"

struct cryptokey_scan {
	struct cryptokey_cmd *cmd;
	struct mcrs_error *error;
	bool first, failed;
};

static int
cryptokey_scan_fail(struct cryptokey_scan *scan, struct mailbox *box,
		    const char *what)
{
	if (!scan->failed) {
		scan->error->temporary = TRUE;
		i_snprintf(scan->error->text, sizeof(scan->error->text),
			   "%s: %s", what,
			   mailbox_get_last_internal_error(box, NULL));
	}
	scan->failed = TRUE;
	return -1;
}

static int
cryptokey_scan_data(struct mail *mail, const unsigned char *data, size_t size,
		    void *context)
{
	struct cryptokey_scan *scan = context;
	int ret;

	ret = mcrs_admin_check_mail(scan->cmd->admin, mail->uid, scan->first,
				    data, size, scan->error);
	scan->first = FALSE;
	if (ret < 0)
		scan->failed = TRUE;
	return ret;
}

static int
cryptokey_scan_mails(struct mailbox *box, struct cryptokey_scan *scan)
{
	struct mailbox_transaction_context *trans;
	struct mail_search_context *search;
	struct mail_search_args *args;
	struct istream *input;
	struct mail *mail;

	if (mailbox_sync(box, MAILBOX_SYNC_FLAG_FULL_READ) < 0)
		return cryptokey_scan_fail(scan, box, "can't be synced");
	args = mail_search_build_init();
	mail_search_build_add_all(args);
	trans = mailbox_transaction_begin(box, 0, __func__);
	search = mailbox_search_init(trans, args, NULL, 0, NULL);
	mail_search_args_unref(&args);
	while (!scan->failed && mailbox_search_next(search, &mail)) {
		scan->first = TRUE;
		/* opening an encrypted mail ends in the scan, and so fails */
		if (mail_get_stream(mail, NULL, NULL, &input) < 0 &&
		    scan->first && !mail->expunged)
			(void)cryptokey_scan_fail(scan, box, t_strdup_printf(
				"the mail with UID %u can't be opened", mail->uid));
	}
	if (mailbox_search_deinit(&search) < 0)
		(void)cryptokey_scan_fail(scan, box, "can't be searched");
	mailbox_transaction_rollback(&trans);
	return scan->failed ? -1 : 0;
}

int cryptokey_scan(struct cryptokey_cmd *cmd, struct mailbox *box,
		   struct mcrs_error *error)
{
	struct mail_user *user = mail_storage_get_user(mailbox_get_storage(box));
	struct cryptokey_scan scan = { .cmd = cmd, .error = error };
	mail_crypt_user_scan_t *set_scan =
		cryptokey_mail_plugin("mail_crypt_user_scan");
	int ret;

	i_zero(error);
	if (set_scan == NULL) {
		i_snprintf(error->text, sizeof(error->text),
			   "the mail plugin doesn't belong to this module");
		return -1;
	}
	set_scan(user, cryptokey_scan_data, &scan);
	ret = cryptokey_scan_mails(box, &scan);
	set_scan(user, NULL, NULL);
	return ret;
}
