#ifndef MAIL_CRYPT_PLUGIN_PRIVATE_H
#define MAIL_CRYPT_PLUGIN_PRIVATE_H

#include "mail-storage-private.h"
#include "mail-crypt-binary.h"
#include "mail-crypt-plugin.h"

/* What the plugin's hooks have in common: those for users are in mail-crypt-user.c, for opening mails in
   mail-crypt-open.c, for folders that get another GUID in mail-crypt-guid.c, for mails that are stored
   in mail-crypt-saved.c, all others in mail-crypt-plugin.c. */

#pragma GCC visibility push(hidden)

#define MAIL_CRYPT_USER_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_user_module)
#define MAIL_CRYPT_BOX_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_BOX_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_SAVES_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_outer_storage_module)

struct mail_crypt_user {
	union mail_user_module_context module_ctx;
	struct mcrs_user *user;
	/* the last mail that was decompressed */
	struct spool_cache unpacked;

	mail_crypt_scan_t *scan;
	void *scan_context;
	struct mail_crypt_binary_cache binary;
};

/* What comes before all other plugins, where mail_crypt_box comes after them. */
struct mail_crypt_outer_box {
	union mailbox_module_context module_ctx;
	/* The mail being saved is looked at by the compression plugin, and must look as saved. */
	bool checking_save;
	/* The keys of the transaction that is being committed. */
	buffer_t *stored_keys;
};

/* The core's fields in the index cache, and one of our own: the place of a mail that was encrypted. */
#define MAIL_CRYPT_CACHE_PLACE MCRS_CACHE_FIELDS
#define MAIL_CRYPT_CACHE_FIELDS (MCRS_CACHE_FIELDS + 1)

struct mail_crypt_box {
	union mailbox_module_context module_ctx;
	/* The last mail that couldn't be read, and when: opening it again for another part of the
	   same answer is no news. */
	uint32_t failed_uid, failed_seq;
	struct timeval failed_time;
	/* The index cache's fields; UINT_MAX until they are registered, anew whenever the mailbox is
	   opened. */
	unsigned int cache_idx[MAIL_CRYPT_CACHE_FIELDS];
	bool cache_checked;
	/* The folder's GUID as the cache was opened; empty until it is asked for. */
	guid_128_t cache_guid;
};

/* What one transaction saves. */
struct mail_crypt_saves {
	union mailbox_transaction_module_context module_ctx;
	/* The mail being saved looks encrypted and must not be stored. */
	bool refused;
	/* That was seen when the mail couldn't be taken out any more: nothing may be stored. */
	bool refused_late;
	/* The ids of the folder's keys to which mails were encrypted that are not stored yet, and when
	   the first was chosen. */
	buffer_t *keys;
	time_t keys_time;
};

extern MODULE_CONTEXT_DEFINE(mail_crypt_user_module, &mail_user_module_register);
extern MODULE_CONTEXT_DEFINE(mail_crypt_storage_module, &mail_storage_module_register);
extern MODULE_CONTEXT_DEFINE(mail_crypt_outer_storage_module, &mail_storage_module_register);

enum mail_error mail_crypt_mail_error(const struct mcrs_error *error);
void mail_crypt_box_fail(struct mailbox *box, const struct mcrs_error *error);

/* Are keys, to which mails were encrypted, still the folder's? Returns 0, or -1: the mails must not
   stay. */
int mail_crypt_saved_check(struct mailbox *box, const buffer_t *keys);
int mail_crypt_saved_commit(struct mailbox_transaction_context *t,
			    struct mail_transaction_commit_changes *changes_r);

int mail_crypt_get_metadata(struct mailbox *box,
			    enum mailbox_metadata_items items,
			    struct mailbox_metadata *metadata_r);
int mail_crypt_create_box(struct mailbox *box,
			  const struct mailbox_update *update, bool directory);
int mail_crypt_update_box(struct mailbox *box,
			  const struct mailbox_update *update);

/* Hooked for every user. */
void mail_crypt_user_created(struct mail_user *user);
/* Hooked for every user with mailboxes. */
void mail_crypt_namespaces_created(struct mail_namespace *namespaces);
/* Hooked for every mailbox. */
void mail_crypt_mailbox_opened(struct mailbox *box);
/* Hooked for every mail. */
void mail_crypt_mail_allocated(struct mail *mail);

#pragma GCC visibility pop

#endif
