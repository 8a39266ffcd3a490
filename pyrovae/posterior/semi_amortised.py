"""A guide whose q(z|x) is refined for every point before it is used: any pair can use it at evaluation."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine import runtime
from torch import Tensor
from torch.distributions import constraints

from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.sites import PLATE
from ..pair.structure import inspect_pair
from .joint_density import Joint
from .optimise import RefinementSettings
from .refinement import refine
from .variational_families import Posteriors, VariationalFamily


class SemiAmortised:
    """Guide q*(z|x) that is refined for each x by itself: it begins at `guide`, and moves to where the ELBO is largest.

    `SemiAmortised(model, guide)(x)` names the same latents as `guide` inside plate("data"). So `evaluate`,
    `log_weights`, `ais` and `check_pair` take it as a guide. Kim et al. also train through the refinement. This class
    does not: q* is a constant of x, and the parameters of the guide have no gradient.

    A point is refined when it is first seen. It is then remembered by its values, whatever its batch, so that all
    draws are from one q*. If the model is trained in between, call `forget()`.

    A latent in R^k that is the only one is drawn from q* itself. Others are functions, with a density, of a helper
    latent, the unconstrained u, as in AutoNormal. `ais` cannot begin at such a guide.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x.
        family: As for `refine`.
        protocol: As for `refine`.
        seed: It fixes q*. The random state of torch is left as it was.

    References:
        Kim, Wiseman, Miller, Sontag & Rush (2018). Semi-amortized variational autoencoders.
    """

    # No __dict__, so that the inner guide's networks are not found in this one: it has no parameters to train.
    __slots__ = ("_cache", "_last", "_names", "family", "guide", "model", "protocol", "seed")

    def __init__(
        self,
        model: ModelOrGuide,
        guide: ModelOrGuide,
        family: VariationalFamily | None = None,
        *,
        protocol: RefinementSettings | None = None,
        seed: int = 0,
    ):
        self.model, self.guide, self.family, self.protocol, self.seed = model, guide, family, protocol, seed
        self.forget()

    def forget(self) -> None:
        """Forget the refined points."""
        self._cache: dict[bytes, tuple[Posteriors, int]] = {}
        self._last: tuple[Tensor, int | None, Joint, Posteriors] | None = None
        self._names: list[str] = []

    def __call__(self, x: Tensor) -> None:
        joint, posteriors = self._refined(x)
        block = joint.blocks[0]
        frames, support = _frames(joint, block.name), joint.structure.model_trace.nodes[block.name]["fn"].support
        points = [frame for frame in frames if frame.name == PLATE]
        drawn, plates = _Drawn(posteriors, (1,) * (-1 - points[0].dim)), _Plates()
        is_vector = len(joint.blocks) == 1 and frames == points and len(block.event) == 1
        if is_vector and getattr(support, "base_constraint", None) is constraints.real:
            with plates.within(points):
                pyro.sample(block.name, drawn)
        else:
            with plates.within(points):
                u = pyro.sample("_semi_amortised", drawn, infer={"is_auxiliary": True})
            self._write_out(joint, u, plates)

    def _write_out(self, joint: Joint, u: Tensor, plates: "_Plates") -> None:
        """Every latent as the function of u that it is, with the density that this gives it."""
        outer = u.shape[
            : max(0, u.dim() - 1 - joint.structure.max_plate_nesting)
        ]  # plates of draws, outside the pair's own
        with _outside_run():
            latents = joint.latents(u.reshape(-1, len(joint.x), joint.size))
        for block in joint.blocks:
            value, jacobian = (part.reshape(*outer, *part.shape[1:]) for part in latents[block.name])
            with plates.within(_frames(joint, block.name)):
                density = dist.Delta(value, log_density=-jacobian, event_dim=value.dim() - jacobian.dim())
                pyro.sample(block.name, density)

    def _refined(self, x: Tensor) -> tuple[Joint, Posteriors]:
        version = None if x.is_inference() else x._version  # a buffer that is filled again holds other points
        if self._last is not None and self._last[0] is x and self._last[1] == version is not None:
            return self._last[2:]
        keys = [row.tobytes() for row in x.detach().cpu().contiguous().numpy()]
        rows = sorted({key: row for row, key in enumerate(keys) if key not in self._cache}.values())
        with _outside_run():
            if rows:
                self._refine(x if len(rows) == len(x) else x[rows], [keys[row] for row in rows])
            with evaluation_mode(self.model):
                joint = Joint(self.model, self._stand_in, x)
        cached = [self._cache[key] for key in keys]
        posteriors = Posteriors.concatenate([posteriors.rows(torch.tensor([row])) for posteriors, row in cached])
        self._last = (x, version, joint, posteriors)
        return joint, posteriors

    def _refine(self, x: Tensor, keys: list[bytes]) -> None:
        latents = inspect_pair(self.model, self.guide, x).latents
        self._names = [latent.name for latent in latents if not latent.summed_out]
        result = refine(self.model, self.guide, x, self.family, 2, self.seed, start="guide", protocol=self.protocol)
        self._cache |= {key: (result.posteriors, row) for row, key in enumerate(keys)}

    def _stand_in(self, x: Tensor) -> None:
        """A guide that names the latents, of any points: the inner guide may have parameters for those it was fitted on alone."""
        with poutine.block(expose=self._names):
            self.model(x)


class _Drawn(dist.TorchDistribution):
    """q*(u) as one distribution: batch_shape (*outer, N, *trailing), event_shape (d,)."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own protocol)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, posteriors: Posteriors, trailing: tuple[int, ...], batch_shape: torch.Size | None = None):
        self.posteriors, self.trailing = posteriors, trailing
        batch_shape = torch.Size((len(posteriors), *trailing)) if batch_shape is None else batch_shape
        super().__init__(batch_shape, posteriors.loc.shape[1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_Drawn":
        return _Drawn(self.posteriors, self.trailing, torch.Size(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        u, _ = self.posteriors.sample(shape.numel() // len(self.posteriors))
        return u.reshape(*shape, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.expand(*torch.broadcast_shapes(value.shape[:-1], self.batch_shape), -1)
        return self.posteriors.log_prob(value.reshape(-1, *self.posteriors.loc.shape)).reshape(value.shape[:-1])


def _frames(joint: Joint, name: str) -> list[Any]:
    """The plates of a latent, without those of draws."""
    return [frame for frame in joint.structure.model_trace.nodes[name]["cond_indep_stack"] if frame.vectorized]


class _Plates:
    """The model's plates for one call of the guide: each is made once, and entered by every latent that is inside it."""

    def __init__(self) -> None:
        self.made: dict[str, pyro.plate] = {}

    @contextlib.contextmanager
    def within(self, frames: list[Any]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for frame in frames:
                if frame.name not in self.made:
                    full = frame.full_size or frame.size
                    subsample = None if full == frame.size else torch.arange(frame.size)
                    self.made[frame.name] = pyro.plate(frame.name, full, subsample=subsample, dim=frame.dim)
                stack.enter_context(self.made[frame.name])
            yield


@contextlib.contextmanager
def _outside_run() -> Iterator[None]:
    """Run the pair outside of the run that is going on: its handlers and its plates do not see it.

    Pyro has no public function for this. Its stack and its table of plates are set aside.
    """
    stack, dims = runtime._PYRO_STACK, runtime._DIM_ALLOCATOR._stack
    handlers, taken = stack[:], dims[:]
    stack.clear()
    dims.clear()
    try:
        yield
    finally:
        stack[:], dims[:] = handlers, taken
