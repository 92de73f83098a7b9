#ifndef SPOOL_CACHE_H
#define SPOOL_CACHE_H

struct mail;
struct mailbox;

/* Remembers the last spooled stream for a minute: a client that reads a large mail in pieces opens
   it for each of them. Zeroed before first use. */
struct spool_cache {
	struct timeout *to;
	struct mailbox *box;
	uint32_t uid;
	/* offset of the MIME part, where only that was spooled */
	uoff_t part_offset;
	bool with_header;

	struct istream *stream;
};

/* Returns the spooled stream, at its beginning, or NULL. */
struct istream *
spool_cache_lookup(const struct spool_cache *cache, const struct mail *mail,
		   uoff_t part_offset, bool with_header);

/* Replaces what is remembered, and references stream. Nothing happens for a mail without a uid. */
void spool_cache_set(struct spool_cache *cache, const struct mail *mail,
		     uoff_t part_offset, bool with_header, struct istream *stream);

/* The mail is about to be closed, and what its stream reads from with it: forgets the stream if it
   still needs that. */
void spool_cache_mail_close(struct spool_cache *cache, const struct mail *mail);

void spool_cache_mailbox_close(struct spool_cache *cache, const struct mailbox *box);

void spool_cache_clear(struct spool_cache *cache);

#endif
