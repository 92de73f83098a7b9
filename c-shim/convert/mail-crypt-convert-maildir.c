/* Mails of a Maildir: a file is a mail, and its name says what it is. New files are made in tmp/. */

#include "compat.h"
#include "array.h"
#include "maildir-storage.h"
#include "maildir-settings.h"
#include "maildir-filename.h"
#include "maildir-uidlist.h"

#include "mail-crypt-convert.h"

#include <fcntl.h>
#include <unistd.h>

struct convert_maildir_open {
	struct convert_folder *folder;
	const char *path;
	int fd;
};

static const char *const *convert_maildir_temp_dirs(struct convert_folder *folder)
{
	const char **dirs = p_new(folder->pool, const char *, 2);

	dirs[0] = p_strconcat(folder->pool, mailbox_get_path(folder->box),
			      "/tmp", NULL);
	return dirs;
}

static const char *
convert_maildir_temp_dir(struct convert_folder *folder, const char *path ATTR_UNUSED)
{
	return p_strconcat(folder->pool, mailbox_get_path(folder->box),
			   "/tmp", NULL);
}

static int
convert_maildir_open_path(struct maildir_mailbox *mbox ATTR_UNUSED,
			  const char *path, struct convert_maildir_open *ctx)
{
	ctx->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (ctx->fd == -1 && errno == ENOENT)
		return 0;
	ctx->path = p_strdup(ctx->folder->pool, path);
	return ctx->fd == -1 ? -1 : 1;
}

static void
convert_maildir_sizes(struct convert_folder *folder, const char *path,
		      struct convert_source *source)
{
	struct maildir_mailbox *mbox = MAILDIR_MAILBOX(folder->box);
	const char *name = strrchr(path, '/') + 1;
	uoff_t size;

	source->sizes.recorded = source->sizes.with_crlf = UINT64_MAX;
	source->sizes.actual = source->size;
	if (!mbox->storage->set->maildir_broken_filename_sizes &&
	    maildir_filename_get_size(name, MAILDIR_EXTRA_FILE_SIZE, &size))
		source->sizes.recorded = size;
	if (maildir_filename_get_size(name, MAILDIR_EXTRA_VIRTUAL_SIZE, &size))
		source->sizes.with_crlf = size;
}

static int
convert_maildir_open(struct convert_folder *folder, uint32_t uid,
		     struct convert_source *source_r, struct mcrs_error *error_r)
{
	struct convert_maildir_open ctx = { .folder = folder, .fd = -1 };
	int ret;

	ret = maildir_file_do(MAILDIR_MAILBOX(folder->box), uid,
			      convert_maildir_open_path, &ctx);
	if (ret <= 0) {
		if (ret < 0 && ctx.path == NULL)
			ctx.path = mailbox_get_path(folder->box);
		if (ret < 0)
			convert_set_syscall_error(error_r, "open", ctx.path);
		return ret;
	}
	source_r->fd = ctx.fd;
	source_r->path = ctx.path;
	if (fstat(ctx.fd, &source_r->st) < 0) {
		convert_set_syscall_error(error_r, "fstat", ctx.path);
		return -1;
	}
	source_r->size = source_r->st.st_size;
	convert_maildir_sizes(folder, ctx.path, source_r);
	return 1;
}

static int
convert_maildir_note_path(struct maildir_mailbox *mbox ATTR_UNUSED,
			  const char *path, struct convert_maildir_open *ctx)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	ctx->path = p_strdup(ctx->folder->pool, path);
	return 1;
}

static int
convert_maildir_find(struct convert_folder *folder, uint32_t uid,
		     const char **path_r)
{
	struct convert_maildir_open ctx = { .folder = folder };
	int ret;

	ret = maildir_file_do(MAILDIR_MAILBOX(folder->box), uid,
			      convert_maildir_note_path, &ctx);
	if (ret > 0)
		*path_r = ctx.path;
	return ret;
}

static void
convert_maildir_set_size(struct maildir_uidlist *uidlist,
			 const struct convert_file *file,
			 enum maildir_uidlist_rec_ext_key key, char name_key,
			 uoff_t size)
{
	const char *name = strrchr(file->path, '/') + 1;
	uoff_t named;

	if (size == UINT64_MAX)
		return;
	/* TREES has written wrong ones; maildir_broken_filename_sizes has Dovecot pass over them */
	if (maildir_filename_get_size(name, name_key, &named) && named == size)
		return;
	if (maildir_uidlist_lookup_ext(uidlist, file->uid, key) == NULL)
		maildir_uidlist_set_ext(uidlist, file->uid, key, dec2str(size));
}

/* A mail whose name doesn't tell its sizes would have to be decrypted for each question. */
static int
convert_maildir_prepare(struct convert_folder *folder,
			ARRAY_TYPE(convert_file) *files)
{
	struct maildir_mailbox *mbox = MAILDIR_MAILBOX(folder->box);
	const struct convert_file *file;

	array_foreach(files, file) T_BEGIN {
		convert_maildir_set_size(mbox->uidlist, file,
					 MAILDIR_UIDLIST_REC_EXT_PSIZE,
					 MAILDIR_EXTRA_FILE_SIZE, file->psize);
		convert_maildir_set_size(mbox->uidlist, file,
					 MAILDIR_UIDLIST_REC_EXT_VSIZE,
					 MAILDIR_EXTRA_VIRTUAL_SIZE, file->vsize);
	} T_END;
	/* they are a help, and no more */
	(void)maildir_uidlist_update(mbox->uidlist);
	return 0;
}

static int convert_maildir_lock(struct convert_folder *folder)
{
	struct maildir_mailbox *mbox = MAILDIR_MAILBOX(folder->box);

	if (maildir_uidlist_lock(mbox->uidlist) <= 0) {
		doveadm_mail_failed_mailbox(&folder->cmd->ctx, folder->box);
		return -1;
	}
	if (mail_index_lock_sync(folder->box->index, "mail_crypt conversion") < 0) {
		mailbox_set_index_error(folder->box);
		doveadm_mail_failed_mailbox(&folder->cmd->ctx, folder->box);
		maildir_uidlist_unlock(mbox->uidlist);
		return -1;
	}
	return 0;
}

static void convert_maildir_unlock(struct convert_folder *folder)
{
	struct maildir_mailbox *mbox = MAILDIR_MAILBOX(folder->box);

	mail_index_unlock(folder->box->index, "mail_crypt conversion");
	maildir_uidlist_unlock(mbox->uidlist);
}

const struct convert_storage convert_maildir = {
	.name = MAILDIR_STORAGE_NAME,
	.temp_prefix = "mail-crypt-convert.",
	.temp_dirs = convert_maildir_temp_dirs,
	.open = convert_maildir_open,
	.temp_dir = convert_maildir_temp_dir,
	.prepare = convert_maildir_prepare,
	.find = convert_maildir_find,
	.lock = convert_maildir_lock,
	.unlock = convert_maildir_unlock
};
