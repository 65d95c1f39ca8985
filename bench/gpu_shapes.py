#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a shape that was not met before takes until its first outputs, on an NVIDIA GPU: a model with open shapes is given one after another, in one
process that starts with empty caches and in a second one that finds what the first left, and beside them torch.compile on the same GPU.

    bench/gpu_shapes.py [--program build/bin/gpu_program] [--models bert_base,unet] [--precision f16] [--alone] [--output bench/results/gpu_shapes.json]

Models are those of bench/gpu.py, exported to ONNX with open shapes. Every output is compared with PyTorch's in f32 on the CPU (relative error at most 1e-4 in
f32, 1e-2 in f16). torch.compile, in f16, is given dynamic=True and CUDA graphs, and gets a process and a cache of its own; its outputs are compared too. --alone leaves it out. The exit status is 1 if a shape failed or does not
agree. Needs torch, transformers, onnx.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

from gpu import LIMITS, about, build_models, make_fastest, relative_error

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What the model of bench/gpu.py is given, which dimensions of its input are open, and the shapes that come, in their order.
SERIES: dict[str, tuple[str, dict[int, str], list[tuple[int, ...]]]] = {
    "bert_base": ("bert_base_b1", {0: "batch", 1: "length"}, [(1, 128), (1, 100), (1, 64), (1, 37), (1, 200), (1, 256), (8, 128), (8, 96), (1, 101)]),
    "unet": ("unet_b4", {0: "batch", 2: "height", 3: "width"}, [(4, 3, 256, 256), (1, 3, 256, 256), (1, 3, 320, 240), (1, 3, 512, 512), (2, 3, 320, 240)]),
}


def made(name: str) -> Any:
    """The module in f32 on the CPU."""
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator can't be exported
    return build_models()[SERIES[name][0]]()


def inputs_of(name: str, shape: tuple[int, ...]) -> Any:
    import torch

    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(0, 30522, shape, generator=generator) if name == "bert_base" else torch.randn(shape, generator=generator)


def title(index: int, shape: tuple[int, ...]) -> str:
    """Of a shape's folder: their order is that of the calls."""
    return f"{index:02d}_" + "x".join(map(str, shape))


def export(name: str, path: pathlib.Path) -> Any:
    """Writes the model with open shapes; its input is called "input". @returns the module"""
    import torch

    module, example, _ = made(name)
    module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, example, str(path), dynamo=False, opset_version=17, input_names=["input"], dynamic_axes={"input": SERIES[name][1]})
    return module


def prepare(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes the model, and for each shape the inputs and the expected outputs, as gpu_program reads them."""
    import torch

    path = folder / "model.onnx"
    module = export(name, path)
    with torch.no_grad():
        for index, shape in enumerate(SERIES[name][2]):
            at = folder / "in" / title(index, shape)
            at.mkdir(parents=True)
            value = inputs_of(name, shape)
            (at / "shapes.txt").write_text(" ".join(map(str, shape)) + "\n")
            value.numpy().tofile(at / "in0.bin")
            module(value).numpy().tofile(at / "expected.bin")
    return path


def series(options: argparse.Namespace, model: pathlib.Path, cache: pathlib.Path, name: str) -> list[dict[str, Any]]:
    """All shapes in one process. Raises with its message if it fails."""
    import numpy as np

    folder = model.parent
    environment = os.environ | {"AI_VMM_CACHE_DIR": str(cache / "ai_vmm"), "CUDA_CACHE_PATH": str(cache / "cuda"), "XDG_CACHE_HOME": str(cache / "xdg")}
    result = subprocess.run([options.program, str(model), "--series", "--precision", options.precision, "--inputs", str(folder / "in"), "--outputs",
                             str(cache / "out")], capture_output=True, text=True, check=False, env=environment)  # fmt: skip
    if options.log:
        pathlib.Path(options.log).open("a").write(result.stderr)
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip()[-500:] or f"exit {result.returncode}")
    rows = json.loads(result.stdout)
    for row, (index, shape) in zip(rows, enumerate(SERIES[name][2]), strict=True):
        actual = np.fromfile(cache / "out" / title(index, shape) / "out0.bin", dtype=np.float32)
        row["relative_error"] = relative_error(actual, np.fromfile(folder / "in" / title(index, shape) / "expected.bin", dtype=np.float32))
        row["agrees"] = row["relative_error"] <= LIMITS[options.precision]
    return rows


def peer(name: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    """torch.compile on the same shapes, in f16: for the process that the child runs. @param folder  of what prepare() wrote"""
    import numpy as np
    import torch

    module, _, channels_last = made(name)
    make_fastest(module)
    module = module.eval().half().cuda()
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    compiled = torch.compile(module, dynamic=True, mode="reduce-overhead")
    rows = []
    for index, shape in enumerate(SERIES[name][2]):
        value = inputs_of(name, shape).cuda()
        value = value.half() if value.is_floating_point() else value
        if channels_last:
            value = value.contiguous(memory_format=torch.channels_last)
        begin = time.perf_counter()
        with torch.no_grad():
            actual = compiled(value).float().cpu()
        first = (time.perf_counter() - begin) * 1e3
        error = relative_error(actual.numpy().ravel(), np.fromfile(folder / "in" / title(index, shape) / "expected.bin", dtype=np.float32))
        times = []
        for _ in range(30):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            with torch.no_grad():
                compiled(value)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        rows.append({"shapes": "x".join(map(str, shape)), "until_outputs_ms": first, "call_ms": statistics.median(times[10:]), "relative_error": error,
                     "agrees": error <= LIMITS["f16"]})  # fmt: skip
    return rows


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build" / "bin" / "gpu_program"))
    parser.add_argument("--models", default=",".join(SERIES))
    parser.add_argument("--precision", default="f16", choices=sorted(LIMITS))
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--log", default="", help="file for what the programs write to standard error")
    parser.add_argument("--peer", nargs=2, default=None, help=argparse.SUPPRESS)  # name, folder
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(peer(options.peer[0], pathlib.Path(options.peer[1]))))
        return 0

    report: dict[str, Any] = about() | {"precision": options.precision, "models": []}
    failed = False
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder_name:
            folder = pathlib.Path(folder_name)
            model = prepare(name, folder)
            row: dict[str, Any] = {"model": name}
            for process in ("first_process", "second_process"):
                row[process] = series(options, model, folder / "cache", name)
                failed = failed or not all(one["agrees"] for one in row[process])
            if not options.alone:
                environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}
                result = subprocess.run([sys.executable, __file__, "--peer", name, str(folder)], capture_output=True, text=True, check=False, env=environment)
                if result.returncode == 0:
                    row["torch_compile"] = json.loads(result.stdout.splitlines()[-1])
                    failed = failed or not all(one["agrees"] for one in row["torch_compile"])
                else:
                    row["torch_compile_error"] = result.stderr.strip()[-500:]
            report["models"].append(row)
            for index, one in enumerate(row["first_process"]):
                again = row["second_process"][index]
                beside = row["torch_compile"][index] if "torch_compile" in row else None
                print(f"{name:10} {one['shapes']:18} first outputs after {one['until_outputs_ms']:6.0f} ms ({one['compiled']} of {one['distinct_kernels']} kernels compiled), "
                      f"{again['until_outputs_ms']:6.0f} ms in a second process ({again['compiled']})"
                      + (f"; torch.compile {beside['until_outputs_ms']:6.0f} ms{'' if beside['agrees'] else ' DIFFERS'}" if beside else "")
                      + ("" if one["agrees"] and again["agrees"] else "  DIFFERS"), flush=True)  # fmt: skip
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
