#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on an include that the folder's row in ARCHITECTURE.md does not allow, and on a public header that does not compile alone.

The table is read from ARCHITECTURE.md itself, between the lines `<!-- layers:begin -->` and `<!-- layers:end -->`:
| folder | holds | may include |
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
SOURCES = {".hpp", ".cpp", ".cu", ".cuh", ".h"}


def read_table() -> dict[str, set[str]]:
    """Folder -> names it may include ("base", "public", "backend", "openvino", "std only", …)."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    part = text.split("<!-- layers:begin -->")[1].split("<!-- layers:end -->")[0]
    table = {}
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            table[cells[0].strip("`").rstrip("/")] = {name.strip().strip("`") for name in cells[2].split(",")}
    return table


def names_of(row: str, path: str) -> str | None:
    """Which row an include made in a folder of `row` belongs to, or None for the standard library and third parties."""
    if path.startswith("ai_vmm/backend/"):
        return "backend interface"
    if path.startswith("ai_vmm/"):
        return "public API"
    if path.startswith(("openvino/", "ov_")):
        return "OpenVINO"
    if path.startswith("onnxruntime"):
        return "ONNX Runtime"
    first = path.split("/")[0]
    backend = pathlib.PurePosixPath(*pathlib.PurePosixPath(row).parts[:2])
    if "/" in path and row.startswith("backends/") and (ROOT / backend / first).is_dir():
        return f"{backend.name}/{first}"  # a backend's own sub-folder hides one of src
    if "/" in path and (ROOT / "src" / first).is_dir():
        return first
    return None


def check_includes(table: dict[str, set[str]]) -> list[str]:
    """One line per include that breaks the table."""
    problems = []
    for folder, allowed in table.items():
        own = {folder.removeprefix("src/"), folder.removeprefix("backends/")}
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in SOURCES:
                continue
            if any(path.is_relative_to(ROOT / other) for other in table if other.startswith(f"{folder}/")):
                continue  # a sub-folder with a row of its own
            for _, include in INCLUDE.findall(path.read_text()):
                name = names_of(folder, include)
                # A backend's sub-folders without rows are part of the backend.
                unlisted = name is not None and f"backends/{name}" not in table and f"backends/{name}".startswith(f"{folder}/")
                if name is None or name in allowed or name in own or unlisted:
                    continue
                problems.append(f"{path.relative_to(ROOT)}: includes {include} ({name}); its row allows: {', '.join(sorted(allowed))}")
    return problems


def check_headers_alone() -> list[str]:
    """Compiles each public header by itself."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for header in sorted((ROOT / "include").rglob("*.hpp")):
            source = pathlib.Path(folder) / "alone.cpp"
            source.write_text(f'#include "{header.relative_to(ROOT / "include")}"\n')
            command = ["c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(ROOT / "include"), str(source)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                problems.append(f"{header.relative_to(ROOT)} does not compile alone:\n{result.stderr[:800]}")
    return problems


def main() -> int:
    """Prints the problems; exit status 1 if there are any."""
    table = read_table()
    missing = [folder for folder in table if not (ROOT / folder).is_dir()]
    problems = [f"ARCHITECTURE.md names {folder}, which is not there" for folder in missing]
    for folder in sorted((ROOT / "src").iterdir()):
        if folder.is_dir() and f"src/{folder.name}" not in table:
            problems.append(f"src/{folder.name} has no row in ARCHITECTURE.md")
    problems += check_includes(table) + check_headers_alone()
    for problem in problems:
        print(problem)
    print(f"layers: {len(table)} folders checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
