/* doveadm mailbox cryptokey delete: does any mail of a folder need the key? */

#include "compat.h"
#include "istream.h"
#include "mail-search-build.h"
#include "mail-storage.h"
#include "doveadm-mail.h"

#include "mail-crypt-plugin.h"
#include "doveadm-mail-crypt.h"

#include <sysexits.h>

struct cryptokey_scan {
	struct cryptokey_cmd *cmd;
	struct mcrs_error error;
	bool first, failed;
};

static int
cryptokey_scan_data(struct mail *mail, const unsigned char *data, size_t size,
		    void *context)
{
	struct cryptokey_scan *scan = context;
	int ret;

	ret = mcrs_admin_doom_mail(scan->cmd->admin, mail->uid, scan->first,
				   data, size, &scan->error);
	scan->first = FALSE;
	if (ret < 0)
		scan->failed = TRUE;
	return ret;
}

static int
cryptokey_scan_mails(struct cryptokey_cmd *cmd, struct mailbox *box,
		     struct cryptokey_scan *scan)
{
	struct mailbox_transaction_context *trans;
	struct mail_search_context *search;
	struct mail_search_args *args;
	struct istream *input;
	struct mail *mail;
	int ret = 0;

	if (mailbox_sync(box, MAILBOX_SYNC_FLAG_FULL_READ) < 0) {
		i_error("Syncing mailbox %s failed: %s", mailbox_get_vname(box),
			mailbox_get_last_internal_error(box, NULL));
		doveadm_mail_failed_mailbox(&cmd->ctx, box);
		return -1;
	}
	args = mail_search_build_init();
	mail_search_build_add_all(args);
	trans = mailbox_transaction_begin(box, 0, __func__);
	search = mailbox_search_init(trans, args, NULL, 0, NULL);
	mail_search_args_unref(&args);
	while (ret == 0 && mailbox_search_next(search, &mail)) {
		scan->first = TRUE;
		/* opening an encrypted mail ends in the scan, and so fails */
		if (mail_get_stream(mail, NULL, NULL, &input) < 0 &&
		    scan->first && !mail->expunged) {
			i_error("Mailbox %s: mail with UID %u can't be opened: %s",
				mailbox_get_vname(box), mail->uid,
				mailbox_get_last_internal_error(box, NULL));
			doveadm_mail_failed_mailbox(&cmd->ctx, box);
			ret = -1;
		} else if (scan->failed) {
			ret = -1;
		}
	}
	if (mailbox_search_deinit(&search) < 0) {
		i_error("Searching mailbox %s failed: %s", mailbox_get_vname(box),
			mailbox_get_last_internal_error(box, NULL));
		doveadm_mail_failed_mailbox(&cmd->ctx, box);
		ret = -1;
	}
	mailbox_transaction_rollback(&trans);
	return ret;
}

int cryptokey_scan(struct cryptokey_cmd *cmd, struct mail_user *user,
		   struct mailbox *box)
{
	struct cryptokey_scan scan = { .cmd = cmd };
	mail_crypt_user_scan_t *set_scan =
		cryptokey_mail_plugin("mail_crypt_user_scan");
	int ret;

	if (set_scan == NULL) {
		i_error("The mail plugin doesn't belong to this module");
		cryptokey_failed(cmd, EX_SOFTWARE);
		return -1;
	}
	set_scan(user, cryptokey_scan_data, &scan);
	ret = cryptokey_scan_mails(cmd, box, &scan);
	set_scan(user, NULL, NULL);
	if (scan.failed)
		cryptokey_error(cmd, cryptokey_prefix(mailbox_get_vname(box)),
				&scan.error);
	return ret;
}
