# SPDX-License-Identifier: Apache-2.0
"""Writes models/manifest.json: what each file is, its hashes, its inputs and outputs as the file names them, and its measured metric."""

import json
import pathlib
from typing import Any

import numpy as np
import openvino as ov

from check import engines_of, measure
from common import DATA, MODELS, SEED, sha256_of

CNN, VIT, LSTM = "VISION_CNN", "VISION_TRANSFORMER", "SPEECH_RNN"
TABULAR, RECOMMENDER, TEXT = "SCIENTIFIC_ML", "RECOMMENDATION_SYSTEM", "LLM_TRANSFORMER"

# path, format, precision, category, test set, further files
FILES: list[tuple[str, str, str, str, str, list[str]]] = [
    ("digits_cnn.onnx", "onnx", "f32", CNN, "digits", []),
    ("digits_cnn.external.onnx", "onnx", "f32", CNN, "digits", ["digits_cnn.external.onnx.data"]),
    ("digits_cnn.int8.onnx", "onnx", "i8", CNN, "digits", []),
    ("digits_cnn.xml", "openvino_ir", "f32", CNN, "digits", ["digits_cnn.bin"]),
    ("digits_cnn.f16.xml", "openvino_ir", "f16", CNN, "digits", ["digits_cnn.f16.bin"]),
    ("digits_cnn.int8.xml", "openvino_ir", "i8", CNN, "digits", ["digits_cnn.int8.bin"]),
    ("digits_cnn_savedmodel", "tensorflow_saved_model", "f32", CNN, "digits", []),
    ("digits_cnn.frozen.pb", "tensorflow_frozen", "f32", CNN, "digits", []),
    ("digits_cnn.tflite", "tflite", "f32", CNN, "digits", []),
    ("digits_cnn.int8.tflite", "tflite", "i8", CNN, "digits", []),
    ("digits_cnn.pdmodel", "paddle", "f32", CNN, "digits", ["digits_cnn.pdiparams"]),
    ("digits_cnn.pt", "torchscript", "f32", CNN, "digits", []),
    ("digits_cnn.pt2", "torch_export", "f32", CNN, "digits", []),
    ("digits_cnn.state_dict.pth", "torch_state_dict", "f32", CNN, "digits", []),
    ("digits_vit.onnx", "onnx", "f32", VIT, "digits", []),
    ("digits_vit.f16.onnx", "onnx", "f16", VIT, "digits", []),
    ("digits_vit.xml", "openvino_ir", "f32", VIT, "digits", ["digits_vit.bin"]),
    ("digits_vit.f16.xml", "openvino_ir", "f16", VIT, "digits", ["digits_vit.f16.bin"]),
    ("digits_lstm.onnx", "onnx", "f32", LSTM, "digits", []),
    ("wine_mlp.onnx", "onnx", "f32", TABULAR, "wine", []),
    ("breast_cancer_mlp.onnx", "onnx", "f32", TABULAR, "breast_cancer", []),
    ("diabetes_mlp.onnx", "onnx", "f32", TABULAR, "diabetes", []),
    ("recommender.onnx", "onnx", "f32", RECOMMENDER, "recommender", []),
    ("docstring_bert.onnx", "onnx", "f32", TEXT, "docstring", []),
    ("docstring_bert", "huggingface", "f32", TEXT, "docstring", []),
]


def file_record(path: pathlib.Path) -> dict[str, Any]:
    return {"path": path.relative_to(MODELS).as_posix(), "size_bytes": path.stat().st_size, "sha256": sha256_of(path)}


def port_record(port: Any) -> dict[str, Any]:
    """Name, element type and shape (-1: free) of an input or output of an ov.Model."""
    shape = [-1 if dimension.is_dynamic else dimension.get_length() for dimension in port.partial_shape]
    return {"name": port.any_name, "type": port.element_type.get_type_name(), "shape": shape}


def ports_of(path: str, kind: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs in the file's order. PyTorch files: the argument names of forward(); they have no output names."""
    logits = {"type": "f32", "shape": [-1, 10]}
    if kind in ("torchscript", "torch_export"):
        return [{"name": "image", "type": "f32", "shape": [-1, 1, 8, 8]}], [{"name": "", **logits}]
    if kind == "huggingface":
        ids = {"type": "i64", "shape": [-1, -1]}
        return [{"name": "input_ids", **ids}, {"name": "attention_mask", **ids}], [{"name": "logits", "type": "f32", "shape": [-1, 3]}]
    model = ov.Core().read_model(MODELS / path)
    return [port_record(port) for port in model.inputs], [port_record(port) for port in model.outputs]


def describe(path: str, kind: str, precision: str, category: str, data: str, others: list[str]) -> dict[str, Any]:
    """One entry of the manifest; measures the metric with the first engine that reads the file."""
    place = MODELS / path
    files = sorted(item for item in place.rglob("*") if item.is_file()) if place.is_dir() else [place, *(MODELS / other for other in others)]
    main_file = {"tensorflow_saved_model": place / "saved_model.pb", "huggingface": place / "model.safetensors"}.get(kind, place)
    entry: dict[str, Any] = {
        "path": path,
        "sha256": sha256_of(main_file),
        "format": kind,
        "precision": precision,
        "category": category,
        "task": "regression" if data == "diabetes" else "classification",
        "refused": kind == "torch_state_dict",
        "files": [file_record(item) for item in files],
    }
    if entry["refused"]:
        return entry | {"inputs": [], "outputs": [], "data": None, "metric": None}
    entry["inputs"], entry["outputs"] = ports_of(path, kind)
    with np.load(DATA / f"{data}_test.npz") as file:
        names = [name for name in file.files if name != "label"]
        samples = len(file["label"])
    for item, name in zip(entry["inputs"], names, strict=True):
        item["array"] = name
    entry["data"] = {"path": f"data/{data}_test.npz", "label": "label", "samples": samples}
    engine, load = next(iter(engines_of(entry).items()))
    found = measure(load(entry), entry)
    if entry["task"] == "classification":
        entry["metric"] = {"name": "accuracy", "value": round(found["accuracy"], 6), "correct": found["correct"], "engine": engine}
    else:
        entry["metric"] = {"name": "r2", "value": round(found["r2"], 6), "rmse": round(found["rmse"], 6), "engine": engine}
    return entry


def table(models: list[dict[str, Any]]) -> str:
    """The models as the README's Markdown table."""
    rows = ["| file | format | precision | category | test set | samples | metric |", "|---|---|---|---|---|---|---|"]
    for entry in models:
        metric, data = entry["metric"], entry["data"]
        if metric is None:
            value, name, samples = "none: no graph, to be refused", "", ""
        else:
            value = f"accuracy {metric['value']:.4f} ({metric['correct']})" if metric["name"] == "accuracy" else f"R2 {metric['value']:.4f}, RMSE {metric['rmse']:.2f}"
            name, samples = data["path"].removeprefix("data/"), data["samples"]
        rows.append(f"| `{entry['path']}` | {entry['format']} | {entry['precision']} | {entry['category']} | {name} | {samples} | {value} |")
    return "\n".join(rows)


def main() -> None:
    models = [describe(*row) for row in FILES]
    data = [file_record(path) for path in sorted(DATA.iterdir()) if path.is_file()]
    manifest = {"version": 1, "seed": SEED, "models": models, "data": data}
    (MODELS / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    readme = MODELS / "README.md"
    begin, end = "<!-- table:begin -->\n", "\n<!-- table:end -->"
    text = readme.read_text()
    readme.write_text(text.split(begin)[0] + begin + table(models) + end + text.split(end)[1])
    print(table(models))


if __name__ == "__main__":
    main()
