/* Writes and reads encrypted streams with the dcrypt library of an installed Dovecot, with
   flags that none of its own tools set. make.sh builds it; MODULES is the folder of
   libdcrypt_openssl.so.

   streamvec write ALGORITHM FLAGS PUBLIC_KEY_FILE <plain >sealed
   streamvec read PRIVATE_KEY_FILE <sealed >plain */
#include "lib.h"
#include "buffer.h"
#include "dcrypt.h"
#include "dcrypt-iostream.h"
#include "istream.h"
#include "istream-decrypt.h"
#include "ostream.h"
#include "ostream-encrypt.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *file_text(const char *path)
{
	static char text[65536];
	FILE *f = fopen(path, "r");
	size_t n = f == NULL ? 0 : fread(text, 1, sizeof(text) - 1, f);

	text[n] = '\0';
	if (f != NULL)
		fclose(f);
	return text;
}

static int copy(struct istream *input, struct ostream *output)
{
	const unsigned char *data;
	size_t size;

	while (i_stream_read_more(input, &data, &size) > 0) {
		o_stream_nsend(output, data, size);
		i_stream_skip(input, size);
	}
	if (input->stream_errno != 0) {
		fprintf(stderr, "read: %s\n", i_stream_get_error(input));
		return 1;
	}
	if (o_stream_finish(output) <= 0) {
		fprintf(stderr, "write: %s\n", o_stream_get_error(output));
		return 1;
	}
	return 0;
}

int main(int argc, char *argv[])
{
	struct dcrypt_settings set = { .module_dir = MODULES };
	const char *error;
	int ret = 2;

	lib_init();
	if (!dcrypt_initialize(NULL, &set, &error))
		i_fatal("%s", error);
	struct istream *input = i_stream_create_fd(0, 4096);
	struct ostream *output = o_stream_create_fd(1, 0);

	if (argc == 5 && strcmp(argv[1], "write") == 0) {
		struct dcrypt_public_key *key;

		if (!dcrypt_key_load_public(&key, file_text(argv[4]), &error))
			i_fatal("%s", error);
		struct ostream *sealed =
			o_stream_create_encrypt(output, argv[2], key, atoi(argv[3]));
		ret = copy(input, sealed);
	} else if (argc == 3 && strcmp(argv[1], "read") == 0) {
		struct dcrypt_private_key *key;

		if (!dcrypt_key_load_private(&key, file_text(argv[2]), NULL, NULL, &error))
			i_fatal("%s", error);
		ret = copy(i_stream_create_decrypt(input, key), output);
	}
	return ret;
}
