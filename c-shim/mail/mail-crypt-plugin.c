/* The mail plugin's hooks, and what it keeps of users and mailboxes. */

#include "compat.h"
#include "module-dir.h"
#include "str.h"
#include "istream.h"
#include "mailbox-attribute.h"

#include "istream-spool.h"
#include "mail-crypt-plugin-private.h"

#define BOX_CRYPT_PREFIX MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT"crypt/"
#define USER_CRYPT_PREFIX \
	MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER \
	MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT"crypt/"

const char *mail_crypt_plugin_version = DOVECOT_ABI_VERSION;

struct mail_crypt_user_module mail_crypt_user_module =
	MODULE_CONTEXT_INIT(&mail_user_module_register);
struct mail_crypt_storage_module mail_crypt_storage_module =
	MODULE_CONTEXT_INIT(&mail_storage_module_register);
struct mail_crypt_outer_storage_module mail_crypt_outer_storage_module =
	MODULE_CONTEXT_INIT(&mail_storage_module_register);

enum mail_error mail_crypt_mail_error(const struct mcrs_error *error)
{
	return error->temporary ? MAIL_ERROR_TEMP : MAIL_ERROR_NOTPOSSIBLE;
}

void mail_crypt_box_fail(struct mailbox *box, const struct mcrs_error *error)
{
	mailbox_set_critical(box, "mail_crypt: %s", error->text);
	mail_storage_set_error(box->storage, mail_crypt_mail_error(error),
			       error->client);
}

struct istream *
mail_crypt_spool(struct mail_user *user, struct istream *source)
{
	string_t *prefix = t_str_new(128);

	mail_user_set_get_temp_prefix(prefix, user->set);
	return i_stream_create_spool(source, str_c(prefix));
}

bool mail_crypt_is_dbox(struct mailbox *box)
{
	return strcmp(box->storage->name, "sdbox") == 0 ||
		strcmp(box->storage->name, "mdbox") == 0;
}

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

void mail_crypt_user_look(struct mail_user *user, mail_crypt_look_t *look,
			  void *context)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	if (muser != NULL) {
		muser->look = look;
		muser->look_context = context;
	}
}

static void mail_crypt_user_deinit(struct mail_user *user)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);

	spool_cache_clear(&muser->unpacked);
	spool_cache_clear(&muser->decoded);
	muser->module_ctx.super.deinit(user);
	mcrs_user_free(&muser->user);
	event_unref(&muser->event);
}

/* Dovecot refuses to go on with a user in error. */
static void
mail_crypt_user_fail(struct mail_user *user, const struct mcrs_error *error)
{
	user->error = p_strdup_printf(user->pool, "mail_crypt: %s", error->text);
}

static void mail_crypt_user_created(struct mail_user *user)
{
	struct mail_user_vfuncs *v = user->vlast;
	struct mail_crypt_user *muser;
	struct compat_settings *set;
	struct mcrs_error error;
	int ret;

	/* Dovecot makes this one itself, for mail that isn't stored yet, or for the owner of a shared folder. Only
	   the keys of a user who logs in or gets mail are used. */
	if (user->autocreated)
		return;

	muser = p_new(user->pool, struct mail_crypt_user, 1);
	muser->event = event_create(user->event);
	event_set_append_log_prefix(muser->event, "mail_crypt: ");
	/* in 2.4 the user's own event is of the category "storage" */
	event_add_category(muser->event, &event_category_mail);
	set = compat_settings_get(user);
	ret = mcrs_user_new(user, muser->event, compat_setting_lookup, set,
			    &muser->user, &error);
	compat_settings_free(&set);
	if (ret < 0) {
		event_unref(&muser->event);
		mail_crypt_user_fail(user, &error);
		return;
	}
	muser->module_ctx.super = *v;
	user->vlast = &muser->module_ctx.super;
	v->deinit = mail_crypt_user_deinit;
	MODULE_CONTEXT_SET(user, mail_crypt_user_module, muser);
}

/* Not every user has mailboxes: a program that only compiles a script or reads the configuration makes one
   without userdb, where the settings may be. */
static void mail_crypt_namespaces_created(struct mail_namespace *namespaces)
{
	struct mail_user *user = namespaces->user;
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(user);
	struct mcrs_error error;

	if (muser != NULL && mcrs_user_check(muser->user, &error) < 0)
		mail_crypt_user_fail(user, &error);
}

static void mail_crypt_outer_close(struct mailbox *box)
{
	struct mail_crypt_user *muser = MAIL_CRYPT_USER_CONTEXT(box->storage->user);
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);

	spool_cache_mailbox_close(&muser->unpacked, box);
	spool_cache_mailbox_close(&muser->decoded, box);
	obox->module_ctx.super.close(box);
}

static void mail_crypt_outer_mailbox_allocated(struct mailbox *box)
{
	struct mailbox_vfuncs *v = box->vlast;
	struct mail_crypt_outer_box *obox;

	if (mail_crypt_user_get(box->storage->user) == NULL)
		return;

	obox = p_new(box->pool, struct mail_crypt_outer_box, 1);
	obox->module_ctx.super = *v;
	box->vlast = &obox->module_ctx.super;
	mail_crypt_outer_save_wrap(box, v);
	/* also where no mail is encrypted: mbox may have INBOX, and so the user's keys */
	v->get_metadata = mail_crypt_get_metadata;
	v->close = mail_crypt_outer_close;
	MODULE_CONTEXT_SET(box, mail_crypt_outer_storage_module, obox);
}

/* Hooked for every user of the process: users with and without mail_crypt may get the same delivery, and
   neither must get the other's kind of mail. */
static void mail_crypt_mailbox_allocated(struct mailbox *box)
{
	struct mailbox_vfuncs *v = box->vlast;
	struct mail_crypt_box *mbox;

	if ((box->storage->class_flags & MAIL_STORAGE_CLASS_FLAG_BINARY_DATA) == 0)
		return;

	mbox = p_new(box->pool, struct mail_crypt_box, 1);
	mbox->module_ctx.super = *v;
	box->vlast = &mbox->module_ctx.super;
	mail_crypt_save_wrap(v);
	mail_crypt_guid_wrap(v);
	MODULE_CONTEXT_SET(box, mail_crypt_storage_module, mbox);
}

static struct mail_storage_hooks mail_crypt_hooks = {
	.mail_user_created = mail_crypt_user_created,
	.mail_namespaces_created = mail_crypt_namespaces_created,
	.mailbox_allocated = mail_crypt_outer_mailbox_allocated,
	.mailbox_opened = mail_crypt_mailbox_opened,
	.mail_allocated = mail_crypt_mail_allocated
};

static struct mail_storage_hooks mail_crypt_forced_hooks = {
	.mailbox_allocated = mail_crypt_mailbox_allocated
};

/* Hooks are sorted by path: these come after all other plugins that wrap the mail being saved. */
static struct module mail_crypt_forced_module = {
	.path = "lib95_mail_crypt_plugin.so"
};

/* Clients must not get at keys through METADATA. */
static const struct mailbox_attribute_internal mail_crypt_attributes[] = {
	{ .type = MAIL_ATTRIBUTE_TYPE_PRIVATE,
	  .key = BOX_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
	{ .type = MAIL_ATTRIBUTE_TYPE_SHARED,
	  .key = BOX_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
	{ .type = MAIL_ATTRIBUTE_TYPE_PRIVATE,
	  .key = USER_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
	{ .type = MAIL_ATTRIBUTE_TYPE_SHARED,
	  .key = USER_CRYPT_PREFIX,
	  .flags = MAIL_ATTRIBUTE_INTERNAL_FLAG_CHILDREN },
};

void mail_crypt_plugin_init(struct module *module)
{
	if (mcrs_init(MCRS_VERSION) < 0)
		i_fatal("mail_crypt: the plugin and libmail_crypt_core are of "
			"different versions");
	mail_storage_hooks_add(module, &mail_crypt_hooks);
	mail_storage_hooks_add_forced(&mail_crypt_forced_module,
				      &mail_crypt_forced_hooks);
	mailbox_attribute_register_internals(mail_crypt_attributes,
					     N_ELEMENTS(mail_crypt_attributes));
}

void mail_crypt_plugin_deinit(void)
{
	mailbox_attribute_unregister_internals(mail_crypt_attributes,
					       N_ELEMENTS(mail_crypt_attributes));
	mail_storage_hooks_remove(&mail_crypt_hooks);
	mail_storage_hooks_remove(&mail_crypt_forced_hooks);
	mail_crypt_save_deinit();
	mcrs_deinit();
}
