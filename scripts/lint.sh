#!/usr/bin/env bash
# Layering, formatting, machine paths and, for files changed since AI_VMM_LINT_BASE (default: none), clang-tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${AI_VMM_ENV:-$PWD/.venv}
"$venv/bin/python" scripts/check_layers.py
if command -v clang-format >/dev/null; then
  # Releases of clang-format differ in details: the check is made with the one the style was written for.
  version=$(clang-format --version | grep -oE '[0-9]+' | head -n 1)
  if [ "$version" = 14 ]; then
    git ls-files '*.cpp' '*.hpp' | xargs clang-format --dry-run --Werror
    echo "format: ok"
  else
    echo "format: not checked, clang-format $version is not 14"
  fi
fi
if [ -n "${AI_VMM_LINT_BASE:-}" ]; then
  git diff --name-only --diff-filter=AM "$AI_VMM_LINT_BASE" -- 'src/*.cpp' 'backends/*.cpp' 'apps/*.cpp' | xargs -r -n 4 -P "$(nproc)" clang-tidy -p build --quiet
fi
