/* The boundary of libmail_crypt_core, made by cbindgen from src/ffi: don't edit.

   All of its names begin with mcrs: mail_crypt in Rust. An mcrs_X_new() makes a handle, which its caller owns until
   mcrs_X_free(). */

#ifndef MAIL_CRYPT_CORE_H
#define MAIL_CRYPT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acl_rights;
struct acl_rights_update;
struct event;
struct mail_user;
struct mailbox;

/* What the modules were built for, as mcrs_init() compares it: made from the interface. */
#define MCRS_VERSION 0xd7c27ecdu

/*
 Bytes of [`mcrs_error::text`], with its NUL.
 */
#define MCRS_TEXT_SIZE 768

/*
 Bytes of [`mcrs_error::client`], with its NUL.
 */
#define MCRS_CLIENT_SIZE 160

/*
 The fields that Dovecot's index cache may have about a mail are numbered from 0 on. These many come first: a reader
 looks at them, and fills them.
 */
#define MCRS_READER_FIELDS 3

/*
 The field for what `mcrs_file_is_changed` says.
 */
#define MCRS_CACHE_CHANGED 2

/*
 The field for a `struct mcrs_place`.
 */
#define MCRS_CACHE_PLACE 3

/*
 The number of fields.
 */
#define MCRS_CACHE_FIELDS 4

/*
 How many numbers there are of a user.
 */
#define MCRS_CHECK_COUNTS 13

/*
 So many first bytes of a mail tell what is to be done with it.
 */
#define MCRS_CONVERT_LOOK_SIZE 131072

/*
 Nothing is to be done with the mail.
 */
#define MCRS_CONVERT_LEAVE 0

/*
 Nothing, but it isn't encrypted as new mail is.
 */
#define MCRS_CONVERT_OLDER 1

/*
 It is to be encrypted.
 */
#define MCRS_CONVERT_ENCRYPT 2

/*
 It is to be encrypted anew.
 */
#define MCRS_CONVERT_REENCRYPT 3

/*
 It is to be decrypted.
 */
#define MCRS_CONVERT_DECRYPT 4

/*
 From `mcrs_copy_raw`: always.
 */
#define MCRS_COPY_RAW 1

/*
 From `mcrs_copy_raw`: if `mcrs_is_global` says yes.
 */
#define MCRS_COPY_RAW_IF_GLOBAL 2

/*
 From `mcrs_copy_raw`: if it can't be read, and that isn't temporary.
 */
#define MCRS_COPY_RAW_IF_UNREADABLE 4

/*
 From `mcrs_is_global`: more of the mail is needed.
 */
#define MCRS_IS_GLOBAL_MORE 2

/*
 Bytes that [`mcrs_is_encrypted`] needs to see.
 */
#define MCRS_MAGIC_SIZE 9

/*
 The first bytes of a mail, within which nearly every header ends.
 */
#define MCRS_LOOK_SIZE 4096

/*
 The keys are as the ACL will be: it is to be changed now.
 */
#define MCRS_SHARING_DONE 0

/*
 The ACL is to be read as it is now, and each of its entries given to `mcrs_sharing_entry`.
 */
#define MCRS_SHARING_READ_ACL 1

/*
 A user is to be looked up, for `mcrs_sharing_answer`.
 */
#define MCRS_SHARING_LOOK_UP 2

/*
 `cryptokey generate`
 */
#define MCRS_ADMIN_GENERATE 0

/*
 `cryptokey list`
 */
#define MCRS_ADMIN_LIST 1

/*
 `cryptokey export`
 */
#define MCRS_ADMIN_EXPORT 2

/*
 `cryptokey password`
 */
#define MCRS_ADMIN_PASSWORD 3

/*
 `cryptokey import`
 */
#define MCRS_ADMIN_IMPORT 4

/*
 `cryptokey delete`
 */
#define MCRS_ADMIN_DELETE 5

/*
 `cryptokey slot list`
 */
#define MCRS_ADMIN_SLOT_LIST 6

/*
 `cryptokey slot add`
 */
#define MCRS_ADMIN_SLOT_ADD 7

/*
 `cryptokey slot remove`
 */
#define MCRS_ADMIN_SLOT_REMOVE 8

/*
 `cryptokey slot test`
 */
#define MCRS_ADMIN_SLOT_TEST 9

/*
 `cryptokey reset`
 */
#define MCRS_ADMIN_RESET 10

/*
 `cryptokey reopen`
 */
#define MCRS_ADMIN_REOPEN 11

/*
 `cryptokey rotate`
 */
#define MCRS_ADMIN_ROTATE 12

/*
 A table.
 */
#define MCRS_LAYOUT_TABLE 0

/*
 A line for each column.
 */
#define MCRS_LAYOUT_PAGER 1

/*
 The values alone.
 */
#define MCRS_LAYOUT_VALUES 2

/*
 None: the user's own keys. The mailbox is NULL then.
 */
#define MCRS_FOLDERS_USER_KEYS 0

/*
 The folder that was named.
 */
#define MCRS_FOLDERS_NAMED 1

/*
 The user's own folders that the masks match.
 */
#define MCRS_FOLDERS_MASKS 2

/*
 All of the user's own folders.
 */
#define MCRS_FOLDERS_OWN 3

/*
 All folders that the user can see, whoever owns them.
 */
#define MCRS_FOLDERS_ALL 4

/*
 One command of the administrator, for one user.
 */
struct mcrs_admin;

/*
 One check of one user's mail and keys.
 */
struct mcrs_check;

/*
 A conversion of one user's mail.
 */
struct mcrs_convert;

/*
 One fs. Readers and writers may outlive it: they share what is inside.
 */
struct mcrs_fs;

/*
 One mail being read.
 */
struct mcrs_reader;

/*
 The keys to which one transaction has encrypted mails.
 */
struct mcrs_saves;

/*
 One change of a folder's ACL.
 */
struct mcrs_sharing;

/*
 What was read from one stream.
 */
struct mcrs_spool;

/*
 A user's session. Readers and writers may outlive it: they share what is inside.
 */
struct mcrs_user;

/*
 One mail being written.
 */
struct mcrs_writer;

/*
 Where a mail is that was encrypted when it was read. These bytes are the field's entry.
 */
struct mcrs_place {
  /*
   The folder's GUID.
   */
  uint8_t folder[16];
  /*
   The folder's UIDVALIDITY.
   */
  uint32_t uid_validity;
  /*
   The mail's UID.
   */
  uint32_t uid;
};

/*
 What went wrong, in a buffer that the caller owns.
 */
struct mcrs_error {
  /*
   Trying again later may help: the key store didn't answer.
   */
  bool temporary;
  /*
   The parameters of an administrator's command are wrong.
   */
  bool usage;
  /*
   Only one mail is at fault: the user's others can be read.
   */
  bool only_this_mail;
  /*
   For the mail user's client: says what, and no internals.
   */
  char client[MCRS_CLIENT_SIZE];
  /*
   For the server's log: says why and what to do.
   */
  char text[MCRS_TEXT_SIZE];
};

/*
 The sizes of a mail that isn't encrypted; `UINT64_MAX`: unknown.
 */
struct mcrs_sizes {
  /*
   The mail's when it was stored.
   */
  uint64_t recorded;
  /*
   The same with CRLF for each LF.
   */
  uint64_t with_crlf;
  /*
   The file's now.
   */
  uint64_t actual;
};

/*
 A mail that is looked at.
 */
struct mcrs_check_info {
  /*
   Its UID.
   */
  uint32_t uid;
  /*
   The index cache says that it was encrypted when it was read before.
   */
  bool was_encrypted;
  /*
   Its size on disk.
   */
  uint64_t bytes;
  /*
   What is known of its sizes.
   */
  struct mcrs_sizes sizes;
};

/*
 A column of what a command shows; the texts live for ever.
 */
struct mcrs_admin_column {
  /*
   What programs know it by.
   */
  const char *key;
  /*
   What people see.
   */
  const char *title;
};

/*
 One row; the texts are lent until the next call.
 */
struct mcrs_admin_row {
  /*
   A text for each column, or none at all; NULL at their end.
   */
  const char *const *cells;
  /*
   What the administrator should know besides; NULL: nothing.
   */
  const char *note;
  /*
   What went wrong with this row; NULL: nothing.
   */
  const char *error;
};

/*
 What the administrator wants. Texts may be NULL: not given.
 */
struct mcrs_convert_request {
  /*
   What mail becomes.
   */
  const char *to;
  /*
   Bytes a second.
   */
  const char *max_rate;
  /*
   What is encrypted, but not as new mail is, is converted as well.
   */
  bool rekey;
  /*
   Nothing is changed.
   */
  bool dry_run;
};

/*
 A mail that is to be copied.
 */
struct mcrs_copying {
  /*
   It stays in its folder.
   */
  bool same_folder;
  /*
   It stays this user's.
   */
  bool same_user;
  /*
   The namespaces of its two folders have the same owner.
   */
  bool same_owner;
  /*
   `lazy_expunge` moves it because it was expunged.
   */
  bool expunged;
};

/*
 Looks a setting up by its 2.3 name; NULL where it isn't set. The text is copied at once. What else is
 asked for under 2.4 stands in `crypt-settings.c`.
 */
typedef const char *(*mcrs_setting_fn)(void *context, const char *name);

/*
 A file on disk: a large mail that was verified is verified again where one of these differs.
 */
struct mcrs_file {
  /*
   Its bytes (`UINT64_MAX`: unknown).
   */
  uint64_t size;
  /*
   When its content was last changed, in nanoseconds (0: unknown).
   */
  uint64_t changed;
  /*
   Its inode's number (0: unknown).
   */
  uint64_t inode;
};

/*
 Bytes that somebody lends, none at NULL.
 */
struct mcrs_data {
  /*
   The first of them.
   */
  const uint8_t *data;
  /*
   How many.
   */
  size_t size;
};

/*
 Called after a key of the open `mailbox` was made, so that it can be shared. Returns 0, or -1 if that
 failed, after logging why.
 */
typedef int (*mcrs_key_hook)(struct mailbox *mailbox);

/*
 Looks a setting up. Returns 1 and sets `value_r` to its value, 0 where it isn't set, or -1 and sets
 `value_r` to why that can't be told. What `value_r` is set to is copied at once.

 Before the keys are read, each time, `name` is NULL: then the settings are read as they are now, and 0 or
 -1 is returned.
 */
typedef int (*mcrs_fs_setting_fn)(void *context, const char *name, const char **value_r);

/*
 A command with its parameters. Texts may be NULL.
 */
struct mcrs_admin_request {
  /*
   `MCRS_ADMIN_*`
   */
  int verb;
  /*
   It is about the user's own keys.
   */
  bool user_key;
  /*
   Folder keys are put under the active user key.
   */
  bool rekey;
  /*
   Does even what would be refused.
   */
  bool force;
  /*
   One of the masks stands for all folders.
   */
  bool all;
  /*
   rotate: folders get new keys, too.
   */
  bool folders;
  /*
   reset: without opening anything.
   */
  bool abandon;
  /*
   list: what needs older keys.
   */
  bool needed;
  /*
   password: back to the last one.
   */
  bool undo;
  /*
   password: the old strings are not kept.
   */
  bool no_undo;
  /*
   password: as the packaged plugin can open it.
   */
  bool compat;
  /*
   password: to none.
   */
  bool clear;
  /*
   slot add: the secret is given.
   */
  bool given;
  /*
   A key comes first in the input.
   */
  bool key_in_input;
  /*
   slot add: its type.
   */
  const char *slot_type;
  /*
   A slot's name.
   */
  const char *slot;
  /*
   slot add: its label.
   */
  const char *label;
  /*
   The keys to delete, with NULL at their end; NULL: none.
   */
  const char *const *key_ids;
  /*
   password: the old one; NULL: the configured one.
   */
  const char *old_password;
  /*
   password: the new one.
   */
  const char *new_password;
  /*
   Standard input: the key to import, or secrets, one a line.
   */
  const uint8_t *input;
  /*
   Its size.
   */
  size_t input_size;
};

/*
 One step of a command.
 */
struct mcrs_admin_step {
  /*
   The folders in which it is done: `MCRS_FOLDERS_*`
   */
  int folders;
  /*
   It looks at all mails, with `mcrs_admin_check_mail` in place of `mcrs_admin_do`.
   */
  bool mails;
};

/*
 Prepares the core; each module calls it when it is loaded, before anything else.

 `version` is the [`MCRS_VERSION`] that the module was built for. Returns 0, or -1 where the
 module and the core don't belong together.
 */
int mcrs_init(uint32_t version);

/*
 Forgets what all sessions of the process share, before libcrypto may be cleaned up. What is needed after
 this is made anew.
 */
void mcrs_deinit(void);

/*
 The name of a field.
 */
const char *mcrs_cache_name(size_t field);

/*
 The names of fields of which a cache must have none: with them, nothing in it can be trusted. NULL behind the last.
 */
const char *mcrs_cache_spoilt_name(size_t number);

/*
 How many of a reader's fields, from the first on, help to read a file of so many bytes (`UINT64_MAX`: unknown).
 */
size_t mcrs_cache_fields(uint64_t size);

/*
 Whether the `size` bytes that this field has say that the mail in `place` was encrypted.

 # Safety
 `data` has `size` bytes.
 */
bool mcrs_place_is_known(struct mcrs_place place, const uint8_t *data, size_t size);

/*
 Begins a check. `full`: all of each mail is verified; `whole`: all of the user's folders are looked at. Returns 0 and
 sets `check_r`, or -1.

 # Safety
 `user` is from `mcrs_user_new`; `check_r` and `error` are valid.
 */
int mcrs_check_new(struct mcrs_user *user,
                   bool full,
                   bool whole,
                   struct mcrs_check **check_r,
                   struct mcrs_error *error);

/*
 Begins with a folder, of which 16 bytes at `guid` are the GUID. Returns 1, 0 if it was checked already, or -1.

 # Safety
 `check` is from `mcrs_check_new`, `mailbox` open; `guid` has 16 bytes; `error` is valid.
 */
int mcrs_check_begin_folder(struct mcrs_check *check,
                            struct mailbox *mailbox,
                            const uint8_t *guid,
                            struct mcrs_error *error);

/*
 Takes one entry of the folder's ACL. Returns 0 or -1.

 # Safety
 `check` is from `mcrs_check_new`; `rights` and `error` are valid.
 */
int mcrs_check_acl_entry(struct mcrs_check *check,
                         const struct acl_rights *rights,
                         struct mcrs_error *error);

/*
 Compares the copies of the folder's keys with the ACL, if it is `known`. Returns 0 or -1.

 # Safety
 `check` is from `mcrs_check_new`, `mailbox` is the folder and open, `error` is valid.
 */
int mcrs_check_shares(struct mcrs_check *check,
                      struct mailbox *mailbox,
                      bool known,
                      struct mcrs_error *error);

/*
 Begins with a mail. Returns 0 or -1.

 # Safety
 `check` is from `mcrs_check_new`, `error` is valid.
 */
int mcrs_check_begin_mail(struct mcrs_check *check,
                          struct mcrs_check_info info,
                          struct mcrs_error *error);

/*
 Takes the next `size` bytes of the mail as it is stored; none: it has ended. Returns 1: more are wanted, 0: no more, -1:
 it can't be told what the mail is.

 # Safety
 `check` is from `mcrs_check_new`, `mailbox` is the folder and open, `data` has `size` bytes, `error` is valid.
 */
int mcrs_check_feed(struct mcrs_check *check,
                    struct mailbox *mailbox,
                    const uint8_t *data,
                    size_t size,
                    struct mcrs_error *error);

/*
 The mail has ended. With `failed`, that is why it couldn't be read. Returns 1: something is wrong with it, and
 `mcrs_check_end_mail` wants its GUID; 0: nothing; -1 on error.

 # Safety
 `check` is from `mcrs_check_new`; `failed` is NULL or NUL-terminated; `error` is valid.
 */
int mcrs_check_judge_mail(struct mcrs_check *check,
                          const char *failed,
                          struct mcrs_error *error);

/*
 Counts the mail, and says what is wrong with it. `guid` is NULL where nobody has asked for it. Returns 0 or -1.

 # Safety
 `check` is from `mcrs_check_new`; `guid` is NULL or NUL-terminated; `error` is valid.
 */
int mcrs_check_end_mail(struct mcrs_check *check,
                        const char *guid,
                        struct mcrs_error *error);

/*
 The folder's index cache has the field `name` of so many `mails`.

 # Safety
 `check` is from `mcrs_check_new`; `name` is NUL-terminated.
 */
void mcrs_check_cached(struct mcrs_check *check, const char *name, uint64_t mails);

/*
 A mail of the folder has an attachment in a file of its own.

 # Safety
 `check` is from `mcrs_check_new`.
 */
void mcrs_check_attachment(struct mcrs_check *check, bool encrypted);

/*
 Ends the folder. Returns 0 or -1.

 # Safety
 `check` is from `mcrs_check_new`; `error` is valid.
 */
int mcrs_check_end_folder(struct mcrs_check *check, struct mcrs_error *error);

/*
 Something couldn't be looked at: nothing is said of what nobody needs.

 # Safety
 `check` is from `mcrs_check_new`.
 */
void mcrs_check_incomplete(struct mcrs_check *check);

/*
 The user's dict has this private attribute, under whichever GUID.

 # Safety
 `check` is from `mcrs_check_new`; `path` is NUL-terminated.
 */
void mcrs_check_attribute(struct mcrs_check *check, const char *path);

/*
 Looks at the user's own keys, after all folders. Returns 0 or -1.

 # Safety
 `check` is from `mcrs_check_new`; `error` is valid.
 */
int mcrs_check_end_user(struct mcrs_check *check, struct mcrs_error *error);

/*
 Adds the numbers of this user to `counts`, and returns how many problems there are, -1 on error.

 # Safety
 `check` is from `mcrs_check_new`; `counts` has `MCRS_CHECK_COUNTS` numbers.
 */
int64_t mcrs_check_add_counts(struct mcrs_check *check, uint64_t *counts);

/*
 Says in a sentence what these numbers are, in the `size` bytes at `text_r`, with a NUL at its end.

 # Safety
 `counts` has `MCRS_CHECK_COUNTS` numbers; `text_r` has `size` bytes.
 */
void mcrs_check_text(const uint64_t *counts, char *text_r, size_t size);

/*
 Says what the column with this number, counted from 0, is: of the report, or of the `counts` and the text behind them.
 Returns 1, or 0 where
 there are fewer.

 # Safety
 `column_r` is valid.
 */
int mcrs_check_column(bool counts,
                      size_t number,
                      struct mcrs_admin_column *column_r);

/*
 Hands out the next row. Returns 1, 0 where there is none, or -1.

 # Safety
 `check` is from `mcrs_check_new`; `row_r` is valid.
 */
int mcrs_check_next_row(struct mcrs_check *check, struct mcrs_admin_row *row_r);

/*
 Ends the check and clears the pointer.

 # Safety
 `check` is valid, and `*check` NULL or from `mcrs_check_new`.
 */
void mcrs_check_free(struct mcrs_check **check);

/*
 Makes sure that the request means something. Returns 0, or -1.

 # Safety
 `request` is valid, its texts are NULL or NUL-terminated; `error` is valid.
 */
int mcrs_convert_check_request(const struct mcrs_convert_request *request,
                               struct mcrs_error *error);

/*
 Begins a conversion. Returns 0 and sets `convert_r`, or -1.

 # Safety
 `user` is from `mcrs_user_new`; `convert_r` is valid; the rest as in `mcrs_convert_check_request`.
 */
int mcrs_convert_new(struct mcrs_user *user,
                     const struct mcrs_convert_request *request,
                     struct mcrs_convert **convert_r,
                     struct mcrs_error *error);

/*
 Goes on to the mails of `mailbox`. Returns 0, 1 where new mail isn't encrypted, so that there is nothing to be done, or
 -1: nothing can be done.

 # Safety
 `convert` is from `mcrs_convert_new`; `mailbox` is open; `error` is valid.
 */
int mcrs_convert_folder(struct mcrs_convert *convert,
                        struct mailbox *mailbox,
                        struct mcrs_error *error);

/*
 Says what is to be done with a mail of `stored` bytes that begins with `data`, its first `MCRS_CONVERT_LOOK_SIZE`
 bytes, if it has so many: `MCRS_CONVERT_*`, or -1 where it can't be read.

 # Safety
 `convert` is from `mcrs_convert_new`; `data` has `size` bytes; `error` is valid.
 */
int mcrs_convert_look(struct mcrs_convert *convert,
                      const uint8_t *data,
                      size_t size,
                      uint64_t stored,
                      struct mcrs_sizes sizes,
                      struct mcrs_error *error);

/*
 Whether content that begins with these bytes is compressed: then only Dovecot can tell what is inside.

 # Safety
 `data` has `size` bytes.
 */
bool mcrs_convert_is_packed(const uint8_t *data,
                            size_t size);

/*
 Makes a writer for what a mail of `mailbox` becomes by `action`, and begins to compare. Returns 0 and sets
 `writer_r`, or -1.

 # Safety
 `convert` is from `mcrs_convert_new`; `mailbox` is open; `writer_r` and `error` are valid.
 */
int mcrs_convert_writer(struct mcrs_convert *convert,
                        struct mailbox *mailbox,
                        int action,
                        struct mcrs_writer **writer_r,
                        struct mcrs_error *error);

/*
 Takes the next bytes of the mail's content: as it was read, or (`after`) as it reads now. Returns 0 or -1.

 # Safety
 `convert` is from `mcrs_convert_new`; `data` has `size` bytes; `error` is valid.
 */
int mcrs_convert_compare(struct mcrs_convert *convert,
                         bool after,
                         const uint8_t *data,
                         size_t size,
                         struct mcrs_error *error);

/*
 The new file is about to be read. In a session in which the user's key is locked, only its content can be checked, as
 when mail is delivered. Returns 0 or -1.

 # Safety
 `convert` is from `mcrs_convert_new`; `error` is valid.
 */
int mcrs_convert_written(struct mcrs_convert *convert,
                         struct mcrs_error *error);

/*
 Makes sure that the content was the same before and after. Returns 0, or -1: the new file must go.

 # Safety
 `convert` is from `mcrs_convert_new`; `error` is valid.
 */
int mcrs_convert_same(struct mcrs_convert *convert, struct mcrs_error *error);

/*
 Makes sure that `mailbox` still has the keys that mails were encrypted to, once they are in their places. Returns 0,
 or -1: the old files must come back.

 # Safety
 `convert` is from `mcrs_convert_new`; `mailbox` is open; `error` is valid.
 */
int mcrs_convert_check(struct mcrs_convert *convert,
                       struct mailbox *mailbox,
                       struct mcrs_error *error);

/*
 So many milliseconds to wait after so many `bytes` in `msecs`.

 # Safety
 `convert` is from `mcrs_convert_new`.
 */
unsigned int mcrs_convert_pause(struct mcrs_convert *convert, uint64_t bytes, uint64_t msecs);

/*
 Ends the conversion and clears the pointer.

 # Safety
 `convert` is valid, and `*convert` NULL or from `mcrs_convert_new`.
 */
void mcrs_convert_free(struct mcrs_convert **convert);

/*
 When a mail may be copied as it is on disk into a folder of `user` (NULL where mail_crypt isn't enabled for the
 user). Returns the reasons (`MCRS_COPY_RAW*`) of which each is enough; without any it is to be saved anew.

 # Safety
 `user` is NULL or from `mcrs_user_new`.
 */
int mcrs_copy_raw(struct mcrs_user *user,
                  struct mcrs_copying copying);

/*
 Whether the mail that begins with `data` on disk is encrypted to the user's global key alone. 1 yes, 0 no,
 `MCRS_IS_GLOBAL_MORE`: more of its header is needed to tell, -1 error.

 # Safety
 `user` is from `mcrs_user_new`, `data` has `size` bytes.
 */
int mcrs_is_global(struct mcrs_user *user,
                   const uint8_t *data,
                   size_t size);

/*
 Reads the settings of `user` and makes the session. A setting that can't be used is an error where it is
 needed: of everything that is done with this user, or only of writing. What is logged about the user goes
 through `event`.

 Returns 0 and sets `user_r`, or -1: the user must then not be served.

 # Safety
 `user` lives until `mcrs_user_free`; `event` is valid; `lookup` answers NULL or NUL-terminated texts; `user_r`
 and `error` are valid.
 */
int mcrs_user_new(struct mail_user *user,
                  struct event *event,
                  mcrs_setting_fn lookup,
                  void *context,
                  struct mcrs_user **user_r,
                  struct mcrs_error *error);

/*
 Whether the settings can be used at all. Returns 0, or -1: a user with mailboxes must then not be
 served.

 # Safety
 `user` is from `mcrs_user_new`; `error` is valid.
 */
int mcrs_user_check(struct mcrs_user *user, struct mcrs_error *error);

/*
 Ends the session and clears the pointer. Its readers and writers stay valid, and fail where
 they would need the user.

 # Safety
 `user` is valid, and `*user` NULL or from `mcrs_user_new`.
 */
void mcrs_user_free(struct mcrs_user **user);

/*
 Files the keys of `mailbox`, whose GUID is about to become the 16 bytes at `guid`, under that as well.

 Returns 0, or -1: the GUID must then not change.

 # Safety
 `user` is from `mcrs_user_new`; `mailbox` is open; `guid` has 16 bytes; `error` is valid.
 */
int mcrs_user_carry_keys(struct mcrs_user *user,
                         struct mailbox *mailbox,
                         const uint8_t *guid,
                         struct mcrs_error *error);

/*
 The GUID that `mailbox` has to pretend to have. Returns 1 and copies its 16 bytes to `guid_r`, or 0: its own.

 # Safety
 `guid_r` has room for 16 bytes.
 */
int mcrs_mailbox_guid(struct mailbox *mailbox,
                      uint8_t *guid_r);

/*
 Makes a writer for a mail that is stored in `mailbox`, and the mailbox's key where it has none.

 `user` is NULL where mail_crypt isn't enabled for the user: the mail stays plaintext. `saves`, NULL at first, has
 the keys that the transaction's mails are encrypted to, of which one may be chosen `now`, by the event loop's time.
 Returns 0 and sets `writer_r`, or -1: the mail must then not be stored.

 # Safety
 `user` is NULL or from `mcrs_user_new`; `mailbox` is open; `saves` is valid, and `*saves` NULL or set by this;
 `writer_r` and `error` are valid.
 */
int mcrs_writer_new(struct mcrs_user *user,
                    struct mailbox *mailbox,
                    struct mcrs_saves **saves,
                    int64_t now,
                    struct mcrs_writer **writer_r,
                    struct mcrs_error *error);

/*
 Makes a writer for what is compressed before it is encrypted by the other one: it passes the mail on, and is refused
 if that is encrypted already. Returns 1 and sets `writer_r`, 0 where nothing is encrypted, -1 on error.

 # Safety
 `user` is from `mcrs_user_new`; `writer_r` and `error` are valid.
 */
int mcrs_writer_new_before_packing(struct mcrs_user *user,
                                   struct mcrs_writer **writer_r,
                                   struct mcrs_error *error);

/*
 Takes `size` bytes of the mail; what is to be stored for them is lent until the next call.
 Returns 0, or -1: the mail must then not be stored.

 # Safety
 `writer` is from `mcrs_writer_new`; `data` has `size` bytes; the rest is valid.
 */
int mcrs_writer_update(struct mcrs_writer *writer,
                       const uint8_t *data,
                       size_t size,
                       const uint8_t **out_r,
                       size_t *out_size_r,
                       struct mcrs_error *error);

/*
 Ends the mail; the rest of what is to be stored is lent until the writer is freed.
 Returns 0, or -1: the mail must then not be stored.

 # Safety
 As `mcrs_writer_update`.
 */
int mcrs_writer_finish(struct mcrs_writer *writer,
                       const uint8_t **out_r,
                       size_t *out_size_r,
                       struct mcrs_error *error);

/*
 Whether the mail must not be stored because it is, or only looks, encrypted: 1 yes, 0 no, -1 error.
 `error` then holds the reason.

 # Safety
 `writer` is from `mcrs_writer_new`; `error` is valid.
 */
int mcrs_writer_refused(struct mcrs_writer *writer, struct mcrs_error *error);

/*
 Forgets ephemeral keys of former mails that are too old for further ones. Returns in how many seconds to
 call it again, 0 where none is left.
 */
unsigned int mcrs_forget_old(void);

/*
 Whether mail may be stored in `mailbox`, whose storage, by the name of `driver`, keeps text only.
 Returns 0, or -1: it must not be stored.

 # Safety
 `user` is from `mcrs_user_new`; `mailbox` is open; `driver` is NUL-terminated; `error` is valid.
 */
int mcrs_user_check_unfit(struct mcrs_user *user,
                          struct mailbox *mailbox,
                          const char *driver,
                          struct mcrs_error *error);

/*
 Frees the writer and clears the pointer.

 # Safety
 `writer` is valid, and `*writer` NULL or from `mcrs_writer_new`.
 */
void mcrs_writer_free(struct mcrs_writer **writer);

/*
 Whether a stream that begins with these bytes is encrypted.

 # Safety
 `data` has `size` bytes.
 */
bool mcrs_is_encrypted(const uint8_t *data, size_t size);

/*
 Whether a stream that begins with these bytes, as many as [`MCRS_MAGIC_SIZE`], was written by TREES.

 # Safety
 `data` has `size` bytes.
 */
bool mcrs_is_trees(const uint8_t *data,
                   size_t size);

/*
 Whether `recorded` may be the size that Dovecot notes for a mail of `stored` bytes of ciphertext when it mends an
 sdbox or mdbox file. The mail's own size may look like that, too.
 */
bool mcrs_may_be_ciphertext_size(uint64_t recorded,
                                 uint64_t stored);

/*
 Whether a mail that isn't encrypted and begins with these bytes is certainly text. If not,
 `mcrs_refuse_damaged` has to look at it.

 # Safety
 `data` has `size` bytes.
 */
bool mcrs_begins_as_text(const uint8_t *data, size_t size);

/*
 A mail that isn't encrypted is served: for whoever counts.

 # Safety
 `user` is from `mcrs_user_new`.
 */
void mcrs_plain_served(struct mcrs_user *user);

/*
 Serves a mail that isn't encrypted, or refuses one that begins with these bytes, up to `MCRS_LOOK_SIZE` of it, if it was
 once encrypted: that is `known`, or the bytes and `sizes` show it. Returns 0, or -1 where it must not be served.

 # Safety
 `user` is from `mcrs_user_new`; `data` has `size` bytes; `error` is valid.
 */
int mcrs_refuse_damaged(struct mcrs_user *user,
                        bool known,
                        const uint8_t *data,
                        size_t size,
                        struct mcrs_sizes sizes,
                        struct mcrs_error *error);

/*
 Refuses a mail that isn't encrypted, if the user's settings say so. Returns 0, or -1 where it must not be served.

 # Safety
 `user` is from `mcrs_user_new`; `error` is valid.
 */
int mcrs_refuse_plain(struct mcrs_user *user,
                      struct mcrs_error *error);

/*
 Refuses a decrypted mail that begins with these bytes, up to `MCRS_LOOK_SIZE` of it, if it is encrypted
 once more. Returns 0, or -1 where it must not be served.

 # Safety
 `data` has `size` bytes; `error` is valid.
 */
int mcrs_refuse_twice(const uint8_t *data,
                      size_t size,
                      struct mcrs_error *error);

/*
 Whether `file`, which was verified in an earlier session, was found to be another one in this session. Then
 `entry_r`, which has as many bytes as a `struct mcrs_file`, is set to the entry that tells later sessions so.

 # Safety
 `user` is from `mcrs_user_new`; `entry_r` has so many bytes.
 */
bool mcrs_file_is_changed(struct mcrs_user *user,
                          struct mcrs_file file,
                          uint8_t *entry_r);

/*
 Makes a reader for a mail in `file`, of which the index cache has `cached`, by field. Returns 0 and sets
 `reader_r`, or -1.

 # Safety
 `user` is from `mcrs_user_new`; `cached` has `MCRS_READER_FIELDS` entries, each with its
 bytes; `reader_r` and `error` are valid.
 */
int mcrs_reader_new(struct mcrs_user *user,
                    struct mcrs_file file,
                    const struct mcrs_data *cached,
                    struct mcrs_reader **reader_r,
                    struct mcrs_error *error);

/*
 Makes a reader for a mail in `file` that TREES wrote. It is used as any other; the index cache gets nothing of it.
 Returns 0 and sets `reader_r`, or -1.

 # Safety
 `user` is from `mcrs_user_new`; `reader_r` and `error` are valid.
 */
int mcrs_reader_new_trees(struct mcrs_user *user,
                          struct mcrs_file file,
                          struct mcrs_reader **reader_r,
                          struct mcrs_error *error);

/*
 After the mail was opened: what the index cache should get in `field`. Returns 1 and lends it until
 the reader is freed, 0 where none is needed, -1 on error.

 # Safety
 `reader` is from `mcrs_reader_new`; the other pointers are valid.
 */
int mcrs_reader_get_cacheable(struct mcrs_reader *reader,
                              size_t field,
                              const uint8_t **entry_r,
                              size_t *size_r);

/*
 Takes the next `size` bytes of the file; the keys of `mailbox` are looked up when the header
 is complete (NULL: the file is in none). Returns 0: go on, 1: opened, no more is needed, -1: the
 mail can't be read.

 # Safety
 `reader` is from `mcrs_reader_new` or `mcrs_reader_new_trees`, `mailbox` is NULL or open, `data` has `size` bytes, `error`
 is valid.
 */
int mcrs_reader_feed(struct mcrs_reader *reader,
                     struct mailbox *mailbox,
                     const uint8_t *data,
                     size_t size,
                     struct mcrs_error *error);

/*
 The file has ended: checks the mail. Returns 0: it may be served, -1: not a byte of it.

 # Safety
 `reader` is from `mcrs_reader_new`; `error` is valid.
 */
int mcrs_reader_finish(struct mcrs_reader *reader, struct mcrs_error *error);

/*
 Whether all of the mail was verified to open it: then what is known of it from before needs no second
 look. 1 yes, 0 no, -1 error.

 # Safety
 `reader` is from `mcrs_reader_new`.
 */
int mcrs_reader_is_new(struct mcrs_reader *reader);

/*
 The mail, now open, isn't to be served after all: what was learned from it is forgotten.

 # Safety
 `reader` is from `mcrs_reader_new`.
 */
void mcrs_reader_refuse(struct mcrs_reader *reader);

/*
 The plaintext's size in bytes, once the mail is opened. Returns 0 or -1.

 # Safety
 `reader` is from `mcrs_reader_new`; `size_r` and `error` are valid.
 */
int mcrs_reader_size(struct mcrs_reader *reader, uint64_t *size_r, struct mcrs_error *error);

/*
 Asks for the plaintext from `offset` (below the size) on. Returns 1 or 2: the plaintext from `keep` on (at
 most `offset`: what the stream's reader hasn't consumed) is lent until the next call, with 2 at another
 address than before; 0: `mcrs_reader_serve` needs the `size_r` bytes of the file from `offset_r` on;
 -1: error.

 # Safety
 `reader` is from `mcrs_reader_new`; the other pointers are valid.
 */
int mcrs_reader_want(struct mcrs_reader *reader,
                     uint64_t keep,
                     uint64_t offset,
                     const uint8_t **data_r,
                     uint64_t *offset_r,
                     size_t *size_r,
                     struct mcrs_error *error);

/*
 Takes the ciphertext that `mcrs_reader_want` asked for at `offset`, or its first part (none of
 it: the file has ended). Returns 1: the plaintext from `keep` to the chunk's end is lent until the
 next call, at another address than before; 0: ask `mcrs_reader_want` what else is needed; -1: the file
 was changed since it was verified.

 # Safety
 `reader` is from `mcrs_reader_new`, `data` has `size` bytes, the other pointers are valid.
 */
int mcrs_reader_serve(struct mcrs_reader *reader,
                      uint64_t keep,
                      uint64_t offset,
                      const uint8_t *data,
                      size_t size,
                      const uint8_t **data_r,
                      size_t *size_r,
                      struct mcrs_error *error);

/*
 Frees the reader, wipes its plaintext and clears the pointer.

 # Safety
 `reader` is valid, and `*reader` NULL or from `mcrs_reader_new`.
 */
void mcrs_reader_free(struct mcrs_reader **reader);

/*
 Before the mails are stored: makes sure that their keys are still those of `mailbox`. That is so where `now`, the
 event loop's time, is still when the first was chosen. Returns 0, or -1: nothing must be stored.

 # Safety
 `saves` is NULL or from `mcrs_writer_new`; `mailbox` is open; `error` is valid.
 */
int mcrs_saves_check_before(struct mcrs_saves *saves,
                            struct mailbox *mailbox,
                            int64_t now,
                            struct mcrs_error *error);

/*
 Makes sure that the keys are still those of `mailbox`: to be called once others can see the mails. Returns 0, or -1:
 they must not stay.

 # Safety
 As `mcrs_saves_check_before`.
 */
int mcrs_saves_check(struct mcrs_saves *saves,
                     struct mailbox *mailbox,
                     struct mcrs_error *error);

/*
 Frees the saves and clears the pointer.

 # Safety
 `saves` is valid, and `*saves` NULL or from `mcrs_writer_new`.
 */
void mcrs_saves_free(struct mcrs_saves **saves);

/*
 Begins a change of a folder's ACL: `mcrs_sharing_next` says what to do. `owner` is the folder's owner, or
 NULL; with NULL for `update` nothing is changed, and those who lack keys get them. Returns 0 and sets
 `sharing_r`, or -1.

 # Safety
 `user` is from `mcrs_user_new`; `owner` is NULL or NUL-terminated; `update` is NULL or valid; the rest is valid.
 */
int mcrs_sharing_new(struct mcrs_user *user,
                     const char *owner,
                     const struct acl_rights_update *update,
                     struct mcrs_sharing **sharing_r,
                     struct mcrs_error *error);

/*
 Goes on until the caller has to do something: returns `MCRS_SHARING_*`, with `MCRS_SHARING_LOOK_UP` the
 user's name in `name_r`, lent until the next call; or -1: the ACL must then not change, and keys are as
 they were. The folder's key lock is held from the second `MCRS_SHARING_READ_ACL` on, until the change is freed.

 # Safety
 `sharing` is from `mcrs_sharing_new`, `mailbox` is the folder and open; `name_r` and `error` are valid.
 */
int mcrs_sharing_next(struct mcrs_sharing *sharing,
                      struct mailbox *mailbox,
                      const char **name_r,
                      struct mcrs_error *error);

/*
 Takes one entry of the ACL as it is. Returns 0 or -1.

 # Safety
 `sharing` is from `mcrs_sharing_new`; `rights` and `error` are valid.
 */
int mcrs_sharing_entry(struct mcrs_sharing *sharing,
                       const struct acl_rights *rights,
                       struct mcrs_error *error);

/*
 Answers `MCRS_SHARING_LOOK_UP` with `user`. Where that is NULL there is no such user, or `why` says why it
 can't be told. Returns 0, or -1: the ACL must then not change.

 # Safety
 `sharing` is from `mcrs_sharing_new`; `user` is NULL or lives for the length of this call; `why` is NULL or
 NUL-terminated; `error` is valid.
 */
int mcrs_sharing_answer(struct mcrs_sharing *sharing,
                        struct mail_user *user,
                        const char *why,
                        struct mcrs_error *error);

/*
 Takes the change of keys back, where the ACL could not be changed. Returns 0 or -1.

 # Safety
 `sharing` is from `mcrs_sharing_new`, `mailbox` is the folder and open.
 */
int mcrs_sharing_undo(struct mcrs_sharing *sharing,
                      struct mailbox *mailbox,
                      struct mcrs_error *error);

/*
 Ends the change, gives the lock back if it was taken, and clears the pointer.

 # Safety
 `sharing` is valid, and `*sharing` NULL or from `mcrs_sharing_new`.
 */
void mcrs_sharing_free(struct mcrs_sharing **sharing);

/*
 Sets what is called after a key of a folder was made; NULL for nothing. One hook a process.
 */
void mcrs_set_key_hook(mcrs_key_hook hook);

/*
 Parses the parameters of an fs driver, up to its parent's, which begin at byte `parent_r` of
 `args`. With NULL there are none: all is in the settings, as Dovecot 2.4 has it. No key is read
 yet. What happens to its files goes through a child of `event`. Returns 0 and sets `fs_r`, or -1.

 # Safety
 `event` is NULL or valid; `args` is NULL or NUL-terminated; `setting` can be called with `context` until `mcrs_fs_free`;
 the other pointers are valid.
 */
int mcrs_fs_new(struct event *event,
                const char *args,
                mcrs_fs_setting_fn setting,
                void *context,
                struct mcrs_fs **fs_r,
                size_t *parent_r,
                struct mcrs_error *error);

/*
 Makes a reader for `file`. The keys are read when they are needed. Returns 0 and sets `reader_r`, or -1.

 # Safety
 `fs` is from `mcrs_fs_new`; `reader_r` and `error` are valid.
 */
int mcrs_fs_reader_new(struct mcrs_fs *fs,
                       struct mcrs_file file,
                       struct mcrs_reader **reader_r,
                       struct mcrs_error *error);

/*
 Makes a writer for a file. Returns 0 and sets `writer_r`, to NULL if the administrator says that
 nothing is encrypted; or -1: the file must then not be written.

 # Safety
 `fs` is from `mcrs_fs_new`; `writer_r` and `error` are valid.
 */
int mcrs_fs_writer_new(struct mcrs_fs *fs, struct mcrs_writer **writer_r, struct mcrs_error *error);

/*
 Frees the fs and clears the pointer. Its readers and writers stay valid, and fail where they
 would need the settings.

 # Safety
 `fs` is valid, and `*fs` NULL or from `mcrs_fs_new`.
 */
void mcrs_fs_free(struct mcrs_fs **fs);

/*
 Makes an empty spool. Returns 0 and sets `spool_r`, or -1.

 # Safety
 `spool_r` and `error` are valid.
 */
int mcrs_spool_new(struct mcrs_spool **spool_r, struct mcrs_error *error);

/*
 Asks for the data at `next`, together with what the reader hasn't consumed from `keep` (at most
 `next`) on. Returns 1: it is lent, in one piece from `keep` on, until this returns 1 again;
 0: `mcrs_spool_take` needs what the source has at `offset_r`, or `next` is the end; -1: error.

 # Safety
 `spool` is from `mcrs_spool_new`; the other pointers are valid.
 */
int mcrs_spool_read(struct mcrs_spool *spool,
                    uint64_t keep,
                    uint64_t next,
                    const uint8_t **data_r,
                    size_t *size_r,
                    uint64_t *offset_r,
                    struct mcrs_error *error);

/*
 Takes the `size` bytes that the source has at `offset`. Returns 1: `taken_r` of them were taken,
 at least one if there are any; 0: none, `mcrs_spool_set_file` must be called first; -1: error.

 # Safety
 `spool` is from `mcrs_spool_new`; `data` has `size` bytes; `taken_r` and `error` are valid.
 */
int mcrs_spool_take(struct mcrs_spool *spool,
                    uint64_t offset,
                    const uint8_t *data,
                    size_t size,
                    size_t *taken_r,
                    struct mcrs_error *error);

/*
 Gives the spool an empty file, which it owns from here on whatever is returned; -1: there is none, and nothing will
 be kept any more. Returns 0 or -1.

 # Safety
 `spool` is from `mcrs_spool_new`; `fd` is an open file that nothing else uses, or -1 and `why`
 NUL-terminated; `error` is valid.
 */
int mcrs_spool_set_file(struct mcrs_spool *spool,
                        int fd,
                        const char *why,
                        struct mcrs_error *error);

/*
 Whether all that was taken can be read without the source: 1 yes, 0 no, -1 error.

 # Safety
 `spool` is from `mcrs_spool_new`.
 */
int mcrs_spool_keeps(struct mcrs_spool *spool);

/*
 Frees the spool, wipes its plaintext, closes its file and clears the pointer.

 # Safety
 `spool` is valid, and `*spool` NULL or from `mcrs_spool_new`.
 */
void mcrs_spool_free(struct mcrs_spool **spool);

/*
 Begins a command. Returns 0 and sets `admin_r`, or -1.

 # Safety
 `user` is from `mcrs_user_new`; `request` is valid, its texts are NULL or NUL-terminated, its input has
 `input_size` bytes; `admin_r` and `error` are valid.
 */
int mcrs_admin_new(struct mcrs_user *user,
                   const struct mcrs_admin_request *request,
                   struct mcrs_admin **admin_r,
                   struct mcrs_error *error);

/*
 How the rows of a command are laid out: `MCRS_LAYOUT_*`.
 */
int mcrs_admin_layout(int command);

/*
 Says what the column with this number, counted from 0, is. Returns 1, or 0 where there are fewer.

 # Safety
 `column_r` is valid.
 */
int mcrs_admin_column(int command, size_t number, struct mcrs_admin_column *column_r);

/*
 Says what the next step is; `failed`: the last one failed in one of its folders. Returns 1, 0 where
 the command has come to its end, or -1.

 # Safety
 `admin` is from `mcrs_admin_new`; `step_r` is valid.
 */
int mcrs_admin_next_step(struct mcrs_admin *admin, bool failed, struct mcrs_admin_step *step_r);

/*
 Does the step in one of its folders. Returns 0 or -1.

 # Safety
 `admin` is from `mcrs_admin_new`, `mailbox` NULL or open, `error` valid.
 */
int mcrs_admin_do(struct mcrs_admin *admin, struct mailbox *mailbox, struct mcrs_error *error);

/*
 Looks at the next bytes of a mail as it is stored; `first`: its first ones. Returns 1: more
 are needed, 0: it doesn't need the chosen key, -1: it does, or that can't be told.

 # Safety
 `admin` is from `mcrs_admin_new`, `data` has `size` bytes, `error` is valid.
 */
int mcrs_admin_check_mail(struct mcrs_admin *admin,
                          uint32_t uid,
                          bool first,
                          const uint8_t *data,
                          size_t size,
                          struct mcrs_error *error);

/*
 Hands out the next row. Returns 1, 0 where there is none, or -1.

 # Safety
 `admin` is from `mcrs_admin_new`; `row_r` is valid.
 */
int mcrs_admin_next_row(struct mcrs_admin *admin, struct mcrs_admin_row *row_r);

/*
 Ends the command and clears the pointer.

 # Safety
 `admin` is valid, and `*admin` NULL or from `mcrs_admin_new`.
 */
void mcrs_admin_free(struct mcrs_admin **admin);

#endif  /* MAIL_CRYPT_CORE_H */
