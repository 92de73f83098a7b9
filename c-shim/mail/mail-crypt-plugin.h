#ifndef MAIL_CRYPT_PLUGIN_H
#define MAIL_CRYPT_PLUGIN_H

struct istream;
struct module;
struct mail;
struct mcrs_error;
struct mcrs_sizes;
struct mcrs_user;
struct mail_user;

/* Looks at the next bytes of an encrypted mail as it is stored. At the mail's end size is 0. Returns 1 if
   more are needed, 0 if it has seen enough, -1 if it failed. */
typedef int mail_crypt_scan_t(struct mail *mail, const unsigned char *data,
			      size_t size, void *context);

/* Other modules look these up by their names, since they may be loaded before this one. */

/* Returns NULL if mail_crypt isn't enabled for the user. */
typedef struct mcrs_user *mail_crypt_user_get_t(struct mail_user *user);
EXPORT mail_crypt_user_get_t mail_crypt_user_get;

/* Until it is called with NULL, the user's encrypted mails are only scanned: opening one ends in
   the scan and then fails, without a word in the log. */
typedef void mail_crypt_user_scan_t(struct mail_user *user,
				    mail_crypt_scan_t *scan, void *context);
EXPORT mail_crypt_user_scan_t mail_crypt_user_scan;

/* Looks at a mail as it is stored, encrypted or not, from the beginning of input. Of one that isn't encrypted the sizes are
   told, and whether the index cache says that it once was. */
typedef void mail_crypt_look_t(struct mail *mail, struct istream *input,
			       const struct mcrs_sizes *sizes,
			       bool was_encrypted, void *context);

/* Until it is called with NULL, none of the user's mails is opened: look sees it, and then opening it fails, without a
   word in the log. Nothing is kept in an index cache meanwhile. */
typedef void mail_crypt_user_look_t(struct mail_user *user,
				    mail_crypt_look_t *look, void *context);
EXPORT mail_crypt_user_look_t mail_crypt_user_look;

/* An attachment that is kept outside of a mail, in a file whose beginning tells whether it is encrypted. */
typedef void mail_crypt_attachment_t(bool encrypted, void *context);

/* Tells of a mail's attachments. With verify they are read, too: returns 0, or -1 and sets error_r if one can't be. */
typedef int mail_crypt_attachments_t(struct mail *mail, bool verify,
				     mail_crypt_attachment_t *tell,
				     void *context, struct mcrs_error *error_r);
EXPORT mail_crypt_attachments_t mail_crypt_attachments;

EXPORT extern const char *mail_crypt_plugin_version;

EXPORT void mail_crypt_plugin_init(struct module *module);
EXPORT void mail_crypt_plugin_deinit(void);

#endif
