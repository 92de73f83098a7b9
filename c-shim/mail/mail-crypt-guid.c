/* Keys are filed under their folder's GUID, and by their ids under the user's. A folder says that it has another GUID
   while the core works on attributes under that one. And when its GUID changes, its keys are filed under the new one
   first: dsync gives one GUID to folders that two hosts have made independently. */

#include "compat.h"

#include "mail-crypt-plugin-private.h"

int mail_crypt_get_metadata(struct mailbox *box,
			    enum mailbox_metadata_items items,
			    struct mailbox_metadata *metadata_r)
{
	struct mail_crypt_outer_box *obox = MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(box);
	guid_128_t guid;

	if (mcrs_mailbox_guid(box, guid) == 0)
		return obox->module_ctx.super.get_metadata(box, items, metadata_r);
	items &= ENUM_NEGATE(MAILBOX_METADATA_GUID);
	if (items != 0 &&
	    obox->module_ctx.super.get_metadata(box, items, metadata_r) < 0)
		return -1;
	guid_128_copy(metadata_r->guid, guid);
	return 0;
}

static int
mail_crypt_guid_carry_keys(struct mailbox *box, const guid_128_t guid)
{
	struct mcrs_user *user = mail_crypt_user_get(box->storage->user);
	struct mcrs_error error;

	if (mcrs_user_carry_keys(user, box, guid, &error) < 0) {
		mail_crypt_box_fail(box, &error);
		return -1;
	}
	return 0;
}

static int
mail_crypt_guid_prepare_box(struct mailbox *box, const guid_128_t guid)
{
	enum mailbox_existence existence;
	struct mailbox_metadata metadata;

	if (mailbox_exists(box, FALSE, &existence) < 0)
		return -1;
	if (existence != MAILBOX_EXISTENCE_SELECT)
		return 0;
	/* opened first: the GUID in the list index may be old */
	if (mailbox_open(box) < 0 ||
	    mailbox_get_metadata(box, MAILBOX_METADATA_GUID, &metadata) < 0)
		return -1;
	return guid_128_equals(metadata.guid, guid) ? 0 :
		mail_crypt_guid_carry_keys(box, guid);
}

/* Returns 0, or -1 where the GUID must not change. */
static int
mail_crypt_guid_prepare(struct mailbox *box, const struct mailbox_update *update)
{
	struct mailbox *copy;
	int ret;

	if (update == NULL || guid_128_is_empty(update->mailbox_guid) ||
	    mail_crypt_user_get(box->storage->user) == NULL)
		return 0;

	/* not the folder itself, which is in the middle of being changed */
	copy = mailbox_alloc(box->list, mailbox_get_vname(box),
			     MAILBOX_FLAG_READONLY | MAILBOX_FLAG_IGNORE_ACLS);
	ret = mail_crypt_guid_prepare_box(copy, update->mailbox_guid);
	mail_storage_last_error_push(box->storage);
	mailbox_free(&copy);
	mail_storage_last_error_pop(box->storage);
	return ret;
}

static int
mail_crypt_create_box(struct mailbox *box, const struct mailbox_update *update,
		      bool directory)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);

	/* INBOX may be there already, and still get the GUID: before 2.3.20 Maildir answers that it exists, but
	   has given it the GUID */
	if (mail_crypt_guid_prepare(box, update) < 0)
		return -1;
	return mbox->module_ctx.super.create_box(box, update, directory);
}

static int
mail_crypt_update_box(struct mailbox *box, const struct mailbox_update *update)
{
	struct mail_crypt_box *mbox = MAIL_CRYPT_BOX_CONTEXT_REQUIRE(box);

	if (mail_crypt_guid_prepare(box, update) < 0)
		return -1;
	return mbox->module_ctx.super.update_box(box, update);
}

void mail_crypt_guid_wrap(struct mailbox_vfuncs *v)
{
	v->create_box = mail_crypt_create_box;
	v->update_box = mail_crypt_update_box;
}
