"""The aggregate posterior q(z) = 1/N Σ_n q(z|x_n), with all N components, at any z.

From the components of a minibatch of B points alone, every mutual information is capped at log B. Here none is left out: what
is bounded is memory, draws and components meet in blocks.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from ..errors import InvalidInputError, user_code_errors
from ..pair.execution import ModelOrGuide, isolated_parameters, trace
from ..pair.importance_weights import log_weights_unchecked
from ..pair.latent_rows import BLOCK_COMPONENTS, BLOCK_ELEMENTS, Layout, Rows, latents_only
from ..pair.sites import SAMPLES, density_sites
from ..pair.structure import Structure
from ..utils.distributed import ProcessGroup


class Chunk(NamedTuple):
    """`num_samples` draws for each of some points, as the guide made them and as the model sees them."""

    q: poutine.Trace
    p: poutine.Trace
    log_q: Tensor  # log q(z_sn|x_n), (samples, points)
    log_p: Tensor  # log p(z_sn), (samples, points): latents that the model enumerates are summed out


def draws(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, structure: Structure, num_samples: int, batch: int
) -> Iterator[list[Chunk]]:
    """z_sn ~ q(z|x_n) for `batch` points at a time, in as many chunks as memory asks for."""
    layout, prior = Layout(structure), latents_only(model)
    for points in x.split(batch):
        size = max(1, BLOCK_ELEMENTS // (len(points) * x[0].numel()))
        chunks = []
        for done in range(0, num_samples, size):
            count = min(size, num_samples - done)
            with isolated_parameters(model, guide), pyro.plate(SAMPLES, count, dim=-1 - structure.max_plate_nesting):
                q = trace("guide", guide, points)
                p = trace("model", poutine.replay(prior, trace=q), points)
            with isolated_parameters(model, guide):
                log_w = log_weights_unchecked(
                    prior, poutine.replay(guide, trace=q), points, count, structure.max_plate_nesting
                )
            log_q = log_density(layout, q, count)
            chunks.append(Chunk(q, p, log_q, log_w + log_q))
        yield chunks


def log_density(layout: Layout, run: poutine.Trace, num_samples: int) -> Tensor:
    """Of all that a run draws, (samples, N)."""
    terms = [
        layout.per_point(site["name"], site["fn"].log_prob(site["value"]), num_samples).sum(-1)
        for site in density_sites(run)
    ]
    return torch.stack(terms).sum(0)


class Aggregate:
    """q(z) of one guide on all the points x (N, ...)."""

    def __init__(self, guide: ModelOrGuide, x: Tensor, structure: Structure, whole: bool):
        """`whole`: the guide has parameters for each point, and runs on all of them or on none."""
        self.guide, self.layout = guide, Layout(structure)
        size = len(x) if whole else BLOCK_COMPONENTS
        self.batches = x.split(size)
        self.block = size
        drawn = density_sites(structure.guide_trace)
        helpers = [site["name"] for site in drawn if site["infer"].get("is_auxiliary")]
        # a latent that is a function of helpers is a point mass given them: its density is reached through theirs
        self.free = helpers or [site["name"] for site in drawn]
        # where one site is all of q(z|x), that cannot depend on z: the encoder need not run again for another z
        self.known = [self._known(points) for points in self.batches] if len(drawn) == 1 else None

    def _known(self, points: Tensor) -> Any:
        with isolated_parameters(self.guide):
            (site,) = density_sites(trace("guide", self.guide, points))
        return site["fn"]

    def log_sum(self, rows: Rows, owners: Tensor | None = None) -> Tensor:
        """log Σ_n q(z_m|x_n) for every row z_m, (M,), in double precision; with `owners` (M, k), without those k points.

        Raises `InvalidInputError` where q(z|x) cannot be evaluated at a z that is not its own draw.
        """
        rows = self._free_rows(rows)
        count = len(next(iter(rows.values())))
        width = sum(value[0].numel() for value in rows.values()) * len(self.batches[0])
        chunk = max(1, BLOCK_ELEMENTS // width)
        starts, group = range(0, count, chunk), ProcessGroup()  # processes of a group share the chunks

        def own_part() -> list[Tensor]:
            parts = []
            for first in starts[group.share(len(starts))]:
                part = {name: value[first : first + chunk] for name, value in rows.items()}
                mine = None if owners is None else owners[first : first + chunk]
                parts.append(torch.stack(list(self._blocks(part, mine))).logsumexp(0))
            return parts

        device = next(iter(rows.values())).device
        return torch.cat([part for parts in group.collect(own_part, device) for part in parts])

    def _blocks(self, rows: Rows, owners: Tensor | None) -> Iterator[Tensor]:
        first = 0
        for number, points in enumerate(self.batches):
            with (
                isolated_parameters(self.guide),
                user_code_errors("q(z|x) at another point's latents (a flow needs an inverse)"),
            ):
                log_q = self._densities(number, points, rows).double()
            if owners is not None:
                here = torch.arange(first, first + len(points), device=owners.device)
                log_q = log_q.masked_fill((owners[:, :, None] == here).any(1), -math.inf)
            first += len(points)
            yield log_q.logsumexp(1)

    def _densities(self, number: int, points: Tensor, rows: Rows) -> Tensor:
        """log q(z_m|x_n): (M, points)."""
        given = {name: self.layout.spread(name, value, len(points)) for name, value in rows.items()}
        count = len(next(iter(given.values())))
        if self.known is not None:
            ((name, value),) = given.items()
            return self.layout.per_point(name, self.known[number].log_prob(value), count).sum(-1)
        with pyro.plate(SAMPLES, count, dim=-1 - self.layout.max_plate_nesting):
            run = trace("guide", pyro.condition(self.guide, given), points)
        return log_density(self.layout, run, count)

    def _free_rows(self, rows: Rows) -> Rows:
        """The values of what the guide draws freely, from those of the latents: AutoNormal draws them unconstrained."""
        free = {}
        for name in self.free:
            latent = name.removesuffix("_unconstrained")
            if name not in rows and latent not in rows:
                raise InvalidInputError(
                    f"The guide makes its latents from the auxiliary site '{name}', and where it did not draw them itself "
                    "their density is not known: draw the latents themselves, or use a guide of AutoNormal's form."
                )
            free[name] = (
                rows[name]
                if name in rows
                else biject_to(self.layout.model_sites[latent]["fn"].support).inv(rows[latent])
            )
        return free
