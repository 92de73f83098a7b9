#ifndef MAIL_CRYPT_ACL_PLUGIN_H
#define MAIL_CRYPT_ACL_PLUGIN_H

struct module;

struct acl_rights;
struct mailbox;

/* Returns 0, or -1: no more is wanted. */
typedef int mail_crypt_acl_entry_t(const struct acl_rights *rights, void *context);

/* Gives each entry of the mailbox's ACL. Another module looks it up by its name. Returns 1 if all were given, 0 if the
   mailbox has no ACL of ours, -1 if it can't be read or was given up. */
typedef int mail_crypt_acl_entries_t(struct mailbox *box,
				     mail_crypt_acl_entry_t *entry,
				     void *context);
EXPORT mail_crypt_acl_entries_t mail_crypt_acl_entries;

EXPORT extern const char *mail_crypt_acl_plugin_version;
EXPORT extern const char *mail_crypt_acl_plugin_dependencies[];

EXPORT void mail_crypt_acl_plugin_init(struct module *module);
EXPORT void mail_crypt_acl_plugin_deinit(void);

#endif
