/* The fs drivers: files of a parent driver are encrypted on their way to it, and verified as a
   whole before the first byte is read back. */

#include "compat.h"
#include "istream.h"
#include "ostream.h"

#include "fs-crypt-common.h"
#include "istream-mail-crypt.h"
#include "ostream-mail-crypt.h"

struct crypt_fs_file {
	struct fs_file file;
	enum fs_open_mode mode;

	/* The parent's output while a file is being written. */
	struct ostream *super_output;
	bool refused;
};

#define CRYPT_FILE(ptr) container_of((ptr), struct crypt_fs_file, file)

struct fs *fs_crypt_common_alloc(const struct fs *fs_class)
{
	struct crypt_fs *fs = i_new(struct crypt_fs, 1);

	fs->fs = *fs_class;
	return &fs->fs;
}

int fs_crypt_common_init(struct fs *_fs, const char *args,
			 mcrs_fs_setting_fn setting, size_t *parent_r,
			 const char **error_r)
{
	struct crypt_fs *fs = CRYPT_FS(_fs);
	struct mcrs_error error;

	if (mcrs_init(MCRS_VERSION) < 0) {
		*error_r = "the module and libmail_crypt_core are of different versions";
		return -1;
	}
	if (mcrs_fs_new(_fs->event, args, setting, _fs, &fs->core, parent_r, &error) < 0) {
		*error_r = t_strdup(error.text);
		return -1;
	}
	return 0;
}

void fs_crypt_free(struct fs *_fs)
{
	struct crypt_fs *fs = CRYPT_FS(_fs);

	mcrs_fs_free(&fs->core);
	if (fs->settings != NULL)
		compat_settings_free(&fs->settings);
	pool_unref(&fs->plugin_set_pool);
	i_free(fs);
}

struct fs_file *fs_crypt_file_alloc(void)
{
	struct crypt_fs_file *file = i_new(struct crypt_fs_file, 1);

	return &file->file;
}

void fs_crypt_file_init(struct fs_file *_file, const char *path,
			enum fs_open_mode mode, enum fs_open_flags flags)
{
	struct crypt_fs_file *file = CRYPT_FILE(_file);

	_file->path = i_strdup(path);
	file->mode = mode;
	/* It is read twice, to verify and to serve. If that takes a temporary file, the parent has to
	   make it, which sees nothing but ciphertext. */
	_file->parent = compat_fs_file_init_parent(_file, path, mode,
						   flags | FS_OPEN_FLAG_SEEKABLE);
}

void fs_crypt_file_deinit(struct fs_file *_file)
{
	struct crypt_fs_file *file = CRYPT_FILE(_file);

	fs_file_free(_file);
	i_free(_file->path);
	i_free(file);
}

/* Is this a file that may be served although it isn't encrypted? */
static bool
fs_crypt_is_plain(struct crypt_fs *fs, struct istream *input)
{
	const unsigned char *data;
	size_t size;

	if (!fs->read_plain)
		return FALSE;
	(void)i_stream_read_bytes(input, &data, &size, MCRS_MAGIC_SIZE);
	return (size >= MCRS_MAGIC_SIZE || input->eof) &&
		input->stream_errno == 0 && !mcrs_is_encrypted(data, size);
}

struct istream *
fs_crypt_read_stream(struct fs_file *_file, size_t max_buffer_size)
{
	struct crypt_fs *fs = CRYPT_FS(_file->fs);
	struct istream *input, *plain;
	struct mcrs_reader *reader;
	struct mcrs_error error;

	input = fs_read_stream(_file->parent,
			       I_MAX(max_buffer_size, IO_BLOCK_SIZE));
	if (fs_crypt_is_plain(fs, input))
		return input;
	if (mcrs_fs_reader_new(fs->core, i_stream_mail_crypt_file(input),
			       &reader, &error) < 0)
		plain = i_stream_create_error_str(EINVAL, "%s", error.text);
	else
		plain = i_stream_create_mail_crypt(input, &reader, NULL);
	i_stream_unref(&input);
	return plain;
}

void fs_crypt_write_stream(struct fs_file *_file)
{
	struct crypt_fs *fs = CRYPT_FS(_file->fs);
	struct crypt_fs_file *file = CRYPT_FILE(_file);
	struct mcrs_writer *writer;
	struct mcrs_error error;

	i_assert(_file->output == NULL);

	if (file->mode == FS_OPEN_MODE_APPEND) {
		_file->output = o_stream_create_error_str(ENOTSUP,
			"An encrypted file can't be appended to");
	} else if (mcrs_fs_writer_new(fs->core, &writer, &error) < 0) {
		/* never plaintext instead */
		_file->output = o_stream_create_error_str(EINVAL, "%s",
							  error.text);
	} else if (writer == NULL) {
		/* the administrator says so */
		file->super_output = fs_write_stream(_file->parent);
		_file->output = file->super_output;
		return;
	} else {
		file->super_output = fs_write_stream(_file->parent);
		_file->output = o_stream_create_mail_crypt(file->super_output,
							   &writer,
							   &file->refused);
		/* the parent ends it, in fs_write_stream_finish() */
		o_stream_set_finish_also_parent(_file->output, FALSE);
	}
	o_stream_set_name(_file->output, fs_file_path(_file));
}

int fs_crypt_write_stream_finish(struct fs_file *_file, bool success)
{
	struct crypt_fs_file *file = CRYPT_FILE(_file);

	if (_file->output == file->super_output)
		_file->output = NULL;
	else
		o_stream_unref(&_file->output);
	if (!success) {
		if (file->super_output != NULL)
			fs_write_stream_abort_parent(_file, &file->super_output);
		return -1;
	}
	/* NULL if the parent was asked before, and hasn't finished yet */
	if (file->super_output == NULL)
		return fs_write_stream_finish_async(_file->parent);
	return fs_write_stream_finish(_file->parent, &file->super_output);
}
