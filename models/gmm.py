"""Gaussian mixture: z ~ Cat(π), x|z ~ N(μ_z, Σ_z).

log p(x) = log Σ_k π_k N(x | μ_k, Σ_k) and p(z|x) = Cat(π_k N(x | μ_k, Σ_k) / p(x)) are exact.
"""

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae
from pyrovae.likelihoods import Full, MixtureComponents

NUMBERS, POINTS = 2**22, 512  # in a density, and points, at once: enough for a matrix product, few enough for a cache
TRAINING_DEFAULTS = {"steps": 150, "batch_size": 2048, "lr": 3e-2}
# Images have many columns, and few points to each component for so many variances. On the training points of digits 5 folds
# give 42.3 nats at a floor of 0.01, 61.8 at 0.1, 61.0 at 0.2 and 53.4 at 0.5.
PIXEL_OPTIONS = {"floor": 0.1}


class Mixture(pyrovae.Module):
    """z ~ Cat(π), x|z ~ p_z: a mixture of any family of components."""

    handles_missing = True  # NaN in x is integrated out
    initialised: Tensor

    def __init__(self, components: MixtureComponents):
        super().__init__()
        self.components = components
        self.logits = nn.Parameter(torch.zeros(components.count))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=self.logits))
            pyro.sample("x", pyrovae.distributions.observed(self.components(z), x), obs=x)

    def log_joint(self, x: Tensor) -> Tensor:
        """log π_k + log p_k(x_n): (N, dim) → (N, K), nats."""
        return self.logits.log_softmax(-1) + self.components.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x_n) = log Σ_k π_k p_k(x_n): (N, dim) → (N,), nats."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor) -> dist.Categorical:
        """p(z|x), the responsibilities."""
        return dist.Categorical(logits=self.log_joint(x))

    num_redundant_parameters = 1  # a constant added to the logits changes no density

    def em_step(self, x: Tensor) -> Tensor:
        """Make one step of EM (Dempster, Laird & Rubin 1977) over all of x (N, dim).

        It is coordinate ascent on the ELBO: q(z|x) becomes p(z|x), then the parameters become the best of the family
        for that q. Points are taken in blocks, and densities in chunks of these, so that memory does not grow with N.
        Missing entries of x are latents too (Ghahramani & Jordan 1994): q of them is their density given the others.

        Returns:
            The mean log p(x) before the step, (), nats per point. Up to rounding, the next step's is never lower.
        """
        if pyrovae.nn.has_missing(x):
            return self._em_step_of_observed(x)
        with torch.no_grad():
            family, count = self.components.family_detached(), self.components.count
            centre, log_share = family.mean.double(), self.logits.log_softmax(-1)
            origin = centre.mean(dim=0)  # sums about it, not about 0, lose no digits to an offset
            width = 1 if getattr(family, "is_matrix_product", False) else x.shape[1]
            points = max(1, min(POINTS, NUMBERS // (count * width)))
            smallest = math.log(torch.finfo(x.dtype).tiny)
            log_p = total = first = second = x.new_zeros((), dtype=torch.float64)
            for block in x.split(max(1, NUMBERS // (4 * count))):
                # filled piece by piece: pieces left lying between large buffers would break memory up
                joint = block.new_empty(len(block), count)
                for chunk, part in zip(block.split(points), joint.split(points), strict=True):
                    part.copy_(log_share + family.log_prob(chunk.unsqueeze(-2)))
                top = joint.amax(dim=-1, keepdim=True)
                below = joint - top
                q = below.where(below > smallest, -math.inf).exp()  # what underflows would take ten times as long
                p = q.sum(dim=-1, keepdim=True)
                q = (q / p).double()
                log_p = log_p + (top + p.log()).double().sum()
                total = total + q.sum(dim=0)
                for r, chunk in zip(q.split(POINTS), block.split(POINTS), strict=True):
                    first = first + r.mT @ (chunk.double() - origin)  # of all at once a library may copy the points
                second = second + self.components.scatter(block, q, centre)
            step = first - total.unsqueeze(-1) * (centre - origin)
            total = total.clamp(min=torch.finfo(x.dtype).tiny)  # a mean that no point is near stays where it is
            moved = step / total.unsqueeze(-1)
            about = self.components.second_moment((moved * total.sqrt().unsqueeze(-1)).unsqueeze(1))
            self.components.m_step(centre + moved, total, second - about)
            self.logits.copy_((total / len(x)).log())
            return log_p / len(x)

    def _em_step_of_observed(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            joint = torch.cat([self.log_joint(chunk) for chunk in x.split(self.components.missing_rows)]).double()
            log_p = joint.logsumexp(-1)
            q = (joint - log_p.unsqueeze(-1)).exp()
            self.components.expected_m_step(x, q)
            self.logits.copy_((q.mean(dim=0).clamp(min=torch.finfo(x.dtype).tiny)).log())
            return log_p.mean()

    def conditional(self, x: Tensor) -> pyrovae.distributions.Conditional:
        """Return p(x|observed entries of x): a mixture of p_z(x|observed) for each point."""
        return pyrovae.distributions.conditional_of(self.components.family(), x, self.log_joint(x).detach())

    def directions_at_floor(self) -> Tensor | None:
        """As of the components: how many directions at the floor lie in each column."""
        return self.components.directions_at_floor()

    def initialise(self, x: Tensor) -> None:
        """Begin at k-means of the standardised columns: its clusters' shares, means and covariances. Its own starts are by k-means++.

        For k-means, missing entries are at the mean of their column. Steps of EM then leave such values behind.
        """
        from sklearn.cluster import KMeans  # here, because scikit-learn is slow to import

        subset = x[torch.randperm(len(x), device=x.device)[:20_000]]
        points = self.components.standardised(subset).cpu()
        count, different = self.components.count, len(points.unique(dim=0))
        if different < count:
            raise pyrovae.InvalidInputError(
                f"{count} components need at least as many different points; there are {different}: lower components, or give "
                "more data."
            )
        seed = int(torch.randint(2**31 - 1, ()))
        labels = KMeans(count, n_init=1, random_state=seed).fit(points).labels_
        onehot = nn.functional.one_hot(torch.as_tensor(labels, dtype=torch.long), count).to(x)
        self.components.start(subset, onehot)
        with torch.no_grad():
            self.logits.copy_(onehot.mean(dim=0).log())
            self.initialised.fill_(True)
        if pyrovae.nn.has_missing(subset):
            pyrovae.EM(steps=50)(self, subset)


def pair(
    dim: int,
    components: int = 10,
    covariance: Callable[[int, int, float], MixtureComponents] = Full,
    floor: float = 1e-3,
    guide: type = pyrovae.guides.ExactPosterior,
) -> tuple[Mixture, object]:
    """Build the model and its guide.

    Args:
        dim: D, the size of one point x.
        components: K, the number of Gaussians.
        covariance: Full, Diagonal, Spherical or Tied.
        floor: The smallest variance, as a fraction of the variance of the column.
        guide: ExactPosterior or AmortisedCategorical.
    """
    model = Mixture(covariance(components, dim, floor))
    return model, mixture_guide(guide, model, dim)


def mixture_guide(guide: type, model: Mixture, dim: int) -> object:
    """Return the guide of a mixture."""
    if guide is pyrovae.guides.ExactPosterior:
        return guide(model)
    return guide(dim, model.components.count)
