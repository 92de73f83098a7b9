#ifndef MAIL_CRYPT_CONVERT_H
#define MAIL_CRYPT_CONVERT_H

#include "seq-range-array.h"
#include "doveadm-mail.h"

#include <sys/stat.h>

struct convert_folder;

/* What became of the mails of a folder. */
struct convert_counts {
	unsigned int mails, converted, older, left;
	/* of those that were converted, as they were stored */
	uint64_t bytes;
};

struct convert_cmd {
	struct doveadm_mail_cmd_context ctx;

	/* What the administrator wants */
	const char *to, *max_rate;
	bool rekey, dry_run;
	const char *const *masks;
	const char *usage_error;

	/* Of the current user */
	struct mcrs_user *user;
	/* Nothing more is done: the disk is full or fails, or somebody ended the command. */
	bool stop;
	struct convert_mdbox *mdbox;
	/* For the rate */
	uint64_t bytes;
	struct timeval started, told;
	/* Progress goes to a terminal, in one line. */
	bool terminal, line_open;
};

/* A mail as it is stored. */
struct convert_source {
	/* where it is; on the folder's pool */
	const char *path;
	int fd;
	struct stat st;
	/* the mail in the file: so many bytes of other things come before it */
	uoff_t before, size;
	/* sdbox: the last of them are the mail's header */
	uoff_t header_size;
	struct mcrs_sizes sizes;
};

/* A new file that waits for its place. */
struct convert_file {
	uint32_t uid;
	const char *path, *temp_path;
	/* the file that was read */
	struct stat st;
	/* the old one, once the new one is in its place; NULL: there was no way to keep it */
	const char *old_path;
	uoff_t size;
	/* The mail's sizes, where the file's name doesn't have them; UINT64_MAX otherwise */
	uoff_t psize, vsize;
	bool exchanged, gone;
};
ARRAY_DEFINE_TYPE(convert_file, struct convert_file);

/* How a kind of storage keeps its mails. */
struct convert_storage {
	const char *name;
	/* What the names of temporary files begin with, wherever they are. */
	const char *temp_prefix;

	/* The folders in which there may be temporary files, NULL-terminated. */
	const char *const *(*temp_dirs)(struct convert_folder *folder);
	/* Opens a mail. Returns 1, 0 if it is gone, or -1 and sets error_r. */
	int (*open)(struct convert_folder *folder, uint32_t uid,
		    struct convert_source *source_r, struct mcrs_error *error_r);
	/* Where a new file for this one is made. */
	const char *(*temp_dir)(struct convert_folder *folder, const char *path);
	/* Adds what comes behind the mail, whose new size is size, to the new file. Returns 0, or -1 and sets errno. */
	int (*finish)(const struct convert_source *source, int fd, uoff_t size);
	/* Notes what has to be known before the new files are in their places. Returns 0 or -1. NULL: nothing. */
	int (*prepare)(struct convert_folder *folder, ARRAY_TYPE(convert_file) *files);
	/* Looks for a mail whose file isn't where it was. Returns 1 and sets path_r, 0 if it is gone, or -1. */
	int (*find)(struct convert_folder *folder, uint32_t uid, const char **path_r);
	/* Keeps others from deleting and moving mails. Returns 0 or -1. */
	int (*lock)(struct convert_folder *folder);
	void (*unlock)(struct convert_folder *folder);
};

struct convert_folder {
	struct convert_cmd *cmd;
	struct mailbox *box;
	struct mcrs_convert *convert;
	/* Nobody else converts it. */
	struct file_lock *lock;
	const struct convert_storage *storage;
	/* Nothing can be done with the rest of its mails. */
	bool failed;
	/* mdbox: it can be converted; mails of it are written to the file at hand. */
	bool begun, writes;
	struct convert_counts counts;
	unsigned int count;

	/* The files that wait for their places */
	pool_t pool;
	ARRAY_TYPE(convert_file) files;
	uoff_t files_size;
	struct mailbox_transaction_context *trans;
	struct mail *mail;
	/* fields of the index cache */
	unsigned int save_date_idx, place_idx;
	/* The mails that become plaintext with these files, and all that have */
	ARRAY_TYPE(seq_range) decrypting, decrypted;
	unsigned int temp_count;
};

extern const struct convert_storage convert_maildir, convert_sdbox;

/* mail-crypt-convert-mdbox.c */

/* The folders of one mdbox storage */
struct convert_mdbox;

/* The mails of an open folder are to be converted. It takes over the folder's mailbox. */
void convert_mdbox_add(struct convert_cmd *cmd, struct mailbox *box);
/* Converts them, prints a row for each folder, and frees all. */
void convert_mdbox_run(struct convert_cmd *cmd, struct mail_user *user);

/* mail-crypt-convert.c */

struct mcrs_convert_request convert_request(const struct convert_cmd *cmd);
/* Prints a folder's row. */
void convert_print(struct mailbox *box, const struct convert_counts *counts);
/* An error that isn't about a single mail. */
void convert_error(struct convert_cmd *cmd, struct mailbox *box,
		   const struct mcrs_error *error);
/* The mail at hand is left as it is. */
void convert_leave(struct convert_folder *folder, uint32_t uid, const char *why);
/* As a system call on path has failed. Where no more can be written, the command ends. */
void convert_syscall_error(struct convert_folder *folder, const char *function,
			   const char *path);
/* The reason of a failed system call. */
void convert_set_syscall_error(struct mcrs_error *error_r, const char *function,
			       const char *path);
/* Tells how far the folder has come, from time to time, and waits if that was too fast. */
void convert_progress(struct convert_folder *folder, unsigned int seq);

/* mail-crypt-convert-folder.c */

/* For mdbox, whose files have mails of many folders: what convert_folder_run() does at its beginning and end. Begin
   returns 0, or -1 if nothing can be done with the folder. */
int convert_folder_begin(struct convert_folder *folder);
void convert_folder_end(struct convert_folder *folder);
/* Drops what the cache remembers of the mails that are about to become plaintext. */
void convert_forget_decrypting(struct convert_folder *folder);

/* Converts the mails of an open folder. Returns 0, or -1 if nothing can be done with it. */
int convert_folder_run(struct convert_cmd *cmd, struct mailbox *box,
			struct convert_counts *counts_r);

/* mail-crypt-convert-file.c */

/* Looks at a mail. Returns what is to be done with it, MCRS_CONVERT_*, or -1 and sets error_r if it can't be read. */
int convert_look(struct convert_folder *folder, const struct convert_source *source,
		 struct mcrs_error *error_r);
/* Makes a new file of a mail, by action, and makes sure that it has the same content. Returns 0 and sets temp_path_r,
   or -1 and sets error_r. */
int convert_make(struct convert_folder *folder, const struct convert_source *source,
		 int action, const char **temp_path_r, struct mcrs_error *error_r);

/* Writes what the mail becomes to output, for which nothing is written if it can't be read. Returns 0 and sets size_r, or
   -1 and sets error_r. */
int convert_transform(struct convert_folder *folder,
		      const struct convert_source *source, int action,
		      struct ostream *output, uoff_t *size_r,
		      struct mcrs_error *error_r);
/* Makes sure that the mail can be read. Returns 0, or -1 and sets error_r. */
int convert_try(struct convert_folder *folder, const struct convert_source *source,
		int action, struct mcrs_error *error_r);
/* Reads the mail that was written as any session would. Returns 0, or -1 and sets error_r if it isn't what was read. */
int convert_verify(struct convert_folder *folder, int action, const char *path,
		   uoff_t before, uoff_t size, struct mcrs_error *error_r);

/* mail-crypt-convert-swap.c */

/* Removes what an interrupted conversion has left. */
void convert_clean(struct convert_folder *folder);
/* Puts the new files into their places, if the mails are still those that were read. */
void convert_swap(struct convert_folder *folder);

#endif
