/* Dovecot 2.3's settings: plugin {} and what userdb says instead. */

#include "compat.h"
#include "master-service.h"
#include "master-service-settings.h"

/* A process without mail storage, such as the dict service, doesn't have this. */
#pragma weak mail_user_plugin_getenv

/* Returns the name of a userdb field: Dovecot takes both spellings. */
static const char *compat_field_name(const char *field)
{
	return strncmp(field, "plugin/", 7) == 0 ? field + 7 : field;
}

static bool compat_field_is_empty(const char *name)
{
	const char *value = strchr(name, '=');

	return value == NULL || value[1] == '\0';
}

/* Returns the name of the field with this number, NULL if there are fewer. Only those that could be meant for us count,
   from 1 on. An empty field's name ends with =. */
static const char *compat_field(struct mail_user *user, unsigned int number)
{
	const char *const *fields = user->userdb_fields;
	const char *name;

	for (; fields != NULL && *fields != NULL; fields++) {
		name = compat_field_name(*fields);
		if ((str_begins(name, "mail_crypt_") ||
		     str_begins(name, "crypt_")) && --number == 0) {
			return t_strconcat(t_strcut(name, '='),
				compat_field_is_empty(name) ? "=" : "", NULL);
		}
	}
	return NULL;
}

/* Is there an empty userdb field of this name? Dovecot makes "yes" of that. */
static bool compat_field_is_set_empty(struct mail_user *user, const char *name)
{
	const char *const *fields = user->userdb_fields;
	const char *field;
	bool empty = FALSE;

	/* the last one counts */
	for (; fields != NULL && *fields != NULL; fields++) {
		field = compat_field_name(*fields);
		if (strcmp(t_strcut(field, '='), name) == 0)
			empty = compat_field_is_empty(field);
	}
	return empty;
}

static bool compat_is_given(const char *name)
{
	return master_service_set_has_config_override(master_service,
		t_strconcat("plugin/", name, NULL));
}

const char *compat_setting_lookup(void *set, const char *name)
{
	struct mail_user *user = set;
	const char *value;
	unsigned int number;

	if (str_begins(name, COMPAT_FIELD))
		return str_to_uint(name + strlen(COMPAT_FIELD), &number) < 0 ||
			number == 0 ? NULL : compat_field(user, number);
	if (strcmp(name, COMPAT_MASTER_USER) == 0)
		return compat_master_user(user);
	if (strcmp(name, COMPAT_GIVEN) == 0)
		return compat_is_given("mail_crypt_private_password") ? "" : NULL;

	value = mail_user_plugin_getenv(user, name);
	if (value != NULL && strcmp(value, "yes") == 0 &&
	    !compat_is_given(name) && compat_field_is_set_empty(user, name))
		return "";
	return value;
}
