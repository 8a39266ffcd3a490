"""check_pair(): the contract between model and guide, as a test that ships: for our pairs and for users' own."""

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from .errors import InvalidInputError
from .evaluation.evaluating import evaluate
from .objectives import HasTerms, resolve_objective
from .pair.execution import ModelOrGuide, evaluation_mode, local_parameters, modules
from .pair.importance_weights import log_weights, log_weights_unchecked, site_densities
from .pair.parameters import check_registered, is_per_point, unconstrained, unconstrained_parameters
from .pair.sampling import draw_observed
from .pair.structure import Structure, inspect_pair
from .utils.random import fork_rng

SIGMAS = 6.0  # a Monte-Carlo check of a correct pair fails once in 5e8 times


def check_pair(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, *, seed: int = 0) -> None:
    """Check that a pair keeps the contract on which training, estimation and the command line depend.

    The checks are:

    1. sites: the same latents in both, inside plate("data"), no scales, x observed and inside the support;
    2. weights: `log_weights` is (samples, N) and finite, under any number of samples;
    3. independence: neither p nor q of a point depends on the other points of the batch;
    4. constants: −loss of the objective that `fit` chooses is the mean log-weight, within Monte Carlo error;
    5. gradients: they reach every parameter, and plain Pyro sees each parameter under a name of its own;
    6. `log_prob(x)`, if the model has it, is not below the importance-weighted bound;
    7. sampling: the model can draw x, and what it draws lies in its support.

    The parameters of the pair and the random state of torch are left as they were.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: Some points (N, ...) of the kind that the pair is for, N ≥ 4.
        seed: The same seed gives the same checks.

    Raises:
        InvalidInputError: A check fails. The message says what is wrong and what to do.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> pyrovae.check_pair(model, guide, torch.randn(8, 4))
    """
    if len(x) < 4:
        raise InvalidInputError(f"check_pair needs at least 4 points to tell them apart; got {len(x)}.")
    with evaluation_mode(model, guide), fork_rng(x.device, seed):
        structure = inspect_pair(model, guide, x)
        _check_weights(model, guide, x)
        _check_independence(model, guide, x)
        _check_constants(model, guide, x, structure)
        _check_parameters(model, guide, x, structure)
        _check_log_prob(model, guide, x, seed)
        _check_sampling(model, guide, x)


def _check_weights(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> None:
    for num_samples in (1, 3):
        shape = tuple(log_weights(model, guide, x, num_samples).shape)
        if shape != (num_samples, len(x)):
            raise InvalidInputError(f"log_weights has shape {shape} where ({num_samples}, {len(x)}) was asked for.")


def _check_independence(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> None:
    """The first half of the points, alone, must have the densities that they have in company, for the same latents."""
    try:
        company, alone = site_densities(model, guide, x, len(x) // 2)
    except InvalidInputError:
        if is_per_point(guide, x):
            return  # its parameters are those of the full batch
        raise
    for name, density in alone.items():
        tolerance = 1e-3 * (1 + company[name].abs().max())
        if density.shape != company[name].shape or bool(((density - company[name]).abs() > tolerance).any()):
            raise InvalidInputError(
                f"The density of a point at site '{name}' changes with the other points of the batch. Compute nothing over the "
                "data dimension (no batch statistics, no sums over points)."
            )


def _check_constants(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> None:
    objective = resolve_objective(guide, structure)
    with local_parameters(model, guide), torch.no_grad():
        scale = structure.plate_full_size or len(x)  # by which a subsampled plate scales the loss
        losses = torch.tensor([_loss(objective, model, guide, x) for _ in range(32)]) / scale
        log_w = log_weights_unchecked(model, guide, x, 256, structure.max_plate_nesting).double().mean(dim=1)
    difference = float(log_w.mean() + losses.double().mean())
    error = float((log_w.var() / len(log_w) + losses.double().var() / len(losses)).sqrt())
    if abs(difference) > SIGMAS * error + 1e-4 * (1 + abs(float(losses.mean()))):
        raise InvalidInputError(
            f"The mean log-weight is {float(log_w.mean()):.4f} and −{type(objective).__name__} {-float(losses.mean()):.4f} nats a "
            "point: training and evidence do not see the same densities; look for scales, and for terms that only the loss has."
        )


def _loss(objective: Any, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> float:
    if isinstance(objective, HasTerms):
        return float(objective.terms(model, guide, x).loss)
    return float(objective.loss(model, guide, x))


def _check_parameters(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure) -> None:
    with local_parameters(model, guide), fork_rng(x.device):
        traces = {"guide": poutine.trace(guide, param_only=True).get_trace(x)}
        traces["model"] = poutine.trace(poutine.replay(model, structure.guide_trace), param_only=True).get_trace(x)
        seen = {
            kind: {name: unconstrained(site["value"]) for name, site in trace.nodes.items()}
            for kind, trace in traces.items()
        }
    for name, leaf in seen["model"].items():
        if seen["guide"].get(name, leaf) is not leaf:
            raise InvalidInputError(
                f"Model and guide both call a parameter '{name}', and Pyro's SVI would train only one of the two: derive them from "
                "pyrovae.Module, or give each PyroModule a name."
            )
    leaves = unconstrained_parameters(x, guide, model)
    check_registered(leaves, model, guide)
    names = {id(p): name for module in modules(model, guide) for name, p in module.named_parameters()}
    before = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    try:
        with local_parameters(model, guide):
            objective = resolve_objective(guide, structure)
            if isinstance(objective, HasTerms):
                objective.terms(model, guide, x).loss.backward()
            else:
                objective.loss_and_grads(model, guide, x)
        for leaf in leaves:
            if leaf.grad is None:
                name = names.get(id(leaf), f"of shape {tuple(leaf.shape)}")
                raise InvalidInputError(
                    f"No gradient reaches parameter {name}: look for .detach(), .data or an unused result."
                )
    finally:
        for leaf, grad in zip(leaves, before, strict=True):
            leaf.grad = grad


def _check_log_prob(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, seed: int) -> None:
    if not hasattr(model, "log_prob"):
        return
    evidence = evaluate(model, guide, x, num_samples=512, seed=seed)
    assert evidence.exact_log_likelihood is not None
    excess = evidence.mean_log_likelihood.value - float(evidence.exact_log_likelihood.double().mean())
    if excess > SIGMAS * evidence.mean_log_likelihood.mc_se + 1e-4 * (1 + abs(evidence.mean_log_likelihood.value)):
        raise InvalidInputError(
            f"The importance-weighted bound is {excess:.4f} nats a point above model.log_prob(x), which it cannot be: log_prob is "
            "not the log-density of what forward samples; look for a constant, or a density over other variables."
        )
    if evidence.mean_gap.value < 1e-4 and abs(excess) > 1e-3 * (1 + abs(evidence.mean_elbo.value)):
        raise InvalidInputError(
            f"The guide has no gap, so its weights are log p(x), yet model.log_prob(x) is {-excess:.4f} nats a point above them. "
            "log_prob is not the log-density of what forward samples."
        )


def _check_sampling(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> None:
    for site in draw_observed(model, len(x), x):
        if not bool(torch.isfinite(site["value"]).all()):
            raise InvalidInputError(
                f"A draw of '{site['name']}' from the model alone is not finite: look at the scales of its prior."
            )
        if site["value"].shape == x.shape:
            inspect_pair(model, guide, site["value"])
