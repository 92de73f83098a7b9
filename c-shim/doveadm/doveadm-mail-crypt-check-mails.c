/* doveadm mailbox crypt check: the mails of one folder. */

#include "compat.h"
#include "array.h"
#include "istream.h"
#include "mail-cache.h"
#include "mail-search-build.h"
#include "mail-storage-private.h"
#include "doveadm-mail.h"

#include "mail-crypt-plugin.h"
#include "doveadm-mail-crypt.h"
#include "doveadm-mail-crypt-check-private.h"

/* A field of the index cache, and how many mails have it. */
struct crypt_check_field {
	const char *name;
	unsigned int idx;
	uint64_t mails;
};

struct crypt_check_folder {
	struct crypt_check_cmd *cmd;
	struct mailbox *box;
	mail_crypt_attachments_t *attachments;
	ARRAY(struct crypt_check_field) fields;

	/* Of the current mail */
	bool looked;
	/* why it can't be read */
	const char *failed;
	/* why it couldn't be checked; no text: it could */
	struct mcrs_error error;
};

/* The index cache */

static void crypt_check_cache_init(struct crypt_check_folder *folder)
{
	const struct mail_cache_field *list;
	unsigned int i, count;
	pool_t pool;

	t_array_init(&folder->fields, 32);
	/* without a cache file nobody has cached anything */
	if (folder->box->cache == NULL ||
	    mail_cache_open_and_verify(folder->box->cache) <= 0)
		return;
	list = compat_cache_fields(folder->box->cache, &pool, &count);
	for (i = 0; i < count; i++) {
		struct crypt_check_field *field =
			array_append_space(&folder->fields);

		field->name = t_strdup(list[i].name);
		field->idx = list[i].idx;
	}
	pool_unref(&pool);
}

static void
crypt_check_cache_mail(struct crypt_check_folder *folder, struct mail *mail)
{
	struct mail_cache_view *view = mail->transaction->cache_view;
	struct crypt_check_field *field;

	if (view == NULL)
		return;
	array_foreach_modifiable(&folder->fields, field) {
		if (mail_cache_field_exists(view, mail->seq, field->idx) > 0)
			field->mails++;
	}
}

static void crypt_check_cache_deinit(struct crypt_check_folder *folder)
{
	const struct crypt_check_field *field;

	array_foreach(&folder->fields, field)
		mcrs_check_cached(folder->cmd->check, field->name, field->mails);
}

/* Mails */

/* Shows the core as much of the mail as it wants. */
static void
crypt_check_look(struct mail *mail, struct istream *input,
		 const struct mcrs_sizes *sizes, bool was_encrypted,
		 void *context)
{
	struct crypt_check_folder *folder = context;
	struct mcrs_check *check = folder->cmd->check;
	struct mcrs_check_info info = {
		.uid = mail->uid,
		.was_encrypted = was_encrypted,
		.sizes = *sizes,
	};
	const unsigned char *data;
	uoff_t stored;
	size_t size;
	int ret;

	if (i_stream_get_size(input, TRUE, &stored) > 0)
		info.bytes = stored;
	ret = mcrs_check_begin_mail(check, info, &folder->error);
	folder->looked = TRUE;
	for (size = 1; ret >= 0 && size > 0; ) {
		if (i_stream_read_more(input, &data, &size) <= 0)
			size = 0;
		if (input->stream_errno != 0) {
			folder->failed = t_strdup(i_stream_get_error(input));
			return;
		}
		ret = mcrs_check_feed(check, folder->box, data, size,
				      &folder->error);
		if (ret == 0)
			break;
		i_stream_skip(input, size);
	}
}

static void crypt_check_attachment(bool encrypted, void *context)
{
	struct crypt_check_folder *folder = context;

	mcrs_check_attachment(folder->cmd->check, encrypted);
}

/* Dovecot couldn't even open it. */
static void
crypt_check_unopened(struct crypt_check_folder *folder, struct mail *mail)
{
	struct mcrs_check_info info = {
		.uid = mail->uid,
		.sizes = { UINT64_MAX, UINT64_MAX, UINT64_MAX },
	};

	folder->failed = t_strdup(mailbox_get_last_internal_error(folder->box, NULL));
	(void)mcrs_check_begin_mail(folder->cmd->check, info, &folder->error);
}

/* Counts the mail that was looked at, and names it if something is wrong with it. */
static void
crypt_check_judge(struct crypt_check_folder *folder, struct mail *mail)
{
	const char *guid = NULL;
	int ret;

	ret = mcrs_check_judge_mail(folder->cmd->check, folder->failed,
				    &folder->error);
	if (ret > 0 && mail_get_special(mail, MAIL_FETCH_GUID, &guid) < 0)
		guid = NULL;
	if (ret >= 0) {
		(void)mcrs_check_end_mail(folder->cmd->check, guid,
					  &folder->error);
	}
}

static void
crypt_check_mail(struct crypt_check_folder *folder, struct mail *mail)
{
	struct mcrs_error error;
	struct istream *input;

	folder->looked = FALSE;
	folder->failed = NULL;
	folder->error.text[0] = '\0';
	/* it is looked at, and so fails */
	(void)mail_get_stream(mail, NULL, NULL, &input);
	if (mail->expunged)
		return;
	if (!folder->looked)
		crypt_check_unopened(folder, mail);
	if (folder->failed == NULL &&
	    folder->attachments(mail, folder->cmd->full, crypt_check_attachment,
				folder, &error) < 0)
		folder->failed = t_strdup(error.text);
	if (folder->error.text[0] == '\0')
		crypt_check_judge(folder, mail);
	if (folder->error.text[0] != '\0')
		crypt_check_error(folder->cmd, folder->box, &folder->error);
	crypt_check_cache_mail(folder, mail);
}

static void crypt_check_all(struct crypt_check_folder *folder)
{
	struct mailbox_transaction_context *trans;
	struct mail_search_context *search;
	struct mail_search_args *args;
	struct mail *mail;

	args = mail_search_build_init();
	mail_search_build_add_all(args);
	trans = mailbox_transaction_begin(folder->box,
		MAILBOX_TRANSACTION_FLAG_NO_CACHE_DEC, __func__);
	search = mailbox_search_init(trans, args, NULL, 0, NULL);
	mail_search_args_unref(&args);
	while (mailbox_search_next(search, &mail)) T_BEGIN {
		crypt_check_mail(folder, mail);
	} T_END;
	if (mailbox_search_deinit(&search) < 0) {
		i_error("Mailbox %s can't be searched: %s",
			mailbox_get_vname(folder->box),
			mailbox_get_last_internal_error(folder->box, NULL));
		crypt_check_failed(folder->cmd);
	}
	mailbox_transaction_rollback(&trans);
}

void crypt_check_mails(struct crypt_check_cmd *cmd, struct mailbox *box)
{
	struct mail_user *user = mail_storage_get_user(mailbox_get_storage(box));
	struct crypt_check_folder folder = { .cmd = cmd, .box = box };
	mail_crypt_user_look_t *set_look =
		cryptokey_mail_plugin("mail_crypt_user_look");

	folder.attachments = cryptokey_mail_plugin("mail_crypt_attachments");
	if (set_look == NULL || folder.attachments == NULL) {
		i_error("The mail plugin doesn't belong to this module");
		crypt_check_failed(cmd);
		return;
	}
	set_look(user, crypt_check_look, &folder);
	T_BEGIN {
		crypt_check_cache_init(&folder);
		crypt_check_all(&folder);
		crypt_check_cache_deinit(&folder);
	} T_END;
	set_look(user, NULL, NULL);
}
