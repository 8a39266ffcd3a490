"""Where a model meets its guide: log w = log p(x, z) − log q(z|x). The one file that replays a model on a guide's draws."""

import functools
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import NonFiniteError, check_int
from .enumeration import add_all, sum_out
from .execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from .sites import SAMPLES, density_sites, log_density, point_dim, points_axis, sum_inner_plates
from .structure import inspect_pair
from .supports import has_fixed_support
from .validation import check_value


def log_weights(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, num_samples: int = 1) -> Tensor:
    """Draw the log-weights log w_sn = log p(x_n, z_sn) − log q(z_sn | x_n), with z_sn ~ q(·|x_n).

    Their mean over samples estimates the ELBO, and the logarithm of the mean weight estimates log p(x). With the
    exact posterior as guide, every entry *is* log p(x_n). A discrete latent that the model marks `infer={"enumerate":
    "parallel"}` and the guide leaves out is summed out exactly. One that the guide names is drawn like any other.

    Draws come from torch's global generator. Gradients flow as the distributions allow. Modules are used in the mode
    that they are in, and `fit` leaves them in evaluation mode.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), on the device and in the type of the pair's parameters.
        num_samples: Draws of z for each point.

    Returns:
        log w (num_samples, N), in nats. −∞ is a weight of zero: a draw that the model rules out.

    Raises:
        InvalidInputError: The pair has no such weights: a latent in only one of the two, a site outside
            plate("data"), a scale, or x outside the support.
        NonFiniteError: A density is NaN or +∞.

    References:
        Burda, Grosse & Salakhutdinov (2016). Importance weighted autoencoders. Equation 8.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)  # its guide is the exact posterior
        >>> x = torch.randn(5, 4)
        >>> log_w = pyrovae.log_weights(model, guide, x, num_samples=3)
        >>> torch.allclose(log_w, model.log_prob(x).expand(3, 5), atol=1e-4)
        True
    """
    check_int("num_samples", num_samples, 1)
    max_plate_nesting = inspect_pair(model, guide, x).max_plate_nesting
    with isolated_parameters(model, guide):
        q = run_guide(guide, x, num_samples, max_plate_nesting)
        p = run_model(model, x, q, num_samples, max_plate_nesting)
        log_q = guide_density(q, x, num_samples, max_plate_nesting)
        log_p = model_density(p, len(x), num_samples, max_plate_nesting)
        check_finite(q, p, log_q, log_p)
    return log_p - log_q


def log_weights_unchecked(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, num_samples: int, max_plate_nesting: int
) -> Tensor:
    """Draw the log-weights of a pair that `inspect_pair` has passed.

    A loop over chunks inspects once and draws many times. A weight of zero raises `NonFiniteError` here, because the
    caller looks for the place of a fault.
    """
    with isolated_parameters(model, guide):
        q = run_guide(guide, x, num_samples, max_plate_nesting)
        p = run_model(model, x, q, num_samples, max_plate_nesting)
        log_w = model_density(p, len(x), num_samples, max_plate_nesting) - guide_density(
            q, x, num_samples, max_plate_nesting
        )
        if not bool(torch.isfinite(log_w).all()):
            _blame([*density_sites(q), *density_sites(p)], [], ~torch.isfinite(log_w))
    return log_w


def run_guide(guide: ModelOrGuide, x: Tensor, num_samples: int, max_plate_nesting: int) -> poutine.Trace:
    """`num_samples` draws from q(·|x) for every point, inside a plate of their own. To be called inside `isolated_parameters`."""
    with pyro.plate(SAMPLES, num_samples, dim=-1 - max_plate_nesting):
        return trace("guide", guide, x)


def run_model(
    model: ModelOrGuide, x: Tensor, q: poutine.Trace, num_samples: int, max_plate_nesting: int
) -> poutine.Trace:
    """The model on draws of the guide. To be called inside `isolated_parameters`."""
    sample_dim = -1 - max_plate_nesting
    with pyro.plate(SAMPLES, num_samples, dim=sample_dim):
        enumerated = poutine.enum(model, first_available_dim=sample_dim - 1)
        return trace("model", poutine.replay(enumerated, trace=q), x)


def model_density(
    p: poutine.Trace, points: int, num_samples: int, max_plate_nesting: int, check: bool = True
) -> Tensor:
    """Return log p(x, z) of a run of the model, with enumerated latents summed out: (samples, N).

    `check` tests whether every value lies in the support of its distribution.
    """
    if any(site["infer"].get("_enumerate_dim") is not None for site in density_sites(p)):
        return sum_out(p, num_samples, points, functools.partial(site_log_prob, check=check))
    return add_all([_per_point(site, check) for site in density_sites(p)]).reshape(num_samples, points)


def latent_density(p: poutine.Trace, x: Tensor, num_samples: int, max_plate_nesting: int) -> Tensor:
    """log p(z) of a run of the model, enumerated latents summed out: (samples, N). Values are not held to their support."""
    latents = [site for site in density_sites(p) if not site["is_observed"]]
    if not latents:
        return x.new_zeros(num_samples, len(x))
    prior = p.copy()
    for site in density_sites(p):
        if site["is_observed"]:
            prior.remove_node(site["name"])
    return model_density(prior, len(x), num_samples, max_plate_nesting, check=False)


def guide_density(q: poutine.Trace, x: Tensor, num_samples: int, max_plate_nesting: int, check: bool = True) -> Tensor:
    """log q(z|x) of a run of the guide: (samples, N)."""
    drawn = [_per_point(site, check) for site in density_sites(q)]
    return add_all(drawn).reshape(num_samples, len(x)) if drawn else x.new_zeros(num_samples, len(x))


def observed_density(p: poutine.Trace, points: int, num_samples: int, max_plate_nesting: int) -> Tensor:
    """log p(x|z) of a run of the model, its `pyro.factor`s included: (samples, N)."""
    seen = [_per_point(site) for site in density_sites(p) if site["is_observed"]]
    return add_all(seen).reshape(num_samples, points)


def within_support(p: poutine.Trace) -> Tensor:
    """Whether every value of a run lies in its distribution's support, in one tensor: nothing is read into Python."""
    inside = torch.tensor(True)
    for site in density_sites(p):
        if site["is_observed"] and not has_fixed_support(site["fn"]):
            continue  # outside it the density is 0, and a number
        try:
            here = site["fn"].support.check(site["value"]).all()
        except (NotImplementedError, AttributeError):
            continue
        inside = here & inside.to(here.device)
    return inside


def check_finite(q: poutine.Trace, p: poutine.Trace, log_q: Tensor, log_p: Tensor, first: int = 0) -> None:
    """Raise `NonFiniteError` with site and data point (counted from `first`) where a weight is not a number.

    That is where log p(x, z) is NaN or +∞, or log q(z|x) is not finite. log p(x, z) = −∞ is allowed: it is a weight
    of zero.
    """
    bad_q = ~torch.isfinite(log_q)
    bad = bad_q | torch.isnan(log_p) | (log_p == torch.inf)
    if bool(bad.any()):
        _blame(density_sites(q) if bool(bad_q.any()) else [], density_sites(p), bad, first)


def site_densities(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, part: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the log-densities of the first `part` points, among the other points and alone, at the same latents.

    Each of the two dictionaries has the sites of the model and, under "q(name)", those of the guide, as (..., part).
    They differ where points depend on one another.
    """
    with isolated_parameters(model, guide), evaluation_mode(model, guide), torch.no_grad():
        q = trace("guide", guide, x)
        company = {"q({})": q, "{}": trace("model", poutine.replay(model, trace=q), x)}
        latents = {}
        for run in company.values():
            for site in density_sites(run):
                if not site["is_observed"]:
                    latents[site["name"]] = site["value"].narrow(points_axis(site), 0, part)
        alone = {
            "q({})": trace("guide", pyro.condition(guide, latents), x[:part]),
            "{}": trace("model", pyro.condition(model, latents), x[:part]),
        }
        return (
            {
                label.format(site["name"]): site_log_prob(site).narrow(point_dim(site), 0, part)
                for label, run in company.items()
                for site in density_sites(run)
            },
            {
                label.format(site["name"]): site_log_prob(site)
                for label, run in alone.items()
                for site in density_sites(run)
            },
        )


def site_log_prob(site: dict[str, Any], check: bool = True) -> Tensor:
    """One site's log-density, over all its batch dimensions: scale left out, mask kept."""
    if check:
        check_value(site, site["value"])
    return log_density(site)


def _per_point(site: dict[str, Any], check: bool = True) -> Tensor:
    """One site's log-density, summed over inner plates: (samples, 1..., N, 1...)."""
    return sum_inner_plates(site, site_log_prob(site, check))


def _blame(finite: list[dict[str, Any]], scored: list[dict[str, Any]], bad: Tensor, first: int = 0) -> None:
    """Name the first site that is not a number, and the first data point where it is not; else the point alone.

    Sites that are `finite` must be finite. Those that are `scored` may have a density of zero.
    """
    for place, site in enumerate([*finite, *scored]):
        log_prob = site_log_prob(site)
        wrong = ~torch.isfinite(log_prob)
        if place >= len(finite):
            wrong &= log_prob != -torch.inf
        if bool(wrong.any()):
            index = wrong.nonzero()[0]
            point = first + int(index[point_dim(site)])
            raise NonFiniteError(
                f"log-density {log_prob[tuple(index)].item()} at site '{site['name']}', data point {point}: "
                "lower the learning rate, floor the variances, or look at that point."
            )
    point = first + int(bad.nonzero()[0, 1])
    raise NonFiniteError(f"The log-weight of data point {point} is no finite number: look at that point.")
