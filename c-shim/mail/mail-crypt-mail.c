/* Opens mails: decrypts them, and decides whether they may be served. */

#include "compat.h"
#include "ioloop.h"
#include "str.h"
#include "time-util.h"
#include "istream.h"
#include "istream-seekable.h"
#include "message-size.h"
#include "index-mail.h"

#include "istream-mail-crypt.h"
#include "istream-spool.h"
#include "mail-crypt-plugin-private.h"

#define MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_mail_module)

struct mail_crypt_mail {
	union mail_module_context module_ctx;
	/* The size of the ciphertext that is open; 0 if the mail is stored in plaintext. */
	uoff_t stored_size;
	/* The file that is open; its size is 0 if it isn't decrypted by us. */
	struct mcrs_file file;
	/* The size of the mail that is open, if TREES wrote it; else UOFF_T_MAX. */
	uoff_t trees_size;
	bool attachments_checked;
};

static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_mail_module,
				  &mail_module_register);

/* The log says why, the client only what. Nothing is logged where there is no text. */
static void
mail_crypt_mail_fail(struct mail *mail, const struct mcrs_error *error)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(mail->box);

	/* a mail that is being copied has no uid yet */
	if (error->text[0] != '\0' &&
	    (mbox == NULL || mbox->failed_uid != mail->uid ||
	     mbox->failed_seq != mail->seq ||
	     timeval_cmp(&mbox->failed_time, &ioloop_timeval) != 0))
		mail_set_critical(mail, "mail_crypt: %s", error->text);
	if (error->text[0] != '\0' && mbox != NULL) {
		mbox->failed_uid = mail->uid;
		mbox->failed_seq = mail->seq;
		mbox->failed_time = ioloop_timeval;
	}
	mail_storage_set_error(mail->box->storage, mail_crypt_mail_error(error),
			       error->client);
}

/* A mail can't be served.

   A full-text index stops for good at a mail that it can't read, but passes over one that is gone. So it is told that
   the mail is gone, and nobody else is. Not if the mail may be readable in another session: the index would then claim
   to have all mail, with none in it. */
static void
mail_crypt_mail_refuse(struct mail *_mail, const struct mcrs_error *error)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(_mail->box->storage->user);

	mail_crypt_mail_fail(_mail, error);
	if (error->only_this_mail &&
	    null_strcmp(mail->get_stream_reason, "fts indexing") == 0) {
		e_debug(muser->event, "mailbox %s: UID %u is passed over by fts",
			mailbox_get_vname(_mail->box), _mail->uid);
		mail_set_expunged(_mail);
	}
}

/* Replaces *stream where it isn't seekable. */
static void mail_crypt_make_seekable(struct mail *mail, struct istream **stream)
{
	struct istream *inputs[] = { *stream, NULL };
	string_t *prefix;

	if ((*stream)->seekable)
		return;
	/* what is spooled is still encrypted */
	prefix = t_str_new(128);
	mail_user_set_get_temp_prefix(prefix, mail->box->storage->user->set);
	*stream = i_stream_create_seekable_path(inputs,
		i_stream_get_max_buffer_size(inputs[0]), str_c(prefix));
	i_stream_unref(&inputs[0]);
}

/* Shows an encrypted mail as it is stored to somebody who wants no more of it. Returns -1: it isn't opened. */
static int
mail_crypt_scan(struct mail_crypt_user *muser, struct mail *mail,
		struct istream *input, struct mcrs_error *error_r)
{
	const unsigned char *data;
	size_t size;
	int ret;

	do {
		if (i_stream_read_more(input, &data, &size) <= 0)
			size = 0;
		ret = muser->scan(mail, data, size, muser->scan_context);
		i_stream_skip(input, size);
	} while (ret > 0 && size > 0);
	/* not for the log */
	mail_crypt_error_set(error_r, "Mail was only scanned", "%s", "");
	return -1;
}

static int
mail_crypt_reader_new(struct mcrs_user *user, struct mail *mail, bool trees,
		      struct mcrs_file file, struct mcrs_reader **reader_r,
		      struct mcrs_error *error_r)
{
	struct mcrs_data cached[MCRS_READER_FIELDS];

	if (trees)
		return mcrs_reader_new_trees(user, file, reader_r, error_r);
	mail_crypt_cache_lookup(mail, file.size, cached);
	return mcrs_reader_new(user, file, cached, reader_r, error_r);
}

/* Replaces *stream by the decrypted mail, which TREES may have written. Returns 0, or -1 if it can't be served. */
static int
mail_crypt_decrypt(struct mcrs_user *user, struct mail *mail, bool trees,
		   bool as_stored, struct istream **stream,
		   struct mcrs_error *error_r)
{
	struct mail_crypt_mail *mmail =
		MAIL_CRYPT_MAIL_CONTEXT_REQUIRE((struct mail_private *)mail);
	struct mcrs_reader *reader;
	struct mcrs_file file;
	struct istream *input;

	/* this is the outermost stream: zlib's and others' come inside */
	mail_crypt_make_seekable(mail, stream);
	input = *stream;
	file = i_stream_mail_crypt_file(input);
	if (mail_crypt_reader_new(user, mail, trees, file, &reader, error_r) < 0)
		return -1;
	*stream = i_stream_create_mail_crypt(input, &reader, mail->box);
	i_stream_unref(&input);
	/* a mail that can't be read must be known before its size is announced */
	if (i_stream_mail_crypt_open(*stream, as_stored, error_r) < 0)
		return -1;
	mail_crypt_cache_add(mail, *stream);
	mmail->file = file;
	return 0;
}

/* Replaces *stream by the mail, if it is encrypted. Returns 1 if so, 0 if not, -1 if it can't be served. If the mail was
   compressed, too, *stream then reads from *spool_r. */
static int
mail_crypt_open(struct mail *mail, bool as_stored, struct istream **stream,
		struct istream **spool_r, bool *trees_r,
		struct mcrs_error *error_r)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	const unsigned char *data;
	size_t size;

	*trees_r = FALSE;
	if (muser->look != NULL)
		return mail_crypt_look(muser, mail, *stream, error_r);
	if (muser->scan == NULL && mail_crypt_unpack_again(mail, stream, spool_r))
		return 1;
	(void)i_stream_read_bytes(*stream, &data, &size, MCRS_MAGIC_SIZE);
	if ((*stream)->stream_errno != 0) {
		mail_crypt_error_set_read(error_r, *stream);
		return -1;
	}
	*trees_r = mcrs_is_trees(data, size);
	if (!*trees_r && !mcrs_is_encrypted(data, size))
		return mail_crypt_check_plain(mail, *stream, error_r);
	if (muser->scan != NULL)
		return mail_crypt_scan(muser, mail, *stream, error_r);
	if (mail_crypt_decrypt(muser->user, mail, *trees_r, as_stored, stream,
			       error_r) < 0 ||
	    (!as_stored && mail_crypt_unpack(mail, stream, spool_r, error_r) < 0))
		return -1;
	return 1;
}

/* Goes on with an unpacked mail. What still looks packed was packed by the client: the compression
   plugin comes next, and mustn't see that. */
static int
mail_crypt_unpacked_opened(struct mail *_mail, struct istream **stream,
			   struct istream *spool)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	int ret;

	if (!mail_crypt_is_packed(_mail, spool))
		return mmail->module_ctx.super.istream_opened(_mail, stream);

	i_stream_ref(spool);
	i_stream_spool_hide(spool, TRUE);
	ret = mmail->module_ctx.super.istream_opened(_mail, stream);
	i_stream_spool_hide(spool, FALSE);
	if (ret == 0)
		(*stream)->eof = FALSE;
	i_stream_unref(&spool);
	return ret;
}

static uoff_t mail_crypt_stored_size(struct istream *stream)
{
	uoff_t size;

	return i_stream_get_size(stream, FALSE, &size) > 0 ? size : 0;
}

static int
mail_crypt_istream_opened(struct mail *_mail, struct istream **stream)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	struct mail_crypt_outer_box *obox =
		MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(_mail->box);
	uoff_t stored_size = mail_crypt_stored_size(*stream);
	struct istream *spool = NULL;
	struct mcrs_error error;
	uoff_t size;
	bool trees;
	int ret;

	ret = mail_crypt_open(_mail, obox->checking_save, stream, &spool, &trees,
			      &error);
	if (ret < 0) {
		mail_crypt_mail_refuse(_mail, &error);
		i_stream_unref(stream);
		return -1;
	}
	mmail->stored_size = ret > 0 ? stored_size : 0;
	ret = spool == NULL ?
		mmail->module_ctx.super.istream_opened(_mail, stream) :
		mail_crypt_unpacked_opened(_mail, stream, spool);
	if (ret == 0 && trees && i_stream_get_size(*stream, TRUE, &size) > 0)
		mmail->trees_size = size;
	return ret;
}

/* TREES has counted the last chunk of a mail twice, and a Maildir has that size in the file's name. Dovecot would end the
   session when it comes to the mail's end. */
static int mail_crypt_get_physical_size(struct mail *_mail, uoff_t *size_r)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);

	if (mmail->trees_size != UOFF_T_MAX) {
		*size_r = mmail->trees_size;
		return 0;
	}
	return mmail->module_ctx.super.get_physical_size(_mail, size_r);
}

COMPAT_GET_BINARY_STREAM(mail_crypt_get_binary_stream, mail_crypt_get_binary)

/* For some, an error about one mail is more than that: imapsieve runs no script for the mails after it, and URLFETCH
   kills imap (2.3). They pass over mails that are gone, so for them a mail that can't be read is one. These are the
   functions that begin their transactions. */
static const char *const mail_crypt_fragile[] = {
	"imap_sieve_mailbox_transaction_run",
	"imap_msgpart_url_open_mail",
	NULL
};

static bool mail_crypt_mail_set_uid(struct mail *_mail, uint32_t uid)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	const char *reason = _mail->transaction->reason;
	struct istream *input;

	if (!mmail->module_ctx.super.set_uid(_mail, uid))
		return FALSE;
	return reason == NULL || !str_array_find(mail_crypt_fragile, reason) ||
		mail_get_stream_because(_mail, NULL, NULL, reason, &input) == 0;
}

/* imap's reason for opening a mail of which it wants only a part: other parts may then be missing. */
#define MAIL_CRYPT_REASON_PART "MIME part"

/* When Dovecot mends an sdbox or mdbox file, it notes the size of what it sees as the mail's: that of the ciphertext.
   FETCH then cuts the mail, or ends the session. A mail whose recorded size may be such a one is counted anew. The index
   keeps what was counted. Returns 0, or -1 if the mail can't be read to its end. */
static int mail_crypt_correct_size(struct mail *mail, struct istream *stream)
{
	struct mail_crypt_mail *mmail =
		MAIL_CRYPT_MAIL_CONTEXT_REQUIRE((struct mail_private *)mail);
	struct index_mail *imail = INDEX_MAIL(mail);
	struct message_size counted;
	struct mcrs_error error;
	bool has_nuls;
	uoff_t size;

	if (mail->saving || mmail->stored_size == 0 ||
	    mail_get_virtual_size(mail, &size) < 0 ||
	    !mcrs_may_be_ciphertext_size(size, mmail->stored_size))
		return 0;
	i_stream_seek(stream, 0);
	if (message_get_body_size(stream, &counted, &has_nuls) < 0) {
		mail_crypt_error_set_read(&error, stream);
		mail_crypt_mail_fail(mail, &error);
		return -1;
	}
	i_stream_seek(stream, 0);
	if (counted.virtual_size != size) {
		imail->data.virtual_size = counted.virtual_size;
		imail->data.physical_size = counted.physical_size;
		imail->data.body_size_set = FALSE;
	}
	return 0;
}

/* Where attachments lie in files of their own, a mail that has lost one must be known before its size is announced.
   Returns 0, or -1 if it can't be served. */
static int mail_crypt_check_whole(struct mail *_mail)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	struct mcrs_error error;

	if (mmail->attachments_checked || !mail_crypt_has_attachments(_mail->box) ||
	    null_strcmp(mail->get_stream_reason, MAIL_CRYPT_REASON_PART) == 0)
		return 0;
	if (mail_crypt_check_attachments(_mail, &error) < 0) {
		mail_crypt_mail_refuse(_mail, &error);
		return -1;
	}
	mmail->attachments_checked = TRUE;
	return 0;
}

/* For sdbox and mdbox. */
static int
mail_crypt_get_stream(struct mail *_mail, bool get_body,
		      struct message_size *hdr_size,
		      struct message_size *body_size, struct istream **stream_r)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);
	const struct index_mail *imail = INDEX_MAIL(_mail);
	bool opened = imail->data.stream != NULL;

	/* without the sizes first: for these it may read all of the mail */
	if (mmail->module_ctx.super.get_stream(_mail, get_body, NULL, NULL,
					       stream_r) < 0 ||
	    (get_body && mail_crypt_check_whole(_mail) < 0) ||
	    (!opened && mail_crypt_correct_size(_mail, *stream_r) < 0))
		return -1;
	return mmail->module_ctx.super.get_stream(_mail, get_body, hdr_size,
						  body_size, stream_r);
}

/* Logs why reading failed after a client got a part of the mail: 2.3 hasn't. */
static void mail_crypt_explain_attachments(struct mail *mail)
{
	const struct index_mail *imail = INDEX_MAIL(mail);
	struct mcrs_error error;

	if (imail->data.stream != NULL && imail->data.stream->stream_errno != 0 &&
	    mail_crypt_has_attachments(mail->box) &&
	    mail_crypt_check_attachments(mail, &error) < 0)
		mail_crypt_mail_fail(mail, &error);
}

static void mail_crypt_mail_close(struct mail *_mail)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(_mail->box->storage->user);
	struct mail_crypt_mail *mmail = MAIL_CRYPT_MAIL_CONTEXT_REQUIRE(mail);

	spool_cache_mail_close(&muser->unpacked, _mail);
	if (!mmail->attachments_checked)
		mail_crypt_explain_attachments(_mail);
	mail_crypt_cache_add_changed(_mail, mmail->file);
	i_zero(&mmail->file);
	mmail->attachments_checked = FALSE;
	mmail->stored_size = 0;
	mmail->trees_size = UOFF_T_MAX;
	mmail->module_ctx.super.close(_mail);
}

void mail_crypt_mail_allocated(struct mail *_mail)
{
	struct mail_private *mail = (struct mail_private *)_mail;
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(_mail->box->storage->user);
	struct mail_vfuncs *v = mail->vlast;
	struct mail_crypt_mail *mmail;

	if (muser == NULL)
		return;
	/* who only looks changes nothing */
	if (muser->look == NULL)
		mail_crypt_cache_check(_mail->box);

	mmail = p_new(mail->pool, struct mail_crypt_mail, 1);
	mmail->module_ctx.super = *v;
	mmail->trees_size = UOFF_T_MAX;
	mail->vlast = &mmail->module_ctx.super;

	v->istream_opened = mail_crypt_istream_opened;
	v->set_uid = mail_crypt_mail_set_uid;
	if (mail_crypt_is_dbox(_mail->box))
		v->get_stream = mail_crypt_get_stream;
	v->get_physical_size = mail_crypt_get_physical_size;
	v->close = mail_crypt_mail_close;
	v->get_binary_stream = mail_crypt_get_binary_stream;
	MODULE_CONTEXT_SET(mail, mail_crypt_mail_module, mmail);
}
