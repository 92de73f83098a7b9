/* Shares a folder's keys as its ACL changes, and a new key when it is made. */

#include "compat.h"
#include "ioloop.h"
#include "array.h"
#include "module-dir.h"
#include "mail-storage-hooks.h"
#include "mail-storage-service.h"
#include "mail-namespace.h"
#include "acl-api-private.h"
#include "acl-cache.h"
#include "acl-plugin.h"

#include "mail-crypt-plugin.h"
#include "mail-crypt-acl-sharee.h"
#include "mail-crypt-acl-plugin.h"

#define MAIL_CRYPT_ACL_LIST_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_acl_list_module)
#define MAIL_CRYPT_ACL_LIST_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_acl_list_module)

struct mail_crypt_acl_list {
	union mailbox_list_module_context module_ctx;
	struct acl_backend *backend;
	int (*object_update)(struct acl_object *aclobj,
			     const struct acl_rights_update *update);
};

/* One change of an ACL, or one check of who lacks keys. */
struct mail_crypt_acl_change {
	struct mail_user *user;
	struct mailbox *box;
	struct acl_object *aclobj;
	/* NULL if nothing is changed */
	const struct acl_rights_update *update;

	struct mcrs_sharing *sharing;
	struct mcrs_error error;
};

const char *mail_crypt_acl_plugin_version = DOVECOT_ABI_VERSION;
const char *mail_crypt_acl_plugin_dependencies[] = { "acl", NULL };

static MODULE_CONTEXT_DEFINE_INIT(mail_crypt_acl_list_module,
				  &mailbox_list_module_register);

/* Returns NULL if mail_crypt isn't enabled for the user. This plugin can't be linked to mail_crypt, which is loaded
   after it. */
static struct mcrs_user *mail_crypt_acl_session(struct mail_user *user)
{
	struct module *module =
		module_dir_find(mail_storage_service_modules, "mail_crypt");
	mail_crypt_user_get_t *get = NULL;

	if (module != NULL)
		get = module_get_symbol_quiet(module, "mail_crypt_user_get");
	return get == NULL ? NULL : get(user);
}

/* Gives the core the ACL. Returns 0, or -1 and sets change->error. */
static int mail_crypt_acl_change_read(struct mail_crypt_acl_change *change)
{
	struct acl_object_list_iter *iter;
	struct acl_rights rights;
	int ret = 0;

	/* as it is now, not as it was some seconds ago */
	acl_cache_flush(change->aclobj->backend->cache, change->aclobj->name);
	iter = acl_object_list_init(change->aclobj);
	while (ret == 0 && acl_object_list_next(iter, &rights))
		ret = mcrs_sharing_entry(change->sharing, &rights, &change->error);
	if (acl_object_list_deinit(&iter) < 0 && ret == 0) {
		i_strocpy(change->error.text, "The ACL can't be read",
			  sizeof(change->error.text));
		ret = -1;
	}
	return ret;
}

/* Returns 0, or -1 and sets change->error. */
static int mail_crypt_acl_change_begin(struct mail_crypt_acl_change *change)
{
	struct mail_user *owner = mailbox_get_namespace(change->box)->owner;

	return mcrs_sharing_new(mail_crypt_acl_session(change->user),
				owner == NULL ? NULL : owner->username,
				change->update, &change->sharing, &change->error);
}

/* Returns 0, or -1 and sets change->error: the ACL must then not change. */
static int
mail_crypt_acl_change_look_up(struct mail_crypt_acl_change *change,
			      const char *username)
{
	struct mail_crypt_acl_sharee sharee;
	const char *error;
	int found, ret;

	found = mail_crypt_acl_sharee_open(change->user, username, &sharee,
					   &error);
	ret = mcrs_sharing_answer(change->sharing,
				  found > 0 ? sharee.user : NULL,
				  found < 0 ? error : NULL, &change->error);
	if (found > 0)
		mail_crypt_acl_sharee_close(&sharee);
	return ret;
}

/* Returns 0 once keys are as the ACL will be, or -1 and sets change->error: then they are as they were. */
static int mail_crypt_acl_change_keys(struct mail_crypt_acl_change *change)
{
	const char *username;
	int next, ret = mail_crypt_acl_change_begin(change);

	while (ret == 0 &&
	       (next = mcrs_sharing_next(change->sharing, change->box, &username,
					 &change->error)) != MCRS_SHARING_DONE) {
		T_BEGIN {
			switch (next) {
			case MCRS_SHARING_READ_ACL:
				ret = mail_crypt_acl_change_read(change);
				break;
			case MCRS_SHARING_LOOK_UP:
				ret = mail_crypt_acl_change_look_up(change, username);
				break;
			default:
				ret = -1;
			}
		} T_END;
	}
	return ret;
}

static void mail_crypt_acl_change_undo(struct mail_crypt_acl_change *change)
{
	if (mcrs_sharing_undo(change->sharing, change->box, &change->error) < 0) {
		e_error(change->user->event, "mail_crypt_acl: Mailbox %s: "
			"The ACL wasn't changed, and its keys now differ from it: %s",
			mailbox_get_vname(change->box), change->error.text);
	}
}

static int
mail_crypt_acl_change_run(struct mail_crypt_acl_change *change,
			  struct mail_crypt_acl_list *mlist)
{
	int ret;

	if (mail_crypt_acl_change_keys(change) < 0) {
		e_error(change->user->event, "mail_crypt_acl: Mailbox %s: "
			"The ACL isn't changed, because its keys can't be: %s",
			mailbox_get_vname(change->box), change->error.text);
		ret = -1;
	} else {
		ret = mlist->object_update(change->aclobj, change->update);
		if (ret < 0)
			mail_crypt_acl_change_undo(change);
	}
	mcrs_sharing_free(&change->sharing);
	return ret;
}

/* Returns 1 and the open mailbox if there is one, 0 if nothing by that name can hold mail, -1 on
   error. */
static int
mail_crypt_acl_mailbox_open(struct acl_object *aclobj, struct mailbox **box_r)
{
	struct mailbox_list *list = aclobj->backend->list;
	struct mailbox *box;
	enum mail_error error;
	const char *text;
	int ret = 1;

	/* the ACL of no mailbox in particular */
	if (aclobj->name[0] == '\0')
		return 0;
	box = mailbox_alloc(list, mailbox_list_get_vname(list, aclobj->name),
			    MAILBOX_FLAG_READONLY | MAILBOX_FLAG_IGNORE_ACLS);
	if (mailbox_open(box) < 0) {
		text = mailbox_get_last_internal_error(box, &error);
		ret = error == MAIL_ERROR_NOTFOUND ? 0 : -1;
		if (ret < 0) {
			e_error(list->ns->user->event, "mail_crypt_acl: "
				"Mailbox %s can't be opened: %s",
				mailbox_get_vname(box), text);
		}
		mailbox_free(&box);
	}
	*box_r = box;
	return ret;
}

static int
mail_crypt_acl_update(struct acl_object *aclobj,
		      const struct acl_rights_update *update,
		      struct mail_crypt_acl_list *mlist)
{
	struct mail_user *user = aclobj->backend->list->ns->user;
	struct mail_crypt_acl_change change;
	int ret;

	i_zero(&change);
	/* dsync brings the rights and the keys from where they were changed together */
	if (user->dsyncing || mail_crypt_acl_session(user) == NULL)
		return mlist->object_update(aclobj, update);
	if ((ret = mail_crypt_acl_mailbox_open(aclobj, &change.box)) <= 0)
		return ret < 0 ? -1 : mlist->object_update(aclobj, update);

	change.user = user;
	change.aclobj = aclobj;
	change.update = update;
	ret = mail_crypt_acl_change_run(&change, mlist);
	mailbox_free(&change.box);
	return ret;
}

static int
mail_crypt_acl_object_update(struct acl_object *aclobj,
			     const struct acl_rights_update *update)
{
	struct mail_crypt_acl_list *mlist =
		MAIL_CRYPT_ACL_LIST_CONTEXT_REQUIRE(aclobj->backend->list);
	int ret;

	T_BEGIN {
		ret = mail_crypt_acl_update(aclobj, update, mlist);
	} T_END;
	return ret;
}

/* Returns 0, or -1 after it has logged why. A mail is stored all the same: it must not depend on those with whom its
   folder is shared. */
static int
mail_crypt_acl_share_new_key(struct mailbox *box, struct acl_object *aclobj)
{
	struct mail_crypt_acl_change change;
	int ret;

	i_zero(&change);
	change.user = box->storage->user;
	change.box = box;
	change.aclobj = aclobj;
	ret = mail_crypt_acl_change_keys(&change);
	if (ret < 0) {
		e_error(change.user->event, "mail_crypt_acl: Mailbox %s: "
			"Its new key isn't shared as its ACL says "
			"(setting the rights again shares it): %s",
			mailbox_get_vname(box), change.error.text);
	}
	mcrs_sharing_free(&change.sharing);
	return ret;
}

static int mail_crypt_acl_key_made(struct mailbox *box)
{
	struct mail_crypt_acl_list *mlist =
		MAIL_CRYPT_ACL_LIST_CONTEXT(box->list);
	struct acl_object *aclobj;
	int ret = 0;

	if (mlist == NULL)
		return 0;
	T_BEGIN {
		aclobj = acl_object_init_from_name(mlist->backend, box->name);
		ret = mail_crypt_acl_share_new_key(box, aclobj);
		acl_object_deinit(&aclobj);
	} T_END;
	return ret;
}

int mail_crypt_acl_entries(struct mailbox *box, mail_crypt_acl_entry_t *entry,
			   void *context)
{
	struct mail_crypt_acl_list *mlist =
		MAIL_CRYPT_ACL_LIST_CONTEXT(box->list);
	struct acl_object_list_iter *iter;
	struct acl_object *aclobj;
	struct acl_rights rights;
	int ret = 1;

	if (mlist == NULL)
		return 0;
	aclobj = acl_object_init_from_name(mlist->backend, box->name);
	iter = acl_object_list_init(aclobj);
	while (ret > 0 && acl_object_list_next(iter, &rights)) {
		if (entry(&rights, context) < 0)
			ret = -1;
	}
	if (acl_object_list_deinit(&iter) < 0)
		ret = -1;
	acl_object_deinit(&aclobj);
	return ret;
}

static void mail_crypt_acl_namespace_storage_added(struct mail_namespace *ns)
{
	struct acl_mailbox_list *alist = ACL_LIST_CONTEXT(ns->list);
	struct mail_crypt_acl_list *mlist;
	struct acl_backend *backend;

	backend = alist == NULL ? NULL : alist->rights.backend;
	if (backend == NULL ||
	    compat_acl_backend_v(backend)->object_update ==
		mail_crypt_acl_object_update)
		return;

	/* there is no hook for changes of an ACL, but the backend belongs to this list alone */
	mlist = p_new(ns->list->pool, struct mail_crypt_acl_list, 1);
	mlist->backend = backend;
	compat_acl_backend_wrap(backend, ns->list->pool,
				mail_crypt_acl_object_update,
				&mlist->object_update);
	MODULE_CONTEXT_SET(ns->list, mail_crypt_acl_list_module, mlist);
}

static struct mail_storage_hooks mail_crypt_acl_hooks = {
	.mail_namespace_storage_added = mail_crypt_acl_namespace_storage_added
};

void mail_crypt_acl_plugin_init(struct module *module)
{
	if (mcrs_init(MCRS_VERSION) < 0)
		i_fatal("mail_crypt_acl: the plugin and libmail_crypt_core are "
			"of different versions");
	mail_storage_hooks_add(module, &mail_crypt_acl_hooks);
	mcrs_set_key_hook(mail_crypt_acl_key_made);
}

void mail_crypt_acl_plugin_deinit(void)
{
	mcrs_set_key_hook(NULL);
	mail_storage_hooks_remove(&mail_crypt_acl_hooks);
}
