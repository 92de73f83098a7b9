#!/usr/bin/env bash
# Runs every test and ends with the closing lines of both runners. Fails if anything failed, or if
# a runner had nothing to run. CARGO_TEST_ARGS and PYTEST_ARGS narrow it down.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. scripts/lib.sh
logs=build/test-logs
mkdir -p "$logs"
failed=0

say "cargo test: the pure part and the boundary"
started=$(date +%s.%N)
# shellcheck disable=SC2086
"${CARGO:-scripts/cargo}" test --locked --no-fail-fast ${CARGO_TEST_ARGS:-} 2>&1 | tee "$logs/cargo.log" || failed=1
seconds=$(awk "BEGIN { print $(date +%s.%N) - $started }")

say "pytest: against a real Dovecot, in private instances"
# shellcheck disable=SC2086
"${PYTHON:-/usr/bin/python3}" -m pytest -n $((2 * $(nproc))) --dist loadscope ${PYTEST_ARGS:-} tests/dovecot 2>&1 |
    tee "$logs/pytest.log" || failed=1

# cargo closes each of its test programs with a line of its own: here they are added up.
closing=$(awk -v seconds="$seconds" '
    /^test result: / { passed += $4; failed += $6; skipped += $8 }
    END {
        if (passed + failed == 0) { print "     cargo test ran nothing"; exit 1 }
        printf "     Summary [%8.3fs] %d tests run: %d passed, ", seconds, passed + failed, passed
        if (failed) printf "%d failed, ", failed
        printf "%d skipped\n", skipped
    }' "$logs/cargo.log") || failed=1
printf '\ncargo test:\n%s\n' "$closing"
printf 'pytest:\n'
grep '^ *Summary' "$logs/pytest.log"
tail -n1 "$logs/pytest.log"
exit $failed
