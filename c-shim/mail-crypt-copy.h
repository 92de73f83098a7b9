#ifndef MAIL_CRYPT_COPY_H
#define MAIL_CRYPT_COPY_H

struct mail;
struct mailbox;

/* May the mail be copied to dest as it is on disk? */
bool mail_crypt_can_copy_raw(struct mailbox *dest, struct mail *mail);

#endif
