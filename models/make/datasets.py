# SPDX-License-Identifier: Apache-2.0
"""Makes the training sets (.cache/) and the held-out test sets (models/data/) from data that pip packages carry.

An .npz test set holds one array per model input, under the input's name, and the expected answers under `label`.
"""

import importlib
import inspect
import pkgutil
import re
import warnings

import numpy as np
from PIL import Image
from sklearn import datasets as sets
from sklearn.model_selection import train_test_split

from common import CACHE, DATA, SEED

RECOMMENDER_BINS = 16
TEXT_LIBRARIES = ("numpy", "scipy", "sklearn")
TEXT_LENGTH = 24  # tokens, [CLS] and [SEP] included
VOCABULARY_SIZE = 1200


def save(name: str, train: dict[str, np.ndarray], test: dict[str, np.ndarray], **extra: np.ndarray) -> None:
    """Writes .cache/<name>_train.npz (with `extra`) and data/<name>_test.npz."""
    CACHE.mkdir(exist_ok=True)
    DATA.mkdir(exist_ok=True)
    np.savez(CACHE / f"{name}_train.npz", **train, **extra)
    np.savez(DATA / f"{name}_test.npz", **test)
    print(f"{name}: {len(train['label'])} training, {len(test['label'])} test samples")


def make_digits() -> None:
    """Images f32 [N,1,8,8] in [0,1], ink is 1; one PNG per class from the test set."""
    digits = sets.load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    x, xt, y, yt = train_test_split(images, labels, test_size=0.2, random_state=SEED, stratify=labels)
    save("digits", {"image": x, "label": y}, {"image": xt, "label": yt})
    lines = []
    for digit in range(10):
        index = int(np.flatnonzero(yt == digit)[0])  # the first of its class, not a chosen one
        file = f"digit_{digit}.png"
        Image.fromarray(np.round(xt[index, 0] * 255).astype(np.uint8), mode="L").save(DATA / file)
        lines.append(f"{file} {digit}\n")
    (DATA / "digits_labels.txt").write_text("".join(lines))


def make_wine() -> None:
    """13 chemical measurements per wine, f32 [N,13] in their own units; 3 cultivars."""
    wine = sets.load_wine()
    x, xt, y, yt = train_test_split(wine.data.astype(np.float32), wine.target.astype(np.int64), test_size=0.3, random_state=SEED, stratify=wine.target)
    save("wine", {"features": x, "label": y}, {"features": xt, "label": yt})


def make_diabetes() -> None:
    """10 raw measurements per patient, f32 [N,10]; the label is the disease progression after one year."""
    diabetes = sets.load_diabetes(scaled=False)
    x, xt, y, yt = train_test_split(diabetes.data.astype(np.float32), diabetes.target.astype(np.float32)[:, None], test_size=0.2, random_state=SEED)
    save("diabetes", {"features": x, "label": y}, {"features": xt, "label": yt})


def split_breast_cancer() -> list[np.ndarray]:
    """Training and test values f64 [N,30], training and test labels i64 [N]; 0: malignant, 1: benign."""
    cancer = sets.load_breast_cancer()
    return train_test_split(cancer.data, cancer.target.astype(np.int64), test_size=0.25, random_state=SEED, stratify=cancer.target)


def make_breast_cancer() -> None:
    """30 measurements of cell nuclei per sample, f32 [N,30] in their own units."""
    x, xt, y, yt = split_breast_cancer()
    save("breast_cancer", {"features": x.astype(np.float32), "label": y}, {"features": xt.astype(np.float32), "label": yt})


def make_recommender() -> None:
    """Categorical ids i64 [N,30]: each of 30 features of the breast cancer set cut at the training set's quantiles into 16 bins."""
    x, xt, y, yt = split_breast_cancer()
    edges = np.quantile(x, np.linspace(0, 1, RECOMMENDER_BINS + 1)[1:-1], axis=0).T  # [30,15]

    def to_ids(values: np.ndarray) -> np.ndarray:
        return np.stack([np.digitize(values[:, c], edges[c]) for c in range(values.shape[1])], axis=1).astype(np.int64)

    save("recommender", {"ids": to_ids(x), "label": y}, {"ids": to_ids(xt), "label": yt})


def docstring_summaries(library: str) -> set[str]:
    """First paragraphs of the docstrings of a package's public functions, classes and methods."""
    found: set[str] = set()
    package = importlib.import_module(library)
    names = [library]
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_") and module.name not in ("tests", "conftest", "setup"):
            names.append(f"{library}.{module.name}")
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(name)
                members = [getattr(module, member) for member in sorted(getattr(module, "__all__", None) or dir(module)) if not member.startswith("_")]
        except Exception:  # optional parts of a package may not import
            continue
        for member in list(members):
            if inspect.isclass(member):
                members += [value for key, value in sorted(vars(member).items()) if not key.startswith("_")]
        for member in members:
            if not callable(member) or not str(getattr(member, "__module__", "") or "").startswith(library):
                continue
            paragraph = re.split(r"\n\s*\n", inspect.getdoc(member) or "")[0]
            paragraph = " ".join(paragraph.split())
            if 20 <= len(paragraph) <= 200 and paragraph.isascii() and not re.search(r"numpy|scipy|sklearn|scikit|object at 0x", paragraph, re.IGNORECASE):
                found.add(paragraph)
    return found


def split_words(text: str) -> list[str]:
    """Lower-case words and punctuation, as BERT's basic tokenizer splits ASCII text."""
    return re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text.lower())


def make_vocabulary(texts: list[str]) -> list[str]:
    """WordPiece vocabulary: special tokens, every character alone and as a continuation, then the most frequent words."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in split_words(text):
            counts[word] = counts.get(word, 0) + 1
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1) if not chr(c).isupper()]
    pieces = ["##" + letter for letter in letters if letter.isalnum()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + letters + pieces
    known = set(vocabulary)
    words = [word for word in sorted(counts, key=lambda w: (-counts[w], w)) if word not in known]
    return vocabulary + words[: VOCABULARY_SIZE - len(vocabulary)]


def make_docstrings() -> None:
    """Token ids i64 [N,24] of docstring summaries; the label says which of numpy, scipy and scikit-learn the text is from."""
    from tokenizers import BertWordPieceTokenizer

    per_library = [docstring_summaries(library) for library in TEXT_LIBRARIES]
    texts, labels = [], []
    for label, found in enumerate(per_library):
        others = set().union(*(per_library[i] for i in range(len(per_library)) if i != label))
        own = sorted(found - others)
        texts += own
        labels += [label] * len(own)
    x, xt, y, yt = train_test_split(texts, labels, test_size=300, random_state=SEED, stratify=labels)
    vocabulary = make_vocabulary(x)
    CACHE.mkdir(exist_ok=True)
    (CACHE / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertWordPieceTokenizer(str(CACHE / "vocab.txt"), lowercase=True)
    tokenizer.enable_truncation(TEXT_LENGTH)
    tokenizer.enable_padding(length=TEXT_LENGTH)

    def encode(batch: list[str], answers: list[int]) -> dict[str, np.ndarray]:
        encoded = tokenizer.encode_batch(batch)
        ids = np.array([e.ids for e in encoded], np.int64)
        return {"input_ids": ids, "attention_mask": np.array([e.attention_mask for e in encoded], np.int64), "label": np.array(answers, np.int64)}

    save("docstring", encode(x, y), encode(xt, yt))
    lines = [f"{TEXT_LIBRARIES[label]}\t{text}\n" for text, label in list(zip(xt, yt))[:10]]
    (DATA / "docstring_samples.tsv").write_text("".join(lines))
    print("docstring classes:", {name: labels.count(i) for i, name in enumerate(TEXT_LIBRARIES)})


def main() -> None:
    make_digits()
    make_wine()
    make_breast_cancer()
    make_diabetes()
    make_recommender()
    make_docstrings()


if __name__ == "__main__":
    main()
