/* Puts new files into the places of the mails that they were made of. At any moment there is one file in the place, and
   it holds the mail. */

#define _GNU_SOURCE /* renameat2() */
#include "compat.h"
#include "array.h"
#include "str.h"
#include "fdatasync-path.h"
#include "mail-storage-private.h"

#include "mail-crypt-convert.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* So often a mail is looked for whose name others change all the time. */
#define CONVERT_FIND_COUNT 10

static void convert_clean_dir(struct convert_folder *folder, const char *dir_path)
{
	const char *prefix = folder->storage->temp_prefix;
	struct dirent *entry;
	DIR *dir;

	dir = opendir(dir_path);
	if (dir == NULL) {
		if (errno != ENOENT)
			convert_syscall_error(folder, "opendir", dir_path);
		return;
	}
	while ((entry = readdir(dir)) != NULL) T_BEGIN {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
			i_unlink_if_exists(t_strconcat(dir_path, "/",
						       entry->d_name, NULL));
		}
	} T_END;
	(void)closedir(dir);
}

void convert_clean(struct convert_folder *folder)
{
	const char *const *dirs = folder->storage->temp_dirs(folder);

	for (; *dirs != NULL; dirs++)
		convert_clean_dir(folder, *dirs);
}

static bool convert_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
		a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int convert_exchange(const char *a, const char *b)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
}

/* A mail is in a file that looks like a leftover of ours: it gets a name by which nobody removes it. Returns its path. */
static const char *convert_keep(struct convert_folder *folder, const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	const char *kept_path = t_strdup_printf("%s/kept-by-mail_crypt.%s",
		t_strdup_until(path, name - 1), name);

	if (rename(path, kept_path) == 0)
		return kept_path;
	convert_syscall_error(folder, "rename", kept_path);
	return path;
}

/* Returns 1, 0 if there is no such file, or -1. */
static int
convert_swap_by_exchange(struct convert_folder *folder, struct convert_file *file)
{
	struct stat st;

	if (convert_exchange(file->temp_path, file->path) < 0)
		return errno == ENOENT ? 0 : -1;
	/* what was there is here now */
	if (lstat(file->temp_path, &st) == 0 && convert_same_file(&st, &file->st)) {
		file->old_path = file->temp_path;
		return 1;
	}
	if (convert_exchange(file->temp_path, file->path) < 0) {
		convert_syscall_error(folder, "renameat2", file->path);
		/* it isn't ours */
		i_error("What was in %s is in %s", file->path,
			convert_keep(folder, file->temp_path));
		file->temp_path = NULL;
	}
	errno = ESTALE;
	return -1;
}

/* Where files can't be exchanged. Nobody else deletes or replaces the file now. */
static int convert_swap_by_rename(struct convert_folder *folder, struct convert_file *file)
{
	const char *old_path =
		p_strconcat(folder->pool, file->temp_path, ".old", NULL);
	struct stat st;

	if (link(file->path, old_path) < 0) {
		if (errno == ENOENT)
			return 0;
		old_path = NULL;
	} else if (lstat(old_path, &st) < 0 || !convert_same_file(&st, &file->st)) {
		i_unlink_if_exists(old_path);
		errno = ESTALE;
		return -1;
	}
	if (rename(file->temp_path, file->path) < 0) {
		if (old_path != NULL)
			i_unlink_if_exists(old_path);
		return -1;
	}
	file->old_path = old_path;
	return 1;
}

/* Returns 1, 0 if the mail isn't in its place any more, or -1. */
static int convert_swap_file(struct convert_folder *folder, struct convert_file *file)
{
	struct stat st;
	int ret;

	if (lstat(file->path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!convert_same_file(&st, &file->st)) {
		errno = ESTALE;
		return -1;
	}
	ret = convert_swap_by_exchange(folder, file);
	if (ret < 0 && (errno == EINVAL || errno == ENOSYS ||
			errno == EOPNOTSUPP || errno == ENOTSUP))
		ret = convert_swap_by_rename(folder, file);
	return ret;
}

static void
convert_swap_failed(struct convert_folder *folder, struct convert_file *file)
{
	const char *why = errno == ESTALE ?
		"it was changed meanwhile; it is looked at again the next time" :
		t_strdup_printf("%s can't be replaced: %m", file->path);

	if (errno == ENOSPC || errno == EDQUOT || errno == EIO ||
	    errno == EROFS)
		folder->cmd->stop = TRUE;
	convert_leave(folder, file->uid, why);
	if (file->temp_path != NULL)
		i_unlink_if_exists(file->temp_path);
	file->gone = TRUE;
}

/* The names in a folder are on the disk. */
static void convert_sync_dirs(struct convert_folder *folder)
{
	const struct convert_file *file;
	const char *dir, *last = "";

	array_foreach(&folder->files, file) {
		if (!file->exchanged)
			continue;
		dir = t_strdup_until(file->path, strrchr(file->path, '/'));
		if (strcmp(dir, last) != 0 && fdatasync_path(dir) < 0)
			convert_syscall_error(folder, "fdatasync", dir);
		last = dir;
	}
}

/* Returns FALSE if all files are in their places, or can't be. */
static bool convert_swap_round(struct convert_folder *folder)
{
	struct convert_file *file;
	bool again = FALSE;
	int ret;

	if (folder->storage->lock(folder) < 0) {
		folder->failed = TRUE;
		return FALSE;
	}
	array_foreach_modifiable(&folder->files, file) {
		if (file->exchanged || file->gone)
			continue;
		ret = convert_swap_file(folder, file);
		if (ret > 0)
			file->exchanged = TRUE;
		else if (ret == 0)
			again = TRUE;
		else
			convert_swap_failed(folder, file);
	}
	convert_sync_dirs(folder);
	folder->storage->unlock(folder);
	return again;
}

/* Others have moved or deleted mails meanwhile. */
static void convert_find_moved(struct convert_folder *folder)
{
	struct convert_file *file;
	int ret;

	array_foreach_modifiable(&folder->files, file) {
		if (file->exchanged || file->gone)
			continue;
		ret = folder->storage->find(folder, file->uid, &file->path);
		if (ret < 0) {
			convert_leave(folder, file->uid, t_strdup_printf(
				"it can't be found: %s",
				mailbox_get_last_internal_error(folder->box, NULL)));
		}
		if (ret <= 0) {
			/* a mail that was deleted needs no new file */
			i_unlink_if_exists(file->temp_path);
			file->gone = TRUE;
		}
	}
}

/* Puts an old file back. Returns 1, 0 if the mail isn't in its place any more, or -1. */
static int convert_swap_file_back(struct convert_file *file)
{
	int ret = file->old_path == file->temp_path ?
		convert_exchange(file->temp_path, file->path) :
		rename(file->old_path, file->path);

	if (ret < 0)
		return errno == ENOENT ? 0 : -1;
	file->exchanged = FALSE;
	return 1;
}

/* The old file can't be put back. */
static void convert_keep_old(struct convert_folder *folder, struct convert_file *file)
{
	convert_leave(folder, file->uid, t_strdup_printf(
		"its new key was deleted meanwhile, and what it was before is in %s",
		convert_keep(folder, file->old_path)));
	file->temp_path = file->old_path = NULL;
}

static bool convert_swap_back_round(struct convert_folder *folder)
{
	struct convert_file *file;
	bool again = FALSE;
	int ret;

	if (folder->storage->lock(folder) < 0)
		return FALSE;
	array_foreach_modifiable(&folder->files, file) {
		if (!file->exchanged || file->old_path == NULL)
			continue;
		ret = convert_swap_file_back(file);
		if (ret > 0)
			convert_leave(folder, file->uid, "its new key was deleted meanwhile");
		else if (ret == 0)
			again = TRUE;
	}
	folder->storage->unlock(folder);
	return again;
}

/* Puts the old files back. */
static void convert_swap_back(struct convert_folder *folder)
{
	struct convert_file *file;
	unsigned int i;

	for (i = 0; i < CONVERT_FIND_COUNT && convert_swap_back_round(folder); i++) {
		array_foreach_modifiable(&folder->files, file) {
			if (file->exchanged &&
			    folder->storage->find(folder, file->uid,
						  &file->path) == 0) {
				file->exchanged = FALSE;
				file->gone = TRUE;
			}
		}
	}
	array_foreach_modifiable(&folder->files, file) {
		if (file->exchanged && file->old_path != NULL)
			convert_keep_old(folder, file);
	}
}

static void convert_swap_end(struct convert_folder *folder)
{
	struct convert_file *file;

	array_foreach_modifiable(&folder->files, file) {
		if (file->exchanged) {
			folder->counts.converted++;
			folder->counts.bytes += file->size;
		} else if (!file->gone && file->old_path == NULL) {
			convert_leave(folder, file->uid, "it could not be put into its place");
		}
		if (file->old_path != NULL)
			i_unlink_if_exists(file->old_path);
		if (!file->exchanged && file->temp_path != NULL)
			i_unlink_if_exists(file->temp_path);
	}
}

/* Are the keys still there? */
static bool convert_swap_has_keys(struct convert_folder *folder)
{
	struct mcrs_error error;

	if (mcrs_convert_check(folder->convert, folder->box, &error) == 0)
		return TRUE;
	convert_error(folder->cmd, folder->box, &error);
	folder->failed = TRUE;
	return FALSE;
}

void convert_swap(struct convert_folder *folder)
{
	unsigned int i;

	if (!convert_swap_has_keys(folder)) {
		convert_swap_end(folder);
		return;
	}
	for (i = 0; convert_swap_round(folder); i++) {
		if (i == CONVERT_FIND_COUNT)
			break;
		convert_find_moved(folder);
	}
	/* whoever has deleted the key has looked at the mails before these were in their places */
	if (!convert_swap_has_keys(folder))
		convert_swap_back(folder);
	convert_swap_end(folder);
}
