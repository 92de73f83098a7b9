/* Unpacks compressed mail in place of the compression plugin. */

#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "compat.h"
#include "istream.h"
#include "index-mail.h"

#include "istream-mail-crypt.h"
#include "istream-spool.h"
#include "mail-crypt-plugin-private.h"

#include <dlfcn.h>

typedef typeof(compression_lookup_handler) lookup_t;

/* The handlers are in the compression plugin: where it isn't loaded, there are none. */
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
static void
mail_crypt_unpacked(struct istream *spool, struct istream **stream,
		    struct istream **spool_r)
{
	i_stream_unref(stream);
	*stream = i_stream_create_limit(spool, UOFF_T_MAX);
	*spool_r = spool;
}

bool mail_crypt_unpack_again(struct mail *mail, struct istream **stream,
			     struct istream **spool_r)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	struct istream *spool = spool_cache_lookup(&muser->unpacked, mail, 0, TRUE);

	if (spool == NULL)
		return FALSE;
	mail_crypt_unpacked(spool, stream, spool_r);
	return TRUE;
}

/* Whoever wants more than the header gets all of it or an error now: a client that was told the
   size of a mail can't be told of an error any more. Returns 0, or -1 and sets error_r. */
static int
mail_crypt_unpack_check(struct mail *mail, struct istream *spool,
			struct mcrs_error *error_r)
{
	const struct index_mail *imail = INDEX_MAIL(mail);

	if ((imail->data.wanted_fields & MAIL_FETCH_STREAM_BODY) != 0)
		(void)i_stream_spool_complete(spool);
	else
		(void)i_stream_read(spool);
	if (spool->stream_errno == 0)
		return i_stream_check_twice(spool, error_r);
	mail_crypt_error_set(error_r, "Mail is damaged and can't be decompressed",
			     "the mail can't be decompressed: %s",
			     i_stream_get_error(spool));
	error_r->only_this_mail = TRUE;
	return -1;
}

int mail_crypt_unpack(struct mail *mail, struct istream **stream,
		      struct istream **spool_r, struct mcrs_error *error_r)
{
	struct mail_crypt_user *muser =
		MAIL_CRYPT_USER_CONTEXT(mail->box->storage->user);
	const struct compression_handler *handler = mail_crypt_detect(mail, *stream);
	struct istream *input, *spool;
	int ret;

	/* for a format that isn't supported: the plugin says so */
	if (handler == NULL || handler->create_istream == NULL)
		return 0;

	e_debug(muser->event, "mailbox %s: UID %u is compressed with %s",
		mailbox_get_vname(mail->box), mail->uid, handler->name);
	input = compat_decompress(handler, *stream);
	i_stream_set_name(input, t_strdup_printf("%s(%s)", handler->name,
						 i_stream_get_name(*stream)));
	spool = mail_crypt_spool(mail->box->storage->user, input);
	i_stream_unref(&input);

	ret = mail_crypt_unpack_check(mail, spool, error_r);
	if (ret == 0) {
		spool_cache_set(&muser->unpacked, mail, 0, TRUE, spool);
		mail_crypt_unpacked(spool, stream, spool_r);
	}
	i_stream_unref(&spool);
	return ret;
}
