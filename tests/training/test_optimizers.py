"""Optimisers and schedules as people have them: each does what its own rule says, or is refused with a sentence to follow."""

from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.optim import AdagradRMSProp, Adam, ClippedAdam, ExponentialLR
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

import pyrovae
from pyrovae import Checkpoints, EarlyStopping, InvalidInputError, evaluate, fit
from pyrovae.training.schedules import is_adam

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3.0


class Location(pyrovae.Module):
    """x ~ N(μ, I)."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mu, 1.0).to_event(1), obs=x)


def nothing(x: Tensor) -> None:
    pass


def trained(**arguments: Any) -> tuple[Tensor, Any]:
    model = Location()
    result = fit(model, nothing, X, **{"epochs": 5, "batch_size": None, "schedule": None, **arguments})
    return model.mu.detach(), result


def by_hand(make: Any, epochs: int = 5) -> Tensor:
    """μ after steps of the optimiser along the gradient of the sum over points, N μ − Σ x."""
    mu = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = make([mu])
    for _ in range(epochs):
        mu.grad = len(X) * mu.detach() - X.sum(0)
        optimizer.step()
    return mu.detach()


@pytest.mark.parametrize("compile", [False, True])
def test_adam_with_other_settings_is_still_one_step_with_its_gradient(compile: bool) -> None:
    """ε counts for the gradient of the sum over points; the rule is Kingma & Ba's, as torch has it."""
    settings = {"eps": 50.0, "betas": (0.5, 0.9)}
    optimizer = partial(pyrovae.schedules.adam, **settings)
    assert is_adam(optimizer)
    assert is_adam(pyrovae.schedules.adam)
    assert not is_adam(torch.optim.Adam)
    found = trained(optimizer=optimizer, lr=0.02, compile=compile)[0]
    torch.testing.assert_close(found, by_hand(lambda p: torch.optim.Adam(p, 0.02, **settings)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        (Adam({"lr": 0.1}), lambda p: torch.optim.Adam(p, 0.1)),
        (Adam({"betas": (0.5, 0.9)}), lambda p: torch.optim.Adam(p, 0.02, betas=(0.5, 0.9))),
        (
            ClippedAdam({"lr": 0.1, "clip_norm": 1.0}),
            lambda p: pyro.optim.clipped_adam.ClippedAdam(p, 0.1, clip_norm=1),
        ),
        (torch.optim.SGD, lambda p: torch.optim.SGD(p, 0.02)),
    ],
)
def test_an_optimiser_makes_its_own_steps(optimizer: Any, make: Any) -> None:
    """A learning rate of its own counts; where it has none, that of `fit`."""
    torch.testing.assert_close(trained(optimizer=optimizer, lr=0.02)[0], by_hand(make), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": torch.optim.LBFGS}, "LBFGS computes the loss several times .* such as torch.optim.Adam"),
        ({"optimizer": torch.optim.Adam([torch.zeros(1)])}, r"object of Adam .*: give the class, Adam"),
        ({"optimizer": "adam"}, "optimizer is 'adam': give a class such as torch.optim.Adam"),
        ({"optimizer": lambda params: None}, r"optimizer\(params, lr\) failed: TypeError"),
        ({"optimizer": lambda params, lr: None}, "returned None: return a torch optimiser"),
        ({"optimizer": Adam(lambda name: {"lr": 0.1})}, "give one dictionary for all"),
        ({"optimizer": Adam({"lr": 0.1}, {"clip_norm": 1.0})}, "leave them out, and give fit max_grad_norm"),
        (
            {"optimizer": ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9})},
            "scheduler of pyro.optim.*give its optimiser as optimizer=",
        ),
        ({"schedule": "cosin"}, "no schedule 'cosin' .did you mean 'cosine'"),
        ({"schedule": 3}, "schedule is 3: give a function of .optimizer, steps., such as lambda"),
        ({"optimizer": AdagradRMSProp({})}, "AdagradRMSProp has no learning rate"),
        ({"schedule": torch.optim.lr_scheduler.OneCycleLR}, r"schedule\(optimizer, steps\) failed: ValueError"),
        ({"schedule": lambda o, n: None}, "returned None: return a torch scheduler"),
        ({"schedule": lambda o, n: ReduceLROnPlateau(o, mode="max")}, "leave mode='max' out"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as refusal:
        trained(**arguments)
    assert str(refusal.value).count(". ") <= 1


def test_schedules_go_by_the_command_lines_names() -> None:
    for name, function in (("cosine", pyrovae.schedules.cosine), ("constant", None)):
        assert torch.equal(trained(schedule=name, epochs=9)[0], trained(schedule=function, epochs=9)[0])
    trained(schedule=ReduceLROnPlateau)
    assert not torch.equal(trained(schedule="cosine")[0], trained(schedule="constant")[0])


def plateau(optimizer: Any, steps: int) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=1e-3)


@pytest.mark.parametrize("held_out", [False, True])
def test_reduce_on_plateau_looks_at_each_epoch(held_out: bool) -> None:
    """The rates are those that torch's own object has for the same sequence of losses, or of −ELBOs of held-out points."""
    stopping = EarlyStopping(0.2, patience=50) if held_out else None
    _, result = trained(optimizer=torch.optim.SGD, schedule=plateau, epochs=12, lr=0.01, early_stopping=stopping)
    assert result.history[-1]["lr"] < 0.01  # it has converged
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.01)
    scheduler = plateau(optimizer, 0)
    for row in result.history:
        assert row["lr"] == optimizer.param_groups[0]["lr"]
        scheduler.step(-row["validation_elbo"] if held_out else row["loss"])


def test_reduce_on_plateau_is_resumed(tmp_path: Path) -> None:
    """With half of a training resumed, the rates are those of the whole."""
    whole = trained(optimizer=torch.optim.SGD, schedule=plateau, epochs=12, lr=0.01)[1]

    class Stop(Exception): ...

    def stop(result: Any) -> None:
        if len(result.losses) == 6:
            raise Stop

    keep, model = Checkpoints(tmp_path, 0.0), Location()
    settings: dict[str, Any] = {"batch_size": None, "optimizer": torch.optim.SGD, "schedule": plateau, "lr": 0.01}
    with pytest.raises(Stop):
        fit(model, nothing, X, epochs=12, checkpoints=keep, on_epoch=stop, **settings)
    again = fit(Location(), nothing, X, epochs=12, checkpoints=Checkpoints(tmp_path, resume=True), **settings)
    assert [row["lr"] for row in again.history] == [row["lr"] for row in whole.history]


def test_a_one_cycle_schedule() -> None:
    """Stepped once for each step: its rate returns to nothing at the end."""
    _, result = trained(epochs=10, schedule=lambda o, n: OneCycleLR(o, 0.1, total_steps=n))
    assert max(row["lr"] for row in result.history) == pytest.approx(0.1, rel=0.2)
    assert result.history[-1]["lr"] < 0.01


def functions(update: bool) -> tuple[Any, Any]:
    """A pair as Pyro's tutorials write them."""
    decoder, encoder = nn.Linear(2, 3).double(), nn.Linear(3, 2).double()

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder, update_module_params=update)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder, update_module_params=update)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder(x), 0.7).to_event(1))

    return model, guide


def test_a_loaded_parameter_store(tmp_path: Path) -> None:
    """The refusal says what helps, and it does: the numbers are those before the store was saved."""
    pair = functions(update=False)
    fit(*pair, X, epochs=2)
    before = evaluate(*pair, X, 10).elbo
    pyro.get_param_store().save(str(tmp_path / "store"))
    for use in (
        lambda model, guide: evaluate(model, guide, X, 10),
        lambda model, guide: fit(model, guide, X, epochs=1),
    ):
        pyro.clear_param_store()
        pyro.get_param_store().load(str(tmp_path / "store"))
        with pytest.raises(InvalidInputError, match=r"If you have loaded the store, write .*update_module_params=True"):
            use(*functions(update=False))
        use(*functions(update=True))
    pyro.clear_param_store()
    pyro.get_param_store().load(str(tmp_path / "store"))
    torch.testing.assert_close(evaluate(*functions(update=True), X, 10).elbo, before)
