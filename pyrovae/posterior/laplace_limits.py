"""For which pairs the modes of p(z|x) are searched, and which latents no Gaussian fits."""

import pyro.distributions as dist
from torch import Tensor

from ..errors import InvalidInputError
from ..pair.execution import ModelOrGuide
from ..pair.parameters import is_per_point
from ..pair.structure import Structure
from .joint_density import Joint

MAX_LATENTS = 256  # dimensions of u: each point has a Hessian, whose size is their square


def why_not_laplace(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> str:
    """Why modes are not searched for this pair, as a sentence; "" where they are."""
    try:
        joint = Joint(model, guide, x if is_per_point(guide, x) else x[:2])
        check_no_circles(joint.structure)
    except InvalidInputError as refusal:
        reason = str(refusal).partition(":")[0].partition(", and ")[0]  # without what is to be done about it
        return f"{reason.rstrip('.')}."
    if joint.size > MAX_LATENTS:
        return f"The posterior has {joint.size} dimensions, and its modes are searched in at most {MAX_LATENTS}."
    return ""


def check_no_circles(structure: Structure) -> None:
    """A density on a circle repeats itself along R for ever, and a Gaussian over R gains by being wide without end."""
    for latent in structure.latents:
        fn = structure.model_trace.nodes[latent.name]["fn"]
        if isinstance(getattr(fn, "base_dist", fn), dist.VonMises | dist.SineBivariateVonMises):
            raise InvalidInputError(
                f"Latent '{latent.name}' is an angle, and no Gaussian over the real line is a density on the circle: use ais or "
                "evaluate, which need none."
            )
