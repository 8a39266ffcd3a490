"""Parquet and Feather, as pandas reads them. Its engine may not be installed, so most frames are handed over without a file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyrovae import InvalidInputError, load_data

FRAME = pd.DataFrame(
    {"height": np.linspace(1.5, 1.9, 40), "age": np.arange(20, 60), "kind": ["a", "b"] * 20}, index=range(100, 140)
)


@pytest.fixture(params=["parquet", "feather"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that pandas reads as whatever frame is set."""
    file = tmp_path / f"table.{request.param}"
    file.write_bytes(b"")
    show(monkeypatch, FRAME)
    return file


def show(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame) -> None:
    for kind in ("parquet", "feather"):
        monkeypatch.setattr(pd, f"read_{kind}", lambda path: frame)


def test_columns_labels_and_names(path: Path) -> None:
    data = load_data(path, label="kind")
    assert data.column_names == ("height", "age")
    assert data.test_rows is not None
    expected = FRAME[["height", "age"]].to_numpy()[data.test_rows]
    torch.testing.assert_close(data.test, torch.as_tensor(expected).to(data.test.dtype))
    assert data.test_label_names == [FRAME["kind"].iloc[row] for row in data.test_rows.tolist()]
    with pytest.raises(InvalidInputError, match="has text in column 'kind': take it out with --drop kind"):
        load_data(path)


def test_whole_numbers_and_missing_ones(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, FRAME[["age"]].assign(flag=[True, False] * 20))
    assert str(load_data(path).transform).startswith("n + u")
    missing = FRAME[["height"]].assign(age=pd.array([None, *range(39)], dtype="Int64"))
    show(monkeypatch, missing)
    data = load_data(path)
    whole = torch.cat([data.train[:], data.test])
    assert whole.isnan().sum() == 1  # a missing value stays one
    assert whole.nan_to_num(-1.0)[:, 1].sort().values.tolist() == [-1.0, *range(39)]
    show(monkeypatch, FRAME[["height"]].assign(when=pd.date_range("2020-01-01", periods=40)))
    with pytest.raises(InvalidInputError, match="has text in column 'when'"):
        load_data(path)


def test_without_an_engine_it_is_said_what_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(path: Path) -> None:
        raise ImportError("Unable to find a usable engine")

    for kind in ("parquet", "feather"):
        monkeypatch.setattr(pd, f"read_{kind}", no_engine)
    with pytest.raises(
        InvalidInputError, match="needs pandas and pyarrow: pip install pandas pyarrow, or save it as .csv"
    ):
        load_data(path)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_real_files(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / f"table.{kind}"
    getattr(FRAME.reset_index(drop=True), f"to_{kind}")(path)
    data = load_data(path, drop=["kind"])
    assert data.column_names == ("height", "age")
    assert torch.cat([data.train[:], data.test])[:, 1].sort().values.tolist() == list(range(20, 60))
