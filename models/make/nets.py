# SPDX-License-Identifier: Apache-2.0
"""The networks. Each takes raw data; what normalises it is part of the graph."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """(x - mean) / std with constants of the training set."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class DigitsCnn(nn.Module):
    """image f32 [N,1,8,8] -> logits f32 [N,10]: three 3x3 convolutions with batch normalisation, global average pooling."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.normalize = Standardize(torch.tensor(mean), torch.tensor(std))
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(self.normalize(image))
        return self.classifier(x.mean(dim=(2, 3)))

    def fold_batch_norm(self) -> "DigitsCnn":
        """An equal network for inference whose convolutions hold the batch normalisation."""
        folded = DigitsCnn(float(self.normalize.mean), float(self.normalize.std)).eval()
        layers = []
        for layer in self.eval().features:
            if isinstance(layer, nn.BatchNorm2d):
                layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        folded.features = nn.Sequential(*layers)
        folded.classifier = self.classifier
        return folded.requires_grad_(False)


class Attention(nn.Module):
    """Multi-head self-attention over [N,T,D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1], x.shape[2]

        def split(part: Tensor) -> Tensor:
            return part.reshape(-1, tokens, self.heads, self.head_width).transpose(1, 2)

        q, k, v = (split(part) for part in self.qkv(x).split(width, dim=-1))
        weights = torch.softmax(q @ k.transpose(2, 3) * self.head_width**-0.5, dim=-1)
        return self.project((weights @ v).transpose(1, 2).reshape(-1, tokens, width))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class DigitsVit(nn.Module):
    """image f32 [N,1,8,8] -> logits f32 [N,10]: 16 patches of 2x2, four blocks of width 32, mean pooling."""

    def __init__(self, mean: float, std: float, width: int = 32, heads: int = 4, depth: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.normalize = Standardize(torch.tensor(mean), torch.tensor(std))
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(self.normalize(image)).reshape(-1, self.width, 16).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.blocks(x)).mean(dim=1))


class DigitsLstm(nn.Module):
    """image f32 [N,1,8,8] -> logits f32 [N,10]: reads the eight rows one after another, answers from the last state."""

    def __init__(self, mean: float, std: float, hidden: int = 64) -> None:
        super().__init__()
        self.normalize = Standardize(torch.tensor(mean), torch.tensor(std))
        self.lstm = nn.LSTM(8, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(hidden, 10)

    def forward(self, image: Tensor) -> Tensor:
        rows = self.normalize(image).reshape(-1, 8, 8)  # [N,time,row]
        states, _ = self.lstm(rows)
        return self.classifier(self.dropout(states[:, -1]))


class TabularMlp(nn.Module):
    """features f32 [N,F] -> logits f32 [N,classes]; F is the length of `mean`."""

    def __init__(self, mean: Tensor, std: Tensor, classes: int) -> None:
        super().__init__()
        self.normalize = Standardize(mean, std)
        self.layers = nn.Sequential(nn.Linear(len(mean), 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(self.normalize(features))


class DiabetesMlp(nn.Module):
    """features f32 [N,10] -> progression f32 [N,1] in the data's own unit."""

    def __init__(self, mean: Tensor, std: Tensor, label_mean: float, label_std: float) -> None:
        super().__init__()
        self.normalize = Standardize(mean, std)
        self.layers = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))
        self.register_buffer("label_mean", torch.tensor(label_mean))
        self.register_buffer("label_std", torch.tensor(label_std))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(self.normalize(features)) * self.label_std + self.label_mean


class Recommender(nn.Module):
    """ids i64 [N,F] -> logits f32 [N,2]: an embedding table per field, dot products of all pairs, a perceptron (as DLRM does)."""

    def __init__(self, fields: int = 30, bins: int = 16, width: int = 4) -> None:
        super().__init__()
        self.fields = fields
        self.width = width
        self.tables = nn.ModuleList(nn.Embedding(bins, width) for _ in range(fields))
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)
        first, second = torch.triu_indices(fields, fields, offset=1)
        self.register_buffer("pairs", first * fields + second)
        self.dropout = nn.Dropout(0.3)
        self.mlp = nn.Sequential(nn.Linear(fields * width + len(first), 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))

    def forward(self, ids: Tensor) -> Tensor:
        columns = ids.split(1, dim=1)
        vectors = torch.cat([table(column) for table, column in zip(self.tables, columns)], dim=1)
        products = (vectors @ vectors.transpose(1, 2)).reshape(-1, self.fields * self.fields)
        pairs = torch.index_select(products, 1, self.pairs)
        return self.mlp(self.dropout(torch.cat([vectors.reshape(-1, self.fields * self.width), pairs], dim=1)))
