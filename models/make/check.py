# SPDX-License-Identifier: Apache-2.0
"""Recomputes the metric of every bundled model with each engine that reads its file and compares it with manifest.json.

    python models/make/check.py [NAME...]

Needs numpy, openvino and onnxruntime. What needs torch (TorchScript, torch.export) or transformers (the Hugging Face directory) is
skipped, with a message, where these are not installed. Exit status: 0 everything agrees, 1 something differs.
"""

import hashlib
import importlib.util
import json
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

MODELS = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-3  # of r2 and, relative, of rmse; accuracy may differ by one sample

Arrays = dict[str, np.ndarray]
Predict = Callable[[Arrays], np.ndarray]


class Skipped(Exception):
    """A file that needs a package that is not installed; the text names it."""


def openvino_predict(model: Any, entry: dict[str, Any]) -> Predict:
    """Runs an ov.Model on the CPU in f32; inputs by position, as the manifest lists them."""
    import openvino as ov

    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    order = [item["array"] for item in entry["inputs"]]
    return lambda arrays: compiled([arrays[name] for name in order])[0]


def with_openvino(entry: dict[str, Any]) -> Predict:
    import openvino as ov

    return openvino_predict(ov.Core().read_model(MODELS / entry["path"]), entry)


def with_onnxruntime(entry: dict[str, Any]) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(MODELS / entry["path"], providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, {item["name"]: arrays[item["array"]] for item in entry["inputs"]})[0]


def with_openvino_from_torch(entry: dict[str, Any]) -> Predict:
    if importlib.util.find_spec("torch") is None:
        raise Skipped("torch is not installed")
    import openvino as ov
    import torch

    path = str(MODELS / entry["path"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = torch.jit.load(path) if entry["format"] == "torchscript" else torch.export.load(path)
        ports = [(item["shape"], ov.Type.f32) for item in entry["inputs"]]  # the files themselves leave types or sizes open
        return openvino_predict(ov.convert_model(source, input=ports), entry)


def with_transformers(entry: dict[str, Any]) -> Predict:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise Skipped(f"{package} is not installed")
    import torch
    from transformers import AutoModelForSequenceClassification

    net = AutoModelForSequenceClassification.from_pretrained(MODELS / entry["path"], attn_implementation="eager").eval()

    def predict(arrays: Arrays) -> np.ndarray:
        with torch.no_grad():
            return net(**{item["name"]: torch.from_numpy(arrays[item["array"]]) for item in entry["inputs"]}).logits.numpy()

    return predict


def engines_of(entry: dict[str, Any]) -> dict[str, Callable[[dict[str, Any]], Predict]]:
    """Name -> loader of each engine that reads the file; the first one gives the manifest's value."""
    if entry["format"] == "onnx":
        return {"onnxruntime": with_onnxruntime, "openvino": with_openvino}
    if entry["format"] in ("torchscript", "torch_export"):
        return {"openvino": with_openvino_from_torch}
    if entry["format"] == "huggingface":
        return {"transformers": with_transformers}
    return {"openvino": with_openvino}


def load_test_set(entry: dict[str, Any]) -> tuple[Arrays, np.ndarray]:
    """The inputs, in the shapes that the file wants, and the labels."""
    with np.load(MODELS / entry["data"]["path"]) as file:
        arrays = {item["array"]: file[item["array"]].reshape([-1, *item["shape"][1:]] if -1 not in item["shape"][1:] else file[item["array"]].shape) for item in entry["inputs"]}
        return arrays, file[entry["data"]["label"]]


def measure(predict: Predict, entry: dict[str, Any]) -> dict[str, float | int]:
    """{"accuracy", "correct"} of a classifier, {"r2", "rmse"} of a regression, over the whole test set."""
    arrays, labels = load_test_set(entry)
    output = predict(arrays)
    if entry["task"] == "classification":
        correct = int((output.argmax(axis=-1) == labels).sum())
        return {"accuracy": correct / len(labels), "correct": correct}
    error = (output.astype(np.float64) - labels) ** 2
    spread = (labels.astype(np.float64) - labels.mean(dtype=np.float64)) ** 2
    return {"r2": float(1 - error.sum() / spread.sum()), "rmse": float(np.sqrt(error.mean()))}


def difference(entry: dict[str, Any], found: dict[str, float | int]) -> str:
    """What is wrong with `found`, or nothing."""
    stated = entry["metric"]
    if entry["task"] == "classification":
        return "" if abs(found["correct"] - stated["correct"]) <= 1 else f"{found['correct']} right, the manifest states {stated['correct']}"
    if abs(found["r2"] - stated["value"]) > TOLERANCE:
        return f"r2 {found['r2']:.6f}, the manifest states {stated['value']:.6f}"
    return "" if abs(found["rmse"] - stated["rmse"]) <= TOLERANCE * stated["rmse"] else f"rmse {found['rmse']:.6f}, the manifest states {stated['rmse']:.6f}"


def check_files(manifest: dict[str, Any]) -> list[str]:
    """Files that are missing, changed or not listed."""
    problems, listed = [], set()
    for holder in manifest["models"] + [{"files": manifest["data"]}]:
        for item in holder["files"]:
            path = MODELS / item["path"]
            listed.add(path)
            if not path.is_file():
                problems.append(f"{item['path']}: missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != item["sha256"]:
                problems.append(f"{item['path']}: not the bytes that the manifest states")
    for path in sorted(MODELS.rglob("*")):
        relative = path.relative_to(MODELS)
        if path.is_file() and path not in listed and relative.parts[0] != "make" and str(relative) not in ("manifest.json", "README.md"):
            problems.append(f"{relative}: not in the manifest")
    return problems


def main(names: list[str]) -> int:
    manifest = json.loads((MODELS / "manifest.json").read_text())
    unknown = set(names) - {entry["path"] for entry in manifest["models"]}
    problems = check_files(manifest) + [f"{name}: no such model in the manifest" for name in sorted(unknown)]
    skipped = 0
    for entry in manifest["models"]:
        if names and entry["path"] not in names:
            continue
        if entry["refused"]:
            print(f"{entry['path']:<28} no graph: nothing to run")
            continue
        for engine, load in engines_of(entry).items():
            try:
                found = measure(load(entry), entry)
            except Skipped as reason:
                skipped += 1
                print(f"{entry['path']:<28} {engine:<12} skipped: {reason}")
                continue
            except Exception as error:  # every model is reported, whatever happens to one
                problems.append(f"{entry['path']}: {engine} failed: {error}")
                continue
            wrong = difference(entry, found)
            if wrong:
                problems.append(f"{entry['path']}: {engine}: {wrong}")
            metric = entry["metric"]["name"]
            print(f"{entry['path']:<28} {engine:<12} {metric} {found[metric]:.4f}  {wrong or 'as stated'}")
    for problem in problems:
        print(f"DIFFERS {problem}", file=sys.stderr)
    print(f"{len(problems)} problems, {skipped} skipped")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
