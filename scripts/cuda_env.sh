#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the folder that the CUDA backend is built with: headers of the wheels pinned in requirements/cuda.txt in .venv-cuda/include, and NVRTC, with which
# the tests compile kernels on machines without a GPU, in .venv-cuda/lib. AI_VMM_CUDA_ENV names another folder. Does nothing where that is done already.
# The wheels (1 GB) are fetched one by one into a temporary folder; about 150 MB stay.
# --optional: a machine that can't reach the package index is told what will be missing, and the exit status is 0.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env_dir=${AI_VMM_CUDA_ENV:-$root/.venv-cuda}
requirements=$root/requirements/cuda.txt
optional=0
[ "${1:-}" = --optional ] && optional=1
say() { printf 'cuda-env: %s\n' "$*" >&2; }
fail() {
  if [ "$optional" = 1 ]; then say "$*; the CUDA backend is not built or tested here"; exit 0; fi
  printf 'cuda-env: error: %s\n' "$*" >&2
  exit 1
}

stamp=$env_dir/.ai_vmm_cuda
want=$(cat "$requirements" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
  say "up to date: $env_dir"
  exit 0
fi
[ "$(uname -sm)" = "Linux x86_64" ] || fail "the pinned wheels are for Linux on x86-64; this is $(uname -sm)"

base=${AI_VMM_ENV:-$root/.venv}
python=${PYTHON:-$([ -x "$base/bin/python" ] && echo "$base/bin/python" || echo python3)}
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip; run make setup first, or name a Python with pip in PYTHON"
mkdir -p "$(dirname "$env_dir")"
free_kb=$(df -Pk "$(dirname "$env_dir")" | awk 'NR==2{print $4}')
[ "$free_kb" -ge 2500000 ] || fail "only $((free_kb / 1024)) MB are free in $(dirname "$env_dir"); 2.5 GB are needed while unpacking"
say "fetching CUDA headers and NVRTC into $env_dir: downloads about 1 GB, keeps 150 MB"

work=$(mktemp -d "$(dirname "$env_dir")/.cuda-env.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/env/include" "$work/env/lib"
grep -vE '^[[:space:]]*(#|$)' "$requirements" | while read -r requirement; do
  rm -rf "$work/wheel"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: -d "$work/wheel" "$requirement" 2>"$work/log" || {
    tail -n 2 "$work/log" >&2
    exit 1
  }
  # Wheels put headers into nvidia/cu13/include, nvidia/cudnn/include or include.
  "$python" - "$work/wheel" "$work/env" <<'PYTHON'
import pathlib, sys, zipfile

wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
target = pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        parts = pathlib.PurePosixPath(entry.filename).parts
        if entry.is_dir() or ".." in parts or "cccl" in parts:  # of CCCL, only nv/target, which lies beside
            continue
        if "include" in parts:
            to = target / "include" / pathlib.Path(*parts[parts.index("include") + 1:])
        elif parts[-1].startswith("libnvrtc") and ".alt." not in parts[-1] and ".so" in parts[-1]:
            to = target / "lib" / parts[-1]
        else:
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(archive.read(entry))
PYTHON
done || fail "pip could not fetch what requirements/cuda.txt pins"
for header in cuda.h nv/target nvml.h nvrtc.h cublasLt.h cudnn.h cudnn_frontend.h crt/host_defines.h; do
  [ -f "$work/env/include/$header" ] || fail "the pinned wheels hold no $header"
done
echo "$want" >"$work/env/.ai_vmm_cuda"
rm -rf "$env_dir"
mv "$work/env" "$env_dir"
say "done: $(du -sh "$env_dir" | cut -f1) in $env_dir"
