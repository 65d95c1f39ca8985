# SPDX-License-Identifier: Apache-2.0
"""Runs an ONNX model with the reference evaluator of the `onnx` package: the judge where two engines differ.

Usage: evaluate_onnx.py MODEL DIRECTORY

DIRECTORY holds `inputs.json`, a list of {"name", "type", "shape", "file"} whose raw little-endian contents are beside it (strings: {"strings": [...]}
instead of "file"). Writes `outputs.json` and its raw files in the same form, in the order of the graph's outputs. Exit status 0 on success.
"""

import json
import pathlib
import sys
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

TYPES: dict[str, Any] = {
    "boolean": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64, "complex64": np.complex64, "complex128": np.complex128,
    "bf16": ml_dtypes.bfloat16, "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "f8e5m2": ml_dtypes.float8_e5m2,
    "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip
NAMES = {np.dtype(value): name for name, value in TYPES.items()}


def load(directory: pathlib.Path, entry: dict[str, Any]) -> np.ndarray:
    """The array that one entry of inputs.json describes."""
    if "strings" in entry:
        return np.array(entry["strings"], dtype=object).reshape(entry["shape"])
    return np.fromfile(directory / entry["file"], dtype=TYPES[entry["type"]]).reshape(entry["shape"])


def main(model_path: str, directory_path: str) -> int:
    """Evaluates once; see the module's text."""
    directory = pathlib.Path(directory_path)
    entries = json.loads((directory / "inputs.json").read_text())
    feeds = {entry["name"]: load(directory, entry) for entry in entries}
    evaluator = ReferenceEvaluator(onnx.load(model_path))
    described = []
    for index, value in enumerate(evaluator.run(None, feeds)):
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        entry: dict[str, Any] = {"name": evaluator.output_names[index], "shape": list(array.shape)}
        if array.dtype.kind in "OUS":
            entry |= {"type": "string", "strings": [str(item) for item in array.ravel()]}
        else:
            entry |= {"type": NAMES[array.dtype], "file": f"output_{index}.bin"}
            array.tofile(directory / entry["file"])
        described.append(entry)
    (directory / "outputs.json").write_text(json.dumps(described))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
