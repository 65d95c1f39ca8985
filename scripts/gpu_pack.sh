#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packs what a GPU machine without network or compiler needs to run scripts/gpu_check.sh: stripped programs, the backends, OpenVINO's libraries, every
# other library that they need, the ONNX node tests as files, the scripts and the lists of expectations. Nothing in it knows where it lies.
#   scripts/gpu_pack.sh FILE.tar.xz [BUILD_DIR]      then there:  tar -xf FILE.tar.xz && ai_vmm_gpu/scripts/gpu_check.sh
# The node tests come from BUILD_DIR/node_cases, which is written by the Python of AI_VMM_ENV (.venv) if it is not there.
# Fails if the file is larger than AI_VMM_PACK_LIMIT_MIB (45).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() { printf 'gpu-pack: error: %s\n' "$*" >&2; exit 1; }
[ $# -ge 1 ] || fail "usage: scripts/gpu_pack.sh FILE.tar.xz [BUILD_DIR]"
target=$(realpath -m "$1")
build=$(realpath "${2:-$root/build}")
limit_mib=${AI_VMM_PACK_LIMIT_MIB:-45}
for tool in patchelf strip xz ldd; do command -v "$tool" >/dev/null || fail "$tool is missing (packages patchelf, binutils, xz-utils)"; done
for file in bin/vmm bin/test_conformance bin/test_cuda bin/node_cases lib/backends/libai_vmm_backend_cuda.so lib/ai_vmm/ai_vmm_read_trial; do
  [ -f "$build/$file" ] || fail "$build/$file is not built"
done

if [ ! -f "$build/node_cases/cases.json" ]; then
  "${AI_VMM_ENV:-$root/.venv}/bin/python" "$root/tests/node/export_cases.py" "$build/node_cases" >&2 || fail "the ONNX node tests can't be exported"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/ai_vmm_gpu
mkdir -p "$out"/{bin,lib/backends,lib/ai_vmm,scripts,bench,tests/conformance/expected}

cp -L "$build"/bin/{vmm,test_conformance,test_cuda,node_cases} "$out/bin/"
[ -f "$build/bin/gpu_program" ] && cp -L "$build/bin/gpu_program" "$out/bin/"
cp -L "$build"/lib/backends/libai_vmm_backend_{cuda,openvino}.so "$out/lib/backends/"
cp -L "$build/lib/ai_vmm/ai_vmm_read_trial" "$out/lib/ai_vmm/"
# OpenVINO opens these by name, so that ldd doesn't tell.
openvino=$(ldd "$build/lib/backends/libai_vmm_backend_openvino.so" | awk '$1 ~ /^libopenvino\.so/ {print $3; exit}')
[ -f "$openvino" ] || fail "libopenvino is not found through the backend's search path"
version=${openvino##*.}
for name in "libopenvino.so.$version" "libopenvino_onnx_frontend.so.$version" "libopenvino_ir_frontend.so.$version" libopenvino_intel_cpu_plugin.so \
            libopenvino_intel_gpu_plugin.so cache.json; do  # the GPU plugin: OpenCL drivers of NVIDIA are a peer to compare with
  cp -L "$(dirname "$openvino")/$name" "$out/lib/"
done

# What all of these need, but the C and C++ libraries of the machine itself.
copy_needed() {
  ldd "$1" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | while read -r name path; do
    case $name in ld-linux* | libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libstdc++.so.* | libgcc_s.so.* | libcuda.so.*) continue ;; esac
    [ -e "$out/lib/$name" ] || cp -L "$path" "$out/lib/$name"
  done
}
for file in "$build"/bin/{vmm,test_conformance,test_cuda,node_cases} "$build"/lib/backends/libai_vmm_backend_{cuda,openvino}.so "$out"/lib/libopenvino*.so*; do copy_needed "$file"; done

chmod -R u+w "$out"
find "$out/bin" "$out/lib" -type f ! -name "*.json" | while read -r file; do
  strip --strip-unneeded "$file" 2>/dev/null || true
  case $file in
    */lib/backends/* | */lib/ai_vmm/*) rpath='$ORIGIN/..' ;;
    */bin/*) rpath='$ORIGIN/../lib' ;;
    *) rpath='$ORIGIN' ;;
  esac
  patchelf --set-rpath "$rpath" "$file"
done

cp "$root"/scripts/gpu_check.sh "$out/scripts/"
cp "$root"/bench/*.py "$out/bench/"
cp "$root"/tests/conformance/expected/*.txt "$out/tests/conformance/expected/"
cp -r "$build/node_cases" "$out/"
git -C "$root" rev-parse HEAD >"$out/commit" 2>/dev/null || true

env -i "$out/bin/vmm" --version >/dev/null || fail "the packed vmm doesn't start"
env -i "$out/bin/node_cases" "$out/node_cases" --filter test_abs --passed 1 >/dev/null || fail "the packed node_cases doesn't pass a test on the processor"
mkdir -p "$(dirname "$target")"
tar -C "$work" --owner=0 --group=0 --sort=name -cf - ai_vmm_gpu | xz -T0 -6 >"$target"
size=$(stat -c %s "$target")
printf 'gpu-pack: %s, %d.%d MiB (%s unpacked)\n' "$target" $((size >> 20)) $(((size >> 10) % 1024 * 10 / 1024)) "$(du -sh "$out" | cut -f1)" >&2
[ "$size" -le $((limit_mib << 20)) ] || fail "larger than $limit_mib MiB"
printf 'gpu-pack: unpack and run with: tar -xf %s && ai_vmm_gpu/scripts/gpu_check.sh\n' "$(basename "$target")" >&2
