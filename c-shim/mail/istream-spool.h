#ifndef ISTREAM_SPOOL_H
#define ISTREAM_SPOOL_H

/* Returns a seekable stream of source's data. What was read is kept: in memory, and above a
   megabyte encrypted in an unlinked file whose name begins with temp_prefix. Where there is no
   file to be had, going back seeks source, and fails if source can't. source must be at offset 0;
   it is referenced only as long as it is needed. */
struct istream *
i_stream_create_spool(struct istream *source, const char *temp_prefix);

/* Reads source to its end. Returns 1 if that was possible, 0 if source has to be waited for,
   -1 if source failed (the stream is then in error). */
int i_stream_spool_complete(struct istream *stream);

/* Says how much source has. Without that, whoever asks for the size has all of source read. If it isn't seekable, and
   nothing of it could be kept, it couldn't be read again. */
void i_stream_spool_set_size(struct istream *stream, uoff_t size);

/* Returns TRUE if source isn't needed any more, and not referenced. */
bool i_stream_spool_is_detached(struct istream *stream);

/* Goes to the beginning. The stream looks empty until it is called with FALSE. */
void i_stream_spool_hide(struct istream *stream, bool hide);

#endif
