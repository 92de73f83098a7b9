#ifndef MAIL_CRYPT_CONVERT_DBOX_H
#define MAIL_CRYPT_CONVERT_DBOX_H

struct convert_source;

/* Reads the metadata behind a mail, up to end, as it has to be behind the new one: with all its lines. Returns 0, or -1
   and sets errno. */
int convert_dbox_metadata(const struct convert_source *source, uoff_t end,
			  buffer_t *metadata);

#endif
