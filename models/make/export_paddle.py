# SPDX-License-Identifier: Apache-2.0
"""The CNN, same weights, as a Paddle inference model: digits_cnn.pdmodel and digits_cnn.pdiparams."""

import os
import pathlib

os.environ["FLAGS_enable_pir_api"] = "0"  # the program format that OpenVINO reads

import numpy as np  # noqa: E402
import paddle  # noqa: E402
from paddle.base.proto import framework_pb2  # noqa: E402

from checkpoints import cnn_weights  # noqa: E402
from common import MODELS, seed_everything  # noqa: E402


class DigitsCnn(paddle.nn.Layer):
    """The network of nets.DigitsCnn after folding."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.mean = float(weights["mean"])
        self.std = float(weights["std"])
        self.convolutions = paddle.nn.LayerList([paddle.nn.Conv2D(i, o, 3, padding=1) for i, o in ((1, 16), (16, 32), (32, 32))])
        self.pool = paddle.nn.MaxPool2D(2)
        self.classifier = paddle.nn.Linear(32, 10)
        for i, convolution in enumerate(self.convolutions):
            convolution.weight.set_value(weights[f"conv{i}.weight"])
            convolution.bias.set_value(weights[f"conv{i}.bias"])
        self.classifier.weight.set_value(np.ascontiguousarray(weights["linear.weight"].T))
        self.classifier.bias.set_value(weights["linear.bias"])

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        x = (image - self.mean) / self.std
        for i, convolution in enumerate(self.convolutions):
            x = paddle.nn.functional.relu(convolution(x))
            if i == 1:
                x = self.pool(x)
        return self.classifier(paddle.mean(x, axis=[2, 3]))


def drop_call_stacks(path: pathlib.Path) -> None:
    """Removes the source lines that Paddle notes for every operator: they name files of the machine that made the model."""
    program = framework_pb2.ProgramDesc.FromString(path.read_bytes())
    for block in program.blocks:
        for op in block.ops:
            kept = [attribute for attribute in op.attrs if attribute.name != "op_callstack"]
            del op.attrs[:]
            op.attrs.extend(kept)
    path.write_bytes(program.SerializeToString(deterministic=True))


def main() -> None:
    seed_everything()
    net = DigitsCnn(cnn_weights())
    net.eval()
    spec = [paddle.static.InputSpec([None, 1, 8, 8], "float32", "image")]
    paddle.jit.save(net, str(MODELS / "digits_cnn"), input_spec=spec)
    drop_call_stacks(MODELS / "digits_cnn.pdmodel")
    (MODELS / "digits_cnn.pdiparams.info").unlink(missing_ok=True)  # only for further training


if __name__ == "__main__":
    main()
