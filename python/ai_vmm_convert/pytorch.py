# SPDX-License-Identifier: Apache-2.0
"""TorchScript and torch.export programs."""

from __future__ import annotations

import pathlib

import openvino as ov
import torch

from . import Refusal
from .common import EXPORT_ADVICE, check_equal, name_ports, reason, to_openvino


OV_TYPES = {
    torch.float32: ov.Type.f32,
    torch.float64: ov.Type.f64,
    torch.float16: ov.Type.f16,
    torch.bfloat16: ov.Type.bf16,
    torch.int64: ov.Type.i64,
    torch.int32: ov.Type.i32,
    torch.int16: ov.Type.i16,
    torch.int8: ov.Type.i8,
    torch.uint8: ov.Type.u8,
    torch.bool: ov.Type.boolean,
}


def _traced_types(path: pathlib.Path) -> list[tuple[torch.dtype, list[int]] | None]:
    """Types and shapes of the inputs that the network was traced with, where the file keeps them."""
    try:
        graph = torch.jit.load(str(path), map_location="cpu", _restore_shapes=True).eval().inlined_graph
        found = []
        for value in list(graph.inputs())[1:]:
            type_ = value.type()
            known = type_.kind() == "TensorType" and type_.dtype() is not None and type_.sizes() is not None
            found.append((type_.dtype(), list(type_.sizes())) if known else None)
        return found
    except Exception:  # only a help: without it inputs stay open
        return []


def _settle_types(model: ov.Model, traced: list[tuple[torch.dtype, list[int]] | None]) -> None:
    """Gives every input an element type and, where it is known, a rank."""
    open_ports = []
    for index, port in enumerate(model.inputs):
        node = port.get_node()
        known = traced[index] if index < len(traced) and len(traced) == len(model.inputs) else None
        if known is not None and port.get_partial_shape().rank.is_dynamic:
            node.set_partial_shape(ov.PartialShape([-1] * len(known[1])))
        if port.get_element_type().is_dynamic():
            if known is not None and known[0] in OV_TYPES:
                node.set_element_type(OV_TYPES[known[0]])
            else:
                open_ports.append(node)
    # Nothing tells: floating point, or else indices, whichever the operations take.
    for type_ in (ov.Type.f32, ov.Type.i64):
        for node in open_ports:
            node.set_element_type(type_)
        try:
            model.validate_nodes_and_infer_types()
            return
        except Exception as error:
            last = error
    raise Refusal("unimplemented", f"the element types of the inputs can't be told: {reason(last)}", EXPORT_ADVICE)


def convert_torchscript(path: pathlib.Path):
    """Inputs are called as the arguments of forward(), outputs output_0, output_1, …: TorchScript doesn't name them."""
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval().float()
    except Exception as error:
        raise Refusal("invalid_argument", f"PyTorch can't load the TorchScript file: {reason(error)}", "save it again with torch.jit.save") from error
    schema = network.forward.schema
    names = [argument.name for argument in schema.arguments[1:]]
    odd = [argument.name for argument in schema.arguments[1:] if argument.type.kind() != "TensorType" and not argument.has_default_value()]
    if odd:
        raise Refusal("unimplemented", f"argument '{odd[0]}' of forward() is no tensor", EXPORT_ADVICE)
    model = to_openvino(network)
    if len(model.inputs) < len(names):  # arguments with defaults that the converter folded
        tensors = [argument.name for argument in schema.arguments[1:] if not argument.has_default_value()]
        names = tensors if len(tensors) == len(model.inputs) else names
    name_ports(model, names, [f"output_{index}" for index in range(len(model.outputs))])
    traced = _traced_types(path)
    _settle_types(model, traced)
    if len(traced) == len(model.inputs) and all(known is not None and known[0] == torch.float32 for known in traced):
        example = [torch.rand(known[1], generator=torch.Generator().manual_seed(0)) for known in traced]
        _check(model, network, example)
    return model, []


def _flat_tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in _flat_tensors(item)] if isinstance(value, (list, tuple)) else []


def _check(model: ov.Model, network, tensors: list[torch.Tensor], arguments=None) -> None:
    """Compares the graph with the network on these inputs; `arguments` is (args, kwargs) where they differ from the tensors in a row."""
    args, kwargs = arguments if arguments is not None else (tensors, {})
    with torch.no_grad():
        expected = [tensor.detach().numpy() for tensor in _flat_tensors(network(*args, **kwargs))]
    check_equal(model, [tensor.detach().contiguous().numpy() for tensor in tensors], expected)


def convert_exported(path: pathlib.Path):
    """Inputs and outputs carry the names of the program's signature."""
    try:
        program = torch.export.load(str(path))
    except Exception as error:
        raise Refusal(
            "invalid_argument", f"PyTorch {torch.__version__.split('+')[0]} can't load the exported program: {reason(error)}", "save it again with torch.export.save of this version"
        ) from error
    signature = program.graph_signature
    inputs = [name for name in signature.user_inputs if isinstance(name, str)]
    outputs = [str(name) for name in signature.user_outputs]
    model = to_openvino(program)
    name_ports(model, inputs, outputs)
    # The converter leaves every size open; the program says which may vary.
    sizes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)}
    model.reshape({port: [size if isinstance(size, int) else -1 for size in sizes[name]] for port, name in zip(model.inputs, inputs) if name in sizes})
    example = _flat_tensors(program.example_inputs)
    if len(example) == len(model.inputs):
        _check(model, program.module(), example, program.example_inputs)
    return model, []
