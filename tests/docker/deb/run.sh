#!/usr/bin/env bash
# run.sh [LINE..]: builds the packages of these lines (bookworm and trixie, if none is named), and has apt and dpkg install,
# upgrade and remove them in a container, while Dovecot changes. PYTEST_ARGS narrows it down.
set -euo pipefail
cd "$(dirname "$0")/../../.."
. scripts/lib.sh
. tests/docker/lines.sh

engine || die "no Docker engine answers (docker version)"
lines=("$@")
[ ${#lines[@]} -gt 0 ] || lines=(bookworm trixie)
for line in "${lines[@]}"; do
    tests/docker/run.sh --deb-quick "$line"
    # shellcheck disable=SC2086
    /usr/bin/python3 -m pytest "--line=$line" ${PYTEST_ARGS:-} tests/docker/deb
done
