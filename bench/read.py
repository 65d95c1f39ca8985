#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long an ONNX file with large weights takes to be read, beside OpenVINO's own reader.

    bench/read.py [--layers 24] [--runs 7] [--output bench/results/cpu_read.json]

The model has LAYERS products with 2048x2048 in f32, 16 MiB each. Every run is a process of its own, in turns: one deploys it without caches and tells the
deployment's step `read` (in which the file is checked, read by OpenVINO in a process of its own first, and then in this one), the other calls
Core.read_model(), with memory mapping as is its default and without. Outputs are compared before: those of the deployment with those of OpenVINO's compiled
model. Exit status 1 if they differ by more than 1e-3.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE = 2048
LIMIT = 1e-3


def make(path: pathlib.Path, layers: int) -> int:
    """Writes the model. @returns its bytes"""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer in range(layers):
        weights.append(numpy_helper.from_array((random.standard_normal((SIZE, SIZE)) * 0.03).astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in ("x", last)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path.stat().st_size


def sample() -> Any:
    """An input."""
    import numpy as np

    return np.random.default_rng(1).standard_normal((1, SIZE)).astype(np.float32)


def one(who: str, path: str, compared: bool) -> dict[str, Any]:
    """What a process of its own does: milliseconds and, if they are to be compared, outputs."""
    if who == "ai_vmm":
        sys.path.insert(0, str(ROOT / "build" / "python"))
        import ai_vmm

        deployment = ai_vmm.VMM(use_cache=False).deploy(path, engines=["openvino"], devices=["cpu:0"], precision="f32", tune_ms=0)
        answer: dict[str, Any] = {"ms": dict(deployment.describe().deploy_steps_ms)["read"]}
        if compared:
            answer["output"] = next(iter(deployment.execute(sample()).values())).ravel().tolist()
        return answer
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": who == "openvino_mapped"})
    begin = time.perf_counter()
    model = core.read_model(path)
    answer = {"ms": (time.perf_counter() - begin) * 1e3}
    if compared:
        answer["output"] = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(sample())[0].ravel().tolist()
    return answer


def run(who: str, path: pathlib.Path, compared: bool = False) -> dict[str, Any]:
    """one() in a process. Raises with its message if it fails."""
    more = ["--compared"] if compared else []
    result = subprocess.run([sys.executable, __file__, "--one", who, "--model", str(path), *more], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{who}: {result.stderr.strip()[-600:]}")
    return json.loads(result.stdout)


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench" / "results" / "cpu_read.json")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="", help=argparse.SUPPRESS)
    parser.add_argument("--compared", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.model, options.compared)))
        return 0
    import numpy as np

    version = json.loads(subprocess.run([str(ROOT / "build" / "bin" / "vmm"), "version", "--json"], capture_output=True, text=True, check=True).stdout)
    who = ["ai_vmm", "openvino", "openvino_mapped"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "layers.onnx"
        size = make(path, options.layers)
        outputs = {name: np.array(run(name, path, True)["output"]) for name in who}
        error = float(np.linalg.norm(outputs["ai_vmm"] - outputs["openvino"]) / np.linalg.norm(outputs["openvino"]))
        times: dict[str, list[float]] = {name: [] for name in who}
        for _ in range(options.runs):
            for name in who:
                times[name].append(run(name, path)["ms"])
    ms = {name: {"median": statistics.median(values), "low": min(values), "high": max(values)} for name, values in times.items()}
    result = {
        "commit": version["commit"],
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "bytes": size,
        "relative_error": error,
        "agrees": error <= LIMIT,
        "ms": ms,
        "ratio": {name: ms[name]["median"] / ms["ai_vmm"]["median"] for name in who[1:]},
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, one_ms in ms.items():
        print(f"{name:16} {one_ms['median']:8.0f} ms ({one_ms['low']:.0f} to {one_ms['high']:.0f})")
    print(f"{size / 2**20:.0f} MiB, relative error {error:.1e}; " + ", ".join(f"{name} takes {ratio:.2f}x" for name, ratio in result["ratio"].items()))
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
