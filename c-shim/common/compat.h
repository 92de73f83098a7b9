#ifndef MAIL_CRYPT_COMPAT_H
#define MAIL_CRYPT_COMPAT_H

/* The only place that knows one Dovecot version from another. Besides, some files are for one release line only, as the
   Makefile says: crypt-settings.c, crypt-settings-own.c, own-settings.c, mail-crypt-settings.c and fs-crypt-settings.c for 2.4; plugin-settings.c, doveadm-args.c, fs-crypt.c,
   fs-mail-crypt.c and fs-crypt-args.c for 2.3. */

#include "config.h"
#include "lib.h"
#include "array.h"
#include "compression.h"
#include "mail-cache.h"
#include "mail-storage-service.h"
#include "mail-user.h"

#include "mail_crypt_core.h"

#if DOVECOT_VERSION_MAJOR > 2 || DOVECOT_VERSION_MINOR >= 4
#  define COMPAT_DOVECOT_2_4
#endif

/* What Dovecot or another module of ours looks up by its name. All else is hidden: modules are loaded into one
   scope, where those of two builds would call each other's functions. */
#define EXPORT __attribute__((visibility("default")))

/* What compat_setting_lookup() answers besides settings. With a number: the name of a userdb field that could be
   meant for us. */
#define COMPAT_FIELD "userdb_*"
/* Who has logged in as the user. */
#define COMPAT_MASTER_USER "session_*master"
/* Whether the password of the user's key comes from the command line. */
#define COMPAT_GIVEN "session_*given"
/* 2.4: why there are no settings. */
#define COMPAT_ERROR "error"
/* 2.4: why there are none of those that the packaged plugin doesn't have, for reading, for making user keys, and for
   reading mail of TREES. */
#define COMPAT_OWN_READ_ERROR "error_own_read"
#define COMPAT_OWN_KEY_ERROR "error_own_keys"
#define COMPAT_OWN_TREES_ERROR "error_own_trees"

/* compat_settings_get() reads the settings of a user, and compat_setting_lookup() answers from them:
   an mcrs_setting_fn. */
struct compat_settings;

const char *compat_setting_lookup(void *set, const char *name);

#ifdef COMPAT_DOVECOT_2_4

/* Returns which setting a userdb field means. 2.3 took "plugin/", too; 2.4.1 passes over "set/", which is none of our
   names then. */
static inline const char *compat_userdb_setting(const char *field)
{
#if DOVECOT_VERSION_MINOR > 4 || DOVECOT_VERSION_MICRO >= 2
	if (str_begins(field, "set/", &field))
		return field;
#endif
	(void)str_begins(field, "plugin/", &field);
	return field;
}

struct compat_settings *compat_settings_get(struct mail_user *user);
void compat_settings_free(struct compat_settings **set);

/* Does the same for a lib-fs driver, whose event knows its settings only while it is being made. For these,
   compat_setting_lookup() answers COMPAT_FS_PLAIN_FALLBACK, too. Returns 0, or -1 and sets error_r, on the data
   stack. */
#define COMPAT_FS_PLAIN_FALLBACK "fs_crypt_read_plain_fallback"
int compat_fs_settings_get(struct event *event, struct compat_settings **set_r,
			   const char **error_r);

#else

static inline struct compat_settings *
compat_settings_get(struct mail_user *user)
{
	return (struct compat_settings *)user;
}

static inline void compat_settings_free(struct compat_settings **set)
{
	*set = NULL;
}

#endif

/* Returns who has logged in as this user, NULL if that is the user, under whatever name. */
static inline const char *compat_master_user(const struct mail_user *user)
{
	const char *const *fields = user->userdb_fields;

	if (user->auth_user == NULL ||
	    strcasecmp(user->auth_user, user->username) == 0)
		return NULL;
	for (; fields != NULL && *fields != NULL; fields++) {
		if (strncmp(*fields, "master_user=", 12) == 0)
			return user->auth_user;
	}
	return NULL;
}

/* Creates a stream that reads from its parent (NULL: from none), or one that has no parent and reads from source. From
   2.4.5 on Dovecot has to know of source. It looks at source whenever the stream is read, but holds no reference. So
   the stream calls compat_i_stream_detach() before it drops its own. Macros, since few files have istream-private.h. */
#if defined(COMPAT_DOVECOT_2_4) && (DOVECOT_VERSION_MINOR > 4 || DOVECOT_VERSION_MICRO >= 5)
#  define compat_i_stream_create(stream, parent, fd, flags) \
	i_stream_create(stream, parent, fd, ISTREAM_HIDDEN_INPUTS_NONE, flags)
#  define compat_i_stream_create_over(stream, source, flags) ({ \
		(stream)->io_parent = (source); \
		i_stream_create(stream, NULL, -1, \
				ISTREAM_HIDDEN_INPUTS_DECLARED, flags); \
	})
#  define compat_i_stream_detach(stream) ((void)((stream)->io_parent = NULL))
#else
#  define compat_i_stream_create(stream, parent, fd, flags) \
	i_stream_create(stream, parent, fd, flags)
#  define compat_i_stream_create_over(stream, source, flags) \
	i_stream_create(stream, NULL, -1, flags)
#  define compat_i_stream_detach(stream) ((void)(stream))
#endif

/* Registers one field and sets its idx. */
static inline void
compat_cache_register_field(struct mail_cache *cache,
			    struct mail_cache_field *field)
{
#ifdef COMPAT_DOVECOT_2_4
	mail_cache_register_fields(cache, field, 1,
				   MAIL_CACHE_TRUNCATE_NAME_FAIL);
#else
	mail_cache_register_fields(cache, field, 1);
#endif
}

/* Returns the fields that a cache may have, on a pool of the caller's. */
static inline const struct mail_cache_field *
compat_cache_fields(struct mail_cache *cache, pool_t *pool_r,
		    unsigned int *count_r)
{
#ifdef COMPAT_DOVECOT_2_4
	return mail_cache_register_get_list(cache, pool_r, count_r);
#else
	*pool_r = pool_alloconly_create("mail_crypt cache fields", 2048);
	return mail_cache_register_get_list(cache, *pool_r, count_r);
#endif
}

static inline struct mail_storage_service_user *
compat_service_user(struct mail_user *user)
{
#ifdef COMPAT_DOVECOT_2_4
	return user->service_user;
#else
	return user->_service_user;
#endif
}

/* Prepares a look-up of another user, for the same service. */
static inline void
compat_service_input_init(struct mail_storage_service_input *input,
			  const struct mail_storage_service_input *old)
{
	i_zero(input);
#ifndef COMPAT_DOVECOT_2_4
	input->module = old->module;
#endif
	input->service = old->service;
}

/* Puts func into the list's own ACL backend, and the former function into *old_r. Macros, since only
   one of the plugins has acl-api-private.h. */
#ifdef COMPAT_DOVECOT_2_4
#  define compat_acl_backend_v(backend) ((backend)->v)
/* In 2.4 all backends of a kind share one table: this one gets a copy. */
#  define compat_acl_backend_wrap(backend, pool, func, old_r) STMT_START { \
		struct acl_backend_vfuncs *compat_v = \
			p_new(pool, struct acl_backend_vfuncs, 1); \
		*compat_v = *(backend)->v; \
		*(old_r) = compat_v->object_update; \
		compat_v->object_update = (func); \
		(backend)->v = compat_v; \
	} STMT_END
#else
#  define compat_acl_backend_v(backend) (&(backend)->v)
#  define compat_acl_backend_wrap(backend, pool, func, old_r) STMT_START { \
		*(old_r) = (backend)->v.object_update; \
		(backend)->v.object_update = (func); \
	} STMT_END
#endif

/* The plugin that compresses mail. compat_compress_method() returns its setting that says how, NULL if it doesn't. */
#ifdef COMPAT_DOVECOT_2_4
#  define COMPAT_COMPRESS_PLUGIN "mail_compress"
const char *compat_compress_method(struct mail_user *user);
#else
#  define COMPAT_COMPRESS_PLUGIN "zlib"
static inline const char *compat_compress_method(struct mail_user *user)
{
	return mail_user_plugin_getenv(user, "zlib_save");
}
#endif

static inline bool compat_user_has_plugin(struct mail_user *user, const char *name)
{
#ifdef COMPAT_DOVECOT_2_4
	const char *plugin;

	if (array_is_created(&user->set->mail_plugins)) {
		array_foreach_elem(&user->set->mail_plugins, plugin) {
			if (strcmp(plugin, name) == 0)
				return TRUE;
		}
	}
	return FALSE;
#else
	return str_array_find(t_strsplit_spaces(user->set->mail_plugins, ", "), name);
#endif
}

/* doveadm's mail commands: the parameters of init(), the arguments besides options (NULL-terminated), and what to call
   when the parameters were changed, so that a server that is sent them gets the new ones. */
struct doveadm_mail_cmd_context;
#ifdef COMPAT_DOVECOT_2_4
#  define COMPAT_DOVEADM_INIT_PARAMS struct doveadm_mail_cmd_context *ctx
#  define compat_doveadm_cmd_init(ctx, getopt_args) ((void)(ctx), (void)(getopt_args))
#  define compat_doveadm_params_changed(ctx) ((void)(ctx))
#  define compat_doveadm_args(ctx, name) ({ \
		static const char *const compat_none[] = { NULL }; \
		const char *const *compat_args; \
		doveadm_cmd_param_array((ctx)->cctx, name, &compat_args) ? \
			compat_args : compat_none; \
	})
#else
#  define COMPAT_DOVEADM_INIT_PARAMS \
	struct doveadm_mail_cmd_context *ctx, const char *const args[] ATTR_UNUSED
#  define compat_doveadm_args(ctx, name) ((ctx)->args)
void compat_doveadm_cmd_init(struct doveadm_mail_cmd_context *ctx,
			     const char *getopt_args);
void compat_doveadm_params_changed(struct doveadm_mail_cmd_context *ctx);
#endif

/* Returns the handler for what a stream holds, or NULL. From 2.4.3 on Dovecot returns it through a pointer. The
   function is the compression plugin's: the caller has looked it up by its name. */
static inline const struct compression_handler *
compat_compression_detect(void *compression_detect_handler_sym, struct istream *input)
{
	typedef const struct compression_handler *detect_t(struct istream *);
	typedef int detect_into_t(struct istream *, const struct compression_handler **);
	const struct compression_handler *handler = NULL;

	return _Generic(&compression_detect_handler,
		detect_t *: ((detect_t *)compression_detect_handler_sym)(input),
		detect_into_t *: (((detect_into_t *)compression_detect_handler_sym)(input, &handler), handler));
}

/* Before 2.3.14 handlers were also told whether to log errors. */
static inline struct istream *
compat_decompress(const struct compression_handler *handler, struct istream *input)
{
	typedef struct istream *create_t(struct istream *);
	typedef struct istream *create_logging_t(struct istream *, bool);
	typedef void any_t(void);

	return _Generic(handler->create_istream,
		create_t *: ((create_t *)(any_t *)handler->create_istream)(input),
		create_logging_t *: ((create_logging_t *)(any_t *)handler->create_istream)(input, FALSE));
}

/* Before 2.3.14 mode and flags were one number. A macro, since few files have fs-api-private.h. */
#define compat_fs_file_init_parent(parent, path, mode, flags) ({ \
	typedef struct fs_file *init_t(struct fs_file *, const char *, \
				       enum fs_open_mode, enum fs_open_flags); \
	typedef struct fs_file *init_one_t(struct fs_file *, const char *, int); \
	void (*compat_init)(void) = (void (*)(void))fs_file_init_parent; \
	_Generic(&fs_file_init_parent, \
		init_t *: ((init_t *)compat_init)(parent, path, mode, flags), \
		init_one_t *: ((init_one_t *)compat_init)(parent, path, (int)(mode) | (int)(flags))); \
})

/* From 2.4.2 on an fs driver can also be listed in mail_plugins: then it is loaded before a process goes
   into a chroot. Defines what the module "name" needs for that. */
#if defined(COMPAT_DOVECOT_2_4) && (DOVECOT_VERSION_MINOR > 4 || DOVECOT_VERSION_MICRO >= 2)
#  define COMPAT_FS_MAIL_PLUGIN(name, fs_class) \
	EXPORT void name##_init(void); \
	EXPORT void name##_deinit(void); \
	void name##_init(void) { fs_class_register(&(fs_class)); } \
	void name##_deinit(void) { fs_class_unregister(&(fs_class)); }
#else
#  define COMPAT_FS_MAIL_PLUGIN(name, fs_class)
#endif

/* Defines the mail method get_binary_stream() as name(), which asks
   get(mail, part, with_header, struct mail_crypt_binary *found_r, stream_r). */
#ifdef COMPAT_DOVECOT_2_4
#  define COMPAT_GET_BINARY_STREAM(name, get) \
static int name(struct mail *mail, const struct message_part *part, bool with_header, \
		struct mail_binary_properties *found_r, struct istream **stream_r) \
{ \
	struct mail_crypt_binary found; \
	if (get(mail, part, with_header, &found, stream_r) < 0) \
		return -1; \
	if (found_r != NULL) { \
		found_r->size = found.size; \
		found_r->lines = found.lines; \
		found_r->binary = found.binary; \
		found_r->converted = found.converted; \
	} \
	return 0; \
}
#else
#  define COMPAT_GET_BINARY_STREAM(name, get) \
static int name(struct mail *mail, const struct message_part *part, bool with_header, \
		uoff_t *size_r, unsigned int *lines_r, bool *binary_r, \
		struct istream **stream_r) \
{ \
	struct mail_crypt_binary found; \
	if (get(mail, part, with_header, &found, stream_r) < 0) \
		return -1; \
	if (size_r != NULL) \
		*size_r = found.size; \
	if (lines_r != NULL) \
		*lines_r = found.lines; \
	if (binary_r != NULL) \
		*binary_r = found.binary; \
	return 0; \
}
#endif

#endif
