"""What `diagnose` returns: which latents carry x, how much of x they carry, and whether prior and encodings agree."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..pair.latent_rows import Rows
from ..posterior.prior_grid import PriorDensity
from ..statistics.estimate import Estimate
from ..statistics.result import PointwiseResult
from ..utils.export import json_number
from .active_units import ClassUsage
from .prior_holes import TAIL_FRACTION, PriorHoles

ACTIVE_VARIANCE = 0.01  # Var_x(E_q[z_j|x]) of an active unit: Burda, Grosse & Salakhutdinov 2016
COLLAPSED_NATS = 0.1  # of I(n; z) below which latents say nothing of x
MISMATCHED_FRACTION = (
    10 * TAIL_FRACTION
)  # of prior draws in holes from which samples are visibly not of the data's kind
HOLES_FRACTION = 2 * TAIL_FRACTION  # that, by three of its errors, is more than chance puts there


@dataclass(frozen=True, repr=False)
class LatentDiagnostics(PointwiseResult):
    """What `diagnose` found: tensors on the CPU in double precision, nats. N points, S draws for each, D continuous latents.

    Numbers of each point (N,) are means over its draws, with Monte Carlo errors. `kl` is KL(q(z|x_n) ‖ p(z)).
    `information` is KL(q(z|x_n) ‖ q(z)) with q(z) = 1/N Σ_n q(z|x_n). `information_upper` is the same with point n
    left out of q(z).
    """

    labels: ClassVar[Mapping[str, str]] = {
        "kl": "KL(q(z|x) ‖ p(z))",
        "information": "I(n; z)",
        "information_upper": "I(x; z), upper bound",
    }

    names: tuple[str, ...]  # of the continuous latents, site[j]
    activity: Tensor  # Var_x(E_q[z_j|x]), (D,)
    activity_se: Tensor  # over points, (D,)
    unit_kl: Tensor  # mean over points of KL(q(z_j|x) ‖ p(z_j)), (D,); NaN where it has no closed form
    site_kl: Mapping[str, Estimate]  # mean KL of each site, whose sum is `mean_kl`
    factorised: bool  # the guide's q(z|x) is the product of its marginals, and unit_kl adds up to site_kl
    kl: Tensor
    kl_se: Tensor
    information: Tensor
    information_se: Tensor
    information_upper: Tensor
    information_upper_se: Tensor
    marginal_se: Tensor  # of `marginal`, (N,)
    classes: Mapping[str, ClassUsage]
    holes: PriorHoles | None
    draws: Tensor  # z_sn, (S, N, D)
    means: Rows  # E_q[z|x_n] of each continuous latent, (N, ...)
    prior_draws: Tensor  # z ~ p(z), (K, D)
    prior_density: PriorDensity | None  # p(z) of the two most active latents, where it is known
    notes: tuple[str, ...]  # what could not be computed for this pair, a sentence each
    num_samples: int
    latent: str
    data_hash: str  # of x
    seconds: float
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        active = f"{self.active_units()} of {len(self.names)} units active, " if self.names else ""
        holes = f", {self.holes.share.value:.1%} of prior draws in holes" if self.holes else ""
        return (
            f"LatentDiagnostics({len(self)} points: {active}KL {self.mean_kl.value:.3f} = I {self.mutual_information.value:.3f} "
            f"+ KL(q(z)‖p(z)) {self.marginal_kl.value:.3f}{holes})"
        )

    def active_units(self, threshold: float = ACTIVE_VARIANCE) -> int:
        """How many of the continuous latents have Var_x(E_q[z_j|x]) > threshold."""
        return int((self.activity > threshold).sum())

    def activity_curve(self, thresholds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Thresholds, and the number of active units at each; by default from 1e-5 to 10."""
        thresholds = torch.logspace(-5, 1, 121, dtype=torch.float64) if thresholds is None else thresholds
        return thresholds, (self.activity[:, None] > thresholds).sum(0)

    @property
    def mean_kl(self) -> Estimate:
        """1/N Σ_n KL(q(z|x_n) ‖ p(z)) = I(n; z) + KL(q(z) ‖ p(z))."""
        return self.mean("kl")

    @property
    def mutual_information(self) -> Estimate:
        """I(n; z) of a point's number and its latents, at most log N: what z says of which of these points it is.

        I(x; z) of all x is at least that in expectation. The data error is of first order, and 0 where log N caps it.
        Hoffman & Johnson 2016.
        """
        return self.mean("information")

    @property
    def mutual_information_upper(self) -> Estimate:
        """An upper bound in expectation on I(x; z) of all x.

        Each point is left out of the q(z) that it is compared with (Poole et al. 2019, eq. 13).
        """
        return self.mean("information_upper")

    @property
    def marginal(self) -> Tensor:
        """The difference kl − information of each point, (N,). Its mean is `marginal_kl`."""
        return self.kl - self.information

    @property
    def marginal_kl(self) -> Estimate:
        """KL(q(z) ‖ p(z)) of these N points' q(z); of all x's it is an upper bound in expectation."""
        return self.mean("marginal")

    @property
    def information_range(self) -> tuple[float, float]:
        """Bounds in expectation on I(x; z) of all x, from below and above.

        The lower one is the information of these N points. The upper one is the smaller of the leave-one-out bound
        and the mean KL.
        """
        above = min(self.mutual_information_upper.value, self.mean_kl.value)
        return min(self.mutual_information.value, above), above

    @property
    def marginal_kl_range(self) -> tuple[float, float]:
        """Bounds in expectation on KL(q(z) ‖ p(z)) of all x: what `information_range` leaves of the mean KL."""
        below, above = self.information_range
        return self.mean_kl.value - above, self.mean_kl.value - below

    @property
    def cap(self) -> float:
        """log N, in nats: I(n; z) is no larger."""
        return math.log(len(self))

    @property
    def reliability_message(self) -> str:
        """One sentence: collapsed, mismatched, with holes, or fine, and what to do."""
        if self.mutual_information.value < COLLAPSED_NATS and not self.active_units():
            return (
                f"Collapsed: z says {max(self.mutual_information.value, 0.0):.3f} nats of x, and the model makes x without it; "
                "warm the KL term up from 0, or train with a weaker decoder or a smaller noise."
            )
        active, count = self.active_units(), len(self.names)
        used = f"{active} of {count} latents are in use" if 0 < active < count else "the latents are in use"
        spare = f"; the other {count - active} could be left out" if 0 < active < count else ""
        if self.holes is None:
            return f"Fine: {used}{spare}."
        value, se = self.holes.share
        if value - 2 * se > MISMATCHED_FRACTION:
            return (
                f"Mismatched prior: {value:.0%} of its draws lie where hardly any encoding does ({TAIL_FRACTION:.0%} if the two agreed), "
                f"and the decoder was never trained there; learn the prior (a mixture, a flow), or weigh the KL more."
            )
        if value - 3 * se > HOLES_FRACTION:
            return (
                f"Holes in the prior: {used}{spare}, but {value:.0%} ± {se:.0%} of the prior's draws lie where hardly any encoding "
                f"does, and {TAIL_FRACTION:.0%} would if the two agreed: do not trust samples drawn there; learn the prior (a mixture, a flow)."
            )
        return f"Fine: {used}, and {1 - value:.0%} of the prior's draws lie where encodings do{spare}."

    def to_dict(self) -> dict[str, Any]:
        """All numbers but those per point and per draw, in plain JSON types; what is not finite is None."""
        content = {
            "points": len(self),
            "num_samples": self.num_samples,
            "latent": self.latent,
            "reliability_message": self.reliability_message,
            "notes": list(self.notes),
            "active_units": self.active_units(),
            "active_threshold": ACTIVE_VARIANCE,
            "units": [
                {"name": name, "activity": json_number(a), "activity_se": json_number(se), "kl": json_number(kl)}
                for name, a, se, kl in zip(
                    self.names, self.activity.tolist(), self.activity_se.tolist(), self.unit_kl.tolist(), strict=True
                )
            ],
            "activity_curve": dict(
                zip(("threshold", "active_units"), (t.tolist() for t in self.activity_curve()), strict=True)
            ),
            "factorised": self.factorised,
            "site_kl": {name: estimate.to_dict() for name, estimate in self.site_kl.items()},
            "mean_kl": self.mean_kl.to_dict(),
            "mutual_information": self.mutual_information.to_dict(),
            "mutual_information_cap": self.cap,
            "mutual_information_upper": self.mutual_information_upper.to_dict(),
            "marginal_kl": self.marginal_kl.to_dict(),
            "information_range": list(map(json_number, self.information_range)),
            "marginal_kl_range": list(map(json_number, self.marginal_kl_range)),
            "classes": {
                name: {
                    "used": c.used.tolist(),
                    "prior": c.prior.tolist(),
                    "entropy": c.entropy.tolist(),
                    "perplexity": c.perplexity.tolist(),
                }
                for name, c in self.classes.items()
            },
            "holes": None,
        }
        if self.holes is not None:
            boundary = self.holes.midpoint_share
            content["holes"] = {
                "definition": f"log q(z) below the {TAIL_FRACTION:.0%} quantile of encodings of points left out of q(z)",
                "threshold": json_number(self.holes.threshold),
                "prior_draws": len(self.holes.scores),
                "share": self.holes.share.value,
                "share_se": self.holes.share.se,
                "midpoint_share": boundary and boundary.value,
                "midpoint_share_se": boundary and boundary.se,
            }
        return content

    def summary(self) -> dict[str, Any]:
        """What the numbers are of, and what they say."""
        return {
            "num_samples": self.num_samples,
            "latent": self.latent,
            "data_hash": self.data_hash,
            "reliability_message": self.reliability_message,
        }

    def datasets(self) -> dict[str, Any]:
        """Return the groups of `to_arviz`.

        `sample_stats` is over `point`, `unit` and `prior_draw`. `posterior` has the encodings and `prior` the draws
        of the prior, both over `unit`.
        """
        import xarray

        (stats,) = super().datasets().values()
        stats = stats.assign_coords(unit=list(self.names))
        for name in ("activity", "activity_se", "unit_kl"):
            stats[name] = ("unit", getattr(self, name).numpy())
        if self.holes is not None:
            stats = stats.assign_coords(prior_draw=range(len(self.holes.scores)))
            stats["prior_score"] = ("prior_draw", self.holes.scores.numpy())
        groups = {"sample_stats": stats}
        if self.names:
            unit = {"unit": list(self.names)}
            draws, prior_draws = self.draws[None].numpy(), self.prior_draws[None].numpy()
            groups["posterior"] = xarray.Dataset({"z": (("chain", "draw", "point", "unit"), draws)}, unit)
            groups["prior"] = xarray.Dataset({"z": (("chain", "draw", "unit"), prior_draws)}, unit)
        return groups
