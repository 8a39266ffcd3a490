"""validate(): what fit does before its first step, and nothing else."""

import inspect
from dataclasses import fields
from typing import Any

import pytest
import torch
from low_precision import no_reason_against
from torch import Tensor

import pyrovae
from pyrovae import EarlyStopping, InvalidInputError, fit
from pyrovae.pair.execution import modules
from pyrovae.training import validate
from pyrovae.training.arguments import TrainingSettings

DIM = 4


def points() -> Tensor:
    return torch.randn(50, DIM, generator=torch.Generator().manual_seed(3)) + 2.0


def pair(name: str, **options: Any) -> Any:
    torch.manual_seed(1)
    return pyrovae.load(name)(DIM, **options)


def tensors(model: Any, guide: Any) -> list[Tensor]:
    return [value.clone() for module in modules(model, guide) for value in module.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_settings_are_the_arguments_of_fit() -> None:
    arguments = {name: value.default for name, value in inspect.signature(fit).parameters.items()}
    for field in fields(TrainingSettings):
        assert arguments.pop(field.name) == field.default, field.name
    assert set(arguments) == {"model", "guide", "x", "checkpoints", "on_epoch", "callbacks", "progress", "structure"}


@pytest.fixture(autouse=True)
def _any_processor_has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrovae.utils.precision.reason_against", no_reason_against)


@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("ppca", {"latent": 2}, {"batch_size": 10, "ema_decay": 0.9}),
        ("gmm", {"components": 3}, {"init": "em", "early_stopping": EarlyStopping(0.2)}),
        ("vae", {"latent": 2, "hidden": (8,)}, {"batch_size": None, "kl_warmup_fraction": 0.5, "precision": "bf16"}),
    ],
)
def test_the_model_starts_as_in_fit_and_no_step_is_made(name: str, options: Any, settings: Any) -> None:
    model, guide = pair(name, **options)
    state = torch.get_rng_state()
    structure = validate(model, guide, points(), **settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part.training for module in modules(model, guide) for part in module.modules())
    started = pair(name, **options)
    fit(*started, points(), epochs=0, **{key: value for key, value in settings.items() if key != "init"})
    assert same(tensors(model, guide), tensors(*started))
    # a structure that is handed on changes no number
    fit(*started, points(), epochs=2, **settings)
    fit(model, guide, points(), epochs=2, structure=structure, **settings)
    assert same(tensors(model, guide), tensors(*started))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"precision": "fp8"}, "There is no precision"),
        ({"early_stopping": 3}, "early_stopping is 3"),
        ({"objective": "IWAE"}, "is no objective but the name of one"),
        ({"early_stopping": EarlyStopping(0.001)}, "cannot be held out"),
    ],
)
def test_it_refuses_what_fit_refuses(settings: Any, message: str) -> None:
    for call in (validate, fit):
        with pytest.raises(InvalidInputError, match=message):
            call(*pair("ppca", latent=2), points(), **settings)


def test_a_structure_of_other_points_is_not_used() -> None:
    """All training points are held to the support, whatever a caller has seen before."""
    bits = (points() > 2).float()
    model, guide = pair("bernoulli_mixture", components=2)
    structure = validate(model, guide, bits)
    bits[40, 1] = 0.5
    for known in (None, structure):
        with pytest.raises(InvalidInputError, match=r"Point 40 has the value 0\.5 at site"):
            fit(model, guide, bits, epochs=1, structure=known)
    with pytest.raises(InvalidInputError, match=r"Point 40 has the value 0\.5 at site"):  # behind the first batch
        fit(model, guide, bits, epochs=1, batch_size=10, structure=validate(model, guide, bits[:40], batch_size=10))
