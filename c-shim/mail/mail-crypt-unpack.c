/* Unpacks compressed mail in place of the compression plugin. */

#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "compat.h"
#include "str.h"
#include "istream.h"
#include "index-mail.h"
#include "mail-storage-private.h"

#include "istream-spool.h"
#include "spool-cache.h"
#include "mail-crypt-unpack.h"

#include <dlfcn.h>

typedef typeof(compression_lookup_handler) lookup_t;

/* The compression plugin brings its handlers with it: where it isn't loaded, there are none. */
static const struct compression_handler *
mail_crypt_detect(struct mail *mail, struct istream *stream)
{
	enum mail_storage_class_flags flags = mail->box->storage->class_flags;
	void *detect;
	bool active;

	if ((flags & MAIL_STORAGE_CLASS_FLAG_OPEN_STREAMS) != 0 ||
	    (flags & MAIL_STORAGE_CLASS_FLAG_BINARY_DATA) == 0)
		return NULL;
	T_BEGIN {
		active = compat_user_has_plugin(mail->box->storage->user,
						COMPAT_COMPRESS_PLUGIN);
	} T_END;
	if (!active)
		return NULL;
	detect = dlsym(RTLD_DEFAULT, "compression_detect_handler");
	return detect == NULL ? NULL : compat_compression_detect(detect, stream);
}

bool mail_crypt_is_packed(struct mail *mail, struct istream *stream)
{
	return mail_crypt_detect(mail, stream) != NULL;
}

bool mail_crypt_packs(struct mail_user *user)
{
	const char *name = compat_compress_method(user);
	const struct compression_handler *handler;
	lookup_t *lookup;

	if (name == NULL || *name == '\0')
		return FALSE;
	lookup = (lookup_t *)dlsym(RTLD_DEFAULT, "compression_lookup_handler");
	return lookup != NULL && lookup(name, &handler) > 0;
}

/* The spool may outlive the mail, but index-mail wants the mail's own stream to end with it. */
static struct istream *
mail_crypt_unpacked(struct istream *spool, struct istream **spool_r)
{
	*spool_r = spool;
	return i_stream_create_limit(spool, UOFF_T_MAX);
}

bool mail_crypt_unpack_again(struct spool_cache *cache, struct mail *mail,
			     struct istream **stream, struct istream **spool_r)
{
	struct istream *spool = spool_cache_lookup(cache, mail, 0, TRUE);

	if (spool == NULL)
		return FALSE;
	i_stream_unref(stream);
	*stream = mail_crypt_unpacked(spool, spool_r);
	return TRUE;
}

static void
mail_crypt_unpack_fail(struct istream *spool, struct mcrs_error *error_r)
{
	i_zero(error_r);
	(void)i_snprintf(error_r->text, sizeof(error_r->text),
			 "the mail can't be decompressed: %s",
			 i_stream_get_error(spool));
	(void)i_snprintf(error_r->client, sizeof(error_r->client),
			 "Mail is damaged and can't be decompressed");
}

int mail_crypt_unpack(struct spool_cache *cache, struct mail *mail,
		      struct istream **stream, struct istream **spool_r,
		      struct mcrs_error *error_r)
{
	const struct compression_handler *handler = mail_crypt_detect(mail, *stream);
	const struct index_mail *imail = INDEX_MAIL(mail);
	struct istream *input, *spool;
	string_t *prefix;

	/* the plugin says which support is missing */
	if (handler == NULL || handler->create_istream == NULL)
		return 0;

	input = compat_decompress(handler, *stream);
	i_stream_set_name(input, t_strdup_printf("%s(%s)", handler->name,
						 i_stream_get_name(*stream)));
	prefix = t_str_new(128);
	mail_user_set_get_temp_prefix(prefix, mail->box->storage->user->set);
	spool = i_stream_create_spool(input, str_c(prefix));
	i_stream_unref(&input);

	/* Who wants more than the header gets all of it or an error now; a client that was told the
	   size of a mail can't be told of an error any more. */
	if ((imail->data.wanted_fields & MAIL_FETCH_STREAM_BODY) != 0)
		(void)i_stream_spool_complete(spool);
	else
		(void)i_stream_read(spool);
	if (spool->stream_errno != 0) {
		mail_crypt_unpack_fail(spool, error_r);
		i_stream_unref(&spool);
		return -1;
	}
	spool_cache_set(cache, mail, 0, TRUE, spool);
	i_stream_unref(stream);
	*stream = mail_crypt_unpacked(spool, spool_r);
	i_stream_unref(&spool);
	return 1;
}
