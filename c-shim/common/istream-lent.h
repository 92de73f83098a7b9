#ifndef ISTREAM_LENT_H
#define ISTREAM_LENT_H

/* What streams have in common whose buffer the core lends. It changes only when read() returns more, so such a stream
   is created with ISTREAM_CREATE_FLAG_NOOP_SNAPSHOT. */

#include "istream-private.h"

struct mcrs_error;

#pragma GCC visibility push(hidden)

/* Sets what is alike in all of them; the caller sets the rest. input is what the stream reads from. */
void i_stream_lent_init(struct istream_private *stream, struct istream *input);

/* Returns 1 if read() has to get what is at *next_r, before size, the stream's end. Otherwise returns what read() has
   to return. */
int i_stream_lent_next(struct istream_private *stream, uoff_t size,
		       uoff_t *next_r);
/* Has the stream serve what the core lends, which begins with what wasn't consumed yet. Returns what read() has to
   return. */
ssize_t i_stream_lent_serve(struct istream_private *stream,
			    const unsigned char *data, size_t size);
/* Forgets what the stream was lent. This is also its seek(). */
void i_stream_lent_seek(struct istream_private *stream, uoff_t v_offset,
			bool mark);

/* Put the stream into error, and return -1. */
int i_stream_lent_fail(struct istream_private *stream, int stream_errno,
		       const struct mcrs_error *error);
int i_stream_lent_fail_from(struct istream_private *stream,
			    struct istream *input);

#pragma GCC visibility pop

#endif
