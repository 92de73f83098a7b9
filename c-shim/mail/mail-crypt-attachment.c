/* Attachments that sdbox and mdbox keep outside of a mail. Dovecot opens each one only when it gets there, after it has
   told the client how large the mail is. So they are checked first. */

#include "compat.h"
#include "istream.h"
#include "fs-api.h"
#include "index-mail.h"
#include "index-attachment.h"
#include "dbox-file.h"
#include "dbox-mail.h"
#include "dbox-storage.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-plugin-private.h"

#include <fcntl.h>
#include <unistd.h>

static void
mail_crypt_attachment_fail(const char *path, struct istream *input,
			   struct mcrs_error *error_r)
{
	bool gone = input->stream_errno == ENOENT || input->stream_errno == EINVAL;

	mail_crypt_error_set(error_r, gone ?
			     "An attachment of this mail is missing or damaged" :
			     "An attachment of this mail can't be read now",
			     "attachment %s can't be read: %s", path,
			     i_stream_get_error(input));
	/* what is missing or damaged stays so; all else may pass */
	error_r->temporary = !gone;
	error_r->only_this_mail = gone;
}

/* Reads the first bytes, for which the fs driver verifies all of the file. Returns 0, or -1 and sets error_r. */
static int
mail_crypt_check_attachment(struct fs *fs, const char *path,
			    struct mcrs_error *error_r)
{
	const unsigned char *data;
	struct fs_file *file;
	struct istream *input;
	size_t size;
	int ret = 0;

	file = fs_file_init(fs, path,
			    FS_OPEN_MODE_READONLY | FS_OPEN_FLAG_SEEKABLE);
	input = fs_read_stream(file, IO_BLOCK_SIZE);
	(void)i_stream_read_more(input, &data, &size);
	if (input->stream_errno != 0) {
		mail_crypt_attachment_fail(path, input, error_r);
		ret = -1;
	}
	i_stream_unref(&input);
	fs_file_deinit(&file);
	return ret;
}

/* The paths of a mail's attachments, on the data stack. What can't be parsed Dovecot has looked at and said what is
   wrong. */
static const char *const *
mail_crypt_attachment_paths(struct dbox_storage *storage, struct dbox_file *file,
			    const char *ext_refs)
{
	ARRAY_TYPE(mail_attachment_extref) extrefs;
	ARRAY_TYPE(const_string) paths;
	const struct mail_attachment_extref *extref;
	const char *suffix = storage->v.get_attachment_path_suffix(file);

	t_array_init(&paths, 16);
	t_array_init(&extrefs, 16);
	if (index_attachment_parse_extrefs(ext_refs, pool_datastack_create(),
					   &extrefs)) {
		array_foreach(&extrefs, extref) {
			const char *path = t_strdup_printf("%s/%s%s",
				storage->attachment_dir, extref->path, suffix);

			array_push_back(&paths, &path);
		}
	}
	array_append_zero(&paths);
	return array_front(&paths);
}

static int
mail_crypt_check_refs(struct dbox_storage *storage, struct dbox_file *file,
		      const char *ext_refs, struct mcrs_error *error_r)
{
	const char *const *path =
		mail_crypt_attachment_paths(storage, file, ext_refs);

	for (; *path != NULL; path++) {
		if (mail_crypt_check_attachment(storage->attachment_fs, *path,
						error_r) < 0)
			return -1;
	}
	return 0;
}

bool mail_crypt_has_attachments(struct mailbox *box)
{
	struct dbox_storage *storage;

	if (!mail_crypt_is_dbox(box))
		return FALSE;
	storage = DBOX_STORAGE(box->storage);
	return storage->attachment_dir != NULL && storage->attachment_fs != NULL;
}

/* Returns 1 if the file is encrypted, 0 if not, -1 if there is no such file: the fs driver knows where it is. */
static int mail_crypt_attachment_is_encrypted(const char *path)
{
	unsigned char start[MCRS_MAGIC_SIZE];
	ssize_t size;
	int fd = open(path, O_RDONLY);

	if (fd == -1)
		return -1;
	size = read(fd, start, sizeof(start));
	i_close_fd(&fd);
	return size < 0 ? -1 : mcrs_is_encrypted(start, size) ? 1 : 0;
}

int mail_crypt_attachments(struct mail *mail, bool verify,
			   mail_crypt_attachment_t *tell, void *context,
			   struct mcrs_error *error_r)
{
	const char *const *path, *ext_refs;
	struct dbox_file *file;

	if (!mail_crypt_has_attachments(mail->box) ||
	    dbox_mail_metadata_read(DBOX_MAIL(mail), &file) < 0)
		return 0;
	ext_refs = dbox_file_metadata_get(file, DBOX_METADATA_EXT_REF);
	if (ext_refs == NULL)
		return 0;
	path = mail_crypt_attachment_paths(DBOX_STORAGE(mail->box->storage),
					   file, ext_refs);
	for (; *path != NULL; path++) {
		int ret = mail_crypt_attachment_is_encrypted(*path);

		if (ret >= 0)
			tell(ret > 0, context);
	}
	return verify ? mail_crypt_check_attachments(mail, error_r) : 0;
}

int mail_crypt_check_attachments(struct mail *mail, struct mcrs_error *error_r)
{
	const char *ext_refs;
	struct dbox_file *file;
	int ret;

	/* if this fails, Dovecot says why when it looks for them */
	if (mail->saving || dbox_mail_metadata_read(DBOX_MAIL(mail), &file) < 0)
		return 0;
	ext_refs = dbox_file_metadata_get(file, DBOX_METADATA_EXT_REF);
	if (ext_refs == NULL)
		return 0;
	T_BEGIN {
		ret = mail_crypt_check_refs(DBOX_STORAGE(mail->box->storage),
					    file, ext_refs, error_r);
	} T_END;
	return ret;
}
