# SPDX-License-Identifier: Apache-2.0
"""Trained networks from .cache/, ready for export, and their example inputs."""

import numpy as np
import torch
from torch import Tensor, nn

import nets
from common import CACHE, DATA

INPUT_NAMES = {
    "digits_cnn": "image",
    "digits_vit": "image",
    "digits_lstm": "image",
    "wine_mlp": "features",
    "breast_cancer_mlp": "features",
    "diabetes_mlp": "features",
    "recommender": "ids",
}
OUTPUT_NAMES = {name: "progression" if name == "diabetes_mlp" else "logits" for name in INPUT_NAMES}
DATA_NAMES = {
    "digits_cnn": "digits",
    "digits_vit": "digits",
    "digits_lstm": "digits",
    "wine_mlp": "wine",
    "breast_cancer_mlp": "breast_cancer",
    "diabetes_mlp": "diabetes",
    "recommender": "recommender",
}


def make_net(name: str) -> nn.Module:
    """The network of that name with unset weights."""
    if name == "digits_cnn":
        return nets.DigitsCnn(0.0, 1.0)
    if name == "digits_vit":
        return nets.DigitsVit(0.0, 1.0)
    if name == "digits_lstm":
        return nets.DigitsLstm(0.0, 1.0)
    if name == "wine_mlp":
        return nets.TabularMlp(torch.zeros(13), torch.ones(13), classes=3)
    if name == "breast_cancer_mlp":
        return nets.TabularMlp(torch.zeros(30), torch.ones(30), classes=2)
    if name == "diabetes_mlp":
        return nets.DiabetesMlp(torch.zeros(10), torch.ones(10), 0.0, 1.0)
    return nets.Recommender()


def load_net(name: str, fold: bool = True) -> nn.Module:
    """The trained network in inference mode; `fold`: batch normalisation folded into the convolutions."""
    net = make_net(name)
    net.load_state_dict(torch.load(CACHE / f"{name}.pth", weights_only=True))
    net.eval().requires_grad_(False)
    return net.fold_batch_norm() if fold and isinstance(net, nets.DigitsCnn) else net


def training_inputs(name: str, count: int) -> np.ndarray:
    """The first `count` training samples: for calibration and as example inputs."""
    with np.load(CACHE / f"{DATA_NAMES[name]}_train.npz") as file:
        return file[INPUT_NAMES[name]][:count]


def example_input(name: str) -> Tensor:
    """Two training samples: exporters take a batch of 1 for a constant."""
    return torch.from_numpy(training_inputs(name, 2))


def cnn_weights() -> dict[str, np.ndarray]:
    """The CNN with folded batch normalisation as arrays: mean, std, and for i in 0..2 conv<i>.weight [O,I,3,3], conv<i>.bias; linear.weight [10,32], linear.bias."""
    net = load_net("digits_cnn")
    weights = {"mean": net.normalize.mean, "std": net.normalize.std, "linear.weight": net.classifier.weight, "linear.bias": net.classifier.bias}
    for i, conv in enumerate(layer for layer in net.features if isinstance(layer, nn.Conv2d)):
        weights |= {f"conv{i}.weight": conv.weight, f"conv{i}.bias": conv.bias}
    return {key: value.detach().numpy() for key, value in weights.items()}
