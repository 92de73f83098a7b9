/* The mail plugin's hooks, and encryption on save. A user's session is in mail-crypt-user.c. */

#include "compat.h"
#include "ioloop.h"
#include "module-dir.h"
#include "ioloop.h"
#include "istream.h"
#include "ostream.h"
#include "mail-copy.h"
#include "mail-storage-private.h"
#include "dbox-save.h"
#include "mailbox-attribute.h"

#include "spool-cache.h"
#include "ostream-mail-crypt.h"
#include "mail-crypt-copy.h"
#include "mail-crypt-unpack.h"
#include "mail-crypt-plugin-private.h"

#define BOX_CRYPT_PREFIX MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT"crypt/"
#define USER_CRYPT_PREFIX \
	MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER \
	MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT"crypt/"

/* As long as a secret is used. */
#define MAIL_CRYPT_FORGET_SECS 3600

const char *mail_crypt_plugin_version = DOVECOT_ABI_VERSION;

struct mail_crypt_storage_module mail_crypt_storage_module =
	MODULE_CONTEXT_INIT(&mail_storage_module_register);
struct mail_crypt_outer_storage_module mail_crypt_outer_storage_module =
	MODULE_CONTEXT_INIT(&mail_storage_module_register);

enum mail_error mail_crypt_mail_error(const struct mcrs_error *error)
{
	return error->temporary ? MAIL_ERROR_TEMP : MAIL_ERROR_NOTPOSSIBLE;
}

void mail_crypt_box_fail(struct mailbox *box, const struct mcrs_error *error)
{
	mailbox_set_critical(box, "mail_crypt: %s", error->text);
	mail_storage_set_error(box->storage, mail_crypt_mail_error(error),
			       error->client);
}

/* Set while the process has secrets of mails that it has saved. */
static struct timeout *mail_crypt_to_forget;

static void mail_crypt_forget_later(unsigned int secs);

static void mail_crypt_forget_old(void *context ATTR_UNUSED)
{
	unsigned int secs;

	timeout_remove(&mail_crypt_to_forget);
	if ((secs = mcrs_forget_old()) > 0)
		mail_crypt_forget_later(secs);
}

/* Who is idle forgets in time, too. In the outermost loop: others come and go. */
static void mail_crypt_forget_later(unsigned int secs)
{
	mail_crypt_to_forget = timeout_add_to(io_loop_get_root(), secs * 1000,
					      mail_crypt_forget_old, (void *)NULL);
}

static struct mail_crypt_saves *
mail_crypt_saves_get(struct mailbox_transaction_context *t)
{
	struct mail_crypt_saves *saves = MAIL_CRYPT_SAVES_CONTEXT(t);

	if (saves == NULL) {
		saves = i_new(struct mail_crypt_saves, 1);
		MODULE_CONTEXT_SET(t, mail_crypt_storage_module, saves);
	}
	return saves;
}

static void mail_crypt_saves_free(struct mailbox_transaction_context *t)
{
	struct mail_crypt_saves *saves = MAIL_CRYPT_SAVES_CONTEXT(t);

	if (saves != NULL) {
		MODULE_CONTEXT_UNSET(t, mail_crypt_storage_module);
		buffer_free(&saves->keys);
		i_free(saves);
	}
}

static void
mail_crypt_save_note_key(struct mail_crypt_saves *saves, struct mcrs_writer *writer)
{
	unsigned char id[MCRS_KEY_ID_SIZE];
	const unsigned char *last;

	if (mcrs_writer_key(writer, id) <= 0)
		return;
	if (saves->keys == NULL) {
		saves->keys = buffer_create_dynamic(default_pool, sizeof(id));
		saves->keys_time = ioloop_time;
	}
	last = saves->keys->data;
	if (saves->keys->used == 0 ||
	    memcmp(last + saves->keys->used - sizeof(id), id, sizeof(id)) != 0)
		buffer_append(saves->keys, id, sizeof(id));
}

static void mail_crypt_save_set_refused(struct mailbox *box)
{
	mail_storage_set_error(box->storage, MAIL_ERROR_NOTPOSSIBLE,
		"Saving mails encrypted by client isn't supported");
}

/* Returns -1 if what was saved must not be stored. */
static int
mail_crypt_saves_check(struct mailbox *box, struct mail_crypt_saves *saves)
{
	if (saves->refused_late) {
		mail_crypt_save_set_refused(box);
		return -1;
	}
	/* Who sends a mail slowly may find its key deleted in the end. Once it is stored it is looked
	   for in any case; but then somebody may have seen the mail. */
	return saves->keys == NULL || saves->keys_time == ioloop_time ? 0 :
		mail_crypt_saved_check(box, saves->keys);
}

/* The mails are stored as soon as the transaction is committed. Returns -1 if they must not be. */
static int
mail_crypt_saves_stored(struct mail_save_context *ctx,
			struct mail_crypt_saves *saves)
{
	struct mailbox_transaction_context *t = ctx->transaction;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(t->box);
	struct mail_crypt_outer_box *obox;

	if (saves->keys == NULL)
		return 0;
	if (array_count(&t->changes->saved_uids) == 0) {
		/* They are: in a Maildir that somebody else has locked. Without their UIDs nobody
		   could find them later. */
		if (mail_crypt_saved_check(t->box, saves->keys) == 0)
			return 0;
		mbox->module_ctx.super.transaction_save_rollback(ctx);
		return -1;
	}
	obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(t->box);
	buffer_free(&obox->stored_keys);
	obox->stored_keys = saves->keys;
	saves->keys = NULL;
	return 0;
}

/* sdbox deletes everything that a transaction has saved if the last save failed, though what failed is
   no part of it any more, and the source of a move is expunged by then. */
static void mail_crypt_saves_keep(struct mail_save_context *ctx)
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
	struct mail_crypt_saves *saves = MAIL_CRYPT_SAVES_CONTEXT(t);
	int ret = saves == NULL ? 0 : mail_crypt_saves_check(t->box, saves);

	if (ret == 0) {
		mail_crypt_saves_keep(ctx);
		ret = mbox->module_ctx.super.transaction_save_commit_pre(ctx);
		if (ret == 0 && saves != NULL)
			ret = mail_crypt_saves_stored(ctx, saves);
	} else
		mbox->module_ctx.super.transaction_save_rollback(ctx);
	mail_crypt_saves_free(t);
	return ret;
}

static void mail_crypt_transaction_save_rollback(struct mail_save_context *ctx)
{
	struct mailbox_transaction_context *t = ctx->transaction;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(t->box);

	/* a save that is still under way is cancelled here, and its stream ends */
	mbox->module_ctx.super.transaction_save_rollback(ctx);
	mail_crypt_saves_free(t);
}

static int
mail_crypt_save_begin(struct mail_save_context *ctx, struct istream *input)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mail_crypt_saves *saves = mail_crypt_saves_get(ctx->transaction);
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	struct mcrs_writer *writer;
	struct mcrs_error error;
	struct ostream *output;

	if (mbox->module_ctx.super.save_begin(ctx, input) < 0)
		return -1;

	/* after an error Dovecot cancels the save, wherever in the chain it failed */
	if (mcrs_writer_new(user, box, &writer, &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	mail_crypt_save_note_key(saves, writer);
	if (mail_crypt_to_forget == NULL)
		mail_crypt_forget_later(MAIL_CRYPT_FORGET_SECS);
	/* encryption is the outermost layer */
	output = o_stream_create_mail_crypt(ctx->data.output, &writer,
					    &saves->refused);
	o_stream_unref(&ctx->data.output);
	ctx->data.output = output;
	o_stream_cork(ctx->data.output);
	return 0;
}

static int mail_crypt_save_finish(struct mail_save_context *ctx)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mail_crypt_saves *saves = mail_crypt_saves_get(ctx->transaction);

	if (saves->refused) {
		/* once finished it would be part of the transaction */
		mbox->module_ctx.super.save_cancel(ctx);
		mail_crypt_save_set_refused(box);
		return -1;
	}
	if (mbox->module_ctx.super.save_finish(ctx) < 0)
		return -1;
	if (saves->refused) {
		/* a plugin kept the beginning of the mail to its end */
		saves->refused_late = TRUE;
		mail_crypt_save_set_refused(box);
		return -1;
	}
	return 0;
}

static int mail_crypt_copy(struct mail_save_context *ctx, struct mail *mail)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);

	return mail_crypt_can_copy_raw(box, mail) ||
		mail_crypt_keeps_unreadable(ctx, mail) ?
		mbox->module_ctx.super.copy(ctx, mail) :
		mail_storage_copy(ctx, mail);
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

static void mail_crypt_outer_close(struct mailbox *box)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(box->storage->user);
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);

	spool_cache_mailbox_close(&muser->unpacked, box);
	spool_cache_mailbox_close(&muser->binary.spool, box);
	obox->module_ctx.super.close(box);
}

static void mail_crypt_outer_mailbox_allocated(struct mailbox *box)
{
	struct mailbox_vfuncs *v = box->vlast;
	struct mail_crypt_outer_box *obox;

	if (mail_crypt_user_get(box->storage->user) == NULL)
		return;

	obox = p_new(box->pool, struct mail_crypt_outer_box, 1);
	obox->module_ctx.super = *v;
	box->vlast = &obox->module_ctx.super;
	if (v->save_begin != NULL && mail_crypt_is_unfit(box))
		v->save_begin = mail_crypt_unfit_save_begin;
	v->save_finish = mail_crypt_outer_save_finish;
	v->transaction_commit = mail_crypt_saved_commit;
	/* also where no mail is encrypted: mbox may have INBOX, and so the user's keys */
	v->get_metadata = mail_crypt_get_metadata;
	v->close = mail_crypt_outer_close;
	MODULE_CONTEXT_SET(box, mail_crypt_outer_storage_module, obox);
}

/* Hooked for every user of the process: mail of a user without mail_crypt must not end up
   encrypted, nor the other way around, when both get the same delivery. */
static void mail_crypt_mailbox_allocated(struct mailbox *box)
{
	struct mailbox_vfuncs *v = box->vlast;
	struct mail_crypt_box *mbox;

	if ((box->storage->class_flags & MAIL_STORAGE_CLASS_FLAG_BINARY_DATA) == 0)
		return;

	mbox = p_new(box->pool, struct mail_crypt_box, 1);
	mbox->module_ctx.super = *v;
	box->vlast = &mbox->module_ctx.super;
	v->save_begin = mail_crypt_save_begin;
	v->save_finish = mail_crypt_save_finish;
	v->copy = mail_crypt_copy;
	v->create_box = mail_crypt_create_box;
	v->update_box = mail_crypt_update_box;
	v->transaction_save_commit_pre = mail_crypt_transaction_save_commit_pre;
	v->transaction_save_rollback = mail_crypt_transaction_save_rollback;
	MODULE_CONTEXT_SET(box, mail_crypt_storage_module, mbox);
}

static struct mail_storage_hooks mail_crypt_hooks = {
	.mail_user_created = mail_crypt_user_created,
	.mail_namespaces_created = mail_crypt_namespaces_created,
	.mailbox_allocated = mail_crypt_outer_mailbox_allocated,
	.mailbox_opened = mail_crypt_mailbox_opened,
	.mail_allocated = mail_crypt_mail_allocated
};

static struct mail_storage_hooks mail_crypt_forced_hooks = {
	.mailbox_allocated = mail_crypt_mailbox_allocated
};

/* Sorts after all other plugins that wrap the mail being saved: see mail_storage_hooks_add(). */
static struct module mail_crypt_forced_module = {
	.path = "lib95_mail_crypt_plugin.so"
};

/* Clients must not get at keys through METADATA. */
static const struct mailbox_attribute_internal mail_crypt_attributes[] = {
	{ .type = MAIL_ATTRIBUTE_TYPE_PRIVATE,
	  .key = BOX_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
	{ .type = MAIL_ATTRIBUTE_TYPE_SHARED,
	  .key = BOX_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
	{ .type = MAIL_ATTRIBUTE_TYPE_PRIVATE,
	  .key = USER_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
	{ .type = MAIL_ATTRIBUTE_TYPE_SHARED,
	  .key = USER_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
};

void mail_crypt_plugin_init(struct module *module)
{
	if (mcrs_init(MCRS_VERSION) < 0)
		i_fatal("mail_crypt: the plugin and libmail_crypt_core are of "
			"different versions");
	mail_storage_hooks_add(module, &mail_crypt_hooks);
	mail_storage_hooks_add_forced(&mail_crypt_forced_module,
				      &mail_crypt_forced_hooks);
	mailbox_attribute_register_internals(mail_crypt_attributes,
					     N_ELEMENTS(mail_crypt_attributes));
}

void mail_crypt_plugin_deinit(void)
{
	mailbox_attribute_unregister_internals(mail_crypt_attributes,
					       N_ELEMENTS(mail_crypt_attributes));
	mail_storage_hooks_remove(&mail_crypt_hooks);
	mail_storage_hooks_remove(&mail_crypt_forced_hooks);
	timeout_remove(&mail_crypt_to_forget);
	mcrs_deinit();
}
