/* Encrypts a mail on its way to the storage. */

#include "compat.h"
#include "ostream-private.h"

#include "ostream-mail-crypt.h"

struct mail_crypt_ostream {
	struct ostream_private ostream;

	struct mcrs_writer *writer;
	bool *refused;

	/* what the parent hasn't taken yet; the writer's memory */
	const unsigned char *pending;
	size_t pending_size;
	bool ended:1;
};

static void
o_stream_mail_crypt_fail(struct mail_crypt_ostream *cstream,
			 const struct mcrs_error *error)
{
	io_stream_set_error(&cstream->ostream.iostream, "mail_crypt: %s",
			    error->text);
	cstream->ostream.ostream.stream_errno = EIO;
}

/* Returns 1 if the parent took everything, 0 if not yet, -1 on error. */
static int
o_stream_mail_crypt_send_pending(struct mail_crypt_ostream *cstream)
{
	ssize_t ret;

	while (cstream->pending_size > 0) {
		ret = o_stream_send(cstream->ostream.parent, cstream->pending,
				    cstream->pending_size);
		if (ret < 0) {
			o_stream_copy_error_from_parent(&cstream->ostream);
			return -1;
		}
		if (ret == 0)
			return 0;
		cstream->pending += ret;
		cstream->pending_size -= ret;
	}
	return 1;
}

static ssize_t
o_stream_mail_crypt_sendv(struct ostream_private *stream,
			  const struct const_iovec *iov, unsigned int iov_count)
{
	struct mail_crypt_ostream *cstream =
		container_of(stream, struct mail_crypt_ostream, ostream);
	struct mcrs_error error;
	ssize_t bytes = 0;
	unsigned int i;
	int ret = 1;

	for (i = 0; i < iov_count && ret > 0; i++) {
		if ((ret = o_stream_mail_crypt_send_pending(cstream)) <= 0)
			break;
		if (mcrs_writer_update(cstream->writer, iov[i].iov_base,
				       iov[i].iov_len, &cstream->pending,
				       &cstream->pending_size, &error) < 0) {
			o_stream_mail_crypt_fail(cstream, &error);
			return -1;
		}
		if (mcrs_writer_refused(cstream->writer, &error) < 0)
			*cstream->refused = TRUE;
		bytes += iov[i].iov_len;
		ret = o_stream_mail_crypt_send_pending(cstream);
	}
	if (ret < 0)
		return -1;
	stream->ostream.offset += bytes;
	return bytes;
}

static int o_stream_mail_crypt_flush(struct ostream_private *stream)
{
	struct mail_crypt_ostream *cstream =
		container_of(stream, struct mail_crypt_ostream, ostream);
	struct mcrs_error error;
	int ret;

	if ((ret = o_stream_mail_crypt_send_pending(cstream)) <= 0)
		return ret;
	if (stream->finished && !cstream->ended && !*cstream->refused) {
		cstream->ended = TRUE;
		if (mcrs_writer_finish(cstream->writer, &cstream->pending,
				       &cstream->pending_size, &error) < 0) {
			o_stream_mail_crypt_fail(cstream, &error);
			return -1;
		}
		if ((ret = o_stream_mail_crypt_send_pending(cstream)) <= 0)
			return ret;
	}
	return o_stream_flush_parent(stream);
}

static void
o_stream_mail_crypt_close(struct iostream_private *stream, bool close_parent)
{
	struct mail_crypt_ostream *cstream =
		container_of(stream, struct mail_crypt_ostream, ostream.iostream);

	mcrs_writer_free(&cstream->writer);
	cstream->pending_size = 0;
	if (close_parent)
		o_stream_close(cstream->ostream.parent);
}

static size_t
o_stream_mail_crypt_get_buffer_used_size(const struct ostream_private *stream)
{
	const struct mail_crypt_ostream *cstream =
		(const struct mail_crypt_ostream *)stream;

	return cstream->pending_size +
		o_stream_get_buffer_used_size(stream->parent);
}

static size_t
o_stream_mail_crypt_get_buffer_avail_size(const struct ostream_private *stream)
{
	return o_stream_get_buffer_avail_size(stream->parent);
}

struct ostream *
o_stream_create_mail_crypt(struct ostream *output, struct mcrs_writer **writer,
			   bool *refused_r)
{
	struct mail_crypt_ostream *cstream;

	*refused_r = FALSE;
	cstream = i_new(struct mail_crypt_ostream, 1);
	cstream->writer = *writer;
	cstream->refused = refused_r;
	*writer = NULL;
	cstream->ostream.sendv = o_stream_mail_crypt_sendv;
	cstream->ostream.flush = o_stream_mail_crypt_flush;
	cstream->ostream.get_buffer_used_size =
		o_stream_mail_crypt_get_buffer_used_size;
	cstream->ostream.get_buffer_avail_size =
		o_stream_mail_crypt_get_buffer_avail_size;
	cstream->ostream.iostream.close = o_stream_mail_crypt_close;
	return o_stream_create(&cstream->ostream, output,
			       o_stream_get_fd(output));
}
