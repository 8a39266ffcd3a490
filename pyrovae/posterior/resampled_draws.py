"""Draws of every point's posterior as unconstrained vectors, of equal weight."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..pair.execution import ModelOrGuide, evaluation_mode
from ..pair.parameters import is_per_point
from ..utils.random import fork_rng
from .batching import MIN_CHUNK_DRAWS, block_sizes, chunk_progress, in_chunks
from .joint_density import Joint
from .mixture_fitting import fit_mixture
from .mode_search import choose_search
from .posterior_sampling import DRAWS_SHARE, check_weights, systematic_resampling
from .precision import CHECKED_POINTS, in_sufficient_precision


def resampled_latents(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    num_draws: int,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> Tensor:
    """u ~ p(u|x_n) (num_draws, N, d) for every row of x, as `Joint` takes them: what `sample_posterior` draws, resampled.

    They are on the device and in the type of x. Four times as many weighted draws are made, so that few of those that are kept repeat.
    """
    like, per_point = x, is_per_point(guide, x)
    model, guide, x = in_sufficient_precision(model, guide, x, len(x) if per_point else CHECKED_POINTS)

    def work(joint: Joint, start: int) -> Tensor:
        mixture, _ = fit_mixture(joint, search(joint))
        blocks = [mixture.weigh(joint, size) for size in block_sizes(4 * num_draws, len(joint.x))]
        u, log_w = torch.cat([u for u, _ in blocks]), torch.cat([log_w for _, log_w in blocks])
        check_weights(log_w, start)
        rows = systematic_resampling(log_w.softmax(0).cpu())[:num_draws].to(u.device)  # in random order
        chunk_progress(on_progress, len(joint.x))(1.0)
        return u.gather(0, rows.unsqueeze(-1).expand(-1, -1, u.shape[-1])).to(like)

    with evaluation_mode(model, guide), torch.no_grad(), fork_rng(x.device, seed):
        search = choose_search(model, guide, x, seed)
        return torch.cat(in_chunks(model, guide, x, max(MIN_CHUNK_DRAWS, 4 * num_draws // DRAWS_SHARE), work), dim=1)
