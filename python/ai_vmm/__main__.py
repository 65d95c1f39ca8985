# SPDX-License-Identifier: Apache-2.0
"""``python -m ai_vmm …`` runs the ``vmm`` command: the one built beside this package, else the one on PATH."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys


def find_command() -> str | None:
    """The path of the vmm command, or None."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "bin" / "vmm"
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which("vmm")


def main() -> int:
    """Replaces this process by the command; returns only if there is none."""
    command = find_command()
    if command is None:
        print(
            "ai_vmm: the vmm command is not there; expected: bin/vmm beside the package's folder, or vmm on PATH; to do: build the target `vmm`",
            file=sys.stderr,
        )
        return 127
    os.execv(command, [command, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
