"""Data larger than memory: any Dataset, or whatever gives batches again and again, trains as the resident tensor does."""

import math
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from small_pairs import Location, nothing
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import pyrovae
from pyrovae import InvalidInputError, fit
from pyrovae.training.batches import START, InMemoryBatches, StreamingBatches, source_of

CPU = torch.device("cpu")


def vae_fit(x: Any, **told: Any) -> list[float]:
    torch.manual_seed(0)
    pair = [part.double() for part in pyrovae.load("vae")(3, latent=2, hidden=(8,))]
    return fit(*pair, x, **{"epochs": 3, "batch_size": 16, "seed": 4, **told}).losses


class Rows(Dataset):
    """Point n is (n, n, n), with its number beside it."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, n: int) -> tuple[Tensor, int]:
        return torch.full((3,), float(n)), n


class Unending(IterableDataset):
    """Points one after another, and no word of how many."""

    def __init__(self, x: Tensor):
        self.x = x

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.x)


class Counted(Unending):
    def __len__(self) -> int:
        return len(self.x)


class Again:
    """Batches that are made anew whenever they are asked for."""

    def __init__(self, make: Any):
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return self.make()


# the same training


def test_a_dataset_trains_as_its_tensor_does() -> None:
    """Same seed, same order, same noise, with a ragged last batch; the model starts from a mean that is summed in another
    order."""
    x = torch.randn(50, 3).double()
    expected = pytest.approx(vae_fit(x), rel=1e-10)
    assert vae_fit(TensorDataset(x)) == expected
    assert vae_fit(TensorDataset(x, torch.arange(50))) == expected


def test_batches_train_as_they_come() -> None:
    x = torch.randn(50, 3).double()
    batches = list(x.split(16))
    expected = vae_fit(batches)
    assert vae_fit(DataLoader(TensorDataset(x), 16)) == expected
    assert vae_fit(DataLoader(TensorDataset(x), 16, num_workers=2)) == expected
    assert vae_fit(Counted(x)) == expected
    assert vae_fit([(batch, "labels") for batch in batches]) == expected
    assert vae_fit(Again(lambda: iter(batches)), schedule=None) == vae_fit(batches, schedule=None)
    assert vae_fit(DataLoader(TensorDataset(x), 16, shuffle=True)) != expected


def test_a_streams_losses_are_means_over_its_points() -> None:
    """Batches of unequal sizes: (Σ_n |x_n|² + 3 log 2π) / 2N at μ = 0."""
    batches = [torch.randn(size, 3) for size in (7, 2, 5)]
    result = fit(Location(), nothing, batches, epochs=1, lr=1e-12)
    expected = 0.5 * (torch.cat(batches).square().sum(-1) + 3 * np.log(2 * np.pi)).mean()
    assert result.losses == pytest.approx([expected.item()], rel=1e-5)
    assert result.steps == 3


def test_each_epoch_has_all_points_in_an_order_of_its_own_and_knows_their_rows() -> None:
    for source in (
        StreamingBatches(Rows(50), 16, 3, CPU),
        InMemoryBatches(torch.arange(50.0).unsqueeze(-1).expand(50, 3), 16, 3),
    ):
        orders = []
        for epoch in (0, 1):
            batches = list(source.batches(epoch, 0))
            assert [len(x) for x, _ in batches] == [16, 16, 16, 2]
            assert all(torch.equal(x[:, 0].long(), rows) for x, rows in batches)
            orders.append(torch.cat([rows for _, rows in batches]).tolist())
            later = list(source.batches(epoch, 2))
            assert [rows.tolist() for _, rows in later] == [rows.tolist() for _, rows in batches[2:]]
        assert orders[0] != orders[1]
        assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))


def test_a_model_starts_from_the_first_points_of_a_stream() -> None:
    x = torch.randn(64, 3) + 5.0
    model, guide = pyrovae.load("ppca")(3, latent=1)
    fit(model, guide, list(x.split(16)), epochs=0)
    torch.testing.assert_close(model.mu.detach(), x.mean(0))


def test_torchs_random_state_is_left_as_it_was() -> None:
    state = torch.get_rng_state()
    fit(Location(), nothing, DataLoader(Rows(40), 16, shuffle=True), epochs=2)
    assert torch.equal(torch.get_rng_state(), state)


# memory


def test_a_stream_holds_no_more_than_it_uses() -> None:
    """Of the data the first 20,000 points are kept, for the model's start; of what follows, a batch and its successor."""
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = [0]

    def make() -> Iterator[Tensor]:
        for _ in range(60):
            batch = torch.randn(1000, 3)
            alive.add(batch)
            most[0] = max(most[0], len(alive))
            yield batch
            del batch

    source = source_of(Again(make), None, 0, CPU)
    assert len(source.example) == START
    assert most[0] <= START // 1000 + 1
    most[0] = 0
    for _ in source.batches(0, 0):
        pass
    assert most[0] <= 3  # one that is being made, the one in use, and the source's own


# what cannot be trained on


def refusal(x: Any, **told: Any) -> str:
    with pytest.raises(InvalidInputError) as refused:
        fit(Location(), nothing, x, **{"epochs": 2, "batch_size": 4, **told})
    assert "\n" not in str(refused.value)
    return str(refused.value)


def spoiled(row: int) -> Tensor:
    x = torch.randn(20, 3)
    x[row, 1] = float("nan")
    return x


def test_what_can_be_gone_through_once() -> None:
    assert "x is a generator that can be gone through once: give what can be iterated over again" in refusal(
        batch for batch in torch.randn(8, 3).split(4)
    )
    once = iter(torch.randn(8, 3).split(4))
    assert "x gave no batches in epoch 1: give what can be iterated over again" in refusal(
        Again(lambda: once if list_of(once) else iter(())), schedule=None
    )


def list_of(iterator: Any) -> bool:
    return iterator.__length_hint__() > 0


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([], "x has no batches: give at least one point"),
        (TensorDataset(torch.zeros(0, 3)), "x has no batches: give at least one point"),
        (
            [torch.randn(4, 3), torch.zeros(0, 3)],
            "In batch 2 of epoch 1, x must be a tensor with a row for each data point",
        ),
        ([np.zeros((4, 3))], "A batch of x is ndarray: give tensors, or tuples whose first part is one"),
        ([{"x": torch.randn(4, 3)}], "A batch of x is dict: give tensors"),
        ([torch.randn(4, 3), None], "A batch of x is NoneType: give tensors"),
        ("digits", "A batch of x is str: give tensors"),
        (np.zeros((4, 3)), "x is ndarray: give a tensor with a row for each point"),
        (7, "x is int: give a tensor"),
        ([torch.ones(4, 3, dtype=torch.uint8)], "In batch 1 of epoch 1, x is torch.uint8: convert it"),
        ([torch.randn(4)], "In batch 1 of epoch 1, x must be a tensor with a row for each data point"),
        (
            [torch.randn(4, 3), torch.randn(4, 2)],
            "Batch 2 of epoch 1 has points of shape (2,), torch.float32, where the first",
        ),
        ([torch.randn(4, 3), torch.randn(4, 3).double()], "Batch 2 of epoch 1 has points of shape (3,), torch.float64"),
        (
            list(spoiled(13).split(4)),
            "In batch 4 of epoch 1, x[1, 1] is nan, and this pair takes no missing values: remove or impute such values (1 of 4 points",
        ),
        (
            spoiled(13),
            "x[13, 1] is nan, and this pair takes no missing values: remove or impute such values (1 of 20 points have any)",
        ),
    ],
)
def test_one_sentence_each(x: Any, message: str) -> None:
    assert message in refusal(x)


def test_a_bad_point_deep_in_a_stream_is_found_when_it_comes() -> None:
    class Late(Rows):
        def __getitem__(self, n: int) -> tuple[Tensor, int]:
            return torch.full((3,), float("nan") if n == self.count - 1 else 1.0), n

    class InOrder(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            return map(Late(2 * START).__getitem__, range(2 * START))

    model = Location()
    with pytest.raises(InvalidInputError, match=r"In batch 80 of epoch 1, x\[499, 0\] is nan, .*1 of 500 points"):
        fit(model, nothing, InOrder(), epochs=1, batch_size=500, schedule=None)
    assert torch.isfinite(model.mu).all()


def test_an_unknown_number_of_batches() -> None:
    x = Unending(torch.randn(20, 3))
    assert "which a schedule needs: give it __len__, or schedule=None" in refusal(x)
    assert "which kl_warmup_fraction is a share of: give it __len__, or kl_warmup_fraction=0" in refusal(
        x, schedule=None, kl_warmup_fraction=0.5
    )
    result = fit(Location(), nothing, x, epochs=2, batch_size=8, schedule=None)
    assert result.steps == 6
    assert result.execution == "steps recorded and replayed: how many there will be is not known"


def test_a_dataset_needs_a_batch_size_and_a_length() -> None:
    class NoLength(Dataset):
        def __getitem__(self, n: int) -> Tensor:
            return torch.zeros(3)

    assert "A Dataset is trained on in batches: give a batch_size" in refusal(Rows(8), batch_size=None)
    assert "x is a NoLength of unknown length: give it __len__" in refusal(NoLength())


def test_a_stream_cannot_be_split() -> None:
    assert "A stream cannot be split: give EarlyStopping the points to validate on" in refusal(
        Rows(8), early_stopping=pyrovae.training.EarlyStopping(0.2)
    )


class Normalised(pyrovae.Module):
    """A guide with batch statistics."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.net(x), 1.0).to_event(1))


class Noisy(pyrovae.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 3)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize("points", [32, 33, 34, 17])
def test_batch_norm_gets_no_batch_of_one_point(points):
    """The odd point joins another batch: every point is used once, as the number of steps tells."""
    x = torch.randn(points, 3)
    for data in (x, TensorDataset(x)):
        result = fit(Noisy(), Normalised(), data, epochs=2, batch_size=16)
        assert result.steps == 2 * {32: 2, 33: 2, 34: 3, 17: 1}[points]
        assert math.isfinite(result.losses[-1])
    with pytest.raises(InvalidInputError, match="a batch has a single point, and BatchNorm needs two"):
        fit(Noisy(), Normalised(), DataLoader(TensorDataset(torch.randn(33, 3)), 16), epochs=1)
    fit(Noisy(), Normalised(), DataLoader(TensorDataset(torch.randn(33, 3)), 16, drop_last=True), epochs=1)


def test_other_pairs_keep_their_last_point_for_itself():
    assert fit(Noisy(), pyrovae.guides.MeanField(3, 3), torch.randn(33, 3), epochs=1, batch_size=16).steps == 3
