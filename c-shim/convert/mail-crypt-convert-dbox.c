/* What sdbox and mdbox have in common. */

#define _GNU_SOURCE /* memmem() */
#include "compat.h"
#include "dbox-file.h"

#include "mail-crypt-convert.h"
#include "mail-crypt-convert-dbox.h"

#include <unistd.h>

/* All metadata of a mail fits in: it has a line for each attachment that lies outside. */
#define CONVERT_METADATA_MAX (1024*1024)

/* Does a line of the metadata have this key? */
static bool convert_dbox_has(const buffer_t *metadata, enum dbox_metadata_key key)
{
	const char line[] = { '\n', (char)key };

	return memmem(metadata->data, metadata->used, line, sizeof(line)) != NULL;
}

int convert_dbox_metadata(const struct convert_source *source, uoff_t end,
			  buffer_t *metadata)
{
	uoff_t offset = source->before + source->size;
	size_t size = end - offset;
	const char *line;
	void *data;

	if (end < offset + strlen(DBOX_MAGIC_POST) || size > CONVERT_METADATA_MAX) {
		errno = EINVAL;
		return -1;
	}
	data = buffer_append_space_unsafe(metadata, size);
	if (pread(source->fd, data, size, offset) != (ssize_t)size) {
		errno = EIO;
		return -1;
	}
	/* the mail's own size, which its header had */
	if (!convert_dbox_has(metadata, DBOX_METADATA_PHYSICAL_SIZE)) {
		line = t_strdup_printf("%c%"PRIx64"\n", DBOX_METADATA_PHYSICAL_SIZE,
				       (uint64_t)source->size);
		buffer_insert(metadata, strlen(DBOX_MAGIC_POST), line, strlen(line));
	}
	return 0;
}
