# Lets a test install for real, into copies of the system's folders that nobody else sees. Sourced.
# shellcheck shell=bash

# cover FOLDER CHANGES: covers a folder with a writable copy of itself; what is changed goes to CHANGES, which should be in memory.
cover() {
    mkdir -p "$2/up" "$2/work"
    mount -t overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" none "$1"
}

# can_cover FOLDER: in a container there may be namespaces and yet no overlays.
can_cover() {
    # shellcheck disable=SC2016
    unshare -m sh -c 'mount -t tmpfs none "$1" && cd "$1" && mkdir a b c d &&
        mount -t overlay -o lowerdir=a,upperdir=b,workdir=c none d' sh "$1" 2>/dev/null
}
