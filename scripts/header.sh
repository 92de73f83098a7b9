#!/usr/bin/env bash
# header.sh check|write: compares include/mail_crypt_core.h with what the Rust sources give, or writes it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
header=include/mail_crypt_core.h

# The build script leaves the header in its OUT_DIR, which cargo names.
out_dir=$("${CARGO:-scripts/cargo}" build --quiet --release --locked --message-format=json-render-diagnostics |
    sed -n 's/.*"reason":"build-script-executed".*mail-crypt-core.*"out_dir":"\([^"]*\)".*/\1/p' | tail -n1)
[ -r "$out_dir/mail_crypt_core.h" ] || die "the build made no mail_crypt_core.h (does 'make core' work?)"

case ${1:?header.sh check|write} in
    check) diff -u "$header" "$out_dir/mail_crypt_core.h" ||
        die "$header is not what the Rust sources say: run 'make header' and commit it" ;;
    write) mkdir -p include && cp "$out_dir/mail_crypt_core.h" "$header" ;;
    *) die "header.sh check|write" ;;
esac
