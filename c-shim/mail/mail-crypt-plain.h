#ifndef MAIL_CRYPT_PLAIN_H
#define MAIL_CRYPT_PLAIN_H

#pragma GCC visibility push(hidden)

/* A mail that isn't encrypted is about to be served from the beginning of input: was it encrypted once?
   Returns 0 if not, as far as can be told, and -1 if it mustn't be served. */
int mail_crypt_mail_check_plain(struct mail *mail, struct istream *input,
				struct mcrs_error *error_r);
#pragma GCC visibility pop

#endif
