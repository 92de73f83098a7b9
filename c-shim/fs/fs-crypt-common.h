#ifndef FS_CRYPT_COMMON_H
#define FS_CRYPT_COMMON_H

#include "fs-api-private.h"

/* Each of the two modules has these of its own, and both may be in one process. */
#pragma GCC visibility push(hidden)

struct crypt_fs {
	struct fs fs;
	struct mcrs_fs *core;
	/* 2.4: the settings as they were when it was made. 2.3: NULL. */
	struct compat_settings *settings;
	/* 2.3: the plugin {} settings, once they were read, and their pool. */
	const struct fs_crypt_settings *plugin_set;
	pool_t plugin_set_pool;
	/* Files that aren't encrypted are served, too. */
	bool read_plain;
};

#define CRYPT_FS(ptr) container_of((ptr), struct crypt_fs, fs)

struct fs *fs_crypt_common_alloc(const struct fs *fs_class);
/* setting is called, with fs as its context, once keys from the settings are needed. The parent in args begins at
   *parent_r. With NULL for args all is in the settings. Returns 0, or -1 and sets *error_r. */
int fs_crypt_common_init(struct fs *fs, const char *args,
			 mcrs_fs_setting_fn setting, size_t *parent_r,
			 const char **error_r);
void fs_crypt_free(struct fs *fs);

struct fs_file *fs_crypt_file_alloc(void);
void fs_crypt_file_init(struct fs_file *file, const char *path,
			enum fs_open_mode mode, enum fs_open_flags flags);
void fs_crypt_file_deinit(struct fs_file *file);
struct istream *
fs_crypt_read_stream(struct fs_file *file, size_t max_buffer_size);
void fs_crypt_write_stream(struct fs_file *file);
int fs_crypt_write_stream_finish(struct fs_file *file, bool success);

#pragma GCC visibility pop

/* Copying, renaming and metadata are the parent's: what is encrypted stays as it is. */
#define FS_CRYPT_VFUNCS(alloc_func, init_func) { \
	.alloc = alloc_func, \
	.init = init_func, \
	.free = fs_crypt_free, \
	.get_properties = fs_wrapper_get_properties, \
	.file_alloc = fs_crypt_file_alloc, \
	.file_init = fs_crypt_file_init, \
	.file_deinit = fs_crypt_file_deinit, \
	.file_close = fs_wrapper_file_close, \
	.get_path = fs_wrapper_file_get_path, \
	.set_async_callback = fs_wrapper_set_async_callback, \
	.wait_async = fs_wrapper_wait_async, \
	.set_metadata = fs_wrapper_set_metadata, \
	.get_metadata = fs_wrapper_get_metadata, \
	.prefetch = fs_wrapper_prefetch, \
	.read = fs_read_via_stream, \
	.read_stream = fs_crypt_read_stream, \
	.write = fs_write_via_stream, \
	.write_stream = fs_crypt_write_stream, \
	.write_stream_finish = fs_crypt_write_stream_finish, \
	.lock = fs_wrapper_lock, \
	.unlock = fs_wrapper_unlock, \
	.exists = fs_wrapper_exists, \
	.stat = fs_wrapper_stat, \
	.copy = fs_wrapper_copy, \
	.rename = fs_wrapper_rename, \
	.delete_file = fs_wrapper_delete, \
	.iter_alloc = fs_wrapper_iter_alloc, \
	.iter_init = fs_wrapper_iter_init, \
	.iter_next = fs_wrapper_iter_next, \
	.iter_deinit = fs_wrapper_iter_deinit, \
	.get_nlinks = fs_wrapper_get_nlinks, \
}

#endif
