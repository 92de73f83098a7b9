#ifndef MAIL_CRYPT_CONVERT_MDBOX_H
#define MAIL_CRYPT_CONVERT_MDBOX_H

#include "hash.h"
#include "seq-range-array.h"
#include "mdbox-map.h"

#include "istream-mail-crypt.h"
#include "mail-crypt-convert.h"

struct dbox_file;
struct mdbox_storage;

/* A mail of a folder that is to be converted. */
struct convert_mail_ref {
	struct convert_folder *folder;
	uint32_t uid;
	/* What is done with the message is done with this mail. */
	bool own;
	struct convert_mail_ref *next;
};

/* A message, by what refers to it. */
struct convert_ref {
	struct convert_mail_ref *mails;
	/* How often folders refer to it, and whether one does that isn't to be converted */
	unsigned int count;
	bool elsewhere;
};

struct convert_mdbox {
	pool_t pool;
	struct convert_cmd *cmd;
	struct mdbox_storage *storage;
	ARRAY(struct convert_folder *) folders;
	HASH_TABLE(void *, struct convert_ref *) refs;
	/* The files that have mails of the folders */
	ARRAY_TYPE(seq_range) file_ids;
	/* Those that were looked at, or written */
	ARRAY_TYPE(seq_range) done_ids;
};

struct convert_message {
	struct convert_ref *ref;
	uint32_t map_uid, offset, refcount;
	/* where the next one begins */
	uoff_t end;
	struct convert_source source;
	/* MCRS_CONVERT_* */
	int action;
	/* where it was, to take it back */
	struct mdbox_map_mail_index_record old;
};

struct convert_mfile {
	struct convert_mdbox *mdbox;
	struct dbox_file *file;
	uint32_t file_id;
	/* the marked new files */
	uint32_t new_first, new_count;
	pool_t pool;
	ARRAY(struct convert_message) messages;
	struct mdbox_map_atomic_context *atomic;
	struct mdbox_map_append_context *append;
	unsigned int changed;
};

static inline bool convert_is_change(int action)
{
	return action != MCRS_CONVERT_LEAVE && action != MCRS_CONVERT_OLDER;
}

/* mail-crypt-convert-mdbox-file.c */

/* Converts the mails in a file. */
void convert_mdbox_file(struct convert_mdbox *mdbox, uint32_t file_id);

/* Begins a message in the new file, of which there is but one as long as it isn't full. Returns 0 or -1. */
int convert_message_begin(struct convert_mfile *mfile,
			  struct mdbox_map_append_context *append,
			  const struct convert_message *message,
			  struct dbox_file_append_context **file_r,
			  struct ostream **output_r);
/* Writes the message converted to the file in path. Returns 0, or -1 and sets error_r. */
int convert_message_change(struct convert_mfile *mfile, struct convert_folder *folder,
			   const struct convert_message *message, int action,
			   const char *path, struct ostream *output,
			   struct mcrs_error *error_r);
/* What the cache knows of a mail that becomes plaintext is wrong from now on. */
void convert_forget_one(struct convert_folder *folder, uint32_t uid, int action);

/* mail-crypt-convert-mdbox-split.c */

/* Gives a mail a converted message of its own. */
void convert_split(struct convert_mfile *mfile, struct convert_message *message,
		   struct convert_folder *folder, uint32_t uid, int action);

/* mail-crypt-convert-mdbox-map.c */

/* Removes files that an interrupted conversion has emptied, or made in vain. */
void convert_mdbox_clean(struct convert_mdbox *mdbox);
/* Puts the messages into their place in the new file, and marks both files. Returns 0, or -1 and sets why_r. */
int convert_mfile_move(struct convert_mfile *mfile, const char **why_r);
/* Marks the files that are about to be made. The map is locked. Returns 0 or -1. */
int convert_mark_new(struct convert_mfile *mfile,
		     struct mdbox_map_atomic_context *atomic,
		     struct mdbox_map_append_context *append);
/* Take the marks away. */
void convert_unmark_new(struct convert_mfile *mfile);
void convert_unmark_old(const struct convert_mfile *mfile);
/* The old file is still there: the messages are in it again. Returns 0 or -1. */
int convert_mfile_take_back(struct convert_mfile *mfile);
/* Adds the files that the messages are in now. */
void convert_mfile_places(struct convert_mfile *mfile,
			  ARRAY_TYPE(seq_range) *file_ids);

#endif
