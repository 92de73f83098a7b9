#ifndef OSTREAM_MAIL_CRYPT_H
#define OSTREAM_MAIL_CRYPT_H

struct mcrs_writer;

/* Returns a stream that passes a mail through writer, which it takes over. *refused_r becomes TRUE once
   the mail must not be stored, and has to live as long as the stream. */
struct ostream *
o_stream_create_mail_crypt(struct ostream *output, struct mcrs_writer **writer,
			   bool *refused_r);

#endif
