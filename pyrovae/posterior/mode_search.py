"""Where to start, and where to start again: the search for the modes of every point's posterior."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..pair.execution import ModelOrGuide
from ..pair.parameters import is_per_point
from ..utils.deadline import Deadline
from ..utils.random import random_rows
from .climbing import climb
from .joint_density import Joint
from .laplace_limits import check_no_circles
from .mode_mixture import FEW_LATENTS, mixture_about
from .modes import MAX_SHARE_FOUND_ONCE, Modes, distinct_modes

MAX_MODES = 64
MEAN_DRAWS = 16  # of guide and prior, whose mean is a start
MISSED_MASS = 0.01  # nats of log p(x), averaged over points: to find so much is worth a thorough search everywhere
SEARCHED_POINTS = 16


def short_search(joint: Joint) -> Modes:
    """Start at the guide's mean; then once at the heaviest of 256 draws, half of them of the prior."""
    return _restarted(joint, _mean(joint.draw_guide(MEAN_DRAWS)), rounds=1, num_draws=128, num_starts=1)


def thorough_search(joint: Joint, prior_starts: int = 16) -> Modes:
    """Start at the means of guide and prior and at draws of the prior; then twice at the heaviest of 1,000 draws."""
    means = (_mean(joint.draw_guide(MEAN_DRAWS)), _mean(joint.draw_prior(MEAN_DRAWS)))
    starts = torch.cat([*means, joint.draw_prior(prior_starts)])
    return _restarted(joint, starts, rounds=2, num_draws=1000, num_starts=8)


def search_modes(joint: Joint, thorough: bool) -> Modes:
    """A short or a thorough search at every point, and one from more starts where that leaves a doubt."""
    modes = thorough_search(joint) if thorough else short_search(joint)
    doubtful = (modes.share_found_once > MAX_SHARE_FOUND_ONCE) | ~modes.arrived
    if not thorough and bool(doubtful.any()):
        modes = modes.replaced(doubtful, thorough_search(joint.subset(doubtful)))
    doubtful = modes.share_found_once > MAX_SHARE_FOUND_ONCE
    if bool(doubtful.any()):
        modes = modes.replaced(doubtful, thorough_search(joint.subset(doubtful), prior_starts=96))
    return modes


def choose_search(
    model: ModelOrGuide, guide: ModelOrGuide, x: Tensor, seed: int, deadline: Deadline | None = None
) -> Callable[[Joint], Modes]:
    """Choose the search that these points need.

    A thorough one costs little with few latents. With more, some of the points show whether it finds more. A guide
    with parameters for each point gets a thorough one. A point whose modes leave a doubt is searched again from more
    starts.

    Raises `InvalidInputError` for a pair whose modes cannot be searched, and `OutOfTimeError` at the deadline.
    """
    whole = is_per_point(guide, x)
    joint = Joint(model, guide, x if whole else x[random_rows(x, SEARCHED_POINTS, seed).to(x.device)], deadline)
    check_no_circles(joint.structure)
    thorough = whole or joint.size <= FEW_LATENTS or short_search_misses_mass(joint)
    return functools.partial(search_modes, thorough=thorough)


def short_search_misses_mass(joint: Joint) -> bool:
    """Whether a thorough search at these points finds modes that a short one does not, and they have mass."""
    missed = thorough_search(joint).mass_missed_by(short_search(joint))
    return float(missed.mean()) > MISSED_MASS


def _restarted(joint: Joint, starts: Tensor, rounds: int, num_draws: int, num_starts: int) -> Modes:
    """Climb from `starts`, and then in each round from the draws of largest weight.

    The draws come from the mixture about the modes found so far, and as many from the prior. Weights are large where
    a mode was missed or a component is too narrow.
    """
    ends = climb(joint, starts[:1])
    if len(starts) > 1:
        ends = ends.joined(climb(joint, starts[1:], ends))
    modes = distinct_modes(ends, MAX_MODES)
    for _ in range(rounds):
        u, log_w = mixture_about(joint, modes).weigh(joint, num_draws, prior_share=0.5)
        heaviest = log_w.nan_to_num(-torch.inf, torch.inf).topk(num_starts, dim=0).indices
        before = modes.exists.sum(0)
        restarts = u.gather(0, heaviest.unsqueeze(-1).expand(-1, -1, u.shape[-1]))
        ends = ends.joined(climb(joint, restarts, ends))
        modes = distinct_modes(ends, MAX_MODES)
        if not bool((modes.exists.sum(0) > before).any()):
            break
    return modes


def _mean(draws: Tensor) -> Tensor:
    return draws.mean(0, keepdim=True)
