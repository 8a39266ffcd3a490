"""The guide's draws, batch after batch, and what is computed from each: means, KLs, class probabilities."""

import math
from collections import defaultdict
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..pair.latent_rows import Layout, Rows
from ..pair.sites import density_sites, mean_or_none
from ..pair.structure import Structure
from ..posterior.latent_densities import class_probabilities, factors, site_kl, unit_kl
from .active_units import ClassUsage
from .aggregate_posterior import Chunk


class PosteriorStatistics:
    """What is computed from the chunks of draws: a list of tensors by name, with a batch of points in each."""

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
        kl = unit_kl(q, p) if self.in_order else None
        if kl is None:
            return self._numbers(name, torch.full_like(chunk.q.nodes[name]["value"], math.nan), chunk)
        _, excluded = factors(q)  # type: ignore[misc]
        self.factorised &= not bool(torch.as_tensor(excluded).max() > 1e-6)
        return self._numbers(name, kl, chunk)

    def _site_kl(self, name: str, chunk: Chunk) -> Tensor:
        q, p = chunk.q.nodes[name], chunk.p.nodes[name]
        kl = site_kl(q["fn"], p["fn"]) if self.in_order else None
        if kl is None:
            kl = q["fn"].log_prob(q["value"]) - p["fn"].log_prob(p["value"])
        return self.layout.per_point(name, kl, len(chunk.log_q)).sum(-1)

    def _numbers(self, name: str, values: Tensor, chunk: Chunk) -> Tensor:
        return self.layout.per_point(name, values, len(chunk.log_q), chunk.q.nodes[name]["fn"].event_dim)

    def _probabilities(self, name: str, run: poutine.Trace, classes: int | None = None) -> Tensor | None:
        """p(z = k) of each class, (S, points, D, K). Of a distribution without a list of them, its draws, if told of `classes`."""
        fn, value = run.nodes[name]["fn"], run.nodes[name]["value"]
        table = class_probabilities(fn)
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

    def classes(self, prior: list[poutine.Trace]) -> dict[str, ClassUsage]:
        classes = {}
        for name, used in self.used.items():
            K = used[0].shape[-1]
            expected = torch.cat([self._probabilities(name, run, K).flatten(0, 1) for run in prior])  # type: ignore[union-attr]
            classes[name] = ClassUsage(torch.cat(used).mean(0).cpu(), expected.mean(0).cpu())
        return classes

    def notes(self) -> list[str]:
        sentences = []
        for latent in self.structure.latents:
            if latent.summed_out:
                sentences.append(
                    f"Latent '{latent.name}' is summed out exactly and has no q(z|x): nothing is said of it."
                )
        for latent in self.discrete:
            if latent.name not in self.used:
                sentences.append(
                    f"Latent '{latent.name}' has no list of classes: only its KL and information are given."
                )
        unknown = [name for name, parts in self.unit_kl.items() if bool(parts[0].isnan().any())]
        if unknown:
            sentences.append(f"KL per latent of {', '.join(unknown)} has no closed form: only its sum is given.")
        elif not self.factorised:
            sentences.append(
                "q(z|x) is not a product over latents: each KL is that of a marginal, and they add up to less."
            )
        return sentences
