#ifndef MAIL_CRYPT_ATTACHMENT_H
#define MAIL_CRYPT_ATTACHMENT_H

#pragma GCC visibility push(hidden)

/* May mails of this mailbox have attachments outside? */
bool mail_crypt_has_attachments(struct mailbox *box);
/* Are those of this open mail, in such a mailbox, there and whole? Returns 0 or -1. */
int mail_crypt_check_attachments(struct mail *mail, struct mcrs_error *error_r);

#pragma GCC visibility pop

#endif
