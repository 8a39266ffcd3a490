"""log p(x, z) of any pair as a function of plain vectors: one u in R^d for each point, whatever latents it stands for.

Annealing and refinement move latents along gradients. They need neither names nor supports. u holds every continuous
latent of a point, unconstrained. All densities are with respect to du: log p(x, z(u)) + log|dz/du|.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.enumeration import sum_out
from ..pair.execution import ModelOrGuide, isolated_parameters, trace
from ..pair.sites import SAMPLES, density_sites, log_density, point_dim, sum_inner_plates
from ..pair.structure import Structure, inspect_pair
from ..pair.supports import to_support
from ..utils.deadline import Deadline


@dataclass(frozen=True)
class LatentBlock:
    """Where one latent of the model lies in u, and what shapes it has."""

    name: str
    start: int
    end: int
    axis: int  # of the points, in `batch`
    batch: tuple[int, ...]  # plate sizes, all of the pair's dimensions, the points' among them
    event: tuple[int, ...]  # of the unconstrained value: a simplex has one number less

    def unpack(self, u: Tensor) -> Tensor:
        """(draws, N, d) → (draws, *batch, *event), unconstrained."""
        inner = self.batch[: self.axis] + self.batch[self.axis + 1 :]
        return u[..., self.start : self.end].reshape(*u.shape[:2], *inner, *self.event).movedim(1, 1 + self.axis)

    def pack(self, value: Tensor) -> Tensor:
        """Unconstrained (draws, *batch, *event) → its columns of u, (draws, N, end − start)."""
        value = value.movedim(1 + self.axis, 1)
        return value.reshape(*value.shape[:2], -1)


class Joint:
    """The densities of a pair at points x (N, ...), as functions of u (draws, N, d), each (draws, N) in nats.

    Discrete latents that the model marks for enumeration and the guide leaves out are summed out. Points and draws are
    independent, so that the gradient of a sum is that of each.

    Raises `InvalidInputError` where there is no such function: discrete latents that are drawn, no continuous latent, or a support
    that has no map from R^d. It also refuses all that `log_weights` refuses. After a `deadline` the densities raise
    `OutOfTimeError`.
    """

    def __init__(self, model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, deadline: Deadline | None = None):
        self.model, self.guide, self.x = model, guide, x
        self.deadline = Deadline() if deadline is None else deadline
        self.structure: Structure = inspect_pair(model, guide, x)
        self.blocks = _blocks(self.structure)
        self.size = self.blocks[-1].end  # d

    def subset(self, rows: Tensor) -> "Joint":
        """The densities at some of the points: those that `rows` names, a mask (N,) or indices, which may repeat."""
        return self.at_points(self.x[rows])

    def at_points(self, x: Tensor) -> "Joint":
        """The densities at other points of the same pair, which is not inspected again."""
        part = copy.copy(self)
        part.x = x
        part.blocks = [
            replace(block, batch=(*block.batch[: block.axis], len(part.x), *block.batch[block.axis + 1 :]))
            for block in self.blocks
        ]
        return part

    def log_p(self, u: Tensor) -> Tensor:
        """log p(x, u)."""
        run, log_jacobian = self._run_model(u)
        return self._total(run, density_sites(run), len(u)) + log_jacobian

    def log_prior_and_p(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log p(u) and log p(x, u), from one run of the model."""
        run, log_jacobian = self._run_model(u)
        every = density_sites(run)
        prior = self._total(run, [site for site in every if not site["is_observed"]], len(u))
        return prior + log_jacobian, self._total(run, every, len(u)) + log_jacobian

    def log_guide_and_p(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """log q(u|x) and log p(x, u). Raises `InvalidInputError` for a guide that can be drawn from and not be asked for a density."""
        run, log_jacobian = self._run_model(u)
        log_q = self._log_guide(run, len(u))
        return log_q + log_jacobian, self._total(run, density_sites(run), len(u)) + log_jacobian

    def log_guide(self, u: Tensor) -> Tensor:
        """log q(u|x) alone, with gradients for the guide's parameters. Raises as `log_guide_and_p`."""
        with torch.no_grad():
            run, log_jacobian = self._run_model(u)
        return self._log_guide(run, len(u)) + log_jacobian

    def _log_guide(self, run: poutine.Trace, draws: int) -> Tensor:
        """log q(z|x) of the latents of a run of the model."""
        self.check_no_auxiliary()
        setter = _SetLatents({block.name: run.nodes[block.name]["value"] for block in self.blocks})
        with isolated_parameters(self.model, self.guide), self._draws(draws), setter:
            drawn = trace("guide", self.guide, self.x)
        return self._total(drawn, density_sites(drawn), draws)

    def draw_prior(self, draws: int) -> Tensor:
        """u ~ p(u): (draws, N, d)."""
        drawn = _UntilDrawn(block.name for block in self.blocks)
        with isolated_parameters(self.model), self._draws(draws), contextlib.suppress(_AllDrawn), drawn:
            trace("model", self.model, self.x)
        return self._pack(drawn, draws)

    def draw_guide(self, draws: int) -> Tensor:
        """u ~ q(u|x): (draws, N, d)."""
        with isolated_parameters(self.model, self.guide), self._draws(draws):
            drawn = trace("guide", self.guide, self.x)
            return self._pack(trace("model", poutine.replay(self.model, trace=drawn), self.x), draws)

    def at(self, run: poutine.Trace) -> Tensor:
        """u (1, N, d) of the latents that a run of the model drew without a plate of draws."""
        return self._pack(run, 1)

    def density_of_x(self, u: Tensor) -> Any:
        """p(x|z) at u (draws, N, d), a distribution with batch_shape (draws, N).

        Raises `InvalidInputError` where the model does not observe x itself at one site.
        """
        run, _ = self._run_model(u)
        sites = [site for site in density_sites(run) if site["is_observed"] and site["value"] is self.x]
        if len(sites) != 1:
            raise InvalidInputError(
                "The model does not observe x itself at one site, so it does not say what is missing."
            )
        return sites[0]["fn"]

    def latents(self, u: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Each latent's value (draws, *plates, *event), and log|dz/du| (draws, *plates)."""
        setter = _SetUnconstrained({block.name: block.unpack(u) for block in self.blocks})
        with isolated_parameters(self.model), self._draws(len(u)), setter:
            run = trace("model", self.model, self.x)
        return {block.name: (run.nodes[block.name]["value"], setter.jacobians[block.name]) for block in self.blocks}

    def _draws(self, draws: int) -> pyro.plate:
        return pyro.plate(SAMPLES, draws, dim=-1 - self.structure.max_plate_nesting)

    def _run_model(self, u: Tensor) -> tuple[poutine.Trace, Tensor]:
        self.deadline.check()
        setter = _SetUnconstrained({block.name: block.unpack(u) for block in self.blocks})
        model = poutine.enum(self.model, first_available_dim=-2 - self.structure.max_plate_nesting)
        with isolated_parameters(self.model), self._draws(len(u)), setter:
            run = trace("model", model, self.x)
        jacobians = [sum_inner_plates(run.nodes[block.name], setter.jacobians[block.name]) for block in self.blocks]
        return run, functools.reduce(torch.add, jacobians).flatten(1)

    def _total(self, run: poutine.Trace, chosen: list[dict[str, Any]], draws: int) -> Tensor:
        """The chosen sites' log-density, (draws, N): enumerated variables summed out, inner plates multiplied."""
        if any(site["infer"].get("_enumerate_dim") is not None for site in chosen):
            part = run.copy()
            for site in density_sites(run):
                if not any(site is other for other in chosen):
                    part.remove_node(site["name"])
            return sum_out(part, draws, len(self.x), log_density)
        terms = [sum_inner_plates(site, log_density(site)) for site in chosen]
        return functools.reduce(torch.add, terms).flatten(1)

    def _pack(self, run: "poutine.Trace | _UntilDrawn", draws: int) -> Tensor:
        columns = []
        for block in self.blocks:
            site = run.nodes[block.name]
            value = _to_reals(site, site["value"])
            columns.append(block.pack(value.expand(draws, *block.batch, *block.event)))
        return torch.cat(columns, dim=-1)

    def check_no_auxiliary(self) -> None:
        """A guide with an auxiliary site gives draws and their density, and no density of other values."""
        for site in density_sites(self.structure.guide_trace):
            if site["infer"].get("is_auxiliary"):
                raise InvalidInputError(
                    f"The guide draws its latents with the help of site '{site['name']}', and cannot be asked for their density "
                    "at other values: begin at the prior, or refine a Gaussian (SemiAmortised)."
                )


class _AllDrawn(BaseException):
    """Nothing else of this run is of use. No error, so that nothing that handles errors stops it."""


class _UntilDrawn(poutine.messenger.Messenger):
    """Ends a run once these latents are drawn: decoders take most of its time."""

    def __init__(self, names: Iterable[str]):
        super().__init__()
        self.left = set(names)
        self.nodes: dict[str, Any] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.left:
            self.nodes[msg["name"]] = dict(msg)
            self.left.remove(msg["name"])
            if not self.left:
                raise _AllDrawn


class _SetLatents(poutine.messenger.Messenger):
    """Latent sites take the values that they are given; what their distributions say of them is read afterwards."""

    def __init__(self, values: dict[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.value(msg), True

    def value(self, msg: Any) -> Tensor:
        return self.values[msg["name"]]


class _SetUnconstrained(_SetLatents):
    """Values are unconstrained, and moved to the support that the site has in this run: it may depend on other latents."""

    def __init__(self, values: dict[str, Tensor]):
        super().__init__(values)
        self.jacobians: dict[str, Tensor] = {}

    def value(self, msg: Any) -> Tensor:
        u, mapping = self.values[msg["name"]], to_support(msg["fn"])
        value = mapping(u)
        jacobian = mapping.log_abs_det_jacobian(u, value)
        event = jacobian.dim() - (value.dim() - msg["fn"].event_dim)
        self.jacobians[msg["name"]] = jacobian.sum(dim=list(range(-event, 0))) if event else jacobian
        return value


def _blocks(structure: Structure) -> list[LatentBlock]:
    blocks: list[LatentBlock] = []
    for latent in structure.latents:
        if latent.summed_out:
            continue
        if latent.discrete:
            raise InvalidInputError(
                f"Latent '{latent.name}' is discrete, and annealing and refinement move latents along gradients: mark it "
                'infer={"enumerate": "parallel"} in the model and leave it out of the guide, so that it is summed out, or use '
                "evaluate, whose weights need no gradient."
            )
        site = structure.model_trace.nodes[latent.name]
        fn = site["fn"]
        batch = (1,) * (structure.max_plate_nesting - len(fn.batch_shape)) + tuple(fn.batch_shape)
        axis = structure.max_plate_nesting + point_dim(site)
        event = tuple(_to_reals(site, site["value"]).shape[site["value"].dim() - fn.event_dim :])
        start = blocks[-1].end if blocks else 0
        size = torch.Size((*batch[:axis], *batch[axis + 1 :], *event)).numel()
        blocks.append(LatentBlock(latent.name, start, start + size, axis, batch, event))
    if not blocks:
        raise InvalidInputError(
            "The model has no continuous latent to anneal or refine: its discrete ones are summed out, and every log-weight is "
            "log p(x) already; use evaluate."
        )
    return blocks


def _to_reals(site: dict[str, Any], value: Tensor) -> Tensor:
    """The unconstrained value: the inverse of torch's bijection from R^d to the support."""
    fn = site["fn"]
    try:
        return to_support(fn).inv(value)
    except NotImplementedError as error:
        raise InvalidInputError(
            f"Latent '{site['name']}' lives where torch has no map from R^d ({type(fn).__name__} on {fn.support}): write it as a "
            "function of a latent that has one, or use evaluate, whose weights need none."
        ) from error


def per_point(
    function: Callable[[Tensor], tuple[Tensor, ...]], u: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Densities (draws, N) at u and the gradient of each (draws, N, d)."""
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        values = function(u)
        gradients = [
            torch.autograd.grad(value.sum(), u, retain_graph=index + 1 < len(values), allow_unused=True)[0]
            for index, value in enumerate(values)
        ]
    return (
        tuple(value.detach() for value in values),
        tuple(torch.zeros_like(u) if gradient is None else gradient for gradient in gradients),
    )
