/* Decodes MIME parts for IMAP's BINARY without a plaintext temporary file.

   A part is put together from pieces: decoded bodies, headers that say so, and everything between
   them as it is but for its linefeeds. */

#include "compat.h"
#include "istream.h"
#include "istream-base64.h"
#include "istream-concat.h"
#include "istream-crlf.h"
#include "istream-header-filter.h"
#include "istream-qp.h"
#include "message-decoder.h"
#include "message-header-parser.h"
#include "message-part.h"

#include "istream-spool.h"
#include "mail-crypt-plugin-private.h"

struct binary_pieces {
	struct mail *mail;
	struct istream *input;
	ARRAY(struct istream *) streams;
	/* nothing before this offset is needed any more */
	uoff_t done;
	bool converted, has_nuls;
};

static uoff_t body_offset(const struct message_part *part)
{
	return part->physical_pos + part->header_size.physical_size;
}

static uoff_t end_offset(const struct message_part *part)
{
	return body_offset(part) + part->body_size.physical_size;
}

static struct istream *
binary_piece(struct binary_pieces *pieces, uoff_t start, uoff_t end)
{
	i_stream_seek(pieces->input, start);
	return i_stream_create_limit(pieces->input, end - start);
}

/* Consumes *piece. */
static void binary_add(struct binary_pieces *pieces, struct istream *stream,
		       struct istream **piece, uoff_t end)
{
	i_stream_unref(piece);
	array_push_back(&pieces->streams, &stream);
	pieces->done = end;
}

/* Adds what comes before end as it is. */
static void binary_add_rest(struct binary_pieces *pieces, uoff_t end)
{
	struct istream *piece;

	if (pieces->done >= end)
		return;
	piece = binary_piece(pieces, pieces->done, end);
	binary_add(pieces, i_stream_create_crlf(piece), &piece, end);
}

static int
binary_get_encoding(struct binary_pieces *pieces, const struct message_part *part,
		    enum message_cte *cte_r)
{
	struct message_header_parser_ctx *parser;
	struct message_header_line *hdr;
	struct message_size size;
	int ret;

	*cte_r = MESSAGE_CTE_78BIT;
	i_stream_seek(pieces->input, part->physical_pos);
	parser = message_parse_header_init(pieces->input, &size, 0);
	while ((ret = message_parse_header_next(parser, &hdr)) > 0) {
		if (strcasecmp(hdr->name, "Content-Transfer-Encoding") != 0)
			continue;
		if (hdr->continues)
			hdr->use_full_value = TRUE;
		else
			*cte_r = message_decoder_parse_cte(hdr);
	}
	i_assert(ret < 0);
	if (message_parse_header_has_nuls(parser))
		pieces->has_nuls = TRUE;
	message_parse_header_deinit(&parser);

	if (pieces->input->stream_errno != 0) {
		mail_set_critical(pieces->mail, "read(%s) failed: %s",
				  i_stream_get_name(pieces->input),
				  i_stream_get_error(pieces->input));
		return -1;
	}
	if (*cte_r == MESSAGE_CTE_UNKNOWN) {
		mail_storage_set_error(pieces->mail->box->storage,
				       MAIL_ERROR_CONVERSION,
				       "Unknown Content-Transfer-Encoding.");
		return -1;
	}
	return 0;
}

static void
binary_header_line(struct header_filter_istream *input,
		   struct message_header_line *hdr,
		   bool *matched ATTR_UNUSED, void *context ATTR_UNUSED)
{
	static const char encoding[] = "Content-Transfer-Encoding: binary\r\n";

	if (hdr != NULL && hdr->eoh)
		i_stream_header_filter_add(input, encoding, sizeof(encoding) - 1);
}

static void
binary_add_header(struct binary_pieces *pieces, const struct message_part *part)
{
	static const char *const replaced[] = { "Content-Transfer-Encoding" };
	struct istream *piece;

	binary_add_rest(pieces, part->physical_pos);
	piece = binary_piece(pieces, part->physical_pos, body_offset(part));
	binary_add(pieces, i_stream_create_header_filter(piece,
			HEADER_FILTER_EXCLUDE | HEADER_FILTER_HIDE_BODY,
			replaced, N_ELEMENTS(replaced), binary_header_line, NULL),
		   &piece, body_offset(part));
}

static void
binary_add_decoded(struct binary_pieces *pieces, const struct message_part *part,
		   enum message_cte cte)
{
	struct istream *piece;

	binary_add_rest(pieces, body_offset(part));
	piece = binary_piece(pieces, body_offset(part), end_offset(part));
	binary_add(pieces, cte == MESSAGE_CTE_QP ?
		   i_stream_create_qp_decoder(piece) :
		   i_stream_create_base64_decoder(piece),
		   &piece, end_offset(part));
	pieces->converted = TRUE;
}

static int
binary_add_part(struct binary_pieces *pieces, const struct message_part *part,
		bool with_header)
{
	const struct message_part *child;
	enum message_cte cte;
	bool decode;

	if (binary_get_encoding(pieces, part, &cte) < 0)
		return -1;
	decode = (cte == MESSAGE_CTE_QP || cte == MESSAGE_CTE_BASE64) &&
		part->children == NULL && part->body_size.physical_size > 0;
	if (!with_header)
		pieces->done = body_offset(part);
	else if (decode)
		binary_add_header(pieces, part);

	if (decode)
		binary_add_decoded(pieces, part, cte);
	else if (part->children == NULL &&
		 (part->flags & MESSAGE_PART_FLAG_HAS_NULS) != 0)
		pieces->has_nuls = TRUE;
	for (child = part->children; child != NULL; child = child->next) {
		if (binary_add_part(pieces, child, TRUE) < 0)
			return -1;
	}
	return 0;
}

/* Returns 0 and sets *stream_r, which reads from *input_r, or -1 and sets the storage's error. */
static int
binary_open(struct mail *mail, const struct message_part *part, bool with_header,
	    struct mail_crypt_binary *found_r, struct istream **input_r,
	    struct istream **stream_r)
{
	struct binary_pieces pieces;
	struct istream *stream, *source;
	int ret;

	i_zero(&pieces);
	pieces.mail = mail;
	pieces.done = part->physical_pos;
	t_array_init(&pieces.streams, 8);
	if (mail_get_stream_because(mail, NULL, NULL, "binary stream", &pieces.input) < 0)
		return -1;
	*input_r = pieces.input;

	ret = binary_add_part(&pieces, part, with_header);
	if (ret == 0) {
		binary_add_rest(&pieces, end_offset(part));
		if (array_count(&pieces.streams) == 0) {
			stream = i_stream_create_from_data("", 0);
			array_push_back(&pieces.streams, &stream);
		}
		array_append_zero(&pieces.streams);
		source = i_stream_create_concat(array_front_modifiable(&pieces.streams));
		array_pop_back(&pieces.streams);
		i_stream_set_name(source, t_strdup_printf("binary(%s)",
			i_stream_get_name(pieces.input)));

		*stream_r = mail_crypt_spool(mail->box->storage->user, source);
		i_stream_unref(&source);
	}
	array_foreach_elem(&pieces.streams, stream)
		i_stream_unref(&stream);

	i_zero(found_r);
	found_r->converted = pieces.converted;
	found_r->binary = pieces.converted || pieces.has_nuls;
	return ret;
}

/* Reads all of it, so that nothing can go wrong once the client was told the size. Returns 0, or -1 and sets the
   storage's error. */
static int
binary_measure(struct mail *mail, struct istream *input, struct istream *stream,
	       struct mail_crypt_binary *found)
{
	const unsigned char *data, *end;
	size_t size;

	while (i_stream_read_more(stream, &data, &size) > 0) {
		for (end = data + size; (data = memchr(data, '\n', end - data)) != NULL; data++)
			found->lines++;
		i_stream_skip(stream, size);
	}
	if (stream->stream_errno == EINVAL && input->stream_errno == 0) {
		mail_storage_set_error(mail->box->storage, MAIL_ERROR_INVALIDDATA,
				       "Invalid data in MIME part");
		return -1;
	}
	if (stream->stream_errno != 0) {
		mail_set_critical(mail, "read(%s) failed: %s",
				  i_stream_get_name(stream), i_stream_get_error(stream));
		return -1;
	}
	found->size = stream->v_offset;
	return 0;
}

static int
binary_decode(struct mail_crypt_user *muser, struct mail *mail,
	      const struct message_part *part, bool with_header,
	      struct mail_crypt_binary *found_r, struct istream **stream_r)
{
	struct mail_crypt_binary found;
	struct istream *input, *stream;

	if (binary_open(mail, part, with_header, &found, &input, &stream) < 0)
		return -1;
	if (binary_measure(mail, input, stream, &found) < 0) {
		i_stream_unref(&stream);
		return -1;
	}
	*found_r = found;
	if (!i_stream_spool_is_detached(stream)) {
		/* no room to keep it: it has to be decoded once more */
		i_stream_unref(&stream);
		if (binary_open(mail, part, with_header, &found, &input, &stream) < 0)
			return -1;
		i_stream_spool_set_size(stream, found_r->size);
	} else if (mail->uid != 0) {
		spool_cache_set(&muser->decoded, mail, part->physical_pos, with_header, stream);
		muser->decoded_as = found;
	}
	i_stream_seek(stream, 0);
	*stream_r = stream;
	return 0;
}

int mail_crypt_get_binary(struct mail *mail, const struct message_part *part,
			  bool with_header, struct mail_crypt_binary *found_r,
			  struct istream **stream_r)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	struct istream *stream;

	stream = spool_cache_lookup(&muser->decoded, mail, part->physical_pos, with_header);
	if (stream != NULL) {
		i_stream_ref(stream);
		*found_r = muser->decoded_as;
	} else if (binary_decode(muser, mail, part, with_header, found_r, &stream) < 0)
		return -1;
	if (stream_r != NULL)
		*stream_r = i_stream_create_limit(stream, UOFF_T_MAX);
	i_stream_unref(&stream);
	return 0;
}
