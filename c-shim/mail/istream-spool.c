/* Makes a stream seekable that can't go back, or only at a price. So does istream-seekable, but what this one puts on
   the disk is encrypted. */

#include "compat.h"
#include "str.h"
#include "safe-mkstemp.h"

#include "istream-lent.h"
#include "istream-spool.h"

#include <unistd.h>

#define SPOOL_ISTREAM(ptr) container_of((ptr), struct spool_istream, istream)

struct spool_istream {
	struct istream_private istream;

	struct istream *source;
	struct mcrs_spool *spool;
	char *temp_prefix;
	/* UOFF_T_MAX until the source's end was seen */
	uoff_t size;
	bool hidden:1;
};

static int
i_stream_spool_fail(struct spool_istream *sstream, const struct mcrs_error *error)
{
	return i_stream_lent_fail(&sstream->istream, EIO, error);
}

/* Gives the core a file, or says why there is none. Returns 0, or -1 and sets error_r. */
static int
i_stream_spool_add_file(struct spool_istream *sstream, struct mcrs_error *error_r)
{
	string_t *path = t_str_new(256);
	const char *why = NULL;
	int fd;

	str_append(path, sstream->temp_prefix);
	fd = safe_mkstemp_hostpid(path, 0600, (uid_t)-1, (gid_t)-1);
	if (fd == -1)
		why = t_strdup_printf("safe_mkstemp(%s) failed: %m", str_c(path));
	else if (unlink(str_c(path)) < 0) {
		why = t_strdup_printf("unlink(%s) failed: %m", str_c(path));
		i_close_fd(&fd);
	}
	return mcrs_spool_set_file(sstream->spool, fd, why, error_r);
}

/* Has the core take what the source has. Returns 1, or -1 on error. */
static int
i_stream_spool_take(struct spool_istream *sstream, const unsigned char *data, size_t size)
{
	struct mcrs_error error;
	size_t taken;
	int ret;

	while ((ret = mcrs_spool_take(sstream->spool, sstream->source->v_offset,
				      data, size, &taken, &error)) == 0) {
		T_BEGIN {
			ret = i_stream_spool_add_file(sstream, &error);
		} T_END;
		if (ret < 0)
			break;
	}
	if (ret < 0)
		return i_stream_spool_fail(sstream, &error);
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
		if (source->stream_errno != 0)
			return i_stream_lent_fail_from(&sstream->istream, source);
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
	struct spool_istream *sstream = SPOOL_ISTREAM(stream);
	struct mcrs_error error;
	const unsigned char *data;
	uint64_t wanted;
	uoff_t next;
	size_t size;
	int ret;

	for (;;) {
		ret = i_stream_lent_next(stream, sstream->hidden ? 0 : sstream->size,
					 &next);
		if (ret < 0)
			return ret;
		ret = mcrs_spool_read(sstream->spool, stream->istream.v_offset, next,
				      &data, &size, &wanted, &error);
		if (ret > 0)
			return i_stream_lent_serve(stream, data, size);
		if (ret < 0)
			return i_stream_spool_fail(sstream, &error);
		if ((ret = i_stream_spool_fill(sstream, wanted)) <= 0)
			return ret;
	}
}

static int
i_stream_spool_stat(struct istream_private *stream, bool exact ATTR_UNUSED)
{
	struct spool_istream *sstream = SPOOL_ISTREAM(stream);

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

	i_stream_lent_init(&sstream->istream, source);
	sstream->istream.max_buffer_size = i_stream_get_max_buffer_size(source);
	sstream->istream.iostream.destroy = i_stream_spool_destroy;
	sstream->istream.read = i_stream_spool_read;
	sstream->istream.stat = i_stream_spool_stat;
	stream = compat_i_stream_create_over(&sstream->istream, source,
					     ISTREAM_CREATE_FLAG_NOOP_SNAPSHOT);
	i_stream_set_name(stream, i_stream_get_name(source));
	if (mcrs_spool_new(&sstream->spool, &error) < 0)
		(void)i_stream_spool_fail(sstream, &error);
	return stream;
}

int i_stream_spool_complete(struct istream *stream)
{
	struct spool_istream *sstream = SPOOL_ISTREAM(stream->real_stream);
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
	struct spool_istream *sstream = SPOOL_ISTREAM(stream->real_stream);

	sstream->size = size;
}

bool i_stream_spool_is_detached(struct istream *stream)
{
	struct spool_istream *sstream = SPOOL_ISTREAM(stream->real_stream);

	return sstream->source == NULL;
}

void i_stream_spool_hide(struct istream *stream, bool hide)
{
	struct spool_istream *sstream = SPOOL_ISTREAM(stream->real_stream);

	i_stream_lent_seek(&sstream->istream, 0, FALSE);
	sstream->hidden = hide;
	stream->eof = FALSE;
	/* tells the streams over this one that their data is gone */
	i_stream_seek(stream, 0);
}
