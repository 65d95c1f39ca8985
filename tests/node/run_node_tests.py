#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the ONNX backend node tests of the `onnx` package through ai_vmm's own deploy().

Every test is deployed with default constraints but for a short tuning time, executed on its data sets and compared with the rule and the tolerances of
`onnx.backend.test`. The result is held against tests/node/expected_failures.txt (`name: reason`): a test that fails and is not listed fails the run, and so does
a listed one that passes. `either: REASON` marks tests that only one engine passes within the test's tolerance while both agree within the guard's: which of them is
measured faster decides. `without FEATURE: REASON` marks tests that a processor without that feature (as /proc/cpuinfo names it) may fail; others must pass them.

    PYTHONPATH=build/python tests/node/run_node_tests.py [--filter TEXT] [--jobs N] [--json FILE] [--update]

A backend beside the installed ones: --backend PATH --preferred NAME puts it in every plan, cut where it does not take a test's model whole.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE / "expected_failures.txt"
BACKENDS = [path for path in os.environ.get("AI_VMM_NODE_TEST_BACKENDS", "").split(",") if path]
PREFERRED = [name for name in os.environ.get("AI_VMM_NODE_TEST_PREFERRED", "").split(",") if name]
ENGINES = [name for name in os.environ.get("AI_VMM_NODE_TEST_ENGINES", "").split(",") if name]


def load_cases() -> dict[str, Any]:
    """Name -> test case, in order of name."""
    import warnings

    from onnx.backend.test.loader import load_model_tests

    warnings.simplefilter("ignore")  # the package's own generators divide by zero on purpose
    return {case.name: case for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name)}


def as_array(value: Any) -> Any:
    """Data sets hold arrays, or tensors as protobuf where numpy lacks the type."""
    import onnx
    from onnx import numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def compare(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    """Empty if equal by the rule of onnx.backend.test, else what differs."""
    import numpy as np

    expected = np.asarray(expected)
    actual = np.asarray(actual)
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.kind in "OUS":
        return "" if [str(item) for item in actual.ravel()] == [str(item) for item in expected.ravel()] else "strings differ"
    if actual.dtype != expected.dtype:
        return f"type {actual.dtype}, expected {expected.dtype}"
    if expected.dtype.kind not in "biufc":  # ml_dtypes
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    try:
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        return " ".join(str(error).split())[:200]
    return ""


def run_case(vmm: Any, case: Any) -> tuple[str, str]:
    """("passed" | "failed" | "refused", why)."""
    import ai_vmm

    try:
        constraints = {"tune_ms": 1} | ({"engines": ENGINES} if ENGINES else {}) | ({"preferred_hardware": PREFERRED} if PREFERRED else {})
        deployment = vmm.deploy(case.model.SerializeToString(), constraints=constraints)
    except ai_vmm.Error as error:
        return "refused", str(error)[:300]
    for inputs, outputs in case.data_sets:
        feeds = {value.name: as_array(given) for value, given in zip(case.model.graph.input, inputs, strict=False)}
        try:
            actual = deployment.execute(feeds)
        except (ai_vmm.Error, TypeError) as error:
            return "failed", f"execute: {error}"[:300]
        for value, expected in zip(case.model.graph.output, outputs, strict=False):
            difference = compare(actual[value.name], as_array(expected), case.rtol, case.atol)
            if difference:
                return "failed", f"{deployment.describe().engine}: output '{value.name}': {difference}"
    return "passed", deployment.describe().engine


def work(names_file: str) -> int:
    """A worker: one JSON line per test; says which test it is in, so that the parent knows what ended it."""
    import ai_vmm

    cases = load_cases()
    with tempfile.TemporaryDirectory() as cache:
        vmm = ai_vmm.VMM(cache_dir=cache, use_cache=False, backend_paths=BACKENDS)
        for name in pathlib.Path(names_file).read_text().split():
            print(json.dumps({"start": name}), flush=True)
            try:
                status, why = run_case(vmm, cases[name])
            except Exception as error:  # noqa: BLE001 - a test must not end the others
                status, why = "failed", f"{type(error).__name__}: {error}"[:300]
            print(json.dumps({"name": name, "status": status, "why": why}), flush=True)
    sys.stdout.flush()
    os._exit(0)


def run_all(names: list[str], jobs: int) -> dict[str, tuple[str, str]]:
    """Runs the tests in `jobs` processes; a test that ends its process counts as crashed and the others go on."""
    results: dict[str, tuple[str, str]] = {}
    queues = [names[index::jobs] for index in range(jobs)]
    while any(queues):
        running = []
        with tempfile.TemporaryDirectory() as folder:
            for index, queue in enumerate(queues):
                if not queue:
                    continue
                names_file = pathlib.Path(folder) / f"names_{index}"
                names_file.write_text("\n".join(queue))
                process = subprocess.Popen([sys.executable, __file__, "--worker", str(names_file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                running.append((index, process))
            import threading

            def drain(index: int, process: subprocess.Popen[str]) -> None:
                current = None
                assert process.stdout is not None
                for line in process.stdout:
                    if not line.startswith("{"):
                        continue
                    record = json.loads(line)
                    if "start" in record:
                        current = record["start"]
                        continue
                    results[record["name"]] = (record["status"], record["why"])
                    current = None
                code = process.wait()
                if current is not None:
                    results[current] = ("crashed", f"the process ended with {code}")
                elif code != 0:
                    for name in queues[index]:
                        results.setdefault(name, ("crashed", f"the worker ended with {code}"))

            threads = [threading.Thread(target=drain, args=pair) for pair in running]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        queues = [[name for name in queue if name not in results] for queue in queues]
    return results


def kept(reason: str) -> bool:
    """Whether --update leaves the line alone, whatever this run gave."""
    return reason.startswith(("either:", "without "))


def applies(reason: str) -> bool:
    """Whether the reason holds on this machine."""
    if not reason.startswith("without "):
        return True
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    return cpuinfo.exists() and reason.split(":")[0].removeprefix("without ") not in cpuinfo.read_text().split()


def read_expected() -> dict[str, str]:
    """Name -> reason of the committed list."""
    expected = {}
    if EXPECTED.exists():
        for line in EXPECTED.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.partition(": ")
                expected[name] = reason
    return expected


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", help="only tests whose name contains this")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--engines", default="", help="only these backends (comma-separated); with --passed, for backends outside the committed list")
    parser.add_argument("--backend", default="", help="libraries of backends to load besides the installed ones (comma-separated)")
    parser.add_argument("--preferred", default="", help="preferred hardware or engines (comma-separated)")
    parser.add_argument("--passed", type=int, help="hold the run against this number of passing tests instead of the committed list")
    parser.add_argument("--json", help="write every result to this file")
    parser.add_argument("--update", action="store_true", help="rewrite the list of expected failures")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker)
    try:
        import ai_vmm  # noqa: F401 - the workers need it
    except ImportError as error:
        parser.error(f"the package ai_vmm can't be imported ({error}); set PYTHONPATH=build/python after `make build`")
    os.environ["AI_VMM_NODE_TEST_ENGINES"] = arguments.engines  # for the workers
    os.environ["AI_VMM_NODE_TEST_BACKENDS"] = arguments.backend
    os.environ["AI_VMM_NODE_TEST_PREFERRED"] = arguments.preferred

    names = [name for name in load_cases() if arguments.filter in name]
    results = run_all(names, max(1, arguments.jobs))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({name: list(results[name]) for name in names}, indent=1))
    passed = [name for name in names if results[name][0] == "passed"]
    if arguments.update:
        lines = ["# ONNX node tests that do not pass, and why. Written by run_node_tests.py --update; read every change of it."]
        either = {name: reason for name, reason in read_expected().items() if kept(reason)}
        lines += [f"{name}: {reason}" for name, reason in sorted(either.items())]
        lines += [f"{name}: {results[name][0]}: {' '.join(results[name][1].split())[:160]}" for name in names if name not in passed and name not in either]
        EXPECTED.write_text("\n".join(lines) + "\n")
    if arguments.passed is not None:
        for status in ("passed", "failed", "refused", "crashed"):
            print(f"{status}: {sum(results[name][0] == status for name in names)}")
        return 0 if len(passed) >= arguments.passed else 1
    expected = {name: reason for name, reason in read_expected().items() if applies(reason)}
    unexpected_failures = [name for name in names if name not in passed and name not in expected]
    unexpected_passes = [name for name in passed if name in expected and not kept(expected[name])]
    for name in unexpected_failures:
        print(f"FAILED {name}: {results[name][0]}: {results[name][1]}")
    for name in unexpected_passes:
        print(f"PASSED but listed as failing: {name}")
    for status in ("passed", "failed", "refused", "crashed"):
        print(f"{status}: {sum(results[name][0] == status for name in names)}")
    print(f"of {len(names)}; expected failures: {sum(name in expected for name in names)}")
    return 1 if unexpected_failures or unexpected_passes or any(results[name][0] == "crashed" for name in names) else 0


if __name__ == "__main__":
    sys.exit(main())
