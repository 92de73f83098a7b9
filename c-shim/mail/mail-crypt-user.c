/* A session of the core's for each user. */

#include "compat.h"
#include "mail-storage-private.h"

#include "spool-cache.h"
#include "mail-crypt-plugin-private.h"

struct mail_crypt_user_module mail_crypt_user_module =
	MODULE_CONTEXT_INIT(&mail_user_module_register);

struct mcrs_user *mail_crypt_user_get(struct mail_user *user)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	return muser == NULL ? NULL : muser->user;
}

void mail_crypt_user_scan(struct mail_user *user, mail_crypt_scan_t *scan,
			  void *context)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	if (muser != NULL) {
		muser->scan = scan;
		muser->scan_context = context;
	}
}

static void mail_crypt_user_deinit(struct mail_user *user)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	spool_cache_clear(&muser->unpacked);
	spool_cache_clear(&muser->binary.spool);
	muser->module_ctx.super.deinit(user);
	mcrs_user_free(&muser->user);
}

/* Dovecot refuses to go on with a user in error. */
static void
mail_crypt_user_fail(struct mail_user *user, const struct mcrs_error *error)
{
	user->error = p_strdup_printf(user->pool, "mail_crypt: %s", error->text);
}

void mail_crypt_user_created(struct mail_user *user)
{
	struct mail_user_vfuncs *v = user->vlast;
	struct mail_crypt_user *muser;
	struct compat_settings *set;
	struct mcrs_error error;
	int ret;

	/* Dovecot's own, for mail that isn't stored yet and for the owners of shared folders: all is done
	   with the keys of a user who has logged in or gets mail */
	if (user->autocreated)
		return;

	muser = p_new(user->pool, struct mail_crypt_user, 1);
	set = compat_settings_get(user);
	ret = mcrs_user_new(user, compat_setting_lookup, set,
			    &muser->user, &error);
	compat_settings_free(&set);
	if (ret < 0) {
		mail_crypt_user_fail(user, &error);
		return;
	}
	muser->module_ctx.super = *v;
	user->vlast = &muser->module_ctx.super;
	v->deinit = mail_crypt_user_deinit;
	MODULE_CONTEXT_SET(user, mail_crypt_user_module, muser);
}

/* Not every user has mailboxes: programs that only compile a script or read the configuration have one
   without userdb, whose settings may be in userdb alone. */
void mail_crypt_namespaces_created(struct mail_namespace *namespaces)
{
	struct mail_user *user = namespaces->user;
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);
	struct mcrs_error error;

	if (muser != NULL && mcrs_user_check(muser->user, &error) < 0)
		mail_crypt_user_fail(user, &error);
}
