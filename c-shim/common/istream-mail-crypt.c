/* Decrypts a mail. The core verifies all of it before the first byte is served; a mail that is
   too large to keep is then read a second time, chunk by verified chunk, from any offset. */

#include "compat.h"
#include "mail-error.h"

#include "istream-lent.h"
#include "istream-mail-crypt.h"

#include <stdio.h>

/* How much of a large mail is read and handed to the core at once. That takes few calls, and is still in
   the CPU's cache when it is used. */
#define MAIL_CRYPT_READ_SIZE (128*1024)

struct mail_crypt_istream {
	struct istream_private istream;

	struct mcrs_reader *reader;
	struct mailbox *box;
	uint64_t size;
	bool opened:1;
};

#define MAIL_CRYPT_ISTREAM(ptr) \
	container_of((ptr), struct mail_crypt_istream, istream)

void mail_crypt_error_set(struct mcrs_error *error_r, const char *client,
			  const char *format, ...)
{
	va_list args;

	i_zero(error_r);
	(void)i_snprintf(error_r->client, sizeof(error_r->client), "%s", client);
	va_start(args, format);
	/* cut off if it is too long */
	(void)vsnprintf(error_r->text, sizeof(error_r->text), format, args);
	va_end(args);
}

void mail_crypt_error_set_read(struct mcrs_error *error_r, struct istream *input)
{
	mail_crypt_error_set(error_r, MAIL_ERRSTR_CRITICAL_MSG,
			     "read(%s) failed: %s",
			     i_stream_get_name(input), i_stream_get_error(input));
	error_r->temporary = TRUE;
}

static int
i_stream_mail_crypt_fail(struct mail_crypt_istream *cstream,
			 const struct mcrs_error *error)
{
	return i_stream_lent_fail(&cstream->istream, EINVAL, error);
}

/* Returns 1 if there is more, 0 if the parent has no more data yet, -1 at its end and on error. */
static int
i_stream_mail_crypt_read_some(struct istream *parent,
			      const unsigned char **data_r, size_t *size_r)
{
	*data_r = i_stream_get_data(parent, size_r);
	/* a small mail comes with the first read, and has memory of its own size */
	if (parent->v_offset == 0 && *size_r > 0)
		return 1;
	if (parent->real_stream->max_buffer_size < MAIL_CRYPT_READ_SIZE)
		i_stream_set_max_buffer_size(parent, MAIL_CRYPT_READ_SIZE);
	/* there is less at the end, and where more has to be waited for */
	if (i_stream_read_bytes(parent, data_r, size_r, MAIL_CRYPT_READ_SIZE) > 0 ||
	    (*size_r > 0 && parent->stream_errno == 0))
		return 1;
	return parent->eof || parent->stream_errno != 0 ? -1 : 0;
}

/* Has the core take the file, as much of it as it needs. Returns 1 if the mail is verified, 0 if the parent has no more
   data yet, -1 on error. */
static int
i_stream_mail_crypt_feed(struct mail_crypt_istream *cstream,
			 struct mcrs_error *error_r)
{
	struct istream *parent = cstream->istream.parent;
	const unsigned char *data;
	size_t size;
	int ret;

	while ((ret = i_stream_mail_crypt_read_some(parent, &data, &size)) > 0) {
		ret = mcrs_reader_feed(cstream->reader, cstream->box,
				       data, size, error_r);
		i_stream_skip(parent, size);
		if (ret != 0)
			return ret > 0 ? 1 :
				i_stream_mail_crypt_fail(cstream, error_r);
	}
	if (ret == 0)
		return 0;
	if (parent->stream_errno != 0) {
		mail_crypt_error_set_read(error_r, parent);
		return i_stream_lent_fail_from(&cstream->istream, parent);
	}
	return mcrs_reader_finish(cstream->reader, error_r) == 0 ? 1 :
		i_stream_mail_crypt_fail(cstream, error_r);
}

/* Returns the same, and knows the size once the mail is verified. */
static int
i_stream_mail_crypt_verify(struct mail_crypt_istream *cstream,
			   struct mcrs_error *error_r)
{
	int ret = i_stream_mail_crypt_feed(cstream, error_r);

	if (ret <= 0)
		return ret;
	if (mcrs_reader_size(cstream->reader, &cstream->size, error_r) < 0)
		return i_stream_mail_crypt_fail(cstream, error_r);
	cstream->box = NULL;
	cstream->opened = TRUE;
	cstream->istream.cached_stream_size = cstream->size;
	return 1;
}

/* The core's plaintext is about to move. Streams over this one that still look at it notice by the access counters.
   Only the root is sure to change its counter: a stream in between may have all of the chunk buffered. Those in between
   take the counter over, from the root on. Otherwise they would seem to have been changed themselves. */
static void i_stream_mail_crypt_touch(struct istream *parent)
{
	if (parent->real_stream->parent != NULL)
		i_stream_mail_crypt_touch(parent->real_stream->parent);
	i_stream_seek(parent, parent->v_offset);
}

/* Has the core decrypt what it asked for. Returns 1 if that led to plaintext, 0 if it asks for more, -1 on error,
   -2 if the parent has no more data yet. */
static int
i_stream_mail_crypt_read_chunk(struct mail_crypt_istream *cstream, uoff_t next,
			       uint64_t offset, struct mcrs_data *plain_r)
{
	struct istream_private *stream = &cstream->istream;
	struct istream *parent = stream->parent;
	size_t have, size = plain_r->size;
	struct mcrs_error error;
	const unsigned char *data;
	int ret;

	/* A chunk is verified as a whole, and needn't be copied if it comes in one piece. A parent
	   that is itself fed by others may still give less. */
	if (parent->real_stream->max_buffer_size < size)
		i_stream_set_max_buffer_size(parent, size);
	i_stream_mail_crypt_touch(parent);
	i_stream_seek(parent, stream->parent_start_offset + offset);
	ret = i_stream_read_bytes(parent, &data, &have, size);
	if (parent->stream_errno != 0)
		return i_stream_lent_fail_from(stream, parent);
	if (ret == 0 && have == 0 && !parent->eof)
		return -2;
	ret = mcrs_reader_serve(cstream->reader, stream->istream.v_offset, next,
				data, I_MIN(have, size), &plain_r->data,
				&plain_r->size, &error);
	return ret < 0 ? i_stream_mail_crypt_fail(cstream, &error) : ret;
}

static ssize_t i_stream_mail_crypt_read(struct istream_private *stream)
{
	struct mail_crypt_istream *cstream = MAIL_CRYPT_ISTREAM(stream);
	struct mcrs_error error;
	struct mcrs_data plain;
	uint64_t offset;
	uoff_t next;
	int ret;

	if (!cstream->opened &&
	    (ret = i_stream_mail_crypt_verify(cstream, &error)) <= 0)
		return ret;
	if ((ret = i_stream_lent_next(stream, cstream->size, &next)) < 0)
		return ret;

	while ((ret = mcrs_reader_want(cstream->reader, stream->istream.v_offset,
				       next, &plain.data, &offset, &plain.size,
				       &error)) == 0) {
		ret = i_stream_mail_crypt_read_chunk(cstream, next, offset, &plain);
		if (ret > 0)
			return i_stream_lent_serve(stream, plain.data, plain.size);
		if (ret < 0)
			return ret == -2 ? 0 : -1;
	}
	if (ret < 0)
		return i_stream_mail_crypt_fail(cstream, &error);
	/* it was there already, and moves although nothing was read */
	if (ret > 1)
		i_stream_mail_crypt_touch(stream->parent);
	return i_stream_lent_serve(stream, plain.data, plain.size);
}

static int
i_stream_mail_crypt_stat(struct istream_private *stream, bool exact)
{
	struct mail_crypt_istream *cstream = MAIL_CRYPT_ISTREAM(stream);
	const struct stat *st;
	struct mcrs_error error;

	if (i_stream_stat(stream->parent, exact, &st) < 0)
		return i_stream_lent_fail_from(stream, stream->parent);
	stream->statbuf = *st;
	if (!cstream->opened && i_stream_mail_crypt_verify(cstream, &error) < 0)
		return -1;
	stream->statbuf.st_size = cstream->opened ? (off_t)cstream->size : -1;
	return 0;
}

static void i_stream_mail_crypt_destroy(struct iostream_private *stream)
{
	struct mail_crypt_istream *cstream =
		container_of(stream, struct mail_crypt_istream, istream.iostream);

	mcrs_reader_free(&cstream->reader);
	i_stream_unref(&cstream->istream.parent);
}

struct mcrs_file i_stream_mail_crypt_file(struct istream *input)
{
	struct mcrs_file file = { .size = UINT64_MAX };
	const struct stat *st;

	/* where input has to be waited for, its size has too */
	if (!input->blocking || i_stream_stat(input, TRUE, &st) < 0 ||
	    st->st_size < 0)
		return file;
	file.size = st->st_size;
	file.changed = (uint64_t)st->st_mtim.tv_sec * 1000000000 +
		(uint64_t)st->st_mtim.tv_nsec;
	file.inode = st->st_ino;
	return file;
}

struct istream *
i_stream_create_mail_crypt(struct istream *input, struct mcrs_reader **reader,
			   struct mailbox *box)
{
	struct mail_crypt_istream *cstream;

	cstream = i_new(struct mail_crypt_istream, 1);
	cstream->reader = *reader;
	*reader = NULL;
	cstream->box = box;
	i_stream_lent_init(&cstream->istream, input);
	cstream->istream.max_buffer_size = input->real_stream->max_buffer_size;
	cstream->istream.iostream.destroy = i_stream_mail_crypt_destroy;
	cstream->istream.read = i_stream_mail_crypt_read;
	cstream->istream.stat = i_stream_mail_crypt_stat;
	cstream->istream.istream.seekable = input->seekable;
	return compat_i_stream_create(&cstream->istream, input,
				      i_stream_get_fd(input),
				      ISTREAM_CREATE_FLAG_NOOP_SNAPSHOT);
}

int i_stream_check_twice(struct istream *stream, struct mcrs_error *error_r)
{
	const unsigned char *data;
	size_t size;

	(void)i_stream_read_bytes(stream, &data, &size, MCRS_MAGIC_SIZE);
	if (!mcrs_is_encrypted(data, size))
		return 0;
	(void)i_stream_read_bytes(stream, &data, &size, MCRS_LOOK_SIZE);
	return mcrs_refuse_twice(data, size, error_r);
}

int i_stream_mail_crypt_open(struct istream *stream, bool as_stored,
			     struct mcrs_error *error_r)
{
	struct mail_crypt_istream *cstream = MAIL_CRYPT_ISTREAM(stream->real_stream);
	int ret = i_stream_mail_crypt_verify(cstream, error_r);

	/* What was read before needs no second look: of a large mail that would cost a chunk. */
	if (ret > 0 && !as_stored && mcrs_reader_is_new(cstream->reader) > 0 &&
	    i_stream_check_twice(stream, error_r) < 0) {
		mcrs_reader_refuse(cstream->reader);
		ret = i_stream_mail_crypt_fail(cstream, error_r);
	}
	return ret;
}

bool i_stream_mail_crypt_get_cacheable(struct istream *stream, size_t field,
				       struct mcrs_data *entry_r)
{
	struct mail_crypt_istream *cstream = MAIL_CRYPT_ISTREAM(stream->real_stream);

	return mcrs_reader_get_cacheable(cstream->reader, field,
					 &entry_r->data, &entry_r->size) > 0;
}
