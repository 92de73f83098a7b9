#ifndef MAIL_CRYPT_ACL_PLUGIN_H
#define MAIL_CRYPT_ACL_PLUGIN_H

struct module;

extern const char *mail_crypt_acl_plugin_version;
extern const char *mail_crypt_acl_plugin_dependencies[];

void mail_crypt_acl_plugin_init(struct module *module);
void mail_crypt_acl_plugin_deinit(void);

#endif
