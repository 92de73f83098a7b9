/* Mails that are not encrypted: whether they once were. */

#include "compat.h"
#include "istream.h"
#include "mail-storage-private.h"
#include "mail-cache.h"
#include "maildir-storage.h"
#include "maildir-filename.h"

#include "mail-crypt-cache.h"
#include "mail-crypt-plain.h"
#include "mail-crypt-plugin-private.h"

/* Looks up a size in the index cache. */
static bool
mail_crypt_cached_size(struct mail *mail, const char *name, uoff_t *size_r)
{
	unsigned int idx;
	buffer_t *value;

	if (mail->box->cache == NULL || mail->transaction->cache_view == NULL)
		return FALSE;
	idx = mail_cache_register_lookup(mail->box->cache, name);
	if (idx == UINT_MAX)
		return FALSE;
	value = t_buffer_create(sizeof(*size_r));
	if (mail_cache_lookup_field(mail->transaction->cache_view, value,
				    mail->seq, idx) <= 0 ||
	    value->used != sizeof(*size_r))
		return FALSE;
	memcpy(size_r, value->data, sizeof(*size_r));
	return TRUE;
}

/* The size that the mail had when it was stored, wherever that is noted; UINT64_MAX if nowhere. */
static uint64_t mail_crypt_recorded_size(struct mail *mail)
{
	const char *storage = mail->box->storage->name, *name;
	uoff_t size;

	if (strcmp(storage, "maildir") == 0) {
		/* asking for the size itself could open the mail, which is being opened already */
		if (mail_get_special(mail, MAIL_FETCH_STORAGE_ID, &name) == 0 &&
		    maildir_filename_get_size(name, MAILDIR_EXTRA_FILE_SIZE, &size))
			return size;
	} else if (strcmp(storage, "sdbox") == 0 || strcmp(storage, "mdbox") == 0) {
		/* in the metadata behind the mail */
		if (mail_get_physical_size(mail, &size) == 0)
			return size;
	}
	return mail_crypt_cached_size(mail, "size.physical", &size) ?
		size : UINT64_MAX;
}

int mail_crypt_mail_check_plain(struct mail *mail, struct istream *input,
				struct mcrs_error *error_r)
{
	const unsigned char *data;
	uint64_t recorded, actual = UINT64_MAX;
	uoff_t stream_size;
	size_t size;
	bool known;

	/* where nothing is stored encrypted, and what is being stored, may begin with anything */
	if (mail->saving || MAIL_CRYPT_BOX_CONTEXT(mail->box) == NULL)
		return 0;
	known = mail_crypt_cache_knows(mail);
	data = i_stream_get_data(input, &size);
	if (!known && mcrs_begins_as_text(data, size))
		return 0;

	recorded = mail_crypt_recorded_size(mail);
	/* with CRLF for each LF, it can be twice as large as the file and no more */
	if (recorded == UINT64_MAX && size < MCRS_MAGIC_SIZE &&
	    mail_crypt_cached_size(mail, "size.virtual", &stream_size) &&
	    stream_size > 2 * size)
		recorded = stream_size;
	if (i_stream_get_size(input, TRUE, &stream_size) > 0)
		actual = stream_size;
	/* dbox may have read elsewhere in the file */
	i_stream_sync(input);
	i_stream_seek(input, 0);
	(void)i_stream_read_bytes(input, &data, &size, MCRS_LOOK_SIZE);
	if (input->stream_errno != 0)
		return 0;
	return mcrs_refuse_damaged(known, data, size, recorded, actual, error_r);
}
