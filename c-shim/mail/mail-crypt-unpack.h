#ifndef MAIL_CRYPT_UNPACK_H
#define MAIL_CRYPT_UNPACK_H

struct mail;
struct mail_user;
struct mcrs_error;
struct spool_cache;

/* Does with a decrypted mail what the compression plugin would do, which keeps a large mail in
   plaintext in a temporary file. Returns 1 if *stream was replaced by the unpacked mail, 0 if there
   is nothing to unpack, -1 if it can't be unpacked. *spool_r is what *stream reads from. */
int mail_crypt_unpack(struct spool_cache *cache, struct mail *mail,
		      struct istream **stream, struct istream **spool_r,
		      struct mcrs_error *error_r);

/* Replaces *stream by the mail if it was unpacked a moment ago. */
bool mail_crypt_unpack_again(struct spool_cache *cache, struct mail *mail,
			     struct istream **stream, struct istream **spool_r);

/* Returns TRUE if the compression plugin would unpack stream. */
bool mail_crypt_is_packed(struct mail *mail, struct istream *stream);

/* Returns TRUE if the compression plugin compresses what is saved. If it doesn't, it looks at each
   mail that was saved, which it then must see as it is. */
bool mail_crypt_packs(struct mail_user *user);

#endif
