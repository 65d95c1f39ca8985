#!/usr/bin/env bash
# Builds with gcov instrumentation, runs the C++ suites and reports line coverage of src/ and backends/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset coverage -DAI_VMM_ENV="${AI_VMM_ENV:-$PWD/.venv}" >/dev/null
cmake --build --preset coverage
ctest --test-dir build-coverage --output-on-failure -j "$(nproc)"
mkdir -p coverage
gcovr -r . --object-directory build-coverage -f src/ -f backends/ --exclude-throw-branches --html-details coverage/index.html --txt coverage/summary.txt
tail -n 5 coverage/summary.txt
