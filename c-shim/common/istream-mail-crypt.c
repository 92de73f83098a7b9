/* Decrypts a mail. The core verifies all of it before the first byte is served; a mail that is
   too large to keep is then read a second time, chunk by verified chunk, from any offset. */

#include "compat.h"
#include "istream-private.h"

#include "istream-mail-crypt.h"

/* How much of a large mail is read, and handed to the core, at once: fewer calls, and still in the
   CPU's cache when it is used. */
#define MAIL_CRYPT_READ_SIZE (128*1024)

struct mail_crypt_istream {
	struct istream_private istream;

	struct mcrs_reader *reader;
	struct mailbox *box;
	uint64_t size;
	bool opened:1;
};

static void
i_stream_mail_crypt_fail(struct mail_crypt_istream *cstream,
			 const struct mcrs_error *error)
{
	io_stream_set_error(&cstream->istream.iostream, "mail_crypt: %s",
			    error->text);
	cstream->istream.istream.stream_errno = EINVAL;
	cstream->istream.istream.eof = TRUE;
}

static void
i_stream_mail_crypt_fail_parent(struct mail_crypt_istream *cstream)
{
	struct istream *parent = cstream->istream.parent;

	io_stream_set_error(&cstream->istream.iostream, "read(%s) failed: %s",
			    i_stream_get_name(parent), i_stream_get_error(parent));
	cstream->istream.istream.stream_errno = parent->stream_errno;
	cstream->istream.istream.eof = TRUE;
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
	/* what there is at the end, or before it is waited for, is less */
	if (i_stream_read_bytes(parent, data_r, size_r, MAIL_CRYPT_READ_SIZE) > 0 ||
	    (*size_r > 0 && parent->stream_errno == 0))
		return 1;
	return parent->eof || parent->stream_errno != 0 ? -1 : 0;
}

/* Returns 1 if the mail is verified, 0 if the parent has no more data yet, -1 on error. */
static int
i_stream_mail_crypt_verify(struct mail_crypt_istream *cstream,
			   struct mcrs_error *error_r)
{
	struct istream *parent = cstream->istream.parent;
	const unsigned char *data;
	size_t size;
	int ret;

	for (;;) {
		ret = i_stream_mail_crypt_read_some(parent, &data, &size);
		if (ret <= 0)
			break;
		ret = mcrs_reader_feed(cstream->reader, cstream->box,
				       data, size, error_r);
		i_stream_skip(parent, size);
		if (ret < 0) {
			i_stream_mail_crypt_fail(cstream, error_r);
			return -1;
		}
		if (ret > 0)
			break;
	}
	if (ret == 0)
		return 0;
	if (ret < 0 && parent->stream_errno != 0) {
		i_stream_mail_crypt_fail_parent(cstream);
		i_zero(error_r);
		error_r->temporary = TRUE;
		if (i_strocpy(error_r->text, i_stream_get_error(&cstream->istream.istream),
			      sizeof(error_r->text)) < 0)
			error_r->text[sizeof(error_r->text) - 1] = '\0';
		return -1;
	}
	if ((ret < 0 && mcrs_reader_finish(cstream->reader, error_r) < 0) ||
	    mcrs_reader_size(cstream->reader, &cstream->size, error_r) < 0) {
		i_stream_mail_crypt_fail(cstream, error_r);
		return -1;
	}
	cstream->box = NULL;
	cstream->opened = TRUE;
	cstream->istream.cached_stream_size = cstream->size;
	return 1;
}

/* The core's plaintext is about to move. Streams over this one that still look at it notice by the access counters,
   which only reading from the root is sure to change: a stream in between may have all of the chunk buffered. Those in
   between take the counter over, from the root on, or else they would seem to have been changed themselves. */
static void i_stream_mail_crypt_touch(struct istream *parent)
{
	if (parent->real_stream->parent != NULL)
		i_stream_mail_crypt_touch(parent->real_stream->parent);
	i_stream_seek(parent, parent->v_offset);
}

/* Has the stream serve what the core lends, which begins with what was not consumed yet. */
static void
i_stream_mail_crypt_lend(struct istream_private *stream,
			 const unsigned char *data, size_t size)
{
	stream->buffer = data;
	stream->skip = 0;
	stream->pos = size;
}

/* Returns 1 if the ciphertext that the core asks for led to plaintext, 0 if it asks for more,
   -1 on error, -2 if the parent has no more data yet. */
static int
i_stream_mail_crypt_read_chunk(struct mail_crypt_istream *cstream, uoff_t next,
			       uint64_t offset, size_t size)
{
	struct istream_private *stream = &cstream->istream;
	struct mcrs_error error;
	const unsigned char *data;
	size_t have;
	int ret;

	/* A chunk is verified as a whole, and needn't be copied if it comes in one piece. A parent
	   may give less nevertheless, if it is itself fed by others. */
	if (stream->parent->real_stream->max_buffer_size < size)
		i_stream_set_max_buffer_size(stream->parent, size);
	i_stream_mail_crypt_touch(stream->parent);
	i_stream_seek(stream->parent, stream->parent_start_offset + offset);
	ret = i_stream_read_bytes(stream->parent, &data, &have, size);
	if (stream->parent->stream_errno != 0) {
		i_stream_mail_crypt_fail_parent(cstream);
		return -1;
	}
	if (ret == 0 && have == 0 && !stream->parent->eof)
		return -2;
	ret = mcrs_reader_serve(cstream->reader, stream->istream.v_offset, next,
				data, I_MIN(have, size), &data, &have, &error);
	if (ret < 0)
		i_stream_mail_crypt_fail(cstream, &error);
	else if (ret > 0)
		i_stream_mail_crypt_lend(stream, data, have);
	return ret;
}

static ssize_t i_stream_mail_crypt_read(struct istream_private *stream)
{
	struct mail_crypt_istream *cstream =
		container_of(stream, struct mail_crypt_istream, istream);
	struct mcrs_error error;
	const unsigned char *data;
	uoff_t next;
	uint64_t offset;
	size_t size, old_size;
	int ret;

	if (!cstream->opened &&
	    (ret = i_stream_mail_crypt_verify(cstream, &error)) <= 0)
		return ret;

	next = stream->istream.v_offset + (stream->pos - stream->skip);
	if (next >= cstream->size) {
		stream->istream.eof = TRUE;
		return -1;
	}
	if (stream->pos - stream->skip >= stream->max_buffer_size)
		return -2;

	old_size = stream->pos - stream->skip;
	while ((ret = mcrs_reader_want(cstream->reader, stream->istream.v_offset,
				       next, &data, &offset, &size,
				       &error)) == 0) {
		ret = i_stream_mail_crypt_read_chunk(cstream, next, offset, size);
		if (ret > 0)
			return stream->pos - old_size;
		if (ret < 0)
			return ret == -2 ? 0 : -1;
	}
	if (ret < 0) {
		i_stream_mail_crypt_fail(cstream, &error);
		return -1;
	}
	/* all of a small mail is there, and what was served of a large one a moment ago */
	if (ret > 1)
		i_stream_mail_crypt_touch(stream->parent);
	i_stream_mail_crypt_lend(stream, data, size);
	return stream->pos - old_size;
}

static void
i_stream_mail_crypt_seek(struct istream_private *stream, uoff_t v_offset,
			 bool mark ATTR_UNUSED)
{
	stream->istream.v_offset = v_offset;
	stream->skip = stream->pos = 0;
	stream->buffer = NULL;
}

static void i_stream_mail_crypt_sync(struct istream_private *stream ATTR_UNUSED)
{
	/* what was verified is what is served; a mail never changes */
}

static int
i_stream_mail_crypt_stat(struct istream_private *stream, bool exact)
{
	struct mail_crypt_istream *cstream =
		container_of(stream, struct mail_crypt_istream, istream);
	const struct stat *st;
	struct mcrs_error error;

	if (i_stream_stat(stream->parent, exact, &st) < 0) {
		i_stream_mail_crypt_fail_parent(cstream);
		return -1;
	}
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
	cstream->istream.max_buffer_size = input->real_stream->max_buffer_size;
	cstream->istream.iostream.destroy = i_stream_mail_crypt_destroy;
	cstream->istream.read = i_stream_mail_crypt_read;
	cstream->istream.seek = i_stream_mail_crypt_seek;
	cstream->istream.sync = i_stream_mail_crypt_sync;
	cstream->istream.stat = i_stream_mail_crypt_stat;
	cstream->istream.istream.readable_fd = FALSE;
	cstream->istream.istream.blocking = input->blocking;
	cstream->istream.istream.seekable = input->seekable;

	/* The buffer is the core's, and it changes only when read() returns more. */
	return compat_i_stream_create(&cstream->istream, input,
				      i_stream_get_fd(input),
				      ISTREAM_CREATE_FLAG_NOOP_SNAPSHOT);
}

int i_stream_mail_crypt_open(struct istream *stream, struct mcrs_error *error_r)
{
	struct mail_crypt_istream *cstream =
		container_of(stream->real_stream, struct mail_crypt_istream, istream);

	return cstream->opened ? 1 : i_stream_mail_crypt_verify(cstream, error_r);
}

bool i_stream_mail_crypt_failed_alone(struct istream *stream)
{
	struct mail_crypt_istream *cstream =
		container_of(stream->real_stream, struct mail_crypt_istream, istream);

	return mcrs_reader_failed_alone(cstream->reader) > 0;
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

int i_stream_mail_crypt_check_twice(struct istream *stream,
				    struct mcrs_error *error_r)
{
	struct mail_crypt_istream *cstream =
		container_of(stream->real_stream, struct mail_crypt_istream, istream);

	/* What was read before needs no second look: of a large mail that would cost a chunk. */
	if (mcrs_reader_is_new(cstream->reader) <= 0 ||
	    i_stream_check_twice(stream, error_r) == 0)
		return 0;
	mcrs_reader_refuse(cstream->reader);
	i_stream_mail_crypt_fail(cstream, error_r);
	return -1;
}

void i_stream_mail_crypt_set_cached(struct istream *stream, size_t field,
				    const void *entry, size_t size)
{
	struct mail_crypt_istream *cstream =
		container_of(stream->real_stream, struct mail_crypt_istream, istream);

	(void)mcrs_reader_set_cached(cstream->reader, field, entry, size);
}

bool i_stream_mail_crypt_get_cacheable(struct istream *stream, size_t field,
				       const unsigned char **entry_r,
				       size_t *size_r)
{
	struct mail_crypt_istream *cstream =
		container_of(stream->real_stream, struct mail_crypt_istream, istream);

	return mcrs_reader_get_cacheable(cstream->reader, field, entry_r, size_r) > 0;
}
