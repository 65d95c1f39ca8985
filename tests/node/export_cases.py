#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the ONNX backend node tests as plain files, for tests/node/run_cases.cpp, which needs no Python.

    OUT_DIR/cases.json                        {"cases": [{"name", "rtol", "atol", "sets": [{"inputs": [TENSOR], "outputs": [TENSOR]}]}]}
    OUT_DIR/NAME/model.onnx
    OUT_DIR/NAME/set_K/{in,out}_J.bin         elements of tensor J of data set K: raw, row-major, types under 8 bits packed with the first element low

A TENSOR is {"name", "type" (of ai_vmm), "shape"}; one of strings has its values inline ("strings") and no file. Tests with a sequence or an optional among
their inputs or outputs are left out and counted.

    tests/node/export_cases.py OUT_DIR
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import sys
from typing import Any

from run_node_tests import as_array, load_cases

TYPES = pathlib.Path(__file__).resolve().parents[2] / "python" / "ai_vmm" / "_types.py"


def load_types() -> Any:
    """The package's table of element types, without the package's compiled part."""
    spec = importlib.util.spec_from_file_location("ai_vmm_types", TYPES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packed(array: Any, bits: int) -> bytes:
    """Elements of under 8 bits, which NumPy keeps in the low bits of a byte each, as the bytes of a tensor."""
    import numpy as np

    per_byte = 8 // bits
    codes = np.frombuffer(array.tobytes(), np.uint8) & ((1 << bits) - 1)
    codes = np.concatenate([codes, np.zeros(-len(codes) % per_byte, np.uint8)]).reshape(-1, per_byte)
    return (codes << (np.arange(per_byte, dtype=np.uint8) * bits)).sum(axis=1, dtype=np.uint8).tobytes()


def only_tensors(case: Any) -> bool:
    """Whether every input and output of the model is a tensor."""
    values = [*case.model.graph.input, *case.model.graph.output]
    return all(value.type.WhichOneof("value") == "tensor_type" for value in values)


def export_tensor(types: Any, name: str, given: Any, path: pathlib.Path) -> dict[str, Any]:
    """Writes the elements to `path` and returns the entry of cases.json."""
    import numpy as np

    array = np.asarray(as_array(given))
    entry = {"name": name, "type": types.element_type(array.dtype), "shape": list(array.shape)}
    if array.dtype.kind in "OUST":
        strings = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
        return entry | {"type": "string", "strings": strings}
    if entry["type"] is None:
        raise TypeError(f"tensor '{name}' of {path.parent}: no element type for the NumPy type {array.dtype}")
    bits = types.PACKED_BITS.get(entry["type"])
    path.write_bytes(packed(array, bits) if bits else array.astype(array.dtype.newbyteorder("=")).tobytes())
    return entry


def export_case(types: Any, case: Any, folder: pathlib.Path) -> dict[str, Any]:
    """Writes one test below `folder` and returns its entry of cases.json."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    sets = []
    for index, (inputs, outputs) in enumerate(case.data_sets):
        files = folder / f"set_{index}"
        files.mkdir()
        sides = (("inputs", "in", case.model.graph.input, inputs), ("outputs", "out", case.model.graph.output, outputs))
        sets.append({
            side: [export_tensor(types, value.name, given, files / f"{prefix}_{at}.bin") for at, (value, given) in enumerate(zip(values, tensors, strict=True))]
            for side, prefix, values, tensors in sides
        })  # fmt: skip
    return {"name": case.name, "rtol": case.rtol, "atol": case.atol, "sets": sets}


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR", help="folder to make; must be absent or empty")
    out = parser.parse_args().out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        parser.error(f"{out} is there and is not an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    types, cases = load_types(), load_cases()
    exported = [export_case(types, case, out / name) for name, case in cases.items() if only_tensors(case)]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in exported)
    (out / "cases.json").write_text(f'{{"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(exported)} tests written to {out}; {len(cases) - len(exported)} left out (a sequence or an optional among their inputs or outputs)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
