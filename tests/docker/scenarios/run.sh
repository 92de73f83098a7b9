#!/usr/bin/env bash
# run.sh [PYTEST ARGUMENTS]: the scenarios of several hosts, with LINE's Dovecot (bookworm if not set) on the backends.
set -euo pipefail
cd "$(dirname "$0")/../../.."
. scripts/lib.sh
. tests/docker/lines.sh

engine || die "no Docker engine answers (docker version)"
tests/docker/run.sh --build "${LINE:-bookworm}" trixie
build_image mail-crypt-services:bookworm bookworm services.Dockerfile bookworm
# shellcheck disable=SC2086
/usr/bin/python3 -m pytest "--line=${LINE:-bookworm}" ${PYTEST_ARGS:-} "$@" tests/docker/scenarios
