# SPDX-License-Identifier: Apache-2.0
"""Folders, seed and small helpers shared by the scripts."""

import hashlib
import os
import pathlib
import random

import numpy as np

SEED = 20
MODELS = pathlib.Path(__file__).resolve().parent.parent
DATA = MODELS / "data"
CACHE = pathlib.Path(__file__).resolve().parent / ".cache"  # training sets and checkpoints, never committed


def seed_everything(seed: int = SEED) -> None:
    """Seeds Python, NumPy and, where it is loaded, torch (one thread, so that sums keep their order)."""
    import sys

    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(seed)
        torch.set_num_threads(1)


def sha256_of(path: pathlib.Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def quiet_tensorflow() -> None:
    """To be called before tensorflow is imported: CPU only, few messages, results that do not depend on oneDNN."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
