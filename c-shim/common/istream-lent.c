/* Streams whose buffer the core lends. */

#include "compat.h"

#include "istream-lent.h"

static void i_stream_lent_sync(struct istream_private *stream ATTR_UNUSED)
{
	/* what was verified, or read once, is what is served */
}

void i_stream_lent_init(struct istream_private *stream, struct istream *input)
{
	stream->seek = i_stream_lent_seek;
	stream->sync = i_stream_lent_sync;
	stream->istream.readable_fd = FALSE;
	stream->istream.blocking = input->blocking;
	stream->istream.seekable = TRUE;
}

int i_stream_lent_next(struct istream_private *stream, uoff_t size,
		       uoff_t *next_r)
{
	size_t have = stream->pos - stream->skip;

	*next_r = stream->istream.v_offset + have;
	if (*next_r >= size) {
		stream->istream.eof = TRUE;
		return -1;
	}
	return have >= stream->max_buffer_size ? -2 : 1;
}

ssize_t i_stream_lent_serve(struct istream_private *stream,
			    const unsigned char *data, size_t size)
{
	size_t old_size = stream->pos - stream->skip;

	stream->buffer = data;
	stream->skip = 0;
	stream->pos = size;
	return size - old_size;
}

void i_stream_lent_seek(struct istream_private *stream, uoff_t v_offset,
			bool mark ATTR_UNUSED)
{
	stream->istream.v_offset = v_offset;
	stream->skip = stream->pos = 0;
	stream->buffer = NULL;
}

int i_stream_lent_fail(struct istream_private *stream, int stream_errno,
		       const struct mcrs_error *error)
{
	io_stream_set_error(&stream->iostream, "mail_crypt: %s", error->text);
	stream->istream.stream_errno = stream_errno;
	stream->istream.eof = TRUE;
	return -1;
}

int i_stream_lent_fail_from(struct istream_private *stream,
			    struct istream *input)
{
	io_stream_set_error(&stream->iostream, "read(%s) failed: %s",
			    i_stream_get_name(input), i_stream_get_error(input));
	stream->istream.stream_errno = input->stream_errno;
	stream->istream.eof = TRUE;
	return -1;
}
