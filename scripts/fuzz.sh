#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target for so many seconds, as many at once as there are cores: scripts/fuzz.sh [SECONDS] [TARGET...]
# FUZZ_SEED fixes the random sequence; a target that came through it unchanged before is not run again. Corpora stay in build-fuzz/corpus between runs; an input that fails is kept in build-fuzz/findings and the line that reproduces it printed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${1:-60}
shift || true
build=$root/build-fuzz
env_dir=${AI_VMM_ENV:-$root/.venv}
command -v clang++ >/dev/null || { echo "fuzz: clang++ is missing; install clang and libclang-rt-dev" >&2; exit 1; }

cd "$root"
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
cmake --preset fuzz -DAI_VMM_ENV="$env_dir" >"$log/configure" 2>&1 || { cat "$log/configure" >&2; exit 1; }
cmake --build --preset fuzz --target fuzzers >"$log/build" 2>&1 || { tail -50 "$log/build" >&2; exit 1; }
"$env_dir/bin/python" scripts/fuzz_seeds.py "$build/corpus" 2>/dev/null
mkdir -p "$build/findings" "$build/clean"

if [ "$#" -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cd "$build/bin" && ls -1 -- *_fuzz); fi

# The engine isn't instrumented: containers that cross between it and us look overflown, and its own statics look leaked.
export ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:alloc_dealloc_mismatch=0:detect_odr_violation=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}
run_one() {
  local target=$1 corpus=$build/corpus/$1 dictionary=$root/fuzz/dictionaries/${1%_reader_fuzz}.dict options=()
  mkdir -p "$corpus"
  local seeds=()
  [ -d "$root/fuzz/corpus/$target" ] && seeds=("$root/fuzz/corpus/$target")
  [ -f "$dictionary" ] && options+=("-dict=$dictionary")
  local state=''
  if [ -n "${FUZZ_SEED:-}" ]; then
    state="$FUZZ_SEED $seconds $({ find "$build/bin/$target" "$dictionary" "$root/scripts/fuzz_seeds.py" "$root/models" "${seeds[@]}" -type f -exec sha256sum {} + 2>/dev/null || true; } | sort | sha256sum)"
    if [ "$state" = "$(cat "$build/clean/$target" 2>/dev/null)" ]; then
      printf 'fuzz: %-28s clean before, and unchanged\n' "$target"
      return 0
    fi
  fi
  if "$build/bin/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2560 -malloc_limit_mb=2048 -max_len=131072 -print_final_stats=1 \
      ${FUZZ_SEED:+-seed="$FUZZ_SEED"} -artifact_prefix="$build/findings/$target-" "${options[@]}" "$corpus" "${seeds[@]}" >"$log/$target" 2>&1; then
    printf 'fuzz: %-28s clean, %s runs\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log/$target")"
    if [ -n "$state" ]; then echo "$state" >"$build/clean/$target"; fi
    return 0
  fi
  printf 'fuzz: %-28s FOUND SOMETHING\n' "$target" >&2
  grep -aE 'ERROR|SUMMARY|broken promise|libFuzzer|terminate|what\(\)|^ *#[0-9] ' "$log/$target" | grep -avE 'DEDUP|NEW|REDUCE' | head -30 >&2
  sed -n "s|.*Test unit written to \(.*\)|  reproduce: ASAN_OPTIONS=$ASAN_OPTIONS $build/bin/$target \1|p" "$log/$target" >&2
  return 1
}

failed=0
running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  run_one "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit "$failed"
