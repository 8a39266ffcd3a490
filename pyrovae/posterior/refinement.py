"""q refined for every point: how far a family can go when no network stands between x and its parameters.

Cremer, Li & Duvenaud 2018: what remains between L[q*] and log p(x) is the family's, what lay between L[q_φ] and L[q*] is the
network's.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..pair.sites import density_sites
from ..pair.structure import Structure, inspect_pair
from ..pair.validation import check_points, handles_missing
from ..statistics import log_weights as weights_statistics
from ..statistics.estimate import Estimate
from ..statistics.reliability import JudgedResult, shortfall_text, weight_shortfall
from ..statistics.weight_sums import WeightSums
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .batching import block_sizes, chunk_progress, in_chunks, positive_ints
from .joint_density import Joint
from .laplace_limits import check_no_circles
from .mixture_fitting import fit_mixture
from .mode_mixture import ModeMixture
from .mode_search import choose_search
from .optimise import Moments, RefinementSettings, ascend, moments_of
from .starts import choose_start_name
from .variational_families import DiagonalGaussian, FlowFamily, FullGaussian, Posteriors, VariationalFamily

START_DRAWS = 256  # of guide or prior, for the moments where q begins
MIN_ESS_FRACTION, MAX_WEIGHT = (
    0.05,
    0.1,
)  # of the draws, and of the sum of all weights: else a few draws carry the weight


@dataclass(frozen=True, repr=False)
class RefinementResult(JudgedResult):
    """What `refine` found, point by point: tensors on the CPU, nats; all from `num_samples` fresh draws of the refined q.

    `elbo` L[q*] ≤ log p(x) and `log_likelihood` ≤ log p(x), both in expectation: `bound` says so. `reliability` judges
    `log_likelihood` by its weights and, from the posterior, by draws about the modes, which know of more than one.
    """

    labels: ClassVar[Mapping[str, str]] = {"elbo": "L[q*], refined per point", "log_likelihood": "log p̂(x) by q*"}
    other_values: ClassVar[tuple[str, ...]] = ("gap_se", "shortfall", "ess", "steps")

    elbo: Tensor
    elbo_se: Tensor
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    gap_se: Tensor  # of log_likelihood − elbo, which share their draws
    shortfall: Tensor  # (N,), by how much log p̂(x) may be too low, as far as draws show: 0 where it is reliable
    ess: Tensor
    steps: Tensor  # (N,), how many steps each point took before it rested
    posteriors: Posteriors
    seconds: float
    metadata: dict[str, Any]
    bound: str = "lower"

    def __repr__(self) -> str:
        value, mc_se, _ = self.mean_elbo
        return f"RefinementResult({len(self)} points, {self.metadata['family']}: L[q*] {value:.3f} ± {mc_se:.3f})"

    @property
    def method(self) -> tuple[str, ...]:
        """Of each point: "local_vi"."""
        return ("local_vi",) * len(self)

    @property
    def reliability_message(self) -> str:
        """At how many points the weights of q* can be relied on, and what may be missing at the others."""
        given = "given the modes found" if self.metadata["start"] == "posterior" else "given that q* visits every mode"
        if bool(self.reliable.all()):
            return f"Reliable at every point, {given}."
        return (
            f"Reliable at {int(self.reliable.sum())} of {len(self)} points, {given}. At the others log p̂(x) by q* is a lower bound: q* "
            f"is too narrow, or misses a mode. They {shortfall_text(self.shortfall)}."
        )

    @property
    def mean_elbo(self) -> Estimate:
        return self.mean("elbo")

    @property
    def mean_log_likelihood(self) -> Estimate:
        return self.mean("log_likelihood")

    @property
    def bounds(self) -> Mapping[str, str]:
        return dict.fromkeys(self.labels, self.bound)


def refine(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    family: VariationalFamily | None = None,
    num_samples: int = 1000,
    seed: int = 0,
    *,
    protocol: RefinementSettings | None = None,
    start: str | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> RefinementResult:
    """Maximise the ELBO L[q] = E_q[log p(x_n, u) − log q(u)] within a family of q, for every row of x by itself.

    q is a density of the unconstrained latents u. All points move under one optimiser and one stream of noise, so
    that a point does not depend on the others. (The draws that the start needs are the exception.) The guide is only
    drawn from: it need not be reparameterised, and needs no density.

    Fresh draws score the refined q: no number that was optimised is reported. Modules are put in evaluation mode and
    back. The random state of torch is left as it was.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        family: The family of q. Default: the one that resembles the guide's own.
        num_samples: Fresh draws for each point.
        seed: The same seed gives the same numbers.
        protocol: Settings of the optimisation.
        start: Where q begins. "posterior" is the heaviest mode of p(u|x), with the widths that its curvature says.
            "guide" and "prior" are their moments. Default: the posterior if its modes can be searched, else the
            guide.
        on_progress: Called with the number of points done since its last call, a fraction.

    Returns:
        A `RefinementResult`, nats.

    Raises:
        InvalidInputError: The pair has no such start, a discrete latent is not summed out, or a latent is an angle.
        NonFiniteError: q finds no density.

    References:
        Cremer, Li & Duvenaud (2018). Inference suboptimality in variational autoencoders.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(3, latent=1)
        >>> result = pyrovae.refine(model, guide, torch.randn(2, 3), num_samples=10)
        >>> result.elbo.shape
        torch.Size([2])
    """
    positive_ints(num_samples=num_samples)
    check_points(x, handles_missing(model))
    protocol = protocol or RefinementSettings()
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        whole, noise = is_per_point(guide, x), int(torch.randint(2**62, ()))
        check_no_circles(inspect_pair(model, guide, x if whole else x[:2]))
        start = choose_start_name(model, guide, x, start)
        search = choose_search(model, guide, x, seed) if start == "posterior" else None

        def work(joint: Joint, first: int) -> tuple[Posteriors, Tensor, Tensor, Tensor]:
            chosen = family or matching(joint.structure)
            modes = search(joint) if search else None
            mixture = fit_mixture(joint, modes)[0] if modes else None
            if mixture is not None:
                moments = heaviest_moments(mixture, joint.x)
            else:
                moments = moments_of((joint.draw_guide if start == "guide" else joint.draw_prior)(START_DRAWS))
            with fork_rng(x.device, noise):  # the same in each chunk, however many draws a start took
                posteriors, steps = ascend(joint, chosen, protocol, moments, divisible=not whole)
            log_w = log_weights(joint, posteriors, num_samples, protocol.draws)
            _check_finite(log_w, first)
            shortfall = weight_shortfall(WeightSums.of(log_w))
            if modes is not None and mixture is not None:
                sizes = block_sizes(num_samples, len(joint.x))
                about_modes = torch.cat([mixture.weigh(joint, size)[1] for size in sizes])
                shortfall = shortfall + missed(log_w, about_modes) + modes.shortfall
            chunk_progress(on_progress, len(joint.x))(1.0)
            return posteriors, steps, log_w, shortfall

        parts = in_chunks(model, guide, x, protocol.draws, work)
    log_w = torch.cat([part[2] for part in parts], dim=1)
    names = ("elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "gap_se", "ess")
    posteriors = Posteriors.concatenate([part[0] for part in parts])
    return RefinementResult(
        **{name: getattr(weights_statistics, name)(log_w).cpu() for name in names},
        shortfall=torch.cat([part[3] for part in parts]).cpu(),
        steps=torch.cat([part[1] for part in parts]),
        posteriors=posteriors,
        seconds=time.perf_counter() - started,
        metadata=metadata(
            x,
            family=str(posteriors.family),
            start=start,
            **{**protocol.__dict__, "lr": posteriors.family.rate if protocol.lr is None else protocol.lr},
            num_samples=num_samples,
            seed=seed,
            points=len(x),
        ),
    )


def matching(structure: Structure) -> VariationalFamily:
    """Return the family that resembles the guide's own.

    It is diagonal if all latents are independent Gaussians, a flow if one is transformed, else Gaussian with a full
    covariance.
    """
    drawn = [site["fn"] for site in density_sites(structure.guide_trace) if not site["infer"].get("is_auxiliary")]
    bases = [fn.base_dist if isinstance(fn, dist.Independent) else fn for fn in drawn]
    if all(isinstance(base, dist.Normal | dist.Delta) for base in bases):
        return DiagonalGaussian()
    if any(type(base) is dist.TransformedDistribution for base in bases):
        return FlowFamily()
    return FullGaussian()


def heaviest_moments(mixture: ModeMixture, like: Tensor) -> Moments:
    """The centre of each point's heaviest component, and the standard deviation of each latent given the others: (N, d) each."""
    heaviest, every = mixture.log_weights.argmax(0), torch.arange(len(like), device=like.device)
    axes, widths = mixture.axes[heaviest, every], mixture.widths[heaviest, every]
    precision = (axes / widths.unsqueeze(-2)).square().sum(-1)  # the diagonal of A diag(1/w²) Aᵀ
    return mixture.location[heaviest, every].to(like), precision.rsqrt().to(like)


def missed(log_w: Tensor, other: Tensor) -> Tensor:
    """By how much log p̂(x) of log-weights (samples, N) is below that of others, where that is more than four of its errors."""
    ours, theirs = WeightSums.of(log_w), WeightSums.of(other)
    difference = theirs.log_likelihood - ours.log_likelihood
    error = (ours.log_likelihood_se.square() + theirs.log_likelihood_se.square()).sqrt()
    return torch.where(difference > 4 * error, difference, 0.0)


def log_weights(joint: Joint, posteriors: Posteriors, num_samples: int, chunk: int) -> Tensor:
    """log p(x, u) − log q*(u) of fresh draws, `chunk` at a time: (samples, N), float64."""
    parts = []
    for size in [min(chunk, num_samples - done) for done in range(0, num_samples, chunk)]:
        u, log_q = posteriors.sample(size)
        parts.append((joint.log_p(u) - log_q).double())
    return torch.cat(parts)


def _check_finite(log_w: Tensor, start: int) -> None:
    bad = ~torch.isfinite(log_w).all(0)
    if bool(bad.any()):
        point = int(bad.nonzero()[0])
        raise NonFiniteError(
            f"The refined q of data point {start + point} draws where the model has no density: lower the protocol's lr, or look "
            "at that point."
        )
