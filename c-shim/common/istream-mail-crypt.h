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

/* Reads and verifies the whole mail, or only its header if it was verified before. Unless it is wanted as_stored, it
   must not be encrypted once more either. Returns 1 if it may be served, 0 if input has to be waited for, or -1 and
   sets error_r if it can't be served (the stream is then in error). */
int i_stream_mail_crypt_open(struct istream *stream, bool as_stored,
			     struct mcrs_error *error_r);
/* Is this decrypted mail, at its beginning, encrypted once more? Returns 0 if not, or -1 and sets error_r if so. */
int i_stream_check_twice(struct istream *stream, struct mcrs_error *error_r);
/* Once the mail is open: returns TRUE if the index cache should get *entry_r, the stream's memory, in this field, one
   of MCRS_READER_FIELDS. */
bool i_stream_mail_crypt_get_cacheable(struct istream *stream, size_t field,
				       struct mcrs_data *entry_r);

/* Sets an error of ours: a text for the log, and one for the client with what it may know. */
void mail_crypt_error_set(struct mcrs_error *error_r, const char *client,
			  const char *format, ...) ATTR_FORMAT(3, 4);
/* Sets the error of input, which may pass. */
void mail_crypt_error_set_read(struct mcrs_error *error_r, struct istream *input);

#endif
