/* Converts the mails of one folder, some at a time. */

#include "compat.h"
#include "array.h"
#include "file-create-locked.h"
#include "mail-cache.h"
#include "mail-storage-private.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-convert.h"

#include <unistd.h>

/* So many new files wait for their places at once, and so many bytes of them. Each time the folder is locked. */
#define CONVERT_BATCH_COUNT 64
#define CONVERT_BATCH_SIZE (32*1024*1024)

#define CONVERT_LOCK_NAME "mail-crypt-convert.lock"
#define CONVERT_LOCK_SECS 1

static const struct convert_storage *const convert_storages[] = {
	&convert_maildir, &convert_sdbox
};

static const struct convert_storage *convert_storage_find(struct mailbox *box)
{
	unsigned int i;

	for (i = 0; i < N_ELEMENTS(convert_storages); i++) {
		if (strcmp(box->storage->name, convert_storages[i]->name) == 0)
			return convert_storages[i];
	}
	return NULL;
}

/* Neither Maildir nor sdbox notes when a mail was saved, but in the cache, or as the time of the last change of the
   file, which is about to change. */
static void convert_keep_save_date(struct convert_folder *folder, uint32_t seq,
				   const struct stat *st)
{
	uint32_t date = st->st_ctime;

	if (mail_cache_field_exists(folder->trans->cache_view, seq,
				    folder->save_date_idx) <= 0) {
		mail_cache_add(folder->trans->cache_trans, seq,
			       folder->save_date_idx, &date, sizeof(date));
	}
}

/* The cache remembers of a mail that it was encrypted when it was read. If it isn't any more, that looks as if somebody
   had replaced it. Returns TRUE if the cache remembers that of the mail. */
static bool convert_is_remembered(struct convert_folder *folder, uint32_t uid)
{
	uint32_t seq;

	return mail_index_lookup_seq(folder->box->view, uid, &seq) &&
		mail_cache_field_exists(folder->trans->cache_view, seq,
					folder->place_idx) > 0;
}

/* Drops what the cache remembers of decrypted mails, and nothing else. */
static void convert_forget(struct convert_folder *folder,
			   const ARRAY_TYPE(seq_range) *uids)
{
	struct mail_cache_field place = {
		.name = mcrs_cache_name(MCRS_CACHE_PLACE),
		.type = MAIL_CACHE_FIELD_VARIABLE_SIZE,
		.decision = MAIL_CACHE_DECISION_NO | MAIL_CACHE_DECISION_FORCED
	};
	struct seq_range_iter iter;
	unsigned int n = 0;
	uint32_t uid;
	bool found = FALSE;

	if (array_count(uids) == 0)
		return;
	/* a field that isn't wanted is dropped: this one only where mails become plaintext */
	compat_cache_register_field(folder->box->cache, &place);
	folder->place_idx = place.idx;
	(void)mail_index_refresh(folder->box->index);
	seq_range_array_iter_init(&iter, uids);
	while (!found && seq_range_array_iter_nth(&iter, n++, &uid))
		found = convert_is_remembered(folder, uid);
	if (found && mail_cache_purge(folder->box->cache, (uint32_t)-1,
				      "mail_crypt: mails were decrypted") < 0) {
		i_warning("Mailbox %s: What was known of decrypted mails can't be forgotten: "
			  "delete dovecot.index.cache if they can't be read",
			  mailbox_get_vname(folder->box));
	}
}

void convert_forget_decrypting(struct convert_folder *folder)
{
	convert_forget(folder, &folder->decrypting);
	seq_range_array_merge(&folder->decrypted, &folder->decrypting);
	array_clear(&folder->decrypting);
}

static void convert_begin_batch(struct convert_folder *folder)
{
	p_clear(folder->pool);
	p_array_init(&folder->files, folder->pool, CONVERT_BATCH_COUNT);
	folder->files_size = 0;
	folder->trans = mailbox_transaction_begin(folder->box, 0, __func__);
	folder->mail = mail_alloc(folder->trans, 0, NULL);
}

/* Whatever the cache should know has to be there before the files are. */
static int convert_commit(struct convert_folder *folder)
{
	mail_free(&folder->mail);
	if (mailbox_transaction_commit(&folder->trans) == 0)
		return 0;
	i_error("Mailbox %s: %s", mailbox_get_vname(folder->box),
		mailbox_get_last_internal_error(folder->box, NULL));
	doveadm_mail_failed_mailbox(&folder->cmd->ctx, folder->box);
	folder->failed = TRUE;
	return -1;
}

static void convert_drop_files(struct convert_folder *folder)
{
	const struct convert_file *file;

	array_foreach(&folder->files, file) {
		i_unlink_if_exists(file->temp_path);
		convert_leave(folder, file->uid, "it could not be put into its place");
	}
}

static void convert_end_batch(struct convert_folder *folder)
{
	const struct convert_storage *storage = folder->storage;

	convert_forget_decrypting(folder);
	if (convert_commit(folder) < 0 ||
	    (storage->prepare != NULL &&
	     storage->prepare(folder, &folder->files) < 0))
		convert_drop_files(folder);
	else if (array_count(&folder->files) > 0)
		convert_swap(folder);
}

/* Returns the sizes that the file of the mail doesn't tell when it is another one. */
static void convert_note_sizes(struct convert_folder *folder, struct convert_file *file)
{
	uoff_t size;

	if (folder->storage->prepare == NULL)
		return;
	if (mail_get_physical_size(folder->mail, &size) == 0)
		file->psize = size;
	if (mail_get_virtual_size(folder->mail, &size) == 0)
		file->vsize = size;
}

static void
convert_mail_source(struct convert_folder *folder,
		    const struct convert_source *source)
{
	struct convert_cmd *cmd = folder->cmd;
	uint32_t uid = folder->mail->uid;
	struct convert_file *file;
	struct mcrs_error error;
	const char *temp_path;
	int action;

	action = convert_look(folder, source, &error);
	if (action < 0) {
		convert_leave(folder, uid, error.text);
		return;
	}
	if (action == MCRS_CONVERT_OLDER)
		folder->counts.older++;
	if (action == MCRS_CONVERT_LEAVE || action == MCRS_CONVERT_OLDER)
		return;
	if (cmd->dry_run) {
		folder->counts.converted++;
		folder->counts.bytes += source->size;
		return;
	}
	cmd->bytes += source->size;
	if (convert_make(folder, source, action, &temp_path, &error) < 0) {
		/* or somebody has just deleted it */
		if (!folder->mail->expunged)
			convert_leave(folder, uid, error.text);
		return;
	}
	file = array_append_space(&folder->files);
	file->uid = uid;
	file->path = source->path;
	file->temp_path = temp_path;
	file->st = source->st;
	file->size = source->size;
	file->psize = file->vsize = UINT64_MAX;
	if (action == MCRS_CONVERT_DECRYPT)
		seq_range_array_add(&folder->decrypting, uid);
	folder->files_size += source->size;
	convert_note_sizes(folder, file);
	convert_keep_save_date(folder, folder->mail->seq, &source->st);
}

static void convert_mail(struct convert_folder *folder, uint32_t uid)
{
	struct convert_source source;
	struct mcrs_error error;
	int ret;

	if (!mail_set_uid(folder->mail, uid))
		return;
	i_zero(&source);
	source.fd = -1;
	ret = folder->storage->open(folder, uid, &source, &error);
	if (ret != 0)
		folder->counts.mails++;
	if (ret < 0)
		convert_leave(folder, uid, error.text);
	else if (ret > 0)
		convert_mail_source(folder, &source);
	i_close_fd(&source.fd);
}

/* Mails that come in meanwhile are as new mail is. */
static void convert_mails(struct convert_folder *folder)
{
	ARRAY(uint32_t) uids;
	uint32_t seq, *uid;

	i_array_init(&uids, 128);
	folder->count = mail_index_view_get_messages_count(folder->box->view);
	for (seq = 1; seq <= folder->count; seq++) {
		uid = array_append_space(&uids);
		mail_index_lookup_uid(folder->box->view, seq, uid);
	}
	seq = 0;
	array_foreach_modifiable(&uids, uid) {
		if (folder->failed || folder->cmd->stop || doveadm_is_killed())
			break;
		T_BEGIN {
			convert_mail(folder, *uid);
			convert_progress(folder, ++seq);
		} T_END;
		if (array_count(&folder->files) >= CONVERT_BATCH_COUNT ||
		    folder->files_size >= CONVERT_BATCH_SIZE) {
			convert_end_batch(folder);
			convert_begin_batch(folder);
		}
	}
	convert_end_batch(folder);
	convert_begin_batch(folder);
	if (doveadm_is_killed())
		folder->cmd->stop = TRUE;
	array_free(&uids);
}

static void convert_register_fields(struct convert_folder *folder)
{
	struct mail_cache_field save_date = {
		.name = "date.save",
		.type = MAIL_CACHE_FIELD_FIXED_SIZE,
		.field_size = sizeof(uint32_t),
		.decision = MAIL_CACHE_DECISION_YES
	};

	(void)mail_cache_open_and_verify(folder->box->cache);
	compat_cache_register_field(folder->box->cache, &save_date);
	folder->save_date_idx = save_date.idx;
}

/* Only one conversion at a time: the other one's new files look as if they were left over. Beside the mails, since there
   may be no other place. Returns 0 or -1. */
static int convert_folder_lock(struct convert_folder *folder)
{
	const struct file_create_settings set = {
		.lock_timeout_secs = CONVERT_LOCK_SECS
	};
	const char *path = t_strconcat(mailbox_get_path(folder->box),
				       "/"CONVERT_LOCK_NAME, NULL);
	const char *error;
	bool created;

	if (file_create_locked(path, &set, &folder->lock, &created, &error) != -1) {
		file_lock_set_close_on_free(folder->lock, TRUE);
		file_lock_set_unlink_on_free(folder->lock, TRUE);
		return 0;
	}
	i_error("Mailbox %s: %s: %s", mailbox_get_vname(folder->box),
		errno == EAGAIN ? "It is being converted already" :
		"It can't be locked", error);
	doveadm_mail_failed_error(&folder->cmd->ctx, MAIL_ERROR_TEMP);
	return -1;
}

int convert_folder_begin(struct convert_folder *folder)
{
	struct mcrs_convert_request request = convert_request(folder->cmd);
	struct mcrs_error error;
	int ret;

	folder->pool = pool_alloconly_create("mail_crypt convert", 16*1024);
	i_array_init(&folder->decrypting, 64);
	i_array_init(&folder->decrypted, 64);
	ret = mcrs_convert_new(folder->cmd->user, &request, &folder->convert, &error);
	if (ret == 0)
		ret = mcrs_convert_folder(folder->convert, folder->box, &error);
	/* of many users some may have no encryption */
	if (ret > 0 && folder->cmd->ctx.iterate_single_user)
		mail_crypt_error_set(&error, "", "new mail isn't encrypted, so mail can't become as new mail is");
	if (ret < 0 || (ret > 0 && folder->cmd->ctx.iterate_single_user))
		convert_error(folder->cmd, folder->box, &error);
	if (ret != 0)
		return -1;
	if (!folder->cmd->dry_run && convert_folder_lock(folder) < 0)
		return -1;
	if (!folder->cmd->dry_run)
		convert_register_fields(folder);
	convert_begin_batch(folder);
	return 0;
}

void convert_folder_end(struct convert_folder *folder)
{
	/* what others have learned meanwhile */
	convert_forget(folder, &folder->decrypted);
	if (folder->trans != NULL)
		(void)convert_commit(folder);
	if (folder->lock != NULL)
		file_lock_free(&folder->lock);
	mcrs_convert_free(&folder->convert);
	array_free(&folder->decrypting);
	array_free(&folder->decrypted);
	pool_unref(&folder->pool);
}

int convert_folder_run(struct convert_cmd *cmd, struct mailbox *box,
		       struct convert_counts *counts_r)
{
	struct convert_folder folder = { .cmd = cmd, .box = box };
	int ret;

	folder.storage = convert_storage_find(box);
	if (folder.storage == NULL) {
		i_error("Mailbox %s: The mails of %s can't be converted",
			mailbox_get_vname(box), box->storage->name);
		doveadm_mail_failed_error(&cmd->ctx, MAIL_ERROR_NOTPOSSIBLE);
		return -1;
	}
	ret = convert_folder_begin(&folder);
	if (ret == 0) {
		if (!cmd->dry_run)
			convert_clean(&folder);
		convert_mails(&folder);
	}
	convert_folder_end(&folder);
	*counts_r = folder.counts;
	return ret;
}
