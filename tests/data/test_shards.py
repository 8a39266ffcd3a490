"""Files of a folder as one Dataset: the rows of all, each file read once in an epoch, and the numbers of a tensor."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

import pyrovae
from pyrovae import InvalidInputError, Shards

SIZES = (20, 7, 13, 30)


def shards(folder: Path) -> Tensor:
    """Write files of several kinds. Returns the rows of all."""
    x = torch.randn(sum(SIZES), 3, generator=torch.Generator().manual_seed(0))
    for number, part in enumerate(x.split(SIZES)):
        if number % 2:
            np.savez_compressed(folder / f"{number}.npz", x=part.numpy(), y=np.zeros(5))
        else:
            np.save(folder / f"{number}.npy", part.numpy().astype(np.float64))
    (folder / "notes.txt").write_text("no points")
    return x


def test_rows_are_those_of_all_files_in_order(tmp_path: Path) -> None:
    x = shards(tmp_path)
    data = Shards(tmp_path, num_cached=1)
    assert len(data) == len(x)
    assert torch.equal(torch.stack([data[row] for row in range(len(data))]), x)
    assert torch.equal(data[-1], x[-1])
    assert torch.equal(torch.stack(data.__getitems__([69, 3, 25])), x[[69, 3, 25]])
    assert Shards(tmp_path / "0.npy", dtype=torch.float64)[4].dtype == torch.float64


def test_an_epoch_reads_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = shards(tmp_path)
    data, read = Shards(tmp_path, num_cached=2), Shards._read
    files: list[int] = []
    monkeypatch.setattr(Shards, "_read", lambda self, number: (files.append(number), read(self, number))[1])
    order = data.order()
    assert torch.equal(order.sort().values, torch.arange(len(x)))
    for rows in order.split(8):
        assert torch.equal(torch.stack(data.__getitems__(rows.tolist())), x[rows])
    assert sorted(files) == [0, 1, 2, 3]
    assert not torch.equal(data.order(), order)


def test_a_pair_is_trained_and_scored_on_them(tmp_path: Path) -> None:
    x = shards(tmp_path)
    data = Shards(tmp_path, num_cached=2)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        model, guide = pyrovae.load("ppca")(3, latent=1)
        losses.append(pyrovae.fit(model, guide, data, epochs=2, batch_size=16, seed=3).losses)
    assert losses[0] == losses[1]
    streamed, whole = (pyrovae.evaluate(model, guide, points, 20) for points in (data, x))
    assert torch.equal(streamed.log_likelihood, whole.log_likelihood)


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]}).to_parquet(tmp_path / "0.parquet")
    assert torch.stack(Shards(tmp_path, columns=["c", "a"]).__getitems__([0, 1])).tolist() == [[5.0, 1.0], [6.0, 2.0]]


def test_what_is_no_folder_of_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"is no .npy, .npz, .parquet file"):
        Shards(tmp_path)
    np.save(tmp_path / "0.npy", np.zeros((3, 2)))
    np.save(tmp_path / "1.npy", np.zeros((3, 4)))
    with pytest.raises(InvalidInputError, match=r"1.npy holds an array of shape \(3, 4\), and .*0.npy one of \(3, 2\)"):
        Shards(tmp_path)
    (tmp_path / "1.npy").unlink()
    (tmp_path / "1.npz").write_text("no archive")
    with pytest.raises(InvalidInputError, match="1.npz cannot be read"):
        Shards(tmp_path)
    with pytest.raises(InvalidInputError, match=r"pyrovae.Shards of files"):
        pyrovae.fit(*pyrovae.load("ppca")(2, latent=1), np.load(tmp_path / "0.npy", mmap_mode="r"))


def test_a_data_set_of_torchvision() -> None:
    pixels = torchvision.transforms.Compose([torchvision.transforms.ToTensor(), torch.flatten])
    data = torchvision.datasets.FakeData(24, (1, 2, 2), transform=pixels)
    model, guide = pyrovae.load("ppca")(4, latent=1)
    fit = pyrovae.fit(model, guide, data, epochs=2, batch_size=8)
    assert fit.steps == 6
    x = torch.stack([x for x, _ in data])
    found = pyrovae.evaluate(model, guide, data, 10)
    assert torch.equal(found.log_likelihood, pyrovae.evaluate(model, guide, x, 10).log_likelihood)
