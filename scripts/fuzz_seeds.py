#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fills a folder with seed inputs for the fuzz targets, one sub-folder per target: `scripts/fuzz_seeds.py FOLDER`.

Seeds come from the bundled models (where they are small), from the `onnx` package's node tests, and from graphs built here. Files that
are there already stay, so that a corpus grows from run to run.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 1 << 17


def put(folder: pathlib.Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if 0 < len(content) <= LIMIT and not (folder / name).exists():
        (folder / name).write_bytes(content)


def bundled(out: pathlib.Path) -> None:
    kinds = {".onnx": "onnx", ".xml": "ir", ".tflite": "tflite", ".pb": "frozen_graph", ".pdmodel": "paddle", ".pt": "torch", ".pt2": "torch", ".pth": "torch", ".json": "huggingface"}
    for path in sorted((ROOT / "models").rglob("*")):
        if not path.is_file() or path.stat().st_size > LIMIT:
            continue
        kind = "saved_model" if path.name == "saved_model.pb" else kinds.get(path.suffix)
        if kind:
            put(out / f"{kind}_reader_fuzz", path.name, path.read_bytes())


def onnx_nodes(out: pathlib.Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    for number, case in enumerate(collect_testcases(None)):
        if case.model is not None and number % 8 == 0:
            put(out / "onnx_reader_fuzz", case.name, case.model.SerializeToString())


def openvino_graphs(out: pathlib.Path) -> None:
    import tempfile

    import numpy as np
    import openvino as ov
    import openvino.opset13 as ops

    x = ops.parameter([-1, 4], np.float32, name="x")
    graphs = {
        "add": ops.add(x, np.ones(4, np.float32)),
        "matmul": ops.softmax(ops.matmul(x, np.ones((4, 3), np.float32), False, False), 1),
        "gather": ops.gather(x, np.array([0, 2]), np.array(1)),
        "loopless": ops.reduce_mean(ops.relu(x), np.array([1]), True),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, result in graphs.items():
            path = pathlib.Path(folder) / f"{name}.xml"
            ov.save_model(ov.Model([result], [x], name), path, compress_to_fp16=False)
            put(out / "ir_reader_fuzz", name, path.read_bytes())


def gguf(out: pathlib.Path) -> None:
    import struct

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.block_count") + struct.pack("<II", 4, 1),
        text("llama.embedding_length") + struct.pack("<II", 4, 8),
        text("llama.attention.head_count") + struct.pack("<II", 4, 2),
        text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
    ]
    tensors = [("token_embd.weight", (8, 2)), ("output_norm.weight", (8,))]
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys)
    offset = 0
    for name, shape in tensors:
        header += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, offset)
        offset += 64
    header += b"\0" * (-len(header) % 32)
    put(out / "gguf_reader_fuzz", "llama", header + b"\0" * offset)


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    for step in (bundled, onnx_nodes, openvino_graphs, gguf):
        try:
            step(out)
        except ImportError as error:
            print(f"fuzz: no seeds from {step.__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
