# SPDX-License-Identifier: Apache-2.0
"""Hugging Face directories: encoders, classifiers and sentence encoders. Networks that generate text go another way."""

from __future__ import annotations

import inspect
import json
import pathlib

import numpy as np
import torch
import transformers

from . import Refusal
from .common import check_equal, name_ports, reason, to_openvino
from .sentence import SentenceHead, load_sentence_head

# Suffix of the architecture in config.json -> loader. What is in none of them is refused.
HEADS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModel",
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
    "ForAudioFrameClassification": "AutoModelForAudioFrameClassification",
    "ForCTC": "AutoModelForCTC",
    "ForAudioClassification": "AutoModelForAudioClassification",
    "Model": "AutoModel",
}
GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSpeechSeq2Seq", "ForVision2Seq", "EncoderDecoderModel")


def load_network(path: pathlib.Path) -> torch.nn.Module:
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise Refusal("unimplemented", f"transformers {transformers.__version__} can't read config.json: {reason(error)}", "networks that need code of their own aren't run") from error
    architecture = (config.architectures or [""])[0]
    if architecture.endswith(GENERATIVE) or getattr(config, "is_encoder_decoder", False):
        raise Refusal(
            "unimplemented",
            f"{architecture or config.model_type} generates; only encoders, classifiers and embedding networks are converted from a Hugging Face directory",
            "give the network as GGUF, or as OpenVINO IR that `optimum-cli export openvino` writes",
        )
    loader = next((auto for suffix, auto in HEADS.items() if architecture.endswith(suffix)), None)
    if architecture and loader is None:
        raise Refusal("unimplemented", f"networks of the architecture {architecture} aren't converted", "export the network with torch.onnx.export and deploy the ONNX file")
    try:
        network = getattr(transformers, loader or "AutoModel").from_pretrained(
            path, config=config, local_files_only=True, trust_remote_code=False, weights_only=True, dtype=torch.float32, attn_implementation="eager"
        )
    except Refusal:
        raise
    except Exception as error:
        raise Refusal("invalid_argument", f"the weights of the Hugging Face directory can't be loaded: {reason(error)}", "get config.json and the weights again, from the same place") from error
    network = network.eval()
    network.config.use_cache = False
    network.config.return_dict = True
    return network


def _text_inputs(network: torch.nn.Module, batch: int, length: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    config = network.config.get_text_config()
    accepted = inspect.signature(network.forward).parameters
    mask = torch.ones(batch, length, dtype=torch.int64)
    if batch > 1:
        mask[-1, length // 2 :] = 0  # padding must be seen at work
    inputs = {"input_ids": torch.randint(0, config.vocab_size, (batch, length), generator=generator), "attention_mask": mask}
    pad = getattr(config, "pad_token_id", None)
    if pad is not None and 0 <= pad < config.vocab_size:
        inputs["input_ids"][inputs["input_ids"] == pad] = (pad + 1) % config.vocab_size
        inputs["input_ids"][mask == 0] = pad
    if "token_type_ids" in accepted and getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.zeros(batch, length, dtype=torch.int64)
    return {name: value for name, value in inputs.items() if name in accepted}


def example_inputs(network: torch.nn.Module, batch: int, length: int) -> tuple[dict[str, torch.Tensor], dict[str, list[int]]]:
    """Inputs of fitting types and shapes, and per input its shape with -1 for what may vary."""
    config, main = network.config, network.main_input_name
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    if main == "input_ids":
        inputs = _text_inputs(network, batch, length)
        return inputs, {name: [-1, -1] for name in inputs}
    if main == "pixel_values":
        size = config.image_size if hasattr(config, "image_size") else 224
        height, width = (size, size) if isinstance(size, int) else (tuple(size.values()) if isinstance(size, dict) else tuple(size))[:2]
        channels = getattr(config, "num_channels", 3)
        return {main: torch.rand(batch, channels, height, width, generator=generator) * 2 - 1}, {main: [-1, channels, height, width]}
    if main == "input_values" and hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):  # spectrogram transformers
        shape = [config.max_length, config.num_mel_bins]
        return {main: torch.randn(batch, *shape, generator=generator)}, {main: [-1, *shape]}
    if main == "input_values":
        return {main: torch.randn(batch, 1600 * length, generator=generator)}, {main: [-1, -1]}
    raise Refusal("unimplemented", f"networks whose main input is '{main}' aren't converted", "export the network with torch.onnx.export and deploy the ONNX file")


class Flat(torch.nn.Module):
    """The network with its inputs by position and its tensors as a tuple, in the order of `outputs`; a sentence head adds its output."""

    def __init__(self, network: torch.nn.Module, inputs: list[str], outputs: list[str], head: SentenceHead | None) -> None:
        super().__init__()
        self.network, self.names, self.outputs, self.head = network, inputs, outputs, head

    def forward(self, *values):
        named = dict(zip(self.names, values))
        result = self.network(**named)
        tensors = [result[name] for name in self.outputs]
        if self.head is not None:
            tensors.append(self.head(result["last_hidden_state"], named["attention_mask"]))
        return tuple(tensors)


def convert_directory(path: pathlib.Path):
    network = load_network(path)
    notes: list[str] = []
    inputs, shapes = example_inputs(network, 2, 8)
    with torch.no_grad():
        result = network(**inputs)
    outputs = [name for name, value in result.items() if isinstance(value, torch.Tensor) and name != "loss"]
    if not outputs:
        raise Refusal("unimplemented", "the network gives no tensors")
    head = None
    if (path / "modules.json").is_file():
        head, note = load_sentence_head(path)
        if head is not None and "last_hidden_state" not in outputs:
            head, note = None, "no sentence_embedding: the network gives no last_hidden_state"
        if note:
            notes.append(note)
    flat = Flat(network, list(inputs), outputs, head).eval()
    with torch.no_grad():
        model = to_openvino(flat, example_input=tuple(inputs.values()))
        name_ports(model, list(inputs), outputs + (["sentence_embedding"] if head is not None else []))
        model.reshape({name: shape for name, shape in shapes.items()})
        # At other sizes than those it was traced with.
        other, _ = example_inputs(network, 3, 13)
        expected = [value.numpy() for value in flat(*other.values())]
    check_equal(model, [np.ascontiguousarray(value.numpy()) for value in other.values()], expected)
    labels = getattr(network.config, "id2label", None)
    if labels and "logits" in outputs:
        model.set_rt_info(json.dumps({str(key): value for key, value in labels.items()}), ["ai_vmm", "id2label"])
    return model, notes
