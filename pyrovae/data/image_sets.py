"""Data sets of images that torchvision reads, and MNIST as Larochelle made it binary."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInputError
from .raw import RawData, given_split

BINARISED_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
BINARISED_PARTS = ("train", "valid", "test")
OMNIGLOT_SIDE = 28  # pixels, of 105
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class ImageSet:
    """A data set of torchvision: its class, the folder under `--root`, and the shape of an image."""

    title: str
    folder: str
    kind: str
    shape: tuple[int, ...] = (28, 28)
    settings: tuple[tuple[str, Any], ...] = ()
    flag: str = "train"  # the argument that says which half


EMNIST_SPLITS = ("balanced", "letters", "digits", "byclass", "bymerge")
IMAGE_SETS = {
    "mnist": ImageSet("MNIST", "MNIST/raw", "MNIST"),
    "fashion-mnist": ImageSet("Fashion-MNIST", "FashionMNIST/raw", "FashionMNIST"),
    "kmnist": ImageSet("KMNIST", "KMNIST/raw", "KMNIST"),
    "emnist": ImageSet("EMNIST", "EMNIST/raw", "EMNIST", settings=(("split", "balanced"),)),
    **{
        f"emnist-{split}": ImageSet("EMNIST", "EMNIST/raw", "EMNIST", settings=(("split", split),))
        for split in EMNIST_SPLITS[1:]
    },
    "cifar10": ImageSet("CIFAR-10", "cifar-10-batches-py", "CIFAR10", (32, 32, 3)),
    "omniglot": ImageSet("Omniglot", "omniglot-py", "Omniglot", (OMNIGLOT_SIDE, OMNIGLOT_SIDE), flag="background"),
}
BINARISED = "binarised-mnist"
IMAGE_NAMES = (*IMAGE_SETS, BINARISED)


def load_image_set(name: str, root: str | Path | None, download: bool) -> RawData:
    """The data set of that name, one of `IMAGE_NAMES`, from the folder `root`."""
    where = Path(root) if root is not None else default_root()
    if name == BINARISED:
        return _binarised(where, download)
    chosen = IMAGE_SETS[name]
    train, test = (_half(chosen, where, half, download) for half in (True, False))
    pixels = torch.cat([train[0], test[0]])
    names, test_labels = train[2], test[1]
    if chosen.kind == "Omniglot":  # whose two halves have other characters
        names, test_labels = (*train[2], *test[2]), test[1] + len(train[2])
    return RawData(
        pixels.flatten(1),
        *given_split(len(train[0]), len(test[0]), "torchvision's"),
        levels=256,
        shape=chosen.shape,
        labels=torch.cat([train[1], test_labels]),
        label_names=names,
    )


def default_root() -> Path:
    """Where data sets are looked for: $PYROVAE_DATA, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("PYROVAE_DATA", cache / "pyrovae"))


def _half(chosen: ImageSet, where: Path, train: bool, download: bool) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (N, *shape), bytes; labels (N,); and the names of classes."""
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, chosen.kind)
    try:
        images = make(str(where), download=download, **{chosen.flag: train}, **dict(chosen.settings))
        values, labels = _pixels(chosen, images)
    except Exception as error:  # torchvision checks that the files exist; what is in them shows as errors of many kinds
        raise _failure(chosen.title, chosen.folder, where, error) from error
    if tuple(values.shape[1:]) != chosen.shape or len(values) == 0:
        size = " × ".join(map(str, chosen.shape))
        raise InvalidInputError(
            f"{chosen.title} in {where} holds an array of shape {tuple(values.shape)} where images of {size} belong: delete "
            "its files and get them again."
        )
    if len(labels) != len(values):
        raise InvalidInputError(
            f"{chosen.title} in {where} holds {len(labels)} labels of {len(values)} images: delete its files and get "
            "them again."
        )
    classes = tuple(images._characters if chosen.kind == "Omniglot" else images.classes)
    if chosen.kind == "MNIST":
        classes = DIGITS
    return values, labels, classes


def _pixels(chosen: ImageSet, images: Any) -> tuple[Tensor, Tensor]:
    if chosen.kind == "Omniglot":  # files of 105 × 105, black on white
        from PIL import Image

        side = (OMNIGLOT_SIDE, OMNIGLOT_SIDE)
        drawn = [(np.asarray(image.resize(side, Image.Resampling.BOX)), label) for image, label in images]
        values = torch.from_numpy(255 - np.stack([image for image, _ in drawn]))
        return values, torch.tensor([label for _, label in drawn])
    values, labels = torch.as_tensor(images.data), torch.as_tensor(images.targets)
    return (values.mT if chosen.kind == "EMNIST" else values), labels  # whose files have rows and columns exchanged


def _failure(title: str, folder: str, where: Path, error: Exception) -> InvalidInputError:
    reason = " ".join(str(error).split())
    if "Dataset not found" in reason:
        return InvalidInputError(
            f"{title} is not in {where}: name the folder that holds {folder} (--root, or $PYROVAE_DATA), or allow the "
            "download (--download)."
        )
    if "Error downloading" in reason:
        return InvalidInputError(f"{title} could not be downloaded to {where}, check the connection: {reason}")
    return InvalidInputError(
        f"{title} in {where} cannot be read, its files are truncated or corrupt ({type(error).__name__}"
        f"{f': {reason}' if reason else ''}): delete them and get them again."
    )


def _binarised(where: Path, download: bool) -> RawData:
    """MNIST made binary once (Larochelle & Murray 2011): text files of 0 and 1, an image to a line. Valid joins train."""
    folder = where / "binarized_mnist"
    files = [folder / f"binarized_mnist_{part}.amat" for part in BINARISED_PARTS]
    if download:
        _download([file for file in files if not file.is_file()])
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InvalidInputError(
            f"Binarised MNIST is not in {where}: name the folder that holds binarized_mnist/{missing[0]} (--root, or "
            "$PYROVAE_DATA), or allow the download (--download)."
        )
    parts = [_amat(file) for file in files]
    train = len(parts[0]) + len(parts[1])
    return RawData(
        torch.from_numpy(np.concatenate(parts)),
        *given_split(train, len(parts[2]), "Larochelle's, training with validation images"),
        shape=(28, 28),
    )


def _amat(file: Path) -> np.ndarray:
    if not file.stat().st_size:
        raise InvalidInputError(f"{file} is empty: delete it and get it again.")
    try:
        values = np.loadtxt(file, ndmin=2, dtype=np.uint8)
    except ValueError as error:
        raise InvalidInputError(f"{file} is no table of 0 and 1: {' '.join(str(error).split())}") from error
    if values.shape[1] != 28 * 28 or values.max() > 1:
        raise InvalidInputError(
            f"{file} has {values.shape[1]} numbers to a line, at most {values.max()}: an image of binarised MNIST has 784, 0 or 1."
        )
    return values


def _download(files: Sequence[Path]) -> None:
    from torchvision.datasets.utils import download_url

    for file in files:
        try:
            download_url(BINARISED_URL + file.name, str(file.parent))
        except Exception as error:  # of the network, of many kinds
            raise InvalidInputError(
                f"Binarised MNIST could not be downloaded to {file.parent}, check the connection: {error}"
            ) from error
