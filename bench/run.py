#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures that the documents give, measured again: latency and throughput beside both native engines, added latency, the second deployment, and the
commands' start-up. Each comparison runs in one process, interleaved, after the outputs were compared (`vmm bench --against`).

    bench/run.py [--only latency,throughput,added,second,commands] [--seconds S] [--close-runs N] [--slice K/N] [--filter TEXT]
                 [--output bench/results]

Prints a table and writes one JSON file per section, cpu_SECTION.json, with the commit, the machine, the engines and every ratio. Ratios above 1 favour
AI VMM. What comes out within a seventh of its peer, on either side, is timed in --close-runs processes more, and their median counts: often it is the
peer's own configuration, and what is left is where each process happens to lie in memory. Added latency above half of what is allowed likewise. A part of the models (--slice, --filter) is added to the rows that the file has from the same
commit and durations; any other file is begun anew.
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
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import models  # noqa: E402

ROOT = models.ROOT
VMM = ROOT / "build" / "bin" / "vmm"
CLOSE = 6 / 7


def vmm_json(*arguments: str, cache: str = "") -> dict[str, Any]:
    """Runs `vmm … --json` and gives its object, errors included."""
    result = subprocess.run([str(VMM), *arguments, "--json", *(["--cache-dir", cache] if cache else [])], capture_output=True, text=True, check=False)
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
    row: dict[str, Any] = {"model": models.label(path), "seconds": seconds, "candidate": own["settings"], "engine": own["version"],
                           "p50_ms": own["latency"]["p50_ms"], "throughput_per_s": own["throughput_per_s"], "peers": {}}  # fmt: skip
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


def middle_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for the same comparison in several processes: that of the median ratio, with every peer's median over the processes and all ratios."""
    ranked = sorted((run for run in runs if "ratio" in run), key=lambda run: run["ratio"]["value"])
    row = ranked[(len(ranked) - 1) // 2] | {"processes": len(ranked)}
    row["peers"] = {peer: dict(entry) for peer, entry in row["peers"].items()}
    for peer, entry in row["peers"].items():
        values = [run["peers"][peer]["ratio"]["value"] for run in ranked if "ratio" in run["peers"].get(peer, {})]
        if values:
            entry["ratio"] = {"value": statistics.median(values), "low": min(values), "high": max(values)}
            entry["ratios"] = values
    timed = [entry["ratio"] for entry in row["peers"].values() if "ratio" in entry]
    row["ratio"] = min(timed, key=lambda ratio: ratio["value"])
    return row


def compare_rows(scenario: str, paths: list[pathlib.Path], seconds: float, close_runs: int) -> list[dict[str, Any]]:
    """Latency or throughput of every model."""
    rows = []
    for path in paths:
        with tempfile.TemporaryDirectory() as cache:
            row = compare(path, scenario, seconds, cache)
            if "ratio" in row and CLOSE < row["ratio"]["value"] < 1 / CLOSE and close_runs > 0:
                again = [compare(path, scenario, seconds, cache) for _ in range(close_runs)]  # as deployed: nothing is tuned again
                if any("ratio" in run for run in again):
                    row = middle_of(again)
        rows.append(row)
        if "ratio" in row:
            peers = "  ".join(f"{peer} {entry['ratio']['value']:.2f}x" if "ratio" in entry else f"{peer} {entry['status']}" for peer, entry in row["peers"].items())
            print(f"  {row['model']:42s} {row['ratio']['value']:6.2f}x ({row['ratio']['low']:.2f} to {row['ratio']['high']:.2f})  {row['engine']:20s} {peers}", flush=True)
        else:
            print(f"  {row['model']:42s} {row.get('error', 'no peer was timed')[:100]}", flush=True)
    return rows


def compare_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of ratios."""
    ratios = [row["ratio"]["value"] for row in rows if "ratio" in row]
    return {"geometric_mean": geometric_mean(ratios), "lowest": min(ratios, default=0.0), "models": len(ratios)}


def added(path: pathlib.Path, seconds: float, cache: str) -> dict[str, Any]:
    """One model beside the same engine in the same configuration."""
    answer = vmm_json("bench", str(path), "--same-config", "--seconds", str(seconds), *models.shape_options(path), cache=cache)
    row: dict[str, Any] = {"model": models.label(path)}
    if "error" in answer:
        return row | {"error": answer["error"]["message"]}
    run = answer["scenarios"][0]
    row |= {"p50_ms": run["contenders"][0]["latency"]["p50_ms"], "candidate": run["contenders"][0]["settings"]}
    if "added_latency_us" in run:
        row["added_us"] = run["added_latency_us"]
        row["allowed_us"] = 3 + 0.01 * 1000 * run["contenders"][1]["latency"]["p50_ms"]
    return row


def added_rows(paths: list[pathlib.Path], seconds: float, close_runs: int) -> list[dict[str, Any]]:
    """Added latency over the same engine called natively with the same configuration."""
    rows = []
    for path in paths:
        with tempfile.TemporaryDirectory() as cache:
            row = added(path, seconds, cache)
            if "added_us" in row and row["added_us"]["value"] > 0.5 * row["allowed_us"] and close_runs > 0:
                again = [run for run in (added(path, seconds, cache) for _ in range(close_runs)) if "added_us" in run]
                again.sort(key=lambda run: run["added_us"]["value"] / run["allowed_us"])
                if again:
                    row = again[(len(again) - 1) // 2] | {"processes": len(again), "all_added_us": [run["added_us"]["value"] for run in again]}
        rows.append(row)
        if "added_us" in row:
            print(f"  {row['model']:42s} {row['added_us']['value']:8.2f} us of {row['allowed_us']:8.2f} allowed", flush=True)
        else:
            print(f"  {row['model']:42s} {row.get('error', 'the chosen engine has no native reader for the file')[:100]}", flush=True)
    return rows


def added_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many keep 3 us + 1 %."""
    within = [row["added_us"]["value"] <= row["allowed_us"] for row in rows if "added_us" in row]
    return {"within": sum(within), "models": len(within)}


DEPLOY = """
import json, sys, ai_vmm
vmm = ai_vmm.VMM(cache_dir=sys.argv[2])
description = vmm.deploy(sys.argv[1]).describe()
print(json.dumps({"total_ms": description.deploy_ms, "steps": [list(step) for step in description.deploy_steps_ms], "from_cache": description.from_cache}))
"""


def second_rows(paths: list[pathlib.Path]) -> list[dict[str, Any]]:
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
    return rows


def second_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The slowest, and whether anything was tuned again."""
    done = [row for row in rows if "error" not in row]
    return {"highest_beyond_import_ms": max((row["beyond_import_ms"] for row in done), default=0.0), "tuned_again": sum(row["tuned_again"] for row in done), "models": len(done)}


def command_rows() -> list[dict[str, Any]]:
    """Wall time of whole commands, median of 21."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for arguments in (["--help"], ["devices"], ["devices", "--json"]):
            times = []
            for _ in range(21):
                start = time.perf_counter()
                subprocess.run([str(VMM), *arguments], capture_output=True, check=True, env=os.environ | {"AI_VMM_CACHE_DIR": cache})
                times.append(1e3 * (time.perf_counter() - start))
            rows.append({"model": " ".join(["vmm", *arguments]), "median_ms": statistics.median(times), "max_ms": max(times)})
            print(f"  {rows[-1]['model']:42s} {statistics.median(times):6.1f} ms", flush=True)
    return rows


def command_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Nothing beyond the rows."""
    return {"commands": len(rows)}


def write_section(path: pathlib.Path, head: dict[str, Any], name: str, fresh: list[dict[str, Any]], summarise: Callable[[list[dict[str, Any]]], dict[str, Any]],
                  order: list[str]) -> dict[str, Any]:  # fmt: skip
    """Writes a section's file, with the rows of other models that it has from the same commit; gives the summary."""
    rows = {row["model"]: row for row in fresh}
    if path.exists():
        old = json.loads(path.read_text())
        if all(old.get(key) == head[key] for key in ("commit", "seconds_per_contender", "processes_where_close")) and not head["commit"].endswith("-dirty"):
            rows = {row["model"]: row for row in old[name]["rows"]} | rows
    ordered = sorted(rows.values(), key=lambda row: order.index(row["model"]) if row["model"] in order else len(order))
    summary = summarise(ordered)
    text = json.dumps(head | {name: {"summary": summary, "rows": ordered}}, indent=1) + "\n"
    for base, short in ((str(models.REAL), "real"), (str(ROOT), ".")):  # results name no folder of the machine
        text = text.replace(base, short)
    path.write_text(text)
    return summary


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="latency,throughput,added,second,commands")
    parser.add_argument("--seconds", type=float, default=3.0, help="per model and contender")
    parser.add_argument("--close-runs", type=int, default=5, metavar="N", help="processes where the ratio is close to 1")
    parser.add_argument("--slice", default="1/1", metavar="K/N", help="the K-th of N parts of the models")
    parser.add_argument("--filter", default="", help="models whose name has this")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench" / "results", help="a folder")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(","))
    part, parts = (int(number) for number in arguments.slice.split("/"))
    every = models.bundled() + models.real()
    paths = [path for path in every if arguments.filter in models.label(path)][part - 1 :: parts]
    version = vmm_json("version")
    with tempfile.TemporaryDirectory() as cache:
        devices = vmm_json("devices", cache=cache)
    seconds = arguments.seconds
    head = {"commit": version["commit"], "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "version": version, "devices": devices,
            "kernel": platform.release(), "seconds_per_contender": seconds, "processes_where_close": arguments.close_runs}  # fmt: skip
    sections: dict[str, tuple[str, Callable[[], list[dict[str, Any]]], Callable[[list[dict[str, Any]]], dict[str, Any]]]] = {
        "latency": ("latency, single-stream, against the better of both native engines at f32 with their latency settings",
                    lambda: compare_rows("single-stream", paths, seconds, arguments.close_runs), compare_summary),
        "throughput": ("throughput, offline, against the better of both native engines at f32 with their throughput settings",
                       lambda: compare_rows("offline", paths, seconds, arguments.close_runs), compare_summary),
        "added": ("added latency over the same engine with the same configuration, 3 us + 1 % allowed", lambda: added_rows(paths, seconds, arguments.close_runs), added_summary),
        "second": ("second deployment in a new process", lambda: second_rows(paths), second_summary),
        "commands": ("commands", command_rows, command_summary),
    }  # fmt: skip
    for name, (title, measure, summarise) in sections.items():
        if name not in wanted:
            continue
        print(title)
        summary = write_section(arguments.output / f"cpu_{name}.json", head, name, measure(), summarise, [models.label(path) for path in every])
        print(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.3f}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}" for key, value in summary.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
