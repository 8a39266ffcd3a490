"""The density of the observed entries of x: a distribution whose missing entries, NaN, are integrated out.

torch's own have no such thing: their log-density of a value with NaN is NaN. `observed(density, x)` makes one of any density over
independent entries, of a `PrecisionNormal`, and of an `Indexed` family of these.
"""

import functools
import math
from typing import Any, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to

from ..errors import InvalidInputError
from ..missing import fill_missing, has_missing
from .indexed import Indexed
from .normal import PrecisionNormal


class Observed(Protocol):
    """A density of x (*batch, D) with missing entries. What is said of these is given the observed ones."""

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of the observed entries."""
        ...

    def moments(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """E[x|observed] (*batch, D), and Cov[x|observed] (*batch, D, D), or its diagonal where entries are independent."""
        ...

    def fill(self, value: Tensor) -> Tensor:
        """The value with its missing entries drawn."""
        ...


def observed(density: dist.TorchDistribution, x: Tensor) -> dist.TorchDistribution:
    """Return the density of the observed entries of x. Where x has no missing entry, it is `density` itself.

    log p(x_observed) = log ∫ p(x) dx_missing

    Args:
        density: A density of one point: with independent entries (`.to_event(1)`), or a `PrecisionNormal`.
        x: The points (N, D). Missing entries are NaN.

    Returns:
        A distribution over the same space, which takes values with missing entries.

    Raises:
        InvalidInputError: The density is of another kind, so that its integral is not known.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> from pyrovae.distributions import observed
        >>> x = torch.tensor([[0.5, torch.nan]])
        >>> observed(dist.Normal(torch.zeros(2), 1.0).to_event(1), x).log_prob(x)
        tensor([-1.0439])
    """
    if not has_missing(x):
        return density
    if isinstance(density, Indexed):
        return Indexed(observed(density.family, x), density.index, density.batch_shape)
    if isinstance(density, PrecisionNormal):
        return ObservedNormal(density)
    entries = density
    while isinstance(entries, torch.distributions.Independent):
        entries = entries.base_dist
    if entries is density or entries.event_shape:
        raise InvalidInputError(
            f"The missing entries of x cannot be integrated out of {type(density).__name__}: give a density with independent "
            "entries, .to_event(1), or impute x."
        )
    return ObservedEntries(density, entries)


class OrMissing(dist.constraints.Constraint):
    """Numbers of another constraint, and NaN."""

    event_dim = 0

    def __init__(self, base: Any):
        self.base, self.is_discrete = base, base.is_discrete

    def check(self, value: Tensor) -> Tensor:
        return value.isnan() | self.base.check(filled_inside(value, self.base))


def filled_inside(value: Tensor, support: Any) -> Tensor:
    """The value with a number of the support in place of each missing entry: any density has a gradient there."""
    zero = value.new_zeros(())
    try:
        return fill_missing(value, biject_to(support)(zero))
    except NotImplementedError:  # whole numbers
        return fill_missing(value, zero)


class ObservedEntries(dist.TorchDistribution):
    """Π over the observed d of p(x_d), for entries that are independent."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)

    def __init__(self, density: dist.TorchDistribution, entries: dist.TorchDistribution):
        self.density, self.entries = density, entries
        self.has_rsample = density.has_rsample
        super().__init__(density.batch_shape, density.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return dist.constraints.independent(OrMissing(self.entries.support), len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.density.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ObservedEntries":
        wider = self.density.expand(torch.Size(batch_shape))
        return ObservedEntries(wider, self.entries.expand(torch.Size(batch_shape) + self.event_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.density.rsample(sample_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.density.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        each = self.entries.log_prob(filled_inside(value, self.entries.support))
        return each.masked_fill(value.isnan(), 0.0).sum(dim=list(range(-len(self.event_shape), 0)))

    def moments(self, value: Tensor) -> tuple[Tensor, Tensor]:
        mean = fill_missing(value, self.entries.mean)
        return mean, torch.where(value.isnan(), self.entries.variance, torch.zeros_like(mean))

    def fill(self, value: Tensor) -> Tensor:
        return fill_missing(value, self.entries.sample())


class ObservedNormal(dist.TorchDistribution):
    """N(μ_o, Σ_oo) of the observed entries o, Σ⁻¹ = Λ = P Pᵀ; m are the missing ones. In double precision.

    x_m|x_o ~ N(μ_m − Λ_mm⁻¹ Λ_mo (x_o − μ_o), Λ_mm⁻¹). With x̂ the point whose missing entries are that mean,

        log p(x_o) = log N(x̂ | μ, Σ) − ½ log|Λ_mm| + (|m|/2) log 2π.

    Λ_mm stands in a matrix of D rows, with the identity at the observed entries. So all points are one batch.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    has_rsample = True
    support = dist.constraints.independent(OrMissing(dist.constraints.real), 1)

    def __init__(self, normal: PrecisionNormal):
        self.normal = normal
        super().__init__(normal.batch_shape, normal.event_shape, validate_args=False)

    @functools.cached_property
    def _precise(self) -> tuple[Tensor, Tensor, Tensor]:
        """μ, P and Λ."""
        factor = self.normal.factor.double()
        return self.normal.loc.double(), factor, factor @ factor.mT

    @property
    def mean(self) -> Tensor:
        return self.normal.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ObservedNormal":
        return ObservedNormal(self.normal.expand(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.normal.rsample(sample_shape)

    def _given(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x̂ − μ; the Cholesky factor of Λ_mm among the identity; and which entries are missing, as 0 and 1."""
        loc, _, precision = self._precise
        missing = value.isnan().double()
        centred = (fill_missing(value).double() - loc) * (1 - missing)
        inner = missing.unsqueeze(-1) * precision * missing.unsqueeze(-2) + torch.diag_embed(1 - missing)
        root = torch.linalg.cholesky_ex(inner).L
        pull = missing * torch.einsum("...d,...de->...e", centred, precision)
        return centred - torch.cholesky_solve(pull.unsqueeze(-1), root).squeeze(-1), root, missing

    def log_prob(self, value: Tensor) -> Tensor:
        filled, root, missing = self._given(value)
        white = torch.einsum("...d,...de->...e", filled, self._precise[1])
        log_det = self.normal.log_det.double() - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        seen = self.event_shape[0] - missing.sum(-1)
        return (log_det - 0.5 * (white.square().sum(-1) + seen * math.log(2 * math.pi))).to(value.dtype)

    def moments(self, value: Tensor) -> tuple[Tensor, Tensor]:
        filled, root, missing = self._given(value)
        covariance = torch.cholesky_inverse(root) - torch.diag_embed(1 - missing)
        return self._precise[0] + filled, covariance

    def fill(self, value: Tensor) -> Tensor:
        filled, root, missing = self._given(value)
        noise = torch.randn_like(filled).unsqueeze(-1)
        step = missing * torch.linalg.solve_triangular(root.mT, noise, upper=True).squeeze(-1)
        return fill_missing(value, (self._precise[0] + filled + step).to(value.dtype))
