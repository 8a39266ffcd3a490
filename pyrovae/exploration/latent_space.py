"""The continuous latents of a pair as plain vectors: encode, decode, and values of the prior."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide, evaluation_mode, isolated_parameters, trace
from ..pair.latent_rows import Layout, Rows, decode, draw_prior
from ..pair.parameters import is_per_point
from ..pair.sites import SAMPLES, mean_or_none
from ..pair.structure import Structure, inspect_pair
from ..posterior.latent_densities import unit_kl
from ..utils.random import fork_rng

CHUNK_POINTS = 512  # encoded, decoded or inspected at once
MEAN_DRAWS = 32  # of the guide, where a latent's mean depends on latents before it or is not known
PRIOR_DRAWS = 20_000  # from which quantiles of a prior without a closed form are taken
SAME = 1e-4  # relative difference below which two decoded x are one


class LatentSpace:
    """The continuous latents of a pair as vectors of D numbers: names[j] is the j-th.

    Latents that x does not depend on, given the others, are left out: those above the first layer of a hierarchy.

    Args:
        model: The model.
        guide: Its guide.
        x: Points (N, ...), on the device and in the type of the pair's parameters.

    Raises:
        InvalidInputError: The pair draws no continuous latent, or x is not a function of it alone.

    Example:
        space = pyrovae.exploration.LatentSpace(model, guide, x)
        space.decode(space.encode(x))  # the reconstructions, (N, ...)
    """

    def __init__(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor):
        self.model, self.guide = model, guide
        self.whole = is_per_point(guide, x)  # then the points cannot be split
        self.like = x if self.whole else x[:CHUNK_POINTS]
        self.structure: Structure = inspect_pair(model, guide, self.like, scored=False)
        self.layout = Layout(self.structure)
        drawn = [latent for latent in self.structure.latents if not latent.summed_out]
        if discrete := [latent.name for latent in drawn if latent.discrete]:
            raise InvalidInputError(
                f"Latent '{discrete[0]}' is discrete: it has no space to move through. Look at the model's components instead."
            )
        if not drawn:
            raise InvalidInputError("The model draws no latent, so there is no latent space to look at.")
        self.shapes: dict[str, torch.Size] = {
            latent.name: self.layout.rows(
                latent.name, self.structure.guide_trace.nodes[latent.name]["value"].unsqueeze(0)
            ).shape[2:]
            for latent in drawn
        }
        self.shapes = self._those_that_move_x()

    @property
    def names(self) -> tuple[str, ...]:
        """z[0], z[1], …: a name for each of the D numbers."""
        return tuple(
            f"{name}[{j}]" if len(shape) else name for name, shape in self.shapes.items() for j in range(shape.numel())
        )

    @property
    def size(self) -> int:
        """D."""
        return sum(shape.numel() for shape in self.shapes.values())

    def encode(self, x: Tensor, seed: int = 0) -> Tensor:
        """E_q[z|x] of points (N, ...): (N, D). Where it has no closed form, the mean of draws."""
        with self._at_work(x.device, seed):
            return torch.cat([self._means(part) for part in self._split(x)])

    def draw(self, x: Tensor, num_draws: int, seed: int = 0) -> Tensor:
        """z ~ q(z|x) for points (N, ...): (num_draws, N, D)."""
        with self._at_work(x.device, seed):
            parts = []
            for part in self._split(x):
                run = self._guide_run(part, num_draws)
                values = [self.layout.rows(name, run[name]["value"]) for name in self.shapes]
                parts.append(torch.cat([value.reshape(num_draws, len(part), -1) for value in values], dim=-1))
            return torch.cat(parts, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """E[x|z] for rows of z (M, D), or x itself where it is a function of z: (M, ...). Gradients pass."""
        with evaluation_mode(self.model, self.guide), fork_rng(z.device, 0):
            return torch.cat([self._decode(self.rows(part)) for part in z.split(CHUNK_POINTS)])

    def kl(self) -> Tensor:
        """KL(q(z_j|x) ‖ p(z_j)) of each number, mean over points: (D,), nats. NaN where it has no closed form."""
        q, p, parts = self.structure.guide_trace.nodes, self.structure.model_trace.nodes, []
        for name, shape in self.shapes.items():
            known = unit_kl(q[name]["fn"], p[name]["fn"]) if len(self.structure.latents) == 1 else None
            if known is None:
                parts.append(torch.full((shape.numel(),), math.nan, dtype=torch.float64))
            else:
                rows = self.layout.per_point(name, known.unsqueeze(0), 1, q[name]["fn"].event_dim)
                parts.append(rows[0].double().mean(0).cpu())
        return torch.cat(parts)

    def order(self, x: Tensor) -> list[int]:
        """The numbers of z, the most informative first: by `kl`, or where that is unknown by how far E[x|z] moves with each.

        Each moves by two standard deviations of its encodings, about the mean of all.
        """
        kl = self.kl()
        if bool(kl.isnan().any()):
            z = self.encode(x)
            steps = torch.diag(z.std(0, correction=0))
            with torch.no_grad():
                up, down = self.decode(torch.cat([z.mean(0) + steps, z.mean(0) - steps])).flatten(1).chunk(2)
            kl = (up - down).square().sum(-1).cpu()
        return kl.argsort(descending=True).tolist()

    def quantiles(self, probabilities: Tensor) -> tuple[Tensor, str]:
        """Values of each number below which the prior has these probabilities: (P, D), and where they are from.

        They come from the inverse distribution function of the prior if it has one, else from draws of the prior. A
        model without a prior has those of the encodings E[z|x].
        """
        name = next(iter(self.shapes))
        if len(self.structure.latents) == 1:
            fn = self.structure.model_trace.nodes[name]["fn"]
            base = fn
            while isinstance(base, MaskedDistribution | torch.distributions.Independent):
                base = base.base_dist
            try:
                if not base.event_shape:
                    values = base.icdf(probabilities.to(self.like).reshape(-1, *(1 for _ in base.batch_shape)))
                    rows = self.layout.per_point(name, values, len(probabilities), fn.event_dim)
                    return rows[:, 0].detach().cpu(), "the prior's quantiles"
            except NotImplementedError:
                pass
        try:
            with torch.no_grad(), evaluation_mode(self.model), fork_rng(self.like.device, 0):
                prior, _ = draw_prior(self.model, self.like, self.structure, PRIOR_DRAWS)
            values, source = self._flat(prior), "quantiles of draws of the prior"
        except InvalidInputError:  # an autoencoder
            values, source = self.encode(self.like), "quantiles of the encodings, for the model has no prior"
        return values.double().quantile(probabilities.to(values.device).double(), dim=0).to(self.like).cpu(), source

    @contextlib.contextmanager
    def _at_work(self, device: torch.device, seed: int) -> Iterator[None]:
        pair = (self.model, self.guide)
        with torch.no_grad(), evaluation_mode(*pair), isolated_parameters(*pair), fork_rng(device, seed):
            yield

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) if self.whole else x.split(CHUNK_POINTS)

    def _guide_run(self, x: Tensor, num_draws: int) -> dict[str, dict[str, Any]]:
        with pyro.plate(SAMPLES, num_draws, dim=-1 - self.structure.max_plate_nesting):
            return trace("guide", self.guide, x).nodes

    def _means(self, x: Tensor) -> Tensor:
        run, rows = self._guide_run(x, MEAN_DRAWS), {}
        for name, shape in self.shapes.items():
            mean = mean_or_none(run[name]["fn"])
            value = run[name]["value"] if mean is None else mean
            rows[name] = self.layout.per_point(name, value, MEAN_DRAWS, run[name]["fn"].event_dim).mean(0)
            rows[name] = rows[name].reshape(len(x), *shape)
        return self._flat(rows)

    def _flat(self, rows: Rows) -> Tensor:
        return torch.cat([rows[name].reshape(len(rows[name]), -1) for name in self.shapes], dim=-1)

    def rows(self, z: Tensor) -> Rows:
        """Rows of z (M, D) as the values of each latent."""
        if z.dim() != 2 or z.shape[1] != self.size:
            raise InvalidInputError(f"z has the shape {tuple(z.shape)}: give rows of {self.size} numbers.")
        parts = z.to(self.like).split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _decode(self, rows: Rows) -> Tensor:
        return decode(self.model, rows, self.like, self.structure)

    def _those_that_move_x(self) -> dict[str, torch.Size]:
        """Check that x is a function of the latents; keep those that it depends on when all are given."""
        run = self.structure.guide_trace.nodes
        rows = {name: self.layout.rows(name, run[name]["value"].unsqueeze(0))[0] for name in self.shapes}
        two = {name: value[:1].expand(2, *value.shape[1:]) for name, value in rows.items()}
        with torch.no_grad(), evaluation_mode(self.model, self.guide), fork_rng(self.like.device, 0):
            same = self._decode(two)
            if _differ(same[0], same[1]):
                raise InvalidInputError(
                    "The model's x is not a function of its continuous latents: one z gave two different x. Look at samples instead."
                )
            moving = {}
            for name, shape in self.shapes.items():
                other = two[name] + torch.tensor([0.0, 1.0], device=two[name].device).reshape(-1, *(1 for _ in shape))
                moved = self._decode({**two, name: other})
                if _differ(moved[0], moved[1]):
                    moving[name] = shape
        return moving or self.shapes


def _differ(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) > SAME * (1 + float(one.abs().max()))
