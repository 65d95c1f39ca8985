#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the CUDA backend on a machine with an NVIDIA GPU. Runs in a source tree with a build, or where scripts/gpu_pack.sh was unpacked.
#   scripts/gpu_check.sh [--steps devices,parts,conformance,nodes,memcheck,racecheck,initcheck,f32,leaks,memory,deploy,shapes,packed,plans,bench] [--out DIR]
#                        [--device GPU.0] [--limit-s N] [--filter GTEST_FILTER] [--shards N] [--models A,B]
# Each step has a time limit (--limit-s, default 600) and writes DIR/STEP.log; DIR/gpu_check.json sums up: per step passed, failed, skipped or timed_out,
# seconds, and figures. What is there of the same commit from other steps stays. Steps run one by one, since processes take turns on a GPU; parts and the
# sanitizers' steps share their cases among --shards processes (default: a quarter of the cores, five at most). --filter narrows the suite for the
# sanitizers' steps, --models the benchmark, which takes ten minutes or more: what others of the same commit gave stays in DIR/gpu.json. On a machine with
# several GPUs, calls with a CUDA_VISIBLE_DEVICES of their own may share the steps and DIR. The exit status is 1 if a step failed.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
all_steps=devices,parts,conformance,nodes,memcheck,racecheck,initcheck,f32,leaks,memory,deploy,shapes,packed,plans,bench
steps=$all_steps
out=$root/bench/results device=GPU.0 limit_s=600 filter='*' models='' shards=$(($(nproc) / 4 < 5 ? $(nproc) / 4 : 5))
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { echo "gpu-check: $1 needs a value" >&2; exit 2; }
  case $1 in
    --steps) steps=$2 ;;
    --out) out=$2 ;;
    --device) device=$2 ;;
    --limit-s) limit_s=$2 ;;
    --filter) filter=$2 ;;
    --shards) shards=$2 ;;
    --models) models=$2 ;;
    *) echo "gpu-check: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
for one in ${steps//,/ }; do
  case ",$all_steps," in *",$one,"*) ;; *) echo "gpu-check: there is no step '$one': $all_steps" >&2; exit 2 ;; esac
done
if [ -d "$root/build/bin" ]; then build=$root/build; else build=$root; fi
backend=$build/lib/backends/libai_vmm_backend_cuda.so
mkdir -p "$out"
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT
export AI_VMM_CACHE_DIR=$cache PYTHONPATH=$build/python${PYTHONPATH:+:$PYTHONPATH}
suite=("$build/bin/test_conformance" --backend "$backend" --device "$device")
nodes_passed=1452  # as many ONNX node tests pass with the same kernels on the processor
results=$out/.gpu_check.$$
: >"$results"
[ "$shards" -ge 1 ] 2>/dev/null || shards=1

note() {  # step, status, seconds, reason
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$results"
  printf 'gpu-check: %-12s %-9s %5s s  %s\n' "$1" "$2" "$3" "$4"
}
wanted() { case ",$steps," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }
step() {  # name, command...
  local name=$1 start=$SECONDS status=0 reason lines=2
  shift
  [ "$1" = sharded ] && lines=$((3 * shards))
  if declare -F "$1" >/dev/null; then
    "$@" >"$out/$name.log" 2>&1 || status=$?  # has the limit in it
  else
    timeout --kill-after=20 "$limit_s" "$@" >"$out/$name.log" 2>&1 || status=$?
  fi
  reason=$(grep -E '^\[  (PASSED|FAILED|SKIPPED) {1,2}\] [0-9]|ERROR SUMMARY|RACECHECK SUMMARY|passed|failed|models agree|geometric mean' "$out/$name.log" |
    tail -n "$lines" | tr '\t\n' '  ')
  case $status in
    0) note "$name" passed $((SECONDS - start)) "$reason" ;;
    124 | 137) note "$name" timed_out $((SECONDS - start)) "after $limit_s s; $reason" ;;
    *) note "$name" failed $((SECONDS - start)) "status $status; $reason" ;;
  esac
}
skip() { note "$1" skipped 0 "$2"; }
with_program() {  # name, script, options...
  local name=$1 script=$2
  shift 2
  wanted "$name" || return 0
  if [ -x "$build/bin/gpu_program" ]; then
    step "$name" python3 "$root/bench/$script" --program "$build/bin/gpu_program" "$@"
  else
    skip "$name" "gpu_program is not built"
  fi
}

# Tests in several processes that share the cases.
sharded() {  # step, command...
  local name=$1 pids=() status=0 i
  shift
  for ((i = 0; i < shards; ++i)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$i timeout --kill-after=20 "$limit_s" "$@" >"$out/$name.$i.log" 2>&1 &
    pids+=($!)
  done
  for i in "${!pids[@]}"; do
    wait "${pids[$i]}" || status=$?
    cat "$out/$name.$i.log"
    grep -q '^\[  PASSED  \] 0 tests' "$out/$name.$i.log" && status=1  # all were skipped: nothing was checked
  done
  return "$status"
}

# The suite again and again in one process, with the device's memory looked at each second: more than 1,000 deployments.
leaks() {
  "${suite[@]}" --gtest_filter="$filter" --gtest_repeat=4 >"$out/leaks.suite.log" 2>&1 &
  pid=$!  # the trap reads it after this function has ended
  local samples=() used
  trap 'kill "$pid" 2>/dev/null' EXIT
  while kill -0 "$pid" 2>/dev/null; do
    used=$(nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader,nounits 2>/dev/null | awk -F', *' -v p="$pid" '$1 == p {print $2}')
    # Inside a container the process has another number: take the whole device then.
    [ -n "$used" ] || used=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i "${CUDA_VISIBLE_DEVICES:-${device#GPU.}}" | head -n 1)
    samples+=("$used")
    sleep 1
  done
  wait "$pid" || { echo "the suite failed"; tail -n 5 "$out/leaks.suite.log"; return 1; }
  printf '%s\n' "${samples[@]}" >"$out/leaks.samples_mib"
  grep -cE '^\[       OK \]' "$out/leaks.suite.log" | sed 's/$/ tests passed/'
  # The second quarter, after everything was loaded once, against the last.
  sort_median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
  local n=${#samples[@]} before after
  [ "$n" -ge 12 ] || { echo "only $n samples: too short a run to tell"; return 1; }
  before=$(printf '%s\n' "${samples[@]:n/4:n/4}" | sort_median)
  after=$(printf '%s\n' "${samples[@]:n*3/4}" | sort_median)
  echo "device memory in MiB: $before in the second quarter, $after in the last"
  [ "$after" -le $((before + 64)) ]
}
export -f leaks

nvidia-smi --query-gpu=name,uuid,driver_version,memory.total,memory.used --format=csv >"$out/gpu.csv" 2>&1 || true
wanted devices && step devices bash -c '"$0" doctor; "$0" doctor | grep -q "^ok *backend cuda"' "$build/bin/vmm"
wanted parts && step parts sharded parts "$build/bin/test_cuda" --gtest_filter="*OnDevice*"  # library calls and kernels that only a GPU can run
wanted conformance && step conformance "${suite[@]}"
if wanted nodes; then
  if [ -x "$build/bin/node_cases" ] && [ -f "$build/node_cases/cases.json" ]; then
    step nodes "$build/bin/node_cases" "$build/node_cases" --engines cuda --precision f32 --passed "$nodes_passed" --json "$out/nodes.json"
  elif python3 -c 'import ai_vmm, onnx' 2>"$out/nodes.log"; then
    step nodes python3 "$root/tests/node/run_node_tests.py" --engines cuda --passed "$nodes_passed" --json "$out/nodes.json"
  else
    skip nodes "needs bin/node_cases and node_cases/ (tests/node/export_cases.py) in $build, or Python with: $(tail -n 1 "$out/nodes.log" | tr '\t' ' ')"
  fi
fi
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
for tool in memcheck racecheck initcheck; do
  wanted "$tool" || continue
  if [ -z "$sanitizer" ]; then skip "$tool" "compute-sanitizer is not installed"; continue; fi
  options=(--tool "$tool" --error-exitcode 9 --print-limit 20)  # leaks: a step of their own, since a device is kept open to the end
  # A kernel is looked for in one part of a module after another: that the driver doesn't find it in the first is no error.
  [ "$tool" = memcheck ] && options+=(--report-api-errors no)
  # Libraries have kernels that copy in bulk or whose blocks work in clusters. The tools (2025.3) see neither their stores, so that initcheck reports every unit
  # of a result that is right, nor their barriers, so that racecheck reports a product of cuBLASLt and cuDNN's attention, whose results repeat bit for bit.
  # With racecheck kept to the other kernels by their names it ends in an internal error.
  blind=
  [ "$tool" = racecheck ] && blind=memory.results_repeat:matrix.attention_of_many_keys_*f16
  [ "$tool" = initcheck ] && blind=memory.results_repeat:matrix.matmul_f32_16x32_32x24_constant_in_*f16:matrix.attention_of_many_keys_*f16
  cases=$filter
  if [ -n "$blind" ]; then
    case $filter in *-*) cases+=:$blind ;; *) cases+=-$blind ;; esac
  fi
  step "$tool" sharded "$tool" "$sanitizer" "${options[@]}" "${suite[@]}" --gtest_filter="$cases"
done
with_program f32 gpu.py --alone --precisions f32 --repeats 5 --output "$out/gpu_f32.json"
if wanted leaks; then
  if command -v nvidia-smi >/dev/null; then
    start=$SECONDS
    (leaks) >"$out/leaks.log" 2>&1 &
    pid=$!
    (sleep "$limit_s"; kill "$pid" 2>/dev/null) >/dev/null 2>&1 &  # its sleep outlives it, and would hold a pipe open
    timer=$!
    if wait "$pid"; then status=passed; else status=failed; fi
    kill "$timer" 2>/dev/null
    [ $((SECONDS - start)) -ge "$limit_s" ] && status=timed_out
    note leaks "$status" $((SECONDS - start)) "$(tail -n 1 "$out/leaks.log")"
  else
    skip leaks "nvidia-smi is not installed"
  fi
fi
wanted deploy && step deploy python3 "$root/bench/gpu_deploy.py" --vmm "$build/bin/vmm" --output "$out/gpu_deploy.json"
with_program memory gpu_memory.py --vmm "$build/bin/vmm" --output "$out/gpu_memory.json"
with_program shapes gpu_shapes.py --output "$out/gpu_shapes.json"
with_program packed gpu_packed.py --output "$out/gpu_packed.json"
# OpenVINO's GPU plugin, the peer of this one, finds NVIDIA's OpenCL where it is registered.
wanted plans && step plans python3 "$root/bench/gpu_plans.py" --vmm "$build/bin/vmm" --output "$out/gpu_plans.json"
with_program bench gpu.py --compile --precisions f16 --filter "$models" --output "$out/gpu.json"

exec 9>"$out/.gpu_check.lock"
flock 9
python3 - "$results" "$out/gpu_check.json" "$out/gpu.csv" "$root" "$all_steps" <<'PYTHON'
import json, pathlib, subprocess, sys

rows = [line.split("\t") for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
order = sys.argv[5].split(",")
root = pathlib.Path(sys.argv[4])
commit = root / "commit"
text = commit.read_text() if commit.is_file() else subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
target = pathlib.Path(sys.argv[2])
steps = {row[0]: {"step": row[0], "status": row[1], "seconds": int(row[2]), "detail": row[3].strip()} for row in rows}
if target.is_file():
    before = json.loads(target.read_text())
    if before["commit"] == text.strip():
        steps = {step["step"]: step for step in before["steps"]} | steps
report = {"commit": text.strip(), "gpus": pathlib.Path(sys.argv[3]).read_text().splitlines(),
          "steps": sorted(steps.values(), key=lambda step: order.index(step["step"]))}
target.write_text(json.dumps(report, indent=2) + "\n")
PYTHON
failed=0
cut -f 2 "$results" | grep -qE '^(failed|timed_out)$' && failed=1
rm -f "$results"
echo "gpu-check: $out/gpu_check.json"
exit "$failed"
