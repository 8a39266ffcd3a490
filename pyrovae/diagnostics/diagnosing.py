"""diagnose(): one pass of draws from the guide, and from them everything in `LatentDiagnostics`."""

import itertools
import math
import time
from typing import Any

import pyro
import torch
from torch import Tensor

from ..errors import InvalidInputError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.latent_rows import BLOCK_ELEMENTS, Layout, draw_prior, latents_only
from ..pair.parameters import is_per_point
from ..pair.sites import density_sites
from ..pair.structure import Structure, inspect_pair
from ..pair.validation import check_points, handles_missing
from ..posterior.prior_grid import PriorDensity, prior_density
from ..statistics.estimate import mean_over_points
from ..utils.provenance import data_hash, metadata
from ..utils.random import fork_rng
from .active_units import activity
from .aggregate_posterior import Aggregate, Chunk, draws
from .posterior_statistics import PosteriorStatistics
from .prior_holes import find_holes
from .result import LatentDiagnostics


def diagnose(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_samples: int = 8,
    seed: int = 0,
    *,
    prior_samples: int = 2000,
    on_progress: Any = None,
) -> LatentDiagnostics:
    """Diagnose the latent space: active latents, I(n; z), KL(q(z) ‖ p(z)) and holes of the prior.

    q(z) = 1/N Σ_n q(z|x_n) is over all rows of x. Time grows as N² · num_samples, memory as N · num_samples. Modules
    are put in evaluation mode and back. The random state of torch is left as it was.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        x: The points (N, ...), N ≥ 2, on the device and in the type of the pair's parameters.
        num_samples: Draws of z for each point, at least 2.
        seed: The same seed gives the same numbers.
        prior_samples: Draws of the prior that are tested for holes.
        on_progress: Called with the number of points done since its last call. Each point counts twice: drawn, and
            compared with all.

    Returns:
        A `LatentDiagnostics`, nats.

    Raises:
        InvalidInputError: As for `log_weights`, or the guide draws nothing, a latent is masked, or the prior depends
            on x.

    References:
        Burda, Grosse & Salakhutdinov (2016). Importance weighted autoencoders. Section 5.2.
        Hoffman & Johnson (2016). ELBO surgery.

    Example:
        >>> import pyrovae, torch
        >>> model, guide = pyrovae.load("ppca")(4, latent=2)
        >>> diagnosis = pyrovae.diagnose(model, guide, torch.randn(30, 4), prior_samples=50)
        >>> diagnosis.kl.shape
        torch.Size([30])
    """
    check_int("num_samples", num_samples, 2)
    check_int("prior_samples", prior_samples, 1)
    check_points(x, handles_missing(model))
    if len(x) < 2:
        raise InvalidInputError("One point has no variance over points and no I(n; z): give at least 2.")
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        whole = is_per_point(guide, x)
        batch = len(x) if whole else max(2, min(len(x), BLOCK_ELEMENTS // (num_samples * x[0].numel())))
        structure = inspect_pair(model, guide, x[:batch])
        _check_latents(structure)
        posterior = PosteriorStatistics(structure)
        for chunks in draws(model, guide, x, structure, num_samples, batch):
            if not posterior.log_q:
                _check_unconditional(model, x[: chunks[0].log_q.shape[1]], structure, chunks[0])
            posterior.add(chunks)
            if on_progress is not None:
                on_progress(chunks[0].log_q.shape[1])
        rows = {name: torch.cat(parts, dim=1) for name, parts in posterior.rows.items()}
        log_q, kl = torch.cat(posterior.log_q, dim=1), torch.cat(posterior.kl, dim=1)

        aggregate = Aggregate(guide, x, structure, whole)
        others = []  # log Σ_{m≠n} q(z_sn|x_m)
        for first in range(0, len(x), aggregate.block):
            index = torch.arange(first, min(first + aggregate.block, len(x)), device=x.device)
            part = {name: value[:, index].flatten(0, 1) for name, value in rows.items()}
            others.append(aggregate.log_sum(part, index.repeat(num_samples)[:, None]).reshape(num_samples, -1))
            if on_progress is not None:
                on_progress(len(index))
        excluded = torch.cat(others, dim=1)
        every = torch.logaddexp(excluded, log_q) - math.log(len(x))  # log q(z_sn)
        excluded = excluded - math.log(len(x) - 1)
        prior_rows, prior_runs = draw_prior(model, x[:batch], structure, prior_samples)
        prior_holes, why_not = find_holes(aggregate, excluded, prior_rows, posterior.means_of(rows), structure)
    information, upper = log_q - every, log_q - excluded
    continuous = [latent.name for latent in posterior.continuous]
    activities = [activity(torch.cat(posterior.means[name], dim=1)) for name in continuous]
    all_draws = _join([rows[name].reshape(num_samples, len(x), -1) for name in continuous], rows=(num_samples, len(x)))
    prior_draws = _join([prior_rows[name].reshape(prior_samples, -1) for name in continuous], rows=(prior_samples,))
    return LatentDiagnostics(
        names=tuple(name for latent in continuous for name in _names(latent, rows[latent].shape[2:])),
        activity=_join([a for a, _ in activities]),
        activity_se=_join([se for _, se in activities]),
        unit_kl=_join([torch.cat(posterior.unit_kl[name]).mean(0) for name in continuous]),
        site_kl={
            name: mean_over_points(*_over_draws(torch.cat(parts, dim=1))) for name, parts in posterior.site_kl.items()
        },
        factorised=posterior.factorised,
        **dict(zip(("kl", "kl_se"), _over_draws(kl), strict=True)),
        **dict(zip(("information", "information_se"), _over_draws(information), strict=True)),
        **dict(zip(("information_upper", "information_upper_se"), _over_draws(upper), strict=True)),
        marginal_se=_over_draws(kl - information)[1],
        classes=posterior.classes(prior_runs),
        holes=prior_holes,
        draws=all_draws,
        means={name: value.cpu() for name, value in posterior.means_of(rows).items()},
        prior_draws=prior_draws,
        prior_density=_density(model, x, all_draws, prior_draws, _join([a for a, _ in activities]), len(continuous)),
        notes=(*posterior.notes(), *why_not),
        num_samples=num_samples,
        latent=", ".join(map(str, structure.latents)),
        data_hash=data_hash(x),
        seconds=time.perf_counter() - started,
        metadata=metadata(x, num_samples=num_samples, prior_samples=prior_samples, seed=seed, points=len(x)),
    )


def _density(
    model: ModelOrGuide, x: Tensor, draws: Tensor, prior_draws: Tensor, activity: Tensor, sites: int
) -> PriorDensity | None:
    """p(z) of the two most active latents, over all draws of both q and p."""
    if sites != 1 or len(activity) < 2:
        return None
    one, other = activity.argsort(descending=True)[:2].tolist()
    every = torch.cat([draws.flatten(0, 1), prior_draws])
    spans = [(float(every[:, j].min()), float(every[:, j].max())) for j in (one, other)]
    return prior_density(model, x, (one, other), (spans[0], spans[1]))


def _check_latents(structure: Structure) -> None:
    drawn = density_sites(structure.guide_trace)
    if not drawn:
        raise InvalidInputError(
            "The guide draws nothing, every latent is summed out exactly: there is no q(z|x) to look at; sample a latent in "
            "the guide."
        )
    for site in [*drawn, *(s for s in density_sites(structure.model_trace) if not s["is_observed"])]:
        if site["mask"] is not None:
            raise InvalidInputError(
                f"Latent '{site['name']}' is masked: points have different latents, and q(z) has no one space; give all points "
                "the same."
            )


def _check_unconditional(model: ModelOrGuide, x: Tensor, structure: Structure, chunk: Chunk) -> None:
    """One z must have one p(z) at all points."""
    if any(latent.summed_out for latent in structure.latents):
        return
    layout = Layout(structure)
    given = {}
    for latent in structure.latents:
        first = layout.rows(latent.name, chunk.q.nodes[latent.name]["value"])[0, :1]
        given[latent.name] = layout.at_points(latent.name, first.expand(len(x), *first.shape[1:]))
    with isolated_parameters(model):
        run = trace("model", pyro.condition(latents_only(model), given), x)
    for name in given:
        log_p = layout.per_point(name, run.nodes[name]["fn"].log_prob(run.nodes[name]["value"]), 1).sum(-1)[0].double()
        if float(log_p.max() - log_p.min()) > 1e-4 * (1 + float(log_p.abs().max())):
            raise InvalidInputError(
                f"The model's p({name}) differs from point to point: a conditional prior has no q(z) to be held against; look "
                "at the KL of single points, or make the prior one for all."
            )


def _over_draws(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over draws and its Monte-Carlo error: (S, N) → two (N,), on the CPU."""
    return values.mean(0).cpu(), (values.std(0) / math.sqrt(len(values))).cpu()


def _join(parts: list[Tensor], rows: tuple[int, ...] = ()) -> Tensor:
    """Latents side by side, (*rows, D)."""
    return torch.cat(parts, dim=-1).double().cpu() if parts else torch.zeros(*rows, 0, dtype=torch.float64)


def _names(site: str, shape: torch.Size) -> list[str]:
    """site[j] for every number of one draw; the plates that a site is not in have size 1 and no index."""
    shape = torch.Size([size for size in shape if size > 1]) or shape[-1:]
    return (
        [f"{site}[{', '.join(map(str, index))}]" for index in itertools.product(*map(range, shape))]
        if shape
        else [site]
    )
