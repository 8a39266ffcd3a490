"""Images by name and from folders: small files of the same format, byte for byte against what they were made of."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from pyrovae import InvalidInputError, load_data
from pyrovae.data.image_sets import BINARISED_PARTS, EMNIST_SPLITS, IMAGE_NAMES

RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def pixels(x: torch.Tensor) -> np.ndarray:
    """The bytes that were dequantised."""
    return (x * 256).floor().numpy()


def write_idx(folder: Path, prefixes: tuple[str, str]) -> list[np.ndarray]:
    folder.mkdir(parents=True)
    halves = [RNG.integers(0, 256, (count, 28, 28)) for count in (6, 3)]
    for prefix, images in zip(prefixes, halves, strict=True):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(1, len(images) + 1)))
    return halves


@pytest.mark.parametrize(("name", "folder"), [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_sets_in_the_format_of_mnist(tmp_path: Path, name: str, folder: str) -> None:
    train, test = write_idx(tmp_path / folder / "raw", ("train", "t10k"))
    data = load_data(name, root=tmp_path)
    assert np.array_equal(pixels(data.train[:]), train.reshape(6, -1))
    assert np.array_equal(pixels(data.test), test.reshape(3, -1))
    assert (data.shape, data.split) == ((28, 28), "6 train / 3 test, torchvision's")
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [1, 2, 3]
    assert torch.equal(load_data(name, data.transform, root=tmp_path).test, data.test)  # as a trained run reads them
    assert len(data.label_names) == 10
    if name == "fashion-mnist":
        assert data.test_label_names == ["Trouser", "Pullover", "Dress"]


@pytest.mark.parametrize("split", EMNIST_SPLITS)
def test_emnist_is_turned_upright(tmp_path: Path, split: str) -> None:
    """Its files have rows and columns exchanged (Cohen et al. 2017)."""
    name = "emnist" if split == "balanced" else f"emnist-{split}"
    _, test = write_idx(tmp_path / "EMNIST" / "raw", (f"emnist-{split}-train", f"emnist-{split}-test"))
    data = load_data(name, root=tmp_path)
    assert np.array_equal(pixels(data.test).reshape(3, 28, 28), test.swapaxes(1, 2))
    if split == "letters":
        assert data.test_label_names == ["a", "b", "c"]


def test_cifar10_has_its_colours_beside_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files hold all red, then all green, then all blue; x has the three of a pixel together."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums, images = {}, {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        images[name] = RNG.integers(0, 256, (2, 3, 32, 32)).astype(np.uint8)
        content = {"data": images[name].reshape(2, -1), "labels": [3, 9]}
        if name == "batches.meta":
            content = {"label_names": list("abcdefghij")}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[f"data_batch_{n}", sums[f"data_batch_{n}"]] for n in range(1, 6)])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]})
    data = load_data("cifar10", root=tmp_path)
    assert (data.shape, data.dim, len(data.train), len(data.test)) == ((32, 32, 3), 3072, 10, 2)
    assert np.array_equal(pixels(data.test).reshape(2, 32, 32, 3), images["test_batch"].transpose(0, 2, 3, 1))
    assert data.test_label_names == ["d", "j"]


def test_omniglot_is_made_small_and_white_on_black(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """105 × 105 to 28 × 28 by averages over areas. The halves have characters of their own."""
    root, sums = tmp_path / "omniglot-py", {}
    for half, value in (("images_background", 0), ("images_evaluation", 255)):
        for character in ("character01", "character02"):
            folder = root / half / "Greek" / character
            folder.mkdir(parents=True)
            page = np.full((105, 105), 255, np.uint8)
            page[:52] = value
            Image.fromarray(page).convert("1").save(folder / "0001.png")
        (root / f"{half}.zip").write_bytes(half.encode())
        sums[half] = hashlib.md5(half.encode()).hexdigest()
    monkeypatch.setattr(torchvision.datasets.Omniglot, "zips_md5", sums)
    data = load_data("omniglot", root=tmp_path)
    images = pixels(data.train[:]).reshape(2, 28, 28)
    assert (images[:, :13] == 255).all()
    assert (images[:, 14:] == 0).all()
    assert (pixels(data.test) == 0).all()
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3]
    assert len(data.label_names) == 4


@pytest.fixture
def binarised(tmp_path: Path) -> dict[str, np.ndarray]:
    (tmp_path / "binarized_mnist").mkdir()
    parts = {part: RNG.integers(0, 2, (count, 784)) for part, count in zip(BINARISED_PARTS, (5, 2, 3), strict=True)}
    for part, values in parts.items():
        np.savetxt(tmp_path / "binarized_mnist" / f"binarized_mnist_{part}.amat", values, fmt="%d")
    return parts


def test_binarised_mnist(tmp_path: Path, binarised: dict[str, np.ndarray]) -> None:
    data = load_data("binarised-mnist", root=tmp_path)
    assert np.array_equal(data.train[:].numpy(), np.concatenate([binarised["train"], binarised["valid"]]))
    assert np.array_equal(data.test.numpy(), binarised["test"])
    assert (data.shape, data.transform.discrete, data.test.dtype) == ((28, 28), True, torch.float32)
    with pytest.raises(InvalidInputError, match="no pixel levels"):
        load_data("binarised-mnist", "logit", root=tmp_path)
    file = tmp_path / "binarized_mnist" / "binarized_mnist_test.amat"
    for content, message in (
        ("0 1 0\n", "has 3 numbers to a line"),
        ("a b\n", "is no table of 0 and 1"),
        ("", "is empty"),
    ):
        file.write_text(content)
        with pytest.raises(InvalidInputError, match=message):
            load_data("binarised-mnist", root=tmp_path)


@pytest.mark.parametrize("name", IMAGE_NAMES)
def test_what_is_not_there_says_where_it_is_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="is not in .*name the folder that holds .*or allow the download"):
        load_data(name, root=tmp_path)


def fail(*args: object, **kwargs: object) -> None:
    raise RuntimeError("Error downloading: no route to host")


@pytest.mark.parametrize("name", ["fashion-mnist", "emnist", "cifar10", "omniglot", "binarised-mnist"])
def test_a_failed_download_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in ("mnist", "cifar", "omniglot"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(InvalidInputError, match="could not be downloaded"):
        load_data(name, root=tmp_path, download=True)


# folders


def write_images(folder: Path, images: np.ndarray, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}{suffix}")


def test_a_folder_of_grey_images(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (10, 5, 4)).astype(np.uint8)
    write_images(tmp_path / "images", images)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    data = load_data(tmp_path / "images")
    assert (data.shape, len(data.train), len(data.test), data.labels) == ((5, 4), 8, 2, None)
    assert data.test_rows is not None
    assert np.array_equal(pixels(data.test), images.reshape(10, -1)[data.test_rows])
    whole = load_data(tmp_path / "images", data.transform, split=False)
    assert np.array_equal(pixels(whole.test), images.reshape(10, -1))


def test_folders_in_a_folder_are_labels_and_halves(tmp_path: Path) -> None:
    """Some images in colour make all of them so: grey has three equal colours."""
    grey, colour = RNG.integers(0, 256, (3, 4, 4)).astype(np.uint8), RNG.integers(0, 256, (2, 4, 4, 3)).astype(np.uint8)
    for half in ("train", "test"):
        write_images(tmp_path / half / "cat", grey)
        write_images(tmp_path / half / "dog", colour, ".bmp")
    data = load_data(tmp_path)
    assert (data.shape, data.split) == ((4, 4, 3), "5 train / 5 test, the folder's")
    assert data.test_label_names == ["cat"] * 3 + ["dog"] * 2
    expected = np.concatenate([np.repeat(grey[..., None], 3, -1), colour])
    assert np.array_equal(pixels(data.test).reshape(5, 4, 4, 3), expected)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has no files of points or images"):
        load_data(tmp_path)
    write_images(tmp_path, RNG.integers(0, 256, (5, 4, 4)).astype(np.uint8))
    with pytest.raises(InvalidInputError, match="is a folder of images: label, drop and levels are for files"):
        load_data(tmp_path, levels=8)
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(
        InvalidInputError, match=r"other.png is 6 × 4 pixels and .*000.png 4 × 4: give all images one size"
    ):
        load_data(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "other.png")
    with pytest.raises(InvalidInputError, match="more than 256 levels"):
        load_data(tmp_path)
    (tmp_path / "other.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match="other.png cannot be read as an image"):
        load_data(tmp_path)
