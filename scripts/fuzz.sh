#!/usr/bin/env bash
# Has libFuzzer look for input that breaks what must hold: fuzz.sh [TARGET..], each for SECONDS_EACH seconds.
# The first find ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${SECONDS_EACH:-60}
dir=$(cargo_dir)
[ -n "$dir" ] || die "no cargo >= $(msrv)"
# The sanitizers are unstable flags of rustc; with this a stable one takes them.
export PATH="$dir:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin" RUSTC_BOOTSTRAP=1
command -v c++ >/dev/null || die "a C++ compiler is needed, for libFuzzer: apt-get install g++"
compgen -G "$(rustc --print target-libdir)/librustc*_rt.asan.a" >/dev/null ||
    die "this rustc comes without the sanitizers' runtime; rustup's has it: https://rustup.rs"
if ! command -v cargo-fuzz >/dev/null; then
    say "installing cargo-fuzz from crates.io"
    cargo install --locked cargo-fuzz
fi

out=$PWD/build/fuzz
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
for target in "${targets[@]}"; do
    say "$target, $seconds s"
    mkdir -p "$out/corpus/$target" "$out/artifacts/$target"
    # New inputs go into the first folder; the vectors are only read.
    cargo fuzz run --fuzz-dir tests/fuzz --target-dir "$(CARGO_TARGET_DIR=$out/target cargo_target)" "$target" \
        "$out/corpus/$target" tests/vectors/streams tests/vectors/keys tests/vectors/slots tests/vectors/trees -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 \
        -artifact_prefix="$out/artifacts/$target/"
done
say "nothing was found"
