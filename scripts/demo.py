#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `make demo` shows: the hardware, real answers of the bundled models with their accuracy, a plan with its reasons, and speed beside both engines
called natively. Needs no network and no PyTorch."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build" / "python"))

import numpy as np  # noqa: E402

import ai_vmm  # noqa: E402

VMM = str(ROOT / "build" / "bin" / "vmm")
SHOWN = ["digits_cnn.onnx", "digits_cnn.int8.onnx", "digits_cnn.f16.xml", "digits_cnn.tflite", "digits_cnn_savedmodel", "digits_cnn.pdmodel", "digits_vit.onnx",
         "digits_lstm.onnx", "breast_cancer_mlp.onnx", "diabetes_mlp.onnx", "recommender.onnx"]  # fmt: skip


def title(text: str) -> None:
    """A heading on the terminal."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def score(entry: dict[str, Any], model: Any) -> float:
    """The model's metric over its whole test set, through execute()."""
    data = np.load(ROOT / "models" / entry["data"]["path"])
    inputs = {item["name"]: data[item.get("array", item["name"])] for item in entry["inputs"]}
    shapes = {info.name: info.shape for info in model.inputs}
    rows = len(next(iter(inputs.values())))
    outputs = []
    for row in range(rows):
        feeds = {}
        for name, array in inputs.items():
            item = array[row : row + 1]
            shape = [size if size > 0 else got for size, got in zip(shapes[name], item.shape)]
            if len(shape) == 4 and item.shape[1:] != tuple(shape[1:]):
                item = item.transpose(0, 2, 3, 1)  # this file keeps its channels last
            feeds[name] = np.ascontiguousarray(item)
        outputs.append(next(iter(model.execute(feeds).values())))
    answers = np.concatenate([np.asarray(output).reshape(1, -1) for output in outputs])
    labels = data[entry["data"]["label"]].ravel()
    if entry["task"] == "regression":
        residual = ((answers.ravel() - labels) ** 2).sum()
        return float(1 - residual / ((labels - labels.mean()) ** 2).sum())
    return float((answers.argmax(-1) == labels).mean())


def show_models(vmm: Any, entries: dict[str, Any]) -> bool:
    """Deploys each model, computes its metric over the test set and compares it with what the manifest states."""
    print(f"  {'model':24s} {'format':22s} {'runs on':30s} {'median':>10s}   metric on the test set (stated)")
    good = True
    for name in SHOWN:
        entry = entries[name]
        model = vmm.deploy(ROOT / "models" / name)
        value = score(entry, model)
        stated = entry["metric"]["value"]
        close = abs(value - stated) <= 1.5 / entry["data"]["samples"]
        good &= close
        description = model.describe()
        where = f"{description.engine}, {description.precision}, {description.threads} thread{'s' if description.threads > 1 else ''}"
        print(f"  {name:24s} {entry['format']:22s} {where:30s} {1e3 * model.metrics().latency_p50_ms:7.1f} µs   {entry['metric']['name']} {value:.4f} ({stated:.4f})"
              f"{'' if close else '  DIFFERS'}", flush=True)  # fmt: skip
    return good


def show_speed(cache: str) -> None:
    """`vmm bench` of some models beside both engines."""
    print(f"  {'model':24s} {'AI VMM':>10s} {'OpenVINO':>14s} {'ONNX Runtime':>14s}   ratio to the better one")
    for name in ["digits_cnn.onnx", "digits_cnn.tflite", "digits_vit.onnx", "digits_lstm.onnx", "breast_cancer_mlp.onnx"]:
        result = subprocess.run([VMM, "bench", str(ROOT / "models" / name), "--against", "openvino,onnxruntime", "--seconds", "1", "--json", "--cache-dir", cache],
                                capture_output=True, text=True, check=False)  # fmt: skip
        answer = json.loads(result.stdout)
        if "error" in answer:
            print(f"  {name:24s} {answer['error']['message']}")
            continue
        run = answer["scenarios"][0]
        cells = {item["name"]: f"{1e3 * item['latency']['p50_ms']:.1f} µs" if item["status"] == "timed" else "can't read it" for item in run["contenders"]}
        ratio = min((item["value"] for item in run["ratios"]), default=1.0)
        print(f"  {name:24s} {cells['ai_vmm']:>10s} {cells['openvino']:>14s} {cells['onnxruntime']:>14s}   {ratio:.2f}x", flush=True)


def main() -> int:
    """Runs every part; exit status 1 if a stated accuracy was not met."""
    entries = {entry["path"]: entry for entry in json.loads((ROOT / "models" / "manifest.json").read_text())["models"]}
    with tempfile.TemporaryDirectory() as cache:
        title("1. What this machine has")
        subprocess.run([VMM, "devices"], check=True)
        title("2. One picture, answered")
        subprocess.run([VMM, "run", str(ROOT / "models" / "digits_cnn.onnx"), str(ROOT / "models" / "data" / "digit_7.png"), "--top", "3", "--cache-dir", cache], check=True)
        title("3. Bundled models in every format, on their whole test sets")
        good = show_models(ai_vmm.VMM(cache_dir=cache), entries)
        title("4. Why one of them runs where it runs")
        subprocess.run([VMM, "plan", str(ROOT / "models" / "digits_vit.onnx"), "--cache-dir", cache], check=True)
        title("5. Speed beside the engines called natively (f32, their latency settings; interleaved, outputs compared first)")
        show_speed(cache)
    print("\nMore: build/bin/vmm --help, README.md" if good else "\nA stated accuracy was not met.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
