#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether a plan says the bytes that a deployment takes of a GPU: for each model what `vmm plan --dump` says before anything is loaded beside how much of the
device's memory is in use once the model is deployed and has run.

    bench/gpu_memory.py [--program build/bin/gpu_program] [--vmm build/bin/vmm] [--models A,B] [--precisions f16,f32] [--limit 0.02] [--output FILE]

Two comparisons, each of a process that does nothing else. `whole`: the model's bytes and the context's, which the plan of one process says, beside what
another process has taken when the model is deployed, against the device before. `model`: the model's bytes alone beside what a second deployment of the same
model takes in a process that has let go of the first: the context and what the libraries load once are there already. The exit status is 1 if either is off
by more than --limit and by a page or more: devices tell used memory in pages of 2 MiB, so that less can't be told. Models are those of bench/gpu.py. Needs torch, torchvision, transformers, onnx, and a GPU that nothing else uses.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings
from typing import Any

from gpu import about, build_models

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE_BYTES = 2 << 20
MODELS = "resnet50_b1,resnet50_b64,mobilenet_v3_b1,vit_b16_b32,swin_t_b1,bert_base_b1,bert_base_b32,whisper_tiny_encoder_b1,lstm_b8,dlrm_b2048,unet_b4"


def export(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes the model and its inputs as gpu_program reads them."""
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator can't be exported
    module, inputs, _ = build_models()[name]()
    path = folder / f"{name}.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, str(path), dynamo=False, opset_version=17)
    (folder / "shapes.txt").write_text("".join(" ".join(str(size) for size in one.shape) + "\n" for one in inputs))
    for index, one in enumerate(inputs):
        one.numpy().tofile(folder / f"in{index}.bin")
    return path


def answer(command: list[str]) -> Any:
    """What a program prints as JSON. Raises with its message if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError((result.stderr or result.stdout).strip()[-500:])
    return json.loads(result.stdout)


def planned(vmm: str, model: pathlib.Path, precision: str) -> dict[str, int]:
    """The memory that `vmm plan --dump` says, in a process of its own."""
    outlines = answer([vmm, "plan", str(model), "--dump", "--engine", "cuda", "--precision", precision, "--json"])["outlines"]
    found = [one for one in outlines if one["precision"] == precision and "memory" in one]
    if not found:
        raise RuntimeError(f"no plan in {precision}: {json.dumps(outlines)[:300]}")
    return found[0]["memory"]


def check(name: str, precision: str, model: pathlib.Path, options: argparse.Namespace) -> dict[str, Any]:
    """One model in one precision."""
    plan = planned(options.vmm, model, precision)
    used = answer([options.program, str(model), "--precision", precision, "--inputs", str(model.parent), "--memory"])
    process = used["opened"]["context_bytes"] + used["deployed"]["taken_bytes"]  # when nothing was allocated, and since then
    taken = used["again"]["taken_bytes"] - used["dropped"]["taken_bytes"]
    row = {"model": name, "precision": precision, "plan": plan, "measured": used,
           "model_bytes": {"planned": plan["device_bytes"], "taken": taken, "off_by": plan["device_bytes"] / taken - 1},
           "whole_bytes": {"planned": plan["device_bytes"] + plan["context_bytes"], "taken": process,
                           "off_by": (plan["device_bytes"] + plan["context_bytes"]) / process - 1}}  # fmt: skip
    row["right"] = all(abs(row[key]["off_by"]) <= options.limit or abs(row[key]["planned"] - row[key]["taken"]) < PAGE_BYTES
                       for key in ("model_bytes", "whole_bytes"))  # fmt: skip
    return row


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build" / "bin" / "gpu_program"))
    parser.add_argument("--vmm", default=str(ROOT / "build" / "bin" / "vmm"))
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--precisions", default="f16,f32")
    parser.add_argument("--limit", type=float, default=0.02)
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    report: dict[str, Any] = about() | {"limit": options.limit, "models": []}
    wrong = 0
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder_name:
            model = export(name, pathlib.Path(folder_name))
            for precision in options.precisions.split(","):
                try:
                    row = check(name, precision, model, options)
                    line = "  ".join(f"{title} {row[key]['planned'] / 2**20:.1f} MiB planned, {row[key]['taken'] / 2**20:.1f} taken ({100 * row[key]['off_by']:+.2f} %)"
                                     for title, key in (("model", "model_bytes"), ("whole", "whole_bytes")))  # fmt: skip
                    right = row["right"]
                except Exception as error:  # noqa: BLE001 - one model must not end the others
                    row = {"model": name, "precision": precision, "error": f"{type(error).__name__}: {str(error)[:500]}"}
                    line, right = f"ERROR {row['error']}", False
                report["models"].append(row)
                if options.output:  # as far as it got, whatever ends it
                    pathlib.Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
                wrong += not right
                print(f"{name:24} {precision}  {line}{'' if right else '  WRONG'}", flush=True)
    print(f"{len(report['models']) - wrong} of {len(report['models'])} passed: within {100 * options.limit:g} %")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
