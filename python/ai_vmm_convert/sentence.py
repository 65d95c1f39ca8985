# SPDX-License-Identifier: Apache-2.0
"""Heads of sentence-transformers directories: pooling, dense layers and normalisation after a transformer, as modules.json lists them."""

from __future__ import annotations

import json
import pathlib

import torch

ACTIVATIONS = {"torch.nn.modules.activation.Tanh": torch.nn.Tanh, "torch.nn.modules.linear.Identity": torch.nn.Identity, "torch.nn.modules.activation.ReLU": torch.nn.ReLU, "torch.nn.modules.activation.GELU": torch.nn.GELU}
POOLING = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


class Pooling(torch.nn.Module):
    """Token embeddings [batch, length, size] and mask [batch, length] to [batch, size times the number of modes]."""

    def __init__(self, modes: list[str]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        parts = []
        for mode in self.modes:
            if mode == "cls_token":
                parts.append(tokens[:, 0])
            elif mode == "max_tokens":
                parts.append(tokens.masked_fill(weights == 0, -1e9).max(dim=1).values)
            elif mode == "mean_tokens":
                parts.append((tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9))
            elif mode == "mean_sqrt_len_tokens":
                parts.append((tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9).sqrt())
            elif mode == "weightedmean_tokens":
                positions = weights * torch.cumsum(torch.ones_like(weights), dim=1)
                parts.append((tokens * positions).sum(1) / positions.sum(1).clamp(min=1e-9))
            else:  # lasttoken: of the last position that isn't padding
                last = (mask * torch.cumsum(torch.ones_like(mask), dim=1)).argmax(dim=1)
                parts.append(tokens.gather(1, last.view(-1, 1, 1).expand(-1, 1, tokens.shape[2])).squeeze(1))
        return torch.cat(parts, dim=1)


class Normalize(torch.nn.Module):
    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return embedding / embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)


class SentenceHead(torch.nn.Module):
    def __init__(self, pooling: Pooling, rest: list[torch.nn.Module]) -> None:
        super().__init__()
        self.pooling, self.rest = pooling, torch.nn.ModuleList(rest)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        embedding = self.pooling(tokens, mask)
        for module in self.rest:
            embedding = module(embedding)
        return embedding


def _dense(folder: pathlib.Path) -> torch.nn.Module | None:
    config = json.loads((folder / "config.json").read_text())
    activation = ACTIVATIONS.get(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if activation is None:
        return None
    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    if (folder / "model.safetensors").is_file():
        from safetensors.torch import load_file

        state = load_file(folder / "model.safetensors")
    else:
        state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    linear.load_state_dict({name.removeprefix("linear."): value.float() for name, value in state.items()})
    return torch.nn.Sequential(linear, activation())


def load_sentence_head(path: pathlib.Path) -> tuple[SentenceHead | None, str]:
    """The head that modules.json describes, or None and why there is none."""
    try:
        modules = json.loads((path / "modules.json").read_text())
        pooling, rest = None, []
        for module in modules:
            kind = str(module["type"]).rsplit(".", 1)[-1]
            folder = (path / str(module.get("path", ""))).resolve()
            if not folder.is_relative_to(path.resolve()):
                return None, "no sentence_embedding: modules.json leads outside its directory"
            if kind == "Transformer":
                continue
            if kind == "Pooling" and pooling is None:
                config = json.loads((folder / "config.json").read_text())
                modes = [mode for mode in POOLING if config.get(f"pooling_mode_{mode}")]
                if not modes:
                    return None, "no sentence_embedding: 1_Pooling/config.json names no known way of pooling"
                pooling = Pooling(modes)
            elif kind == "Normalize":
                rest.append(Normalize())
            elif kind == "Dense" and (dense := _dense(folder)) is not None:
                rest.append(dense)
            else:
                return None, f"no sentence_embedding: the module {kind} of modules.json isn't known"
        if pooling is None:
            return None, "no sentence_embedding: modules.json has no pooling"
        return SentenceHead(pooling, rest).eval(), ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"no sentence_embedding: modules.json or a module's files can't be read ({type(error).__name__})"
