#!/usr/bin/env bash
# What `make test` runs after the build. `scripts/test.sh quick` leaves out lint, node tests and fuzzing.
# Prints one closing line with the number of suites that passed and failed.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=${AI_VMM_ENV:-$root/.venv}
export PYTHONPATH=$root/build/python AI_VMM_BUILD_DIR=$root/build
# Tests never touch the user's own cache.
cache=$(mktemp -d)
export AI_VMM_CACHE_DIR=$cache
trap 'rm -rf "$cache"' EXIT

passed=0
failed=0
failures=()
suite() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    passed=$((passed + 1))
    printf '== %s: ok, %d s\n' "$name" $((SECONDS - start))
  else
    failed=$((failed + 1))
    failures+=("$name")
    printf '== %s: FAILED, %d s\n' "$name" $((SECONDS - start))
  fi
}

[ "${1:-}" = quick ] || suite "lint" scripts/lint.sh
suite "C++ suites" ctest --test-dir build --output-on-failure --no-tests=error -j "$(nproc)" --exclude-regex "^test_python$"
suite "Python suites" "$venv/bin/python" -m pytest -q tests/python
suite "bundled models" "$venv/bin/python" models/make/check.py
if [ "${1:-}" != quick ]; then
  suite "ONNX node tests" "$venv/bin/python" tests/node/run_node_tests.py
  # The same sequence every time, so that a failure is of the change that is tested; what chance finds is for `make fuzz`.
  FUZZ_SEED=${FUZZ_SEED:-1} suite "fuzzing" scripts/fuzz.sh "${FUZZ_SECONDS:-60}"
fi

[ "$failed" = 0 ] || printf '\nfailed: %s\n' "${failures[*]}"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
