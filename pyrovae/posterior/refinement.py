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

from ..errors import InvalidInputError, NonFiniteError
from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..pair.sites import density_sites
from ..pair.structure import Structure
from ..pair.validation import check_points
from ..statistics import log_weights as weights_statistics
from ..statistics.estimate import Estimate
from ..statistics.result import PointwiseResult
from ..utils.provenance import metadata
from ..utils.random import fork_rng
from .batching import chunk_progress, in_chunks, positive_ints
from .joint_density import Joint
from .optimise import RefinementSettings, ascend
from .variational_families import DiagonalGaussian, FlowFamily, FullGaussian, Posteriors, VariationalFamily


@dataclass(frozen=True, repr=False)
class RefinementResult(PointwiseResult):
    """What `refine` found, point by point: tensors on the CPU, nats; all from `num_samples` fresh draws of the refined q.

    `elbo` L[q*] ≤ log p(x) and `log_likelihood` ≤ log p(x), both in expectation: `bound` says so.
    """

    labels: ClassVar[Mapping[str, str]] = {"elbo": "L[q*], refined per point", "log_likelihood": "log p̂(x) by q*"}
    other_values: ClassVar[tuple[str, ...]] = ("gap_se", "ess", "steps")

    elbo: Tensor
    elbo_se: Tensor
    log_likelihood: Tensor
    log_likelihood_se: Tensor
    gap_se: Tensor  # of log_likelihood − elbo, which share their draws
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
    from_guide: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> RefinementResult:
    """argmax_q L[q] = E_q[log p(x_n, u) − log q(u)] within a family, for every row of x by itself, and what L and log p̂ are there.

    q is over the unconstrained latents u; without a `family` it is `matching`'s, the guide's own. It begins at the guide's moments,
    or at N(0, I). All points move together under one optimiser and one stream of noise, so that what becomes of a point does not
    depend on the others (but for the draws that tell the guide's moments). The guide is only drawn from: it need not be reparameterised, nor have a density.

    `num_samples` fresh draws score the end: nothing that was optimised is reported. `on_progress` is called with the number of points
    done since its last call, a fraction. x is on the device and in the type of the pair's parameters; modules are put in
    evaluation mode and back, torch's random state is left as it was.

    Raises `InvalidInputError` for discrete latents that are not summed out and latents on a circle; `NonFiniteError` where q finds no density.
    """
    positive_ints(num_samples=num_samples)
    check_points(x)
    protocol = protocol or RefinementSettings()
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        whole, noise = is_per_point(guide, x), int(torch.randint(2**62, ()))

        def work(joint: Joint, start: int) -> tuple[Posteriors, Tensor, Tensor]:
            check_no_circles(joint.structure)
            chosen = family or matching(joint.structure)
            with fork_rng(x.device, noise):  # the same in each chunk
                posteriors, steps = ascend(joint, chosen, protocol, from_guide, divisible=not whole)
            log_w = log_weights(joint, posteriors, num_samples, protocol.draws)
            _check_finite(log_w, start)
            chunk_progress(on_progress, len(joint.x))(1.0)
            return posteriors, steps, log_w

        parts = in_chunks(model, guide, x, protocol.draws, work)
    log_w = torch.cat([part[2] for part in parts], dim=1)
    names = ("elbo", "elbo_se", "log_likelihood", "log_likelihood_se", "gap_se", "ess")
    posteriors = Posteriors.concatenate([part[0] for part in parts])
    return RefinementResult(
        **{name: getattr(weights_statistics, name)(log_w).cpu() for name in names},
        steps=torch.cat([part[1] for part in parts]),
        posteriors=posteriors,
        seconds=time.perf_counter() - started,
        metadata=metadata(
            x,
            family=str(posteriors.family),
            start="guide" if from_guide else "N(0, I)",
            **{**protocol.__dict__, "lr": posteriors.family.rate if protocol.lr is None else protocol.lr},
            num_samples=num_samples,
            seed=seed,
            points=len(x),
        ),
    )


def matching(structure: Structure) -> VariationalFamily:
    """The family that the guide's own looks like: diagonal where all its latents are independent Gaussians, a flow where one is
    transformed, else with a full covariance."""
    drawn = [site["fn"] for site in density_sites(structure.guide_trace) if not site["infer"].get("is_auxiliary")]
    bases = [fn.base_dist if isinstance(fn, dist.Independent) else fn for fn in drawn]
    if all(isinstance(base, dist.Normal | dist.Delta) for base in bases):
        return DiagonalGaussian()
    if any(type(base) is dist.TransformedDistribution for base in bases):
        return FlowFamily()
    return FullGaussian()


def log_weights(joint: Joint, posteriors: Posteriors, num_samples: int, chunk: int) -> Tensor:
    """log p(x, u) − log q*(u) of fresh draws, `chunk` at a time: (samples, N), float64."""
    parts = []
    for size in [min(chunk, num_samples - done) for done in range(0, num_samples, chunk)]:
        u, log_q = posteriors.sample(size)
        parts.append((joint.log_p(u) - log_q).double())
    return torch.cat(parts)


def check_no_circles(structure: Structure) -> None:
    """A density on a circle repeats itself along R for ever, and a Gaussian over R gains by being wide without end."""
    for latent in structure.latents:
        fn = structure.model_trace.nodes[latent.name]["fn"]
        if isinstance(getattr(fn, "base_dist", fn), dist.VonMises | dist.SineBivariateVonMises):
            raise InvalidInputError(
                f"Latent '{latent.name}' is an angle, and no Gaussian over the real line is a density on the circle: use ais or "
                "evaluate, which need none."
            )


def _check_finite(log_w: Tensor, start: int) -> None:
    bad = ~torch.isfinite(log_w).all(0)
    if bool(bad.any()):
        point = int(bad.nonzero()[0])
        raise NonFiniteError(
            f"The refined q of data point {start + point} draws where the model has no density: lower the protocol's lr, or look "
            "at that point."
        )
