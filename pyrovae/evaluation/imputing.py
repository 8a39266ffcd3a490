"""impute(): what the missing entries of x may be, given the observed ones."""

import time
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..distributions import Conditional
from ..errors import InvalidInputError, check_int, user_code_errors
from ..missing import assume_missing
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..pair.validation import check_points, handles_missing
from ..posterior.batching import in_chunks, in_chunks_of
from ..posterior.joint_density import Joint
from ..posterior.laplace_limits import why_not_laplace
from ..posterior.mixture_fitting import fit_mixture
from ..posterior.mode_search import choose_search
from ..posterior.posterior_sampling import check_weights, systematic_resampling
from ..posterior.precision import CHECKED_POINTS, in_sufficient_precision
from ..statistics import log_weights as weights_statistics
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .imputation import Imputation

POSTERIOR_DRAWS = 1000  # of each point, at least
EXACT_ELEMENTS = 2**18  # of the covariances of points at once, in each component


@runtime_checkable
class HasConditional(Protocol):
    """A model that knows p(x_missing | x_observed): `conditional(x)` returns it for points with missing entries."""

    def conditional(self, x: Tensor) -> Conditional: ...


def impute(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_draws: int = 20,
    seed: int = 0,
    *,
    level: float = 0.9,
) -> Imputation:
    """Fill the missing entries of every row of x from p(x_missing | x_observed).

    A model that knows this density (`gaussian`, `gmm`, `ppca`, `factor_analysis` and their mixtures) gives means and
    intervals exactly. For any other,

        E[f(x_m)|x_o] ≈ Σ_s w_s E[f(x_m)|z_s],  w_s ∝ p(x_o, z_s) / q(z_s),  Σ_s w_s = 1.

    The draws z_s are those of `posterior.sample_posterior`, about the modes of p(z|x_o). Intervals and draws come from
    one draw of p(x_m|z_s) for each z_s, resampled by the weights.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, D), on the device and in the type of the pair's parameters. Missing entries are NaN.
        num_draws: How many filled copies of x to draw.
        seed: The same seed gives the same numbers. Torch's random state is left as it was.
        level: The probability of the intervals, between 0 and 1.

    Returns:
        An `Imputation`, in the units of x.

    Raises:
        InvalidInputError: The pair takes no missing values, or it does not say what x may be.
        NonFiniteError: No draw of some point has a finite weight.

    References:
        Mattei & Frellsen (2019). MIWAE: Deep generative modelling and imputation of incomplete data sets.

    Example:
        >>> import pyrovae, torch
        >>> x = torch.tensor([[0.0, torch.nan, 1.0], [2.0, 0.5, 1.0]])
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> filled = pyrovae.impute(model, guide, x)
        >>> filled.mean.isnan().any(), filled.draws.shape
        (tensor(False), torch.Size([20, 2, 3]))
    """
    check_int("num_draws", num_draws, 1)
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise InvalidInputError(f"level is {level!r:.40}: give a probability between 0 and 1, such as 0.9.")
    check_points(x, handles_missing(model))
    if x.dim() != 2:
        raise InvalidInputError(f"x has shape {tuple(x.shape)}: give points (N, D).")
    started, missing = time.perf_counter(), x.isnan()
    tails = (0.5 - level / 2, 0.5 + level / 2)
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed), assume_missing(True):
        if isinstance(model, HasConditional):
            method, parts = "exact", _exactly(model, x, num_draws, tails)
        else:
            method, parts = "importance_sampling", _by_weights(model, guide, x, num_draws, tails, seed)

    def joined(name: str, axis: int = 0) -> Tensor:
        return torch.cat([part[name] for part in parts], dim=axis).cpu()

    values = {name: joined(name).to(x.dtype) for name in ("mean", "lower", "upper")}
    given = x.cpu()
    values = {name: torch.where(missing.cpu(), value, given) for name, value in values.items()}
    return Imputation(
        missing=missing.cpu(),
        **values,
        draws=torch.where(missing.cpu(), joined("draws", 1).to(x.dtype), given),
        level=float(level),
        method=method,
        ess=joined("ess"),
        seconds=time.perf_counter() - started,
        metadata=metadata(x, num_draws=num_draws, seed=seed, level=float(level), points=len(x)),
    )


def _exactly(model: HasConditional, x: Tensor, num_draws: int, tails: tuple[float, float]) -> list[dict[str, Tensor]]:
    """Each chunk's means, intervals and draws from the density that the model knows."""

    def work(points: Tensor, start: int) -> dict[str, Tensor]:
        with user_code_errors("model.conditional(x)"):
            conditional = model.conditional(points)
        draws = conditional.draw(num_draws)
        if conditional.is_normal:
            ends = [conditional.quantile(tail) for tail in tails]
        else:
            ends = _quantiles(conditional.draw(POSTERIOR_DRAWS), tails)
        ess = torch.full((len(points),), torch.inf, dtype=torch.float64)
        return {"mean": conditional.mean, "lower": ends[0], "upper": ends[1], "draws": draws, "ess": ess}

    return in_chunks_of(x, max(16, EXACT_ELEMENTS // x.shape[1] ** 2), work, False)


def _by_weights(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, num_draws: int, tails: tuple[float, float], seed: int
) -> list[dict[str, Tensor]]:
    """The same of each chunk, from weighted draws of the latents."""
    if message := why_not_laplace(model, guide, x):
        raise InvalidInputError(
            f"{message.rstrip('.')}, so its posterior cannot be drawn from: impute with another pair."
        )
    count = max(POSTERIOR_DRAWS, num_draws)
    model, guide, x = in_sufficient_precision(model, guide, x, len(x) if is_per_point(guide, x) else CHECKED_POINTS)

    def work(joint: Joint, start: int) -> dict[str, Tensor]:
        mixture, _ = fit_mixture(joint, search(joint))
        u, log_w = mixture.weigh(joint, count)
        check_weights(log_w, start)
        density: Any = joint.density_of_x(u.to(joint.x))
        weights = log_w.softmax(0)
        each = density.moments(joint.x)[0].double().expand(count, *joint.x.shape)
        mean = (weights.unsqueeze(-1) * torch.where(weights.unsqueeze(-1) > 0, each, 0.0)).sum(0)
        filled = density.fill(joint.x).expand(count, *joint.x.shape)
        rows = systematic_resampling(weights.cpu()).to(u.device)  # in random order
        draws = filled.gather(0, rows.unsqueeze(-1).expand(filled.shape))
        low, high = _quantiles(draws, tails)
        ess = weights_statistics.ess(log_w)
        return {"mean": mean, "lower": low, "upper": high, "draws": draws[:num_draws], "ess": ess}

    search = choose_search(model, guide, x, seed)
    return in_chunks(model, guide, x, count, work)


def _quantiles(draws: Tensor, tails: tuple[float, float]) -> list[Tensor]:
    """Quantiles over the first dimension of draws (count, N, D)."""
    ordered = draws.double().sort(dim=0).values
    return [ordered[min(len(ordered) - 1, int(tail * len(ordered)))] for tail in tails]
