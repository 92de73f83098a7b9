#!/usr/bin/env bash
# example.sh: does what examples/docker/README.md says, command by command, and looks at what comes of it. The package is
# PACKAGE, or is built first, without optimization.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. tests/docker/lines.sh

engine || die "no Docker engine answers (docker version)"
if [ -z "${PACKAGE:-}" ]; then
    tests/docker/run.sh --deb-quick trixie
    PACKAGE=$(find build/docker/deb -name "dovecot-mail-crypt_$(crate_version)+dovecot2.4*.deb" | sort | tail -n 1)
fi
tests/docker/base-image.sh trixie

work=$(mktemp -d)
export COMPOSE_PROJECT_NAME=mail-crypt-example-$$
compose() { if command docker compose version >/dev/null 2>&1; then command docker compose "$@"; else docker-compose "$@"; fi; }
docker() { if [ "$1" = compose ]; then shift; compose "$@"; else command docker "$@"; fi; }
clean() {
    code=$?
    [ $code -eq 0 ] || (cd "$work/examples/docker" && compose logs --tail 50) || true
    (cd "$work/examples/docker" && compose down --volumes --rmi local) >/dev/null 2>&1 || true
    command docker rmi "$BASE" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

# The image's apt reaches the mirror as this machine does.
export BASE=mail-crypt-example-base:$$
mkdir "$work/base"
apt_conf >"$work/base/apt.conf"
printf 'FROM debian:trixie-slim\nCOPY apt.conf /etc/apt/apt.conf.d/80local\n' >"$work/base/Dockerfile"
command docker build --quiet -t "$BASE" "$work/base" >/dev/null

cp -r examples "$work/"
cp "$PACKAGE" "$work/examples/docker/"
cd "$work/examples/docker"
# Blocks of shell, each in a file.
awk '/^```sh$/ { n++; on = 1; next } /^```$/ { on = 0 } on { print >("block." n) }' README.md
[ "$(find . -name 'block.*' | wc -l)" -eq 8 ] || die "README.md has other blocks than this script knows"

run() {
    say "README.md, block $1"
    set -o pipefail
    # shellcheck disable=SC1090
    . "./block.$1" >"said.$1" 2>"errors.$1" </dev/null || { cat "said.$1" "errors.$1" >&2; die "block $1 failed"; }
}
has() { grep -qF "$2" "said.$1" || { cat "said.$1" "errors.$1" >&2; die "block $1 doesn't say '$2'"; }; }
times() { [ "$(grep -cF "$2" "said.$1")" -eq "$3" ] || { cat "said.$1" >&2; die "block $1 doesn't say '$2' $3 times"; }; }

clock="Meet me at noon, under the clock."
run 1
run 2
run 3
has 3 "C   R   Y   P   T   E   D"
! docker compose exec -T mail grep -rq noon /srv/mail/alice/Maildir </dev/null || die "plaintext on the disk"
run 4
times 4 "$clock" 2
run 5
times 5 "$clock" 1
! docker compose exec -T mail curl -sf -u alice:wonderland 'imap://localhost/INBOX;MAILINDEX=2' </dev/null >/dev/null || die "the old password still does"
run 6
times 6 "$clock" 1
grep -qxE '([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}' alice.code || die "no recovery code"
run 7
for metric in 'decrypted_total{source="mail"' 'encrypted_total{source="mail"' 'key_created_total{level="user",protected="yes"}' \
    'key_changed_total{change="password"}' 'key_changed_total{change="reset"}' 'key_changed_total{change="share"}'; do
    has 7 "dovecot_mail_crypt_$metric"
done
! grep -q 'protected="no"' said.7 || die "an unprotected key"
run 8
say "examples/docker does what its README.md says"
