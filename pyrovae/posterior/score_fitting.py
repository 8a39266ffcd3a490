"""Fit each component of a mixture to the posterior about it, by the gradients of the log-density at draws of that component."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from .batching import over_draws
from .joint_density import Joint, per_point
from .mode_mixture import ModeMixture

MIN_ROUNDS, MAX_ROUNDS, LATENTS_A_ROUND = 2, 6, 8  # 2 rounds serve 16 latents best, and 6 serve 50: measured
DRAWS_PER_LATENT, MIN_DRAWS = (
    4,
    64,
)  # half of the draws mirror the others, and a regression needs more than one a dimension
MAX_CHANGE = 5.0  # of a variance in a round: a factor, either way
MAX_STEP = 2.0  # standard deviations that a mean moves in a round
MAX_SCORE = 30.0  # in a direction: a normal with MAX_CHANGE times the precision has about that, and overflow has more
MIN_WEIGHT = 1e-3  # of a component that is worth it


def fit_to_scores(joint: Joint, mixture: ModeMixture, rounds: int | None = None) -> ModeMixture:
    """The mixture with the mean and covariance of each component fitted to the posterior near it.

    A normal distribution N(m, S) that is closest to p(u|x) by KL(q‖p) has E_q ∇ log p(x, u) = 0 and S⁻¹ = −E_q ∇² log p(x, u)
    (Opper & Archambeau 2009). By Stein's lemma the mean Hessian is the slope of a regression of ∇ log p(x, u) on u at draws of q.
    So each round draws from q, and gives q that curvature and Newton's step for its mean. Gradients tell d numbers a draw where
    weights tell one: the covariance has no noise to speak of, even in 50 dimensions.
    """
    mode, point = (mixture.log_weights > math.log(MIN_WEIGHT)).nonzero(as_tuple=True)
    part = joint.subset(point)
    location, factor = mixture.location[mode, point], (mixture.axes * mixture.widths.unsqueeze(-2))[mode, point]
    if rounds is None:
        rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, joint.size // LATENTS_A_ROUND))
    for _ in range(rounds):
        location, factor = _round(part, location, factor)
    usable = torch.isfinite(location).all(-1) & torch.isfinite(factor).flatten(-2).all(-1)
    mode, point, location, factor = mode[usable], point[usable], location[usable], factor[usable]
    axes, widths, _ = torch.linalg.svd(factor)
    result = replace(
        mixture, location=mixture.location.clone(), axes=mixture.axes.clone(), widths=mixture.widths.clone()
    )
    result.location[mode, point], result.axes[mode, point], result.widths[mode, point] = location, axes, widths
    return result


def _round(joint: Joint, location: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (R, d) and a factor (R, d, d) of the covariance after one round."""
    rows, d = location.shape
    half = torch.randn(max(MIN_DRAWS, DRAWS_PER_LATENT * d) // 2, rows, d, dtype=torch.float64, device=location.device)
    z = torch.cat([half, -half])
    u = location + torch.einsum("nde,sne->snd", factor, z)
    (score,) = over_draws(joint, lambda u: per_point(lambda u: (joint.log_p(u),), u)[1], u.to(joint.x))
    score = torch.einsum("snd,nde->sne", score.double().nan_to_num(0.0, 0.0, 0.0), factor)  # with respect to z
    score = score.clamp(-MAX_SCORE, MAX_SCORE)
    mean = score.mean(0)
    slope = torch.linalg.solve(torch.einsum("snd,sne->nde", z, z), torch.einsum("snd,sne->nde", z, score - mean))
    curvature, axes = torch.linalg.eigh(-(slope + slope.mT) / 2)
    curvature = curvature.clamp(1 / MAX_CHANGE, MAX_CHANGE)
    along = (torch.einsum("nde,nd->ne", axes, mean) / curvature).clamp(-MAX_STEP, MAX_STEP)
    step = torch.einsum("nde,ne->nd", axes, along)
    return location + torch.einsum("nde,ne->nd", factor, step), factor @ (axes * curvature.rsqrt().unsqueeze(-2))
