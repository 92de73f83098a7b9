/* Writes one file of an mdbox anew: each of its messages, converted or as it is. The map then says where they are, for
   all of them at once. */

#include "compat.h"
#include "array.h"
#include "hex-dec.h"
#include "istream.h"
#include "ostream.h"
#include "sleep.h"
#include "mdbox-storage.h"
#include "mdbox-file.h"
#include "mdbox-map.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-convert.h"
#include "mail-crypt-convert-dbox.h"
#include "mail-crypt-convert-mdbox.h"

#include <stddef.h>
#include <unistd.h>

/* So often it is tried to lock a file, which others do for moments. */
#define CONVERT_LOCK_TRIES 50
#define CONVERT_LOCK_MSECS 100

static int
convert_message_cmp(const struct mdbox_map_file_msg *a,
		    const struct mdbox_map_file_msg *b)
{
	return a->offset < b->offset ? -1 : a->offset > b->offset ? 1 : 0;
}

/* Something is wrong with the file as a whole: its mails are left. */
static void convert_mfile_leave(struct convert_mfile *mfile, const char *why)
{
	struct convert_message *message;
	const struct convert_mail_ref *mail;

	array_foreach_modifiable(&mfile->messages, message) {
		if (!convert_is_change(message->action))
			continue;
		for (mail = message->ref->mails; mail != NULL; mail = mail->next) {
			if (mail->own)
				convert_leave(mail->folder, mail->uid, why);
		}
		message->action = MCRS_CONVERT_LEAVE;
	}
	mfile->changed = 0;
}

/* Returns 1, 0 if the file isn't as the map says, or -1. */
static int
convert_message_read(struct convert_mfile *mfile, struct convert_message *message)
{
	struct dbox_file *file = mfile->file;
	struct convert_source *source = &message->source;
	int ret;

	if ((ret = dbox_file_seek(file, message->offset)) <= 0 ||
	    (ret = dbox_file_metadata_read(file)) <= 0)
		return ret;
	message->end = file->input->v_offset;
	source->path = file->cur_path;
	source->fd = file->fd;
	source->before = message->offset + file->msg_header_size;
	source->header_size = file->msg_header_size;
	source->size = file->cur_physical_size;
	source->sizes.recorded = dbox_file_get_plaintext_size(file);
	source->sizes.with_crlf = UINT64_MAX;
	source->sizes.actual = source->size;
	return fstat(file->fd, &source->st) < 0 ? -1 : 1;
}

/* Says what is to be done with a message for this mail. */
static int
convert_mail_look(const struct convert_message *message,
		  const struct convert_mail_ref *mail)
{
	struct convert_folder *folder = mail->folder;
	struct mcrs_error error;
	int action;

	if (folder->failed || !mail_set_uid(folder->mail, mail->uid))
		return MCRS_CONVERT_LEAVE;
	action = convert_look(folder, &message->source, &error);
	if (action < 0)
		convert_leave(folder, mail->uid, error.text);
	else if (action == MCRS_CONVERT_OLDER)
		folder->counts.older++;
	return action < 0 ? MCRS_CONVERT_LEAVE : action;
}

/* Decides what is to be done with a message. One that several folders refer to stays with one of them, and with those
   that aren't to be converted. */
static void
convert_message_look(struct convert_mfile *mfile, struct convert_message *message)
{
	struct convert_ref *ref = message->ref;
	struct convert_folder *first = NULL;
	struct convert_mail_ref *mail;
	bool elsewhere;
	int action;

	if (ref == NULL)
		return;
	elsewhere = ref->elsewhere || ref->count != message->refcount;
	for (mail = ref->mails; mail != NULL; mail = mail->next) {
		mail->own = FALSE;
		action = convert_mail_look(message, mail);
		if (!convert_is_change(action))
			continue;
		mail->own = !elsewhere && (first == NULL || first == mail->folder ||
					   action == MCRS_CONVERT_DECRYPT);
		if (mail->own) {
			mfile->changed += first == NULL ? 1 : 0;
			message->action = action;
			first = mail->folder;
		} else if (mfile->mdbox->cmd->dry_run) {
			mail->folder->counts.converted++;
			mail->folder->counts.bytes += message->source.size;
		} else {
			convert_split(mfile, message, mail->folder, mail->uid, action);
		}
	}
}

/* Returns 1, 0 if the file isn't as the map says, or -1. */
static int convert_mfile_look(struct convert_mfile *mfile, uint32_t file_id)
{
	ARRAY_TYPE(mdbox_map_file_msg) msgs;
	const struct mdbox_map_file_msg *msg;
	struct convert_message *message;
	uoff_t offset = mfile->file->file_header_size;
	int ret = 1;

	t_array_init(&msgs, 128);
	if (mdbox_map_get_file_msgs(mfile->mdbox->storage->map, file_id, &msgs) < 0)
		return -1;
	array_sort(&msgs, convert_message_cmp);
	array_foreach(&msgs, msg) {
		message = array_append_space(&mfile->messages);
		message->map_uid = msg->map_uid;
		message->offset = msg->offset;
		message->refcount = msg->refcount;
		message->ref = hash_table_lookup(mfile->mdbox->refs,
						 POINTER_CAST(msg->map_uid));
		message->action = MCRS_CONVERT_LEAVE;
		if (msg->offset != offset)
			return 0;
		if ((ret = convert_message_read(mfile, message)) <= 0)
			return ret;
		offset = message->end;
	}
	array_foreach_modifiable(&mfile->messages, message)
		convert_message_look(mfile, message);
	if (array_count(&msgs) == 0)
		return 1;
	/* is there something that the map doesn't know? */
	message = array_back_modifiable(&mfile->messages);
	return (uoff_t)message->source.st.st_size == offset ? 1 : 0;
}

int convert_message_begin(struct convert_mfile *mfile,
			  struct mdbox_map_append_context *append,
			  const struct convert_message *message,
			  struct dbox_file_append_context **file_r,
			  struct ostream **output_r)
{
	uoff_t size = message->end - message->offset;
	uoff_t max = mfile->mdbox->storage->set->mdbox_rotate_size;
	enum mdbox_map_append_flags flags =
		dbox_file_is_in_alt(mfile->file) ? DBOX_MAP_APPEND_FLAG_ALT : 0;

	/* a message of that size never goes behind others' */
	if (*output_r == NULL || (*output_r)->offset >= max)
		size = max;
	else if ((*output_r)->offset + size > max)
		size = max - (*output_r)->offset;
	return mdbox_map_append_next(append, size, flags, file_r, output_r);
}

/* Copies a message as it is. Returns 0 or -1. */
static int
convert_message_copy(struct convert_mfile *mfile, const struct convert_message *message,
		     struct ostream *output)
{
	struct istream *input;
	enum ostream_send_istream_result result;

	i_stream_seek(mfile->file->input, 0);
	input = i_stream_create_range(mfile->file->input, message->offset,
				      message->end - message->offset);
	result = o_stream_send_istream(output, input);
	i_stream_unref(&input);
	return result == OSTREAM_SEND_ISTREAM_RESULT_FINISHED ? 0 : -1;
}

/* Returns 0, or -1 and sets errno. */
static int
convert_message_end(const struct convert_message *message, struct ostream *output,
		    uoff_t start, uoff_t size)
{
	struct dbox_message_header header;
	buffer_t *metadata = t_buffer_create(1024);

	if (convert_dbox_metadata(&message->source, message->end, metadata) < 0)
		return -1;
	o_stream_nsend(output, metadata->data, metadata->used);
	dec2hex(header.message_size_hex, size, sizeof(header.message_size_hex));
	return o_stream_pwrite(output, header.message_size_hex,
			       sizeof(header.message_size_hex), start +
			       offsetof(struct dbox_message_header, message_size_hex));
}

int convert_message_change(struct convert_mfile *mfile, struct convert_folder *folder,
			   const struct convert_message *message, int action,
			   const char *path, struct ostream *output,
			   struct mcrs_error *error_r)
{
	const struct convert_source *source = &message->source;
	unsigned char *header = t_malloc_no0(source->header_size);
	uoff_t start = output->offset, size;

	if (pread(source->fd, header, source->header_size, message->offset) !=
	    (ssize_t)source->header_size) {
		convert_set_syscall_error(error_r, "pread", source->path);
		return -1;
	}
	folder->writes = TRUE;
	folder->cmd->bytes += source->size;
	o_stream_nsend(output, header, source->header_size);
	if (convert_transform(folder, source, action, output, &size,
			      error_r) < 0)
		return -1;
	if (convert_message_end(message, output, start, size) < 0 ||
	    o_stream_flush(output) < 0) {
		mail_crypt_error_set(error_r, "", "write(%s) failed: %s", path,
				     o_stream_get_error(output));
		folder->cmd->stop = TRUE;
		return -1;
	}
	i_stream_sync(mfile->file->input);
	return convert_verify(folder, action, path,
			      start + source->header_size, size, error_r);
}

/* The folder to whose key a message is encrypted, with the mail set that is it there; NULL if it is gone. */
static struct convert_folder *
convert_message_folder(const struct convert_message *message, uint32_t *uid_r)
{
	const struct convert_mail_ref *mail;

	for (mail = message->ref->mails; mail != NULL; mail = mail->next) {
		*uid_r = mail->uid;
		if (mail->own && mail_set_uid(mail->folder->mail, mail->uid))
			return mail->folder;
	}
	return NULL;
}

/* Can the message be read? If not, it is left. */
static bool
convert_message_is_readable(struct convert_folder *folder, uint32_t uid,
			    const struct convert_message *message)
{
	struct mcrs_error error;

	if (folder == NULL)
		return FALSE;
	if (convert_try(folder, &message->source, message->action, &error) == 0)
		return TRUE;
	if (!folder->mail->expunged)
		convert_leave(folder, uid, error.text);
	return FALSE;
}

/* Writes one message to the new file. Returns 0, or -1 and sets why_r. */
static int
convert_message_write(struct convert_mfile *mfile, struct convert_message *message,
		      struct ostream **output, const char **why_r)
{
	struct dbox_file_append_context *file_append;
	struct convert_folder *folder = NULL;
	struct mcrs_error error;
	uint32_t uid;

	if (convert_is_change(message->action)) {
		folder = convert_message_folder(message, &uid);
		if (!convert_message_is_readable(folder, uid, message)) {
			message->action = MCRS_CONVERT_LEAVE;
			mfile->changed--;
		}
	}
	if (convert_message_begin(mfile, mfile->append, message, &file_append,
				  output) < 0) {
		*why_r = "no new file can be made";
		return -1;
	}
	if (!convert_is_change(message->action)) {
		*why_r = "a new file can't be written";
		if (convert_message_copy(mfile, message, *output) < 0) {
			mfile->mdbox->cmd->stop = TRUE;
			return -1;
		}
	} else if (convert_message_change(mfile, folder, message, message->action,
					  file_append->file->cur_path, *output,
					  &error) < 0) {
		*why_r = p_strdup(mfile->pool, error.text);
		return -1;
	}
	mdbox_map_append_finish(mfile->append);
	return 0;
}

/* Returns 0, or -1 and sets why_r. */
static int convert_mfile_write(struct convert_mfile *mfile, const char **why_r)
{
	struct convert_message *message;
	struct ostream *output = NULL;
	int ret = 0;

	array_foreach_modifiable(&mfile->messages, message) T_BEGIN {
		if (ret == 0)
			ret = convert_message_write(mfile, message, &output, why_r);
	} T_END;
	return ret;
}

/* Are the keys still there that the messages are encrypted to? */
static bool convert_mfile_has_keys(struct convert_mfile *mfile, bool last)
{
	struct convert_folder *folder;
	struct mcrs_error error;

	array_foreach_elem(&mfile->mdbox->folders, folder) {
		if (!folder->writes)
			continue;
		folder->writes = !last;
		if (mcrs_convert_check(folder->convert, folder->box, &error) < 0) {
			convert_error(folder->cmd, folder->box, &error);
			folder->failed = TRUE;
			return FALSE;
		}
	}
	return TRUE;
}

static void convert_mfile_count(struct convert_mfile *mfile)
{
	const struct convert_message *message;
	const struct convert_mail_ref *mail;

	array_foreach(&mfile->messages, message) {
		if (!convert_is_change(message->action))
			continue;
		for (mail = message->ref->mails; mail != NULL; mail = mail->next) {
			if (mail->own) {
				mail->folder->counts.converted++;
				mail->folder->counts.bytes += message->source.size;
			}
		}
	}
}

void convert_forget_one(struct convert_folder *folder, uint32_t uid, int action)
{
	if (action != MCRS_CONVERT_DECRYPT)
		return;
	seq_range_array_add(&folder->decrypting, uid);
	convert_forget_decrypting(folder);
}

/* What the caches know of mails that become plaintext is wrong from now on. */
static void convert_mfile_forget(struct convert_mfile *mfile)
{
	const struct convert_message *message;
	const struct convert_mail_ref *mail;
	struct convert_folder *folder;

	array_foreach(&mfile->messages, message) {
		if (message->action != MCRS_CONVERT_DECRYPT)
			continue;
		for (mail = message->ref->mails; mail != NULL; mail = mail->next) {
			if (mail->own)
				seq_range_array_add(&mail->folder->decrypting, mail->uid);
		}
	}
	array_foreach_elem(&mfile->mdbox->folders, folder) {
		if (array_count(&folder->decrypting) > 0)
			convert_forget_decrypting(folder);
	}
}

/* Returns TRUE if the old file isn't needed any more. */
static bool convert_mfile_change(struct convert_mfile *mfile)
{
	const char *why = "";
	int ret;

	mfile->atomic = mdbox_map_atomic_begin(mfile->mdbox->storage->map);
	mfile->append = mdbox_map_append_begin(mfile->atomic);
	ret = convert_mfile_write(mfile, &why);
	if (ret == 0 && mfile->changed == 0)
		ret = -1;
	if (ret == 0) {
		convert_mfile_forget(mfile);
		if (convert_mfile_has_keys(mfile, FALSE))
			ret = convert_mfile_move(mfile, &why);
		else
			ret = -1;
	}
	mdbox_map_append_free(&mfile->append);
	if (mdbox_map_atomic_finish(&mfile->atomic) < 0)
		ret = -1;
	convert_unmark_new(mfile);
	/* whoever has deleted a key has looked at the mails before these were in their places */
	if (ret == 0 && !convert_mfile_has_keys(mfile, TRUE)) {
		why = "its new key was deleted meanwhile";
		if (convert_mfile_take_back(mfile) < 0)
			why = "its new key was deleted meanwhile, and what it was before is in its file";
		ret = -1;
	}
	if (ret < 0)
		convert_mfile_leave(mfile, why);
	return ret == 0;
}

/* Returns 1 if nobody else writes to the file, 0 if it is gone, or -1. */
static int convert_mfile_lock(struct dbox_file *file)
{
	struct stat st;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < CONVERT_LOCK_TRIES && ret == 0; i++) {
		if (i > 0)
			i_sleep_msecs(CONVERT_LOCK_MSECS);
		ret = dbox_file_try_lock(file);
	}
	if (ret <= 0)
		return -1;
	if (stat(file->cur_path, &st) == 0)
		return 1;
	dbox_file_unlock(file);
	return errno == ENOENT ? 0 : -1;
}

static void convert_mfile_run(struct convert_mfile *mfile, uint32_t file_id)
{
	struct convert_cmd *cmd = mfile->mdbox->cmd;
	bool done = FALSE;

	if (convert_mfile_look(mfile, file_id) <= 0) {
		i_error("%s isn't as its index says, or can't be read: it was left as it is",
			mfile->file->cur_path);
		doveadm_mail_failed_error(&cmd->ctx, MAIL_ERROR_TEMP);
		convert_mfile_leave(mfile, "its file isn't as its index says");
	} else if (mfile->changed > 0 && !cmd->dry_run) {
		done = convert_mfile_change(mfile);
	}
	if (mfile->changed > 0 && (done || cmd->dry_run))
		convert_mfile_count(mfile);
	if (done) {
		convert_mfile_places(mfile, &mfile->mdbox->done_ids);
		(void)dbox_file_unlink(mfile->file);
	}
	if (!cmd->dry_run)
		convert_unmark_old(mfile);
	dbox_file_unlock(mfile->file);
}

void convert_mdbox_file(struct convert_mdbox *mdbox, uint32_t file_id)
{
	struct convert_mfile mfile = { .mdbox = mdbox, .file_id = file_id };
	bool deleted = FALSE;
	int ret;

	mfile.file = mdbox_file_init(mdbox->storage, file_id);
	mfile.pool = pool_alloconly_create("mail_crypt convert file", 16*1024);
	p_array_init(&mfile.messages, mfile.pool, 128);
	ret = dbox_file_open(mfile.file, &deleted);
	if (ret > 0 && !deleted)
		ret = convert_mfile_lock(mfile.file);
	if (ret > 0 && !deleted)
		convert_mfile_run(&mfile, file_id);
	else if (ret < 0) {
		i_error("%s can't be locked: it was left as it is",
			mfile.file->cur_path);
		doveadm_mail_failed_error(&mdbox->cmd->ctx, MAIL_ERROR_TEMP);
	}
	dbox_file_unref(&mfile.file);
	pool_unref(&mfile.pool);
}
