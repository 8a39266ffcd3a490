"""Data sets that are known by name: scikit-learn's embedded ones, and MNIST by torchvision."""

import os
from pathlib import Path

import torch

from ..errors import InvalidInputError
from .raw import RawData, given_split, random_split

TABLES = ("iris", "wine", "breast_cancer")
NAMES = ("digits", "mnist", *TABLES)


def load_builtin(name: str, generator: torch.Generator, root: str | Path | None, download: bool) -> RawData:
    """The data set of that name, one of `NAMES`. `generator` draws the split of those that come without one."""
    if name == "mnist":
        return _mnist(root, download)
    return _digits(generator) if name == "digits" else _table(name, generator)


def default_root() -> Path:
    """Where MNIST is looked for: $PYROVAE_DATA, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("PYROVAE_DATA", cache / "pyrovae"))


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


def _mnist(root: str | Path | None, download: bool) -> RawData:
    from torchvision.datasets import MNIST

    where = Path(root) if root is not None else default_root()
    try:
        sets = [MNIST(str(where), train=train, download=download) for train in (True, False)]
    except Exception as error:  # torchvision checks that the files exist; what is in them shows as errors of many kinds
        reason = " ".join(str(error).split())
        if "Dataset not found" in reason:
            raise InvalidInputError(
                f"MNIST is not in {where}: name the folder that holds MNIST/raw (--root, or $PYROVAE_DATA), or allow the "
                "download (--download)."
            ) from error
        if "Error downloading" in reason:
            raise InvalidInputError(
                f"MNIST could not be downloaded to {where}, check the connection: {reason}"
            ) from error
        raise InvalidInputError(
            f"MNIST in {where} cannot be read, its files are truncated or corrupt ({type(error).__name__}"
            f"{f': {reason}' if reason else ''}): delete them and get them again."
        ) from error
    for images in sets:
        if images.data.shape[1:] != (28, 28) or len(images.data) == 0:
            raise InvalidInputError(
                f"MNIST in {where} holds an array of shape {tuple(images.data.shape)} where images of 28 × 28 belong: delete "
                "its files and get them again."
            )
        if len(images.targets) != len(images.data):
            raise InvalidInputError(
                f"MNIST in {where} holds {len(images.targets)} labels of {len(images.data)} images: delete its files and get "
                "them again."
            )
    return RawData(
        torch.cat([images.data for images in sets]).flatten(1),
        *given_split(len(sets[0].data), len(sets[1].data), "torchvision's"),
        levels=256,
        shape=(28, 28),
        labels=torch.cat([images.targets for images in sets]),
        label_names=tuple(map(str, range(10))),
    )
