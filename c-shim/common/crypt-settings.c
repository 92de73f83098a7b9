/* Dovecot 2.4's settings. Its config process has its own description of the crypt_* settings, and hands out nothing to
   a plugin whose description differs: names, keys, order and number are fixed. */

#include "compat.h"
#include "array.h"
#include "settings.h"
#include "settings-parser.h"
#include "master-service-private.h"
#include "crypt-settings-private.h"

struct crypt_private_key_settings {
	pool_t pool;
	const char *crypt_private_key_name;
	const char *crypt_private_key_file;
	const char *crypt_private_key_password;
};

struct crypt_settings {
	pool_t pool;
	bool fs_crypt_read_plain_fallback;
	const char *crypt_global_public_key_file;
	/* names of blocks */
	ARRAY_TYPE(const_string) crypt_global_private_keys;
	const char *crypt_write_algorithm;
	/* names of blocks */
	ARRAY_TYPE(const_string) crypt_user_key_encryption_keys;
	const char *crypt_user_key_password;
	const char *crypt_user_key_curve;
	bool crypt_user_key_require_encrypted;
};

struct crypt_acl_settings {
	pool_t pool;
	bool crypt_acl_require_secure_key_sharing;
};

/* Names the packaged plugin's file, in whose place ours is. */
#define CRYPT_PLUGIN "lib10_mail_crypt_plugin"
#define CRYPT_ACL_PLUGIN "lib05_mail_crypt_acl_plugin"

#define KEY_FIELD(type, key) \
	SETTING_DEFINE_STRUCT_##type(#key, key, struct crypt_private_key_settings)

static const struct setting_define crypt_key_defines[] = {
	KEY_FIELD(STR, crypt_private_key_name),
	KEY_FIELD(FILE, crypt_private_key_file),
	KEY_FIELD(STR, crypt_private_key_password),
	SETTING_DEFINE_LIST_END
};

static const struct crypt_private_key_settings crypt_key_defaults = {
	.crypt_private_key_name = "",
	.crypt_private_key_file = "",
	.crypt_private_key_password = ""
};

static const struct setting_parser_info crypt_private_key_setting_parser_info = {
	.name = "crypt_private_key",
	.plugin_dependency = CRYPT_PLUGIN,
	.defines = crypt_key_defines,
	.defaults = &crypt_key_defaults,
	.struct_size = sizeof(struct crypt_private_key_settings),
	.pool_offset1 = 1 + offsetof(struct crypt_private_key_settings, pool)
};

#define FIELD(type, key) \
	SETTING_DEFINE_STRUCT_##type(#key, key, struct crypt_settings)
/* Named blocks: the setting's value is the list of the names. */
#define BLOCKS(name, array) \
	{ .type = SET_FILTER_ARRAY, \
	  .key = name, \
	  .offset = offsetof(struct crypt_settings, array), \
	  .filter_array_field_name = "crypt_private_key_name" }

static const struct setting_define crypt_defines[] = {
	FIELD(BOOL, fs_crypt_read_plain_fallback),
	FIELD(FILE, crypt_global_public_key_file),
	BLOCKS("crypt_global_private_key", crypt_global_private_keys),
	FIELD(STR, crypt_write_algorithm),
	BLOCKS("crypt_user_key_encryption_key", crypt_user_key_encryption_keys),
	FIELD(STR, crypt_user_key_password),
	FIELD(STR, crypt_user_key_curve),
	FIELD(BOOL, crypt_user_key_require_encrypted),
	SETTING_DEFINE_LIST_END
};

static const struct crypt_settings crypt_defaults = {
	.crypt_global_public_key_file = "",
	.crypt_global_private_keys = ARRAY_INIT,
	.crypt_write_algorithm = "aes-256-gcm-sha256",
	.crypt_user_key_encryption_keys = ARRAY_INIT,
	.crypt_user_key_password = "",
	.crypt_user_key_curve = ""
};

static const struct setting_parser_info crypt_setting_parser_info = {
	.name = "crypt",
	.plugin_dependency = CRYPT_PLUGIN,
	.defines = crypt_defines,
	.defaults = &crypt_defaults,
	.struct_size = sizeof(struct crypt_settings),
	.pool_offset1 = 1 + offsetof(struct crypt_settings, pool)
};

static const struct setting_define crypt_acl_defines[] = {
	SETTING_DEFINE_STRUCT_BOOL("crypt_acl_require_secure_key_sharing",
				   crypt_acl_require_secure_key_sharing,
				   struct crypt_acl_settings),
	SETTING_DEFINE_LIST_END
};

static const struct crypt_acl_settings crypt_acl_defaults = {
	.crypt_acl_require_secure_key_sharing = FALSE
};

static const struct setting_parser_info crypt_acl_setting_parser_info = {
	.name = "crypt_acl",
	.plugin_dependency = CRYPT_ACL_PLUGIN,
	.defines = crypt_acl_defines,
	.defaults = &crypt_acl_defaults,
	.struct_size = sizeof(struct crypt_acl_settings),
	.pool_offset1 = 1 + offsetof(struct crypt_acl_settings, pool)
};

/* The compression plugin keeps its description to itself. */
struct compat_compress_settings {
	pool_t pool;
	const char *mail_compress_write_method;
};

static const struct setting_define compat_compress_defines[] = {
	SETTING_DEFINE_STRUCT_STR("mail_compress_write_method",
				  mail_compress_write_method,
				  struct compat_compress_settings),
	SETTING_DEFINE_LIST_END
};

static const struct compat_compress_settings compat_compress_defaults = {
	.mail_compress_write_method = ""
};

static const struct setting_parser_info compat_compress_info = {
	.name = "mail_compress",
	.plugin_dependency = "lib20_mail_compress_plugin",
	.defines = compat_compress_defines,
	.defaults = &compat_compress_defaults,
	.struct_size = sizeof(struct compat_compress_settings),
	.pool_offset1 = 1 + offsetof(struct compat_compress_settings, pool)
};

struct compat_settings {
	pool_t pool;
	/* name, value, name, value, .. */
	ARRAY_TYPE(const_string) values;
};

void compat_settings_add_always(struct compat_settings *set, const char *name,
				const char *value)
{
	name = p_strdup(set->pool, name);
	value = p_strdup(set->pool, value);
	array_push_back(&set->values, &name);
	array_push_back(&set->values, &value);
}

void compat_settings_add(struct compat_settings *set, const char *name,
			 const char *value)
{
	if (value[0] != '\0')
		compat_settings_add_always(set, name, value);
}

static void
compat_settings_add_bool(struct compat_settings *set, const char *name,
			 bool value)
{
	compat_settings_add(set, name, value ? "yes" : "");
}

void compat_settings_add_file(struct compat_settings *set, const char *name,
			      const char *value)
{
	struct settings_file file;

	settings_file_get(value, unsafe_data_stack_pool, &file);
	if (file.content[0] == '\0' && file.path[0] == '\0')
		return;
	compat_settings_add_always(set, name, file.content);
	compat_settings_add(set, t_strconcat(name, "_file", NULL), file.path);
}

static int
compat_settings_add_key(struct compat_settings *set, struct event *event,
			const char *filter, const char *block,
			const char *name, const char **error_r)
{
	const struct crypt_private_key_settings *key;
	const char *error;

	if (settings_get_filter(event, filter, block,
				&crypt_private_key_setting_parser_info, 0,
				&key, &error) < 0) {
		*error_r = t_strdup_printf("%s %s: %s", filter, block, error);
		return -1;
	}
	compat_settings_add_file(set, name, key->crypt_private_key_file);
	if (compat_setting_lookup(set, name) == NULL) {
		/* the core would take it for the end of the list */
		*error_r = t_strdup_printf(
			"%s %s: crypt_private_key_file is empty or not set",
			filter, block);
		settings_free(key);
		return -1;
	}
	compat_settings_add(set, t_strconcat(name, "_password", NULL),
			    key->crypt_private_key_password);
	compat_settings_add(set, t_strconcat(name, "_name", NULL),
			    t_strdup_printf("%s %s", filter, block));
	settings_free(key);
	return 0;
}

static int
compat_settings_add_keys(struct compat_settings *set, struct event *event,
			 const char *filter,
			 const ARRAY_TYPE(const_string) *blocks,
			 const char *first, const char **error_r)
{
	const char *block, *name = first;
	unsigned int count = 1;

	if (!array_is_created(blocks))
		return 0;
	array_foreach_elem(blocks, block) {
		if (compat_settings_add_key(set, event, filter, block, name,
					    error_r) < 0)
			return -1;
		name = t_strdup_printf("%s%u", first, ++count);
	}
	return 0;
}

/* 2.4 ignores userdb fields that it doesn't know: the core gets the names of all that could be meant for us. */
static void
compat_settings_add_fields(struct compat_settings *set,
			   const char *const *fields)
{
	const char *name, *value;
	unsigned int count = 0;

	for (; fields != NULL && *fields != NULL; fields++) {
		name = compat_userdb_setting(t_strcut(*fields, '='));
		value = strchr(*fields, '=');
		if (str_begins_with(name, "mail_crypt_") ||
		    str_begins_with(name, "set/") ||
		    str_begins_with(name, "crypt_")) {
			if (value == NULL || value[1] == '\0')
				name = t_strconcat(name, "=", NULL);
			compat_settings_add(set, t_strdup_printf(
				COMPAT_FIELD"%u", ++count), name);
		}
	}
}

static int
compat_settings_add_acl(struct compat_settings *set, struct event *event,
			const char **error_r)
{
	const struct crypt_acl_settings *acl;

	if (settings_get(event, &crypt_acl_setting_parser_info, 0, &acl,
			 error_r) < 0)
		return -1;
	compat_settings_add_bool(set,
		"mail_crypt_acl_require_secure_key_sharing",
		acl->crypt_acl_require_secure_key_sharing);
	settings_free(acl);
	return 0;
}

static int
compat_settings_add_global(struct compat_settings *set, struct event *event,
			   const struct crypt_settings *crypt,
			   const char **error_r)
{
	compat_settings_add(set, "mail_crypt_save_version",
			    crypt->crypt_write_algorithm[0] == '\0' ? "0" : "2");
	compat_settings_add(set, "crypt_write_algorithm",
			    crypt->crypt_write_algorithm);
	compat_settings_add_file(set, "mail_crypt_global_public_key",
				 crypt->crypt_global_public_key_file);
	return compat_settings_add_keys(set, event, "crypt_global_private_key",
					&crypt->crypt_global_private_keys,
					"mail_crypt_global_private_key",
					error_r);
}

static int
compat_settings_add_user(struct compat_settings *set, struct event *event,
			 const struct crypt_settings *crypt,
			 const char **error_r)
{
	compat_settings_add(set, "mail_crypt_curve",
			    crypt->crypt_user_key_curve);
	compat_settings_add(set, "mail_crypt_private_password",
			    crypt->crypt_user_key_password);
	compat_settings_add_bool(set, "mail_crypt_require_encrypted_user_key",
				 crypt->crypt_user_key_require_encrypted);
	if (compat_settings_add_keys(set, event, "crypt_user_key_encryption_key",
				     &crypt->crypt_user_key_encryption_keys,
				     "mail_crypt_private_key", error_r) < 0)
		return -1;
	return compat_settings_add_acl(set, event, error_r);
}

static struct compat_settings *compat_settings_alloc(void)
{
	/* wiped when it is freed */
	pool_t pool = pool_alloconly_create_clean("mail_crypt settings", 1024);
	struct compat_settings *set = p_new(pool, struct compat_settings, 1);

	set->pool = pool;
	p_array_init(&set->values, pool, 32);
	return set;
}

/* A password counts as set even if all that it refers to is empty for this user. */
static int
compat_settings_add_expanded_to_nothing(struct compat_settings *set,
					struct event *event,
					const struct crypt_settings *crypt,
					const char **error_r)
{
	const struct crypt_settings *raw;

	if (settings_get(event, &crypt_setting_parser_info,
			 SETTINGS_GET_FLAG_NO_EXPAND, &raw, error_r) < 0)
		return -1;
	if (crypt->crypt_user_key_password[0] == '\0' &&
	    raw->crypt_user_key_password[0] != '\0') {
		compat_settings_add_always(set, "mail_crypt_private_password",
					   "");
	}
	settings_free(raw);
	return 0;
}

static int
compat_settings_add_all(struct compat_settings *set, struct event *event,
			const char **error_r)
{
	const struct crypt_settings *crypt;
	int ret;

	if (settings_get(event, &crypt_setting_parser_info, 0, &crypt,
			 error_r) < 0)
		return -1;
	ret = compat_settings_add_global(set, event, crypt, error_r);
	if (ret == 0)
		ret = compat_settings_add_user(set, event, crypt, error_r);
	if (ret == 0) {
		ret = compat_settings_add_expanded_to_nothing(set, event, crypt,
							      error_r);
	}
	settings_free(crypt);
	return ret;
}

static bool compat_is_given(const char *name)
{
	const char *given;

	if (!array_is_created(&master_service->config_overrides))
		return FALSE;
	array_foreach_elem(&master_service->config_overrides, given) {
		if (strcmp(t_strcut(given, '='), name) == 0)
			return TRUE;
	}
	return FALSE;
}

struct compat_settings *compat_settings_get(struct mail_user *user)
{
	struct compat_settings *set = compat_settings_alloc();
	const char *error, *master = compat_master_user(user);

	if (compat_settings_add_all(set, user->event, &error) < 0)
		compat_settings_add(set, COMPAT_ERROR, error);
	compat_settings_add_own(set, user->event);
	compat_settings_add_fields(set, user->userdb_fields);
	if (master != NULL)
		compat_settings_add(set, COMPAT_MASTER_USER, master);
	if (compat_is_given("crypt_user_key_password"))
		compat_settings_add_always(set, COMPAT_GIVEN, "");
	return set;
}

int compat_fs_settings_get(struct event *event, struct compat_settings **set_r,
			   const char **error_r)
{
	const struct crypt_settings *crypt;
	const char *error;

	if (settings_get(event, &crypt_setting_parser_info, 0, &crypt,
			 error_r) < 0)
		return -1;
	*set_r = compat_settings_alloc();
	compat_settings_add_bool(*set_r, COMPAT_FS_PLAIN_FALLBACK,
				 crypt->fs_crypt_read_plain_fallback);
	/* what needs no keys works all the same */
	if (compat_settings_add_global(*set_r, event, crypt, &error) < 0)
		compat_settings_add(*set_r, COMPAT_ERROR, error);
	settings_free(crypt);
	return 0;
}

void compat_settings_free(struct compat_settings **_set)
{
	struct compat_settings *set = *_set;

	*_set = NULL;
	pool_unref(&set->pool);
}

const char *compat_setting_lookup(void *context, const char *name)
{
	struct compat_settings *set = context;
	const char *const *values;
	unsigned int i, count;

	values = array_get(&set->values, &count);
	for (i = 0; i < count; i += 2) {
		if (strcmp(values[i], name) == 0)
			return values[i + 1];
	}
	return NULL;
}

const char *compat_compress_method(struct mail_user *user)
{
	const struct compat_compress_settings *set;
	const char *method, *error;

	/* without the plugin there is no such setting */
	if (settings_get(user->event, &compat_compress_info, 0, &set,
			 &error) < 0)
		return NULL;
	method = t_strdup(set->mail_compress_write_method);
	settings_free(set);
	return method;
}
