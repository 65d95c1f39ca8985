#!/usr/bin/env bash
# Sets up what the build needs; does nothing that is done already and needs no network then.
#   - packages of the distribution (Debian 12 or later, Ubuntu 24.04 or later), where apt-get may be used
#   - pinned wheels in a local Python environment (.venv, or $AI_VMM_ENV)
#   - ONNX Runtime's C headers, which its wheel lacks, from the distribution or from Debian 13's package
# What can't be installed is named, with what to do.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env_dir=${AI_VMM_ENV:-$root/.venv}
say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

packages=(g++ make cmake ninja-build pkgconf ccache mold git ca-certificates
          python3 python3-dev python3-venv
          libcli11-dev nlohmann-json3-dev libfmt-dev libprotozero-dev libflatbuffers-dev libssl-dev libzip-dev
          libstb-dev libsndfile1-dev libgtest-dev libgmock-dev librapidcheck-dev tcc
          clang clang-format clang-tidy libclang-rt-dev gcovr)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

install_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian or Ubuntu machine; make sure these are there: ${packages[*]}"; return; }
  local missing=()
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | awk '$1=="ii"{print $2}')
  for package in "${packages[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
  done
  # libclang-rt-dev is a virtual name on some releases; the versioned package will do.
  if [ "${#missing[@]}" = 1 ] && [ "${missing[0]}" = libclang-rt-dev ] && grep -qE '^libclang-rt-[0-9]+-dev$' <<<"$installed"; then missing=(); fi
  [ "${#missing[@]}" = 0 ] && return
  say "installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! as_root true; then
    say "packages are missing and this user can't install them. Ask for: apt-get install ${missing[*]}"
    return
  fi
  as_root apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed; trying with the lists there are"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "apt-get install failed: ${missing[*]}"
}

install_wheels() {
  local stamp=$env_dir/.ai_vmm_base want
  want=$(sha256sum "$root/requirements/base.txt" | cut -d' ' -f1)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x "$env_dir/bin/python" ] && return
  say "installing pinned wheels into $env_dir (about 150 MB of downloads)"
  local python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or later is needed; $python is older"
  [ -x "$env_dir/bin/python" ] || "$python" -m venv "$env_dir" || fail "can't make a Python environment in $env_dir"
  "$env_dir/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/requirements/base.txt" || fail "pip could not install requirements/base.txt"
  echo "$want" >"$stamp"
}

# ONNX Runtime's C API only grows: headers of an older release work with a newer library.
install_onnxruntime_headers() {
  local target=$env_dir/onnxruntime/include
  [ -f "$target/onnxruntime_c_api.h" ] && return
  say "fetching ONNX Runtime's C headers"
  local work deb
  work=$(mktemp -d)
  chmod 755 "$work"
  (
    cd "$work"
    apt-get download -qq libonnxruntime-dev >/dev/null 2>&1 && ls libonnxruntime-dev*.deb >/dev/null 2>&1 && exit 0
    # Not in this release: take it from the Debian 13 suite of the mirror that this machine's own configuration names.
    mirror=${AI_VMM_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 2>/dev/null | sed -E 's#/ubuntu/?$#/debian#' | grep -E '/debian/?$' | sort | uniq -c | sort -rn | awk 'NR==1{print $2}')}
    [ -n "$mirror" ] || exit 1
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$keyring" ] || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debian-archive-keyring >/dev/null 2>&1 || exit 1
    mkdir -p lists/partial
    echo "deb [signed-by=$keyring] $mirror trixie main" >sources.list
    options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists")
    apt-get "${options[@]}" update -qq >/dev/null 2>&1
    apt-get "${options[@]}" download -qq libonnxruntime-dev >/dev/null 2>&1
  ) || true
  deb=$(ls "$work"/libonnxruntime-dev*.deb 2>/dev/null | head -n 1)
  if [ -z "$deb" ]; then
    rm -rf "$work"
    fail "ONNX Runtime's headers could not be had (package libonnxruntime-dev). Set AI_VMM_DEBIAN_MIRROR to a Debian mirror, or put onnxruntime_c_api.h into $target"
  fi
  dpkg-deb -x "$deb" "$work/unpacked"
  mkdir -p "$target"
  cp -r "$work/unpacked/usr/include/onnxruntime/." "$target/"
  rm -rf "$work"
}

install_packages
install_wheels
install_onnxruntime_headers
