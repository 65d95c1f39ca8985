#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/graph/formats/onnx_inputs.inc: how many first inputs each ONNX operator needs in any version of its schema, by the `onnx` package. What has
fewer is refused before an engine's reader sees it, since some take what is not there (OpenVINO 2026.4: Conv).

    scripts/onnx_inputs.py [--check]      --check: fails if the file is another one, and writes nothing
"""

from __future__ import annotations

import pathlib
import sys

TARGET = pathlib.Path(__file__).resolve().parent.parent / "src" / "graph" / "formats" / "onnx_inputs.inc"


def table() -> str:
    """The file's text: {"Name", count}, sorted by name."""
    import onnx.defs

    option = onnx.defs.OpSchema.FormalParameterOption
    least: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain != "":
            continue
        needed = 0
        for parameter in schema.inputs:
            if parameter.option == option.Optional:  # may be left out with an empty name
                break
            needed += 1 if parameter.option == option.Single else parameter.min_arity
        least[schema.name] = min(least.get(schema.name, needed), needed)
    rows = [f'{{"{name}", {count}}},' for name, count in sorted(least.items()) if count > 0]
    return "// SPDX-License-Identifier: Apache-2.0\n// Written by scripts/onnx_inputs.py.\n" + "\n".join(rows) + "\n"


def main() -> int:
    """See the module's text."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(table())
        return 0
    if TARGET.read_text() == table():
        return 0
    print(f"{TARGET} is not what scripts/onnx_inputs.py writes with the installed onnx package", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
