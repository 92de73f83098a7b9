/* Copies mails: as they are on disk where the core says so. All others are read and saved anew. */

#include "compat.h"
#include "mail-copy.h"
#include "mail-namespace.h"

#include "mail-crypt-plugin-private.h"

struct mail_crypt_copy_scan {
	struct mcrs_user *user;
	/* What was read of the header, as long as it isn't whole; else NULL. The core bounds it. */
	buffer_t *header;
	bool is_global;
};

static int
mail_crypt_copy_scan(struct mail *mail ATTR_UNUSED, const unsigned char *data,
		     size_t size, void *context)
{
	struct mail_crypt_copy_scan *scan = context;
	int ret;

	if (size == 0)
		return 0;
	if (scan->header != NULL) {
		buffer_append(scan->header, data, size);
		data = scan->header->data;
		size = scan->header->used;
	}
	ret = mcrs_is_global(scan->user, data, size);
	if (ret == MCRS_IS_GLOBAL_MORE) {
		if (scan->header == NULL) {
			scan->header = buffer_create_dynamic(default_pool, size * 2);
			buffer_append(scan->header, data, size);
		}
		return 1;
	}
	scan->is_global = ret > 0;
	return 0;
}

/* Is the mail encrypted to the key that everything of the user's is encrypted to? */
static bool mail_crypt_copy_is_global(struct mcrs_user *user, struct mail *mail)
{
	struct mail_crypt_copy_scan scan = { .user = user };
	struct mail_user *source = mail->box->storage->user;
	struct istream *input;

	mail_crypt_user_scan(source, mail_crypt_copy_scan, &scan);
	/* An encrypted mail is only scanned. If something has it open already, it isn't even that,
	   and so saved anew. */
	(void)mail_get_stream(mail, NULL, NULL, &input);
	mail_crypt_user_scan(source, NULL, NULL);
	buffer_free(&scan.header);
	return scan.is_global;
}

static bool mail_crypt_copy_is_unreadable(struct mail *mail)
{
	struct istream *input;

	return mail_get_stream_because(mail, NULL, NULL, "lazy_expunge",
				       &input) < 0 && !mail->expunged &&
		mailbox_get_last_mail_error(mail->box) == MAIL_ERROR_NOTPOSSIBLE;
}

static bool
mail_crypt_copy_is_raw(struct mail_save_context *ctx, struct mail *mail)
{
	struct mailbox *dest = ctx->transaction->box, *source = mail->box;
	struct mcrs_user *user = mail_crypt_user_get(dest->storage->user);
	/* the reason is the function that begins the plugin's transaction */
	struct mcrs_copying copying = {
		.same_folder = mailbox_backends_equal(dest, source),
		.same_user = strcmp(dest->storage->user->username,
				    source->storage->user->username) == 0,
		.same_owner = mailbox_get_namespace(dest)->owner ==
			mailbox_get_namespace(source)->owner,
		.expunged = null_strcmp(ctx->transaction->reason,
					"lazy_expunge_mail_expunge_move") == 0
	};
	int reasons = mcrs_copy_raw(user, copying);

	return (reasons & MCRS_COPY_RAW) != 0 ||
		((reasons & MCRS_COPY_RAW_IF_GLOBAL) != 0 &&
		 mail_crypt_copy_is_global(user, mail)) ||
		((reasons & MCRS_COPY_RAW_IF_UNREADABLE) != 0 &&
		 mail_crypt_copy_is_unreadable(mail));
}

int mail_crypt_copy(struct mail_save_context *ctx, struct mail *mail)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(box->storage->user);
	bool raw = mail_crypt_copy_is_raw(ctx, mail);

	if (muser != NULL)
		e_debug(muser->event, "mailbox %s: UID %u of %s is copied %s",
			mailbox_get_vname(box), mail->uid,
			mailbox_get_vname(mail->box),
			raw ? "as it is on disk" : "by saving it anew");
	return raw ? mbox->module_ctx.super.copy(ctx, mail) :
		mail_storage_copy(ctx, mail);
}
