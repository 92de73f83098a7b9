/* What is remembered of mails in Dovecot's index cache: docs/format.md has the bytes. */

#include "compat.h"
#include "mail-cache.h"
#include "index-mail.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-plugin-private.h"

/* Returns TRUE and the field's number in the cache, or FALSE if nothing can be cached for the mail. */
static bool
mail_crypt_cache_usable(struct mail *mail, size_t field, unsigned int *idx_r)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(mail->box);

	if (mbox == NULL || mail->saving || mail->uid == 0 ||
	    mail->box->cache == NULL || mail->transaction->cache_view == NULL)
		return FALSE;
	if (mbox->cache_idx[field] == UINT_MAX) {
		struct mail_cache_field cache_field = {
			.name = mcrs_cache_name(field),
			.type = MAIL_CACHE_FIELD_VARIABLE_SIZE,
			.decision = MAIL_CACHE_DECISION_YES,
		};
		compat_cache_register_field(mail->box->cache, &cache_field);
		mbox->cache_idx[field] = cache_field.idx;
	}
	*idx_r = mbox->cache_idx[field];
	return TRUE;
}

/* Deletes a cache that may be spoilt, once. Dovecot makes it anew, without the old fields. */
static void mail_crypt_cache_heal(struct mail_cache *cache)
{
	struct mail_cache_field unwanted = {
		.type = MAIL_CACHE_FIELD_VARIABLE_SIZE,
		.decision = MAIL_CACHE_DECISION_NO | MAIL_CACHE_DECISION_FORCED,
	};
	const struct mail_cache_field *old;
	unsigned int i, idx;
	bool spoilt = FALSE;

	if (mail_cache_open_and_verify(cache) <= 0)
		return;
	for (i = 0; (unwanted.name = mcrs_cache_spoilt_name(i)) != NULL; i++) {
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

/* A mailbox object may be closed and opened again. Its cache is then another one, with its own field numbers. */
void mail_crypt_mailbox_opened(struct mailbox *box)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(box);

	if (mbox == NULL)
		return;
	memset(mbox->cache_idx, 0xff, sizeof(mbox->cache_idx));
	guid_128_empty(mbox->cache_guid);
	mbox->cache_checked = FALSE;
}

/* Only once a mail is asked for, since looking at the cache opens it. */
void mail_crypt_cache_check(struct mailbox *box)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT(box);

	if (mbox == NULL || mbox->cache_checked || box->cache == NULL)
		return;
	mbox->cache_checked = TRUE;
	mail_crypt_cache_heal(box->cache);
}

/* Returns TRUE and what the field has about the mail, on the data stack, or FALSE if it has nothing. */
static bool
mail_crypt_cache_get(struct mail *mail, size_t field, struct mcrs_data *entry_r)
{
	unsigned int idx;
	buffer_t *entry;

	if (!mail_crypt_cache_usable(mail, field, &idx))
		return FALSE;
	entry = t_buffer_create(128);
	if (mail_cache_lookup_field(mail->transaction->cache_view, entry,
				    mail->seq, idx) <= 0)
		return FALSE;
	entry_r->data = entry->data;
	entry_r->size = entry->used;
	return TRUE;
}

void mail_crypt_cache_lookup(struct mail *mail, uint64_t file_size,
			     struct mcrs_data cached_r[MCRS_READER_FIELDS])
{
	size_t field, count = mcrs_cache_fields(file_size);

	memset(cached_r, 0, sizeof(*cached_r) * MCRS_READER_FIELDS);
	for (field = 0; field < count; field++)
		(void)mail_crypt_cache_get(mail, field, &cached_r[field]);
}

/* Returns FALSE if the folder can't tell its GUID. */
static bool
mail_crypt_cache_place(struct mail *mail, struct mcrs_place *place_r)
{
	struct mail_crypt_box *mbox =
		MAIL_CRYPT_BOX_CONTEXT_REQUIRE(mail->box);
	struct mailbox_metadata metadata;

	if (guid_128_is_empty(mbox->cache_guid)) {
		if (mailbox_get_metadata(mail->box, MAILBOX_METADATA_GUID,
					 &metadata) < 0)
			return FALSE;
		guid_128_copy(mbox->cache_guid, metadata.guid);
	}
	i_zero(place_r);
	guid_128_copy(place_r->folder, mbox->cache_guid);
	place_r->uid_validity =
		mail_index_get_header(mail->box->view)->uid_validity;
	place_r->uid = mail->uid;
	return TRUE;
}

/* There may be an entry for an older state of the file. 2.3 adds another one, and the newest counts; 2.4 keeps the
   old one. */
void mail_crypt_cache_add(struct mail *mail, struct istream *stream)
{
	struct mcrs_place place;
	struct mcrs_data entry;
	unsigned int idx;
	size_t field;
	bool added = FALSE;

	for (field = 0; field < MCRS_READER_FIELDS; field++) {
		if (i_stream_mail_crypt_get_cacheable(stream, field, &entry) &&
		    mail_crypt_cache_usable(mail, field, &idx)) {
			index_mail_cache_add_idx(INDEX_MAIL(mail), idx,
						 entry.data, entry.size);
			added = TRUE;
		}
	}
	/* the mail was verified */
	if (added && mail_crypt_cache_usable(mail, MCRS_CACHE_PLACE, &idx) &&
	    mail_crypt_cache_place(mail, &place))
		index_mail_cache_add_idx(INDEX_MAIL(mail), idx, &place, sizeof(place));
}

void mail_crypt_cache_add_changed(struct mail *mail, struct mcrs_file file)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	unsigned char entry[sizeof(file)];
	struct mcrs_data old;
	unsigned int idx;

	if (file.size == 0 || mcrs_cache_fields(file.size) <= MCRS_CACHE_CHANGED ||
	    !mcrs_file_is_changed(muser->user, file, entry) ||
	    !mail_crypt_cache_usable(mail, MCRS_CACHE_CHANGED, &idx))
		return;
	if (mail_crypt_cache_get(mail, MCRS_CACHE_CHANGED, &old) &&
	    old.size == sizeof(entry) && memcmp(old.data, entry, old.size) == 0)
		return;
	index_mail_cache_add_idx(INDEX_MAIL(mail), idx, entry, sizeof(entry));
}

bool mail_crypt_cache_knows(struct mail *mail)
{
	struct mcrs_data entry;
	struct mcrs_place place;

	return mail_crypt_cache_get(mail, MCRS_CACHE_PLACE, &entry) &&
		mail_crypt_cache_place(mail, &place) &&
		mcrs_place_is_known(place, entry.data, entry.size);
}
