#!/usr/bin/env bash
# bare-debian.sh [-s SUITE] [-u root|user] [-p] [COMMAND]: runs COMMAND in a fresh clone of HEAD on a bare Debian,
# in a container that has nothing but git, make and (for an ordinary user) sudo. COMMAND is "make demo && make test"
# if not given; -p: privileged, so that it may mount. The crates are brought along (cargo vendor), all else is
# installed by what is tried.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

suite=bookworm who=root privileged=()
while getopts s:u:p option; do
    case $option in
        s) suite=$OPTARG ;;
        u) who=$OPTARG ;;
        p) privileged=(--privileged) ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
command=${*:-make demo && make test}
image=debian:$suite-slim

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tests/docker/base-image.sh "$suite"
git bundle create -q "$work/repository" HEAD
scripts/cargo vendor --locked --quiet "$work/vendor" >/dev/null
cat >"$work/cargo.toml" <<'END'
[source.crates-io]
replace-with = "brought"
[source.brought]
directory = "/brought/vendor"
END
chmod -R a+rX "$work"

say "$image, as $who: $command"
docker run --rm -i "${privileged[@]}" -v "$work:/brought:ro" -e CI -e WHO="$who" -e COMMAND="$command" "$image" bash -eu <<'END'
apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends git make sudo ca-certificates >/dev/null 2>&1
if [ "$WHO" != root ]; then
    useradd -m "$WHO"
    echo "$WHO ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/demo
fi
su "$WHO" -s /bin/bash -c '
    set -eu
    mkdir -p ~/.cargo && cp /brought/cargo.toml ~/.cargo/config.toml
    git clone -q /brought/repository ~/clone 2>/dev/null
    cd ~/clone
    eval "$COMMAND"' </dev/null
END
