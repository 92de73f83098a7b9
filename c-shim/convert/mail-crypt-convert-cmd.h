#ifndef MAIL_CRYPT_CONVERT_CMD_H
#define MAIL_CRYPT_CONVERT_CMD_H

/* doveadm mailbox crypt convert, to be registered */
extern struct doveadm_cmd_ver2 convert_command;

#endif
