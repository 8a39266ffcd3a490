"""Where to start, and where to start again: the search for the modes of every point's posterior."""

import torch
from torch import Tensor

from .joint_density import Joint
from .mode_mixture import mixture_about
from .modes import Modes, climb, distinct_modes, joined

MAX_MODES = 64
MEAN_DRAWS = 64  # of guide and prior, whose mean is a start
SMALL = 15  # dimensions of u, up to which a thorough search costs little
SAMPLE = 32  # points that are searched thoroughly in any case, to see whether the others must be
MISSED_MASS = 0.01  # nats of a point's log p(x): if the thorough search finds so much more, all points get it


def find_modes(joint: Joint) -> Modes:
    """The modes of p(u|x) of each point.

    With up to `SMALL` latent numbers the search is thorough at every point. With more it is short, and thorough at a random
    sample of points; where that finds mass that the short search had missed, it is thorough at every point too.
    """
    if joint.size <= SMALL:
        return thorough_search(joint)
    short = short_search(joint)
    points = len(joint.x)
    sample = torch.zeros(points, dtype=torch.bool, device=joint.x.device)
    sample[torch.randperm(points, device=joint.x.device)[:SAMPLE]] = True
    more = thorough_search(joint.subset(sample)).log_mass - short.log_mass[sample]
    return thorough_search(joint) if float(more.clamp(min=0).mean()) > MISSED_MASS else short


def thorough_search(joint: Joint) -> Modes:
    """From the means of guide and prior and 16 draws of the prior; then twice from the heaviest of 1,000 draws."""
    starts = torch.cat([_guide_mean(joint), _mean(joint.draw_prior(MEAN_DRAWS)), joint.draw_prior(16)])
    return _restarted(joint, starts, rounds=2, num_draws=500, num_starts=8)


def short_search(joint: Joint) -> Modes:
    """From the guide's mean; then once from the two heaviest of 256 draws."""
    return _restarted(joint, _guide_mean(joint), rounds=1, num_draws=128, num_starts=2)


def _restarted(joint: Joint, starts: Tensor, rounds: int, num_draws: int, num_starts: int) -> Modes:
    """Climb from `starts`; then, in each round, from where the weights about the modes found so far are largest, at draws of
    the mixture about them and of the prior. A mode that was missed, or a component that is too narrow, has large weights."""
    ends = climb(joint, starts)
    modes = distinct_modes(ends, MAX_MODES)
    for _ in range(rounds):
        mixture = mixture_about(joint, modes)
        u, log_w = mixture.weigh(joint, 2 * num_draws, prior_share=0.5)
        heaviest = log_w.topk(num_starts, dim=0).indices.unsqueeze(-1).expand(-1, -1, u.shape[-1])
        before = modes.exists.sum(0)
        ends = joined(ends, climb(joint, u.gather(0, heaviest)))
        modes = distinct_modes(ends, MAX_MODES)
        if not bool((modes.exists.sum(0) > before).any()):
            break
    return modes


def _guide_mean(joint: Joint) -> Tensor:
    return _mean(joint.draw_guide(MEAN_DRAWS))


def _mean(draws: Tensor) -> Tensor:
    return draws.mean(0, keepdim=True)
