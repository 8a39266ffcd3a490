"""Where a model meets its guide: log w = log p(x, z) − log q(z|x). The one file that replays a model on a guide's draws."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import Diverged, Refusal
from .execution import Program, evaluation_mode, scoring, sites, trace
from .structure import PLATE, inspect, point_dim, points_axis, refuse_value

SAMPLES = "_samples"  # the plate of draws, outside all of the pair's own


def log_weights(model: Program, guide: Program, x: Tensor, samples: int = 1) -> Tensor:
    """log w_sn = log p(x_n, z_sn) − log q(z_sn | x_n), z_sn ~ q(·|x_n). Returns (samples, N), in nats.

    Means over `samples` estimate the ELBO, log-mean-exps log p(x) (Burda, Grosse & Salakhutdinov 2016, eq. 8); with the exact
    posterior as guide every entry *is* log p(x_n). A discrete latent that the model marks `infer={"enumerate": "parallel"}`
    and the guide leaves out is summed out exactly; one that the guide names is drawn like any other.

    Draws come from torch's global generator, gradients flow as the distributions allow, and modules are used in the mode
    they are in (`fit` leaves them in evaluation mode).

    Raises `Refusal` where the pair has no such weights: a latent in only one of the two, a site outside plate("data"), a
    scale, x outside the support; `Diverged` where a density is no number. log w = −∞ is one: a draw that the model rules out.
    """
    nesting = inspect(model, guide, x).nesting
    with scoring(model, guide):
        q = run_guide(guide, x, samples, nesting)
        p = run_model(model, x, q, samples, nesting)
        log_q = guide_density(q, x, samples, nesting)
        log_p = model_density(p, len(x), samples, nesting)
        refuse_no_number(q, p, log_q, log_p)
    return log_p - log_q


def draw_weights(model: Program, guide: Program, x: Tensor, samples: int, nesting: int) -> Tensor:
    """`log_weights` of a pair that `inspect` has passed: a loop over chunks inspects once and draws many times. A weight of
    zero is `Diverged` too: here it is the place of a fault that is looked for."""
    with scoring(model, guide):
        q = run_guide(guide, x, samples, nesting)
        p = run_model(model, x, q, samples, nesting)
        log_w = model_density(p, len(x), samples, nesting) - guide_density(q, x, samples, nesting)
        if not bool(torch.isfinite(log_w).all()):
            _blame([*sites(q), *sites(p)], [], ~torch.isfinite(log_w))
    return log_w


def run_guide(guide: Program, x: Tensor, samples: int, nesting: int) -> poutine.Trace:
    """`samples` draws from q(·|x) for every point, inside a plate of their own. To be called inside `scoring`."""
    with pyro.plate(SAMPLES, samples, dim=-1 - nesting):
        return trace("guide", guide, x)


def run_model(model: Program, x: Tensor, q: poutine.Trace, samples: int, nesting: int) -> poutine.Trace:
    """The model on draws of the guide. To be called inside `scoring`."""
    sample_dim = -1 - nesting
    with pyro.plate(SAMPLES, samples, dim=sample_dim):
        enumerated = poutine.enum(model, first_available_dim=sample_dim - 1)
        return trace("model", poutine.replay(enumerated, trace=q), x)


def model_density(p: poutine.Trace, points: int, samples: int, nesting: int, check: bool = True) -> Tensor:
    """log p(x, z) of a run of the model, enumerated latents summed out: (samples, N). `check` holds every value to its
    distribution's support."""
    if any(site["infer"].get("_enumerate_dim") is not None for site in sites(p)):
        return sum_out(p, samples, points, functools.partial(_log_prob, check=check))
    return _add([_per_point(site, -1 - nesting, check) for site in sites(p)]).reshape(samples, points)


def latent_density(p: poutine.Trace, x: Tensor, samples: int, nesting: int) -> Tensor:
    """log p(z) of a run of the model, enumerated latents summed out: (samples, N). Values are not held to their support."""
    latents = [site for site in sites(p) if not site["is_observed"]]
    if not latents:
        return x.new_zeros(samples, len(x))
    prior = p.copy()
    for site in sites(p):
        if site["is_observed"]:
            prior.remove_node(site["name"])
    return model_density(prior, len(x), samples, nesting, check=False)


def guide_density(q: poutine.Trace, x: Tensor, samples: int, nesting: int, check: bool = True) -> Tensor:
    """log q(z|x) of a run of the guide: (samples, N)."""
    drawn = [_per_point(site, -1 - nesting, check) for site in sites(q)]
    return _add(drawn).reshape(samples, len(x)) if drawn else x.new_zeros(samples, len(x))


def observed_density(p: poutine.Trace, points: int, samples: int, nesting: int) -> Tensor:
    """log p(x|z) of a run of the model, its `pyro.factor`s included: (samples, N)."""
    seen = [_per_point(site, -1 - nesting) for site in sites(p) if site["is_observed"]]
    return _add(seen).reshape(samples, points)


def within_support(p: poutine.Trace) -> Tensor:
    """Whether every value of a run lies in its distribution's support, in one tensor: nothing is read into Python."""
    inside = torch.tensor(True)
    for site in sites(p):
        try:
            here = site["fn"].support.check(site["value"]).all()
        except (NotImplementedError, AttributeError):
            continue
        inside = here & inside.to(here.device)
    return inside


def refuse_no_number(q: poutine.Trace, p: poutine.Trace, log_q: Tensor, log_p: Tensor, first: int = 0) -> None:
    """`Diverged` with site and data point (counted from `first`) where a weight is no number: log p(x, z) is NaN or +∞, or
    log q(z|x) not finite. log p(x, z) = −∞ is a weight of zero, and one."""
    bad_q = ~torch.isfinite(log_q)
    bad = bad_q | torch.isnan(log_p) | (log_p == torch.inf)
    if bool(bad.any()):
        _blame(sites(q) if bool(bad_q.any()) else [], sites(p), bad, first)


def site_densities(model: Program, guide: Program, x: Tensor, part: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Log-densities of the first `part` points, in company of the rest and alone, at the same latents: of the model's sites
    and, under "q(name)", of the guide's. Two dictionaries to (..., part), which differ where points depend on one another."""
    with scoring(model, guide), evaluation_mode(model, guide), torch.no_grad():
        q = trace("guide", guide, x)
        company = {"q({})": q, "{}": trace("model", poutine.replay(model, trace=q), x)}
        latents = {}
        for run in company.values():
            for site in sites(run):
                if not site["is_observed"]:
                    latents[site["name"]] = site["value"].narrow(points_axis(site), 0, part)
        alone = {
            "q({})": trace("guide", pyro.condition(guide, latents), x[:part]),
            "{}": trace("model", pyro.condition(model, latents), x[:part]),
        }
        return (
            {
                label.format(site["name"]): _log_prob(site).narrow(point_dim(site), 0, part)
                for label, run in company.items()
                for site in sites(run)
            },
            {label.format(site["name"]): _log_prob(site) for label, run in alone.items() for site in sites(run)},
        )


def _log_prob(site: dict[str, Any], check: bool = True) -> Tensor:
    """One site's log-density, over all its batch dimensions: scale left out, mask kept."""
    if check:
        refuse_value(site, site["value"])
    log_prob = site["fn"].log_prob(site["value"])
    if site["mask"] is None:
        return log_prob
    return torch.where(torch.as_tensor(site["mask"], device=log_prob.device), log_prob, 0.0)


def _per_point(site: dict[str, Any], sample_dim: int, check: bool = True) -> Tensor:
    """One site's log-density, summed over inner plates: (samples, 1..., N, 1...)."""
    log_prob = _log_prob(site, check)
    inner = [d for d in range(sample_dim + 1, 0) if d != point_dim(site)]
    return log_prob.sum(dim=inner, keepdim=True) if inner else log_prob


class _Factor(NamedTuple):
    """A log-density with a name, one letter, for each of its dimensions: enumerated variables, plates, draws and points."""

    value: Tensor
    dims: str


def sum_out(
    run: poutine.Trace, samples: int, points: int, log_prob: Callable[[dict[str, Any]], Tensor] | None = None
) -> Tensor:
    """log Σ_k p(x, z, k) over every enumerated variable k, (samples, N), by eliminating one after another.

    `log_prob` is a site's log-density; without one, the density whose support is checked.

    A variable inside a plate is one variable for each of its places: it is eliminated first, and the plate's places are
    multiplied after that. Logarithms are added before they are exponentiated, so that no product of far-apart factors
    underflows. Raises `Refusal` where variables of crossing plates meet in one factor, whose sum is exponential.
    """
    run.symbolize_dims()  # Pyro's letters: dimensions are used again (pyro.markov), letters are not
    keep, homes, factors = "", {}, []
    plates: set[str] = set()
    for site in sites(run):
        letters = site["infer"]["_dim_to_symbol"]
        here = {frame.name: letters[frame.dim] for frame in site["cond_indep_stack"] if frame.vectorized}
        keep = here[SAMPLES] + here[PLATE]
        inner = set(here.values()) - set(keep)
        plates |= inner
        is_variable = site["infer"].get("_enumerate_dim") is not None
        if is_variable:
            homes[letters[site["infer"]["_enumerate_dim"]]] = inner
        value = (log_prob or _log_prob)({**site, "mask": None} if is_variable else site)  # a masked variable sums to 1
        dims = [dim for dim in range(-value.dim(), 0) if value.shape[dim] > 1]
        factors.append(_Factor(value.squeeze(), "".join(letters[dim] for dim in dims)))
    for variable in sorted(homes, key=lambda letter: -len(homes[letter])):
        factors = [_multiply_places(factor, plates, homes) for factor in factors]
        touching = [factor for factor in factors if variable in factor.dims]
        if not touching:
            continue  # it has one value
        if any((set(factor.dims) & plates) - homes[variable] for factor in touching):
            raise Refusal(
                "Enumerated latents of plates that cross meet in one density, and their sum is exponential: name one of them "
                "in the guide, so that it is drawn."
            )
        joint = _multiply(touching)
        summed = _Factor(joint.value.logsumexp(joint.dims.index(variable)), joint.dims.replace(variable, ""))
        factors = [factor for factor in factors if variable not in factor.dims] + [summed]
    factors = [_multiply_places(factor, plates, homes) for factor in factors]
    return _multiply([_Factor(torch.zeros(samples, points).to(factors[0].value), keep), *factors]).value


def _multiply_places(factor: _Factor, plates: set[str], homes: dict[str, set[str]]) -> _Factor:
    """The factor's product over the plates in which none of its variables lives."""
    needed = set[str]().union(*(homes.get(letter, set()) for letter in factor.dims))
    done = [axis for axis, letter in enumerate(factor.dims) if letter in plates - needed]
    if not done:
        return factor
    return _Factor(factor.value.sum(dim=done), "".join(d for axis, d in enumerate(factor.dims) if axis not in done))


def _multiply(factors: list[_Factor]) -> _Factor:
    """The product of densities: their logarithms added, over all dimensions that any of them has."""
    dims = "".join(dict.fromkeys("".join(factor.dims for factor in factors)))
    aligned = []
    for value, own in factors:
        value = value.permute([own.index(letter) for letter in dims if letter in own])
        aligned.append(value[tuple(slice(None) if letter in own else None for letter in dims)])
    return _Factor(_add(aligned), dims)


def _add(terms: list[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)


def _blame(finite: list[dict[str, Any]], scored: list[dict[str, Any]], bad: Tensor, first: int = 0) -> None:
    """Name the first site that is no number, and the first data point where it is not; else the point alone. Sites that are
    `finite` must be that, those `scored` may have a density of zero."""
    for place, site in enumerate([*finite, *scored]):
        log_prob = _log_prob(site)
        wrong = ~torch.isfinite(log_prob)
        if place >= len(finite):
            wrong &= log_prob != -torch.inf
        if bool(wrong.any()):
            index = wrong.nonzero()[0]
            point = first + int(index[point_dim(site)])
            raise Diverged(
                f"log-density {log_prob[tuple(index)].item()} at site '{site['name']}', data point {point}: "
                "lower the learning rate, floor the variances, or look at that point."
            )
    point = first + int(bad.nonzero()[0, 1])
    raise Diverged(f"The log-weight of data point {point} is no finite number: look at that point.")
