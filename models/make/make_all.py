# SPDX-License-Identifier: Apache-2.0
"""Remakes everything in models/ from nothing: data, training, exports, manifest, check. Each step is its own process."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
STEPS = ("datasets", "train", "export_onnx", "export_openvino", "export_torch", "export_tensorflow", "export_paddle", "manifest", "check")

if __name__ == "__main__":
    for step in STEPS:
        print(f"== {step}", flush=True)
        subprocess.run([sys.executable, HERE / f"{step}.py"], check=True)
