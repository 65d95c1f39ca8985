# SPDX-License-Identifier: Apache-2.0
"""Trains the networks on .cache/<set>_train.npz and writes checkpoints to .cache/.

The number of epochs is fixed beforehand; the test sets are read once, after training, to print the metric.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import nets
from common import CACHE, DATA, MODELS, seed_everything

HUGGINGFACE = MODELS / "docstring_bert"


def load(path: Any) -> dict[str, Tensor]:
    """Arrays of an .npz as tensors."""
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def shift(images: Tensor) -> Tensor:
    """Every image moved by -1, 0 or 1 pixels in both directions, one draw per batch."""
    dy, dx = (int(v) for v in torch.randint(-1, 2, (2,)))
    return functional.pad(images, (1, 1, 1, 1))[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]


def fit(
    net: nn.Module,
    inputs: list[Tensor],
    labels: Tensor,
    epochs: int,
    rate: float,
    weight_decay: float = 1e-4,
    batch: int = 64,
    augment: Callable[[Tensor], Tensor] | None = None,
    call: Callable[..., Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> nn.Module:
    """AdamW with a one-cycle rate; returns the network in inference mode."""
    call = call or net
    loss = loss or nn.CrossEntropyLoss(label_smoothing=0.05)
    steps = epochs * ((len(labels) + batch - 1) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(batch):
            chosen = [tensor[rows] for tensor in inputs]
            if augment is not None:
                chosen[0] = augment(chosen[0])
            optimizer.zero_grad()
            loss(call(*chosen), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def report(name: str, predicted: Tensor, labels: Tensor) -> None:
    """Prints the metric on the test set."""
    if labels.dtype == torch.int64:
        right = int((predicted.argmax(-1) == labels).sum())
        print(f"{name}: accuracy {right / len(labels):.4f} ({right}/{len(labels)})")
    else:
        r2 = 1 - float(((predicted - labels) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())
        print(f"{name}: R2 {r2:.4f}")


def train_digits(name: str) -> None:
    data, test = load(CACHE / "digits_train.npz"), load(DATA / "digits_test.npz")
    mean, std = float(data["image"].mean()), float(data["image"].std())
    seed_everything()
    if name == "digits_cnn":
        net = fit(nets.DigitsCnn(mean, std), [data["image"]], data["label"], epochs=25, rate=5e-3, augment=shift)
    elif name == "digits_vit":
        net = fit(nets.DigitsVit(mean, std), [data["image"]], data["label"], epochs=80, rate=3e-3, weight_decay=0.05, augment=shift)
    else:
        net = fit(nets.DigitsLstm(mean, std), [data["image"]], data["label"], epochs=50, rate=1e-2)
    finish(name, net, [test["image"]], test["label"])


def train_tabular(name: str, batch: int) -> None:
    data, test = load(CACHE / f"{name}_train.npz"), load(DATA / f"{name}_test.npz")
    seed_everything()
    net = nets.TabularMlp(data["features"].mean(0), data["features"].std(0), classes=int(data["label"].max()) + 1)
    fit(net, [data["features"]], data["label"], epochs=60, rate=1e-2, weight_decay=1e-2, batch=batch)
    finish(f"{name}_mlp", net, [test["features"]], test["label"])


def train_diabetes() -> None:
    data, test = load(CACHE / "diabetes_train.npz"), load(DATA / "diabetes_test.npz")
    seed_everything()
    label_mean, label_std = float(data["label"].mean()), float(data["label"].std())
    net = nets.DiabetesMlp(data["features"].mean(0), data["features"].std(0), label_mean, label_std)

    def scaled_error(predicted: Tensor, wanted: Tensor) -> Tensor:
        return functional.mse_loss(predicted / label_std, wanted / label_std)

    fit(net, [data["features"]], data["label"], epochs=60, rate=5e-3, weight_decay=0.1, batch=32, loss=scaled_error)
    finish("diabetes_mlp", net, [test["features"]], test["label"])


def train_recommender() -> None:
    data, test = load(CACHE / "recommender_train.npz"), load(DATA / "recommender_test.npz")
    seed_everything()
    net = fit(nets.Recommender(), [data["ids"]], data["label"], epochs=40, rate=5e-3, weight_decay=0.05, batch=32)
    finish("recommender", net, [test["ids"]], test["label"])


def finish(name: str, net: nn.Module, inputs: list[Tensor], labels: Tensor) -> None:
    """Saves the checkpoint and prints the test metric."""
    torch.save(net.state_dict(), CACHE / f"{name}.pth")
    with torch.no_grad():
        report(name, net(*inputs), labels)


def train_docstring_bert() -> None:
    """A two-layer BERT classifier, written as a Hugging Face directory with its tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    from datasets import TEXT_LIBRARIES

    data, test = load(CACHE / "docstring_train.npz"), load(DATA / "docstring_test.npz")
    vocabulary_size = len((CACHE / "vocab.txt").read_text().splitlines())
    seed_everything()
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.3,
        attention_probs_dropout_prob=0.1,
        id2label=dict(enumerate(TEXT_LIBRARIES)),
        label2id={name: i for i, name in enumerate(TEXT_LIBRARIES)},
        attn_implementation="eager",
    )
    net = BertForSequenceClassification(config)
    fit(
        net,
        [data["input_ids"], data["attention_mask"]],
        data["label"],
        epochs=25,
        rate=4e-3,
        weight_decay=0.05,
        call=lambda ids, mask: net(input_ids=ids, attention_mask=mask).logits,
    )
    net.save_pretrained(HUGGINGFACE)
    (HUGGINGFACE / "model.safetensors").chmod(0o644)
    BertTokenizerFast(str(CACHE / "vocab.txt"), model_max_length=config.max_position_embeddings).save_pretrained(HUGGINGFACE)
    with torch.no_grad():
        report("docstring_bert", net(input_ids=test["input_ids"], attention_mask=test["attention_mask"]).logits, test["label"])


def main() -> None:
    wanted = sys.argv[1:]
    tasks: dict[str, Callable[[], None]] = {
        "digits_cnn": lambda: train_digits("digits_cnn"),
        "digits_vit": lambda: train_digits("digits_vit"),
        "digits_lstm": lambda: train_digits("digits_lstm"),
        "wine_mlp": lambda: train_tabular("wine", batch=16),
        "breast_cancer_mlp": lambda: train_tabular("breast_cancer", batch=32),
        "diabetes_mlp": train_diabetes,
        "recommender": train_recommender,
        "docstring_bert": train_docstring_bert,
    }
    for name in wanted or tasks:
        tasks[name]()


if __name__ == "__main__":
    main()
