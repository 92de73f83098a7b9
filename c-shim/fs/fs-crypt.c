/* The "crypt" driver of Dovecot 2.3: keys from files, or from the plugin {} settings; in a mail user's
   storage, as they are for that user. */

#include "compat.h"
#include "array.h"
#include "settings-parser.h"
#include "master-service-private.h"
#include "master-service-settings.h"

#include "fs-crypt-args.h"

struct fs_crypt_settings {
	ARRAY(const char *) plugin_envs;
};

static const struct setting_define fs_crypt_setting_defines[] = {
	{ .type = SET_STRLIST, .key = "plugin",
	  .offset = offsetof(struct fs_crypt_settings, plugin_envs) },
	SETTING_DEFINE_LIST_END
};

static const struct fs_crypt_settings fs_crypt_default_settings = {
	.plugin_envs = ARRAY_INIT
};

/* The names are the packaged driver's, which the config process knows. */
static const struct setting_parser_info fs_crypt_setting_parser_info = {
	.module_name = "fs-crypt",
	.defines = fs_crypt_setting_defines,
	.defaults = &fs_crypt_default_settings,
	.type_offset = SIZE_MAX,
	.struct_size = sizeof(struct fs_crypt_settings),
	.parent_offset = SIZE_MAX
};

EXPORT extern const char *fs_crypt_version;
EXPORT extern const struct fs fs_class_crypt;

const char *fs_crypt_version = DOVECOT_ABI_VERSION;

/* Reading settings frees those that the service has, although the process still points to them: the next
   user's settings would be made from freed memory. So a copy of the service reads them.
   Returns 0, or -1 and sets *error_r. */
static int
fs_crypt_read_settings(struct crypt_fs *fs, const char **error_r)
{
	static const struct setting_parser_info *roots[] = {
		&fs_crypt_setting_parser_info,
		NULL
	};
	struct master_service_settings_input input;
	struct master_service_settings_output output;
	struct master_service reader = *master_service;
	const char *error;
	int ret;

	reader.set = NULL;
	reader.set_parser = NULL;
	reader.set_pool = NULL;
	/* the process has its connection to stats, or wants none */
	reader.flags |= MASTER_SERVICE_FLAG_DONT_SEND_STATS;

	i_zero(&input);
	input.roots = roots;
	input.module = "fs-crypt";
	input.service = "fs-crypt";
	/* a process in the middle of its work must not become doveconf */
	input.never_exec = TRUE;
	ret = master_service_settings_read(&reader, &input, &output, &error);
	/* the connection to config may have been made, or closed */
	master_service->config_fd = reader.config_fd;
	if (ret < 0) {
		*error_r = t_strdup_printf("Error reading configuration: %s",
					   error);
		pool_unref(&reader.set_pool);
		return -1;
	}
	fs->plugin_set = master_service_settings_get_others(&reader)[0];
	settings_parser_deinit(&reader.set_parser);
	pool_unref(&fs->plugin_set_pool);
	fs->plugin_set_pool = reader.set_pool;
	return 0;
}

static int
fs_crypt_setting(void *context, const char *name, const char **value_r)
{
	struct fs *_fs = context;
	struct crypt_fs *fs = CRYPT_FS(_fs);
	struct mail_user *user = fs_crypt_user(_fs);
	const char *const *envs;
	unsigned int i, count;

	/* a mail process has given up the right to ask for the configuration */
	if (user != NULL)
		return fs_crypt_user_setting(user, name, value_r);
	if (name == NULL)
		return fs_crypt_read_settings(fs, value_r);

	if (!array_is_created(&fs->plugin_set->plugin_envs))
		return 0;
	envs = array_get(&fs->plugin_set->plugin_envs, &count);
	for (i = 0; i + 1 < count; i += 2) {
		if (strcmp(envs[i], name) == 0) {
			*value_r = envs[i + 1];
			return 1;
		}
	}
	return 0;
}

static struct fs *fs_crypt_alloc(void)
{
	return fs_crypt_common_alloc(&fs_class_crypt);
}

static int
fs_crypt_init(struct fs *fs, const char *args, const struct fs_settings *set,
	      const char **error_r)
{
	return fs_crypt_args_init(fs, args, set, fs_crypt_setting, error_r);
}

const struct fs fs_class_crypt = {
	.name = "crypt",
	.v = FS_CRYPT_VFUNCS(fs_crypt_alloc, fs_crypt_init)
};
