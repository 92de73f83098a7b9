# The Dovecot lines that are tested, and how their images are called. Sourced.
# shellcheck shell=bash disable=SC2034

# name:Debian suite of the base image:suite that Dovecot is taken from
LINES_TABLE=(
    bookworm:bookworm:bookworm
    bookworm-backports:bookworm:bookworm-backports
    trixie:trixie:trixie
    sid:sid:sid
)
ALL_LINES=("${LINES_TABLE[@]%%:*}")

# line_field LINE 2|3: the suite of the base image, the suite of Dovecot
line_field() {
    local entry
    for entry in "${LINES_TABLE[@]}"; do
        [ "${entry%%:*}" != "$1" ] || { cut -d: -f"$2" <<<"$entry"; return; }
    done
    die "no line '$1': there are ${ALL_LINES[*]}"
}

line_image() { printf 'mail-crypt-test:%s\n' "$1"; }

# engine: is a Docker engine there and answering?
engine() { command -v docker >/dev/null && timeout 60 docker version >/dev/null 2>&1; }

# build_image IMAGE BASE-SUITE DOCKERFILE SUITE: an image from files that seldom change, so that the engine finds it again
build_image() {
    local context code=0
    tests/docker/base-image.sh "$2"
    context=$(mktemp -d)
    mkdir -p "$context/scripts" "$context/tests/docker"
    cp scripts/ensure-deps.sh scripts/lib.sh "$context/scripts/"
    cp tests/docker/prepare.sh "$context/tests/docker/"
    grep '^rust-version' Cargo.toml >"$context/Cargo.toml"
    apt_conf >"$context/apt.conf"
    say "the image $1"
    three_times docker build --quiet -t "$1" -f "tests/docker/$3" --build-arg "BASE=debian:$2-slim" \
        --build-arg "SUITE=$4" "$context" >/dev/null || code=1
    rm -rf "$context"
    return $code
}

# How this machine's apt gets at its mirror (proxies, clocks that are off), for an image's apt to do the same.
apt_conf() {
    command -v apt-config >/dev/null || return 0
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|Max-FutureTime)' || true
}

deb_image() { printf 'mail-crypt-deb:%s\n' "$1"; }

# build_deb_image LINE: on top of the line's own
build_deb_image() {
    say "the image $(deb_image "$1")"
    three_times docker build --quiet -t "$(deb_image "$1")" -f tests/docker/deb.Dockerfile --build-arg "LINE=$1" tests/docker/deb >/dev/null
}
