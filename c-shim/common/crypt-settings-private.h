#ifndef CRYPT_SETTINGS_PRIVATE_H
#define CRYPT_SETTINGS_PRIVATE_H

/* Dovecot 2.4: how crypt-settings.c collects what the core may ask for. */

struct compat_settings;

void compat_settings_add_always(struct compat_settings *set, const char *name,
				const char *value);
/* Leaves out what is empty: in 2.4 that is the same as not set. */
void compat_settings_add(struct compat_settings *set, const char *name,
			 const char *value);
/* A file that is there but empty counts as set. */
void compat_settings_add_file(struct compat_settings *set, const char *name,
			      const char *value);

/* In crypt-settings-own.c: adds the settings that the packaged plugin doesn't have. */
void compat_settings_add_own(struct compat_settings *set, struct event *event);

#endif
