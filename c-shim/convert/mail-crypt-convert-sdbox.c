/* Mails of an sdbox: a file has a header, the mail, and lines of metadata. All but the mail and its size stays. */

#define _GNU_SOURCE /* memmem() */
#include "compat.h"
#include "array.h"
#include "hex-dec.h"
#include "str.h"
#include "sdbox-storage.h"
#include "sdbox-file.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-convert.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

/* All metadata of a mail fits in: it has a line for each attachment that lies outside. */
#define CONVERT_METADATA_MAX (1024*1024)

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

/* Reads the metadata as it is. Returns 0, or -1 and sets errno. */
static int
convert_sdbox_metadata(const struct convert_source *source, buffer_t *metadata)
{
	uoff_t offset = source->before + source->size;
	size_t size = source->st.st_size - offset;
	unsigned char *data;

	if ((uoff_t)source->st.st_size < offset || size > CONVERT_METADATA_MAX) {
		errno = EINVAL;
		return -1;
	}
	data = buffer_append_space_unsafe(metadata, size);
	if (pread(source->fd, data, size, offset) != (ssize_t)size) {
		errno = EIO;
		return -1;
	}
	return 0;
}

/* Does a line of the metadata have this key? */
static bool convert_sdbox_has(const buffer_t *metadata, enum dbox_metadata_key key)
{
	const char line[] = { '\n', (char)key };

	return memmem(metadata->data, metadata->used, line, sizeof(line)) != NULL;
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
	const char *line;

	if (convert_sdbox_metadata(source, metadata) < 0)
		return -1;
	/* the mail's own size, which the header had */
	if (!convert_sdbox_has(metadata, DBOX_METADATA_PHYSICAL_SIZE)) {
		line = t_strdup_printf("%c%"PRIx64"\n",
				       DBOX_METADATA_PHYSICAL_SIZE, (uint64_t)source->size);
		buffer_insert(metadata, strlen(DBOX_MAGIC_POST), line, strlen(line));
	}
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
	struct stat st;
	int ret;

	ret = dbox_file_stat(file, &st) == 0 ? 1 : errno == ENOENT ? 0 : -1;
	if (ret > 0)
		*path_r = p_strdup(folder->pool, file->cur_path);
	dbox_file_unref(&file);
	return ret;
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
