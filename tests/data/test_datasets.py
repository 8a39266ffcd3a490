import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.datasets import load_digits

from pyrovae import InvalidInputError, load_data
from pyrovae.data.image_sets import default_root
from pyrovae.data.stochastic import StochasticData
from pyrovae.data.transforms import Dequantise, Identity, Threshold


def normal(points: int = 20, dim: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(points, dim))


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


# digits


def test_digits_sizes_and_card(seed: int) -> None:
    data = load_data("digits", seed=seed)
    assert data.train[:].shape == (1438, 64)
    assert data.test.shape == (359, 64)
    assert (data.dim, data.shape) == (64, (8, 8))
    assert data.metadata() == {
        "data": "digits",
        "split": "1438 train / 359 test, at random",
        "split_seed": seed,
        "train_points": 1438,
        "test_points": 359,
        "transform": "(pixel + u) / 17",
        "base_measure": "Lebesgue on [0,1]^64",
        "column_names": load_digits().feature_names,
        "notes": [],
    }


def test_digits_split_is_fixed_by_the_seed(seed: int) -> None:
    first, again, other = (
        load_data("digits", seed=seed),
        load_data("digits", seed=seed),
        load_data("digits", seed=seed + 1),
    )
    assert torch.equal(first.train[:], again.train[:])
    assert torch.equal(first.test, again.test)
    assert not torch.equal((first.test * 17).floor(), (other.test * 17).floor())


def test_digits_train_and_test_are_all_images_each_once(seed: int) -> None:
    data = load_data("digits", seed=seed)
    pixels = (torch.cat([data.train[:], data.test]) * 17).floor()
    assert sorted(map(tuple, pixels.tolist())) == sorted(map(tuple, load_digits().data.tolist()))


def test_training_images_are_binarised_anew_and_test_images_once(seed: int) -> None:
    data = load_data("digits", "binarise", seed=seed)
    assert isinstance(data.train, StochasticData)
    index = torch.arange(100)
    first, second = data.train[index], data.train[index]
    assert not torch.equal(first, second)
    sure = (data.train.pixels[index] == 0) | (data.train.pixels[index] == 16)
    assert torch.equal(first[sure], second[sure])
    assert torch.equal(data.test, load_data("digits", "binarise", seed=seed).test)
    assert isinstance(data.to("cpu").train, StochasticData)
    assert torch.equal(data.to("cpu").test, data.test)


def test_the_split_does_not_depend_on_the_transform(seed: int) -> None:
    dequantised, threshold = load_data("digits", seed=seed), load_data("digits", "threshold", seed=seed)
    assert torch.equal(Threshold(17)((dequantised.test * 17).floor()), threshold.test)


# labels and names


@pytest.mark.parametrize("transform", [None, "binarise", "threshold"])
def test_labels_travel_with_the_points(seed: int, transform: str | None) -> None:
    """A point's label, row and pixels are those of one image of scikit-learn's."""
    data, bunch = load_data("digits", transform, seed=seed), load_digits()
    assert sorted(torch.cat([data.train_rows, data.test_rows]).tolist()) == list(range(1797))
    assert data.label_names == tuple("0123456789")
    assert data.column_names[:2] == ("pixel_0_0", "pixel_0_1")
    for rows, labels, points in (
        (data.train_rows, data.train_labels, data.train[:]),
        (data.test_rows, data.test_labels, data.test),
    ):
        assert torch.equal(labels, torch.as_tensor(bunch.target)[rows])
        pixels = torch.as_tensor(bunch.data)[rows]
        if transform is None:
            assert torch.equal((points * 17).floor().double(), pixels)
        else:
            assert not points[pixels == 0].any()
            assert points[pixels == 16].all()
    assert torch.equal(data.to("cpu").test_labels, data.test_labels)


@pytest.mark.parametrize(("name", "classes", "columns"), [("iris", 3, 4), ("wine", 3, 13), ("breast_cancer", 2, 30)])
def test_embedded_tables(name: str, classes: int, columns: int) -> None:
    data, bunch = load_data(name), getattr(datasets, f"load_{name}")()
    assert (data.dim, len(data.column_names), len(data.label_names)) == (columns, columns, classes)
    assert data.column_names == tuple(bunch.feature_names)
    assert torch.equal(data.test, torch.as_tensor(bunch.data).float()[data.test_rows])
    assert torch.equal(data.test_labels, torch.as_tensor(bunch.target)[data.test_rows])
    assert str(data.transform) == "as given"


# files


def test_npy_of_real_numbers_is_used_as_it_is(tmp_path: Path) -> None:
    x = normal()
    data = load_data(save(tmp_path / "x.npy", x))
    assert (data.name, data.shape, str(data.transform)) == ("x.npy", None, "as given")
    both = torch.cat([data.train[:], data.test])
    assert len(data.test) == 4
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, x.astype(np.float32).tolist()))


def test_npz_of_one_array_is_split_like_npy(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", whatever=normal())
    data = load_data(tmp_path / "x.npz", seed=3)
    assert torch.equal(data.test, load_data(save(tmp_path / "x.npy", normal()), seed=3).test)


def test_npz_keeps_its_own_split(tmp_path: Path) -> None:
    x = normal()
    np.savez_compressed(tmp_path / "x.npz", train=x[:15], test=x[15:], labels=np.arange(20))
    data = load_data(tmp_path / "x.npz")
    assert torch.equal(data.train[:], torch.as_tensor(x[:15]).float())
    assert torch.equal(data.test, torch.as_tensor(x[15:]).float())
    assert data.split == "15 train / 5 test, the file's"


@pytest.mark.parametrize("first", ["", "a,b,c\n", '\ufeff"petal, length",b,c\n'.replace(", ", "-")])
def test_csv_with_and_without_header(tmp_path: Path, first: str) -> None:
    rows = "".join(",".join(map(repr, row)) + "\n" for row in normal().tolist())
    (tmp_path / "x.csv").write_text(first + rows, encoding="utf-8")
    data = load_data(tmp_path / "x.csv", seed=3)
    assert torch.equal(data.test, load_data(save(tmp_path / "x.npy", normal()), seed=3).test)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float64])
def test_zeros_and_ones_are_binary_data(tmp_path: Path, kind: type) -> None:
    x = np.random.default_rng(0).integers(0, 2, (20, 4))
    x[:, 0] = 0  # a constant column has a probability
    data = load_data(save(tmp_path / "x.npy", x.astype(kind)))
    assert data.transform.discrete
    assert data.transform.base_measure(4) == "counting on {0,1}^4"


def test_data_are_binary_only_if_the_held_out_points_are(tmp_path: Path) -> None:
    ones = np.eye(4)
    np.savez(tmp_path / "x.npz", train=ones, test=ones / 2)
    assert not load_data(tmp_path / "x.npz").transform.discrete


def test_bytes_are_pixels_of_256_levels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 100, (20, 4), dtype=np.uint8)
    data = load_data(save(tmp_path / "x.npy", x))
    assert isinstance(data.transform, Dequantise)
    assert data.transform.levels == 256
    assert sorted((torch.cat([data.train[:], data.test]) * 256).floor().flatten().tolist()) == sorted(
        x.flatten().tolist()
    )


def test_wider_integers_in_images_have_as_many_levels_as_they_use(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 5, (20, 2, 2))
    x[7, 1, 0] = 4
    assert str(load_data(save(tmp_path / "x.npy", x)).transform) == "(pixel + u) / 5"


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_table_of_whole_numbers_keeps_its_units(tmp_path: Path, suffix: str) -> None:
    """x = n + u in every column: no number depends on which column has the largest."""
    x = np.random.default_rng(0).integers([-9, 0, 10_000], [9, 3, 90_000], (50, 3))
    path = tmp_path / f"x{suffix}"
    save(path, x) if suffix == ".npy" else np.savetxt(path, x, fmt="%d", delimiter=",")
    data = load_data(path)
    assert torch.equal(data.train.floor(), torch.as_tensor(x)[data.train_rows].to(data.train))
    assert torch.equal(data.test.floor(), torch.as_tensor(x)[data.test_rows].to(data.test))
    assert 0.3 < (data.train - data.train.floor()).mean() < 0.7
    assert not data.transform.log_jacobian(data.train).any()
    assert data.train.dtype == torch.float64  # of unlike scales
    assert not data.notes


def test_pixels_are_what_the_user_says(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 100, (20, 4))
    path = save(tmp_path / "x.npy", x)
    assert str(load_data(path, levels=256).transform) == "(pixel + u) / 256"
    assert str(load_data(path, "threshold").transform) == f"pixel / {x.max()} ≥ 0.5"
    assert isinstance(load_data(path, "none").transform, Identity)
    refuse("pixels of 50 levels are whole numbers from 0 to 49", path, levels=50)


def test_three_dimensions_are_images(tmp_path: Path) -> None:
    x = normal(20, 6)
    data = load_data(save(tmp_path / "x.npy", x.reshape(20, 2, 3)), seed=3)
    assert data.shape == (2, 3)
    assert torch.equal(data.test, load_data(save(tmp_path / "flat.npy", x), seed=3).test)


# refusals


def refuse(fragment: str, *args: object, **kwargs: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_data(*args, **kwargs)  # type: ignore[arg-type]
    assert fragment in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names(tmp_path: Path) -> None:
    refuse("There is no data set 'digts' (did you mean 'digits'?)", "digts")
    refuse("There is no data set 'x.doc'", "x.doc")
    refuse("There is no data file", tmp_path / "x.npy")
    refuse("There is no transform 'logits' (did you mean 'logit'?)", "digits", "logits")
    refuse("have no density as they are: give one of dequantise, logit, binarise, threshold", "digits", "none")


def test_transform_of_data_without_levels(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npy", normal())
    refuse("x.npy has no pixel levels to logit", path, "logit")
    assert isinstance(load_data(path, "none").transform, Identity)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_what_is_not_finite_is_named(tmp_path: Path, value: float, suffix: str) -> None:
    x = normal()
    x[4, 2] = value
    path = tmp_path / f"x{suffix}"
    save(path, x) if suffix == ".npy" else np.savetxt(path, x, delimiter=",")
    refuse(f"has {value} at row 4, column 2", path)


def test_constant_columns(tmp_path: Path) -> None:
    x = normal()
    x[:, 1] = 0.3
    refuse("1 of the 3 columns of x.npy are constant (column 1)", save(tmp_path / "x.npy", x))
    x = np.concatenate([normal(), np.ones((20, 7))], axis=1)
    refuse("7 of the 10 columns of x.npy are constant (column 3, 4, 5, 6, 7, …)", save(tmp_path / "x.npy", x))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_every_floating_type_is_read(tmp_path: Path, dtype: type) -> None:
    x = normal().astype(dtype)
    data = load_data(save(tmp_path / "x.npy", x))
    assert torch.equal(data.test, torch.as_tensor(x.astype(np.float32))[data.test_rows])
    x[3, 1] = np.inf
    refuse("has inf at row 3, column 1", save(tmp_path / "x.npy", x))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.98])
def test_truncated_arrays(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"x{suffix}"
    (np.save if suffix == ".npy" else np.savez_compressed)(path, normal(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refuse(f"cannot be read as {suffix}, it is truncated or not of that kind", path)


def test_corrupt_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, normal(500))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    refuse("cannot be read as .npz", path)


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_are_not_unpickled(tmp_path: Path, suffix: str) -> None:
    path, mark = tmp_path / f"x{suffix}", tmp_path / "mark"
    array = np.array([[Trap(mark)]], dtype=object)
    np.save(path, array, allow_pickle=True) if suffix == ".npy" else np.savez(path, array)
    refuse(f"cannot be read as {suffix}", path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a,b\n1,2\n3,x\n",
            "has 'x', which is no number, at row 1, column 1 (line 3 of the file): fill it in, leave the",
        ),
        ("1,2,3\n4,5\n", "has 2 values in row 1 (line 2 of the file), and 3 before"),
        ("1,x\n2,3\n4,5\n", "has 'x', which is no number, at row 0, column 1 (line 1 of the file)"),
        ("a,b\n\n1, \n3,?\n5,\n2,\n4,\n6,\n", "has no value to train on in column b: take it out with --drop b"),
        ("", "cannot be read as .csv"),
        ("a,b\n", "cannot be read as .csv"),
    ],
)
def test_csv_that_is_no_table_of_numbers(tmp_path: Path, text: str, said: str) -> None:
    """Nor is a first point with an unreadable cell taken for a header and dropped."""
    (tmp_path / "x.csv").write_text(text)
    refuse(said, tmp_path / "x.csv")


def test_arrays_that_are_no_points(tmp_path: Path) -> None:
    refuse("float64 of shape (20,): it must be numbers, a point to a row", save(tmp_path / "x.npy", np.zeros(20)))
    refuse("<U1 of shape (1, 1)", save(tmp_path / "x.npy", np.array([["a"]])))
    refuse("of shape (0, 3)", save(tmp_path / "x.npy", np.zeros((0, 3))))
    refuse("complex numbers", save(tmp_path / "x.npy", normal() + 1j))
    refuse("whole numbers below 0", save(tmp_path / "x.npy", np.arange(-8, 12).reshape(5, 2, 2)))
    refuse("4 points are too few to hold some out", save(tmp_path / "x.npy", normal(4)))


def test_npz_that_does_not_say_what_is_what(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=normal(), b=normal())
    refuse("holds a, b: name the arrays 'train' and 'test'", path)
    np.savez(path, train=normal(20, 3), test=normal(20, 4))
    refuse("have 3 and 4 columns", path)


# MNIST


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (6, 28, 28)), rng.integers(0, 256, (3, 28, 28))
    for kind, images in (("train", train), ("t10k", test)):
        (raw / f"{kind}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{kind}-labels-idx1-ubyte").write_bytes(idx(np.arange(len(images))))
    return tmp_path, train, test


def test_mnist_is_read_right(mnist: tuple[Path, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    root, train, test = mnist
    data = load_data("mnist", root=root)
    assert data.split == "6 train / 3 test, torchvision's"
    assert str(data.transform) == "(pixel + u) / 256"
    assert torch.equal((data.train[:] * 256).floor(), torch.as_tensor(train).flatten(1).float())
    assert torch.equal((data.test * 256).floor(), torch.as_tensor(test).flatten(1).float())
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == (list(range(6)), list(range(3)))
    monkeypatch.setenv("PYROVAE_DATA", str(root))
    assert torch.equal(load_data("mnist").test, data.test)


def test_mnist_is_looked_for_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYROVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "pyrovae"
    refuse(f"MNIST is not in {tmp_path / 'pyrovae'}: name the folder that holds MNIST/raw", "mnist")


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["empty", "header", "short", "magic", "dimensions"])
def test_damaged_idx(mnist: tuple[Path, np.ndarray, np.ndarray], file: str, damage: str) -> None:
    root = mnist[0]
    path = root / "MNIST" / "raw" / file
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "header": content[:6],
        "short": content[:-2],
        "magic": b"\x00\x00\x0a\x03" + content[4:],  # a type that the format does not have
        "dimensions": content[:3] + b"\x02" + content[4:],
    }
    path.write_bytes(damaged[damage])
    refuse("cannot be read, its files are truncated or corrupt", "mnist", root=root)


def test_idx_of_other_images(mnist: tuple[Path, np.ndarray, np.ndarray]) -> None:
    root = mnist[0]
    (root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 14, 56))))
    refuse("shape (3, 14, 56) where images of 28 × 28 belong", "mnist", root=root)


def test_a_failed_download_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    refuse("MNIST could not be downloaded", "mnist", root=tmp_path, download=True)


@pytest.mark.skipif(
    not (default_root() / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file(),
    reason="MNIST is not in $PYROVAE_DATA or the user's cache",
)
def test_the_real_mnist() -> None:
    data = load_data("mnist", "threshold")
    assert (len(data.train), len(data.test), data.dim) == (60_000, 10_000, 784)
    raw = (default_root() / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    lit = np.frombuffer(raw, np.uint8).reshape(10_000, 784) >= 128
    assert torch.equal(data.test, torch.as_tensor(lit).float())
