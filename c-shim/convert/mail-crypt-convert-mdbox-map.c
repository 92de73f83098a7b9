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

/* As long as there is a file of that name and the number of a file with mails, its messages are about to get a new place.
   If they have got it, the old file has to go. */
#define CONVERT_MARK "mail-crypt-convert."

static const char *convert_mark_path(const struct mdbox_storage *storage, uint32_t file_id)
{
	return t_strdup_printf("%s/"CONVERT_MARK"%u", storage->storage_dir, file_id);
}

/* Returns 0, or -1 if that can't be noted. */
static int convert_mfile_mark(const struct convert_mfile *mfile)
{
	const char *path = convert_mark_path(mfile->mdbox->storage, mfile->file_id);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd != -1 && fdatasync_path(mfile->mdbox->storage->storage_dir) == 0)
		return close(fd);
	mail_storage_set_critical(&mfile->mdbox->storage->storage.storage,
				  "open(%s) failed: %m", path);
	i_close_fd(&fd);
	mfile->mdbox->cmd->stop = TRUE;
	return -1;
}

void convert_mfile_unmark(const struct convert_mfile *mfile)
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

void convert_mdbox_clean(struct convert_mdbox *mdbox)
{
	struct mdbox_storage *storage = mdbox->storage;
	DIR *dir = opendir(storage->storage_dir);
	struct dirent *entry;
	uint32_t file_id;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) T_BEGIN {
		if (strncmp(entry->d_name, CONVERT_MARK, strlen(CONVERT_MARK)) == 0 &&
		    str_to_uint32(entry->d_name + strlen(CONVERT_MARK), &file_id) == 0) {
			if (convert_mfile_is_empty(storage, file_id))
				convert_mfile_unlink(storage, file_id);
			i_unlink_if_exists(convert_mark_path(storage, file_id));
		}
	} T_END;
	(void)closedir(dir);
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
	if (convert_mfile_mark(mfile) < 0 ||
	    mdbox_map_atomic_lock(mfile->atomic, "mail_crypt conversion") < 0)
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
