#!/usr/bin/env bash
# run.sh [--build|--deb|--deb-quick|--bench|--chaos|--memcheck] [LINE..]: builds the plugin against each of these Dovecots (all that
# lines.sh has, if none is named) and runs tests/dovecot against it, in a container. Results: build/docker/LINE.xml and
# LINE.json. PYTEST_ARGS narrows it down; with --build there are no tests, with --deb the
# package, into build/deb; with --deb-quick one that is not optimized, for tests, into build/docker/deb. With --bench it measures instead, as
# `make bench` does with BENCH_ARGS: build/docker/LINE.bench.md and LINE.bench.json. With --chaos it does what
# `make chaos` does with CHAOS_ARGS: LINE.chaos.json. With --memcheck it does as `make memcheck`. What is compiled is
# kept in a volume for each line; a checkout that is tested at the same time as another one takes volumes of its own by
# VOLUME_SUFFIX.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. tests/docker/lines.sh

engine || die "no Docker engine answers (docker version)"
step="test"
results_of_step="xml json"
case ${1:-} in
--build)
    step="build" results_of_step=""
    shift
    ;;
--deb | --deb-quick)
    step=${1#--} results_of_step=""
    shift
    ;;
--bench)
    step="bench" results_of_step="bench.md bench.json"
    shift
    ;;
--memcheck)
    step="memcheck" results_of_step=""
    shift
    ;;
--chaos)
    step="chaos" results_of_step="chaos.json"
    shift
    ;;
esac
lines=("$@")
[ ${#lines[@]} -gt 0 ] || lines=("${ALL_LINES[@]}")
for line in "${lines[@]}"; do line_field "$line" 2 >/dev/null; done
results=build/docker
packages=build/deb
[ $step = deb ] || packages=$results/deb
mkdir -p $results
container=
trap '[ -z "$container" ] || docker rm -f "$container" >/dev/null 2>&1 || true' EXIT

vendor_crates

# Packages are built where what builds packages is, too.
image() { case $step in deb*) deb_image "$1" ;; *) line_image "$1" ;; esac; }

# Mounting in private namespaces is how the tests put modules side by side: it takes SYS_ADMIN.
run_line() {
    local code=0
    container=mail-crypt-test-$1-$$
    git ls-files -z --cached --others --exclude-standard | grep -zZv '^vendor/' |
        tar -c --null --files-from=- --ignore-failed-read --owner=0 --group=0 |
        docker run -i --init --name "$container" \
            --cap-add SYS_ADMIN --cap-add SYS_PTRACE \
            --security-opt apparmor=unconfined --security-opt seccomp=unconfined \
            --tmpfs /tmp:exec,mode=1777 \
            -v "mail-crypt-target-$1${VOLUME_SUFFIX:-}:/target" -v "$PWD/vendor:/vendor:ro" \
            -e PYTEST_ARGS -e BENCH_ARGS -e CHAOS_ARGS -e VALGRIND_ARGS -e LINE="$1" \
            "$(image "$1")" sh -c 'mkdir /src && tar -x -C /src && find /src -type d -exec touch -d @1 {} + && exec /src/tests/docker/inside.sh "$0"' "$step" || code=$?
    for kind in $results_of_step; do
        rm -f "$results/$1.$kind"
        docker cp "$container:/results/$1.$kind" $results/ >/dev/null 2>&1 || code=1
    done
    case $step in deb*)
        mkdir -p "$packages"
        docker cp "$container:/results/deb/." "$packages/" >/dev/null || code=1
        ;;
    esac
    docker rm -f "$container" >/dev/null
    container=
    return $code
}

failed=()
for line in "${lines[@]}"; do
    build_image "$(line_image "$line")" "$(line_field "$line" 2)" Dockerfile "$(line_field "$line" 3)"
    case $step in deb*) build_deb_image "$line" ;; esac
    say "$line: $step"
    run_line "$line" || failed+=("$line")
done
[ "$step" != test ] || /usr/bin/python3 tests/docker/table.py $results
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
