#ifndef MAIL_CRYPT_CACHE_H
#define MAIL_CRYPT_CACHE_H

/* What is remembered of mails in Dovecot's index cache. */

#pragma GCC visibility push(hidden)

/* Before anything is asked of a mailbox's cache. */
void mail_crypt_cache_check(struct mailbox *box);

/* Hands over to the stream what one of its fields has about the mail. */
void mail_crypt_cache_lookup(struct mail *mail, struct istream *stream,
			     size_t field);
/* Remembers what the stream has found out, now that the mail was verified. */
void mail_crypt_cache_add(struct mail *mail, struct istream *stream);

/* Is it known that this mail was encrypted when it was read before? What isn't known says nothing. */
bool mail_crypt_cache_knows(struct mail *mail);

#pragma GCC visibility pop

#endif
