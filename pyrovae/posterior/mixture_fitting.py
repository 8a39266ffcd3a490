"""Fit a mixture about modes to the posterior by the draws of a pilot, and say how many draws an estimate needs."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..statistics.weight_sums import WeightSums
from .joint_density import Joint
from .mode_mixture import FEW_LATENTS, ModeMixture, Places, choose_mixture
from .modes import Modes
from .score_fitting import fit_to_scores

PILOT_DRAWS = 256
PILOT_SHARE = 8  # a pilot has at least one draw for so many of the estimate
# A pilot has seen too little of the weights' tail: its variance counts twice, and three of its standard errors are added.
SAFETY, PILOT_ERRORS = 2.0, 3.0
CURVATURE_DRAWS = 64.0  # for how many draws the curvature at the mode counts, beside those of the pilot
CANDIDATES = ((8.0, 1.05), (30.0, 1.05))  # degrees of freedom and scale of a mixture that has been fitted
TINY = 1e-300


def fit_mixture(
    joint: Joint, modes: Modes, tolerance: float = 0.05, max_draws: int = 4096
) -> tuple[ModeMixture, Tensor]:
    """The mixture to estimate log p(x) with, and the number of draws (N,) that give it a standard error of `tolerance` nats.

    A pilot measures the variance of a mixture's weights. Above 15 dimensions the mixture is first fitted to gradients. A pilot that
    has less than an eighth of the draws it asks for is followed by a larger one. It has seen too little of the tail of the weights.
    Above 15 dimensions another mixture is tried there first. That is the one without the fit to gradients, and then a fit to the
    pilot's draws. The draws of an estimate are none of these.
    """
    fits = joint.size > FEW_LATENTS
    first = choose_mixture(joint, modes)
    mixture = _with_tails(fit_to_scores(joint, first), *CANDIDATES[-1]) if fits else first
    places, count = mixture.draw_with_prior(joint, PILOT_DRAWS), PILOT_DRAWS
    needed = _num_draws(mixture, places, tolerance)
    rows, part = torch.arange(len(needed), device=needed.device), mixture
    while bool((unsure := needed[rows].clamp(max=max_draws) > PILOT_SHARE * count).any()):
        rows, joint, part, places = rows[unsure], joint.subset(unsure), part.subset(unsure), places.subset(unsure)
        if fits:
            part = _better(joint, first.subset(rows), part) if count == PILOT_DRAWS else fitted(part, places)
            mixture.put(rows, part)
        count *= 2
        places = part.draw_with_prior(joint, count)
        needed[rows] = _num_draws(part, places, tolerance)
    return mixture, needed


def _better(joint: Joint, first: ModeMixture, second: ModeMixture) -> ModeMixture:
    """At each point the first mixture as it is, or the second as one of `CANDIDATES`: the one whose weights have the least variance.

    Draws from both judge them, q₀ = ½ q₁ + ½ q₂, E_q (p/q)² = E_q₀ p² / (q q₀).
    """
    own = [mixture.draw_with_prior(joint, PILOT_DRAWS // 2) for mixture in (first, second)]
    u, log_prior, log_p = (torch.cat(values) for values in zip(*(places[:3] for places in own), strict=True))
    places = Places(u, log_prior, log_p, own[0].prior_share)
    log_q = torch.logaddexp(*(mixture.log_density_with_prior(places) for mixture in (first, second))) - math.log(2)
    return _least_variance([first, *(_with_tails(second, *tails) for tails in CANDIDATES)], places, log_q)


def _least_variance(candidates: list[ModeMixture], places: Places, log_q: Tensor) -> ModeMixture:
    """At each point the candidate whose weights have the least variance, as draws of q judge it."""
    squares = [
        (2 * places.log_p - log_q - mixture.log_density_with_prior(places)).logsumexp(0) for mixture in candidates
    ]
    least = torch.stack(squares).nan_to_num(torch.inf, torch.inf, -torch.inf).argmin(0)
    best = candidates[0].subset(torch.arange(len(least), device=least.device))  # a copy
    for index, mixture in enumerate(candidates[1:], start=1):
        rows = (least == index).nonzero().squeeze(-1)
        best.put(rows, mixture.subset(rows))
    return best


def _with_tails(mixture: ModeMixture, degrees_of_freedom: float, scale: float) -> ModeMixture:
    one = torch.ones_like(mixture.scale)
    return replace(mixture, degrees_of_freedom=degrees_of_freedom * one, scale=scale * one)


def _num_draws(mixture: ModeMixture, places: Places, tolerance: float) -> Tensor:
    sums = WeightSums.of(places.log_p - mixture.log_density_with_prior(places))
    variance = SAFETY * sums.relative_variance + PILOT_ERRORS * sums.relative_variance_se
    return (variance / tolerance**2).nan_to_num(0.0)  # where all weights are zero, more draws help nothing


def fitted(mixture: ModeMixture, places: Places) -> ModeMixture:
    """The mixture with centres and widths of the posterior's draws near each mode, and the mode's share of them; the axes stay.

    It is a step of EM on weighted draws (Cappé, Douc, Guillin, Marin & Robert 2008). What the curvature says counts for
    `CURVATURE_DRAWS` draws. Of `CANDIDATES` each point gets the one whose weights have the least variance. The pilot's draws q₀
    judge them, E_q (p/q)² = E_q₀ p² / (q q₀).
    """
    u = places.u.double()
    log_q = mixture.log_density_with_prior(places)
    weights = (places.log_p - log_q).softmax(0).nan_to_num(0.0)  # (draws, N)
    effective = 1 / weights.square().sum(0).clamp(min=1e-9)
    parts = weights * mixture.log_terms(u).softmax(0)  # (M, draws, N), by the mode that a draw belongs to
    locations, widths = [], []
    for mode, part in enumerate(parts):
        share = (part / part.sum(0).clamp(min=TINY)).unsqueeze(-1)
        draws = (part.sum(0) * effective).unsqueeze(-1)  # that are of this mode
        trust = draws / (draws + CURVATURE_DRAWS)
        z = mixture.standardised(mode, u)
        mean = trust * (share * z).sum(0)
        square = (1 - trust) + trust * (share * (z - mean).square()).sum(0)
        offset = torch.einsum("nde,ne->nd", mixture.axes[mode], mean * mixture.widths[mode])
        locations.append(mixture.location[mode] + offset)
        widths.append(mixture.widths[mode] * square.sqrt())
    shares = (mixture.log_weights.exp() + parts.sum(1)) / 2  # half of it stays, so that no mode is left with nothing
    exists = mixture.log_weights.isfinite()
    result = replace(
        mixture,
        location=torch.stack(locations),
        widths=torch.stack(widths),
        log_weights=torch.where(exists, shares.clamp(min=TINY).log(), -torch.inf).log_softmax(0),
    )
    return _least_variance([_with_tails(result, *tails) for tails in CANDIDATES], places, log_q)
