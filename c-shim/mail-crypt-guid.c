/* Keys are kept under their folder's GUID, and follow it to another one. dsync gives the same GUID
   to folders that two hosts have made each for itself. */

#include "compat.h"
#include "mail-storage-private.h"

#include "mail-crypt-plugin-private.h"

/* Not the folder itself, which is in the middle of being changed. */
static struct mailbox *mail_crypt_guid_alloc(struct mailbox *box)
{
	return mailbox_alloc(box->list, mailbox_get_vname(box),
			     MAILBOX_FLAG_READONLY | MAILBOX_FLAG_IGNORE_ACLS);
}

static int
mail_crypt_guid_fail(struct mailbox *box, const struct mcrs_error *error)
{
	mail_crypt_box_fail(box, error);
	return -1;
}

static int
mail_crypt_guid_take_from(struct mailbox *box, const guid_128_t guid,
			  struct mcrs_carried **carried_r)
{
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	enum mailbox_existence existence;
	struct mailbox_metadata metadata;
	struct mcrs_error error;

	if (mailbox_exists(box, FALSE, &existence) < 0)
		return -1;
	if (existence != MAILBOX_EXISTENCE_SELECT)
		return 0;
	/* opened first: the GUID in the list index may be old */
	if (mailbox_open(box) < 0 ||
	    mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0)
		return -1;
	if (guid_128_equals(metadata.guid, guid))
		return 0;
	if (mcrs_carried_new(user, box, carried_r, &error) < 0)
		return mail_crypt_guid_fail(box, &error);
	return 0;
}

/* Sets carried_r to NULL where there is nothing to take along. */
static int
mail_crypt_guid_take(struct mailbox *box, const struct mailbox_update *update,
		     struct mcrs_carried **carried_r)
{
	struct mailbox *old;
	int ret;

	*carried_r = NULL;
	if (update == NULL || guid_128_is_empty(update->mailbox_guid) ||
	    mail_crypt_user_get(box->storage->user) == NULL)
		return 0;

	old = mail_crypt_guid_alloc(box);
	ret = mail_crypt_guid_take_from(old, update->mailbox_guid, carried_r);
	mail_storage_last_error_push(box->storage);
	mailbox_free(&old);
	mail_storage_last_error_pop(box->storage);
	return ret;
}

static int
mail_crypt_guid_put_into(struct mailbox *box, const guid_128_t guid,
			 struct mcrs_carried *carried)
{
	struct mailbox_metadata metadata;
	struct mcrs_error error;

	if (mailbox_open(box) < 0 ||
	    mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0)
		return -1;
	if (!guid_128_equals(metadata.guid, guid))
		return 0;
	if (mcrs_carried_put(carried, box, &error) < 0)
		return mail_crypt_guid_fail(box, &error);
	return 0;
}

/* Also after a change that answered an error: before 2.3.20 Maildir says that INBOX exists, and yet
   has given it the GUID. */
static int
mail_crypt_guid_put(struct mailbox *box, const struct mailbox_update *update,
		    struct mcrs_carried **carried, int change_ret)
{
	struct mailbox *changed;
	int ret;

	if (*carried == NULL)
		return change_ret;

	mail_storage_last_error_push(box->storage);
	changed = mail_crypt_guid_alloc(box);
	ret = mail_crypt_guid_put_into(changed, update->mailbox_guid, *carried);
	mailbox_free(&changed);
	mcrs_carried_free(carried);
	mail_storage_last_error_pop(box->storage);
	if (ret < 0)
		mail_storage_set_internal_error(box->storage);
	return ret < 0 ? -1 : change_ret;
}

int mail_crypt_create_box(struct mailbox *box,
			  const struct mailbox_update *update, bool directory)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mcrs_carried *carried;
	int ret;

	if (mail_crypt_guid_take(box, update, &carried) < 0)
		return -1;
	ret = mbox->module_ctx.super.create_box(box, update, directory);
	return mail_crypt_guid_put(box, update, &carried, ret);
}

int mail_crypt_update_box(struct mailbox *box, const struct mailbox_update *update)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);
	struct mcrs_carried *carried;
	int ret;

	if (mail_crypt_guid_take(box, update, &carried) < 0)
		return -1;
	ret = mbox->module_ctx.super.update_box(box, update);
	return mail_crypt_guid_put(box, update, &carried, ret);
}
