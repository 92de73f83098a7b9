/* Mails of an sdbox: a file has a header, the mail, and lines of metadata. All but the mail and its size stays. */

#include "compat.h"
#include "array.h"
#include "hex-dec.h"
#include "sdbox-storage.h"
#include "sdbox-file.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-convert.h"
#include "mail-crypt-convert-dbox.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

static const char *const *convert_sdbox_temp_dirs(struct convert_folder *folder)
{
	const char **dirs = p_new(folder->pool, const char *, 3);
	const char *alt;

	dirs[0] = mailbox_get_path(folder->box);
	if (mailbox_get_path_to(folder->box, MAILBOX_LIST_PATH_TYPE_ALT_MAILBOX,
				&alt) > 0)
		dirs[1] = p_strdup(folder->pool, alt);
	return dirs;
}

static const char *
convert_sdbox_temp_dir(struct convert_folder *folder, const char *path)
{
	return p_strdup_until(folder->pool, path, strrchr(path, '/'));
}

/* Takes from an open file where the mail is. Returns 1, or 0 if the file is damaged. */
static int
convert_sdbox_read(struct convert_folder *folder, struct dbox_file *file,
		   struct convert_source *source)
{
	int ret;

	if ((ret = dbox_file_seek(file, 0)) <= 0 ||
	    (ret = dbox_file_metadata_read(file)) <= 0)
		return ret;
	source->path = p_strdup(folder->pool, file->cur_path);
	source->before = file->file_header_size + file->msg_header_size;
	source->header_size = file->msg_header_size;
	source->size = file->cur_physical_size;
	source->sizes.recorded = dbox_file_get_plaintext_size(file);
	source->sizes.with_crlf = UINT64_MAX;
	source->sizes.actual = source->size;
	source->fd = dup(file->fd);
	return source->fd == -1 || fstat(source->fd, &source->st) < 0 ? -1 : 1;
}

static int
convert_sdbox_open(struct convert_folder *folder, uint32_t uid,
		   struct convert_source *source_r, struct mcrs_error *error_r)
{
	struct sdbox_mailbox *mbox = SDBOX_MAILBOX(folder->box);
	struct dbox_file *file = sdbox_file_init(mbox, uid);
	bool deleted = FALSE;
	int ret;

	ret = dbox_file_open(file, &deleted);
	if (ret > 0 && !deleted)
		ret = convert_sdbox_read(folder, file, source_r);
	if (ret <= 0) {
		mail_crypt_error_set(error_r, "", "%s can't be read: %s",
			file->cur_path,
			mailbox_get_last_internal_error(folder->box, NULL));
		ret = -1;
	}
	dbox_file_unref(&file);
	return deleted ? 0 : ret;
}

static int convert_sdbox_write(int fd, const void *data, size_t size, uoff_t offset)
{
	ssize_t ret = pwrite(fd, data, size, offset);

	if (ret >= 0 && ret != (ssize_t)size)
		errno = ENOSPC;
	return ret == (ssize_t)size ? 0 : -1;
}

static int
convert_sdbox_finish(const struct convert_source *source, int fd, uoff_t size)
{
	struct dbox_message_header header;
	uoff_t size_at = source->before - source->header_size +
		offsetof(struct dbox_message_header, message_size_hex);
	buffer_t *metadata = t_buffer_create(1024);

	if (convert_dbox_metadata(source, source->st.st_size, metadata) < 0)
		return -1;
	dec2hex(header.message_size_hex, size, sizeof(header.message_size_hex));
	return convert_sdbox_write(fd, metadata->data, metadata->used,
				   source->before + size) < 0 ? -1 :
		convert_sdbox_write(fd, header.message_size_hex,
				    sizeof(header.message_size_hex), size_at);
}

static int
convert_sdbox_find(struct convert_folder *folder, uint32_t uid, const char **path_r)
{
	struct dbox_file *file = sdbox_file_init(SDBOX_MAILBOX(folder->box), uid);
	const char *path = file->primary_path;
	struct stat st;
	int ret = lstat(path, &st);

	if (ret < 0 && errno == ENOENT && file->alt_path != NULL) {
		path = file->alt_path;
		ret = lstat(path, &st);
	}
	if (ret == 0)
		*path_r = p_strdup(folder->pool, path);
	dbox_file_unref(&file);
	return ret == 0 ? 1 : errno == ENOENT ? 0 : -1;
}

static int convert_sdbox_lock(struct convert_folder *folder)
{
	if (mail_index_lock_sync(folder->box->index, "mail_crypt conversion") == 0)
		return 0;
	mailbox_set_index_error(folder->box);
	doveadm_mail_failed_mailbox(&folder->cmd->ctx, folder->box);
	return -1;
}

static void convert_sdbox_unlock(struct convert_folder *folder)
{
	mail_index_unlock(folder->box->index, "mail_crypt conversion");
}

const struct convert_storage convert_sdbox = {
	.name = SDBOX_STORAGE_NAME,
	.temp_prefix = DBOX_TEMP_FILE_PREFIX"mail-crypt-convert.",
	.temp_dirs = convert_sdbox_temp_dirs,
	.open = convert_sdbox_open,
	.temp_dir = convert_sdbox_temp_dir,
	.finish = convert_sdbox_finish,
	.find = convert_sdbox_find,
	.lock = convert_sdbox_lock,
	.unlock = convert_sdbox_unlock
};
