#ifndef MAIL_CRYPT_PLUGIN_H
#define MAIL_CRYPT_PLUGIN_H

struct module;
struct mail;
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

EXPORT extern const char *mail_crypt_plugin_version;

EXPORT void mail_crypt_plugin_init(struct module *module);
EXPORT void mail_crypt_plugin_deinit(void);

#endif
