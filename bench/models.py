# SPDX-License-Identifier: Apache-2.0
"""Which models the benchmarks run on: the bundled ones, and the real ones where their folder is there."""

from __future__ import annotations

import json
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
REAL = pathlib.Path(os.environ.get("AI_VMM_TEST_MODELS", ROOT.parent / "shared" / "models"))

# Files of the real models that an engine can read; the manifest beside them says what they are.
REAL_FILES = [
    "audio/basic_pitch.onnx", "audio/basic_pitch.tflite", "audio/basic_pitch_tf", "content/magika_v3_3.onnx",
    "science/hello_world_float.tflite", "science/mlperf_ad01_fp32.tflite", "science/mlperf_ad01_int8.tflite", "science/tiny_time_mixer.onnx",
    "speech/kws_ref_model", "speech/micro_speech_quantized.tflite", "speech/mlperf_sww.tflite", "speech/mnist_lstm.tflite",
    "speech/silero_vad.onnx", "speech/silero_vad_16k_op15.onnx", "speech/silero_vad_openvino_16k.onnx",
    "vision/mlperf_resnet8.tflite", "vision/mlperf_resnet8_int8.tflite", "vision/mlperf_vww_float.tflite", "vision/mlperf_vww_int8.tflite",
    "vision/mobilenet_v2_int8.tflite", "vision/person_detect.tflite",
]  # fmt: skip

# Shapes of inputs that a file leaves free, as its authors use it.
SHAPES: dict[str, list[str]] = {
    "speech/silero_vad_16k_op15.onnx": ["input=1x576", "state=2x1x128"],
}

DIRECT = {"onnx", "openvino_ir", "tensorflow_saved_model", "tensorflow_frozen", "tflite", "paddle"}


def bundled() -> list[pathlib.Path]:
    """Bundled models that need no conversion environment."""
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text())
    entries = manifest["models"] if isinstance(manifest, dict) else manifest
    return [ROOT / "models" / entry["path"] for entry in entries if entry["format"] in DIRECT and not entry.get("refused")]


def real() -> list[pathlib.Path]:
    """Real models that are there."""
    return [REAL / name for name in REAL_FILES if (REAL / name).exists()]


def label(path: pathlib.Path) -> str:
    """Name in tables and results."""
    for base in (REAL, ROOT / "models"):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def shape_options(path: pathlib.Path) -> list[str]:
    """Options of `vmm` for the free shapes of a model."""
    return [option for shape in SHAPES.get(label(path), []) for option in ("--shape", shape)]
