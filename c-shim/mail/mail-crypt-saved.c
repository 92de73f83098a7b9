/* Mails that were just stored, and whose key was deleted meanwhile.

   Whoever deletes a key takes the public one away first, and looks at the folder's mails then. So we
   look for the public key only once others can see the mail: if the key is gone by then, the mail may have
   been missed, and is removed, too. Nobody was told yet that it is stored. */

#include "compat.h"
#include "array.h"
#include "mail-storage-private.h"

#include "mail-crypt-plugin-private.h"

int mail_crypt_saved_check(struct mailbox *box, const buffer_t *keys)
{
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	struct mcrs_error error;
	size_t pos;

	if (keys == NULL)
		return 0;
	for (pos = 0; pos < keys->used; pos += MCRS_KEY_ID_SIZE) {
		if (mcrs_user_check_saved(user, box,
				CONST_PTR_OFFSET(keys->data, pos), &error) < 0) {
			mail_crypt_box_fail(box, &error);
			return -1;
		}
	}
	return 0;
}

static int
mail_crypt_saved_expunge_uids(struct mailbox *box,
			      const ARRAY_TYPE(seq_range) *uids)
{
	struct mailbox_transaction_context *t;
	struct seq_range_iter iter;
	struct mail *mail;
	unsigned int n = 0;
	uint32_t uid;

	if (mailbox_open(box) < 0 ||
	    mailbox_sync(box, MAILBOX_SYNC_FLAG_FULL_READ) < 0)
		return -1;
	t = mailbox_transaction_begin(box, 0, __func__);
	mail = mail_alloc(t, 0, NULL);
	seq_range_array_iter_init(&iter, uids);
	while (seq_range_array_iter_nth(&iter, n++, &uid)) {
		if (mail_set_uid(mail, uid))
			mail_expunge(mail);
	}
	mail_free(&mail);
	if (mailbox_transaction_commit(&t) < 0)
		return -1;
	return mailbox_sync(box, MAILBOX_SYNC_FLAG_FULL_READ);
}

/* In an object of its own, since a client may have the other one selected. Whoever may save may not
   always expunge. */
static void
mail_crypt_saved_expunge(struct mailbox *box, const ARRAY_TYPE(seq_range) *uids)
{
	struct mailbox *again;

	mail_storage_last_error_push(box->storage);
	again = mailbox_alloc(box->list, box->vname, MAILBOX_FLAG_IGNORE_ACLS);
	if (mail_crypt_saved_expunge_uids(again, uids) < 0) {
		e_error(box->event, "mail_crypt: a mail that was refused is "
			"still there, and can't be expunged: %s",
			mailbox_get_last_internal_error(again, NULL));
	}
	mailbox_free(&again);
	mail_storage_last_error_pop(box->storage);
}

int mail_crypt_saved_commit(struct mailbox_transaction_context *t,
			    struct mail_transaction_commit_changes *changes_r)
{
	struct mailbox *box = t->box;
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);
	int ret;

	ret = obox->module_ctx.super.transaction_commit(t, changes_r);
	if (ret == 0 && mail_crypt_saved_check(box, obox->stored_keys) < 0) {
		mail_crypt_saved_expunge(box, &changes_r->saved_uids);
		ret = -1;
	}
	buffer_free(&obox->stored_keys);
	return ret;
}
