"""Modes, means, covariances and draws of every point's posterior p(z|x), by importance sampling about its modes."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..pair.sites import PLATE
from ..pair.validation import check_points, handles_missing
from ..statistics import log_weights as weights_statistics
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .batching import MIN_CHUNK_DRAWS, block_sizes, chunk_progress, in_chunks
from .joint_density import Joint
from .mixture_fitting import fit_mixture
from .mode_search import choose_search
from .modes import Modes
from .precision import CHECKED_POINTS, in_sufficient_precision
from .result import PosteriorModes, PosteriorResult

DRAWS_SHARE = 8  # a chunk is sized for one in so many of the draws, which come in blocks


def sample_posterior(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_draws: int = 1000,
    seed: int = 0,
    *,
    on_progress: Callable[[float], None] | None = None,
) -> PosteriorResult:
    """Find the modes, the mean, the covariance and draws of p(z|x_n) for every row of x.

    E[f(z)|x] ≈ Σ_k w_k f(z_k), with w_k ∝ p(x, u_k) / q(u_k) and Σ_k w_k = 1. u are the latents, unconstrained, and z their values
    in their own space. u_k ~ q, a mixture of Student t distributions about the modes of p(u|x), with a share of the prior.
    Newton's method finds the modes, from the guide's mean and draws of the prior, so that a poor guide costs time and no
    accuracy. The estimates are consistent, with a bias of order 1/ESS, given the modes found.

    Discrete latents that are summed out are left out of the result.
    The K draws of all N points are kept: N · K · (numbers in z) of them, on the CPU.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        num_draws: K, how many draws each point gets.
        seed: The same seed gives the same numbers. Torch's random state is left as it was.
        on_progress: Called with the number of points done since its last call.

    Returns:
        A `PosteriorResult`, in the units of each latent. `.draws(name)` are (K, N, *event).

    Raises:
        InvalidInputError: `num_draws` is below 2; a latent is discrete and not summed out, or an angle; there is no continuous latent.
        NonFiniteError: No draw of some point has a finite weight.

    References:
        Hesterberg, T. (1995). Weighted average importance sampling and defensive mixture distributions. Technometrics.

    Example:
        result = pyrovae.posterior.sample_posterior(model, guide, x)
        result.means["z"], result.covariances["z"], result.draws("z"), result.ess
    """
    check_int("num_draws", num_draws, 2)
    check_points(x, handles_missing(model))
    started = time.perf_counter()
    per_point = is_per_point(guide, x)  # then the points cannot be split
    model, guide, x = in_sufficient_precision(model, guide, x, len(x) if per_point else CHECKED_POINTS)

    def work(joint: Joint, start: int) -> dict[str, Any]:
        modes = search(joint)
        draws, log_w = _weighted_draws(joint, modes, num_draws)
        check_weights(log_w, start)
        chunk_progress(on_progress, len(joint.x))(1.0)
        return {"modes": _modes_by_name(joint, modes), **_estimates(draws, log_w)}

    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        search = choose_search(model, guide, x, seed)
        parts = in_chunks(model, guide, x, max(MIN_CHUNK_DRAWS, num_draws // DRAWS_SHARE), work)

    def joined(key: str, axis: int = 0) -> Any:
        values = [part[key] for part in parts]
        if isinstance(values[0], dict):
            return {name: torch.cat([value[name] for value in values], dim=axis) for name in values[0]}
        return torch.cat(values, dim=axis)

    return PosteriorResult(
        **{key: joined(key) for key in ("means", "means_se", "covariances")},
        modes=PosteriorModes.concatenate([part["modes"] for part in parts]),
        **{key: joined(key, axis=1) for key in ("weighted_draws", "weights", "resampled")},
        **{key: joined(key) for key in ("log_likelihood", "log_likelihood_se", "ess")},
        seconds=time.perf_counter() - started,
        metadata=metadata(x, num_draws=num_draws, seed=seed, points=len(x)),
    )


def values_by_name(joint: Joint, u: Tensor) -> dict[str, Tensor]:
    """Each latent's value in its own space, (draws, N, *inner plates, *event), from u (draws, N, d)."""
    latents, values = joint.latents(u), {}
    for block in joint.blocks:
        value = latents[block.name][0]
        frames = joint.structure.model_trace.nodes[block.name]["cond_indep_stack"]
        own = {len(block.batch) + frame.dim for frame in frames if frame.vectorized and frame.name != PLATE}
        event = value.shape[1 + len(block.batch) :]
        inner = [size for axis, size in enumerate(block.batch) if axis in own]
        values[block.name] = value.movedim(1 + block.axis, 1).reshape(len(u), len(joint.x), *inner, *event)
    return values


def _weighted_draws(joint: Joint, modes: Modes, num_draws: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draws (K, N, *event) by name, and their log-weights (K, N), in blocks."""
    mixture, _ = fit_mixture(joint, modes)
    blocks = []
    for size in block_sizes(num_draws, len(joint.x)):
        u, log_w = mixture.weigh(joint, size)
        blocks.append((values_by_name(joint, u), log_w))
    draws = {name: torch.cat([values[name] for values, _ in blocks]) for name in blocks[0][0]}
    return draws, torch.cat([log_w for _, log_w in blocks])


def _estimates(draws: dict[str, Tensor], log_w: Tensor) -> dict[str, Any]:
    """Everything that follows from draws (K, N, *event) and log-weights (K, N), on the CPU."""
    weights = log_w.softmax(0)
    means, errors, covariances = {}, {}, {}
    for name, values in draws.items():
        mean, error, covariance = weighted_moments(values, weights)
        means[name], errors[name], covariances[name] = mean.cpu(), error.cpu(), covariance.cpu()
    return {
        "means": means,
        "means_se": errors,
        "covariances": covariances,
        "weighted_draws": {name: values.cpu() for name, values in draws.items()},
        "weights": weights.cpu(),
        "resampled": systematic_resampling(weights.cpu()),
        "log_likelihood": weights_statistics.log_likelihood(log_w).cpu(),
        "log_likelihood_se": weights_statistics.log_likelihood_se(log_w).cpu(),
        "ess": weights_statistics.ess(log_w).cpu(),
    }


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean m = Σ_k w_k z_k, its standard error √(Σ_k w_k² (z_k − m)²), and covariance Σ_k w_k (z_k − m)(z_k − m)ᵀ.

    (K, N, *event) and (K, N) → (N, *event), (N, *event), (N, *event, *event). In double precision.
    """
    event, points = values.shape[2:], values.shape[1]
    flat = values.double().flatten(2) if event else values.double().unsqueeze(-1)
    weight = weights.unsqueeze(-1)
    flat = torch.where(weight > 0, flat, 0.0)  # a value too large for its type, of no weight, is not to be 0 · ∞
    mean = (weight * flat).sum(0)
    offset = flat - mean
    error = (weight * offset).square().sum(0).sqrt()
    covariance = (weight * offset).permute(1, 2, 0) @ offset.transpose(0, 1)
    shapes = (event, event, (*event, *event))
    mean, error, covariance = (
        value.reshape(points, *shape) for value, shape in zip((mean, error, covariance), shapes, strict=True)
    )
    return mean, error, covariance


def systematic_resampling(weights: Tensor) -> Tensor:
    """For each column of weights (K, N), K rows such that row k occurs ⌊K w_k⌋ or ⌈K w_k⌉ times, in random order: (K, N).

    One uniform number per column places K evenly spaced marks on the cumulated weights (Kitagawa 1996, appendix).
    """
    count, points = weights.shape
    cumulated = weights.mT.contiguous().cumsum(-1)
    cumulated = cumulated / cumulated[:, -1:]  # the last is 1, so that every mark is below it
    marks = (torch.arange(count) + torch.rand(points, 1, dtype=weights.dtype)) / count
    rows = torch.searchsorted(cumulated, marks, right=True).clamp(max=count - 1)
    order = torch.rand(points, count).argsort(-1)
    return rows.gather(-1, order).mT.contiguous()


def _modes_by_name(joint: Joint, found: Modes) -> PosteriorModes:
    modes = found.without_unfinished()

    def masked(values: Tensor) -> Tensor:  # (M, N, *event)
        exists = modes.exists.reshape(*modes.exists.shape, *[1] * (values.dim() - 2))
        return torch.where(exists, values, torch.nan).cpu()

    return PosteriorModes(
        {name: masked(value) for name, value in values_by_name(joint, modes.location.to(joint.x)).items()},
        masked(modes.log_density),
        masked(modes.log_masses.softmax(0)),
        modes.exists.cpu(),
        (modes.exists & modes.at_rest).cpu(),
        found.share_found_once.cpu(),
    )


def check_weights(log_w: Tensor, start: int) -> None:
    """Raise `NonFiniteError` where no draw of a point has a finite weight. Points count from `start`."""
    bad = ~torch.isfinite(log_w.logsumexp(0))
    if bool(bad.any()):
        point = int(bad.nonzero()[0])
        raise NonFiniteError(
            f"No posterior draw of data point {start + point} has a finite weight: its density is zero or not a number about its "
            "modes and where the prior draws; look at that point."
        )
