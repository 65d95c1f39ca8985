# SPDX-License-Identifier: Apache-2.0
"""Checkpoints to ONNX: f32 for every network, then int8 (quantise/dequantise pairs), f16 and external data variants."""

import logging
import pathlib
import tempfile
import warnings

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn

from checkpoints import INPUT_NAMES, OUTPUT_NAMES, example_input, load_net, training_inputs
from common import MODELS, seed_everything

OPSET = 18


def clean(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Drops what the exporter noted about the source code, and names the graph."""
    model.graph.name = name
    model.graph.doc_string = ""
    del model.metadata_props[:]
    for holder in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer, model.graph]:
        holder.doc_string = ""
        del holder.metadata_props[:]
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def export(net: nn.Module, inputs: tuple[Tensor, ...], input_names: list[str], output_name: str, axes: dict[int, str], dynamo: bool = True) -> onnx.ModelProto:
    """One network as a ModelProto; `axes`: the free dimensions of every input."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = pathlib.Path(folder) / "model.onnx"
        options = {"input_names": input_names, "output_names": [output_name], "opset_version": OPSET}
        if dynamo:
            dimensions = {index: torch.export.Dim(name, min=1) for index, name in axes.items()}
            torch.onnx.export(net, inputs, file, dynamo=True, dynamic_shapes=tuple(dict(dimensions) for _ in inputs), external_data=False, verbose=False, **options)
        else:
            torch.onnx.export(net, inputs, file, dynamo=False, dynamic_axes={**dict.fromkeys(input_names, axes), output_name: {0: axes[0]}}, **options)
        return onnx.load(file)


class Samples(CalibrationDataReader):
    """Training samples in batches of 32."""

    def __init__(self, name: str, count: int) -> None:
        self.batches = iter([{INPUT_NAMES[name]: part} for part in np.split(training_inputs(name, count), count // 32)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize(name: str) -> None:
    """<name>.int8.onnx: 8-bit activations, signed 8-bit weights per channel, calibrated on 512 training samples."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        quant_pre_process(str(MODELS / f"{name}.onnx"), str(prepared), skip_symbolic_shape=True)
        target = MODELS / f"{name}.int8.onnx"
        quantize_static(
            str(prepared),
            str(target),
            Samples(name, 512),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # 7-bit weights: no saturation on processors without VNNI, so the same answers everywhere
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "ReduceMean"],
        )
        onnx.save(clean(onnx.load(target), f"{name}_int8"), target)


def export_bert() -> None:
    """docstring_bert.onnx from the Hugging Face directory: input_ids, attention_mask i64 [N,S] -> logits f32 [N,3]."""
    from transformers import BertForSequenceClassification

    bert = BertForSequenceClassification.from_pretrained(MODELS / "docstring_bert", attn_implementation="eager").eval()

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.full((2, 7), 5)
    model = export(Classifier().eval(), (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"], "logits", {0: "batch", 1: "sequence"})
    onnx.save(clean(model, "docstring_bert"), MODELS / "docstring_bert.onnx")


def main() -> None:
    logging.disable(logging.WARNING)
    seed_everything()
    for name, input_name in INPUT_NAMES.items():
        # The older exporter writes a recurrent layer as one LSTM node without slicing its weights at run time.
        model = export(load_net(name), (example_input(name),), [input_name], OUTPUT_NAMES[name], {0: "batch"}, dynamo=name != "digits_lstm")
        onnx.save(clean(model, name), MODELS / f"{name}.onnx")
    export_bert()
    quantize("digits_cnn")
    half = OnnxModel(convert_float_to_float16(onnx.load(MODELS / "digits_vit.onnx"), keep_io_types=True))
    half.topological_sort()  # the converter appends its casts at the end
    onnx.save(clean(half.model, "digits_vit_f16"), MODELS / "digits_vit.f16.onnx")
    external = MODELS / "digits_cnn.external.onnx"
    weights = external.with_name(external.name + ".data")
    weights.unlink(missing_ok=True)  # onnx appends to an existing file
    onnx.save(onnx.load(MODELS / "digits_cnn.onnx"), external, save_as_external_data=True, location=weights.name, size_threshold=64)


if __name__ == "__main__":
    main()
