"""A folder of arrays or tables, read as one data set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrovae import InvalidInputError, load_data

ROWS = np.random.default_rng(0).normal(size=(12, 3))


def whole(folder: Path, **options: object) -> torch.Tensor:
    """All points of a folder, in its own order and units."""
    return load_data(folder, "none", split=False, dtype="float64", **options).train


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "parquet"])
def test_the_points_of_the_files_follow_one_another(suffix: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    for number, part in enumerate(np.split(ROWS, 3)):
        file, frame = tmp_path / f"{number}.{suffix}", pandas.DataFrame(part, columns=["a", "b", "c"])
        {
            "npy": lambda file=file, part=part: np.save(file, part),
            "npz": lambda file=file, part=part: np.savez(file, part),
            "csv": lambda file=file, frame=frame: frame.to_csv(file, index=False),
            "parquet": lambda file=file, frame=frame: frame.to_parquet(file),
        }[suffix]()
    np.testing.assert_allclose(whole(tmp_path), ROWS, rtol=1e-12)
    data = load_data(tmp_path, "none", seed=3)
    together = torch.cat([data.train, data.test])[torch.cat([data.train_rows, data.test_rows]).argsort()]
    np.testing.assert_allclose(together, ROWS, rtol=1e-6)


def test_folders_train_and_test_are_the_split(tmp_path: Path) -> None:
    for half, parts in (("train", np.split(ROWS[:8], 2)), ("test", [ROWS[8:]])):
        (tmp_path / half).mkdir()
        for number, part in enumerate(parts):
            np.save(tmp_path / half / f"{number}.npy", part)
    data = load_data(tmp_path, "none", dtype="float64")
    np.testing.assert_array_equal(data.train, ROWS[:8])
    np.testing.assert_array_equal(data.test, ROWS[8:])


def test_labels_and_columns_of_text_go_with_their_points(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,kind\n1,2,b\n3,4,a\n")
    (tmp_path / "b.csv").write_text("x,y,kind\n5,6.5,b\n7,8,c\n")
    data = load_data(tmp_path, "none", split=False, label="kind", dtype="float64")
    assert data.train.tolist() == [[1, 2], [3, 4], [5, 6.5], [7, 8]]
    assert data.column_names == ("x", "y")
    assert [data.label_names[place] for place in data.labels] == ["b", "a", "b", "c"]


def test_a_folder_with_images_is_one_of_images(tmp_path: Path) -> None:
    """A text beside them is no data."""
    for number in range(5):
        Image.fromarray(np.full((4, 4), 50 * number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "list.txt").write_text("1 2\n3 4\n")
    assert load_data(tmp_path).dim == 16


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "x,y\n1,2\n", "b.csv": "x\n1\n"}, r"b\.csv holds points of shape \(1,\), and .*a\.csv of \(2,\)"),
        ({"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"}, r"b\.csv has the columns x, z, and .*a\.csv x, y: give all"),
        (
            {"a.csv": "x,y\n1,2\n", "b.csv": "x,y\n1,q\n2,r\n3,s\n"},
            r"Column 'y' is text in one of .*b\.csv and .*a\.csv",
        ),
        ({"a.csv": "x,y\n1,2\n", "b.npy": "cut"}, r"b\.npy cannot be read as \.npy, it is truncated"),
        ({}, r"has no files of points or images: points are in \.npy, "),
    ],
)
def test_files_that_do_not_go_together_are_refused(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_data(tmp_path)


def test_half_a_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    np.save(tmp_path / "train" / "a.npy", ROWS)
    with pytest.raises(InvalidInputError, match=r"test has no files of points or images"):
        load_data(tmp_path)


@pytest.mark.parametrize("array", [np.zeros(()), np.zeros((0, 3)), np.array([["a", "b"]])])
def test_a_file_without_points_is_named(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "b.npy", array)
    with pytest.raises(InvalidInputError, match=r"b\.npy holds .* of shape .*: it must be numbers, a point to a row"):
        load_data(tmp_path)


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "._a.npy").write_text("what other systems leave")
    assert len(load_data(tmp_path, "none", split=False).train) == len(ROWS)


def test_a_file_with_a_split_of_its_own_stands_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=ROWS, test=ROWS)
    with pytest.raises(InvalidInputError, match=r"a\.npz has a split of its own, so it is no part of a folder"):
        load_data(tmp_path)
