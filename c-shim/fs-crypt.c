/* The "crypt" driver: keys from files, or from the global plugin {} settings, of no user. */

#include "compat.h"
#include "array.h"
#include "settings-parser.h"
#include "master-service.h"
#include "master-service-settings.h"

#include "fs-crypt-common.h"

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

/* Asked for by the packaged driver's names: the config process knows what to answer. */
static const struct setting_parser_info fs_crypt_setting_parser_info = {
	.module_name = "fs-crypt",
	.defines = fs_crypt_setting_defines,
	.defaults = &fs_crypt_default_settings,
	.type_offset = SIZE_MAX,
	.struct_size = sizeof(struct fs_crypt_settings),
	.parent_offset = SIZE_MAX
};

extern const char *fs_crypt_version;
extern const struct fs fs_class_crypt;

const char *fs_crypt_version = DOVECOT_ABI_VERSION;

/* Valid until somebody reads settings again: not any longer than the core asks for names. */
static const struct fs_crypt_settings *fs_crypt_set;

static int fs_crypt_read_settings(const char **error_r)
{
	static const struct setting_parser_info *roots[] = {
		&fs_crypt_setting_parser_info,
		NULL
	};
	struct master_service_settings_input input;
	struct master_service_settings_output output;
	const char *error;

	i_zero(&input);
	input.roots = roots;
	input.module = "fs-crypt";
	input.service = "fs-crypt";
	/* a process in the middle of its work must not become doveconf */
	input.never_exec = TRUE;
	if (master_service_settings_read(master_service, &input, &output,
					 &error) < 0) {
		*error_r = t_strdup_printf("Error reading configuration: %s",
					   error);
		return -1;
	}
	fs_crypt_set = master_service_settings_get_others(master_service)[0];
	return 0;
}

static int
fs_crypt_setting(void *context ATTR_UNUSED, const char *name,
		 const char **value_r)
{
	const char *const *envs;
	unsigned int i, count;

	if (name == NULL)
		return fs_crypt_read_settings(value_r);

	if (!array_is_created(&fs_crypt_set->plugin_envs))
		return 0;
	envs = array_get(&fs_crypt_set->plugin_envs, &count);
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
	return fs_crypt_common_init(fs, args, set, fs_crypt_setting, error_r);
}

const struct fs fs_class_crypt = {
	.name = "crypt",
	.v = FS_CRYPT_VFUNCS(fs_crypt_alloc, fs_crypt_init)
};
