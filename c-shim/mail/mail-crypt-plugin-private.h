#ifndef MAIL_CRYPT_PLUGIN_PRIVATE_H
#define MAIL_CRYPT_PLUGIN_PRIVATE_H

/* The mail plugin: mail-crypt-plugin.c has its hooks and what it keeps of users and mailboxes. Mail comes in through
   mail-crypt-save.c and mail-crypt-copy.c, and is read through mail-crypt-mail.c. */

#include "mail-storage-private.h"

#include "mail-crypt-plugin.h"
#include "spool-cache.h"

struct message_part;

#pragma GCC visibility push(hidden)

#define MAIL_CRYPT_USER_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_user_module)
#define MAIL_CRYPT_BOX_CONTEXT(obj) \
	MODULE_CONTEXT(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_BOX_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_storage_module)
#define MAIL_CRYPT_OUTER_BOX_CONTEXT_REQUIRE(obj) \
	MODULE_CONTEXT_REQUIRE(obj, mail_crypt_outer_storage_module)

/* A MIME part as IMAP's BINARY (RFC 3516) gives it. */
struct mail_crypt_binary {
	uoff_t size;
	unsigned int lines;
	/* something was decoded */
	bool converted:1;
	/* the client may get NULs */
	bool binary:1;
};

struct mail_crypt_user {
	union mail_user_module_context module_ctx;
	struct mcrs_user *user;
	/* For what is logged about the user, here and by the core. */
	struct event *event;

	/* The last mail that was decompressed. */
	struct spool_cache unpacked;
	/* The last decoded part. */
	struct spool_cache decoded;
	struct mail_crypt_binary decoded_as;

	mail_crypt_scan_t *scan;
	void *scan_context;
	mail_crypt_look_t *look;
	void *look_context;
};

/* Its methods run before those of all other plugins; mail_crypt_box's run after them. */
struct mail_crypt_outer_box {
	union mailbox_module_context module_ctx;
	/* The compression plugin is looking at the mail being saved, and must see it as it was saved. */
	bool checking_save;
	/* What the transaction that is being committed has stored. */
	struct mcrs_saves *stored;
};

struct mail_crypt_box {
	union mailbox_module_context module_ctx;
	/* The last mail that couldn't be read, and when: it may be opened again for another part of the same answer,
	   and is logged only once. */
	uint32_t failed_uid, failed_seq;
	struct timeval failed_time;
	/* The index cache's fields; UINT_MAX until they are registered, anew whenever the mailbox is
	   opened. */
	unsigned int cache_idx[MCRS_CACHE_FIELDS];
	bool cache_checked;
	/* The folder's GUID as the cache was opened; empty until it is asked for. */
	guid_128_t cache_guid;
};

extern MODULE_CONTEXT_DEFINE(mail_crypt_user_module, &mail_user_module_register);
extern MODULE_CONTEXT_DEFINE(mail_crypt_storage_module, &mail_storage_module_register);
extern MODULE_CONTEXT_DEFINE(mail_crypt_outer_storage_module, &mail_storage_module_register);

/* mail-crypt-plugin.c */

enum mail_error mail_crypt_mail_error(const struct mcrs_error *error);
/* The log says why, the client only what. */
void mail_crypt_box_fail(struct mailbox *box, const struct mcrs_error *error);
/* Returns a stream of source's data that can be read again without a plaintext temporary file. */
struct istream *
mail_crypt_spool(struct mail_user *user, struct istream *source);
bool mail_crypt_is_dbox(struct mailbox *box);

/* mail-crypt-mail.c */

/* Hooked for every mail. */
void mail_crypt_mail_allocated(struct mail *mail);

/* mail-crypt-plain.c */

/* A mail that isn't encrypted is about to be served from the beginning of input: was it encrypted once?
   Returns 0 if not, as far as can be told, or -1 and sets error_r if it mustn't be served. */
int mail_crypt_check_plain(struct mail *mail, struct istream *input,
			   struct mcrs_error *error_r);

/* Shows a mail as it is stored to who wants no more of it. Returns -1: it isn't opened. */
int mail_crypt_look(struct mail_crypt_user *muser, struct mail *mail,
		    struct istream *input, struct mcrs_error *error_r);

/* mail-crypt-cache.c */

/* Hooked for every mailbox. */
void mail_crypt_mailbox_opened(struct mailbox *box);
/* Before anything is asked of a mailbox's cache. */
void mail_crypt_cache_check(struct mailbox *box);
/* Looks up what a reader's fields have about a mail whose file has so many bytes. It is on the data stack. */
void mail_crypt_cache_lookup(struct mail *mail, uint64_t file_size,
			     struct mcrs_data cached_r[MCRS_READER_FIELDS]);
/* Keeps what the stream has found out, now that the mail was verified. */
void mail_crypt_cache_add(struct mail *mail, struct istream *stream);
/* The mail from this file is about to be closed. If the file wasn't what it had been verified to be, that is kept, and
   the next session verifies all of it again before the mail's size is announced. */
void mail_crypt_cache_add_changed(struct mail *mail, struct mcrs_file file);
/* Is it known that this mail was encrypted when it was read before? If not, it may still have been. */
bool mail_crypt_cache_knows(struct mail *mail);

/* mail-crypt-attachment.c */

/* May mails of this mailbox have attachments outside? */
bool mail_crypt_has_attachments(struct mailbox *box);
/* Are those of this open mail, in such a mailbox, there and whole? Returns 0, or -1 and sets error_r. */
int mail_crypt_check_attachments(struct mail *mail, struct mcrs_error *error_r);

/* mail-crypt-unpack.c */

/* Unpacks a decrypted mail in place of the compression plugin, which keeps a large mail in plaintext in a temporary
   file. Returns 0, or -1 and sets error_r if it can't be served. If the mail was packed, *stream is replaced by one
   that reads from *spool_r. */
int mail_crypt_unpack(struct mail *mail, struct istream **stream,
		      struct istream **spool_r, struct mcrs_error *error_r);
/* Returns TRUE if the mail was unpacked a moment ago: *stream is then replaced in the same way. */
bool mail_crypt_unpack_again(struct mail *mail, struct istream **stream,
			     struct istream **spool_r);
/* Returns TRUE if the compression plugin would unpack stream. */
bool mail_crypt_is_packed(struct mail *mail, struct istream *stream);
/* Returns TRUE if the compression plugin compresses what is saved. If it doesn't, it looks at each
   mail that was saved, which it then must see as it is. */
bool mail_crypt_packs(struct mail_user *user);

/* mail-crypt-binary.c */

/* Decodes a part of mail into *stream_r (NULL: only *found_r is wanted). Dovecot's own way keeps what is
   decoded in plaintext in a temporary file. Returns 0, or -1 and sets the storage's error. */
int mail_crypt_get_binary(struct mail *mail, const struct message_part *part,
			  bool with_header, struct mail_crypt_binary *found_r,
			  struct istream **stream_r);

/* mail-crypt-save.c, mail-crypt-copy.c, mail-crypt-guid.c */

/* Wrap what saves mails, after all other plugins. */
void mail_crypt_save_wrap(struct mailbox_vfuncs *v);
/* Wrap the same before all other plugins. */
void mail_crypt_outer_save_wrap(struct mailbox *box, struct mailbox_vfuncs *v);
/* Ends what the process keeps for saving. */
void mail_crypt_save_deinit(void);

/* Is the mailbox's copy(). */
int mail_crypt_copy(struct mail_save_context *ctx, struct mail *mail);

/* Wrap what gives folders their GUIDs. */
void mail_crypt_guid_wrap(struct mailbox_vfuncs *v);
/* Is the mailbox's get_metadata(). */
int mail_crypt_get_metadata(struct mailbox *box,
			    enum mailbox_metadata_items items,
			    struct mailbox_metadata *metadata_r);

#pragma GCC visibility pop

#endif
