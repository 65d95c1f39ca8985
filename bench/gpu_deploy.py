#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long the first and the second deployment of a model take on an NVIDIA GPU, each in a process of its own: the first with empty caches (AI VMM's and the
driver's), the second with what the first one left.

    bench/gpu_deploy.py [--vmm build/bin/vmm] [--models resnet50_b1,bert_base_b1,bert_base_open] [--runs N] [--output bench/results/gpu_deploy.json]

Models are those of bench/gpu.py, exported to ONNX here, and bert_base_open with its batch and length open, deployed for one of 128 tokens. The deployment is `vmm run --engine cuda` on generated inputs with the default constraints, so its time
includes reading the file, the reference, building every candidate and measuring them; that of the process also loading of libraries and the GPU's context.
Every run's outputs are compared with the first one's. Medians and spread over --runs. Needs torch, torchvision, transformers, onnx.
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

import gpu_shapes
from gpu import about, build_models

ROOT = pathlib.Path(__file__).resolve().parent.parent


def export(name: str, path: pathlib.Path) -> list[str]:
    """Writes the model as one ONNX file. @returns what `vmm run` must be told besides"""
    import torch

    if name == "bert_base_open":
        gpu_shapes.export("bert_base", path)
        return ["--shape", "input=1x128"]
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator can't be exported
    module, inputs, _ = build_models()[name]()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, str(path), dynamo=False, opset_version=17)
    return []


def deploy(vmm: str, model: pathlib.Path, more: list[str], cache: pathlib.Path) -> dict[str, Any]:
    """One process. Raises with its message if it fails."""
    environment = os.environ | {"AI_VMM_CACHE_DIR": str(cache / "ai_vmm"), "CUDA_CACHE_PATH": str(cache / "cuda"), "XDG_CACHE_HOME": str(cache / "xdg")}
    begin = time.perf_counter()
    result = subprocess.run([vmm, "run", str(model), "--random", "--engine", "cuda", "--json", *more], capture_output=True, text=True, check=False, env=environment)
    took = (time.perf_counter() - begin) * 1e3
    answer = json.loads(result.stdout)
    if result.returncode != 0:
        raise RuntimeError(json.dumps(answer)[:600])
    deployment = answer["deployment"]
    values = [output["values"] for output in answer["outputs"]]
    return {"process_ms": took, "deploy_ms": deployment["deploy_ms"], "steps_ms": deployment["deploy_steps_ms"], "from_cache": deployment["from_cache"],
            "precision": deployment["precision"], "engine": deployment["engine"], "values": values}  # fmt: skip


def alike(a: Any, b: Any) -> bool:
    """Whether two runs printed the same values, but for the last digits of f16."""
    pairs = [(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True)]
    scale = max(abs(x) for x, _ in pairs) or 1.0
    return all(abs(x - y) <= 2e-2 * scale for x, y in pairs)


def spread(rows: list[dict[str, Any]], key: str) -> dict[str, float]:
    values = [row[key] for row in rows]
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmm", default=str(ROOT / "build" / "bin" / "vmm"))
    parser.add_argument("--models", default="resnet50_b1,bert_base_b1,bert_base_open")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", default="")
    options = parser.parse_args()

    report: dict[str, Any] = about() | {"models": []}
    failed = False
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder_name:
            folder = pathlib.Path(folder_name)
            model = folder / f"{name}.onnx"
            more = export(name, model)
            first, second = [], []
            for run in range(options.runs):
                cache = folder / f"cache{run}"
                first.append(deploy(options.vmm, model, more, cache))
                second.append(deploy(options.vmm, model, more, cache))
            same = all(alike(first[0]["values"], row["values"]) for row in first + second)
            row: dict[str, Any] = {"model": name, "bytes": model.stat().st_size, "engine": first[0]["engine"], "outputs_agree": same}
            for title, rows in (("first", first), ("second", second)):
                row[title] = {key: spread(rows, key) for key in ("process_ms", "deploy_ms")}
                row[title] |= {"precision": rows[-1]["precision"], "from_cache": all(one["from_cache"] for one in rows), "steps_ms": rows[-1]["steps_ms"]}
            report["models"].append(row)
            failed = failed or not same
            print(f"{name:16} first {row['first']['deploy_ms']['median']:.0f} ms (process {row['first']['process_ms']['median']:.0f}), "
                  f"second {row['second']['deploy_ms']['median']:.0f} ms (process {row['second']['process_ms']['median']:.0f}), "
                  f"from cache: {row['second']['from_cache']}, {row['second']['precision']}, outputs {'agree' if same else 'DIFFER'}")  # fmt: skip
            print("   first:  " + ", ".join(f"{key} {value:.0f}" for key, value in row["first"]["steps_ms"].items()))
            print("   second: " + ", ".join(f"{key} {value:.0f}" for key, value in row["second"]["steps_ms"].items()))
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
