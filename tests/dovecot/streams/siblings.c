/* siblings FOLDER: two streams over one decrypted mail, the mail in a part of a file as in dbox. Whatever one of them
   reads, the other has the right data, or has none and reads it again; also where the mail is opened again, so that what
   was decrypted last is at hand. FOLDER has the keys: private, public. */

#include "compat.h"
#include "str.h"
#include "istream-private.h"
#include "ostream.h"

#include "istream-mail-crypt.h"
#include "ostream-mail-crypt.h"

#include <stdio.h>
#include <fcntl.h>
#include <unistd.h>

#define MAIL_SIZE 2000000
#define CHUNK_SIZE 131072

static unsigned char mail[MAIL_SIZE];

static int setting(void *folder, const char *name, const char **value_r)
{
	static char value[4096];
	const char *path;
	ssize_t size;
	int fd;

	if (name == NULL)
		return 0;
	if (strcmp(name, "mail_crypt_save_version") == 0) {
		*value_r = "2";
		return 1;
	}
	if (strcmp(name, "mail_crypt_global_public_key") == 0)
		path = t_strconcat(folder, "/public", NULL);
	else if (strcmp(name, "mail_crypt_global_private_key") == 0)
		path = t_strconcat(folder, "/private", NULL);
	else
		return 0;
	fd = open(path, O_RDONLY);
	size = read(fd, value, sizeof(value) - 1);
	i_assert(size > 0);
	value[size] = '\0';
	i_close_fd(&fd);
	*value_r = value;
	return 1;
}

static int write_mail(struct mcrs_fs *fs, const char *path)
{
	struct mcrs_writer *writer;
	struct mcrs_error error;
	struct ostream *output, *encrypted;
	bool refused;
	int fd;

	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	i_assert(fd != -1);
	if (mcrs_fs_writer_new(fs, &writer, &error) < 0)
		i_fatal("%s", error.text);
	output = o_stream_create_fd_file(fd, 0, FALSE);
	encrypted = o_stream_create_mail_crypt(output, &writer, &refused);
	o_stream_nsend(encrypted, mail, sizeof(mail));
	if (o_stream_finish(encrypted) < 0)
		i_fatal("%s", o_stream_get_error(encrypted));
	o_stream_unref(&encrypted);
	o_stream_unref(&output);
	return fd;
}

static struct istream *read_mail(struct mcrs_fs *fs, int fd)
{
	struct mcrs_reader *reader;
	struct mcrs_error error;
	struct istream *file, *part, *input;

	file = i_stream_create_fd(fd, IO_BLOCK_SIZE);
	part = i_stream_create_limit(file, UOFF_T_MAX);
	if (mcrs_fs_reader_new(fs, i_stream_mail_crypt_file(part),
			       &reader, &error) < 0)
		i_fatal("%s", error.text);
	input = i_stream_create_mail_crypt(part, &reader, NULL);
	i_stream_unref(&part);
	i_stream_unref(&file);
	return input;
}

static struct istream *sibling(struct istream *input, uoff_t start)
{
	i_stream_seek(input, start);
	return i_stream_create_limit(input, UOFF_T_MAX);
}

static void check(struct istream *stream, uoff_t start)
{
	const unsigned char *data;
	size_t size;

	data = i_stream_get_data(stream, &size);
	if (memcmp(data, mail + start + stream->v_offset, size) != 0)
		i_fatal("wrong data at %"PRIuUOFF_T, start + stream->v_offset);
}

/* Returns FALSE at the end. */
static bool read_on(struct istream *stream, uoff_t start, size_t consume)
{
	const unsigned char *data;
	size_t size;

	if (i_stream_read_more(stream, &data, &size) <= 0)
		return FALSE;
	check(stream, start);
	i_stream_skip(stream, I_MIN(size, consume));
	return TRUE;
}

static void read_in_turn(struct istream *first, uoff_t first_start,
			 struct istream *second, uoff_t second_start)
{
	while (read_on(first, first_start, 5000)) {
		check(second, second_start);
		(void)read_on(second, second_start, 7000);
		check(first, first_start);
	}
	i_assert(first->stream_errno == 0 && second->stream_errno == 0);
	i_assert(first->v_offset == MAIL_SIZE - first_start);
}

static void read_as_siblings(struct mcrs_fs *fs, int fd)
{
	struct istream *input, *first, *second;

	input = read_mail(fs, fd);
	first = sibling(input, 100);
	second = sibling(input, 2000);
	read_in_turn(first, 100, second, 2000);
	i_stream_unref(&second);
	i_stream_unref(&first);
	i_stream_unref(&input);
}

/* Another stream of the same mail, which was opened before, takes the place of the chunk that first looks at among those
   that are kept; second has one of these served then. */
static void read_while_another_reads(struct mcrs_fs *fs, int fd)
{
	struct istream *input, *other, *first, *second;

	input = read_mail(fs, fd);
	other = read_mail(fs, fd);
	first = sibling(input, 0);
	second = sibling(input, 0);
	i_assert(read_on(first, 0, 10));
	while (other->v_offset < 12 * CHUNK_SIZE)
		i_assert(read_on(other, 0, SIZE_MAX));
	i_stream_seek(second, 8 * CHUNK_SIZE);
	i_assert(read_on(second, 0, 10));
	check(first, 0);
	i_assert(read_on(first, 0, 10));
	i_stream_unref(&second);
	i_stream_unref(&first);
	i_stream_unref(&other);
	i_stream_unref(&input);
}

/* The last chunks of the mail, which was opened before, are kept after the first reading. */
static void read_without_file(struct mcrs_fs *fs, int fd)
{
	struct istream *input = read_mail(fs, fd);

	while (read_on(input, 0, 9000)) ;
	i_assert(input->stream_errno == 0);
	if (ftruncate(fd, 0) < 0)
		i_fatal("ftruncate() failed: %m");
	i_stream_seek(input, MAIL_SIZE / 2);
	while (read_on(input, 0, SIZE_MAX)) ;
	i_assert(input->stream_errno == 0 && input->v_offset == MAIL_SIZE);
	i_stream_unref(&input);
}

int main(int argc ATTR_UNUSED, char *argv[])
{
	struct mcrs_error error;
	struct mcrs_fs *fs;
	size_t parent, i;
	int fd;

	lib_init();
	i_assert(mcrs_init(MCRS_VERSION) == 0);
	for (i = 0; i < sizeof(mail); i++)
		mail[i] = i * 7 + (i >> 8) * 13 + (i >> 16) * 31;
	if (mcrs_fs_new(NULL, "posix:", setting, argv[1], &fs, &parent, &error) < 0)
		i_fatal("%s", error.text);
	T_BEGIN {
		fd = write_mail(fs, t_strconcat(argv[1], "/mail", NULL));
		read_as_siblings(fs, fd);
		read_as_siblings(fs, fd);
		read_while_another_reads(fs, fd);
		read_without_file(fs, fd);
	} T_END;
	mcrs_fs_free(&fs);
	i_close_fd(&fd);
	lib_deinit();
	return 0;
}
