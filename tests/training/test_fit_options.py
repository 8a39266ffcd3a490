"""What fit() can be told, each against what it means: schedules, clipping, averages, warm-up, early stopping, precision, blame."""

import csv
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from low_precision import no_reason_against
from torch import Tensor, nn
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError, NonFiniteError, evaluate, fit
from pyrovae.cli.app import app
from pyrovae.training import Checkpoints, EarlyStopping, cosine, iwae_schedule, with_warmup

DIM = 3


class Location(pyrovae.Module):
    """x ~ N(μ, I), μ learned: the gradient of a batch's mean loss is μ − x̄."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(DIM, dtype=torch.float64))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mu, 1.0).to_event(1), obs=x)


def nothing(x: Tensor) -> None:
    pass


def sgd(params: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr)


def points(count: int = 20) -> Tensor:
    return torch.randn(count, DIM, dtype=torch.float64) + 3.0


def rates(schedule: Any, steps: int, lr: float = 1.0) -> list[float]:
    """The learning rate of each step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    scheduler = schedule(optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


# schedules


def test_cosine_is_half_a_cosine() -> None:
    assert rates(cosine, 50, 0.3) == pytest.approx(
        [0.15 * (1 + math.cos(math.pi * t / 50)) for t in range(50)], rel=1e-9
    )


def test_staged_has_the_eight_stages_of_the_paper() -> None:
    """3,280 epochs: 3^i of them at lr · 10^(−i/7), i = 0 … 7."""
    expected = [0.001 * 10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(expected) == 3280
    assert rates(iwae_schedule, 3280, 0.001) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_staged_ends_at_a_tenth_for_any_number_of_steps(steps: int) -> None:
    found = rates(iwae_schedule, steps)
    assert found == sorted(found, reverse=True)
    if steps == 100:
        assert found[-1] == pytest.approx(0.1)


def test_warmed_rises_along_a_line_and_then_follows_the_other() -> None:
    rise = [0.01 + 0.99 * t / 10 for t in range(10)]
    assert rates(with_warmup(cosine, 0.1), 100) == pytest.approx(
        rise + [0.5 * (1 + math.cos(math.pi * t / 90)) for t in range(90)], rel=1e-9
    )
    assert rates(with_warmup(None, 0.1), 100) == pytest.approx(rise + [1.0] * 90, rel=1e-9)
    assert rates(with_warmup(iwae_schedule, 0.1), 100) == pytest.approx(rise + rates(iwae_schedule, 90), rel=1e-9)


def test_fit_follows_its_schedule() -> None:
    """Four batches an epoch; the history has the rate that the epoch ended with."""
    result = fit(Location(), nothing, points(16), epochs=5, batch_size=4, lr=0.2, optimizer=sgd)
    assert [row["lr"] for row in result.history] == pytest.approx(
        [0.1 * (1 + math.cos(math.pi * 4 * epoch / 20)) for epoch in range(1, 6)], rel=1e-9, abs=1e-12
    )


# steps


def test_a_step_is_along_the_gradient_of_the_sum_over_the_batch() -> None:
    x, model = points(), Location()
    result = fit(model, nothing, x, epochs=1, batch_size=None, lr=1e-3, optimizer=sgd, schedule=None)
    torch.testing.assert_close(model.mu.detach(), 1e-3 * x.sum(0), rtol=1e-12, atol=0)
    assert result.history[0]["grad_norm"] == pytest.approx(x.mean(0).norm().item(), rel=1e-12)


@pytest.mark.parametrize("max_grad_norm", [0.5, 100.0])
def test_clipping_bounds_the_gradient_of_the_mean(max_grad_norm: float) -> None:
    x, model = points(), Location()
    fit(
        model, nothing, x, epochs=1, batch_size=None, lr=1e-3, optimizer=sgd, schedule=None, max_grad_norm=max_grad_norm
    )
    gradient = x.mean(0)
    expected = 1e-3 * len(x) * gradient * min(1.0, max_grad_norm / gradient.norm().item())
    torch.testing.assert_close(model.mu.detach(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_the_one_computed_by_hand(decay: float) -> None:
    x, model = points(), Location()
    seen = []
    fit(
        model,
        nothing,
        x,
        epochs=8,
        batch_size=None,
        lr=0.3,
        schedule=None,
        ema_decay=decay,
        on_epoch=lambda _: seen.append(model.mu.detach().clone()),
    )
    average = torch.zeros(DIM, dtype=torch.float64)
    for t, mu in enumerate(seen, 1):
        kept = min(decay, (1 + t) / (10 + t))
        average = kept * average + (1 - kept) * mu
    torch.testing.assert_close(model.mu.detach(), average, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(model.mu.detach(), seen[-1], rtol=1e-3)


class Gaussian(pyrovae.Module):
    """z ~ N(0, 1), x|z ~ N(z, 1), and a guide N(m, 1) that knows no x: KL(q‖p) = m²/2 for each point."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(self.m), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.expand(*z.shape[:-1], DIM), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.m.expand(len(x), 1), 1.0).to_event(1))


def test_the_kls_weight_rises_and_what_is_reported_is_the_elbo() -> None:
    """β = 0, 1/6, …, 1 in the first 6 of 12 steps, 3 a epoch; the KL in the history is the KL, not β times it."""
    model = Gaussian()
    result = fit(model, model.guide, points(12), epochs=4, batch_size=4, lr=1e-9, kl_warmup_fraction=0.5)
    betas = [min(1.0, step / 6) for step in range(12)]
    for epoch, row in enumerate(result.history):
        assert row["kl_weight"] == pytest.approx(betas[3 * epoch + 2])
        assert row["kl"] == pytest.approx(2.0, rel=1e-6)  # m²/2
        assert row["elbo"] == pytest.approx(row["reconstruction"] - 2.0, rel=1e-6)
        weight = sum(betas[3 * epoch : 3 * epoch + 3]) / 3
        assert result.losses[epoch] == pytest.approx(2.0 * weight - row["reconstruction"], rel=1e-6)
    first = fit(model, model.guide, points(12), epochs=1, batch_size=None, lr=1e-9, kl_warmup_fraction=1.0).history[0]
    assert first["kl_weight"] == 0
    assert math.isnan(first["kl"])
    assert math.isnan(first["elbo"])


def test_nothing_of_the_warm_up_is_left_in_what_is_measured() -> None:
    """Ended at a weight near 0.9, the pair has the evidence that it has without any."""
    x = points(50)
    pairs = []
    for share in (0.0, 1.0):
        torch.manual_seed(0)
        model = Gaussian()
        fit(model, model.guide, x, epochs=10, batch_size=None, lr=1e-12, kl_warmup_fraction=share)
        pairs.append(evaluate(model, model.guide, x, 100, 0))
    torch.testing.assert_close(pairs[0].elbo, pairs[1].elbo, rtol=1e-8, atol=0)
    torch.testing.assert_close(pairs[0].log_likelihood, pairs[1].log_likelihood, rtol=1e-8, atol=0)


def test_warm_up_of_a_whole_vae_moves_the_gradient() -> None:
    """With the KL left out the guide runs from the prior: after one step at β = 0 it is not where β = 1 leads."""
    moved = []
    for share in (0.0, 1.0):
        model = Gaussian()
        fit(
            model,
            model.guide,
            torch.full((10, DIM), 2.0).double(),
            epochs=1,
            batch_size=None,
            lr=1e-3,
            optimizer=sgd,
            kl_warmup_fraction=share,
        )
        moved.append(model.m.item() - 2.0)
    # the gradient of β m²/2 is β m = 2 for each of 10 points
    assert moved[1] - moved[0] == pytest.approx(1e-3 * 10 * 2.0, rel=1e-6)


# early stopping


def test_early_stopping_keeps_the_best_and_stops() -> None:
    """μ runs from 0 past the held-out points' mean, 1, towards the others' mean, 5."""
    x, held_out = torch.randn(40, DIM).double() * 0.1 + 5.0, torch.full((10, DIM), 1.0, dtype=torch.float64)
    model, seen = Location(), []
    rule = EarlyStopping(held_out, patience=4)
    told = {"epochs": 500, "batch_size": None, "lr": 0.1, "schedule": None}
    result = fit(
        model, nothing, x, **told, early_stopping=rule, on_epoch=lambda _: seen.append(model.mu.detach().clone())
    )
    elbo = [dist.Normal(mu, 1.0).log_prob(held_out).sum(-1).mean().item() for mu in seen]
    best = int(np.argmax(elbo))
    assert [row["validation_elbo"] for row in result.history] == pytest.approx(elbo, rel=1e-12)
    assert len(result.history) == best + 1 + 4
    assert torch.equal(model.mu.detach(), seen[best])
    assert result.stop_reason == (
        f"the held-out ELBO, {elbo[best]:.3f} nats per point after epoch {best + 1}, has not risen for 4 epochs"
    )


def test_early_stopping_looks_at_the_average_where_there_is_one() -> None:
    x, held_out = torch.randn(40, DIM).double() * 0.1 + 5.0, torch.full((10, DIM), 1.0, dtype=torch.float64)
    model, rule = Location(), EarlyStopping(held_out, patience=4)
    result = fit(
        model, nothing, x, epochs=500, batch_size=None, lr=0.1, schedule=None, ema_decay=0.9, early_stopping=rule
    )
    kept = dist.Normal(model.mu.detach(), 1.0).log_prob(held_out).sum(-1).mean().item()
    assert kept == pytest.approx(max(row["validation_elbo"] for row in result.history), rel=1e-12)


def test_held_out_points_are_never_trained_on() -> None:
    x = torch.arange(50.0).double().unsqueeze(-1).expand(50, DIM)
    seen: set[float] = set()

    class Watching(Location):
        def forward(self, x: Tensor) -> None:
            if self.training:
                seen.update(x[:, 0].tolist())
            super().forward(x)

    rule = EarlyStopping(0.2)
    fit(Watching(), nothing, x, epochs=3, batch_size=8, early_stopping=rule)
    assert rule.x is not None
    held_out = set(rule.x[:, 0].tolist())
    assert len(held_out) == 10
    assert seen | held_out == set(x[:, 0].tolist())
    assert not seen & held_out


# precision


def test_bf16_has_nearly_the_loss_of_fp32_and_leaves_parameters_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 5 · 10² nats, bf16's 8 bits: within 1 %."""
    monkeypatch.setattr("pyrovae.utils.precision.reason_against", no_reason_against)
    x = torch.rand(64, 200)
    found = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        pair = pyrovae.load("vae")(200, latent=4, hidden=(32,))
        result = fit(*pair, x, epochs=2, batch_size=32, lr=1e-3, precision=precision)
        found[precision] = result.losses
        assert {parameter.dtype for part in pair for parameter in part.parameters()} == {torch.float32}
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.01)
    assert found["bf16"] != found["fp32"]


def test_a_processor_without_bf16_trains_in_full_precision_only(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "bfloat16 matrix products are not faster than float32 on this processor"
    monkeypatch.setattr("pyrovae.utils.precision.reason_against", lambda device, dtype: reason)
    with pytest.raises(InvalidInputError, match="B" + reason[1:] + ", so training .* use precision='fp32'"):
        fit(Location(), nothing, points(), epochs=1, precision="bf16")


class Watched(Location):
    """Notes how products are computed whenever it runs."""

    def forward(self, x: torch.Tensor) -> None:
        self.precisions.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        super().forward(x)


@pytest.mark.parametrize(("precision", "inside"), [("fp32", ("highest", False)), ("tf32", ("high", True))])
def test_tf32_is_on_where_asked_for_and_torchs_settings_come_back(precision: str, inside: tuple[str, bool]) -> None:
    """Convolutions of a GPU are in TF32 by default: not here, and in no estimate."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    model = Watched()
    model.precisions = []
    fit(model, nothing, points(), epochs=1, precision=precision, compile=False)
    assert model.precisions[-1] == inside
    pyrovae.evaluate(model, nothing, points(), 2)
    assert model.precisions[-1] == ("highest", False)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_mps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.training.preparation._device", lambda *_: torch.device("mps"))
    with pytest.raises(InvalidInputError, match="no double precision, which pyrovae needs: use --device cpu"):
        fit(Location(), nothing, points(), epochs=1)


# what goes wrong


class Steep(pyrovae.Module):
    """A gradient that is no number for points with x₀ = 0, though the density is one: |x₀ w|^½ at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))
        self.b = nn.Parameter(torch.zeros(DIM))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.b + (x[:, :1] * self.w).abs().sqrt(), 1.0).to_event(1), obs=x)


def test_a_gradient_that_is_no_number_names_site_parameter_and_points() -> None:
    x, model = torch.rand(40, DIM) + 1.0, Steep()
    x[[7, 31], 0] = 0.0
    with pytest.raises(NonFiniteError) as stopped:
        fit(model, nothing, x, epochs=1, batch_size=None, lr=0.1)
    assert str(stopped.value) == (
        "Training stopped at step 1 (epoch 1): gradient nan of site 'x' of the model by parameter w, data points 7, 31; lower the "
        "learning rate, clip the gradient or floor the variances."
    )
    assert model.w.item() == 1.0  # the step moved nothing


def test_a_loss_that_is_no_number_names_the_worst_points() -> None:
    class Spiky(Location):
        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                scale = torch.where(x[:, :1] == 9.0, math.nan, 1.0)
                pyro.sample("pixels", dist.Normal(self.mu, scale).to_event(1), obs=x)

    x = points(200)
    bad = [3, 20, 77, 150, 151, 160, 199]
    x[bad, 0] = 9.0
    with pytest.raises(
        NonFiniteError, match=r"site 'pixels' of the model, data points 3, 20, 77, 150, 151 and 2 more; lower"
    ):
        fit(Spiky(), nothing, x, epochs=1, batch_size=None)
    with pytest.raises(NonFiniteError, match=r"\(epoch 1\): .*site 'pixels' of the model, points? of the batch"):
        fit(Spiky(), nothing, list(x.split(50)), epochs=1)


class Cliff(Location):
    """No number is left once μ₀ has passed 1."""

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mu + 0.0 * (1.0 - self.mu[0]).log(), 1.0).to_event(1), obs=x)


def test_training_goes_back_once_with_a_smaller_rate_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    told = {"epochs": 10, "batch_size": 5, "lr": 0.2, "schedule": with_warmup(iwae_schedule, 0.1)}
    with pytest.raises(NonFiniteError):
        fit(Cliff(), nothing, points(), **told)
    with caplog.at_level(logging.WARNING, "pyrovae"):
        result = fit(Cliff(), nothing, points(), **told, retry_lr_factor=0.01)
    (record,) = caplog.records
    epoch = int(record.getMessage().split("Going back to epoch ")[1].split()[0])
    assert record.getMessage().endswith("with lr 0.002.")
    assert 1 < epoch <= 10
    assert len(result.history) == 10
    expected = rates(with_warmup(iwae_schedule, 0.1), 40, 0.2)[4::4]
    assert [row["lr"] for row in result.history[: epoch - 1]] == pytest.approx(expected[: epoch - 1], rel=1e-9)
    assert [row["lr"] for row in result.history[epoch - 1 : -1]] == pytest.approx(
        [0.01 * rate for rate in expected[epoch - 1 :]], rel=1e-9
    )
    with pytest.raises(NonFiniteError):
        fit(Cliff(), nothing, points(), **told, retry_lr_factor=0.99)


def test_a_run_that_diverged_keeps_its_last_good_state(tmp_path: Path) -> None:
    told = {"epochs": 10, "batch_size": 5, "lr": 0.1, "schedule": None}
    with pytest.raises(NonFiniteError):
        fit(Cliff(), nothing, points(), **told, checkpoints=Checkpoints(tmp_path, 0.0))
    mu = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["pair"]["model"][0]["mu"]
    assert 0.5 < mu[0] < 1.2
    assert torch.isfinite(mu).all()


# what is said


def test_the_road_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pyrovae"):
        result = fit(Location(), nothing, points(10), epochs=3, batch_size=4)  # two sizes of batches
    assert [record.getMessage() for record in caplog.records] == ["eager steps: 9 of them, fewer than 50"]
    assert result.execution == "eager steps: 9 of them, fewer than 50"
    assert fit(Location(), nothing, points(10), epochs=1, compile=False).execution == "eager steps: compile=False"


def test_metrics_are_the_history(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    words = [
        "train",
        "ppca",
        "--data",
        tmp_path / "x.npy",
        "--set",
        "latent=2",
        "--epochs",
        5,
        "--batch-size",
        8,
        "--kl-warmup-fraction",
        0.5,
    ]
    assert CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "run")]).exit_code == 0
    history = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["training"]["result"]["history"]
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 5
    for row, expected in zip(rows, history, strict=True):
        assert row == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


# arguments


def test_init_is_called_once_with_model_and_data() -> None:
    x, model = points(), Location()
    calls = []

    def init(given: Any, data: Tensor) -> None:
        calls.append((given, data))
        with torch.no_grad():
            given.mu.copy_(data.mean(0))

    result = fit(model, nothing, x, epochs=1, batch_size=None, lr=1e-9, init=init)
    ((given, data),) = calls
    assert given is model
    assert torch.equal(data, x)
    best = dist.Normal(x.mean(0), 1.0).log_prob(x).sum(-1).mean().item()
    assert -result.losses[0] == pytest.approx(best, rel=1e-12)

    def failing(model: Any, x: Tensor) -> None:
        raise KeyError("weights")

    with pytest.raises(InvalidInputError, match="init\\(model, x\\) failed: KeyError: 'weights'"):
        fit(Location(), nothing, x, init=failing)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"epochs": -1}, "epochs is -1: give a whole number"),
        ({"epochs": 2.5}, "epochs is 2.5: give a whole number"),
        ({"batch_size": 0}, "batch_size is 0: give a whole number, at least 1, or None for all points"),
        ({"lr": 0.0}, "lr is 0.0: give a finite number above 0"),
        ({"lr": math.inf}, "lr is inf: give a finite number above 0"),
        ({"lr": "fast"}, "lr is 'fast': give a finite number above 0"),
        ({"max_grad_norm": [1.0]}, "give a finite norm above 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0: give a finite norm above 0"),
        ({"kl_warmup_fraction": 1.5}, "kl_warmup_fraction is 1.5: give the share of the steps"),
        ({"kl_warmup_fraction": -0.1}, "kl_warmup_fraction is -0.1: give the share of the steps"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0: give the average's decay, between 0 and 1"),
        ({"precision": "fp16"}, "There is no precision 'fp16': give fp32, tf32 or bf16"),
        ({"retry_lr_factor": 1.0}, "retry_lr_factor is 1.0: give a factor for the learning rate, between 0 and 1"),
        ({"checkpoints": "folder"}, "checkpoints is 'folder': give Checkpoints\\(folder\\)"),
        ({"early_stopping": 5}, "early_stopping is 5: give EarlyStopping"),
        ({"early_stopping": EarlyStopping(0.001)}, "A share of 0.001 of 20 points cannot be held out"),
        (
            {"early_stopping": EarlyStopping(torch.zeros(4, DIM + 1).double())},
            "Site 'x' is of shape \\(3,\\) for each point, and is given values of shape \\(4,\\)",
        ),
        ({"early_stopping": EarlyStopping(torch.full((4, DIM), math.nan).double())}, "x\\[0, 0\\] is nan"),
        ({"init": 7}, "init is 7: give a function of \\(model, x\\)"),
    ],
)
def test_arguments_one_sentence_each(told: dict[str, Any], message: str) -> None:
    model = Location()
    with pytest.raises(InvalidInputError, match=message) as refused:
        fit(model, nothing, points(), **told)
    assert "\n" not in str(refused.value)
    assert not model.mu.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(1.0), "validation is 1.0: give points to validate on, or the share"),
        (lambda: EarlyStopping(patience=0), "patience and num_samples must be at least 1"),
        (lambda: with_warmup(share=1.0), "share is 1.0: give the part of the steps"),
    ],
)
def test_objects_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()
