/* A mail that was copied before it was encrypted is one message, to which several folders refer. It can't be encrypted
   to the keys of all of them. So a folder gets a message of its own. The others keep the old one, also if they aren't to be
   converted. */

#include "compat.h"
#include "array.h"
#include "ostream.h"
#include "dbox-file.h"
#include "mdbox-storage.h"
#include "mdbox-map.h"

#include "mail-crypt-convert.h"
#include "mail-crypt-convert-mdbox.h"

/* Lets a mail of a folder, which is locked, refer to another message. Returns 1, 0 if it doesn't refer to the first one
   any more, or -1. */
static int
convert_split_index(struct convert_folder *folder, uint32_t uid, uint32_t from,
		    uint32_t to)
{
	struct mdbox_mailbox *mbox = MDBOX_MAILBOX(folder->box);
	struct mail_index *index = folder->box->index;
	const struct mdbox_mail_index_record *old;
	struct mdbox_mail_index_record rec;
	struct mail_index_transaction *trans;
	struct mail_index_view *view;
	const void *data = NULL;
	uint32_t seq;
	int ret = 0;

	if (mail_index_refresh(index) < 0)
		return -1;
	view = mail_index_view_open(index);
	if (mail_index_lookup_seq(view, uid, &seq))
		mail_index_lookup_ext(view, seq, mbox->ext_id, &data, NULL);
	old = data;
	if (old != NULL && old->map_uid == from) {
		/* the date of saving stays */
		rec = *old;
		rec.map_uid = to;
		trans = mail_index_transaction_begin(view,
			MAIL_INDEX_TRANSACTION_FLAG_FSYNC);
		mail_index_update_ext(trans, seq, mbox->ext_id, &rec, NULL);
		ret = mail_index_transaction_commit(&trans) < 0 ? -1 : 1;
	}
	mail_index_view_close(&view);
	return ret;
}

/* Adjusts how often a message is referred to, in the locked map. Returns 0 or -1. */
static int
convert_split_refcount(struct mdbox_map_atomic_context *atomic, uint32_t map_uid,
		       int diff)
{
	struct mdbox_map_transaction_context *trans =
		mdbox_map_transaction_begin(atomic, FALSE);
	int ret;

	ret = mdbox_map_update_refcount(trans, map_uid, diff);
	if (ret == 0)
		ret = mdbox_map_transaction_commit(trans, "mail_crypt conversion");
	mdbox_map_transaction_free(&trans);
	return ret;
}

/* The new message takes the place of the old one. The map is locked. Returns as convert_split_index(). */
static int
convert_split_move(struct convert_folder *folder, uint32_t uid, uint32_t map_uid,
		   struct mdbox_map_atomic_context *atomic,
		   struct mdbox_map_append_context *append, uint32_t *new_map_uid_r)
{
	uint32_t last;
	int ret;

	if (mail_index_lock_sync(folder->box->index, "mail_crypt conversion") < 0)
		return -1;
	ret = mdbox_map_append_assign_map_uids(append, new_map_uid_r, &last);
	if (ret == 0) {
		ret = convert_split_index(folder, uid, map_uid, *new_map_uid_r);
		/* the old message can't be gone: the map is locked */
		if (ret > 0)
			(void)convert_split_refcount(atomic, map_uid, -1);
		else
			(void)convert_split_refcount(atomic, *new_map_uid_r, -1);
		if (mdbox_map_append_commit(append) < 0)
			ret = -1;
	}
	mail_index_unlock(folder->box->index, "mail_crypt conversion");
	return ret;
}

/* Returns 1 and sets new_map_uid_r, 0 if the mail is gone, or -1 and sets error_r. */
static int
convert_split_write(struct convert_mfile *mfile, const struct convert_message *message,
		    struct convert_folder *folder, uint32_t uid, int action,
		    uint32_t *new_map_uid_r, struct mcrs_error *error_r)
{
	struct mdbox_map_atomic_context *atomic;
	struct mdbox_map_append_context *append;
	struct dbox_file_append_context *file_append;
	struct ostream *output = NULL;
	int ret;

	atomic = mdbox_map_atomic_begin(mfile->mdbox->storage->map);
	append = mdbox_map_append_begin(atomic);
	ret = convert_message_begin(mfile, append, message, &file_append, &output);
	if (ret < 0)
		mail_crypt_error_set(error_r, "", "no new file can be made");
	else
		ret = convert_message_change(mfile, folder, message, action,
				file_append->file->cur_path, output, error_r);
	if (ret == 0) {
		mdbox_map_append_finish(append);
		mail_crypt_error_set(error_r, "", "the map of the storage can't be changed");
		ret = mdbox_map_append_flush(append) < 0 ||
			mdbox_map_atomic_lock(atomic, "mail_crypt conversion") < 0 ||
			convert_mark_new(mfile, atomic, append) < 0 ? -1 :
			convert_split_move(folder, uid, message->map_uid, atomic,
					   append, new_map_uid_r);
	}
	mdbox_map_append_free(&append);
	if (mdbox_map_atomic_finish(&atomic) < 0)
		ret = -1;
	convert_unmark_new(mfile);
	return ret;
}

/* The new message's key is gone: the old one takes its place again. Returns 0 or -1. */
static int
convert_split_back(struct convert_mfile *mfile, const struct convert_message *message,
		   struct convert_folder *folder, uint32_t uid, uint32_t new_map_uid)
{
	struct mdbox_map_atomic_context *atomic;
	int ret;

	atomic = mdbox_map_atomic_begin(mfile->mdbox->storage->map);
	ret = mdbox_map_atomic_lock(atomic, "mail_crypt conversion");
	if (ret == 0 &&
	    (ret = convert_split_refcount(atomic, message->map_uid, 1)) == 0 &&
	    (ret = mail_index_lock_sync(folder->box->index,
					"mail_crypt conversion")) == 0) {
		ret = convert_split_index(folder, uid, new_map_uid, message->map_uid);
		mail_index_unlock(folder->box->index, "mail_crypt conversion");
		(void)convert_split_refcount(atomic, ret > 0 ? new_map_uid :
					     message->map_uid, -1);
	}
	if (mdbox_map_atomic_finish(&atomic) < 0)
		ret = -1;
	return ret < 0 ? -1 : 0;
}

void convert_split(struct convert_mfile *mfile, struct convert_message *message,
		   struct convert_folder *folder, uint32_t uid, int action)
{
	struct mcrs_error error;
	uint32_t new_map_uid;
	int ret;

	ret = convert_try(folder, &message->source, action, &error);
	if (ret == 0) {
		convert_forget_one(folder, uid, action);
		ret = convert_split_write(mfile, message, folder, uid, action,
					  &new_map_uid, &error);
	}
	folder->writes = FALSE;
	if (ret < 0) {
		if (!folder->mail->expunged)
			convert_leave(folder, uid, error.text);
	} else if (ret > 0 && mcrs_convert_check(folder->convert, folder->box, &error) < 0) {
		convert_error(folder->cmd, folder->box, &error);
		folder->failed = TRUE;
		convert_leave(folder, uid, convert_split_back(mfile, message, folder,
							      uid, new_map_uid) < 0 ?
			"its new key was deleted meanwhile, and it can't be taken back" :
			"its new key was deleted meanwhile");
	} else if (ret > 0) {
		folder->counts.converted++;
		folder->counts.bytes += message->source.size;
		message->refcount--;
	}
}
