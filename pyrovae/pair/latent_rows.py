"""Values of latents as rows: a draw, or a point, to each row. `draw_prior` makes them, `decode` gives E[x|z] of each."""

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from .execution import ModelOrGuide, isolated_parameters, trace
from .sites import SAMPLES, density_sites, mean_or_none, point_dim
from .structure import Structure

BLOCK_ELEMENTS = 2**20  # at once: of z in a block of draws × components, or of x and z where the pair is run
BLOCK_COMPONENTS = 256

Rows = dict[str, Tensor]  # for each latent a row for each draw: (M, plates but that of the points, event)


class Layout:
    """Where latents keep their points: between values as Pyro broadcasts them and rows with a draw to each."""

    def __init__(self, structure: Structure):
        self.max_plate_nesting = structure.max_plate_nesting
        runs = (structure.model_trace, structure.guide_trace)
        self.sites = {site["name"]: site for run in runs for site in density_sites(run)}
        self.model_sites = structure.model_trace.nodes

    def axis(self, name: str) -> int:
        """Of the points, among (samples, plates)."""
        return 1 + self.max_plate_nesting + point_dim(self.sites[name])

    def rows(self, name: str, value: Tensor) -> Tensor:
        """(S, plates, event) → (S, N, plates but that of the points, event)."""
        return value.movedim(self.axis(name), 1)

    def spread(self, name: str, rows: Tensor, points: int) -> Tensor:
        """(M, plates but that of the points, event) → (M, plates, event): the same values at every point."""
        axis = self.axis(name)
        return rows.unsqueeze(axis).expand(*rows.shape[:axis], points, *rows.shape[axis:])

    def at_points(self, name: str, rows: Tensor) -> Tensor:
        """Row n becomes the value at point n: (N, plates but that of the points, event) → (plates, event)."""
        return rows.movedim(0, self.axis(name) - 1)

    def per_point(self, name: str, values: Tensor, num_samples: int, event_dim: int = 0) -> Tensor:
        """Numbers over as many of (samples, plates, event) as they have → (samples, N, all the rest)."""
        missing = 1 + self.max_plate_nesting + event_dim - values.dim()
        values = values.reshape((1,) * missing + values.shape)
        moved = self.rows(name, values.expand(num_samples, *values.shape[1:]))
        return moved.reshape(*moved.shape[:2], -1)


def latents_only(model: ModelOrGuide) -> ModelOrGuide:
    """p(z): the model without what it observes."""
    return poutine.block(model, hide_fn=lambda msg: msg["type"] == "sample" and msg["is_observed"])


def draw_prior(model: ModelOrGuide, x: Tensor, structure: Structure, count: int) -> tuple[Rows, list[poutine.Trace]]:
    """`count` rows z ~ p(z), and the runs that they are from."""
    layout, points = Layout(structure), x[:BLOCK_COMPONENTS]
    prior, runs = latents_only(model), []
    each = max(1, BLOCK_ELEMENTS // (len(points) * x[0].numel()))
    for _ in range(0, count, each * len(points)):
        with isolated_parameters(model), pyro.plate(SAMPLES, each, dim=-1 - structure.max_plate_nesting):
            runs.append(trace("model", prior, points))
    names = [site["name"] for site in density_sites(runs[0])]
    rows = {
        name: torch.cat([layout.rows(name, run.nodes[name]["value"]).flatten(0, 1) for run in runs])[:count]
        for name in names
    }
    return rows, runs


def decode(model: ModelOrGuide, rows: Rows, like: Tensor, structure: Structure) -> Tensor:
    """E[x|z] for every row of z, or a draw of x where the likelihood has no mean: (M, *like.shape[1:]).

    Raises `InvalidInputError` for a model that observes nothing of x's shape.
    """
    site = decoded_site(model, rows, like, structure)
    mean = mean_or_none(site["fn"])
    return site["value"] if mean is None else mean


def decoded_site(model: ModelOrGuide, rows: Rows, like: Tensor, structure: Structure) -> dict[str, Any]:
    """The site of x, p(x|z) for every row of z, in a run of the model."""
    layout, count = Layout(structure), len(next(iter(rows.values())))
    given = {name: layout.at_points(name, value) for name, value in rows.items()}
    blank = like[:1].expand(count, *like.shape[1:])
    with isolated_parameters(model):
        run = trace("model", pyro.condition(poutine.uncondition(model), given), blank)
    for site in density_sites(run):
        if site["infer"].get("was_observed") and site["value"].shape == blank.shape:
            return site
    raise InvalidInputError(
        f"The model draws nothing of x's shape {tuple(like.shape[1:])}: let it observe x itself, with obs=x."
    )
