"""Global latents are those outside plate("data"). Fix them at a point, and each data point has a density of its own."""

from collections.abc import Mapping
from typing import Any

from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ..errors import InvalidInputError
from .execution import ModelOrGuide, trace
from .sites import PLATE
from .validation import handles_missing


class GivenGlobals:
    """A model or a guide whose global latents have given values. It is called as what it is made of."""

    def __init__(self, program: ModelOrGuide, values: Mapping[str, Tensor]):
        self.program, self.values = program, dict(values)

    @property
    def conditional_on(self) -> tuple[str, ...]:
        """The names of the global latents."""
        return tuple(sorted(self.values))

    @property
    def handles_missing(self) -> bool:
        """Whether the program takes x with missing entries."""
        return handles_missing(self.program)

    def __call__(self, x: Tensor) -> object:
        conditioned = poutine.condition(self.program, data=self.values)
        return poutine.block(conditioned, hide=list(self.values))(x)


def condition_on_globals(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, values: Mapping[str, Tensor]
) -> tuple[GivenGlobals, GivenGlobals]:
    """Fix the global latents θ of a pair at a point, so that log p(x_n | θ) of each data point is defined.

    The result of `evaluate` is then log p(x_n | θ), and not log p(x_n): θ is not integrated out. `evaluate` says so: the names of θ
    stand in `metadata["conditional_on"]`. For a point, take the maximum a posteriori or a draw of the posterior of θ.

    Args:
        model: The model, a function of x.
        guide: The guide. Global latents that it names get the same values; it need not name any.
        x: A few data points (N, ...), to look which latents there are.
        values: A value for each global latent of the model, by name.

    Returns:
        The model and the guide with these values: a pair for `evaluate`, `compare`, `gap` and `log_weights`.

    Raises:
        InvalidInputError: `values` names something else than the global latents of the model.

    Example:
        >>> import pyro, pyro.distributions as dist, pyrovae, torch
        >>> def model(x):
        ...     scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(0.0, scale).expand([1]).to_event(1), obs=x)
        >>> x = torch.zeros(3, 1)
        >>> pair = pyrovae.condition_on_globals(model, lambda x: None, x, {"scale": torch.tensor(1.0)})
        >>> pyrovae.evaluate(*pair, x, num_samples=2).log_likelihood  # −½ log 2π
        tensor([-0.9189, -0.9189, -0.9189], dtype=torch.float64)
    """
    names = {site["name"] for site in trace("model", model, x).nodes.values() if _is_global(site)}
    if names != set(values):
        raise InvalidInputError(
            f'The global latents of the model, those outside plate("data"), are {", ".join(sorted(names)) or "none"}, and there are '
            f"values for {', '.join(sorted(values)) or 'none'}: give one value for each."
        )
    fixed = {name: value.detach() for name, value in values.items()}
    return GivenGlobals(model, fixed), GivenGlobals(guide, fixed)


def _is_global(site: dict[str, Any]) -> bool:
    is_latent = site["type"] == "sample" and not site["is_observed"] and not site_is_subsample(site)
    return is_latent and PLATE not in {frame.name for frame in site["cond_indep_stack"]}
