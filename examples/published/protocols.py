"""How the literature prepares images and counts log p(x): what its rows share."""

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from record import Line, Recorder
from torch import Tensor
from torch.distributions import constraints

import pyrovae
from pyrovae.data.transforms import Transform

VALIDATION = 10_000  # of MNIST's 60,000 training images, the last ones


class GreyBernoulli(dist.Bernoulli):
    """x log p + (1 − x) log(1 − p) for grey levels x in [0, 1]: a cross-entropy, and no logarithm of a density."""

    support = constraints.unit_interval


class CrossEntropy(pyrovae.likelihoods.Bernoulli):
    """The likelihood of an image whose pixels are grey levels, as many published numbers count it."""

    def forward(self, eta: Tensor) -> dist.TorchDistribution:
        return GreyBernoulli(logits=eta).to_event(1)


def split(data: pyrovae.Data, validation: int = VALIDATION) -> tuple[Tensor, Tensor]:
    """Training and validation points: the last `validation` training points of the data set validate.

    Where the transform draws, each point is drawn once, from torch's random state.
    """
    every = data.train[torch.arange(len(data.train))]
    return every[: len(every) - validation], every[len(every) - validation :]


def mean(values: Tensor) -> tuple[float, float]:
    """The mean over points, and its standard error from the choice of points."""
    values = values.double()
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def bits_per_dim(log_p: Tensor, x: Tensor, transform: Transform) -> Tensor:
    """Bits per pixel of each point: −(log p(x) + log|dx/dpixel|) / (D log 2). x is in the transform's space."""
    jacobian = transform.log_jacobian(x)
    if jacobian is None:
        raise ValueError(f"The transform ({transform}) has no pixel scale, so there are no bits per pixel.")
    return -(log_p.double() + jacobian.double()) / (x[0].numel() * math.log(2))


def class_log_densities(
    density: Callable[[Tensor], Callable[[Tensor], Tensor]], train: Tensor, labels: Tensor, x: Tensor
) -> Tensor:
    """log p(x|c) for every class c, (N, C), each density fitted to the training points of its class.

    Args:
        density: From training points to a function that returns log p(x) of each point.
        train: Training points (M, D).
        labels: Their classes (M,), from 0.
        x: Points (N, D).
    """
    return torch.stack([density(train[labels == c])(x) for c in range(int(labels.max()) + 1)], dim=-1)


def of_own_class(log_p: Tensor, labels: Tensor) -> Tensor:
    """log p(x|c) of each point's own class c, from (N, C): as the flows report class-conditional models."""
    return log_p.gather(1, labels.unsqueeze(1)).squeeze(1)


def summed_over_classes(log_p: Tensor, train_labels: Tensor) -> Tensor:
    """log Σ_c p(c) p(x|c) of each point, from (N, C): p(c) is the share of class c in the training points."""
    shares = torch.bincount(train_labels, minlength=log_p.shape[1]).to(log_p) / len(train_labels)
    return (log_p + shares.log()).logsumexp(dim=-1)


def density_lines(
    name: str,
    log_p: Tensor,
    x: Tensor,
    transform: Transform,
    published: tuple[float | None, float | None] = (None, None),
    note: str = "",
) -> list[Line]:
    """Exact log p(x) of each point as two lines: nats, and bits per pixel. `published` has both."""
    nats, bits = mean(log_p), mean(bits_per_dim(log_p, x, transform))
    exact = {"points": len(x), "lower": nats[0], "upper": nats[0]}
    return [
        Line(f"{name}: log p(x)", nats[0], published[0], data_se=nats[1], note=note, **exact),
        Line(f"{name}: bits per pixel", bits[0], published[1], data_se=bits[1], note=note, points=len(x)),
    ]


def trained_by_svi(name: str, x: Tensor, recorder: Recorder, **options: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A pair of `latent` latents, trained for `epochs` in batches of 128 at the learning rate of its recipe."""
    builder = pyrovae.load(name)
    model, guide = builder(x.shape[1], latent=recorder["latent"], **options)
    settings = {"epochs": recorder["epochs"], "batch_size": 128, "lr": builder.recipe["lr"], "seed": recorder["seed"]}
    pyrovae.fit(model, guide, x, **settings, progress=False, on_epoch=recorder.check_budget)
    return model, guide


def both_sides(model: torch.nn.Module, guide: torch.nn.Module, x: Tensor, seed: int) -> dict[str, Any]:
    """The mean of log p(x) over these points from both sides, as a `Line` has it."""
    sides = pyrovae.estimators.two_sided_log_likelihood(model, guide, x, seed=seed)
    met = bool(sides.met.all())  # else there is no upper bound
    return {
        "points": len(x),
        "lower": sides.mean_lower.value,
        "upper": sides.mean_upper.value if met else None,
        "two_sided_se": max(sides.mean_lower.mc_se, sides.mean_upper.mc_se if met else 0.0),
    }


def two_sided_lines(
    name: str,
    model: torch.nn.Module,
    guide: torch.nn.Module,
    test: Tensor,
    points: int,
    seed: int,
    transform: Transform | None = None,
    num_samples: int = 1000,
) -> list[Line]:
    """log p(x), the ELBO and L_K of the first test points, each beside log p(x) from both sides.

    log p̂(x) has a standard error of at most 0.05 nats at each point, where the method reaches it. Else the note says why not. With a
    transform there is a line of bits per pixel.
    """
    x = test[:points]
    found = pyrovae.evaluate(model, guide, x, num_samples, seed, tolerance=0.05, transform=transform, progress=False)
    known = both_sides(model, guide, x, seed)
    log_p = found.mean_log_likelihood
    is_estimate = bool(found.reliable.double().mean() > 0.9)  # else log p̂(x) is itself only a bound
    lines = [
        Line(
            f"{name}: log p(x)", log_p.value, None, log_p.mc_se, log_p.data_se, note=found.reliability_message, **known
        )
    ]
    for quantity, field in (("ELBO", "elbo"), (f"L_{found.num_samples}", "bound")):
        value, mc_se, data_se = found.mean(field)
        error = {"bound_error": log_p.value - value, "bound_error_se": math.hypot(log_p.mc_se, mc_se)}
        loose = error if is_estimate else {}
        lines.append(Line(f"{name}: {quantity}", value, None, mc_se, data_se, **known, **loose))
    if transform is not None:
        value, data_se = mean(bits_per_dim(found.log_likelihood, x, transform))
        mc_se = log_p.mc_se / (x[0].numel() * math.log(2))
        lines.append(Line(f"{name}: bits per pixel", value, None, mc_se, data_se, points=len(x)))
    return lines
