/* Hooks of the mail plugin: a session for each user, encryption on save, decryption on open. */

#include "compat.h"
#include "module-dir.h"
#include "ioloop.h"
#include "str.h"
#include "time-util.h"
#include "istream.h"
#include "istream-seekable.h"
#include "ostream.h"
#include "mail-copy.h"
#include "mail-storage-private.h"
#include "mail-cache.h"
#include "index-mail.h"
#include "mailbox-attribute.h"

#include "istream-mail-crypt.h"
#include "istream-spool.h"
#include "ostream-mail-crypt.h"
#include "spool-cache.h"
#include "mail-crypt-binary.h"
#include "mail-crypt-copy.h"
#include "mail-crypt-unpack.h"
#include "mail-crypt-plugin.h"

#define MAIL_CRYPT_USER_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_user_module)
#define MAIL_CRYPT_BOX_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_BOX_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_outer_storage_module)
#define MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_mail_module)

/* Content keys, sealed by the core. Named after this project's own format, which the packaged
   plugin neither knows nor minds. */
#define MAIL_CRYPT_CACHE_FIELD "mail_crypt.content_key"

#define BOX_CRYPT_PREFIX MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT"crypt/"
#define USER_CRYPT_PREFIX \
	MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER \
	MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT"crypt/"

struct mail_crypt_user {
	union mail_user_module_context module_ctx;
	struct mcrs_user *user;
	/* the last mail that was decompressed */
	struct spool_cache unpacked;

	mail_crypt_scan_t *scan;
	void *scan_context;
	struct mail_crypt_binary_cache binary;
};

/* What comes before all other plugins, where mail_crypt_box comes after them. */
struct mail_crypt_outer_box {
	union mailbox_module_context module_ctx;
	/* The mail being saved is looked at by the compression plugin, and must look as saved. */
	bool checking_save;
};

struct mail_crypt_box {
	union mailbox_module_context module_ctx;
	/* The mail being saved looks encrypted and must not be stored. */
	bool save_refused;
	/* The ids of the folder's keys to which mails were encrypted that are not stored yet. */
	buffer_t *save_keys;
	/* The last mail that couldn't be read, and when: opening it again for another part of the
	   same answer is no news. */
	uint32_t failed_uid;
	struct timeval failed_time;
	/* The index cache's field of content keys; UINT_MAX until it is registered. */
	unsigned int cache_idx;
};

const char *mail_crypt_plugin_version = DOVECOT_ABI_VERSION;

static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_user_module,
				  &mail_user_module_register);
static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_storage_module,
				  &mail_storage_module_register);
static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_outer_storage_module,
				  &mail_storage_module_register);
static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_mail_module,
				  &mail_module_register);

struct mcrs_user *mail_crypt_user_get(struct mail_user *user)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	return muser == NULL ? NULL : muser->user;
}

void mail_crypt_user_scan(struct mail_user *user, mail_crypt_scan_t *scan,
			  void *context)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	if (muser != NULL) {
		muser->scan = scan;
		muser->scan_context = context;
	}
}

static enum mail_error mail_crypt_mail_error(const struct mcrs_error *error)
{
	return error->temporary ? MAIL_ERROR_TEMP : MAIL_ERROR_NOTPOSSIBLE;
}

/* The log says why, the client only what. */
static void
mail_crypt_mail_fail(struct mail *mail, const struct mcrs_error *error)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(mail->box);

	if (mbox == NULL || mail->uid == 0 || mbox->failed_uid != mail->uid ||
	    timeval_cmp(&mbox->failed_time, &ioloop_timeval) != 0)
		mail_set_critical(mail, "mail_crypt: %s", error->text);
	if (mbox != NULL) {
		mbox->failed_uid = mail->uid;
		mbox->failed_time = ioloop_timeval;
	}
	mail_storage_set_error(mail->box->storage, mail_crypt_mail_error(error),
			       error->client);
}

static void
mail_crypt_box_fail(struct mailbox *box, const struct mcrs_error *error)
{
	mailbox_set_critical(box, "mail_crypt: %s", error->text);
	mail_storage_set_error(box->storage, mail_crypt_mail_error(error),
			       error->client);
}

static struct istream *
mail_crypt_seekable(struct mail *mail, struct istream *input)
{
	struct istream *inputs[] = { input, NULL };
	string_t *prefix = t_str_new(128);

	if (input->seekable)
		return input;
	/* what is spooled is still encrypted */
	mail_user_set_get_temp_prefix(prefix, mail->box->storage->user->set);
	input = i_stream_create_seekable_path(inputs,
		i_stream_get_max_buffer_size(input), str_c(prefix));
	i_stream_unref(&inputs[0]);
	return input;
}

/* Returns FALSE if nothing can be cached for the mail. */
static bool mail_crypt_cache_usable(struct mail *mail, unsigned int *idx_r)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(mail->box);

	if (mbox == NULL || mail->saving || mail->uid == 0 ||
	    mail->box->cache == NULL || mail->transaction->cache_view == NULL)
		return FALSE;
	if (mbox->cache_idx == UINT_MAX) {
		struct mail_cache_field field = {
			.name = MAIL_CRYPT_CACHE_FIELD,
			.type = MAIL_CACHE_FIELD_VARIABLE_SIZE,
			.decision = MAIL_CACHE_DECISION_YES,
		};
		compat_cache_register_field(mail->box->cache, &field);
		mbox->cache_idx = field.idx;
	}
	*idx_r = mbox->cache_idx;
	return TRUE;
}

static void mail_crypt_cache_lookup(struct mail *mail, struct istream *stream)
{
	unsigned int idx;
	buffer_t *entry;

	if (!mail_crypt_cache_usable(mail, &idx))
		return;
	entry = t_buffer_create(128);
	if (mail_cache_lookup_field(mail->transaction->cache_view, entry,
				    mail->seq, idx) > 0)
		i_stream_mail_crypt_set_cached(stream, entry->data, entry->used);
}

static void mail_crypt_cache_add(struct mail *mail, struct istream *stream)
{
	const unsigned char *entry;
	unsigned int idx;
	size_t size;

	if (i_stream_mail_crypt_get_cacheable(stream, &entry, &size) &&
	    mail_crypt_cache_usable(mail, &idx) &&
	    mail_cache_field_can_add(mail->transaction->cache_trans,
				     mail->seq, idx))
		index_mail_cache_add_idx(INDEX_MAIL(mail), idx, entry, size);
}

/* Returns FALSE if the user's mails are to be opened as usual. */
static bool mail_crypt_mail_scan(struct mail *mail, struct istream *input)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	const unsigned char *data;
	size_t size;
	int ret;

	if (muser == NULL || muser->scan == NULL)
		return FALSE;
	do {
		if (i_stream_read_more(input, &data, &size) <= 0)
			size = 0;
		ret = muser->scan(mail, data, size, muser->scan_context);
		i_stream_skip(input, size);
	} while (ret > 0 && size > 0);
	mail_storage_set_error(mail->box->storage, MAIL_ERROR_NOTPOSSIBLE,
			       "Mail was only scanned");
	return TRUE;
}

/* Goes on with an unpacked mail. What looks packed still was packed by the client: the compression
   plugin comes next, and mustn't see that. */
static int
mail_crypt_unpacked_opened(struct mail *_mail, struct istream **stream,
			   struct istream *spool)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	union mail_module_context *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	int ret;

	if (!mail_crypt_is_packed(_mail, spool))
		return mmail->super.istream_opened(_mail, stream);

	i_stream_ref(spool);
	i_stream_spool_hide(spool, TRUE);
	ret = mmail->super.istream_opened(_mail, stream);
	i_stream_spool_hide(spool, FALSE);
	if (ret == 0)
		(*stream)->eof = FALSE;
	i_stream_unref(&spool);
	return ret;
}

static int
mail_crypt_istream_opened(struct mail *_mail, struct istream **stream)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(_mail->box->storage->user);
	struct mail_crypt_outer_box *obox =
		MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(_mail->box);
	union mail_module_context *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	struct mcrs_reader *reader;
	struct mcrs_error error;
	const unsigned char *data;
	struct istream *input, *spool;
	size_t size;
	int ret;

	if (muser->scan == NULL &&
	    mail_crypt_unpack_again(&muser->unpacked, _mail, stream, &spool))
		return mail_crypt_unpacked_opened(_mail, stream, spool);

	if (i_stream_read_bytes(*stream, &data, &size, MCRS_MAGIC_SIZE) <= 0 ||
	    !mcrs_is_encrypted(data, size))
		return mmail->super.istream_opened(_mail, stream);
	if (mail_crypt_mail_scan(_mail, *stream)) {
		i_stream_unref(stream);
		return -1;
	}

	/* this is the outermost stream: zlib's and others' come inside */
	input = mail_crypt_seekable(_mail, *stream);
	if (mcrs_reader_new(muser->user, i_stream_mail_crypt_file(input),
			    &reader, &error) < 0) {
		*stream = input;
		mail_crypt_mail_fail(_mail, &error);
		i_stream_unref(stream);
		return -1;
	}
	*stream = i_stream_create_mail_crypt(input, &reader, _mail->box);
	i_stream_unref(&input);
	mail_crypt_cache_lookup(_mail, *stream);

	/* a mail that can't be read must be known before its size is announced */
	if (i_stream_mail_crypt_open(*stream, &error) < 0) {
		mail_crypt_mail_fail(_mail, &error);
		i_stream_unref(stream);
		return -1;
	}
	mail_crypt_cache_add(_mail, *stream);

	if (obox->checking_save)
		return mmail->super.istream_opened(_mail, stream);
	ret = mail_crypt_unpack(&muser->unpacked, _mail, stream, &spool, &error);
	if (ret < 0) {
		mail_crypt_mail_fail(_mail, &error);
		i_stream_unref(stream);
		return -1;
	}
	return ret > 0 ? mail_crypt_unpacked_opened(_mail, stream, spool) :
		mmail->super.istream_opened(_mail, stream);
}

static int
mail_crypt_get_binary_of(struct mail *mail, const struct message_part *part,
			 bool with_header, struct mail_crypt_binary *found_r,
			 struct istream **stream_r)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);

	return mail_crypt_get_binary(&muser->binary, mail, part, with_header,
				     found_r, stream_r);
}
COMPAT_GET_BINARY_STREAM(mail_crypt_get_binary_stream, mail_crypt_get_binary_of)

static void mail_crypt_mail_close(struct mail *_mail)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(_mail->box->storage->user);
	union mail_module_context *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);

	spool_cache_mail_close(&muser->unpacked, _mail);
	mmail->super.close(_mail);
}

static void mail_crypt_mail_allocated(struct mail *_mail)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_vfuncs *v = mail->vlast;
	union mail_module_context *mmail;

	if (mail_crypt_user_get(_mail->box->storage->user) == NULL)
		return;

	mmail = p_new(mail->pool, union mail_module_context, 1);
	mmail->super = *v;
	mail->vlast = &mmail->super;

	v->istream_opened = mail_crypt_istream_opened;
	v->close = mail_crypt_mail_close;
	v->get_binary_stream = mail_crypt_get_binary_stream;
	MODULE_CONTEXT_SET_SELF(mail, mail_crypt_mail_module, mmail);
}

static void
mail_crypt_save_note_key(struct mail_crypt_box *mbox, struct mcrs_writer *writer)
{
	unsigned char id[MCRS_KEY_ID_SIZE];
	const unsigned char *last;

	if (mcrs_writer_key(writer, id) <= 0)
		return;
	if (mbox->save_keys == NULL)
		mbox->save_keys = buffer_create_dynamic(default_pool, sizeof(id));
	last = mbox->save_keys->data;
	if (mbox->save_keys->used == 0 ||
	    memcmp(last + mbox->save_keys->used - sizeof(id), id, sizeof(id)) != 0)
		buffer_append(mbox->save_keys, id, sizeof(id));
}

/* Who sends a mail slowly may find its key deleted in the end. */
static int mail_crypt_transaction_save_commit_pre(struct mail_save_context *ctx)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	struct mcrs_error error;
	const unsigned char *id;
	int ret = 0;

	while (mbox->save_keys != NULL && mbox->save_keys->used > 0) {
		id = mbox->save_keys->data;
		id += mbox->save_keys->used - MCRS_KEY_ID_SIZE;
		if (ret == 0 &&
		    mcrs_user_check_saved(user, box, id, &error) < 0) {
			mail_crypt_box_fail(box, &error);
			ret = -1;
		}
		buffer_set_used_size(mbox->save_keys,
				     mbox->save_keys->used - MCRS_KEY_ID_SIZE);
	}
	if (ret < 0) {
		mbox->module_ctx.super.transaction_save_rollback(ctx);
		return -1;
	}
	return mbox->module_ctx.super.transaction_save_commit_pre(ctx);
}

static void mail_crypt_mailbox_free(struct mailbox *box)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);

	buffer_free(&mbox->save_keys);
	mbox->module_ctx.super.free(box);
}

static int
mail_crypt_save_begin(struct mail_save_context *ctx, struct istream *input)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	struct mcrs_writer *writer;
	struct mcrs_error error;
	struct ostream *output;

	if (mbox->module_ctx.super.save_begin(ctx, input) < 0)
		return -1;

	if (mcrs_writer_new(user, box, &writer, &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	mail_crypt_save_note_key(mbox, writer);
	/* encryption is the outermost layer */
	output = o_stream_create_mail_crypt(ctx->data.output, &writer,
					    &mbox->save_refused);
	o_stream_unref(&ctx->data.output);
	ctx->data.output = output;
	o_stream_cork(ctx->data.output);
	return 0;
}

static int mail_crypt_save_finish(struct mail_save_context *ctx)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);

	if (mbox->module_ctx.super.save_finish(ctx) < 0)
		return -1;
	if (mbox->save_refused) {
		mail_storage_set_error(box->storage, MAIL_ERROR_NOTPOSSIBLE,
			"Saving mails encrypted by client isn't supported");
		return -1;
	}
	return 0;
}

static int mail_crypt_copy(struct mail_save_context *ctx, struct mail *mail)
{
	struct mailbox *box = ctx->transaction->box;
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);

	return mail_crypt_can_copy_raw(box, mail) ?
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
	v->save_finish = mail_crypt_outer_save_finish;
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
	mbox->cache_idx = UINT_MAX;
	v->save_begin = mail_crypt_save_begin;
	v->save_finish = mail_crypt_save_finish;
	v->copy = mail_crypt_copy;
	v->transaction_save_commit_pre = mail_crypt_transaction_save_commit_pre;
	v->free = mail_crypt_mailbox_free;
	MODULE_CONTEXT_SET(box, mail_crypt_storage_module, mbox);
}

static void mail_crypt_user_deinit(struct mail_user *user)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	spool_cache_clear(&muser->unpacked);
	spool_cache_clear(&muser->binary.spool);
	muser->module_ctx.super.deinit(user);
	mcrs_user_free(&muser->user);
}

static void mail_crypt_user_created(struct mail_user *user)
{
	struct mail_user_vfuncs *v = user->vlast;
	struct mail_crypt_user *muser;
	struct compat_settings *set;
	struct mcrs_error error;
	const char *set_error;
	int ret;

	/* Dovecot refuses to go on with a user in error */
	if (compat_settings_get(user, &set, &set_error) < 0) {
		user->error = p_strdup_printf(user->pool, "mail_crypt: %s",
					      set_error);
		return;
	}
	muser = p_new(user->pool, struct mail_crypt_user, 1);
	ret = mcrs_user_new(user, compat_setting_lookup, set,
			    &muser->user, &error);
	compat_settings_free(&set);
	if (ret < 0) {
		user->error = p_strdup_printf(user->pool, "mail_crypt: %s",
					      error.text);
		return;
	}
	muser->module_ctx.super = *v;
	user->vlast = &muser->module_ctx.super;
	v->deinit = mail_crypt_user_deinit;
	MODULE_CONTEXT_SET(user, mail_crypt_user_module, muser);
}

static struct mail_storage_hooks mail_crypt_hooks = {
	.mail_user_created = mail_crypt_user_created,
	.mailbox_allocated = mail_crypt_outer_mailbox_allocated,
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
}
