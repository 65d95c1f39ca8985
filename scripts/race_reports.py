#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges what compute-sanitizer's racecheck printed: whose kernels the reports are of.

    scripts/race_reports.py LOG

A generated kernel is called k and 16 hexadecimal digits (module_source() in backends/cuda/program/schedule.cpp): a report that names one fails. Reports within
kernels of cuBLASLt and cuDNN alone are counted and named: racecheck does not see the barriers of those that copy in bulk or whose blocks work in clusters.
A report of neither, a report that the tool did not print, or a log without its summary fails too. The exit status is 1 then.
"""

from __future__ import annotations

import collections
import pathlib
import re
import sys

OURS = re.compile(r"\bk[0-9a-f]{16}\b")
LIBRARIES = re.compile(r"\b(?:void )?((?:cudnn|cutlass|cublasLt|sm\d+_xmma|nvjet|xmma|gemv|gemm)\w*)")
REPORT = re.compile(r"^=+\s+(?:Error|Warning|Internal Error|Program hit)\b")
SUMMARY = re.compile(r"RACECHECK SUMMARY: (\d+) hazards? displayed")


def judge(text: str) -> tuple[list[str], collections.Counter[str]]:
    """@returns what is wrong, and how many reports each kernel of a library has"""
    reports: list[str] = []
    for line in text.splitlines():
        if REPORT.match(line):
            reports.append(line)
        elif reports and re.match(r"^=+\s+\S", line) and "SUMMARY" not in line and "Host Frame" not in line:
            reports[-1] += "\n" + line
    wrong: list[str] = []
    libraries: collections.Counter[str] = collections.Counter()
    for report in reports:
        kernels = set(LIBRARIES.findall(report))
        if OURS.search(report) or not kernels:
            wrong.append(report)
        else:
            libraries.update(kernels)
    displayed = [int(count) for count in SUMMARY.findall(text)]
    if not displayed:
        wrong.append("there is no summary: racecheck did not run to its end")
    elif sum(displayed) != len(reports):
        wrong.append(f"racecheck counts {sum(displayed)} reports, {len(reports)} are in the log")
    return wrong, libraries


def main() -> int:
    """See the module's text."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    wrong, libraries = judge(pathlib.Path(sys.argv[1]).read_text(errors="replace"))
    for report in wrong:
        print(report)
    for kernel, count in sorted(libraries.items()):
        print(f"{count} within {kernel}")
    print(f"races: {len(wrong)} failed, {sum(libraries.values())} within kernels of libraries")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
