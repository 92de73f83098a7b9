/* Has the map of an mdbox say where the messages of a file are: in a new one, or in the old one again. */

#include "compat.h"
#include "array.h"
#include "fdatasync-path.h"
#include "mdbox-storage.h"
#include "mdbox-file.h"
#include "mdbox-map.h"
#include "mdbox-map-private.h"

#include "mail-crypt-convert.h"
#include "mail-crypt-convert-mdbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

/* A file of that name, and with the number of a file with mails, says that a conversion is about to empty or to make that.
   If it was interrupted, and the map knows no message in the file, the file has to go. */
#define CONVERT_MARK "mail-crypt-convert."

static const char *convert_mark_path(const struct mdbox_storage *storage, uint32_t file_id)
{
	return t_strdup_printf("%s/"CONVERT_MARK"%u", storage->storage_dir, file_id);
}

/* Returns 0, or -1 if that can't be noted. */
static int convert_mark(const struct convert_mfile *mfile, uint32_t file_id)
{
	struct mdbox_storage *storage = mfile->mdbox->storage;
	const char *path = convert_mark_path(storage, file_id);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd != -1 && fdatasync_path(storage->storage_dir) == 0)
		return close(fd);
	mail_storage_set_critical(&storage->storage.storage,
				  "open(%s) failed: %m", path);
	i_close_fd(&fd);
	mfile->mdbox->cmd->stop = TRUE;
	return -1;
}

int convert_mark_new(struct convert_mfile *mfile,
		     struct mdbox_map_atomic_context *atomic,
		     struct mdbox_map_append_context *append)
{
	const struct mdbox_map_mail_index_header *header;
	const void *data;
	size_t size;

	/* as the map is about to number them */
	mail_index_get_header_ext(atomic->sync_view, append->map->map_ext_id,
				  &data, &size);
	header = data;
	mfile->new_first = size < sizeof(header->highest_file_id) ? 1 :
		header->highest_file_id + 1;
	for (; mfile->new_count < array_count(&append->files); mfile->new_count++) {
		if (convert_mark(mfile, mfile->new_first + mfile->new_count) < 0)
			return -1;
	}
	return 0;
}

void convert_unmark_new(struct convert_mfile *mfile)
{
	for (; mfile->new_count > 0; mfile->new_count--) {
		i_unlink_if_exists(convert_mark_path(mfile->mdbox->storage,
			mfile->new_first + mfile->new_count - 1));
	}
}

void convert_unmark_old(const struct convert_mfile *mfile)
{
	i_unlink_if_exists(convert_mark_path(mfile->mdbox->storage, mfile->file_id));
}

/* Returns TRUE if the map knows no message in the file. */
static bool convert_mfile_is_empty(struct mdbox_storage *storage, uint32_t file_id)
{
	ARRAY_TYPE(mdbox_map_file_msg) msgs;

	t_array_init(&msgs, 16);
	return mdbox_map_get_file_msgs(storage->map, file_id, &msgs) == 0 &&
		array_count(&msgs) == 0;
}

static void convert_mfile_unlink(struct mdbox_storage *storage, uint32_t file_id)
{
	struct dbox_file *file = mdbox_file_init(storage, file_id);

	(void)dbox_file_unlink(file);
	dbox_file_unref(&file);
}

static void convert_find_marks(struct mdbox_storage *storage, ARRAY_TYPE(uint32_t) *file_ids)
{
	DIR *dir = opendir(storage->storage_dir);
	struct dirent *entry;
	uint32_t file_id;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, CONVERT_MARK, strlen(CONVERT_MARK)) == 0 &&
		    str_to_uint32(entry->d_name + strlen(CONVERT_MARK), &file_id) == 0)
			array_push_back(file_ids, &file_id);
	}
	(void)closedir(dir);
}

void convert_mdbox_clean(struct convert_mdbox *mdbox)
{
	struct mdbox_storage *storage = mdbox->storage;
	struct mdbox_map_atomic_context *atomic;
	ARRAY_TYPE(uint32_t) file_ids;
	uint32_t file_id;

	t_array_init(&file_ids, 16);
	convert_find_marks(storage, &file_ids);
	if (array_count(&file_ids) == 0)
		return;
	/* a file gets its number, and the map its messages, while the map is locked */
	atomic = mdbox_map_atomic_begin(storage->map);
	if (mdbox_map_atomic_lock(atomic, "mail_crypt conversion") == 0) {
		array_foreach_elem(&file_ids, file_id) {
			if (convert_mfile_is_empty(storage, file_id))
				convert_mfile_unlink(storage, file_id);
			i_unlink_if_exists(convert_mark_path(storage, file_id));
		}
		mdbox_map_atomic_set_success(atomic);
	}
	(void)mdbox_map_atomic_finish(&atomic);
}

/* Are messages still referred to as often, and by the same folders as far as can be told? The map is locked. */
static bool convert_mfile_is_unchanged(struct convert_mfile *mfile)
{
	struct mdbox_map *map = mfile->mdbox->storage->map;
	struct convert_message *message;
	uint16_t refcount;

	array_foreach_modifiable(&mfile->messages, message) {
		if (mdbox_map_lookup_full(map, message->map_uid, &message->old,
					  &refcount) <= 0)
			return FALSE;
		/* deleted meanwhile is fine */
		if (convert_is_change(message->action) &&
		    refcount > message->refcount)
			return FALSE;
	}
	return TRUE;
}

int convert_mfile_move(struct convert_mfile *mfile, const char **why_r)
{
	ARRAY_TYPE(uint32_t) map_uids;
	ARRAY_TYPE(seq_range) none;
	const struct convert_message *message;

	t_array_init(&map_uids, 128);
	t_array_init(&none, 1);
	array_foreach(&mfile->messages, message)
		array_push_back(&map_uids, &message->map_uid);
	*why_r = "a new file can't be written";
	if (mdbox_map_append_flush(mfile->append) < 0) {
		mfile->mdbox->cmd->stop = TRUE;
		return -1;
	}
	*why_r = "the map of the storage can't be changed";
	if (convert_mark(mfile, mfile->file_id) < 0 ||
	    mdbox_map_atomic_lock(mfile->atomic, "mail_crypt conversion") < 0 ||
	    convert_mark_new(mfile, mfile->atomic, mfile->append) < 0)
		return -1;
	if (!convert_mfile_is_unchanged(mfile)) {
		*why_r = "it was copied meanwhile; it is looked at again the next time";
		return -1;
	}
	return mdbox_map_append_move(mfile->append, &map_uids, &none) < 0 ||
		mdbox_map_append_commit(mfile->append) < 0 ? -1 : 0;
}

void convert_mfile_places(struct convert_mfile *mfile, ARRAY_TYPE(seq_range) *file_ids)
{
	const struct convert_message *message;
	uint32_t file_id;
	uoff_t offset;

	array_foreach(&mfile->messages, message) {
		if (mdbox_map_lookup(mfile->mdbox->storage->map, message->map_uid,
				     &file_id, &offset) > 0)
			seq_range_array_add(file_ids, file_id);
	}
}

/* Nobody knows of the messages in these files any more. */
static void
convert_mfile_drop(struct convert_mfile *mfile, const ARRAY_TYPE(seq_range) *file_ids)
{
	struct mdbox_storage *storage = mfile->mdbox->storage;
	struct seq_range_iter iter;
	unsigned int n = 0;
	uint32_t file_id;

	seq_range_array_iter_init(&iter, file_ids);
	while (seq_range_array_iter_nth(&iter, n++, &file_id)) {
		if (convert_mfile_is_empty(storage, file_id))
			convert_mfile_unlink(storage, file_id);
	}
}

int convert_mfile_take_back(struct convert_mfile *mfile)
{
	struct mdbox_map *map = mfile->mdbox->storage->map;
	struct mdbox_map_atomic_context *atomic = mdbox_map_atomic_begin(map);
	const struct convert_message *message;
	ARRAY_TYPE(seq_range) file_ids;
	uint32_t seq;
	int ret;

	t_array_init(&file_ids, 4);
	convert_mfile_places(mfile, &file_ids);
	ret = mdbox_map_atomic_lock(atomic, "mail_crypt conversion, taken back");
	if (ret == 0) {
		array_foreach(&mfile->messages, message) {
			if (mail_index_lookup_seq(atomic->sync_view,
						  message->map_uid, &seq)) {
				mail_index_update_ext(atomic->sync_trans, seq,
						      map->map_ext_id,
						      &message->old, NULL);
			}
		}
		mdbox_map_atomic_set_success(atomic);
	}
	if (mdbox_map_atomic_finish(&atomic) < 0)
		ret = -1;
	if (ret == 0)
		convert_mfile_drop(mfile, &file_ids);
	return ret;
}
