/* What src/ffi/dovecot.rs is generated from: every Dovecot interface that the core calls. */
#include "config.h"
#include "lib.h"
#include "file-create-locked.h"
#include "mail-namespace.h"
#include "mail-storage.h"
#include "mail-user.h"
#include "mailbox-attribute.h"
#include "mailbox-list.h"
