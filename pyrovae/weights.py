"""Where a model meets its guide: log w = log p(x, z) − log q(z|x). The one file that replays a model on a guide's draws."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from .errors import Diverged, Refusal
from .running import Program, evaluation_mode, scoring, sites, trace
from .structure import PLATE, inspect, point_dim, refuse_value

SAMPLES = "_samples"  # the plate of draws, outside all of the pair's own


def log_weights(model: Program, guide: Program, x: Tensor, samples: int = 1) -> Tensor:
    """log w_sn = log p(x_n, z_sn) − log q(z_sn | x_n), z_sn ~ q(·|x_n). Returns (samples, N), in nats.

    Means over `samples` estimate the ELBO, log-mean-exps log p(x) (Burda, Grosse & Salakhutdinov 2016, eq. 8); with the exact
    posterior as guide every entry *is* log p(x_n). A discrete latent that the model marks `infer={"enumerate": "parallel"}`
    and the guide leaves out is summed out exactly; one that the guide names is drawn like any other.

    Draws come from torch's global generator, gradients flow as the distributions allow, and modules are used in the mode
    they are in (`fit` leaves them in evaluation mode).

    Raises `Refusal` where the pair has no such weights: a latent in only one of the two, a site outside plate("data"), a
    scale, x outside the support; `Diverged` where a density is not a finite number.
    """
    return draw_weights(model, guide, x, samples, inspect(model, guide, x).nesting)


def draw_weights(model: Program, guide: Program, x: Tensor, samples: int, nesting: int) -> Tensor:
    """`log_weights` of a pair that `inspect` has passed: a loop over chunks inspects once and draws many times."""
    sample_dim = -1 - nesting
    with scoring(model, guide):
        with pyro.plate(SAMPLES, samples, dim=sample_dim):
            q = trace("guide", guide, x)
            enumerated = poutine.enum(model, first_available_dim=sample_dim - 1)
            p = trace("model", poutine.replay(enumerated, trace=q), x)
        if any(site["infer"].get("_enumerate_dim") is not None for site in sites(p)):
            log_p = sum_out(p, samples, len(x))
        else:
            log_p = _add([_per_point(site, sample_dim) for site in sites(p)]).reshape(samples, len(x))
        drawn = [_per_point(site, sample_dim) for site in sites(q)]
        log_w = log_p - _add(drawn).reshape(samples, len(x)) if drawn else log_p
        if not bool(torch.isfinite(log_w).all()):
            _blame([*sites(q), *sites(p)], log_w)
    return log_w


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
                    axis = site["value"].dim() - site["fn"].event_dim + point_dim(site)
                    latents[site["name"]] = site["value"].narrow(axis, 0, part)
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


def _log_prob(site: dict[str, Any]) -> Tensor:
    """One site's log-density, over all its batch dimensions: scale left out, mask kept."""
    refuse_value(site, site["value"])
    log_prob = site["fn"].log_prob(site["value"])
    if site["mask"] is None:
        return log_prob
    return torch.where(torch.as_tensor(site["mask"], device=log_prob.device), log_prob, 0.0)


def _per_point(site: dict[str, Any], sample_dim: int) -> Tensor:
    """One site's log-density, summed over inner plates: (samples, 1..., N, 1...)."""
    log_prob = _log_prob(site)
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
        value = (log_prob or _log_prob)(
            {**site, "mask": None} if is_variable else site
        )  # a masked variable still sums to 1
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


def _blame(every: list[dict[str, Any]], log_w: Tensor) -> None:
    """Name the first site that is not finite, and the first data point where it is not."""
    for site in every:
        log_prob = _log_prob(site)
        bad = ~torch.isfinite(log_prob)
        if bool(bad.any()):
            index = bad.nonzero()[0]
            point = int(index[point_dim(site)])
            raise Diverged(
                f"log-density {log_prob[tuple(index)].item()} at site '{site['name']}', data point {point}: "
                "lower the learning rate, floor the variances, or look at that point."
            )
    point = int((~torch.isfinite(log_w)).nonzero()[0, 1])
    raise Diverged(f"log-weight {log_w[:, point].max().item()} at data point {point}.")
