/* Makes a new file of a mail, beside it, and reads it back. Nothing is locked meanwhile. */

#include "compat.h"
#include "array.h"
#include "hostpid.h"
#include "istream.h"
#include "ostream.h"
#include "mail-storage.h"

#include "istream-mail-crypt.h"
#include "ostream-mail-crypt.h"
#include "mail-crypt-convert.h"

#include <fcntl.h>
#include <unistd.h>

#define CONVERT_READ_SIZE (128*1024)

void convert_set_syscall_error(struct mcrs_error *error_r, const char *function,
			       const char *path)
{
	mail_crypt_error_set(error_r, "", "%s(%s) failed: %m", function, path);
	error_r->temporary = errno != ENOENT;
}

/* Returns a stream of the mail alone, as it is stored. */
static struct istream *
convert_open_stored(int fd, const char *path, uoff_t before, uoff_t size)
{
	struct istream *file, *input;

	file = i_stream_create_fd(fd, CONVERT_READ_SIZE);
	i_stream_set_name(file, path);
	input = i_stream_create_range(file, before, size);
	i_stream_unref(&file);
	return input;
}

int convert_look(struct convert_folder *folder, const struct convert_source *source,
		 struct mcrs_error *error_r)
{
	struct istream *input;
	const unsigned char *data;
	size_t size, want = MCRS_LOOK_SIZE;
	int ret;

	input = convert_open_stored(source->fd, source->path, source->before,
				    source->size);
	(void)i_stream_read_bytes(input, &data, &size, want);
	/* nearly every header is shorter */
	if (input->stream_errno == 0 && mcrs_is_encrypted(data, size))
		(void)i_stream_read_bytes(input, &data, &size,
					  MCRS_CONVERT_LOOK_SIZE);
	if (input->stream_errno != 0) {
		mail_crypt_error_set_read(error_r, input);
		ret = -1;
	} else {
		ret = mcrs_convert_look(folder->convert, data, size,
					source->size, source->sizes, error_r);
	}
	i_stream_unref(&input);
	return ret;
}

static bool convert_is_trees(struct istream *stored)
{
	const unsigned char *data;
	size_t size;

	(void)i_stream_read_bytes(stored, &data, &size, MCRS_MAGIC_SIZE);
	return mcrs_is_trees(data, size);
}

/* Replaces *input by the decrypted mail. Returns 0, or -1 and sets error_r. */
static int
convert_decrypt(struct convert_folder *folder, struct istream **input,
		bool as_stored, struct mcrs_error *error_r)
{
	struct mcrs_data cached[MCRS_READER_FIELDS];
	struct mcrs_file file = i_stream_mail_crypt_file(*input);
	struct mcrs_reader *reader;
	struct istream *stored = *input;
	int ret;

	memset(cached, 0, sizeof(cached));
	ret = convert_is_trees(stored) ?
		mcrs_reader_new_trees(folder->cmd->user, file, &reader, error_r) :
		mcrs_reader_new(folder->cmd->user, file, cached, &reader, error_r);
	if (ret < 0)
		return -1;
	*input = i_stream_create_mail_crypt(stored, &reader, folder->box);
	i_stream_unref(&stored);
	return i_stream_mail_crypt_open(*input, as_stored, error_r) < 0 ? -1 : 0;
}

/* What is compressed, or was never encrypted, can only be judged by those who serve it. Returns 0, or -1 and sets
   error_r if Dovecot doesn't serve the mail, or it is encrypted once more inside. */
static int
convert_check_served(struct convert_folder *folder, struct mcrs_error *error_r)
{
	struct istream *input;
	const unsigned char *data;
	size_t size;
	const char *why;

	if (mail_get_stream(folder->mail, NULL, NULL, &input) < 0) {
		why = mailbox_get_last_internal_error(folder->box, NULL);
		mail_crypt_error_set(error_r, "", "it can't be read: %s", why);
		return -1;
	}
	(void)i_stream_read_bytes(input, &data, &size, MCRS_LOOK_SIZE);
	if (input->stream_errno != 0) {
		mail_crypt_error_set_read(error_r, input);
		return -1;
	}
	return mcrs_refuse_twice(data, size, error_r);
}

/* Replaces *input by the decrypted mail, which isn't encrypted once more inside. Returns 0, or -1 and sets error_r. */
static int
convert_open_encrypted(struct convert_folder *folder, struct istream **input,
		       struct mcrs_error *error_r)
{
	const unsigned char *data;
	size_t size;

	if (convert_decrypt(folder, input, FALSE, error_r) < 0)
		return -1;
	(void)i_stream_read_bytes(*input, &data, &size, 16);
	return mcrs_convert_is_packed(data, size) ?
		convert_check_served(folder, error_r) : 0;
}

/* Opens what the mail holds. Returns 0 and sets input_r, or -1 and sets error_r if it can't be read. */
static int
convert_open_source(struct convert_folder *folder,
		    const struct convert_source *source, int action,
		    struct istream **input_r, struct mcrs_error *error_r)
{
	struct istream *input;
	int ret = 0;

	input = convert_open_stored(source->fd, source->path, source->before,
				    source->size);
	/* how large a mail of TREES is, only Dovecot's own stream of it tells */
	if (action == MCRS_CONVERT_ENCRYPT || convert_is_trees(input))
		ret = convert_check_served(folder, error_r);
	if (ret == 0 && action != MCRS_CONVERT_ENCRYPT)
		ret = convert_open_encrypted(folder, &input, error_r);
	if (ret < 0)
		i_stream_unref(&input);
	*input_r = input;
	return ret;
}

/* Has the core take all of input for the comparison, and writes it to output (NULL: only that). Returns 0, or -1 and
   sets error_r. */
static int
convert_pass(struct convert_folder *folder, struct istream *input, bool after,
	     struct ostream *output, struct mcrs_error *error_r)
{
	const unsigned char *data;
	size_t size;

	while (i_stream_read_more(input, &data, &size) > 0) {
		if (mcrs_convert_compare(folder->convert, after, data, size,
					 error_r) < 0)
			return -1;
		if (output != NULL)
			o_stream_nsend(output, data, size);
		i_stream_skip(input, size);
	}
	if (input->stream_errno != 0) {
		mail_crypt_error_set_read(error_r, input);
		return -1;
	}
	return 0;
}

static int
convert_write_failed(struct convert_folder *folder, struct ostream *output,
		     struct mcrs_error *error_r)
{
	mail_crypt_error_set(error_r, "", "write(%s) failed: %s",
			     o_stream_get_name(output), o_stream_get_error(output));
	error_r->temporary = TRUE;
	folder->cmd->stop = TRUE;
	return -1;
}

/* Writes what comes before the mail. */
static void
convert_write_before(const struct convert_source *source, struct ostream *output)
{
	struct istream *input;

	if (source->before == 0)
		return;
	input = convert_open_stored(source->fd, source->path, 0, source->before);
	o_stream_nsend_istream(output, input);
	i_stream_unref(&input);
}

/* Writes what the mail becomes. Returns 0 and sets size_r, or -1 and sets error_r. */
static int
convert_write_mail(struct convert_folder *folder, struct istream *input,
		   int action, struct ostream *output, uoff_t *size_r,
		   struct mcrs_error *error_r)
{
	struct mcrs_writer *writer;
	struct ostream *crypt;
	uoff_t start = output->offset;
	bool refused;
	int ret;

	if (mcrs_convert_writer(folder->convert, folder->box, action,
				&writer, error_r) < 0) {
		folder->failed = TRUE;
		return -1;
	}
	crypt = o_stream_create_mail_crypt(output, &writer, &refused);
	ret = convert_pass(folder, input, FALSE, crypt, error_r);
	if (ret == 0 && refused) {
		mail_crypt_error_set(error_r, "", "it is, or looks, encrypted already");
		ret = -1;
	}
	if (ret < 0)
		o_stream_abort(crypt);
	else if (o_stream_finish(crypt) < 0)
		ret = convert_write_failed(folder, crypt, error_r);
	*size_r = output->offset - start;
	o_stream_unref(&crypt);
	return ret;
}

int convert_try(struct convert_folder *folder, const struct convert_source *source,
		int action, struct mcrs_error *error_r)
{
	struct istream *input;

	if (convert_open_source(folder, source, action, &input, error_r) < 0)
		return -1;
	i_stream_unref(&input);
	return 0;
}

int convert_transform(struct convert_folder *folder,
		      const struct convert_source *source, int action,
		      struct ostream *output, uoff_t *size_r,
		      struct mcrs_error *error_r)
{
	struct istream *input;
	int ret;

	if (convert_open_source(folder, source, action, &input, error_r) < 0)
		return -1;
	ret = convert_write_mail(folder, input, action, output, size_r, error_r);
	i_stream_unref(&input);
	return ret;
}

static int
convert_write(struct convert_folder *folder, const struct convert_source *source,
	      int action, int fd, const char *temp_path, uoff_t *size_r,
	      struct mcrs_error *error_r)
{
	struct ostream *output;
	int ret;

	output = o_stream_create_fd_file(fd, 0, FALSE);
	o_stream_set_name(output, temp_path);
	o_stream_cork(output);
	convert_write_before(source, output);
	ret = convert_transform(folder, source, action, output, size_r, error_r);
	if (ret < 0)
		o_stream_abort(output);
	else if (o_stream_finish(output) < 0)
		ret = convert_write_failed(folder, output, error_r);
	o_stream_unref(&output);
	return ret;
}

/* Gives the new file all that the old one had, and has it written to the disk. Returns 0 or -1. */
static int
convert_settle(struct convert_folder *folder, const struct convert_source *source,
	       int fd, const char *temp_path, uoff_t size,
	       struct mcrs_error *error_r)
{
	const struct timespec times[2] = {
		source->st.st_atim, source->st.st_mtim
	};
	const char *function;
	struct stat st;

	if (folder->storage->finish != NULL &&
	    folder->storage->finish(source, fd, size) < 0)
		function = "write";
	else if (fstat(fd, &st) < 0)
		function = "fstat";
	else if ((st.st_uid != source->st.st_uid ||
		  st.st_gid != source->st.st_gid) &&
		 fchown(fd, source->st.st_uid, source->st.st_gid) < 0)
		function = "fchown";
	else if (fchmod(fd, source->st.st_mode & 07777) < 0)
		function = "fchmod";
	else if (futimens(fd, times) < 0)
		function = "futimens";
	else if (fsync(fd) < 0)
		function = "fsync";
	else
		return 0;
	convert_set_syscall_error(error_r, function, temp_path);
	/* what can't be given away is this file's matter */
	folder->cmd->stop = errno != EPERM;
	return -1;
}

int convert_verify(struct convert_folder *folder, int action, const char *path,
		   uoff_t before, uoff_t size, struct mcrs_error *error_r)
{
	struct mcrs_convert *convert = folder->convert;
	struct istream *input;
	int fd, ret = 0;

	if (mcrs_convert_written(convert, error_r) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		convert_set_syscall_error(error_r, "open", path);
		return -1;
	}
	input = convert_open_stored(fd, path, before, size);
	if (action != MCRS_CONVERT_DECRYPT)
		ret = convert_decrypt(folder, &input, TRUE, error_r);
	if (ret == 0)
		ret = convert_pass(folder, input, TRUE, NULL, error_r);
	i_stream_unref(&input);
	i_close_fd(&fd);
	return ret < 0 ? -1 : mcrs_convert_same(convert, error_r);
}

static const char *
convert_temp_path(struct convert_folder *folder, const char *path)
{
	return p_strdup_printf(folder->pool, "%s/%s%s.%s.%u",
		folder->storage->temp_dir(folder, path),
		folder->storage->temp_prefix, my_hostname, my_pid,
		folder->temp_count++);
}

int convert_make(struct convert_folder *folder, const struct convert_source *source,
		 int action, const char **temp_path_r, struct mcrs_error *error_r)
{
	const char *temp_path = convert_temp_path(folder, source->path);
	uoff_t size;
	int fd, ret;

	fd = open(temp_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		  0600);
	if (fd == -1) {
		convert_set_syscall_error(error_r, "open", temp_path);
		folder->cmd->stop = TRUE;
		return -1;
	}
	ret = convert_write(folder, source, action, fd, temp_path, &size, error_r);
	if (ret == 0)
		ret = convert_settle(folder, source, fd, temp_path, size, error_r);
	if (ret == 0) {
		ret = convert_verify(folder, action, temp_path, source->before,
				     size, error_r);
	}
	if (close(fd) < 0 && ret == 0) {
		convert_set_syscall_error(error_r, "close", temp_path);
		folder->cmd->stop = TRUE;
		ret = -1;
	}
	if (ret < 0)
		i_unlink_if_exists(temp_path);
	*temp_path_r = temp_path;
	return ret;
}
