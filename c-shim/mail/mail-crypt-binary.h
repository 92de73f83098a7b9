#ifndef MAIL_CRYPT_BINARY_H
#define MAIL_CRYPT_BINARY_H

#include "spool-cache.h"

struct message_part;

/* A MIME part as IMAP's BINARY (RFC 3516) gives it. */
struct mail_crypt_binary {
	uoff_t size;
	unsigned int lines;
	/* something was decoded; the client may get NULs */
	bool converted:1;
	bool binary:1;
};

/* The last decoded part. Zeroed before first use. */
struct mail_crypt_binary_cache {
	struct spool_cache spool;
	struct mail_crypt_binary found;
};

/* Decodes a part of mail, which may be an istream in *stream_r (NULL: only the rest is wanted).
   Dovecot's own way keeps what is decoded in plaintext in a temporary file. Returns 0, or -1 and
   sets the storage's error. */
int mail_crypt_get_binary(struct mail_crypt_binary_cache *cache, struct mail *mail,
			  const struct message_part *part, bool with_header,
			  struct mail_crypt_binary *found_r, struct istream **stream_r);

#endif
