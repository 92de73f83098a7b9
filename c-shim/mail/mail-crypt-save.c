/* Encrypts what is saved, refuses what is encrypted already, and takes back what was stored under a key that was deleted meanwhile.

   Whoever deletes a key takes the public one away first, and looks at the folder's mails then. So we
   look for the public key only once others can see the mail: if the key is gone by then, the mail may have
   been missed, and is removed, too. Nobody was told yet that it is stored. */

#include "compat.h"
#include "array.h"
#include "ioloop.h"
#include "istream.h"
#include "ostream.h"
#include "dbox-save.h"

#include "ostream-mail-crypt.h"
#include "mail-crypt-plugin-private.h"

#define MAIL_CRYPT_TRANSACTION_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_storage_module)

struct mail_crypt_transaction {
	union mailbox_transaction_module_context module_ctx;
	/* The mail being saved is, or looks, encrypted and must not be stored. */
	bool refused;
	/* That was seen too late to take the mail out: nothing may be stored. */
	bool refused_late;
	/* NULL as long as no mail is encrypted to a folder's key. */
	struct mcrs_saves *saves;
};

/* Set while the process has secrets of mails that it has saved: they belong to no user. */
static struct timeout *mail_crypt_to_forget;

/* An idle process forgets in time, too. The timeout is in the outermost loop, since others come and go. */
static void mail_crypt_forget_old(void *context ATTR_UNUSED)
{
	unsigned int secs = mcrs_forget_old();

	timeout_remove(&mail_crypt_to_forget);
	if (secs > 0)
		mail_crypt_to_forget = timeout_add_to(io_loop_get_root(),
			secs * 1000, mail_crypt_forget_old, (void *)NULL);
}

void mail_crypt_save_deinit(void)
{
	timeout_remove(&mail_crypt_to_forget);
}

static struct mail_crypt_transaction *
mail_crypt_transaction_get(struct mailbox_transaction_context *t)
{
	struct mail_crypt_transaction *mt = MAIL_CRYPT_TRANSACTION_CONTEXT(t);

	if (mt == NULL) {
		mt = i_new(struct mail_crypt_transaction, 1);
		MODULE_CONTEXT_SET(t, mail_crypt_storage_module, mt);
	}
	return mt;
}

static void mail_crypt_transaction_free(struct mailbox_transaction_context *t)
{
	struct mail_crypt_transaction *mt = MAIL_CRYPT_TRANSACTION_CONTEXT(t);

	if (mt != NULL) {
		MODULE_CONTEXT_UNSET(t, mail_crypt_storage_module);
		mcrs_saves_free(&mt->saves);
		i_free(mt);
		if (mail_crypt_to_forget == NULL)
			mail_crypt_forget_old(NULL);
	}
}

static int mail_crypt_save_fail_refused(struct mailbox *box)
{
	mail_storage_set_error(box->storage, MAIL_ERROR_NOTPOSSIBLE,
		"Saving mail that is encrypted already isn't supported");
	return -1;
}

static int
mail_crypt_save_begin(struct mail_save_context *ctx, struct istream *input)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mail_crypt_transaction *mt =
		mail_crypt_transaction_get(ctx->transaction);
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	struct mcrs_writer *writer;
	struct mcrs_error error;
	struct ostream *output;

	if (mbox->module_ctx.super.save_begin(ctx, input) < 0)
		return -1;

	/* after an error Dovecot cancels the save, wherever in the chain it failed */
	if (mcrs_writer_new(user, box, &mt->saves, ioloop_time, &writer,
			    &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	/* encryption is the outermost layer */
	output = o_stream_create_mail_crypt(ctx->data.output, &writer,
					    &mt->refused);
	o_stream_unref(&ctx->data.output);
	ctx->data.output = output;
	o_stream_cork(ctx->data.output);
	return 0;
}

static int mail_crypt_save_finish(struct mail_save_context *ctx)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mail_crypt_transaction *mt =
		mail_crypt_transaction_get(ctx->transaction);

	if (mt->refused) {
		/* once finished it would be part of the transaction */
		mbox->module_ctx.super.save_cancel(ctx);
		return mail_crypt_save_fail_refused(box);
	}
	if (mbox->module_ctx.super.save_finish(ctx) < 0)
		return -1;
	/* another plugin held the mail's beginning back until its end */
	mt->refused_late = mt->refused || mt->refused_late;
	return mt->refused ? mail_crypt_save_fail_refused(box) : 0;
}

/* Before anything is stored. Returns -1 if it must not be. */
static int
mail_crypt_save_check(struct mailbox *box, struct mail_crypt_transaction *mt)
{
	struct mcrs_error error;

	if (mt->refused_late)
		return mail_crypt_save_fail_refused(box);
	if (mcrs_saves_check_before(mt->saves, box, ioloop_time, &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	return 0;
}

/* Once others can see the mails. Returns -1 if they must not stay. */
static int mail_crypt_save_check_stored(struct mailbox *box, struct mcrs_saves *saves)
{
	struct mcrs_error error;

	if (mcrs_saves_check(saves, box, &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	return 0;
}

/* The mails are stored as soon as the transaction is committed. Returns -1 if they must not be. */
static int
mail_crypt_save_stored(struct mail_save_context *ctx,
		       struct mail_crypt_transaction *mt)
{
	struct mailbox_transaction_context *t = ctx->transaction;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(t->box);
	struct mail_crypt_outer_box *obox;

	if (mt->saves == NULL)
		return 0;
	if (array_count(&t->changes->saved_uids) == 0) {
		/* They are stored already: in a Maildir that somebody else has locked. Without their UIDs
		   nobody could find them later. */
		if (mail_crypt_save_check_stored(t->box, mt->saves) == 0)
			return 0;
		mbox->module_ctx.super.transaction_save_rollback(ctx);
		return -1;
	}
	obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(t->box);
	mcrs_saves_free(&obox->stored);
	obox->stored = mt->saves;
	mt->saves = NULL;
	return 0;
}

/* If the last save failed, sdbox deletes everything that the transaction has saved, although what failed is no part of
   it any more. By then the source of a move is expunged. */
static void mail_crypt_save_keep_others(struct mail_save_context *ctx)
{
	struct dbox_save_context *dbox_ctx;

	if (strcmp(ctx->transaction->box->storage->name, "sdbox") == 0) {
		dbox_ctx = DBOX_SAVECTX(ctx);
		dbox_ctx->failed = FALSE;
	}
}

static int mail_crypt_transaction_save_commit_pre(struct mail_save_context *ctx)
{
	struct mailbox_transaction_context *t = ctx->transaction;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(t->box);
	struct mail_crypt_transaction *mt = MAIL_CRYPT_TRANSACTION_CONTEXT(t);
	int ret = mt == NULL ? 0 : mail_crypt_save_check(t->box, mt);

	if (ret == 0) {
		mail_crypt_save_keep_others(ctx);
		ret = mbox->module_ctx.super.transaction_save_commit_pre(ctx);
		if (ret == 0 && mt != NULL)
			ret = mail_crypt_save_stored(ctx, mt);
	} else
		mbox->module_ctx.super.transaction_save_rollback(ctx);
	mail_crypt_transaction_free(t);
	return ret;
}

static void mail_crypt_transaction_save_rollback(struct mail_save_context *ctx)
{
	struct mailbox_transaction_context *t = ctx->transaction;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(t->box);

	/* a save that is still under way is cancelled here, and its stream ends */
	mbox->module_ctx.super.transaction_save_rollback(ctx);
	mail_crypt_transaction_free(t);
}

static int
mail_crypt_expunge_uids(struct mailbox *box, const ARRAY_TYPE(seq_range) *uids)
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

/* Takes an object of its own, since a client may have the other one selected. It ignores ACLs: whoever may save may not
   always expunge. */
static void
mail_crypt_expunge_stored(struct mailbox *box, const ARRAY_TYPE(seq_range) *uids)
{
	struct mailbox *again;

	mail_storage_last_error_push(box->storage);
	again = mailbox_alloc(box->list, box->vname, MAILBOX_FLAG_IGNORE_ACLS);
	if (mail_crypt_expunge_uids(again, uids) < 0) {
		e_error(box->event, "mail_crypt: a mail that was refused is "
			"still there, and can't be expunged: %s",
			mailbox_get_last_internal_error(again, NULL));
	}
	mailbox_free(&again);
	mail_storage_last_error_pop(box->storage);
}

static int
mail_crypt_transaction_commit(struct mailbox_transaction_context *t,
			      struct mail_transaction_commit_changes *changes_r)
{
	struct mailbox *box = t->box;
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);
	int ret;

	ret = obox->module_ctx.super.transaction_commit(t, changes_r);
	if (ret == 0 && mail_crypt_save_check_stored(box, obox->stored) < 0) {
		mail_crypt_expunge_stored(box, &changes_r->saved_uids);
		ret = -1;
	}
	mcrs_saves_free(&obox->stored);
	return ret;
}

/* What another plugin packs is seen here, before that. */
static int
mail_crypt_outer_save_begin(struct mail_save_context *ctx, struct istream *input)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);
	struct mail_crypt_transaction *mt;
	struct mcrs_writer *writer;
	struct mcrs_error error;
	struct ostream *output;
	int ret;

	if (obox->module_ctx.super.save_begin(ctx, input) < 0)
		return -1;
	if (MAIL_CRYPT_BOX_CONTEXT(box) == NULL ||
	    !mail_crypt_packs(box->storage->user))
		return 0;
	ret = mcrs_writer_new_before_packing(
		mail_crypt_user_get(box->storage->user), &writer, &error);
	if (ret < 0)
		mail_crypt_box_fail(box, &error);
	if (ret <= 0)
		return ret;
	mt = mail_crypt_transaction_get(ctx->transaction);
	output = o_stream_create_mail_crypt(ctx->data.output, &writer,
					    &mt->refused);
	o_stream_unref(&ctx->data.output);
	ctx->data.output = output;
	o_stream_cork(ctx->data.output);
	return 0;
}

static int mail_crypt_outer_save_finish(struct mail_save_context *ctx)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);
	int ret;

	obox->checking_save = !mail_crypt_packs(box->storage->user);
	ret = obox->module_ctx.super.save_finish(ctx);
	obox->checking_save = FALSE;
	return ret;
}

/* Where only text can be kept, nothing can be encrypted. */
static int
mail_crypt_unfit_save_begin(struct mail_save_context *ctx, struct istream *input)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);
	struct mcrs_error error;

	/* begun first: mbox can't commit a transaction that has never begun to save */
	if (obox->module_ctx.super.save_begin(ctx, input) < 0)
		return -1;
	if (mcrs_user_check_unfit(mail_crypt_user_get(box->storage->user), box,
				  box->storage->name, &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	return 0;
}

/* Does the folder keep mail, and text only? A virtual one has other folders' mail. */
static bool mail_crypt_is_unfit(struct mailbox *box)
{
	enum mail_storage_class_flags flags = box->storage->class_flags;

	return (flags & (MAIL_STORAGE_CLASS_FLAG_BINARY_DATA |
			 MAIL_STORAGE_CLASS_FLAG_NOQUOTA)) == 0;
}

void mail_crypt_save_wrap(struct mailbox_vfuncs *v)
{
	v->save_begin = mail_crypt_save_begin;
	v->save_finish = mail_crypt_save_finish;
	v->copy = mail_crypt_copy;
	v->transaction_save_commit_pre = mail_crypt_transaction_save_commit_pre;
	v->transaction_save_rollback = mail_crypt_transaction_save_rollback;
}

void mail_crypt_outer_save_wrap(struct mailbox *box, struct mailbox_vfuncs *v)
{
	if (v->save_begin != NULL) {
		v->save_begin = mail_crypt_is_unfit(box) ?
			mail_crypt_unfit_save_begin : mail_crypt_outer_save_begin;
	}
	v->save_finish = mail_crypt_outer_save_finish;
	v->transaction_commit = mail_crypt_transaction_commit;
}
