"""Callbacks of fit: when they are called, what they are told, and that they change nothing."""

import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from small_pairs import Location, nothing
from torch import Tensor

import pyrovae
from pyrovae import Callback, Checkpoints, InvalidInputError, RunError, fit


def negative_log_density(x: Tensor, mu: Tensor) -> float:
    return float(0.5 * ((x - mu).square().sum(-1).mean() + 3 * math.log(2 * math.pi)))


class Recorder(Callback):
    """Keeps the calls, the rows of the steps and the model's parameters after each."""

    def __init__(self, every_steps: int | None = 1):
        self.every_steps = every_steps
        self.calls: list[str] = []
        self.rows: list[dict[str, float]] = []
        self.mu: list[Tensor] = []
        self.error: BaseException | None = None

    def on_start(self, training: Any) -> None:
        self.calls.append("start")

    def on_step(self, training: Any, metrics: dict[str, float]) -> None:
        self.calls.append(f"step {metrics['step']}")
        self.rows.append(metrics)
        self.mu.append(training.model.mu.detach().clone())

    def on_epoch(self, training: Any, metrics: dict[str, float]) -> None:
        assert metrics == training.result.history[-1]
        self.calls.append(f"epoch {metrics['epoch']}")

    def on_end(self, training: Any) -> None:
        self.calls.append("end")
        self.error = training.error


@pytest.mark.parametrize("epochs", [5, 60])  # eager steps, and steps that are recorded and replayed
def test_the_loss_of_a_step_is_that_of_the_parameters_after_the_step_before(epochs: int) -> None:
    x, seen = torch.randn(20, 3), Recorder()
    result = fit(Location(), nothing, x, epochs=epochs, batch_size=None, lr=0.05, callbacks=[seen])
    assert ("replayed" in result.execution) == (epochs == 60)
    before = [torch.zeros(3), *seen.mu[:-1]]
    expected = [negative_log_density(x, mu) for mu in before]
    assert [row["loss"] for row in seen.rows] == pytest.approx(expected, rel=1e-5)
    assert [row["elbo"] for row in seen.rows] == pytest.approx([-loss for loss in expected], rel=1e-5)
    norms = [float((x - mu).mean(0).norm()) for mu in before]  # of the gradient of the mean loss
    assert [row["grad_norm"] for row in seen.rows] == pytest.approx(norms, rel=1e-4)
    rates = [0.05 * (1 + math.cos(math.pi * step / epochs)) / 2 for step in range(epochs)]
    assert [row["lr"] for row in seen.rows] == pytest.approx(rates, rel=1e-9)


def test_steps_of_an_epoch_add_up_to_its_row() -> None:
    """Also where the last batch is smaller, and while the weight of the KL rises."""
    torch.manual_seed(0)
    model, guide = pyrovae.load("vae")(4, latent=2, hidden=(8,))
    seen: list[dict[str, float]] = []

    class Rows(Callback):
        def on_step(self, training: Any, metrics: dict[str, float]) -> None:
            seen.append(metrics)

    x = torch.randn(10, 4)
    result = fit(model, guide, x, epochs=3, batch_size=4, kl_warmup_fraction=0.5, callbacks=[Rows()])
    sizes = torch.tensor([4.0, 4.0, 2.0])
    for epoch, row in enumerate(result.history):
        mine = seen[3 * epoch : 3 * epoch + 3]
        assert [step["step"] for step in mine] == [3 * epoch + 1, 3 * epoch + 2, 3 * epoch + 3]
        for name in ("loss", "reconstruction", "grad_norm", *(["kl", "elbo"] if epoch else [])):
            values = torch.tensor([step[name] for step in mine])
            assert float((values * sizes).sum() / 10) == pytest.approx(row[name], rel=1e-5), name
        assert mine[-1]["kl_weight"] == row["kl_weight"]


def test_the_order_of_calls() -> None:
    every, second = Recorder(), Recorder(every_steps=2)
    fit(Location(), nothing, torch.randn(9, 3), epochs=2, batch_size=3, callbacks=[every, second])
    steps = [f"step {number}" for number in range(1, 7)]
    assert every.calls == ["start", *steps[:3], "epoch 1", *steps[3:], "epoch 2", "end"]
    assert second.calls == ["start", "step 2", "epoch 1", "step 4", "step 6", "epoch 2", "end"]
    never = Recorder(every_steps=None)
    fit(Location(), nothing, torch.randn(9, 3), epochs=1, callbacks=[never])
    assert never.calls == ["start", "epoch 1", "end"]
    assert never.error is None


def test_callbacks_change_nothing() -> None:
    """Neither by the random numbers that they draw, nor by scoring, nor by the mode of the modules."""
    x = torch.randn(30, 4)

    class Scores(Callback):
        def on_step(self, training: Any, metrics: dict[str, float]) -> None:
            torch.randn(5)
            training.model.eval()

        def on_epoch(self, training: Any, metrics: dict[str, float]) -> None:
            pyrovae.evaluate(training.model, training.guide, x[:5], num_samples=4, progress=False)
            metrics.clear()

    def trained(callbacks: list[Callback]) -> tuple[Tensor, Any]:
        torch.manual_seed(0)
        model, guide = pyrovae.load("vae")(4, latent=2, hidden=(8,))
        result = fit(model, guide, x, epochs=4, batch_size=8, callbacks=callbacks)
        return torch.cat([value.reshape(-1) for value in model.parameters()]).detach(), result

    plain, result = trained([])
    watched, same = trained([Scores()])
    assert torch.equal(plain, watched)
    for row, other in zip(result.history, same.history, strict=True):
        assert row | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, rel=0, abs=0, nan_ok=True)


def test_an_attribute_that_a_callback_changes_is_seen_by_the_next_step() -> None:
    """Recorded steps hold the attributes of the modules as constants."""

    class Scaled(Location):
        def __init__(self) -> None:
            super().__init__()
            self.factor = 1.0

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.mu, self.factor).to_event(1), obs=x)

    losses = []

    class Cools(Callback):
        def on_step(self, training: Any, metrics: dict[str, float]) -> None:
            losses.append(metrics["loss"])
            if metrics["step"] == 60:
                training.model.factor = 0.5

    x = torch.tensor([0.5, 1.0, 2.0]) * (2 * torch.randint(2, (140, 3)) - 1)  # under N(0, σ) all have the same density
    result = fit(Scaled(), nothing, x, epochs=1, batch_size=2, lr=1e-12, callbacks=[Cools()])
    assert "an attribute of a module has changed" in result.execution
    for factor, loss in ((1.0, losses[59]), (0.5, losses[60])):
        expected = -dist.Normal(0.0, factor).log_prob(x).sum(-1).mean()
        assert loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("hook", ["on_step", "on_epoch"])
def test_an_error_ends_the_fit_and_loses_nothing(tmp_path: Path, hook: str) -> None:
    x = torch.randn(12, 3)
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 4, "lr": 0.1}
    whole, cut = Location(), Location()
    fit(whole, nothing, x, **settings)

    class Fails(Callback):
        pass

    def fail(self: Any, training: Any, metrics: dict[str, float]) -> None:
        if metrics["epoch"] == 2:
            raise KeyError("accuracy")

    setattr(Fails, hook, fail)
    seen = Recorder()
    step = 4 if hook == "on_step" else 6
    with pytest.raises(RunError) as told:
        fit(cut, nothing, x, callbacks=[Fails(), seen], checkpoints=Checkpoints(tmp_path, 1e9), **settings)
    assert str(told.value) == (
        f"Fails.{hook} failed after step {step}: KeyError: 'accuracy'. Correct the callback or leave it out; "
        "what was trained so far is kept."
    )
    result: Any = told.value
    assert result.result.steps == step
    assert len(result.result.history) == (1 if hook == "on_step" else 2)
    assert seen.calls[-1] == "end"
    assert seen.error is told.value
    resumed = Location()
    after = Recorder()
    fit(resumed, nothing, x, callbacks=[after], checkpoints=Checkpoints(tmp_path, 1e9, resume=True), **settings)
    assert after.calls[:2] == ["start", f"step {step + 1}"]
    assert torch.equal(resumed.mu, whole.mu)


def test_an_error_at_the_end_comes_after_all_have_ended(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_end(self, training: Any) -> None:
            raise OSError("no network")

    seen = Recorder()
    with pytest.raises(RunError, match=r"Fails.on_end failed after step 2: OSError: no network"):
        fit(Location(), nothing, torch.randn(8, 3), epochs=2, callbacks=[Fails(), seen])
    assert seen.calls[-1] == "end"


@pytest.mark.parametrize(
    ("callbacks", "sentence"),
    [
        (Recorder(), "give a list of pyrovae.Callback objects"),
        ([print], "give an object of a class that is derived from pyrovae.Callback"),
        ([Recorder(0)], "Recorder.every_steps is 0: give a whole number, at least 1, or None."),
        (
            [type("Late", (Callback,), {"on_epochs": lambda *_: None})()],
            r"Late.on_epochs would never be called \(did you mean 'on_epoch'\?\): fit calls on_start, on_step, on_epoch, on_end",
        ),
    ],
)
def test_what_is_no_callback_is_refused(callbacks: Any, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        fit(Location(), nothing, torch.randn(8, 3), epochs=1, callbacks=callbacks)
