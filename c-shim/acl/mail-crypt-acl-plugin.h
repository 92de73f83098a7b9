#ifndef MAIL_CRYPT_ACL_PLUGIN_H
#define MAIL_CRYPT_ACL_PLUGIN_H

struct module;

EXPORT extern const char *mail_crypt_acl_plugin_version;
EXPORT extern const char *mail_crypt_acl_plugin_dependencies[];

EXPORT void mail_crypt_acl_plugin_init(struct module *module);
EXPORT void mail_crypt_acl_plugin_deinit(void);

#endif
