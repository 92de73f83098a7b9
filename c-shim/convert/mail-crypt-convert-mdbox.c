/* Mails of an mdbox lie in files together with those of other folders. So it is known first which folders refer to which
   messages; then file after file is written anew, as a purge does. What a message is called stays the same. */

#include "compat.h"
#include "array.h"
#include "file-lock.h"
#include "mail-namespace.h"
#include "mailbox-list-iter.h"
#include "mdbox-storage.h"
#include "mdbox-map.h"

#include "mail-crypt-convert.h"
#include "mail-crypt-convert-mdbox.h"

/* So many folders are open at once: each takes some file descriptors. */
#define CONVERT_MDBOX_FOLDERS 64

static const struct convert_storage convert_mdbox_storage = {
	.name = MDBOX_STORAGE_NAME
};

static struct convert_mdbox *convert_mdbox_get(struct convert_cmd *cmd, struct mailbox *box)
{
	struct convert_mdbox *mdbox = cmd->mdbox;
	pool_t pool;

	if (mdbox != NULL)
		return mdbox;
	pool = pool_alloconly_create("mail_crypt convert mdbox", 64*1024);
	mdbox = p_new(pool, struct convert_mdbox, 1);
	mdbox->pool = pool;
	mdbox->cmd = cmd;
	mdbox->storage = MDBOX_STORAGE(box->storage);
	p_array_init(&mdbox->folders, pool, 16);
	hash_table_create_direct(&mdbox->refs, pool, 0);
	i_array_init(&mdbox->file_ids, 64);
	i_array_init(&mdbox->done_ids, 64);
	cmd->mdbox = mdbox;
	return mdbox;
}

/* Notes that a mail of box refers to a message; folder is NULL if it isn't to be converted. */
static void
convert_mdbox_ref(struct convert_mdbox *mdbox, struct convert_folder *folder,
		  uint32_t uid, uint32_t map_uid)
{
	struct convert_ref *ref =
		hash_table_lookup(mdbox->refs, POINTER_CAST(map_uid));
	struct convert_mail_ref *mail;

	if (ref == NULL) {
		ref = p_new(mdbox->pool, struct convert_ref, 1);
		hash_table_insert(mdbox->refs, POINTER_CAST(map_uid), ref);
	}
	ref->count++;
	if (folder == NULL) {
		ref->elsewhere = TRUE;
		return;
	}
	mail = p_new(mdbox->pool, struct convert_mail_ref, 1);
	mail->folder = folder;
	mail->uid = uid;
	mail->next = ref->mails;
	ref->mails = mail;
}

/* Returns 0 or -1. */
static int
convert_mdbox_refs(struct convert_mdbox *mdbox, struct mailbox *box,
		   struct convert_folder *folder)
{
	struct mdbox_mailbox *mbox = MDBOX_MAILBOX(box);
	unsigned int count = mail_index_view_get_messages_count(box->view);
	uint32_t seq, uid, map_uid;

	for (seq = 1; seq <= count; seq++) {
		if (mdbox_mail_lookup(mbox, box->view, seq, &map_uid) < 0)
			return -1;
		mail_index_lookup_uid(box->view, seq, &uid);
		convert_mdbox_ref(mdbox, folder, uid, map_uid);
	}
	return 0;
}

void convert_mdbox_add(struct convert_cmd *cmd, struct mailbox *box)
{
	struct mail_user *user = box->storage->user;
	struct convert_mdbox *mdbox = cmd->mdbox;
	struct convert_folder *folder;

	/* a namespace may have a storage of its own */
	if (mdbox != NULL &&
	    (array_count(&mdbox->folders) == CONVERT_MDBOX_FOLDERS ||
	     box->storage != &mdbox->storage->storage.storage))
		convert_mdbox_run(cmd, user);
	mdbox = convert_mdbox_get(cmd, box);
	folder = p_new(mdbox->pool, struct convert_folder, 1);
	folder->cmd = cmd;
	folder->box = box;
	folder->storage = &convert_mdbox_storage;
	array_push_back(&mdbox->folders, &folder);
}

static bool convert_mdbox_has(struct convert_mdbox *mdbox, struct mailbox_list *list,
			      const char *vname)
{
	struct convert_folder *folder;

	array_foreach_elem(&mdbox->folders, folder) {
		if (folder->box->list == list &&
		    strcmp(mailbox_get_vname(folder->box), vname) == 0)
			return TRUE;
	}
	return FALSE;
}

/* Another folder of the storage may refer to a message, too. Returns 0 or -1. */
static int
convert_mdbox_other(struct convert_mdbox *mdbox, const struct mailbox_info *info)
{
	struct mailbox *box;
	int ret = 0;

	if ((info->flags & (MAILBOX_NOSELECT | MAILBOX_NONEXISTENT)) != 0 ||
	    convert_mdbox_has(mdbox, info->ns->list, info->vname))
		return 0;
	box = mailbox_alloc(info->ns->list, info->vname, MAILBOX_FLAG_IGNORE_ACLS);
	if (mailbox_open(box) < 0 ||
	    mailbox_sync(box, MAILBOX_SYNC_FLAG_FULL_READ) < 0)
		ret = -1;
	else if (box->storage == &mdbox->storage->storage.storage)
		ret = convert_mdbox_refs(mdbox, box, NULL);
	if (ret < 0) {
		i_error("Mailbox %s: %s", info->vname,
			mailbox_get_last_internal_error(box, NULL));
		doveadm_mail_failed_mailbox(&mdbox->cmd->ctx, box);
	}
	mailbox_free(&box);
	return ret;
}

static int convert_mdbox_others(struct convert_mdbox *mdbox, struct mail_user *user)
{
	struct mailbox_list_iterate_context *iter;
	const struct mailbox_info *info;
	struct mail_namespace *ns;
	int ret = 0;

	for (ns = user->namespaces; ns != NULL; ns = ns->next) {
		if (ns->alias_for != NULL ||
		    ns->storage != &mdbox->storage->storage.storage)
			continue;
		iter = mailbox_list_iter_init(ns->list, "*",
			MAILBOX_LIST_ITER_RAW_LIST | MAILBOX_LIST_ITER_SKIP_ALIASES |
			MAILBOX_LIST_ITER_NO_AUTO_BOXES |
			MAILBOX_LIST_ITER_RETURN_NO_FLAGS);
		while (ret == 0 && (info = mailbox_list_iter_next(iter)) != NULL) T_BEGIN {
			ret = convert_mdbox_other(mdbox, info);
		} T_END;
		if (mailbox_list_iter_deinit(&iter) < 0)
			ret = -1;
	}
	return ret;
}

/* Returns 0 if there is a folder that can be converted. */
static int convert_mdbox_begin(struct convert_mdbox *mdbox, struct mail_user *user)
{
	struct convert_folder *folder;
	bool any = FALSE;
	int ret = 0;

	array_foreach_elem(&mdbox->folders, folder) {
		folder->count = mail_index_view_get_messages_count(folder->box->view);
		folder->counts.mails = folder->count;
		folder->begun = convert_folder_begin(folder) == 0;
		any = any || folder->begun;
		/* one that can't be converted is like those that aren't to be */
		if (convert_mdbox_refs(mdbox, folder->box,
				       folder->begun ? folder : NULL) < 0)
			ret = -1;
	}
	if (!any)
		return -1;
	if (ret == 0 && !mdbox->cmd->dry_run) {
		convert_mdbox_clean(mdbox);
		/* what was deleted isn't copied */
		(void)mail_storage_purge(&mdbox->storage->storage.storage);
	}
	return ret < 0 ? -1 : convert_mdbox_others(mdbox, user);
}

/* Files in which there are mails of the folders, and which nobody has looked at: at first all, then those to which
   others have moved mails. Returns TRUE if there are any. */
static bool convert_mdbox_find_files(struct convert_mdbox *mdbox)
{
	struct hash_iterate_context *iter;
	struct convert_ref *ref;
	void *map_uid;
	uint32_t file_id;
	uoff_t offset;

	array_clear(&mdbox->file_ids);
	(void)mdbox_map_refresh(mdbox->storage->map);
	iter = hash_table_iterate_init(mdbox->refs);
	while (hash_table_iterate(iter, mdbox->refs, &map_uid, &ref)) {
		if (ref->mails != NULL &&
		    mdbox_map_lookup(mdbox->storage->map,
				     POINTER_CAST_TO(map_uid, uint32_t),
				     &file_id, &offset) > 0 &&
		    !seq_range_exists(&mdbox->done_ids, file_id))
			seq_range_array_add(&mdbox->file_ids, file_id);
	}
	hash_table_iterate_deinit(&iter);
	return array_count(&mdbox->file_ids) > 0;
}

static void convert_mdbox_files(struct convert_mdbox *mdbox)
{
	struct convert_cmd *cmd = mdbox->cmd;
	struct seq_range_iter iter;
	unsigned int n = 0;
	uint32_t file_id;

	seq_range_array_iter_init(&iter, &mdbox->file_ids);
	while (!cmd->stop && !doveadm_is_killed() &&
	       seq_range_array_iter_nth(&iter, n++, &file_id)) T_BEGIN {
		seq_range_array_add(&mdbox->done_ids, file_id);
		convert_mdbox_file(mdbox, file_id);
	} T_END;
	if (doveadm_is_killed())
		cmd->stop = TRUE;
}

void convert_mdbox_run(struct convert_cmd *cmd, struct mail_user *user)
{
	struct convert_mdbox *mdbox = cmd->mdbox;
	struct convert_folder *folder;

	if (mdbox == NULL)
		return;
	if (convert_mdbox_begin(mdbox, user) == 0) {
		while (!cmd->stop && convert_mdbox_find_files(mdbox))
			convert_mdbox_files(mdbox);
	}
	array_foreach_elem(&mdbox->folders, folder) {
		convert_folder_end(folder);
		if (folder->begun)
			convert_print(folder->box, &folder->counts);
		mailbox_free(&folder->box);
	}
	array_free(&mdbox->file_ids);
	array_free(&mdbox->done_ids);
	hash_table_destroy(&mdbox->refs);
	pool_unref(&mdbox->pool);
	cmd->mdbox = NULL;
}
