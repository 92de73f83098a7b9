#ifndef MAIL_CRYPT_COPY_H
#define MAIL_CRYPT_COPY_H

struct mail;
struct mailbox;
struct mail_save_context;

/* May the mail be copied to dest as it is on disk? */
bool mail_crypt_can_copy_raw(struct mailbox *dest, struct mail *mail);
/* Is it expunged mail that can't be read, and that lazy_expunge has to keep as it is on disk? Else it
   would expunge nothing. */
bool mail_crypt_keeps_unreadable(struct mail_save_context *ctx, struct mail *mail);

#endif
