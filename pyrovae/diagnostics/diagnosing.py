"""diagnose(): one pass of draws from the guide, and from them everything that a `LatentDiagnostics` holds."""

import itertools
import math
import time
from collections import defaultdict
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.parameters import is_per_point
from ..pair.sites import density_sites
from ..pair.structure import Structure, inspect_pair
from ..pair.validation import check_points
from ..statistics.estimate import mean_over_points
from ..utils.provenance import data_hash, device_name, versions
from ..utils.random import fork_rng
from . import active_units as units
from .aggregate_posterior import NUMBERS, Aggregate, Chunk, Layout, Rows, draw_prior, draws, latents_only, mean_or_none
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
    """Which latents carry x, I(n; z), KL(q(z) ‖ p(z)), and the prior's holes, with q(z) = 1/N Σ_n q(z|x_n) over all rows of x.

    x is (N, ...), N ≥ 2, on the device and in the type of the pair's parameters; `num_samples` draws of z for each, at least 2;
    `prior_samples` draws of the prior are looked at for holes. Time grows as N² · samples, memory as N · samples. `on_progress`
    is called with the number of points done since its last call, each point counting twice: drawn, and held against all.

    Modules are put in evaluation mode and back; torch's random state is left as it was. Raises what `log_weights` raises, and
    `InvalidInputError` for a guide that draws nothing, masked latents, and a prior that depends on x.
    """
    for name, value, least in (("num_samples", num_samples, 2), ("prior_samples", prior_samples, 1)):
        if not isinstance(value, int) or value < least:
            raise InvalidInputError(f"{name} is {value}: give a whole number, at least {least}.")
    check_points(x)
    if len(x) < 2:
        raise InvalidInputError("One point has no variance over points and no I(n; z): give at least 2.")
    started = time.perf_counter()
    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        whole = is_per_point(guide, x)
        batch = len(x) if whole else max(2, min(len(x), NUMBERS // (num_samples * x[0].numel())))
        structure = inspect_pair(model, guide, x[:batch])
        _check(structure)
        seen = _Seen(structure)
        for chunks in draws(model, guide, x, structure, num_samples, batch):
            if not seen.log_q:
                _check_unconditional(model, x[: chunks[0].log_q.shape[1]], structure, chunks[0])
            seen.add(chunks)
            if on_progress is not None:
                on_progress(chunks[0].log_q.shape[1])
        rows = {name: torch.cat(parts, dim=1) for name, parts in seen.rows.items()}
        log_q, kl = torch.cat(seen.log_q, dim=1), torch.cat(seen.kl, dim=1)

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
        found, why_not = find_holes(aggregate, excluded, prior_rows, seen.means_of(rows), structure)
    information, upper = log_q - every, log_q - excluded
    continuous = [latent.name for latent in seen.continuous]
    activity = [units.activity(torch.cat(seen.means[name], dim=1)) for name in continuous]
    return LatentDiagnostics(
        names=tuple(name for latent in continuous for name in _names(latent, rows[latent].shape[2:])),
        activity=_join([a for a, _ in activity]),
        activity_se=_join([se for _, se in activity]),
        unit_kl=_join([torch.cat(seen.unit_kl[name]).mean(0) for name in continuous]),
        site_kl={name: mean_over_points(*_over_draws(torch.cat(parts, dim=1))) for name, parts in seen.site_kl.items()},
        factorised=seen.factorised,
        **dict(zip(("kl", "kl_se"), _over_draws(kl), strict=True)),
        **dict(zip(("information", "information_se"), _over_draws(information), strict=True)),
        **dict(zip(("information_upper", "information_upper_se"), _over_draws(upper), strict=True)),
        marginal_se=_over_draws(kl - information)[1],
        classes=seen.classes(prior_runs),
        holes=found,
        draws=_join([rows[name].reshape(num_samples, len(x), -1) for name in continuous], rows=(num_samples, len(x))),
        means={name: value.cpu() for name, value in seen.means_of(rows).items()},
        prior_draws=_join([prior_rows[name].reshape(prior_samples, -1) for name in continuous], rows=(prior_samples,)),
        notes=(*seen.notes(), *why_not),
        num_samples=num_samples,
        latent=", ".join(map(str, structure.latents)),
        points=data_hash(x),
        seconds=time.perf_counter() - started,
        metadata={
            "num_samples": num_samples,
            "prior_samples": prior_samples,
            "seed": seed,
            "points": len(x),
            "dtype": str(x.dtype).removeprefix("torch."),
            "device": device_name(x.device),
            **versions(),
        },
    )


class _Seen:
    """What is kept of the chunks of draws: a list of tensors with a batch of points in each."""

    def __init__(self, structure: Structure):
        self.layout, self.structure = Layout(structure), structure
        latents = {latent.name: latent for latent in structure.latents if not latent.summed_out}
        in_guide = [site["name"] for site in density_sites(structure.guide_trace)]
        self.drawn = list(latents.values())
        self.continuous = [latent for latent in self.drawn if not latent.discrete]
        self.discrete = [latent for latent in self.drawn if latent.discrete]
        # a site has a density of its own where nothing is summed out of p and no helper is behind q
        self.plain = len(latents) == len(structure.latents) and set(in_guide) == set(latents)
        # KL(q ‖ p) of one site given its parents averages to its share of the sum only if it is no parent of theirs
        self.in_order = self.plain and list(latents) == in_guide
        self.rows: dict[str, list[Tensor]] = defaultdict(list)
        self.means: dict[str, list[Tensor]] = defaultdict(list)
        self.unit_kl: dict[str, list[Tensor]] = defaultdict(list)
        self.site_kl: dict[str, list[Tensor]] = defaultdict(list)
        self.used: dict[str, list[Tensor]] = defaultdict(list)
        self.log_q: list[Tensor] = []
        self.kl: list[Tensor] = []
        self.factorised = True

    def add(self, chunks: list[Chunk]) -> None:
        """All draws for the next batch of points."""
        self.log_q.append(torch.cat([chunk.log_q for chunk in chunks]).double())
        for site in density_sites(chunks[0].q):
            name = site["name"]
            self.rows[name].append(torch.cat([self.layout.rows(name, c.q.nodes[name]["value"]) for c in chunks]))
        for latent in self.continuous:
            self.means[latent.name].append(self._over(chunks, self._mean, latent.name))
            self.unit_kl[latent.name].append(self._over(chunks, self._unit_kl, latent.name).mean(0))
        for latent in self.discrete:
            tables = [table for c in chunks if (table := self._probabilities(latent.name, c.q)) is not None]
            if tables:
                self.used[latent.name].append(torch.cat(tables).mean(0))
        if self.plain:
            for latent in self.drawn:
                self.site_kl[latent.name].append(self._over(chunks, self._site_kl, latent.name))
        else:
            name = ", ".join(latent.name for latent in self.drawn)
            self.site_kl[name].append(torch.cat([chunk.log_q - chunk.log_p for chunk in chunks]).double())
        self.kl.append(torch.stack([parts[-1] for parts in self.site_kl.values()]).sum(0))

    def _over(self, chunks: list[Chunk], look: Any, name: str) -> Tensor:
        return torch.cat([look(name, chunk) for chunk in chunks]).double()

    def _mean(self, name: str, chunk: Chunk) -> Tensor:
        """E_q[z|x], given the latents before it, or the draw itself: (S, points, D)."""
        site = chunk.q.nodes[name]
        mean = mean_or_none(site["fn"])
        return self._numbers(name, site["value"] if mean is None else mean, chunk)

    def _unit_kl(self, name: str, chunk: Chunk) -> Tensor:
        q, p = chunk.q.nodes[name]["fn"], chunk.p.nodes[name]["fn"]
        kl = units.unit_kl(q, p) if self.in_order else None
        if kl is None:
            return self._numbers(name, torch.full_like(chunk.q.nodes[name]["value"], math.nan), chunk)
        _, excluded = units.factors(q)  # type: ignore[misc]
        self.factorised &= not bool(torch.as_tensor(excluded).max() > 1e-6)
        return self._numbers(name, kl, chunk)

    def _site_kl(self, name: str, chunk: Chunk) -> Tensor:
        q, p = chunk.q.nodes[name], chunk.p.nodes[name]
        kl = units.site_kl(q["fn"], p["fn"]) if self.in_order else None
        if kl is None:
            kl = q["fn"].log_prob(q["value"]) - p["fn"].log_prob(p["value"])
        return self.layout.per_point(name, kl, len(chunk.log_q)).sum(-1)

    def _numbers(self, name: str, values: Tensor, chunk: Chunk) -> Tensor:
        return self.layout.per_point(name, values, len(chunk.log_q), chunk.q.nodes[name]["fn"].event_dim)

    def _probabilities(self, name: str, run: poutine.Trace, classes: int | None = None) -> Tensor | None:
        """p(z = k) of each class, (S, points, D, K). Of a distribution without a list of them, its draws, if told of `classes`."""
        fn, value = run.nodes[name]["fn"], run.nodes[name]["value"]
        table = units.class_probabilities(fn)
        if table is None and classes is not None:
            table = torch.nn.functional.one_hot(value.long(), classes).double()
        if table is None:
            return None
        num_samples = value.shape[0]
        flat = self.layout.per_point(name, table, num_samples, table.dim() - 1 - self.layout.max_plate_nesting)
        return flat.reshape(*flat.shape[:2], -1, table.shape[-1]).double()

    def means_of(self, rows: Rows) -> Rows:
        """E_q[z|x_n] in the shape of a row of z: (N, ...)."""
        return {
            latent.name: torch.cat(self.means[latent.name], dim=1)
            .mean(0)
            .reshape(rows[latent.name].shape[1:])
            .to(rows[latent.name])
            for latent in self.continuous
        }

    def classes(self, prior: list[poutine.Trace]) -> dict[str, units.ClassUsage]:
        found = {}
        for name, used in self.used.items():
            K = used[0].shape[-1]
            expected = torch.cat([self._probabilities(name, run, K).flatten(0, 1) for run in prior])  # type: ignore[union-attr]
            found[name] = units.ClassUsage(torch.cat(used).mean(0).cpu(), expected.mean(0).cpu())
        return found

    def notes(self) -> list[str]:
        found = []
        for latent in self.structure.latents:
            if latent.summed_out:
                found.append(f"Latent '{latent.name}' is summed out exactly and has no q(z|x): nothing is said of it.")
        for latent in self.discrete:
            if latent.name not in self.used:
                found.append(f"Latent '{latent.name}' has no list of classes: only its KL and information are given.")
        unknown = [name for name, parts in self.unit_kl.items() if bool(parts[0].isnan().any())]
        if unknown:
            found.append(f"KL per latent of {', '.join(unknown)} has no closed form: only its sum is given.")
        elif not self.factorised:
            found.append(
                "q(z|x) is not a product over latents: each KL is that of a marginal, and they add up to less."
            )
        return found


def _check(structure: Structure) -> None:
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
