#!/usr/bin/env bash
# Everything that can be said about the sources without running a mail server. Called by `make check`,
# which says which C files this Dovecot takes (SHIM_SOURCES), how they are compiled (SHIM_CFLAGS) and which CARGO and CC to take.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
cargo=${CARGO:-scripts/cargo}

say "formatting"
"$cargo" fmt --check
"$cargo" fmt --check --manifest-path tests/bench/micro/Cargo.toml
# All that the fuzz targets do is compiled, linted and run with the tests; of their own crate there is only this to see.
"$cargo" fmt --check --manifest-path tests/fuzz/Cargo.toml

say "clippy, with Dovecot and without"
"$cargo" clippy --locked --all-targets -- -D warnings
"$cargo" clippy --locked --all-targets --no-default-features --features tool -- -D warnings

say "docs, with Dovecot and without"
export RUSTDOCFLAGS="-D warnings"
"$cargo" doc --quiet --locked --no-deps --lib --document-private-items
"$cargo" doc --quiet --locked --no-deps --document-private-items --no-default-features --features tool
unset RUSTDOCFLAGS

say "unsafe code only in src/ffi"
if git grep -nw unsafe -- '*.rs' ':!src/ffi' ':!src/ffi.rs'; then
    die "unsafe outside src/ffi"
fi
# forbidden FILE: the file or a module around it forbids unsafe code.
forbidden() {
    local file=$1
    while [ "$file" != src ]; do
        grep -qs '^#!\[forbid(unsafe_code)\]' "$1" "$file.rs" && return
        file=$(dirname "$file")
    done
    return 1
}
for file in $(git ls-files -- 'src/*.rs' ':!src/ffi' ':!src/ffi.rs' ':!src/lib.rs'); do
    forbidden "$file" || die "$file lacks #![forbid(unsafe_code)]"
done

say "one place each knows one Dovecot from another"
if git grep -nE '^ *# *(if|ifdef|elif)|DOVECOT_VERSION' -- c-shim ':!c-shim/common/compat.h' | grep -vE '^c-shim/[a-z]+/[a-z-]+\.h:1:#ifndef '; then
    die "#if outside c-shim/common/compat.h"
fi
if git grep -nE 'cfg!?\(.*dovecot_2_' -- src ':!src/ffi/version.rs'; then
    die "a version outside src/ffi/version.rs"
fi

say "the C header is what the Rust sources say"
scripts/header.sh check

say "C without warnings"
for file in $SHIM_SOURCES; do
    # shellcheck disable=SC2086
    ${CC:-cc} $SHIM_CFLAGS -Werror -c -o /dev/null "$file"
done

say "the package has the crate's version"
[ "$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)" = "$(crate_version)" ] || die "debian/changelog is of another version than Cargo.toml"

say "shell scripts"
shellcheck --severity=warning -x scripts/*.sh scripts/cargo .ci/run tests/docker/*.sh tests/docker/scenarios/*.sh tests/docker/upgrade/*.sh tests/docker/deb/*.sh debian/*.preinst debian/*.postrm

say "the pure part stands alone, without Dovecot"
"$cargo" test --locked --no-default-features --lib

say "licences and advisories"
if command -v cargo-deny >/dev/null; then
    "$cargo" deny --locked check
else
    say "cargo-deny is not installed: left out"
fi
say "all checks passed"
