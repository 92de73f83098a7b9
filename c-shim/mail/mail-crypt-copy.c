/* Which mails may be copied as they are on disk. All others are read and saved anew. */

#include "compat.h"
#include "mail-namespace.h"
#include "mail-storage-private.h"

#include "mail-crypt-plugin.h"
#include "mail-crypt-copy.h"

struct mail_crypt_copy {
	struct mcrs_user *user;
	/* What was read of the header, as long as it isn't whole; else NULL. The core bounds it. */
	buffer_t *header;
	bool raw;
};

static int
mail_crypt_copy_scan(struct mail *mail ATTR_UNUSED, const unsigned char *data,
		     size_t size, void *context)
{
	struct mail_crypt_copy *copy = context;
	int ret;

	if (size == 0)
		return 0;
	if (copy->header != NULL) {
		buffer_append(copy->header, data, size);
		data = copy->header->data;
		size = copy->header->used;
	}
	ret = mcrs_user_can_copy_raw_mail(copy->user, data, size);
	if (ret == MCRS_COPY_MORE) {
		if (copy->header == NULL) {
			copy->header = buffer_create_dynamic(default_pool, size * 2);
			buffer_append(copy->header, data, size);
		}
		return 1;
	}
	copy->raw = ret > 0;
	return 0;
}

/* Is the mail encrypted to the key that everything of the user's is encrypted to? */
static bool mail_crypt_is_global(struct mcrs_user *user, struct mail *mail)
{
	struct mail_crypt_copy copy = { .user = user };
	struct mail_user *source = mail->box->storage->user;
	struct istream *input;

	mail_crypt_user_scan(source, mail_crypt_copy_scan, &copy);
	/* An encrypted mail is only scanned. If something has it open already, it isn't even that,
	   and so saved anew. */
	(void)mail_get_stream(mail, NULL, NULL, &input);
	mail_crypt_user_scan(source, NULL, NULL);
	buffer_free(&copy.header);
	return copy.raw;
}

/* Other folders have other keys, other users have other settings. */
static bool mail_crypt_is_own(struct mailbox *dest, struct mail *mail)
{
	return strcmp(dest->storage->user->username,
		      mail->box->storage->user->username) == 0;
}

bool mail_crypt_can_copy_raw(struct mailbox *dest, struct mail *mail)
{
	struct mcrs_user *user = mail_crypt_user_get(dest->storage->user);

	if (mailbox_backends_equal(dest, mail->box))
		return TRUE;
	return mail_crypt_is_own(dest, mail) && user != NULL &&
		mcrs_user_can_copy_raw(user) > 0 &&
		mail_crypt_is_global(user, mail);
}

bool mail_crypt_keeps_unreadable(struct mail_save_context *ctx, struct mail *mail)
{
	struct mailbox *dest = ctx->transaction->box;
	struct istream *input;

	if (null_strcmp(ctx->transaction->reason,
			"lazy_expunge_mail_expunge_move") != 0 ||
	    mail_crypt_user_get(dest->storage->user) == NULL ||
	    !mail_crypt_is_own(dest, mail) ||
	    mailbox_get_namespace(dest)->owner !=
	    mailbox_get_namespace(mail->box)->owner)
		return FALSE;
	return mail_get_stream_because(mail, NULL, NULL, "lazy_expunge",
				       &input) < 0 && !mail->expunged &&
		mailbox_get_last_mail_error(mail->box) == MAIL_ERROR_NOTPOSSIBLE;
}
