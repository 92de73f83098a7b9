#!/usr/bin/env bash
# cargo-licences.sh: prints the crates that the core and the tool contain, and the licences in vendor/ that they bring.
# Who hands on what is built has to hand these on with it.
set -euo pipefail
cd "$(dirname "$0")/.."

# name, version, licence; without what only takes part in building
crates() {
    scripts/cargo tree --locked --offline --edges normal,no-proc-macro --features dovecot,tool --prefix none --format $'{p}\t{l}' |
        sed 's/ (\*)$//; s/ v\([^\t ]*\)[^\t]*\t/\t\1\t/' | sort -u | grep -v '^mail-crypt-core'
}

# The folder of a crate: with its version in the name only if there are several.
folder() { if [ -d "vendor/$1-$2" ]; then echo "vendor/$1-$2"; else echo "vendor/$1"; fi; }

declare -A users=()
texts=()
printf 'Built into this package:\n\n'
while IFS=$'\t' read -r name version licence; do
    printf '%s %s: %s\n' "$name" "$version" "$licence"
    for file in "$(folder "$name" "$version")"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE,UNLICENSE}*; do
        [ -f "$file" ] || continue
        sum=$(tr -d '\r' <"$file" | sha256sum | cut -d' ' -f1)
        [ -n "${users[$sum]:-}" ] || texts+=("$sum $file")
        users[$sum]+=" $name"
    done
done < <(crates)
for text in "${texts[@]}"; do
    printf '\n\n======== %s of:%s\n\n' "$(basename "${text#* }")" "${users[${text%% *}]}"
    tr -d '\r' <"${text#* }"
done
