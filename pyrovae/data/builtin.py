"""Data sets that are known by name: scikit-learn's embedded ones, and images by torchvision."""

from pathlib import Path

import torch

from .image_sets import IMAGE_NAMES, load_image_set
from .raw import RawData, random_split

TABLES = ("iris", "wine", "breast_cancer")
NAMES = ("digits", *TABLES, *IMAGE_NAMES)


def load_builtin(name: str, generator: torch.Generator, root: str | Path | None, download: bool) -> RawData:
    """The data set of that name, one of `NAMES`. `generator` draws the split of those that come without one."""
    if name in IMAGE_NAMES:
        return load_image_set(name, root, download)
    return _digits(generator) if name == "digits" else _table(name, generator)


def _digits(generator: torch.Generator) -> RawData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.as_tensor(bunch.data, dtype=torch.float32)  # (1797, 64), 0 … 16
    return RawData(
        pixels,
        *random_split(len(pixels), generator),
        levels=17,
        shape=(8, 8),
        column_names=tuple(bunch.feature_names),
        labels=torch.as_tensor(bunch.target, dtype=torch.int64),
        label_names=tuple(map(str, bunch.target_names)),
    )


def _table(name: str, generator: torch.Generator) -> RawData:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return RawData(
        torch.as_tensor(bunch.data, dtype=torch.float32),
        *random_split(len(bunch.data), generator),
        column_names=tuple(bunch.feature_names),
        labels=torch.as_tensor(bunch.target, dtype=torch.int64),
        label_names=tuple(map(str, bunch.target_names)),
    )
