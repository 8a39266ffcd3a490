"""A run that is killed and taken up again ends where the uninterrupted one ends, bit for bit."""

import csv
import errno
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from low_precision import no_reason_against
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError, fit
from pyrovae.cli.app import app
from pyrovae.data.stochastic import StochasticData
from pyrovae.data.transforms import Binarise
from pyrovae.pair.execution import modules
from pyrovae.runs import run as runs
from pyrovae.training import Checkpoints, EarlyStopping, iwae_schedule, with_warmup
from pyrovae.training.trainer import Trainer

DIM = 5


class Every(Checkpoints):
    """A checkpoint after every third look, so that a kill loses some."""

    every, calls = 3, 0

    def due(self) -> bool:
        self.calls += 1
        return self.calls % self.every == 0


@dataclass
class Outcome:
    fit: Any
    tensors: list[Tensor] = field(default_factory=list)


def points(count: int = 50) -> Tensor:
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(3)) @ torch.diag(torch.arange(1.0, DIM + 1))


def outcome(case: Any, folder: Path | None, resume: bool = False, **told: Any) -> Outcome:
    """A fit from a pair that is made anew each time, with random parameters that resuming must not depend on."""
    pyro.clear_param_store()
    torch.manual_seed(99 if resume else 1)
    model, guide, x, options = case()
    keep = None if folder is None else Every(folder, resume=resume)
    result = fit(
        model, guide, x, checkpoints=keep, **{"epochs": 4, "batch_size": 16, "lr": 0.02, "seed": 7, **options, **told}
    )
    named = [value for module in modules(model, guide) for value in module.state_dict().values()]
    stored = [value for _, value in sorted(pyro.get_param_store().named_parameters())]
    return Outcome(result, [value.detach().clone() for value in [*named, *stored]])


def killed(case: Any, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch, resume: bool = False) -> None:
    """Training that ends as a kill ends it, after so many of its own steps."""
    left = [step]
    whole = Trainer._step

    def dying(self: Trainer, x: Tensor) -> Tensor:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return whole(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            outcome(case, folder, resume)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert len(one.tensors) == len(other.tensors)
    for value, expected in zip(one.tensors, other.tensors, strict=True):
        assert torch.equal(value, expected)
    assert one.fit.losses == other.fit.losses
    assert one.fit.steps == other.fit.steps
    assert one.fit.execution == other.fit.execution
    assert one.fit.stop_reason == other.fit.stop_reason
    assert len(one.fit.history) == len(other.fit.history)
    for row, expected in zip(one.fit.history, other.fit.history, strict=True):
        for name in row.keys() - {"seconds"}:
            assert row[name] == expected[name] or (math.isnan(row[name]) and math.isnan(expected[name])), name


def ppca() -> Any:
    return *pyrovae.load("ppca")(DIM, latent=2), points(), {}


def gmm() -> Any:
    return *pyrovae.load("gmm")(DIM, components=3), points(), {}


def vae() -> Any:
    return *pyrovae.load("vae")(DIM, latent=2, hidden=(8,)), points(), {}


def told(case: Any, **options: Any) -> Any:
    """The case with other arguments to fit."""

    def build() -> Any:
        model, guide, x, before = case()
        return (
            model,
            guide,
            x,
            {**before, **{name: make() if name == "early_stopping" else make for name, make in options.items()}},
        )

    return build


def fed(make: Any, **options: Any) -> Any:
    """The VAE on other data."""

    def build() -> Any:
        model, guide, _, _ = vae()
        return model, guide, make(), options

    return build


def stored() -> Any:
    """Plain functions, whose parameters live in Pyro's store."""

    def model(x: Tensor) -> None:
        weights = pyro.param("W", torch.randn(2, DIM))
        scale = pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weights, scale).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        weights = pyro.param("V", torch.randn(DIM, 2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ weights, 0.5).to_event(1))

    return model, guide, points(), {}


class Noisy(pyrovae.Module):
    """A guide with batch statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIM, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.net(x), 0.5).to_event(1))


def batch_norm_and_dropout() -> Any:
    return pyrovae.load("vae")(DIM, latent=2, hidden=(8,))[0], Noisy(), points(), {}


class Centred(pyrovae.Module):
    """x ~ N(μ, σ²): μ is set from the data and stays; only σ is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.randn(DIM), requires_grad=False)
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mu, self.log_sigma.exp()).to_event(1), obs=x)

    def initialise(self, x: Tensor) -> None:
        with torch.no_grad():
            self.mu.copy_(x.mean(0))
            self.initialised.fill_(True)


def frozen() -> Any:
    return Centred(), lambda x: None, points(), {}


class Jittered(Dataset):
    """Points with fresh noise at every look, from torch's own random numbers."""

    def __init__(self, noise: float = 0.1):
        self.x, self.noise = points(), noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index] + self.noise * torch.randn(DIM), index


class Lines(IterableDataset):
    """Points one after another, of unknown number."""

    def __iter__(self) -> Any:
        return (row + 0.1 * torch.randn(DIM) for row in points())


def loader(**options: Any) -> Any:
    return lambda: DataLoader(Jittered(), 16, **options)


def with_own_generator() -> Any:
    return DataLoader(Jittered(), 16, shuffle=True, generator=torch.Generator().manual_seed(int(torch.randint(99, ()))))


def with_own_sampler() -> Any:
    data = Jittered()
    sampler = RandomSampler(data, generator=torch.Generator().manual_seed(int(torch.randint(99, ()))))
    return DataLoader(data, 16, sampler=sampler)


def redrawn() -> Any:
    pixels = torch.rand(50, DIM, generator=torch.Generator().manual_seed(4))
    model, guide = pyrovae.load("vae")(DIM, latent=2, hidden=(8,), likelihood=pyrovae.likelihoods.Bernoulli())
    return model, guide, StochasticData(pixels, Binarise()), {}


@pytest.fixture(autouse=True)
def _any_processor_has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.utils.precision.reason_against", no_reason_against)


CASES = {
    "exact": ppca,
    "enumerated": gmm,
    "vae": vae,
    "all-points-at-once": told(ppca, batch_size=None, epochs=12),
    "iwae_schedule": told(vae, schedule=iwae_schedule),
    "with_warmup": told(vae, schedule=with_warmup(iwae_schedule, 0.4)),
    "no-schedule": told(vae, schedule=None),
    "momentum": told(ppca, optimizer=lambda params, lr: torch.optim.SGD(params, lr * 1e-3, momentum=0.9)),
    "rmsprop": told(vae, optimizer=lambda params, lr: torch.optim.RMSprop(params, lr)),
    "average": told(vae, ema_decay=0.9, max_grad_norm=3.0),
    "warm-up": told(vae, kl_warmup_fraction=0.6),
    "bf16": told(vae, precision="bf16"),
    "best-kept": told(
        vae, early_stopping=lambda: EarlyStopping(0.3, patience=2), lr=0.5, schedule=None, epochs=12, ema_decay=0.5
    ),
    "best-kept-buffers": told(
        batch_norm_and_dropout, early_stopping=lambda: EarlyStopping(0.3, patience=2), lr=0.3, schedule=None, epochs=8
    ),
    "stock-objective": told(gmm, objective=pyro.infer.TraceGraph_ELBO()),
    "pyros-store": stored,
    "batch-norm-and-dropout": batch_norm_and_dropout,
    "frozen": frozen,
    "redrawn": redrawn,
    "dataset": fed(Jittered),
    "iterable-dataset": fed(Lines, schedule=None),
    "loader": fed(loader()),
    "shuffled-loader": fed(loader(shuffle=True)),
    "loader-with-workers": fed(loader(shuffle=True, num_workers=1), epochs=3),
    "loader-with-generator": fed(with_own_generator),
    "loader-with-sampler": fed(with_own_sampler),
    "list": fed(lambda: list(points().split(16))),
    "tuples": fed(lambda: DataLoader(TensorDataset(points(), torch.arange(50)), 16, shuffle=True)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_resumed_is_uninterrupted(case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of an epoch, at its end, and again after it was resumed."""
    expected = outcome(case, None)
    killed(case, tmp_path, 5, monkeypatch)
    killed(case, tmp_path, 2, monkeypatch, resume=True)
    killed(case, tmp_path, 2, monkeypatch, resume=True)
    assert_same(outcome(case, tmp_path, resume=True), expected)


@pytest.mark.parametrize("step", [3, 4, 5, 7, 8, 9, 11])
def test_resumed_from_any_step(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = told(vae, ema_decay=0.9, kl_warmup_fraction=0.5, early_stopping=lambda: EarlyStopping(0.1))
    expected = outcome(case, None)
    killed(case, tmp_path, step, monkeypatch)
    assert_same(outcome(case, tmp_path, resume=True), expected)


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path: Path) -> None:
    case = CASES["best-kept"]
    expected = outcome(case, tmp_path)
    assert expected.fit.stop_reason
    assert_same(outcome(case, tmp_path, resume=True), expected)
    assert_same(outcome(case, tmp_path, resume=True), expected)


def test_what_checkpoints_cost_nothing_of(tmp_path: Path) -> None:
    """Being written down changes no number."""
    for case in (vae, redrawn, batch_norm_and_dropout):
        assert_same(outcome(case, tmp_path), outcome(case, None))


class Fragile(pyrovae.Module):
    """x ~ N(μ, 1), and a gradient that is no number once μ₀ has passed 1: Adam moves μ by about lr a step."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(DIM))

    def forward(self, x: Tensor) -> None:
        mu = self.mu + 0.0 * (1.0 - self.mu[0]).log()
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0).to_event(1), obs=x)


def fragile() -> Any:
    options = {"lr": 0.45, "schedule": with_warmup(iwae_schedule, 0.1), "retry_lr_factor": 0.01}
    return Fragile(), lambda x: None, points() + 10.0, options


@pytest.mark.parametrize("step", [5, 9, 11, 14])
def test_resumed_before_and_after_training_went_back(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pyrovae"):
        expected = outcome(fragile, None)
    assert [record.getMessage().count("Going back to epoch") for record in caplog.records] == [1]
    monkeypatch.setattr(Every, "every", 1)
    killed(fragile, tmp_path, step, monkeypatch)
    assert_same(outcome(fragile, tmp_path, resume=True), expected)


def test_it_goes_back_once_however_often_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = told(fragile, retry_lr_factor=0.25)  # in epoch 3, and stops in epoch 4
    with pytest.raises(pyrovae.NonFiniteError) as uninterrupted:
        outcome(case, None)
    monkeypatch.setattr(Every, "every", 1)
    killed(case, tmp_path, 12, monkeypatch)
    caplog.clear()
    for _ in range(2):  # and the state that it stopped in is kept
        with pytest.raises(pyrovae.NonFiniteError) as resumed:
            outcome(case, tmp_path, resume=True)
        assert str(resumed.value) == str(uninterrupted.value)
    assert "Going back" not in caplog.text


def test_replayed_steps_are_resumed_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the resumed run would choose otherwise."""
    case = told(stored, batch_size=25, kl_warmup_fraction=0.5, ema_decay=0.9)
    monkeypatch.setattr("pyrovae.training.step_builder.REPLAYED_FROM", 1)
    expected = outcome(case, None)
    assert expected.fit.execution.startswith("steps recorded and replayed")
    killed(case, tmp_path, 5, monkeypatch)
    monkeypatch.setattr("pyrovae.training.step_builder.REPLAYED_FROM", 1000)
    assert_same(outcome(case, tmp_path, resume=True), expected)


def test_recorded_steps_are_resumed_on_the_same_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = told(
        stored, compile=True, batch_size=25, kl_warmup_fraction=0.5, ema_decay=0.9
    )  # one size, one compilation each
    expected = outcome(case, None)
    if not expected.fit.execution.startswith("steps recorded"):
        pytest.skip(expected.fit.execution)
    killed(case, tmp_path, 5, monkeypatch)
    assert_same(outcome(told(case, compile=None), tmp_path, resume=True), expected)


# bad moments


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    killed(vae, tmp_path / "run", 8, monkeypatch)
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint.previous.pt", "checkpoint.pt"]
    return tmp_path / "run"


def cut(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 0.999])
def test_from_a_truncated_checkpoint_to_the_one_before(
    interrupted: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    cut(interrupted / "checkpoint.pt", share)
    with caplog.at_level(logging.WARNING, "pyrovae"):
        resumed = outcome(vae, interrupted, resume=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"{interrupted / 'checkpoint.pt'} is damaged; going on from the one before it, checkpoint.previous.pt."
    ]
    assert_same(resumed, outcome(vae, None))


def test_a_kill_between_the_two_renames_leaves_the_one_before(interrupted: Path) -> None:
    (interrupted / "checkpoint.pt").unlink()
    (interrupted / ".checkpoint.pt.half.pt").write_bytes(b"half a checkpoint")
    assert_same(outcome(vae, interrupted, resume=True), outcome(vae, None))
    assert sorted(os.listdir(interrupted)) == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_both_truncated(interrupted: Path) -> None:
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        cut(interrupted / name, 0.5)
    with pytest.raises(
        InvalidInputError, match="checkpoint.pt cannot be read: it is truncated, carries code, or is no pyrovae"
    ):
        outcome(vae, interrupted, resume=True)


def test_none_yet(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has no checkpoint.pt: its training was stopped before the first one"):
        outcome(vae, tmp_path, resume=True)


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def changed(folder: Path, change: Any) -> None:
    path = folder / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_a_checkpoint_from_before_objectives_were_told_is_taken_up(interrupted: Path) -> None:
    changed(interrupted, lambda state: state["training"]["fingerprint"].pop("objective"))
    outcome(vae, interrupted, resume=True)


def test_a_checkpoint_that_carries_code_is_refused_and_does_not_run_it(interrupted: Path, tmp_path: Path) -> None:
    changed(interrupted, lambda state: state.update(more=Trap(tmp_path / "mark")))
    with pytest.raises(InvalidInputError, match="carries code, or what is no tensor and no number, so it is not read"):
        outcome(vae, interrupted, resume=True)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("version", [0, 1])
def test_another_version(interrupted: Path, version: int) -> None:
    changed(interrupted, lambda state: state.update(version=version))
    with pytest.raises(
        InvalidInputError, match="is no checkpoint of this version of pyrovae: use the one that wrote it"
    ):
        outcome(vae, interrupted, resume=True)


def same_count() -> Any:
    """As many numbers as the VAE's, in other shapes."""
    model, guide, x, options = vae()
    for part in (model, guide):
        for parameter in part.parameters():
            if parameter.dim() == 2:
                parameter.data = parameter.data.mT.contiguous()
    return model, guide, x, options


@pytest.mark.parametrize(
    ("case", "what"),
    [
        (fed(points, seed=8), "random numbers"),
        (fed(points, batch_size=20), "batches"),
        (fed(lambda: points() * 2), "data"),
        (fed(lambda: points(51)), "data"),
        (lambda: (*pyrovae.load("vae")(DIM, latent=2, hidden=(9,)), points(), {}), "parameters"),
        (lambda: (*pyrovae.load("vae")(DIM, latent=3, hidden=(8,)), points(), {}), "parameters"),
    ],
)
def test_another_training(interrupted: Path, case: Any, what: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"The checkpoint is of a training with other {what}.*: resume with what it was"
    ):
        outcome(case, interrupted, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["training"].pop("parameters"),
        lambda state: state["training"].update(buffers=[]),
        lambda state: state["training"].update(buffers=[torch.zeros(3)]),
        lambda state: state["training"]["result"].update(odd=1),
        lambda state: state["training"].update(rng=None),
    ],
)
def test_a_checkpoint_that_was_edited(interrupted: Path, change: Any) -> None:
    changed(interrupted, change)
    with pytest.raises(InvalidInputError, match="The checkpoint is of another training and cannot be resumed: "):
        outcome(vae, interrupted, resume=True)


def test_early_stopping_that_was_not_there(interrupted: Path) -> None:
    with pytest.raises(InvalidInputError, match="The checkpoint is of a"):
        outcome(told(vae, early_stopping=lambda: EarlyStopping(points(9))), interrupted, resume=True)


# a full disk


@pytest.fixture
def small_files() -> Any:
    """Files may have so many bytes; a longer one fails as on a full disk, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [10, 3000, 9000])
def test_a_full_disk_leaves_what_was_there(interrupted: Path, small_files: Any, size: int) -> None:
    before = {path.name: path.read_bytes() for path in interrupted.iterdir()}
    assert size < len(before["checkpoint.pt"])
    small_files(size)
    with pytest.raises(OSError, match="checkpoint.pt") as full:
        outcome(vae, interrupted, resume=True)
    small_files(resource.RLIM_INFINITY)
    assert full.value.errno == errno.EFBIG
    assert full.value.__notes__ == ["What was kept before is whole, and training can be resumed from it."]
    assert {path.name: path.read_bytes() for path in interrupted.iterdir()} == before
    assert_same(outcome(vae, interrupted, resume=True), outcome(vae, None))


def test_a_disk_that_fills_up_as_it_is_synced(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in interrupted.iterdir()}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device.*checkpoint.pt"):
            outcome(vae, interrupted, resume=True)
    assert {path.name: path.read_bytes() for path in interrupted.iterdir()} == before


# pyrovae train --resume


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "points.npy", points().numpy())
    return tmp_path / "points.npy"


def invoke(*words: object) -> tuple[int, str]:
    pyro.clear_param_store()
    result = CliRunner().invoke(app, ["train", *map(str, words)])
    return result.exit_code, result.stderr if result.exit_code else result.stdout


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """A command that Ctrl-C stops after so many steps, with a checkpoint after each."""
    left, whole = [step], Trainer._step

    def dying(self: Trainer, x: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        patch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
        code, said = invoke(*words)
    assert code == 130
    assert (
        said
        == "pyrovae: stopped; if RUN has a checkpoint, `pyrovae train --resume RUN` goes on, and `pyrovae evaluate RUN` reads it.\n"
    )


def kept(folder: Path) -> tuple[Any, list[dict[str, str]], set[str]]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in [*rows, *state["training"]["result"]["history"], state["training"]["result"]]:
        row.pop("seconds")
    return state, rows, set(os.listdir(folder)) - {"checkpoint.previous.pt"}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(part, other[key]) for key, part in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


COMMAND = (
    "--set",
    "latent=2",
    "--epochs",
    4,
    "--batch-size",
    16,
    "--validation-fraction",
    0.2,
    "--ema-decay",
    0.9,
    "--lr",
    0.05,
)


@pytest.mark.parametrize("step", [0, 1, 4, 7])
def test_the_command_that_resumes(step: int, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("ppca", "--data", file, *COMMAND, "--out", tmp_path / "whole")[0] == 0
    stopped_at(step, monkeypatch, "ppca", "--data", file, *COMMAND, "--out", tmp_path / "run")
    code, said = invoke("--resume", tmp_path / "run")
    assert code == 0, said
    state, rows, files = kept(tmp_path / "run")
    expected, expected_rows, expected_files = kept(tmp_path / "whole")
    assert same(state, expected)
    assert rows == expected_rows
    assert files == expected_files


def test_metrics_are_whole_where_the_kill_came_before_the_last_row(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert invoke("ppca", "--data", file, *COMMAND, "--out", run)[0] == 0
    whole = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(whole[: len(whole) // 2])
    assert invoke("--resume", run)[0] == 0
    assert (run / "metrics.csv").read_text() == whole


@pytest.fixture
def stopped(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stopped_at(6, monkeypatch, "ppca", "--data", file, *COMMAND, "--out", tmp_path / "run")
    return tmp_path / "run"


def refused(folder: Path, *words: object, code: int = 2) -> str:
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
    found, said = invoke("--resume", folder, *words)
    assert found == code, said
    assert said.startswith("pyrovae: ")
    assert said.count("\n") == 1
    if folder.exists():
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return said


def test_data_that_have_changed_or_are_gone(stopped: Path, file: Path) -> None:
    np.save(file, points().numpy() + 1)
    assert "is of a training with other data: resume with what it was begun with" in refused(stopped)
    np.save(file, points()[:40].numpy())
    assert "is of a training with other data" in refused(stopped)
    np.save(file, points()[:, :4].numpy())
    assert "was begun on points of 5 numbers, and points.npy now has 4" in refused(stopped)
    file.unlink()
    assert "points.npy" in refused(stopped)


def test_what_cannot_be_resumed(stopped: Path, tmp_path: Path) -> None:
    assert "leave out model, --out, --lr" in refused(stopped, "gmm", "--out", tmp_path / "more", "--lr", 0.1)
    assert "leave out --compile/--no-compile" in refused(stopped, "--no-compile")
    assert "is not a run: it has no config.json" in refused(tmp_path / "nowhere")
    (stopped / "checkpoint.previous.pt").unlink()
    cut(stopped / "checkpoint.pt", 0.5)
    assert "cannot be read: it is truncated" in refused(stopped)


def test_a_full_disk_is_one_sentence(stopped: Path, small_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
    before = (stopped / "checkpoint.pt").read_bytes()
    small_files(3000)
    code, said = invoke("--resume", stopped)
    small_files(resource.RLIM_INFINITY)
    assert code == 1
    assert said == (
        f"pyrovae: File too large: {stopped / 'checkpoint.pt'}. What was kept before is whole, and training can be resumed from "
        "it.\n"
    )
    assert (stopped / "checkpoint.pt").read_bytes() == before
    assert invoke("--resume", stopped)[0] == 0


@pytest.mark.slow
def test_killed_at_random_moments(seed: int) -> None:
    """The short form of the script beside this file."""
    script = Path(__file__).with_name("kill_and_resume.py")
    words = [sys.executable, script, "--kills", "2", "--pairs", "vae", "--seed", str(seed)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every run ended bit by bit where the uninterrupted one did." in done.stdout


def test_a_resumed_training_has_the_same_units(tmp_path):
    """Steps of a model whose columns differ in scale are in units from the data, which the checkpoint brings back."""
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)).double() * torch.tensor([1e-3, 1.0, 1.0, 1e3])

    def pair():
        torch.manual_seed(0)
        model, guide = pyrovae.load("factor_analysis")(4, latent=2)
        return model.double(), guide

    whole, half, resumed = pair(), pair(), pair()
    settings = {"epochs": 6, "batch_size": 16, "lr": 1e-2, "seed": 3}

    def stop(result):
        if len(result.losses) == 3:
            raise KeyboardInterrupt

    pyrovae.fit(*whole, x, **settings)
    with pytest.raises(KeyboardInterrupt):
        pyrovae.fit(*half, x, checkpoints=pyrovae.Checkpoints(tmp_path, 0.0), on_epoch=stop, **settings)
    pyrovae.fit(*resumed, x, checkpoints=pyrovae.Checkpoints(tmp_path, 0.0, resume=True), **settings)
    assert torch.equal(resumed[0].W, whole[0].W)
    assert torch.equal(resumed[0].mu, whole[0].mu)
