#ifndef DOVEADM_MAIL_CRYPT_CHECK_H
#define DOVEADM_MAIL_CRYPT_CHECK_H

/* doveadm mailbox crypt check, to be registered */
extern struct doveadm_cmd_ver2 crypt_check_command;

#endif
