#!/usr/bin/env bash
# inside.sh build|deb|deb-quick|test|bench|chaos|memcheck: runs in a container of one line. Builds against its Dovecot; then installs,
# takes back, installs again, and tests; or measures, tries to lose mail, or runs it under valgrind. The sources are in
# /src, the crates in /vendor, what is kept between runs in /target; LINE is the line's name, results go to /results.
set -euo pipefail
step=${1:?inside.sh build|deb|deb-quick|test|bench|chaos|memcheck}
cd /src
. scripts/lib.sh
export CI=true DEPS=no CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true CARGO_BUILD_FLAGS="--locked --offline"
mkdir -p /results ~/.cargo
cat >~/.cargo/config.toml <<'END'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/vendor"
END
results=/results/$LINE

say "$LINE: Dovecot $(dovecot --version), $("$(cargo_dir)/rustc" --version)"
printf '{"line": "%s", "dovecot": "%s", "package": "%s", "rust": "%s"}\n' "$LINE" "$(dovecot --version | cut -d' ' -f1)" \
    "$(dpkg-query -W -f '${Version}' dovecot-core)" "$("$(cargo_dir)/rustc" --version | cut -d' ' -f2)" >"$results.json"

if [ "$step" = deb-quick ]; then
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
fi
if [[ $step = deb* ]]; then
    ln -s /vendor vendor
    exec scripts/deb.sh /results/deb
fi
make build
if [ "$step" = bench ]; then
    code=0
    # shellcheck disable=SC2086
    make bench ${BENCH_ARGS:-} || code=$?
    for kind in md json; do cp build/bench/bench.$kind "$results.bench.$kind"; done
    exit $code
fi
if [ "$step" = memcheck ]; then
    exec make memcheck
fi
if [ "$step" = chaos ]; then
    code=0
    # shellcheck disable=SC2086
    make chaos ${CHAOS_ARGS:-} || code=$?
    cp build/chaos/chaos.json "$results.chaos.json"
    exit $code
fi
# For hosts that install it: the tree as `make install` wants it.
rm -rf /target/install
mkdir -p /target/install
cp -a Cargo.toml Makefile build man scripts /target/install/
[ "$step" = test ] || exit 0

make test-install
# The tests run on a system where ours is installed, the packaged modules diverted, as it is for a user.
make install
make stage >/dev/null
# shellcheck disable=SC2086
/usr/bin/python3 -m pytest -n $((2 * $(nproc))) --dist loadscope --junitxml="$results.xml" -o junit_family=xunit1 \
    ${PYTEST_ARGS:-} tests/dovecot
