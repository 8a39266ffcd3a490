"""Where a model meets its guide: log w = log p(x, z) − log q(z|x). The one file that traces and replays."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from .errors import Diverged, Refusal

PLATE = "data"  # the plate in which a pair names its points

Program = Callable[[Tensor], Any]  # a model or a guide


@dataclass(frozen=True)
class Latent:
    """One latent site of a model: `classes` is its number of values where it is discrete, else None."""

    name: str
    event_shape: tuple[int, ...]
    classes: int | None
    summed_out: bool  # marked for enumeration in the model and absent from the guide

    def __str__(self) -> str:
        if self.classes is not None:
            return f"{self.classes} classes"
        return f"R^{torch.Size(self.event_shape).numel()}"


@dataclass(frozen=True)
class Structure:
    """What one run of a pair shows of it: the plates it uses, its latents, and the two traces."""

    nesting: int  # how many plate dimensions the pair uses, the data plate's among them
    latents: tuple[Latent, ...]
    discrete: bool  # counting measure on x, else Lebesgue
    model_trace: poutine.Trace
    guide_trace: poutine.Trace


def log_weights(model: Program, guide: Program, x: Tensor, samples: int = 1) -> Tensor:
    """log w_sn = log p(x_n, z_sn) − log q(z_sn | x_n), z_sn ~ q(·|x_n). Returns (samples, N), in nats.

    Means over `samples` estimate the ELBO, log-mean-exps log p(x) (Burda, Grosse & Salakhutdinov 2016, eq. 8); with the exact
    posterior as guide every entry *is* log p(x_n). A discrete latent that the model marks `infer={"enumerate": "parallel"}`
    and the guide leaves out is summed out exactly; one that the guide names is drawn like any other.

    Draws come from torch's global generator, gradients flow as the distributions allow.

    Raises `Refusal` where the pair has no such weights: a latent in only one of the two, a site outside plate("data"), a
    scale, x outside the support; `Diverged` where a density is not a finite number.
    """
    return draw_weights(model, guide, x, samples, inspect(model, guide, x).nesting)


def draw_weights(model: Program, guide: Program, x: Tensor, samples: int, nesting: int) -> Tensor:
    """`log_weights` of a pair that `inspect` has passed: a loop over chunks inspects once and draws many times."""
    sample_dim = -1 - nesting
    with _running(model, guide):
        with pyro.plate("_samples", samples, dim=sample_dim):
            q = _trace("guide", guide, x)
            replayed = poutine.replay(model, trace=q)
            p = _trace("model", poutine.enum(replayed, first_available_dim=sample_dim - 1), x)
        log_p = _sum_out([_log_prob(site, sample_dim) for site in _sites(p)], sample_dim)
        log_q = _add([_log_prob(site, sample_dim) for site in _sites(q)])
        log_w = (log_p - log_q).reshape(samples, len(x))
        if not bool(torch.isfinite(log_w).all()):
            _blame([*_sites(q), *_sites(p)], sample_dim, log_w)
    return log_w


def inspect(model: Program, guide: Program, x: Tensor) -> Structure:
    """Run the pair once, without side effects on the random state, and refuse what has no weights per point."""
    refuse_bad_points(x)
    with _running(model, guide), torch.no_grad(), fork_rng(x.device):
        q = _trace("guide", guide, x)
        p = _trace("model", poutine.replay(model, trace=q), x)
    for kind, trace in (("guide", q), ("model", p)):
        for site in _sites(trace):
            _refuse_site(kind, site, len(x))
    _refuse_mismatch(p, q)
    frames = [frame for trace in (p, q) for site in _sites(trace) for frame in site["cond_indep_stack"]]
    nesting = max(-frame.dim for frame in frames if frame.vectorized)
    for site in [*_sites(p), *_sites(q)]:
        if len(site["fn"].batch_shape) > nesting:
            raise Refusal(
                f"Site '{site['name']}' has batch shape {tuple(site['fn'].batch_shape)}, more dimensions than there are plates: "
                "declare those of one point with .to_event(1)."
            )
    observed = [site for site in _sites(p) if site["is_observed"]]
    for site in observed:
        _refuse_value(site, site["value"])
    return Structure(
        nesting=nesting,
        latents=tuple(_latent(site, q) for site in _sites(p) if not site["is_observed"]),
        discrete=all(site["fn"].support.is_discrete for site in observed),
        model_trace=p,
        guide_trace=q,
    )


def parameters(model: Program, guide: Program, x: Tensor) -> list[Tensor]:
    """Every unconstrained parameter that a run of the pair reads, each once, by identity and not by name.

    By name two parameters of one name count as one, and Pyro's `SVI` then leaves the other untrained.
    """
    found: dict[int, Tensor] = {}
    with local_parameters(model, guide), torch.no_grad(), fork_rng(x.device), _Collect(found):
        q = poutine.trace(guide).get_trace(x)
        poutine.replay(model, trace=q)(x)
    return [value for value in found.values() if value.requires_grad]


class _Collect(poutine.messenger.Messenger):
    def __init__(self, found: dict[int, Tensor]):
        super().__init__()
        self.found = found

    def _pyro_post_param(self, msg: Any) -> None:
        value = msg["value"]
        leaf = value.unconstrained() if hasattr(value, "unconstrained") else value
        self.found[id(leaf)] = leaf


def sample_observed(model: Program, num: int, like: Tensor) -> dict[str, Tensor]:
    """`num` fresh (latents and) observations from the model alone, by name; `like` (1, ...) gives x its shape.

    The value of an observed site is a draw of x; under its name + "_mean" stands E[x|z] where the family has one.
    """
    blank = like[:1].expand(num, *like.shape[1:])
    with local_parameters(model), torch.no_grad():
        trace = poutine.trace(poutine.uncondition(model)).get_trace(blank)
    drawn = {}
    for site in _sites(trace):
        drawn[site["name"]] = site["value"]
        if site["infer"].get("was_observed"):
            with contextlib.suppress(NotImplementedError, AttributeError):
                drawn[f"{site['name']}_mean"] = site["fn"].mean
    return drawn


@contextlib.contextmanager
def local_parameters(*programs: Program) -> Iterator[None]:
    """Parameters belong to their modules while a pair runs, not to Pyro's global store.

    In the store two modules with the same names would share them, and training one would move the other. Turned on for
    the length of our own calls only: Pyro's stock `SVI` needs the store.
    """
    for program in programs:
        for module in program.modules() if isinstance(program, nn.Module) else ():
            # A PyroModule made while the setting was off lacks the slot that it reads while the setting is on.
            if isinstance(module, PyroModule) and not hasattr(module._pyro_context, "param_state"):
                module._pyro_context.param_state = {"params": {}, "constraints": {}}
    with pyro.settings.context(module_local_params=True):
        yield


@contextlib.contextmanager
def _running(model: Program, guide: Program) -> Iterator[None]:
    """A pair at work: its parameters its own, and Pyro's checks off, because ours name the site and the point."""
    with local_parameters(model, guide), pyro.validation_enabled(False):
        yield


@contextlib.contextmanager
def fork_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Leave torch's random state as it was found; inside, start from `seed` if one is given."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def refuse_bad_points(x: Tensor) -> None:
    """x must be (N, ...), N ≥ 1, floating point and finite."""
    if not isinstance(x, Tensor) or x.dim() < 2 or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else f"{type(x).__name__} (torch.as_tensor converts it)"
        raise Refusal(f"x must be a tensor with a row for each data point, (N, D) with N ≥ 1; got {shape}.")
    if not x.is_floating_point():
        raise Refusal(f"x is {x.dtype}: convert it with x.float() or x.double(), the type of the model's parameters.")
    bad = ~torch.isfinite(x)
    if bool(bad.any()):
        index = tuple(bad.nonzero()[0].tolist())
        place = f"x[{', '.join(map(str, index))}]"
        raise Refusal(
            f"{place} is {x[index].item()}: remove or impute the {int(bad.flatten(1).any(1).sum())} such points."
        )


def _trace(kind: str, program: Program, x: Tensor) -> poutine.Trace:
    """A run of one half of the pair; an error in it says which half could not be run, and on what, in one sentence."""
    try:
        return poutine.trace(program).get_trace(x)
    except (torch.OutOfMemoryError, Diverged):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        said = str(error).split("Trace Shapes:")[0]  # Pyro adds a table of every site
        reason = " ".join(said.split())
        if isinstance(error, Refusal):
            raise Refusal(reason) from error
        raise Refusal(
            f"The {kind} cannot be run on x of shape {tuple(x.shape)}, {x.dtype}: {reason} (Networks must keep leading "
            "dimensions, as pyrovae.over_batch does, and x's own be declared with .to_event(1).)"
        ) from error


def _sites(trace: poutine.Trace) -> list[dict[str, Any]]:
    """The sites that have a density; a plate is a site too, and has none."""
    return [site for site in trace.nodes.values() if site["type"] == "sample" and not site_is_subsample(site)]


def _latent(site: dict[str, Any], guide_trace: poutine.Trace) -> Latent:
    fn = site["fn"]
    classes = len(fn.enumerate_support(expand=False)) if fn.has_enumerate_support and not fn.event_shape else None
    return Latent(site["name"], tuple(fn.event_shape), classes, summed_out=site["name"] not in guide_trace)


def _refuse_site(kind: str, site: dict[str, Any], points: int) -> None:
    name = site["name"]
    frames = {frame.name: frame for frame in site["cond_indep_stack"]}
    if PLATE not in frames:
        where = f"site '{name}' of the {kind} is outside plate(\"{PLATE}\")"
        if kind == "guide" and site["infer"].get("is_auxiliary"):
            raise Refusal(f"{where}: it ties all points together, so none has a weight of its own; use AutoNormal.")
        raise Refusal(
            f"{where}, so the weights do not factorise over points: move it inside, or make it a parameter if it is global."
        )
    if not frames[PLATE].vectorized:
        raise Refusal(f'plate("{PLATE}") is sequential at site \'{name}\': use `with pyro.plate("{PLATE}", len(x)):`.')
    if frames[PLATE].size != points:
        raise Refusal(
            f"plate(\"{PLATE}\") has {frames[PLATE].size} points at site '{name}' of the {kind} where x has {points}: write "
            f'`with pyro.plate("{PLATE}", len(x)):`.'
        )
    subsample = (frames[PLATE].full_size or points) / points  # SVI's business: it never enters a weight
    if not _equals(site["scale"], 1.0) and not _equals(site["scale"], subsample):
        raise Refusal(
            f"Site '{name}' of the {kind} is scaled (poutine.scale, or a subsampled inner plate): a likelihood has no such "
            "knob; keep scales in the training objective."
        )
    if kind == "guide" and site["is_observed"]:
        raise Refusal(f"Site '{name}' of the guide is observed: a guide only draws latents, remove its obs=.")


def _equals(scale: Any, number: float) -> bool:
    return bool((torch.as_tensor(scale, dtype=torch.float64) - number).abs().max() < 1e-9 * number)


def _refuse_mismatch(p: poutine.Trace, q: poutine.Trace) -> None:
    latents = {site["name"]: site for site in _sites(p) if not site["is_observed"]}
    drawn = {site["name"]: site for site in _sites(q)}
    for name, site in latents.items():
        if name not in drawn and site["infer"].get("enumerate") != "parallel":
            raise Refusal(
                f"Latent '{name}' is in the model but not in the guide, and would be drawn from its prior: sample '{name}' in "
                'the guide, give it obs= if it is data, or, if it is discrete, mark it infer={"enumerate": "parallel"} to '
                "sum it out."
            )
    for name, site in drawn.items():
        if name not in latents and not site["infer"].get("is_auxiliary"):
            raise Refusal(
                f"Latent '{name}' is in the guide but not in the model: sample '{name}' in the model, or mark it "
                'infer={"is_auxiliary": True} if it only helps to draw another.'
            )
    if not any(site["is_observed"] for site in _sites(p)):
        raise Refusal("The model observes nothing: write pyro.sample(..., obs=x) for the data.")
    if not any(site["infer"].get("is_auxiliary") for site in drawn.values()):
        for name, site in drawn.items():
            fn = site["fn"]
            while hasattr(fn, "base_dist"):
                fn = fn.base_dist
            if type(fn).__name__ == "Delta" and not bool(torch.as_tensor(fn.log_density).any()):
                raise Refusal(
                    f"Latent '{name}' has a point mass for a guide: a point has no density, so there are no weights; use a "
                    "guide with a width."
                )


def _log_prob(site: dict[str, Any], sample_dim: int) -> Tensor:
    """One site's log-density, (enumerated..., samples, 1..., N, 1...): inner plates summed, scale left out, mask kept."""
    _refuse_value(site, site["value"])
    log_prob = site["fn"].log_prob(site["value"])
    if site["mask"] is not None:
        log_prob = torch.where(torch.as_tensor(site["mask"], device=log_prob.device), log_prob, 0.0)
    inner = [d for d in range(sample_dim + 1, 0) if d != _point_dim(site)]
    return log_prob.sum(dim=inner, keepdim=True) if inner else log_prob


def _point_dim(site: dict[str, Any]) -> int:
    """The batch dimension, counted from the right, along which the site's points lie."""
    return next(frame.dim for frame in site["cond_indep_stack"] if frame.name == PLATE)


def refuse_outside_support(structure: Structure, first: Tensor, x: Tensor) -> None:
    """`inspect` saw the points `first`; hold all of x to the support of the sites that observe it."""
    for site in _sites(structure.model_trace):
        if site["is_observed"] and site["value"] is first:
            _refuse_value(site, x)


def _refuse_value(site: dict[str, Any], value: Tensor) -> None:
    fn = site["fn"]
    shape = tuple(value.shape[value.dim() - fn.event_dim :])
    if shape != tuple(fn.event_shape):
        raise Refusal(
            f"Site '{site['name']}' is of shape {tuple(fn.event_shape)} for each point, and is given values of shape {shape}: "
            "build the pair for points of the data's size."
        )
    try:
        inside = fn.support.check(value)
    except NotImplementedError:
        return
    if bool(inside.all()):
        return
    inner = getattr(fn, "family", fn)  # Indexed holds the family that it picks from
    family = type(getattr(inner, "base_dist", inner)).__name__
    if not site["is_observed"]:
        raise Refusal(
            f"The guide draws latent '{site['name']}' outside the support of the model's {family}: give both one support."
        )
    index = tuple((~inside).nonzero()[0].tolist())
    bad = value[index].flatten()
    culprit = bad[~fn.support.base_constraint.check(bad)] if hasattr(fn.support, "base_constraint") else bad
    number = (culprit if len(culprit) else bad)[0].item()
    hint = (
        "binarise them first (transforms.Binarise or Threshold)" if fn.support.is_discrete else "transform them first"
    )
    raise Refusal(
        f"Point {index[-1]} has the value {number:.4g} at site '{site['name']}', outside the support of {family}: such data are "
        f"no draw from this likelihood; {hint}, or choose another likelihood."
    )


def _sum_out(factors: list[Tensor], sample_dim: int) -> Tensor:
    """log Σ Π exp(factor) over every enumerated dimension (those left of `sample_dim`), one variable after another."""
    depth = max((factor.dim() for factor in factors), default=0)
    for dim in range(-depth, sample_dim):
        touching = [f for f in factors if f.dim() >= -dim and f.shape[dim] > 1]
        if touching:
            factors = [f for f in factors if not (f.dim() >= -dim and f.shape[dim] > 1)]
            factors.append(torch.logsumexp(_add(touching), dim=dim, keepdim=True))
    total = _add(factors)
    return total.reshape(total.shape[sample_dim:])


def _add(terms: list[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms) if terms else torch.zeros(())


def _blame(sites: list[dict[str, Any]], sample_dim: int, log_w: Tensor) -> None:
    """Name the first site that is not finite, and the first data point where it is not."""
    for site in sites:
        log_prob = _log_prob(site, sample_dim)
        bad = ~torch.isfinite(log_prob)
        if bool(bad.any()):
            index = bad.nonzero()[0]
            point = int(index[_point_dim(site)])
            raise Diverged(
                f"log-density {log_prob[tuple(index)].item()} at site '{site['name']}', data point {point}: "
                "lower the learning rate, floor the variances, or look at that point."
            )
    point = int((~torch.isfinite(log_w)).nonzero()[0, 1])
    raise Diverged(f"log-weight {log_w[:, point].max().item()} at data point {point}.")
