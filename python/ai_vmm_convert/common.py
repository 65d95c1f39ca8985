# SPDX-License-Identifier: Apache-2.0
"""What the converters share: naming of ports, and the proof that the converted graph computes the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import openvino as ov

from . import Refusal

EXPORT_ADVICE = "export the network with torch.export.export and torch.export.save, or with torch.onnx.export, and deploy that file"


def reason(error: BaseException, limit: int = 400) -> str:
    """The telling part of a converter's message: without stack traces and source paths."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Exception from", "File ", "at ", "~", "^"))]
    text = " ".join(lines) or type(error).__name__
    return re.sub(r"\S*/site-packages/\S*", "…", text)[:limit]


def to_openvino(network, **arguments) -> ov.Model:
    """ov.convert_model(); what it refuses becomes a Refusal."""
    try:
        return ov.convert_model(network, **arguments)
    except Exception as error:  # the converter raises many types
        raise Refusal("unimplemented", f"OpenVINO can't convert the network: {reason(error)}", EXPORT_ADVICE) from error


def name_ports(model: ov.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Gives the ports these names, in order; repeated names get a number."""
    for ports, names in ((model.inputs, inputs), (model.outputs, outputs)):
        if len(ports) != len(names):
            raise Refusal(
                "unimplemented",
                f"the converted network has {len(ports)} inputs or outputs where the file declares {len(names)}: {', '.join(names)}",
                "export the network so that every input and output is one tensor and every input is used",
            )
        taken: set[str] = set()
        for index, (port, name) in enumerate(zip(ports, names)):
            unique = name if name and name not in taken else f"{name or 'output'}_{index}"
            taken.add(unique)
            port.get_tensor().set_names({unique})
    for port in model.inputs:
        port.get_node().set_friendly_name(next(iter(port.get_names())))
    model.validate_nodes_and_infer_types()


def check_equal(model: ov.Model, inputs: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float = 2e-3) -> None:
    """Runs the converted graph in f32 and compares with what PyTorch computed. @raises Refusal if they differ."""
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"})
    results = list(compiled(list(inputs)).values())
    for port, got, wanted in zip(model.outputs, results, expected):
        name = next(iter(port.get_names()), "output")
        if got.shape != wanted.shape:
            raise Refusal("unimplemented", f"the converted network gives '{name}' the shape {list(got.shape)} where PyTorch gives {list(wanted.shape)}", EXPORT_ADVICE)
        if not wanted.size or wanted.dtype.kind != "f":
            continue
        worst = float(np.max(np.abs(got - wanted)) / (np.max(np.abs(wanted)) + 1e-6))
        if not worst <= tolerance:  # NaN fails too
            raise Refusal("unimplemented", f"the converted network differs from PyTorch in '{name}' by {worst:.2g} of its largest value", EXPORT_ADVICE)
