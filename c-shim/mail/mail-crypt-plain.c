/* Checks mails that aren't encrypted: were they once? */

#include "compat.h"
#include "istream.h"
#include "mail-cache.h"
#include "maildir-storage.h"
#include "maildir-filename.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-plugin-private.h"

/* Returns a size that the index cache has, UINT64_MAX if it hasn't. */
static uint64_t mail_crypt_cached_size(struct mail *mail, const char *name)
{
	unsigned int idx;
	buffer_t *value;
	uoff_t size;

	if (mail->box->cache == NULL || mail->transaction->cache_view == NULL)
		return UINT64_MAX;
	idx = mail_cache_register_lookup(mail->box->cache, name);
	if (idx == UINT_MAX)
		return UINT64_MAX;
	value = t_buffer_create(sizeof(size));
	if (mail_cache_lookup_field(mail->transaction->cache_view, value,
				    mail->seq, idx) <= 0 ||
	    value->used != sizeof(size))
		return UINT64_MAX;
	memcpy(&size, value->data, sizeof(size));
	return size;
}

/* The size that the mail had when it was stored, wherever that is noted; UINT64_MAX if nowhere. */
static uint64_t mail_crypt_recorded_size(struct mail *mail)
{
	const char *name;
	uoff_t size;

	if (strcmp(mail->box->storage->name, "maildir") == 0) {
		/* asking for the size itself could open the mail, which is being opened already */
		if (mail_get_special(mail, MAIL_FETCH_STORAGE_ID, &name) == 0 &&
		    maildir_filename_get_size(name, MAILDIR_EXTRA_FILE_SIZE, &size))
			return size;
	} else if (mail_crypt_is_dbox(mail->box)) {
		/* in the metadata behind the mail */
		if (mail_get_physical_size(mail, &size) == 0)
			return size;
	}
	return mail_crypt_cached_size(mail, "size.physical");
}

static void
mail_crypt_sizes(struct mail *mail, struct istream *input,
		 struct mcrs_sizes *sizes_r)
{
	uoff_t stream_size;

	sizes_r->recorded = mail_crypt_recorded_size(mail);
	sizes_r->with_crlf = mail_crypt_cached_size(mail, "size.virtual");
	sizes_r->actual = i_stream_get_size(input, TRUE, &stream_size) > 0 ?
		stream_size : UINT64_MAX;
	/* dbox may have read elsewhere in the file */
	i_stream_sync(input);
	i_stream_seek(input, 0);
}

int mail_crypt_look(struct mail_crypt_user *muser, struct mail *mail,
		    struct istream *input, struct mcrs_error *error_r)
{
	struct mcrs_sizes sizes = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
	const unsigned char *data;
	size_t size;
	bool was_encrypted = FALSE;

	(void)i_stream_read_bytes(input, &data, &size, MCRS_MAGIC_SIZE);
	if (!mcrs_is_encrypted(data, size)) {
		was_encrypted = mail_crypt_cache_knows(mail);
		mail_crypt_sizes(mail, input, &sizes);
	}
	muser->look(mail, input, &sizes, was_encrypted, muser->look_context);
	/* not for the log */
	mail_crypt_error_set(error_r, "Mail was only looked at", "%s", "");
	return -1;
}

int mail_crypt_check_plain(struct mail *mail, struct istream *input,
			   struct mcrs_error *error_r)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	struct mcrs_sizes sizes;
	const unsigned char *data;
	size_t size;
	bool known;

	/* a mail that is being saved, or whose storage has nothing encrypted, may begin with anything */
	if (mail->saving || MAIL_CRYPT_BOX_CONTEXT(mail->box) == NULL)
		return 0;
	if (muser->scan == NULL && mcrs_refuse_plain(muser->user, error_r) < 0)
		return -1;
	known = mail_crypt_cache_knows(mail);
	data = i_stream_get_data(input, &size);
	if (!known && mcrs_begins_as_text(data, size)) {
		if (muser->scan == NULL)
			mcrs_plain_served(muser->user);
		return 0;
	}

	mail_crypt_sizes(mail, input, &sizes);
	(void)i_stream_read_bytes(input, &data, &size, MCRS_LOOK_SIZE);
	if (input->stream_errno != 0)
		return 0;
	return mcrs_refuse_damaged(muser->user, known, data, size, sizes, error_r);
}
