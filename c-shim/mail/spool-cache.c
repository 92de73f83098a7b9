/* The last spooled stream of a user. */

#include "compat.h"
#include "ioloop.h"
#include "istream.h"
#include "mail-storage.h"

#include "istream-spool.h"
#include "spool-cache.h"

#define SPOOL_CACHE_EXPIRE_MSECS (60 * 1000)

void spool_cache_clear(struct spool_cache *cache)
{
	timeout_remove(&cache->to);
	i_stream_unref(&cache->stream);
	i_zero(cache);
}

static bool
spool_cache_is_of(const struct spool_cache *cache, const struct mail *mail)
{
	return cache->stream != NULL && cache->box == mail->box &&
		cache->uid == mail->uid;
}

struct istream *
spool_cache_lookup(const struct spool_cache *cache, const struct mail *mail,
		   uoff_t part_offset, bool with_header)
{
	if (!spool_cache_is_of(cache, mail) ||
	    cache->part_offset != part_offset || cache->with_header != with_header ||
	    !i_stream_spool_is_detached(cache->stream) ||
	    cache->stream->stream_errno != 0)
		return NULL;
	i_stream_seek(cache->stream, 0);
	return cache->stream;
}

void spool_cache_set(struct spool_cache *cache, const struct mail *mail,
		     uoff_t part_offset, bool with_header, struct istream *stream)
{
	if (mail->uid == 0)
		return;

	i_stream_ref(stream);
	spool_cache_clear(cache);
	/* whoever opens the mail may do so in an ioloop that ends before the minute does */
	cache->to = timeout_add_to(io_loop_get_root(), SPOOL_CACHE_EXPIRE_MSECS,
				   spool_cache_clear, cache);
	cache->box = mail->box;
	cache->uid = mail->uid;
	cache->part_offset = part_offset;
	cache->with_header = with_header;
	cache->stream = stream;
}

void spool_cache_mail_close(struct spool_cache *cache, const struct mail *mail)
{
	if (spool_cache_is_of(cache, mail) &&
	    !i_stream_spool_is_detached(cache->stream))
		spool_cache_clear(cache);
}

void spool_cache_mailbox_close(struct spool_cache *cache, const struct mailbox *box)
{
	if (cache->stream != NULL && cache->box == box)
		spool_cache_clear(cache);
}
