#!/usr/bin/env bash
# Everything that can be said about the sources without running a mail server. Called by `make check`,
# which says how the C files are compiled (SHIM_CFLAGS) and which CARGO and CC to take.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
cargo=${CARGO:-scripts/cargo}

say "formatting"
"$cargo" fmt --check

say "clippy, with Dovecot and without"
"$cargo" clippy --locked --all-targets -- -D warnings
"$cargo" clippy --locked --all-targets --no-default-features --features tool -- -D warnings

say "unsafe code only in src/ffi"
if git grep -nw unsafe -- '*.rs' ':!src/ffi'; then
    die "unsafe outside src/ffi"
fi
# forbidden FILE: the file or a module around it forbids unsafe code.
forbidden() {
    local file=$1
    while [ "$file" != src ]; do
        grep -qs '^#!\[forbid(unsafe_code)\]' "$1" "$file.rs" "$file/mod.rs" && return
        file=$(dirname "$file")
    done
    return 1
}
for file in $(git ls-files -- 'src/*.rs' ':!src/ffi' ':!src/lib.rs'); do
    forbidden "$file" || die "$file lacks #![forbid(unsafe_code)]"
done

say "the C header is what the Rust sources say"
scripts/header.sh check

say "C without warnings"
for file in c-shim/*.c; do
    # What it is made of is only there in 2.4's headers.
    [ "$file" != c-shim/crypt-settings.c ] || [ "$(dovecot_line)" = 2.4 ] || continue
    # shellcheck disable=SC2086
    ${CC:-cc} $SHIM_CFLAGS -Werror -c -o /dev/null "$file"
done

say "shell scripts"
shellcheck --severity=warning -x scripts/*.sh scripts/cargo .ci/run

say "the pure part stands alone, without Dovecot"
"$cargo" test --locked --no-default-features --lib

say "licences and advisories"
if command -v cargo-deny >/dev/null; then
    "$cargo" deny --locked check
else
    say "cargo-deny is not installed: left out"
fi
say "all checks passed"
