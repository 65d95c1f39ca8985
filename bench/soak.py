#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory over many deploy/undeploy cycles of a small model, and over traffic.

    bench/soak.py [--cycles 10000] [--minutes 60] [--engines onnxruntime,openvino] [--output bench/results/soak.json]

Each cycle deploys (from the cache), runs once and undeploys. The resident set is read every 100 cycles; growth is the difference between the medians of
the last and of the second tenth, so that what engines allocate once does not count. Exit status 1 above 8 MiB. A part (--engines, --minutes 0) is added
to what the file has from the same commit.
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build" / "python"))

import numpy as np  # noqa: E402

import ai_vmm  # noqa: E402

LIMIT_MIB = 8.0


def resident_mib() -> float:
    """Resident set of this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def growth(samples: list[float]) -> float:
    """Median of the last tenth less that of the second."""
    tenth = max(1, len(samples) // 10)
    return statistics.median(samples[-tenth:]) - statistics.median(samples[tenth : 2 * tenth])


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=10000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--engines", default="onnxruntime,openvino", help="whose cycles are run; empty: none")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench" / "results" / "soak.json")
    arguments = parser.parse_args()
    version = json.loads(subprocess.run([str(ROOT / "build" / "bin" / "vmm"), "version", "--json"], capture_output=True, text=True, check=True).stdout)
    result: dict[str, object] = {"commit": version["commit"], "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    if arguments.output.exists():
        old = json.loads(arguments.output.read_text())
        if old.get("commit") == result["commit"] and not version["commit"].endswith("-dirty"):
            result = old | result
    good = True
    with tempfile.TemporaryDirectory() as cache:
        vmm = ai_vmm.VMM(cache_dir=cache)
        for engine in filter(None, arguments.engines.split(",")):
            samples = []
            start = time.monotonic()
            for cycle in range(arguments.cycles):
                model = vmm.deploy(ROOT / "models" / "wine_mlp.onnx", constraints={"engines": [engine]})
                model(np.ones((1, model.inputs[0].shape[1]), np.float32))
                vmm.undeploy(model)
                del model
                if cycle % 100 == 99:
                    samples.append(resident_mib())
            grown = growth(samples)
            good &= grown <= LIMIT_MIB
            result[engine] = {"cycles": arguments.cycles, "seconds": time.monotonic() - start, "resident_mib": samples, "growth_mib": grown}
            print(f"{engine}: {arguments.cycles} cycles, {samples[0]:.1f} to {samples[-1]:.1f} MiB resident, growth {grown:.2f} MiB", flush=True)
        if arguments.minutes > 0:
            model = vmm.deploy(ROOT / "models" / "digits_cnn.onnx")
            samples = []
            end = time.monotonic() + 60 * arguments.minutes
            count = 0
            while time.monotonic() < end:
                for _ in range(2000):
                    model(np.ones((1 + count % 7, 1, 8, 8), np.float32))
                    count += 1
                samples.append(resident_mib())
            grown = growth(samples)
            good &= grown <= LIMIT_MIB
            result["traffic"] = {"executions": count, "resident_mib": samples[:: max(1, len(samples) // 100)], "growth_mib": grown}
            print(f"traffic: {count} executions, growth {grown:.2f} MiB", flush=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
