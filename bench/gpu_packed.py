#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Products with weights of 8 and 4 bits, and products and convolutions of quantised values with quantised weights, beside PyTorch's in f16 on the same GPU
in one run.

    bench/gpu_packed.py [--program build/bin/gpu_program] [--size 4096] [--layers 2] [--rows 1,8,512]
                        [--convolutions 128x56x8,256x28x8,256x28x32,192x56x32/each] [--rounds N] [--output bench/results/gpu_packed.json]

A model is --layers products with a square matrix, ReLU between them. Forms: f16 (numbers), int8 (a scale per column), int4 (a scale per 32 neighbours along
k), each of which is DequantizeLinear on the weights, and qdq: int8 weights behind values that are quantised to 8 bits before each product. PyTorch multiplies
by the same numbers in f16 as a CUDA graph. Outputs are compared with a reference in double precision before anything is timed (relative error at most 1e-2);
then both are timed in turn. Medians with their spread; ratios above 1 favour AI VMM. The exit status is 1 if an output is wrong. Needs torch, onnx.

A stack of convolutions (CHANNELSxSIZExBATCH; with "/each" one filter for each channel) is four of 3x3, padded by 1, with a bias and ReLU behind each. Forms: f16, qdq (values quantised symmetrically to
i8) and qdq-u8 (to u8, from 0 where ReLU stands before, so that borders need a correction). The first layer of quantised ones runs in f32 too, where hardly a
value is rounded to the step beside its own (relative error at most 1e-3); in f16, and wherever a layer reads what was rounded so before, some are (3e-2). "integer_convolutions" counts the steps that convolve i8: where it is 0, cuDNN
has no engine for them, and what is timed are floats; what it says is in the log (AI_VMM_LOG=debug).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
import sys
import tempfile
from typing import Any

import numpy as np
from gpu import about, commit, graphed, program, relative_error, time_ms

ROOT = pathlib.Path(__file__).resolve().parent.parent
GROUP = 32  # of neighbours that share a scale in int4
LIMIT = 1e-2
EXACT_LIMIT, ROUNDED_LIMIT = 1e-3, 3e-2  # of quantised convolutions, in f32 and in f16
CONVOLUTIONS = 4


def quantised(form: str, size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Integers (k, n) and their scales: (n) or (k / GROUP, n). Their products keep the magnitude of what is multiplied."""
    levels = 7 if form == "int4" else 127
    integers = random.integers(-levels, levels + 1, (size, size)).astype(np.int8)
    shape = (size // GROUP, size) if form == "int4" else (size,)
    scales = (random.uniform(0.8, 1.2, shape) * 2.4 / (levels * size**0.5)).astype(np.float32)
    return integers, scales


def numbers(form: str, integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """What integers and scales stand for."""
    return (integers * (np.repeat(scales, GROUP, axis=0) if form == "int4" else scales)).astype(np.float32)


def make_model(form: str, rows: int, layers: list[tuple[np.ndarray, np.ndarray]], steps: list[float]) -> Any:
    """The ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    size = layers[0][0].shape[0]
    nodes, constants = [], []

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    value = "x"
    for at, (integers, scales) in enumerate(layers):
        if form == "qdq":
            step, zero = constant(f"step{at}", np.float32(steps[at])), constant(f"zero{at}", np.int8(0))
            nodes.append(helper.make_node("QuantizeLinear", [value, step, zero], [f"q{at}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{at}", step, zero], [f"d{at}"]))
            value = f"d{at}"
        if form == "f16":
            weights = constant(f"w{at}", numbers("int8", integers, scales))
        elif form == "int4":
            low = (integers.ravel()[0::2] & 15) | ((integers.ravel()[1::2] & 15) << 4)
            constants.append(helper.make_tensor(f"i{at}", TensorProto.INT4, integers.shape, low.astype(np.uint8).tobytes(), raw=True))
            nodes.append(helper.make_node("DequantizeLinear", [f"i{at}", constant(f"s{at}", scales)], [f"w{at}"], axis=0, block_size=GROUP))
            weights = f"w{at}"
        else:
            nodes.append(helper.make_node("DequantizeLinear", [constant(f"i{at}", integers), constant(f"s{at}", scales)], [f"w{at}"], axis=1))
            weights = f"w{at}"
        last = at + 1 == len(layers)
        nodes.append(helper.make_node("MatMul", [value, weights], ["y" if last else f"p{at}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"p{at}"], [f"r{at}"]))
            value = f"r{at}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, size]) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, form, ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def reference(form: str, x: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """The output in double precision, and the steps that values are quantised in."""
    value, steps = x.astype(np.float64), []
    for at, one in enumerate(weights):
        step = float(np.float32(np.abs(value).max() / 127))
        steps.append(step)
        if form == "qdq":
            value = np.clip(np.rint(value / step), -128, 127) * step
        value = value @ one.astype(np.float64)
        if at + 1 < len(weights):
            value = np.maximum(value, 0)
    return value, steps


def measure(form: str, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """One form: compared, then timed in turn with PyTorch's f16."""
    import onnx
    import torch

    random = np.random.default_rng(1)
    layers = [quantised(form, options.size, random) for _ in range(options.layers)]
    weights = [numbers("int8" if form in ("f16", "qdq") else form, *one) for one in layers]
    x = random.standard_normal((rows, options.size)).astype(np.float32)
    expected, steps = reference(form, x, weights)
    row: dict[str, Any] = {"form": form, "rows": rows}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = pathlib.Path(folder_name)
        onnx.save(make_model(form, rows, layers, steps), str(folder / "model.onnx"))
        (folder / "shapes.txt").write_text(f"{rows} {options.size}\n")
        x.tofile(folder / "in0.bin")
        answer = program(options.program, folder / "model.onnx", folder, "f16", options.repeats, ("--dump", str(folder / "schedule.txt")))
        row["relative_error"] = relative_error(np.fromfile(folder / "out_f16" / "out0.bin", dtype=np.float32).reshape(expected.shape), expected)
        row["weight_bytes"] = answer["weight_bytes"]
        row["integers"] = {"qdq": "i8[", "int8": "i8[", "int4": "i4["}.get(form, "f16[") in (folder / "schedule.txt").read_text()

        matrices = [torch.from_numpy(one).half().cuda() for one in weights]
        held = torch.from_numpy(x).half().cuda()

        def peer(value: Any) -> Any:
            for at, one in enumerate(matrices):
                value = value @ one
                if at + 1 < len(matrices):
                    value = torch.relu(value)
            return value

        if form != "qdq":  # whose values PyTorch does not quantise
            row["torch_relative_error"] = relative_error(peer(held).float().cpu().numpy(), expected)
        row["agrees"] = row["relative_error"] <= LIMIT and row.get("torch_relative_error", 0.0) <= LIMIT
        if not row["agrees"]:
            return row
        row |= in_turn(graphed(peer, (held,)), folder, options)
    return row


def in_turn(replay: Any, folder: pathlib.Path, options: argparse.Namespace) -> dict[str, Any]:
    """Times of folder/model.onnx in f16 and of PyTorch's graph."""
    import torch

    times: dict[str, list[float]] = {"torch_f16_graph": [], "ai_vmm": []}
    for _ in range(options.rounds):
        times["torch_f16_graph"].append(statistics.median(time_ms(replay, options.repeats)))
        torch.cuda.synchronize()
        times["ai_vmm"].append(program(options.program, folder / "model.onnx", folder, "f16", options.repeats)["device_ms"])
    us = {key: {"median": 1e3 * statistics.median(values), "low": 1e3 * min(values), "high": 1e3 * max(values)} for key, values in times.items()}
    return {"us": us, "ratio": us["torch_f16_graph"]["median"] / us["ai_vmm"]["median"]}


class Stack:
    """Convolutions, their reference in double precision on the GPU, and the ONNX model."""

    def __init__(self, form: str, channels: int, size: int, batch: int, each: bool, count: int = CONVOLUTIONS) -> None:
        random = np.random.default_rng(2)
        self.form, self.count, self.groups = form, count, channels if each else 1
        self.x = random.standard_normal((batch, channels, size, size)).astype(np.float32)
        shape = (CONVOLUTIONS, channels, channels // self.groups, 3, 3)
        self.integers = random.integers(-127, 128, shape).astype(np.int8)
        self.scales = (random.uniform(0.8, 1.2, shape[:2]) * 2.4 / (127 * (9 * channels / self.groups) ** 0.5)).astype(np.float32)
        self.weights = (self.integers * self.scales[:, :, None, None, None]).astype(np.float32)
        self.biases = random.uniform(-0.1, 0.1, shape[:2]).astype(np.float32)
        self.expected, self.steps = self.reference()

    def zero(self, layer: int) -> int:
        """The zero point of what a layer reads."""
        return 0 if self.form != "qdq-u8" or layer > 0 else 128

    def reference(self) -> tuple[np.ndarray, list[float]]:
        """The output, and the steps that values are quantised in."""
        import torch

        value, steps = torch.from_numpy(self.x).double().cuda(), []
        for at in range(self.count):
            zero, unsigned = self.zero(at), self.form == "qdq-u8"
            low, high = (-zero, 255 - zero) if unsigned else (-128, 127)
            step = float(np.float32(value.abs().max().item() / high))
            steps.append(step)
            if self.form != "f16":
                value = torch.clamp(torch.round(value / step), low, high) * step
            value = torch.nn.functional.conv2d(value, torch.from_numpy(self.weights[at]).double().cuda(), padding=1, groups=self.groups)
            value = torch.relu(value + torch.from_numpy(self.biases[at]).double().cuda()[None, :, None, None])
        return value.cpu().numpy(), steps

    def model(self) -> Any:
        """The ONNX model."""
        from onnx import TensorProto, helper, numpy_helper

        nodes, constants = [], []

        def constant(name: str, array: np.ndarray) -> str:
            constants.append(numpy_helper.from_array(array, name))
            return name

        value = "x"
        for at in range(self.count):
            if self.form == "f16":
                weights = constant(f"w{at}", self.weights[at])
            else:
                kind = np.uint8 if self.form == "qdq-u8" else np.int8
                step, zero = constant(f"step{at}", np.float32(self.steps[at])), constant(f"zero{at}", kind(self.zero(at)))
                nodes.append(helper.make_node("QuantizeLinear", [value, step, zero], [f"q{at}"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"q{at}", step, zero], [f"d{at}"]))
                of_weights = [constant(f"i{at}", self.integers[at]), constant(f"s{at}", self.scales[at])]
                nodes.append(helper.make_node("DequantizeLinear", of_weights, [f"w{at}"], axis=0))
                value, weights = f"d{at}", f"w{at}"
            nodes.append(helper.make_node("Conv", [value, weights, constant(f"b{at}", self.biases[at])], [f"c{at}"], pads=[1, 1, 1, 1], group=self.groups))
            value = "y" if at + 1 == self.count else f"r{at}"
            nodes.append(helper.make_node("Relu", [f"c{at}"], [value]))
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(self.x.shape)) for name in ("x", "y")]
        return helper.make_model(helper.make_graph(nodes, "stack", ends[:1], ends[1:], constants), opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    def peer(self) -> tuple[Any, Any]:
        """PyTorch's, in f16 without quantisation, and what it reads."""
        import torch

        def held(array: np.ndarray) -> Any:
            tensor = torch.from_numpy(array).half().cuda()
            return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

        layers = [(held(self.weights[at]), held(self.biases[at])) for at in range(self.count)]

        def run(value: Any) -> Any:
            for weights, bias in layers:
                value = torch.relu_(torch.nn.functional.conv2d(value, weights, bias, padding=1, groups=self.groups))
            return value

        return run, held(self.x)


def measure_stack(form: str, text: str, options: argparse.Namespace) -> dict[str, Any]:
    """One form of a stack of convolutions: compared, then timed in turn with PyTorch's f16."""
    import onnx

    sizes, _, each = text.partition("/")
    channels, size, batch = (int(part) for part in sizes.split("x"))
    stack = Stack(form, channels, size, batch, each == "each")
    row: dict[str, Any] = {"form": form, "channels": channels, "size": size, "batch": batch, "groups": stack.groups}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = pathlib.Path(folder_name)
        (folder / "shapes.txt").write_text(f"{batch} {channels} {size} {size}\n")
        stack.x.tofile(folder / "in0.bin")

        def error_of(what: Stack, precision: str, *extra: str) -> float:
            model = folder / ("model.onnx" if what is stack else "first.onnx")
            onnx.save(what.model(), str(model))
            program(options.program, model, folder, precision, 1 if precision == "f32" else options.repeats, extra)
            found = np.fromfile(folder / f"out_{precision}" / "out0.bin", dtype=np.float32).reshape(what.expected.shape)
            return relative_error(found, what.expected)

        row["relative_error"] = error_of(stack, "f16", "--dump", str(folder / "schedule.txt"))
        _, _, steps = (folder / "schedule.txt").read_text().partition("\nrun:")
        row["integer_convolutions"] = len(re.findall(r"i8\[\d+,\d+,3,3\]", steps))  # steps that read such weights
        run, held = stack.peer()
        if form == "f16":
            row["torch_relative_error"] = relative_error(run(held).float().cpu().numpy(), stack.expected)
            row["agrees"] = max(row["relative_error"], row["torch_relative_error"]) <= LIMIT
        else:
            row["f32_relative_error"] = error_of(Stack(form, channels, size, batch, each == "each", 1), "f32")
            row["agrees"] = row["relative_error"] <= ROUNDED_LIMIT and row["f32_relative_error"] <= EXACT_LIMIT
        if row["agrees"]:
            row |= in_turn(graphed(run, (held,)), folder, options)
    return row


def tell(title: str, row: dict[str, Any]) -> None:
    """A line for one form."""
    told = f"error {row['relative_error']:.1e}" if "relative_error" in row else row["error"]
    if "f32_relative_error" in row:
        told += f" (first layer in f32: {row['f32_relative_error']:.1e})"
    if "weight_bytes" in row:
        told = f"weights {row['weight_bytes'] / 2**20:.1f} MiB, {told}"
    if "integer_convolutions" in row:
        told = f"{row['integer_convolutions']} of {CONVOLUTIONS} convolutions in integers, {told}"
    if "us" in row:
        told = f"{row['us']['ai_vmm']['median']:.1f} us, PyTorch f16 {row['us']['torch_f16_graph']['median']:.1f} ({row['ratio']:.2f}x), {told}"
    print(f"{title} {row['form']:6} {told}{'' if row['agrees'] else '  WRONG'}", flush=True)


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build" / "bin" / "gpu_program"))
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rows", default="1,8,512", help="of products; empty: none")
    parser.add_argument("--convolutions", default="128x56x8,256x28x8,256x28x32,192x56x32/each", help="CHANNELSxSIZExBATCH, with /each for a filter for each channel; empty: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    import torch

    result: dict[str, Any] = {"device": torch.cuda.get_device_name(), "driver": about()["driver"], "torch": torch.__version__, "commit": commit(),
                              "size": options.size, "layers": options.layers, "products": [], "convolutions": []}  # fmt: skip
    wrong = False

    def add(kind: str, title: str, known: dict[str, Any], measured: Any) -> None:
        nonlocal wrong
        try:
            row = measured()
        except Exception as error:  # noqa: BLE001 - one form must not end the others
            row = known | {"error": f"{type(error).__name__}: {str(error)[:500]}", "agrees": False}
        result[kind].append(row)
        wrong = wrong or not row["agrees"]
        tell(title, row)
        if options.output:
            pathlib.Path(options.output).write_text(json.dumps(result, indent=1) + "\n")

    for rows in (int(text) for text in options.rows.split(",") if text):
        for form in ("f16", "int8", "int4", "qdq"):
            if (form == "qdq") != (rows > 8) and form != "f16":
                continue  # weights of few rows stay packed, products of many are of integers
            add("products", f"{rows:4} rows", {"form": form, "rows": rows}, lambda form=form, rows=rows: measure(form, rows, options))
    torch.backends.cudnn.benchmark = True
    for text in (text for text in options.convolutions.split(",") if text):
        for form in ("f16", "qdq", "qdq-u8"):
            add("convolutions", f"{text:10}", {"form": form, "stack": text}, lambda form=form, text=text: measure_stack(form, text, options))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
