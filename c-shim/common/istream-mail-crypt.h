#ifndef ISTREAM_MAIL_CRYPT_H
#define ISTREAM_MAIL_CRYPT_H

struct mailbox;
struct mcrs_reader;
struct mcrs_error;

/* Returns what is known of the file that is to be decrypted. */
struct mcrs_file i_stream_mail_crypt_file(struct istream *input);
/* Returns a stream of what reader, which it takes over, makes of seekable input. Nothing is read
   yet. box is the mailbox of a mail, else NULL; it must stay open until
   i_stream_mail_crypt_open() has returned 1 or -1. */
struct istream *
i_stream_create_mail_crypt(struct istream *input, struct mcrs_reader **reader,
			   struct mailbox *box);

/* Hands over what the index cache has of this mail in a field (MCRS_CACHE_*), before anything is
   read. */
void i_stream_mail_crypt_set_cached(struct istream *stream, size_t field,
				    const void *entry, size_t size);
/* Returns TRUE if the index cache's field should get an entry, which is the stream's memory. */
bool i_stream_mail_crypt_get_cacheable(struct istream *stream, size_t field,
				       const unsigned char **entry_r,
				       size_t *size_r);

/* Reads and verifies the whole mail, or only its header if it was verified before. Returns 1 if it
   may be served, 0 if input has to be waited for, -1 if the mail can't be read (the stream is then
   in error). */
int i_stream_mail_crypt_open(struct istream *stream, struct mcrs_error *error_r);
/* Is the mail that is now open encrypted once more? Returns 0 if it isn't, or wasn't when it was
   looked at before, and -1 if it can't be served (the stream is then in error). */
int i_stream_mail_crypt_check_twice(struct istream *stream,
				    struct mcrs_error *error_r);
/* The same for any stream of a decrypted mail, at its beginning. */
int i_stream_check_twice(struct istream *stream, struct mcrs_error *error_r);
/* After that has failed: TRUE if only this mail is at fault, and others of the user can be read. */
bool i_stream_mail_crypt_failed_alone(struct istream *stream);

#endif
