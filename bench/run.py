#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures that the documents give, measured again: latency and throughput beside both native engines, added latency, the second deployment, and the
commands' start-up. Each comparison runs in one process, interleaved, after the outputs were compared (`vmm bench --against`).

    bench/run.py [--only latency,throughput,added,second,commands] [--seconds S] [--filter TEXT] [--output bench/results/cpu.json]

Writes one JSON file with the commit, the machine, the engines and every ratio; prints a table. Ratios above 1 favour AI VMM.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import models  # noqa: E402

ROOT = models.ROOT
VMM = ROOT / "build" / "bin" / "vmm"


def vmm_json(*arguments: str, cache: str) -> dict[str, Any]:
    """Runs `vmm … --json` and gives its object, errors included."""
    result = subprocess.run([str(VMM), *arguments, "--json", "--cache-dir", cache], capture_output=True, text=True, check=False)
    try:
        return json.loads(result.stdout)
    except json.JSONDecodeError:
        return {"error": {"message": f"exit {result.returncode}: {result.stderr[-300:]}"}}


def compare(path: pathlib.Path, scenario: str, seconds: float, cache: str) -> dict[str, Any]:
    """One model beside both native engines: the ratio to the better one, with its spread."""
    goal = "throughput" if scenario == "offline" else "latency"
    answer = vmm_json("bench", str(path), "--scenario", scenario, "--goal", goal, "--seconds", str(seconds), "--against", "openvino,onnxruntime",
                      *models.shape_options(path), cache=cache)  # fmt: skip
    if "error" in answer:
        return {"model": models.label(path), "error": answer["error"]["message"]}
    run = answer["scenarios"][0]
    own = run["contenders"][0]
    row: dict[str, Any] = {"model": models.label(path), "candidate": own["settings"], "engine": own["version"], "p50_ms": own["latency"]["p50_ms"],
                           "throughput_per_s": own["throughput_per_s"], "peers": {}}  # fmt: skip
    for peer in run["contenders"][1:]:
        entry = {"status": peer["status"]}
        if peer["status"] == "timed":
            entry |= {"p50_ms": peer["latency"]["p50_ms"], "throughput_per_s": peer["throughput_per_s"], "verification": peer["verification"]}
        row["peers"][peer["name"]] = entry
    for ratio in run["ratios"]:
        row["peers"][ratio["over"]]["ratio"] = {key: ratio[key] for key in ("value", "low", "high")}
    timed = [peer["ratio"] for peer in row["peers"].values() if "ratio" in peer]
    if timed:
        row["ratio"] = min(timed, key=lambda ratio: ratio["value"])  # to the better peer
    return row


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers; 1 for none."""
    return math.exp(statistics.fmean(math.log(value) for value in values)) if values else 1.0


def section_compare(name: str, scenario: str, paths: list[pathlib.Path], seconds: float) -> dict[str, Any]:
    """Latency or throughput over all models."""
    rows = []
    for path in paths:
        with tempfile.TemporaryDirectory() as cache:
            rows.append(compare(path, scenario, seconds, cache))
        row = rows[-1]
        if "ratio" in row:
            peers = "  ".join(f"{peer} {entry['ratio']['value']:.2f}x" if "ratio" in entry else f"{peer} {entry['status']}" for peer, entry in row["peers"].items())
            print(f"  {row['model']:42s} {row['ratio']['value']:6.2f}x ({row['ratio']['low']:.2f} to {row['ratio']['high']:.2f})  {row['engine']:20s} {peers}", flush=True)
        else:
            print(f"  {row['model']:42s} {row.get('error', 'no peer was timed')[:100]}", flush=True)
    ratios = [row["ratio"]["value"] for row in rows if "ratio" in row]
    summary = {"geometric_mean": geometric_mean(ratios), "lowest": min(ratios, default=0.0), "models": len(ratios)}
    print(f"{name}: geometric mean {summary['geometric_mean']:.3f}x, lowest {summary['lowest']:.3f}x over {len(ratios)} models\n", flush=True)
    return {"summary": summary, "rows": rows}


def section_added(paths: list[pathlib.Path], seconds: float) -> dict[str, Any]:
    """Added latency over the same engine called natively with the same configuration."""
    rows = []
    for path in paths:
        with tempfile.TemporaryDirectory() as cache:
            answer = vmm_json("bench", str(path), "--same-config", "--seconds", str(seconds), *models.shape_options(path), cache=cache)
        row: dict[str, Any] = {"model": models.label(path)}
        if "error" in answer:
            row["error"] = answer["error"]["message"]
        else:
            run = answer["scenarios"][0]
            row |= {"p50_ms": run["contenders"][0]["latency"]["p50_ms"], "candidate": run["contenders"][0]["settings"]}
            if "added_latency_us" in run:
                row["added_us"] = run["added_latency_us"]
                row["allowed_us"] = 3 + 0.01 * 1000 * run["contenders"][1]["latency"]["p50_ms"]
        rows.append(row)
        if "added_us" in row:
            print(f"  {row['model']:42s} {row['added_us']['value']:8.2f} us of {row['allowed_us']:8.2f} allowed", flush=True)
        else:
            print(f"  {row['model']:42s} {row.get('error', 'the chosen engine has no native reader for the file')[:100]}", flush=True)
    within = [row["added_us"]["value"] <= row["allowed_us"] for row in rows if "added_us" in row]
    print(f"added latency: {sum(within)} of {len(within)} within 3 us + 1 %\n", flush=True)
    return {"summary": {"within": sum(within), "models": len(within)}, "rows": rows}


DEPLOY = """
import json, sys, ai_vmm
vmm = ai_vmm.VMM(cache_dir=sys.argv[2])
description = vmm.deploy(sys.argv[1]).describe()
print(json.dumps({"total_ms": description.deploy_ms, "steps": [list(step) for step in description.deploy_steps_ms], "from_cache": description.from_cache}))
"""


def section_second(paths: list[pathlib.Path]) -> dict[str, Any]:
    """Deploying again in new processes: time beyond the engine's own import, and that nothing is tuned."""
    rows = []
    environment = os.environ | {"PYTHONPATH": str(ROOT / "build" / "python")}
    for path in paths:
        with tempfile.TemporaryDirectory() as cache:
            runs = []
            for _ in range(4):
                result = subprocess.run([sys.executable, "-c", DEPLOY, str(path), cache], capture_output=True, text=True, check=False, env=environment)
                if result.returncode != 0:
                    break
                runs.append(json.loads(result.stdout.splitlines()[-1]))
        if len(runs) < 4:
            rows.append({"model": models.label(path), "error": result.stderr[-200:]})
            continue
        beyond = [run["total_ms"] - dict(run["steps"]).get("import", dict(run["steps"]).get("compile", 0.0)) for run in runs[1:]]
        tuned = any("tune" in dict(run["steps"]) for run in runs[1:])
        rows.append({"model": models.label(path), "first_ms": runs[0]["total_ms"], "again_ms": statistics.median(run["total_ms"] for run in runs[1:]),
                     "beyond_import_ms": statistics.median(beyond), "tuned_again": tuned, "imported": runs[-1]["from_cache"]})  # fmt: skip
        print(f"  {rows[-1]['model']:42s} first {rows[-1]['first_ms']:8.1f} ms  again {rows[-1]['again_ms']:7.1f} ms, beyond the import {rows[-1]['beyond_import_ms']:6.1f} ms", flush=True)
    done = [row for row in rows if "error" not in row]
    summary = {"highest_beyond_import_ms": max((row["beyond_import_ms"] for row in done), default=0.0), "tuned_again": sum(row["tuned_again"] for row in done), "models": len(done)}
    print(f"second deployment: at most {summary['highest_beyond_import_ms']:.1f} ms beyond the import; {summary['tuned_again']} tuned again\n", flush=True)
    return {"summary": summary, "rows": rows}


def section_commands() -> dict[str, Any]:
    """Wall time of whole commands, median of 21."""
    rows = {}
    with tempfile.TemporaryDirectory() as cache:
        for arguments in (["--help"], ["devices"], ["devices", "--json"]):
            times = []
            for _ in range(21):
                start = time.perf_counter()
                subprocess.run([str(VMM), *arguments], capture_output=True, check=True, env=os.environ | {"AI_VMM_CACHE_DIR": cache})
                times.append(1e3 * (time.perf_counter() - start))
            rows[" ".join(["vmm", *arguments])] = {"median_ms": statistics.median(times), "max_ms": max(times)}
            print(f"  vmm {' '.join(arguments):20s} {statistics.median(times):6.1f} ms", flush=True)
    print()
    return {"rows": rows}


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="latency,throughput,added,second,commands")
    parser.add_argument("--seconds", type=float, default=3.0, help="per model and contender")
    parser.add_argument("--filter", default="")
    parser.add_argument("--output", default=str(ROOT / "bench" / "results" / "cpu.json"))
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(","))
    paths = [path for path in models.bundled() + models.real() if arguments.filter in models.label(path)]
    with tempfile.TemporaryDirectory() as cache:
        devices = vmm_json("devices", cache=cache)
        version = json.loads(subprocess.run([str(VMM), "version", "--json"], capture_output=True, text=True, check=True).stdout)
    result: dict[str, Any] = {"when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "version": version, "devices": devices,
                              "kernel": platform.release(), "seconds_per_contender": arguments.seconds}  # fmt: skip
    if "latency" in wanted:
        print("latency, single-stream, against the better of both native engines at f32 with their latency settings")
        result["latency"] = section_compare("latency", "single-stream", paths, arguments.seconds)
    if "throughput" in wanted:
        print("throughput, offline, against the better of both native engines at f32 with their throughput settings")
        result["throughput"] = section_compare("throughput", "offline", paths, arguments.seconds)
    if "added" in wanted:
        print("added latency over the same engine with the same configuration")
        result["added"] = section_added(paths, arguments.seconds)
    if "second" in wanted:
        print("second deployment in a new process")
        result["second"] = section_second(paths)
    if "commands" in wanted:
        print("commands")
        result["commands"] = section_commands()
    text = json.dumps(result, indent=1) + "\n"
    for base, name in ((str(models.REAL), "real"), (str(ROOT), ".")):  # results name no folder of the machine
        text = text.replace(base, name)
    pathlib.Path(arguments.output).write_text(text)
    print(f"written to {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
