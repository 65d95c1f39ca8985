# SPDX-License-Identifier: Apache-2.0
"""ONNX to OpenVINO IR: f32 and f16 of the CNN and the vision transformer, int8 of the CNN (post-training quantisation by NNCF)."""

import logging

import nncf
import numpy as np
import openvino as ov

from checkpoints import training_inputs
from common import MODELS, seed_everything


def save(model: ov.Model, stem: str, half: bool) -> None:
    """<stem>.xml and <stem>.bin without notes about how they were made."""
    for key in list(model.get_rt_info()):
        del model.rt_info[key]
    ov.save_model(model, MODELS / f"{stem}.xml", compress_to_fp16=half)


def main() -> None:
    logging.disable(logging.WARNING)
    seed_everything()
    core = ov.Core()
    for name in ("digits_cnn", "digits_vit"):
        save(core.read_model(MODELS / f"{name}.onnx"), name, half=False)
        save(core.read_model(MODELS / f"{name}.onnx"), f"{name}.f16", half=True)
    images = [part for part in np.split(training_inputs("digits_cnn", 512), 16)]
    quantized = nncf.quantize(core.read_model(MODELS / "digits_cnn.onnx"), nncf.Dataset(images), subset_size=len(images), preset=nncf.QuantizationPreset.MIXED)
    save(quantized, "digits_cnn.int8", half=False)


if __name__ == "__main__":
    main()
