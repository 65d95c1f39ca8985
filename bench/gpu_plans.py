#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the planner chooses on a machine with an NVIDIA GPU, and how the GPU's engines compare: the project's own `cuda` and OpenVINO's GPU plugin, which reaches
NVIDIA GPUs through OpenCL.

    bench/gpu_plans.py [--vmm build/bin/vmm] [--models resnet50_b1,bert_base_b1] [--tune 40s] [--output bench/results/gpu_plans.json]

Models are those of bench/gpu.py, exported to ONNX here. `vmm plan` without a cache compares every candidate with the f32 reference and measures those that agree
in turn; times include the copies from and to the host. Once with the default tuning time, for the choice, and once with --tune, which is enough for all of them.
Fails if the choice is no GPU's. Needs torch, torchvision, transformers, onnx.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from gpu import about

ROOT = pathlib.Path(__file__).resolve().parent.parent


def plan(vmm: str, model: pathlib.Path, *options: str) -> dict[str, Any]:
    """The answer of `vmm plan`. Raises with its message if it fails."""
    result = subprocess.run([vmm, "plan", str(model), "--no-cache", "--json", *options], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError((result.stdout or result.stderr)[:600])
    return json.loads(result.stdout)


def summary(name: str, quick: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The choices, what was measured, and OpenVINO's time on the GPU over that of the project's own backend."""
    row: dict[str, Any] = {"model": name, "reference": whole["plan"]["reference"], "chosen_by_default": quick["plan"]["plan"]["chosen"]["id"],
                           "chosen": whole["plan"]["plan"]["chosen"]["id"], "latency_ms": {}}  # fmt: skip
    best: dict[str, float] = {}
    for verdict in whole["plan"]["plan"]["verdicts"]:
        key, outcome = verdict["candidate"]["key"], verdict["outcome"]
        if not outcome or outcome["latency_ms"] is None or not outcome["agrees"]:
            continue
        row["latency_ms"][key["id"]] = outcome["latency_ms"]
        if key["device"].startswith("gpu"):
            best[key["engine"]] = min(best.get(key["engine"], 1e300), outcome["latency_ms"])
    if {"cuda", "openvino"} <= best.keys():
        row["cuda_over_openvino_gpu"] = best["openvino"] / best["cuda"]
    return row


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmm", default=str(ROOT / "build" / "bin" / "vmm"))
    parser.add_argument("--models", default="resnet50_b1,bert_base_b1")
    parser.add_argument("--tune", default="40s")
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    from gpu_deploy import export

    report: dict[str, Any] = about() | {"models": []}
    failed = False
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / f"{name}.onnx"
            export(name, model)
            row = summary(name, plan(options.vmm, model), plan(options.vmm, model, "--tune", options.tune))
        report["models"].append(row)
        failed = failed or "/gpu:" not in row["chosen_by_default"]
        print(f"{name:16} {row['chosen_by_default']}, OpenVINO's GPU plugin {row.get('cuda_over_openvino_gpu', float('nan')):.1f}x slower than cuda")
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
