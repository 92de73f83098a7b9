#!/usr/bin/env bash
# run.sh [PYTEST ARGUMENTS]: the upgrade from Debian 12 to 13 under an installed plugin, in a container. What is compiled is
# kept in a volume, of this checkout's own by VOLUME_SUFFIX.
set -euo pipefail
cd "$(dirname "$0")/../../.."
. scripts/lib.sh
. tests/docker/lines.sh

engine || die "no Docker engine answers (docker version)"
vendor_crates
build_image mail-crypt-test:bookworm bookworm Dockerfile bookworm
say "the image mail-crypt-upgrade:bookworm"
three_times docker build --quiet -t mail-crypt-upgrade:bookworm -f tests/docker/upgrade.Dockerfile tests/docker/upgrade >/dev/null
# shellcheck disable=SC2086
/usr/bin/python3 -m pytest "--target=mail-crypt-target-upgrade${VOLUME_SUFFIX:-}" ${PYTEST_ARGS:-} "$@" tests/docker/upgrade
