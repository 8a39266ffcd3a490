"""What is said of columns, and the precision that they get."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyrovae import InvalidInputError, load_data
from pyrovae.data.transforms import Standardise, transform_from_state

RNG = np.random.default_rng(0)


def save(path: Path, *columns: np.ndarray) -> Path:
    np.savetxt(path, np.column_stack(columns), delimiter=",", header="time,b,c", comments="")
    return path


@pytest.mark.parametrize(("offset", "scale"), [(1.7e9, 1.0), (0.0, 1e6), (-1e6, 1.0)])
def test_a_table_that_single_precision_would_blur_is_read_in_double(
    tmp_path: Path, offset: float, scale: float
) -> None:
    x = RNG.normal(size=(60, 3))
    x[:, 0] = offset + scale * x[:, 0]
    data = load_data(save(tmp_path / "x.csv", *x.T))
    assert data.test.dtype == torch.float64
    torch.testing.assert_close(data.test, torch.as_tensor(x)[data.test_rows], rtol=1e-15, atol=0)
    assert not data.notes


def test_single_precision_is_said_to_blur_a_column_and_the_remedy_helps(tmp_path: Path) -> None:
    path = save(tmp_path / "x.csv", 1.7e9 + RNG.normal(size=60), *RNG.normal(size=(2, 60)))
    with pytest.raises(InvalidInputError, match="constant"):
        load_data(save(tmp_path / "y.csv", np.full(60, 1.7e9), *RNG.normal(size=(2, 60))))
    (note,) = load_data(path, dtype="float32").notes
    assert note.startswith(
        "Single precision rounds column time: numbers near 1.7e+09 are 2e+02 apart, and the standard deviation is "
    )
    assert note.endswith("Use --dtype float64, or subtract an offset.")
    assert not load_data(path, dtype="float64").notes


def test_columns_of_few_values_are_said_by_name(tmp_path: Path) -> None:
    flag = (np.arange(200) % 2).astype(float) + 0.5
    zeros = np.where(np.arange(200) % 5, 0.0, RNG.normal(size=200))
    (note,) = load_data(save(tmp_path / "x.csv", flag, zeros, RNG.normal(size=200))).notes
    assert note.startswith("Column time, b take few values. A density there has no maximum")
    assert load_data("iris").notes == load_data("wine").notes == ()
    data = load_data(tmp_path / "x.csv", load_data(tmp_path / "x.csv").transform, split=False)
    assert not data.notes  # of points that are scored under a model of others


def test_standardised_columns_come_from_the_training_points(tmp_path: Path) -> None:
    x = RNG.normal(size=(100, 3)) * [1.0, 1e-3, 1e5] + [0.0, 7.0, 1e6]
    path = save(tmp_path / "x.csv", *x.T)
    data, raw = load_data(path, "standardise"), load_data(path)
    torch.testing.assert_close(data.train.double().mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.train.double().std(0, correction=0), torch.ones(3).double(), atol=1e-6, rtol=0)
    mean, sd = raw.train.mean(0), raw.train.std(0, correction=0)
    torch.testing.assert_close(data.test.double(), (raw.test - mean) / sd, atol=1e-6, rtol=0)
    expected = (-sd.log().sum().double()).expand(len(data.test))
    torch.testing.assert_close(data.transform.log_unit_jacobian(data.test), expected)
    assert isinstance(data.transform, Standardise)


@pytest.mark.parametrize("name", [None, "standardise", "logit", "binarise", "threshold", "levels"])
def test_a_transform_is_written_down_with_all_that_was_fitted(name: str | None) -> None:
    data = load_data("digits", name)
    again = load_data("digits", transform_from_state(data.transform.state()))
    assert str(again.transform) == str(data.transform)
    torch.testing.assert_close(again.test, data.test, rtol=0, atol=0 if name != "standardise" else 1e-6)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        (None, 0.5, "whole numbers from 0 to 255"),
        (None, 256.0, "whole numbers from 0 to 255"),
        ("binarise", -1.0, "whole numbers"),
    ],
)
def test_a_value_that_a_fitted_transform_is_not_made_for(
    tmp_path: Path, name: str | None, value: float, wanted: str
) -> None:
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (30, 4), dtype=np.uint8))
    transform = load_data(tmp_path / "x.npy", name).transform
    other = RNG.integers(0, 256, (8, 4)).astype(float)
    other[5, 2] = value
    np.save(tmp_path / "y.npy", other)
    with pytest.raises(
        InvalidInputError, match=f"Row 5, column 2 has the value {value:g}, and the transform .* takes {wanted}"
    ):
        load_data(tmp_path / "y.npy", transform, split=False)
