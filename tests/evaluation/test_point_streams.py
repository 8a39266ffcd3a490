"""evaluate() of points larger than memory: the numbers of the tensor, and few points in memory at a time."""

import json
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

import pyrovae
from pyrovae import InvalidInputError, evaluate
from pyrovae.data.streams import BLOCK_ROWS, PointStream, point_stream
from pyrovae.data.transforms import Logit

N, D = 3 * BLOCK_ROWS + 17, 3
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0))


class Rows(Dataset):
    """Points of a tensor, made one by one; it counts how many exist at the same time."""

    def __init__(self, x: Tensor):
        self.x, self.alive, self.most = x, 0, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if row >= len(self):
            raise IndexError
        point = self.x[row].clone()
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(point, self._gone)
        return point, row

    def _gone(self) -> None:
        self.alive -= 1


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


class Batches:
    """Batches of sizes that fit nothing."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(X.split(100))


SOURCES = {
    "Dataset": lambda: Rows(X),
    "DataLoader": lambda: DataLoader(TensorDataset(X), 50),
    "shuffled": lambda: DataLoader(Rows(X), 64, shuffle=True, drop_last=True),
    "IterableDataset": Stream,
    "loader of one": lambda: DataLoader(Stream(), 100),
    "batches": Batches,
    "list of batches": lambda: list(X.split(400)),
}


def pair(name: str, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return pyrovae.load(name)(D, **options)


def same(found: pyrovae.Evidence, expected: pyrovae.Evidence) -> None:
    for name, values in expected.per_point().items():
        torch.testing.assert_close(found.per_point()[name], values, rtol=0, atol=0, equal_nan=True)
    assert found.data_hash == expected.data_hash
    assert found.method == expected.method
    assert found.reliability_message == expected.reliability_message


@pytest.mark.parametrize("source", SOURCES)
def test_the_numbers_are_those_of_the_tensor(source: str) -> None:
    model, guide = pair("ppca", latent=1)
    same(evaluate(model, guide, SOURCES[source](), 40), evaluate(model, guide, X, 40))


def test_so_are_estimates_to_a_tolerance() -> None:
    """Modes are searched at random points, and mixtures are drawn from with noise that goes by the point."""
    model, guide = pair("vae", latent=1, hidden=(4,))
    x = X[: BLOCK_ROWS + 20]
    same(evaluate(model, guide, Rows(x), tolerance=0.2), evaluate(model, guide, x, tolerance=0.2))


def test_so_are_log_jacobians() -> None:
    transform = Logit(10)
    x = transform(torch.randint(0, 10, (N, D)).float())
    model, guide = pair("gaussian")
    found, expected = (evaluate(model, guide, each, 2, transform=transform) for each in (Rows(x), x))
    assert found.bits_per_dim == expected.bits_per_dim
    same(found, expected)


def test_so_are_those_of_points_with_missing_entries() -> None:
    x = X.clone()
    x[::5, 1] = torch.nan
    model, guide = pair("ppca", latent=1)
    found, expected = (evaluate(model, guide, each, 5) for each in (Rows(x), x))
    same(found, expected)
    assert found.num_missing == expected.num_missing == len(x[::5])


def test_a_memory_map_takes_the_pairs_type(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.double().numpy())
    model, guide = pair("gmm", components=2)
    same(evaluate(model, guide, np.load(tmp_path / "x.npy", mmap_mode="r"), 20), evaluate(model, guide, X, 20))
    with pytest.raises(InvalidInputError, match="torch.as_tensor converts it"):
        evaluate(model, guide, np.load(tmp_path / "x.npy"), 20)


def test_few_points_are_alive_at_a_time() -> None:
    rows = Rows(torch.randn(40 * BLOCK_ROWS, D))
    model, guide = pair("ppca", latent=1)
    evaluate(model, guide, rows, 2)
    assert 0 < rows.most <= BLOCK_ROWS + 1
    assert rows.alive == 0


def test_memory_does_not_grow_with_the_points(tmp_path: Path) -> None:
    """Points of 20 MB, of which a tenth is ever held: what NumPy and Python allocate, at its peak. And a tensor's blocks are bounded."""
    points = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(20 * BLOCK_ROWS, 1000))
    points[:] = np.random.default_rng(0).normal(size=points.shape)
    stream = point_stream(np.load(tmp_path / "x.npy", mmap_mode="r"), torch.device("cpu"), torch.float32)
    assert stream is not None
    tracemalloc.start()
    total = sum(float(part.sum()) for part in stream.split(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == pytest.approx(float(points.sum(dtype=np.float64)), abs=0.5)
    assert peak < 0.2 * points.nbytes
    assert stream.part(slice(100, 5000))[3:5].shape == (2, 1000)


def test_a_stream_has_the_rows_of_its_source() -> None:
    for make in SOURCES.values():
        stream = point_stream(make(), torch.device("cpu"), torch.float32)
        assert isinstance(stream, PointStream)
        assert stream.shape == X.shape
        for rows in (slice(0, 5), slice(250, 600), slice(N - 3, None), slice(7, 7), slice(None)):
            assert torch.equal(stream[rows], X[rows])
        for rows in (slice(500, 510), slice(1, 2)):  # backwards
            assert torch.equal(stream[rows], X[rows])
        assert torch.equal(stream[torch.tensor([1, 300, 301, N - 1])], X[[1, 300, 301, N - 1]])
        assert torch.equal(stream[5], X[5])
        part = stream.part(slice(100, 700))
        assert torch.equal(torch.cat(list(part.split(33))), X[100:700])
        assert stream.double()[2:4].dtype == torch.float64


def test_random_transforms_draw_a_point_once() -> None:
    class Noisy(Rows):
        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            point, row = super().__getitem__(row)
            return point + torch.rand(D), row

    model, guide = pair("ppca", latent=1)
    one, other = (evaluate(model, guide, Noisy(X), 20).log_likelihood for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, evaluate(model, guide, X, 20).log_likelihood)


def test_points_that_change_are_refused() -> None:
    class Changing(Rows):
        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return torch.as_tensor(np.random.default_rng().normal(size=D), dtype=torch.float32), row

    with pytest.raises(InvalidInputError, match="x gives other points each time it is gone through"):
        evaluate(*pair("ppca", latent=1), Changing(X), 2)


def test_bad_points_are_named_by_their_row_among_all() -> None:
    x = X.clone()
    x[BLOCK_ROWS + 5, 2] = np.inf
    with pytest.raises(InvalidInputError, match=rf"x\[{BLOCK_ROWS + 5}, 2\] is inf"):
        evaluate(*pair("ppca", latent=1), Rows(x), 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (iter(X.split(10)), "can be gone through once"),
        (TensorDataset(X[:0]), "x has no points"),
        ([["a"]], r"got list \(torch.as_tensor converts it\)"),
        ("x.npy", "got str"),
        (DataLoader([{"x": 1}]), "A batch of x is dict: give tensors"),
    ],
)
def test_what_is_no_source_is_refused(x: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        evaluate(*pair("ppca", latent=1), x, 2)


def test_a_sampler_of_some_points_keeps_its_own() -> None:
    """In the order that one seed gives."""
    torch.manual_seed(3)
    loader = DataLoader(TensorDataset(X), 10, sampler=SubsetRandomSampler(range(30)))
    found = evaluate(*pair("ppca", latent=1), loader, 2)
    assert len(found) == 30
    exact = pair("ppca", latent=1)[0].log_prob(X[:30]).detach().double()
    torch.testing.assert_close(found.exact_log_likelihood.sort().values, exact.sort().values)  # type: ignore[union-attr]


def test_a_guide_of_single_points_needs_all_of_them() -> None:
    model, _ = pair("ppca", latent=1)
    guide = pyrovae.guides.PerPoint(N, 1)
    with pytest.raises(InvalidInputError, match="parameters for each point, so it is evaluated on all of them at once"):
        evaluate(model, guide, Rows(X), 2)


@pytest.mark.parametrize("transform", ["dequantise", "binarise", "standardise"])
def test_a_large_file_is_evaluated_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: str
) -> None:
    """Noise is drawn in the order of the points, so that the numbers are those of a file that is read as a whole."""
    values = np.random.default_rng(0).integers(0, 8, (2 * BLOCK_ROWS + 9, D)).astype(np.uint8)
    np.save(tmp_path / "train.npy", values[:100])
    np.save(tmp_path / "large.npy", values)
    model = ("bernoulli_mixture", "--set", "components=2") if transform == "binarise" else ("gaussian",)
    options = ("--data", tmp_path / "train.npy", "--levels", 8, "--transform", transform, "--epochs", 1)
    assert command_line.invoke("train", *model, *options, "--out", tmp_path / "run").exit_code == 0
    numbers = []
    for size in (2**30, 1):
        monkeypatch.setattr("pyrovae.data.large_files.LARGE_BYTES", size)
        command_line.invoke(
            *("evaluate", tmp_path / "run", "--data", tmp_path / "large.npy", "--num-samples", 2),
            *("--json", tmp_path / f"{size}.json", "--per-point", tmp_path / "points.csv"),
        )
        numbers.append(json.loads((tmp_path / f"{size}.json").read_text())["points"])
    assert numbers[0] == numbers[1]
    assert len((tmp_path / "points.csv").read_text().splitlines()) == len(values) + 1
    for option in ("--prior-sampling", "--two-sided", "--ais"):
        said = command_line.refused("evaluate", tmp_path / "run", "--data", tmp_path / "large.npy", option)
        assert "is read block by block" in said
    values[300, 1] = 9
    np.save(tmp_path / "large.npy", values)
    said = command_line.refused("evaluate", tmp_path / "run", "--data", tmp_path / "large.npy")
    assert "Row 300, column 1 has the value 9" in said
