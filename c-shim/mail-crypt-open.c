/* Opening mails: decryption, whether a mail may be served, and what is remembered of it. */

#include "compat.h"
#include "ioloop.h"
#include "str.h"
#include "time-util.h"
#include "istream.h"
#include "istream-seekable.h"
#include "mail-storage-private.h"
#include "mail-cache.h"
#include "index-mail.h"

#include "istream-mail-crypt.h"
#include "istream-spool.h"
#include "mail-crypt-unpack.h"
#include "mail-crypt-plugin-private.h"

#define MAIL_CRYPT_BOX_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_mail_module)

/* Sealed by the core. Named after this project's own format, which the packaged plugin neither
   knows nor minds. */
static const char *const mail_crypt_cache_fields[MCRS_CACHE_FIELDS] = {
	[MCRS_CACHE_CONTENT_KEY] = "mail_crypt.content-key",
	[MCRS_CACHE_CHUNK_TAGS] = "mail_crypt.chunk-tags",
};
/* What they were called while entries could get into others' fields: nothing in such a cache is to
   be believed. */
static const char *const mail_crypt_spoilt_fields[] = {
	"mail_crypt.content_key",
	"mail_crypt.chunk_tags",
};

static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_mail_module,
				  &mail_module_register);

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
static bool
mail_crypt_cache_usable(struct mail *mail, size_t field, unsigned int *idx_r)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(mail->box);

	if (mbox == NULL || mail->saving || mail->uid == 0 ||
	    mail->box->cache == NULL || mail->transaction->cache_view == NULL)
		return FALSE;
	if (mbox->cache_idx[field] == UINT_MAX) {
		struct mail_cache_field cache_field = {
			.name = mail_crypt_cache_fields[field],
			.type = MAIL_CACHE_FIELD_VARIABLE_SIZE,
			.decision = MAIL_CACHE_DECISION_YES,
		};
		compat_cache_register_field(mail->box->cache, &cache_field);
		mbox->cache_idx[field] = cache_field.idx;
	}
	*idx_r = mbox->cache_idx[field];
	return TRUE;
}

/* Deletes a cache that may be spoilt, once; Dovecot makes it anew, without the old fields. */
static void mail_crypt_cache_heal(struct mail_cache *cache)
{
	const struct mail_cache_field *old;
	unsigned int i, idx;
	bool spoilt = FALSE;

	if (mail_cache_open_and_verify(cache) <= 0)
		return;
	for (i = 0; i < N_ELEMENTS(mail_crypt_spoilt_fields); i++) {
		struct mail_cache_field unwanted = {
			.name = mail_crypt_spoilt_fields[i],
			.type = MAIL_CACHE_FIELD_VARIABLE_SIZE,
			.decision = MAIL_CACHE_DECISION_NO |
				MAIL_CACHE_DECISION_FORCED,
		};

		idx = mail_cache_register_lookup(cache, unwanted.name);
		if (idx == UINT_MAX)
			continue;
		old = mail_cache_register_get_field(cache, idx);
		if ((old->decision & MAIL_CACHE_DECISION_FORCED) == 0) {
			compat_cache_register_field(cache, &unwanted);
			spoilt = TRUE;
		}
	}
	if (spoilt) {
		mail_cache_set_corrupted(cache, "mail_crypt: "
			"it is of a release that could put data of its own into it as a mail's headers");
	}
}

/* Numbers are the cache's own, and it goes when the mailbox is closed, whose object may be opened
   again. */
void mail_crypt_mailbox_opened(struct mailbox *box)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(box);

	if (mbox == NULL)
		return;
	memset(mbox->cache_idx, 0xff, sizeof(mbox->cache_idx));
	mbox->cache_checked = FALSE;
}

/* Before anything is asked of the cache, and only where something may be: to look costs opening it. */
static void mail_crypt_cache_check(struct mailbox *box)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(box);

	if (mbox == NULL || mbox->cache_checked || box->cache == NULL)
		return;
	mbox->cache_checked = TRUE;
	mail_crypt_cache_heal(box->cache);
}

static void
mail_crypt_cache_lookup(struct mail *mail, struct istream *stream, size_t field)
{
	unsigned int idx;
	buffer_t *entry;

	if (!mail_crypt_cache_usable(mail, field, &idx))
		return;
	entry = t_buffer_create(128);
	if (mail_cache_lookup_field(mail->transaction->cache_view, entry,
				    mail->seq, idx) > 0)
		i_stream_mail_crypt_set_cached(stream, field, entry->data, entry->used);
}

/* There may be an older entry, of the file as it was. 2.3 takes another, and then the newest is what
   counts; 2.4 doesn't. */
static void
mail_crypt_cache_add(struct mail *mail, struct istream *stream, size_t field)
{
	const unsigned char *entry;
	unsigned int idx;
	size_t size;

	if (i_stream_mail_crypt_get_cacheable(stream, field, &entry, &size) &&
	    mail_crypt_cache_usable(mail, field, &idx))
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
	struct mcrs_file file;
	struct mcrs_error error;
	const unsigned char *data;
	struct istream *input, *spool;
	size_t size, field;
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
	file = i_stream_mail_crypt_file(input);
	if (mcrs_reader_new(muser->user, file, &reader, &error) < 0) {
		*stream = input;
		mail_crypt_mail_fail(_mail, &error);
		i_stream_unref(stream);
		return -1;
	}
	*stream = i_stream_create_mail_crypt(input, &reader, _mail->box);
	i_stream_unref(&input);
	mail_crypt_cache_lookup(_mail, *stream, MCRS_CACHE_CONTENT_KEY);
	if (file.size > MCRS_SMALL_SIZE)
		mail_crypt_cache_lookup(_mail, *stream, MCRS_CACHE_CHUNK_TAGS);

	/* a mail that can't be read must be known before its size is announced */
	if (i_stream_mail_crypt_open(*stream, &error) < 0) {
		mail_crypt_mail_fail(_mail, &error);
		i_stream_unref(stream);
		return -1;
	}
	for (field = 0; field < MCRS_CACHE_FIELDS; field++)
		mail_crypt_cache_add(_mail, *stream, field);

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

void mail_crypt_mail_allocated(struct mail *_mail)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_vfuncs *v = mail->vlast;
	union mail_module_context *mmail;

	if (mail_crypt_user_get(_mail->box->storage->user) == NULL)
		return;
	mail_crypt_cache_check(_mail->box);

	mmail = p_new(mail->pool, union mail_module_context, 1);
	mmail->super = *v;
	mail->vlast = &mmail->super;

	v->istream_opened = mail_crypt_istream_opened;
	v->close = mail_crypt_mail_close;
	v->get_binary_stream = mail_crypt_get_binary_stream;
	MODULE_CONTEXT_SET_SELF(mail, mail_crypt_mail_module, mmail);
}
