#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The planner's cost constants of each engine (costs_of() in src/vmm/deployer.cpp), fitted to measurements of this machine.

    bench/costs.py [--output bench/results/costs.json]

Takes the measured latencies of the f32 candidates with one thread from `vmm plan` on the models that bench/models.py lists, and looks for the overhead
of a call and of a node and the share of the peak rate that predict() (src/planning/predict.cpp) needs to come closest: least mean error of the
logarithm. Prints them beside the constants in use, with the median factor by which each set is off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import models  # noqa: E402

VMM = models.ROOT / "build" / "bin" / "vmm"
IN_USE = {"onnxruntime": (5.0, 0.4, 0.45), "openvino": (10.0, 1.0, 0.5)}  # call in us, node in us, efficiency
CALL_US = [1, 2, 3, 5, 8, 10, 15, 20, 30]
NODE_US = [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0]
EFFICIENCY = [0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.5, 0.6, 0.8]
CACHE_BYTES, CACHE_SPEEDUP, ONE_THREAD_BANDWIDTH = 4 << 20, 4.0, 0.6  # as in predict.cpp


class Sample(NamedTuple):
    """One measured candidate."""

    model: str
    engine: str
    measured_us: float
    nodes: int
    flops: float
    moved: float
    working_set: float


class Host(NamedTuple):
    """What the processor reaches."""

    f32_gflops: float
    bandwidth_gb_s: float
    cores: int


def vmm_json(*arguments: str) -> dict[str, Any]:
    """Runs `vmm … --json`."""
    return json.loads(subprocess.run([str(VMM), *arguments, "--json"], capture_output=True, text=True, check=False).stdout or "{}")


def predicted_us(sample: Sample, host: Host, call_us: float, node_us: float, efficiency: float) -> float:
    """predict() for one thread and one stream."""
    compute = sample.flops / (host.f32_gflops / host.cores * efficiency * 1e3)
    bandwidth = host.bandwidth_gb_s * 1e3 * (ONE_THREAD_BANDWIDTH if host.cores > 1 else 1.0)
    if sample.working_set < CACHE_BYTES:
        bandwidth *= CACHE_SPEEDUP
    return max(compute, sample.moved / bandwidth) + call_us + sample.nodes * node_us


def samples_of(path: pathlib.Path) -> list[Sample]:
    """Measured candidates of a model with one thread, one stream, f32 and no batch."""
    shapes = models.shape_options(path)
    profile = vmm_json("inspect", str(path))
    with tempfile.TemporaryDirectory() as cache:
        plan = vmm_json("plan", str(path), "--threads", "1", *shapes, "--cache-dir", cache)
    if "flops" not in profile or not profile["flops"]:
        return []
    found = []
    for verdict in plan.get("plan", {}).get("verdicts", []):
        key, outcome = verdict["candidate"]["key"], verdict["outcome"]
        plain = key["precision"] == "f32" and key["threads"] == 1 and key["streams"] == 1 and key["batch"] == 1
        if not plain or not outcome or not outcome["latency_ms"] or key["engine"] not in IN_USE:
            continue
        found.append(Sample(models.label(path), key["engine"], 1e3 * outcome["latency_ms"], profile["node_count"], profile["flops"], profile["bytes_moved"],
                            profile["parameter_bytes"] + profile["activation_bytes"]))  # fmt: skip
    return found


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=models.ROOT / "bench" / "results" / "costs.json")
    parser.add_argument("--filter", default="", help="models whose name has this")
    arguments = parser.parse_args()
    device = next(device for device in vmm_json("devices")["devices"] if device["kind"] == "CPU")
    host = Host(device["scores"]["f32_gflops"], device["scores"]["memory_bandwidth_gb_s"], device["compute_units"])
    samples: list[Sample] = []
    for path in models.bundled() + models.real():
        if arguments.filter in models.label(path):
            samples += samples_of(path)
    result: dict[str, Any] = {"commit": vmm_json("version")["commit"], "host": host._asdict(), "engines": {}}
    for engine, in_use in IN_USE.items():
        own = [sample for sample in samples if sample.engine == engine]
        if not own:
            continue

        def errors(constants: tuple[float, ...], own: list[Sample] = own) -> list[float]:
            return [abs(math.log(predicted_us(sample, host, *constants) / sample.measured_us)) for sample in own]

        best = min(itertools.product(CALL_US, NODE_US, EFFICIENCY), key=lambda constants: statistics.fmean(errors(constants)))
        result["engines"][engine] = {
            name: {"call_us": constants[0], "node_us": constants[1], "efficiency": constants[2],
                   "median_factor_off": math.exp(statistics.median(errors(constants)))}
            for name, constants in (("in_use", in_use), ("fitted", best))
        } | {"samples": [sample._asdict() for sample in own]}  # fmt: skip
        print(f"{engine}: {len(own)} models")
        for name in ("in_use", "fitted"):
            row = result["engines"][engine][name]
            print(f"  {name:7s} call {row['call_us']:5.1f} us  node {row['node_us']:4.2f} us  efficiency {row['efficiency']:4.2f}  off by a factor of {row['median_factor_off']:.2f} (median)")
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
