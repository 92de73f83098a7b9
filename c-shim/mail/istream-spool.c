/* Makes a stream that can't go back, or only at a price, seekable without a byte of plaintext on
   a disk: what istream-seekable does, with its file encrypted. */

#include "compat.h"
#include "str.h"
#include "safe-mkstemp.h"
#include "istream-private.h"

#include "istream-spool.h"

#include <unistd.h>

struct spool_istream {
	struct istream_private istream;

	struct istream *source;
	struct mcrs_spool *spool;
	char *temp_prefix;
	/* UOFF_T_MAX until the source's end was seen */
	uoff_t size;
	bool hidden:1;
};

static void
i_stream_spool_fail(struct spool_istream *sstream, const struct mcrs_error *error)
{
	io_stream_set_error(&sstream->istream.iostream, "mail_crypt: %s",
			    error->text);
	sstream->istream.istream.stream_errno = EIO;
	sstream->istream.istream.eof = TRUE;
}

static void i_stream_spool_fail_source(struct spool_istream *sstream)
{
	struct istream *source = sstream->source;

	io_stream_set_error(&sstream->istream.iostream, "read(%s) failed: %s",
			    i_stream_get_name(source), i_stream_get_error(source));
	sstream->istream.istream.stream_errno = source->stream_errno;
	sstream->istream.istream.eof = TRUE;
}

/* Returns -1 if there is no file to be had. */
static int i_stream_spool_open_file(struct spool_istream *sstream)
{
	static bool warned = FALSE;
	string_t *path = t_str_new(256);
	int fd;

	str_append(path, sstream->temp_prefix);
	fd = safe_mkstemp_hostpid(path, 0600, (uid_t)-1, (gid_t)-1);
	if (fd == -1) {
		if (!warned) {
			i_warning("mail_crypt: no temporary file can be made in mail_temp_dir: "
				  "safe_mkstemp(%s) failed: %m: "
				  "going back in large mails takes longer without it",
				  str_c(path));
		}
		warned = TRUE;
		return -1;
	}
	if (i_unlink(str_c(path)) < 0) {
		i_close_fd(&fd);
		return -1;
	}
	return fd;
}

static int
i_stream_spool_take(struct spool_istream *sstream, const unsigned char *data, size_t size)
{
	struct mcrs_error error;
	size_t taken;
	int ret, fd;

	while ((ret = mcrs_spool_take(sstream->spool, sstream->source->v_offset,
				      data, size, &taken, &error)) == 0) {
		T_BEGIN {
			fd = i_stream_spool_open_file(sstream);
		} T_END;
		if (mcrs_spool_set_file(sstream->spool, fd, &error) < 0) {
			ret = -1;
			break;
		}
	}
	if (ret < 0) {
		i_stream_spool_fail(sstream, &error);
		return -1;
	}
	i_stream_skip(sstream->source, taken);
	return 1;
}

static void i_stream_spool_detach(struct spool_istream *sstream)
{
	compat_i_stream_detach(&sstream->istream);
	i_stream_unref(&sstream->source);
}

/* Brings the source forward, or to wanted if it is behind that. Returns 1: it gave something or
   ended, 0: it has to be waited for, -1: it failed. */
static int i_stream_spool_fill(struct spool_istream *sstream, uoff_t wanted)
{
	struct istream *source = sstream->source;
	const unsigned char *data;
	size_t size;
	int ret;

	if (source->v_offset > wanted) {
		if (!source->seekable) {
			io_stream_set_error(&sstream->istream.iostream,
				"mail_crypt: no temporary file to go back in");
			sstream->istream.istream.stream_errno = ESPIPE;
			sstream->istream.istream.eof = TRUE;
			return -1;
		}
		i_stream_seek(source, wanted);
	}
	ret = i_stream_read_more_memarea(source, &data, &size);
	if (ret == 0)
		return 0;
	if (ret < 0) {
		if (source->stream_errno != 0) {
			i_stream_spool_fail_source(sstream);
			return -1;
		}
		sstream->size = source->v_offset;
		if (mcrs_spool_keeps(sstream->spool) > 0)
			i_stream_spool_detach(sstream);
		return 1;
	}
	if (source->v_offset < wanted) {
		i_stream_skip(source, I_MIN(size, wanted - source->v_offset));
		return 1;
	}
	return i_stream_spool_take(sstream, data, size);
}

static ssize_t i_stream_spool_read(struct istream_private *stream)
{
	struct spool_istream *sstream =
		container_of(stream, struct spool_istream, istream);
	size_t have, old_size = stream->pos - stream->skip;
	uoff_t next = stream->istream.v_offset + old_size;
	struct mcrs_error error;
	const unsigned char *data;
	uint64_t wanted;
	int ret;

	if (sstream->hidden) {
		stream->istream.eof = TRUE;
		return -1;
	}
	if (old_size >= stream->max_buffer_size)
		return -2;

	for (;;) {
		if (next >= sstream->size) {
			stream->istream.eof = TRUE;
			return -1;
		}
		ret = mcrs_spool_read(sstream->spool, stream->istream.v_offset, next,
				      &data, &have, &wanted, &error);
		if (ret != 0)
			break;
		if ((ret = i_stream_spool_fill(sstream, wanted)) <= 0)
			return ret;
	}
	if (ret < 0) {
		i_stream_spool_fail(sstream, &error);
		return -1;
	}
	stream->buffer = data;
	stream->skip = 0;
	stream->pos = have;
	return have - old_size;
}

static void
i_stream_spool_seek(struct istream_private *stream, uoff_t v_offset,
		    bool mark ATTR_UNUSED)
{
	stream->istream.v_offset = v_offset;
	stream->skip = stream->pos = 0;
	stream->buffer = NULL;
}

static void i_stream_spool_sync(struct istream_private *stream ATTR_UNUSED)
{
	/* what was read once is what is served */
}

static int
i_stream_spool_stat(struct istream_private *stream, bool exact ATTR_UNUSED)
{
	struct spool_istream *sstream =
		container_of(stream, struct spool_istream, istream);

	if (i_stream_spool_complete(&stream->istream) < 0)
		return -1;
	stream->statbuf.st_size = sstream->size == UOFF_T_MAX ? -1 : (off_t)sstream->size;
	return 0;
}

static void i_stream_spool_destroy(struct iostream_private *stream)
{
	struct spool_istream *sstream =
		container_of(stream, struct spool_istream, istream.iostream);

	mcrs_spool_free(&sstream->spool);
	i_stream_spool_detach(sstream);
	i_free(sstream->temp_prefix);
}

struct istream *
i_stream_create_spool(struct istream *source, const char *temp_prefix)
{
	struct spool_istream *sstream;
	struct mcrs_error error;
	struct istream *stream;

	i_assert(source->v_offset == 0);

	sstream = i_new(struct spool_istream, 1);
	sstream->source = source;
	sstream->temp_prefix = i_strdup(temp_prefix);
	sstream->size = UOFF_T_MAX;
	i_stream_ref(source);

	sstream->istream.max_buffer_size = i_stream_get_max_buffer_size(source);
	sstream->istream.iostream.destroy = i_stream_spool_destroy;
	sstream->istream.read = i_stream_spool_read;
	sstream->istream.seek = i_stream_spool_seek;
	sstream->istream.sync = i_stream_spool_sync;
	sstream->istream.stat = i_stream_spool_stat;
	sstream->istream.istream.readable_fd = FALSE;
	sstream->istream.istream.blocking = source->blocking;
	sstream->istream.istream.seekable = TRUE;

	/* The buffer is the core's, and it changes only when read() returns more. */
	stream = compat_i_stream_create_over(&sstream->istream, source,
					     ISTREAM_CREATE_FLAG_NOOP_SNAPSHOT);
	i_stream_set_name(stream, i_stream_get_name(source));
	if (mcrs_spool_new(&sstream->spool, &error) < 0)
		i_stream_spool_fail(sstream, &error);
	return stream;
}

int i_stream_spool_complete(struct istream *stream)
{
	struct spool_istream *sstream =
		container_of(stream->real_stream, struct spool_istream, istream);
	int ret;

	while (sstream->size == UOFF_T_MAX) {
		if (stream->stream_errno != 0)
			return -1;
		ret = i_stream_spool_fill(sstream, sstream->source->v_offset);
		if (ret <= 0)
			return ret;
	}
	return 1;
}

void i_stream_spool_set_size(struct istream *stream, uoff_t size)
{
	struct spool_istream *sstream =
		container_of(stream->real_stream, struct spool_istream, istream);

	sstream->size = size;
}

bool i_stream_spool_is_detached(struct istream *stream)
{
	struct spool_istream *sstream =
		container_of(stream->real_stream, struct spool_istream, istream);

	return sstream->source == NULL;
}

void i_stream_spool_hide(struct istream *stream, bool hide)
{
	struct spool_istream *sstream =
		container_of(stream->real_stream, struct spool_istream, istream);

	i_stream_spool_seek(&sstream->istream, 0, FALSE);
	sstream->hidden = hide;
	stream->eof = FALSE;
	/* tells the streams over this one that their data is gone */
	i_stream_seek(stream, 0);
}
