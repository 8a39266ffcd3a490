"""Normalising flows as q(z|x): z = μ(x) + σ(x) ∘ T(ε; h(x)), ε ~ N(0, I), with invertible T by Pyro's conditional transforms.

log q(z|x) = log N(ε | 0, I) − log|det ∂z/∂ε|, exact, and for any z (Rezende & Mohamed 2015, eq. 13). The encoder returns μ, σ and h;
networks that all x share turn ε and h into T. Every T begins near the identity, so that a flow begins near `MeanField`.
"""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
from pyro.nn import ConditionalAutoRegressiveNN, ConditionalDenseNN
from torch import Tensor, nn

from ..errors import InvalidInputError
from .amortised import Amortised, positive


class Flow(Amortised):
    """Base of the guides that are normalising flows: z = μ(x) + σ(x) ∘ T(ε; h(x)), ε ~ N(0, I).

    A new flow writes `layer(place)`.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        hidden: Widths of the hidden layers of the encoder.
        layers: How many transforms T is made of.
        width: Hidden units in the network of each transform, at least k + 1.
        features: The size of h.
        **given: As for `Amortised`.

    References:
        Rezende & Mohamed (2015). Variational inference with normalizing flows. Equation 13.
    """

    layers: Any  # of conditional transforms, in a ModuleList
    reversal: Tensor

    def __init__(
        self,
        dim: int,
        latent: int,
        hidden: Sequence[int] = (200, 200),
        *,
        layers: int = 2,
        width: int = 64,
        features: int = 32,
        **given: Any,
    ):
        if latent < 2:
            raise InvalidInputError(
                f"{type(self).__name__} turns one latent number by another, and latent is {latent}: take MeanField or Mixture."
            )
        super().__init__(dim, latent, hidden, layers=layers, width=width, features=features, **given)
        self.layers = nn.ModuleList(self.layer(place) for place in range(layers))
        self.register_buffer("reversal", torch.arange(latent).flip(0))

    @staticmethod
    def num_outputs(latent: int, features: int = 32, **sizes: int) -> int:
        return 2 * latent + features

    def layer(self, place: int) -> dist.ConditionalTransformModule:
        """Return the transform at this place, conditioned on h."""
        raise NotImplementedError

    def network(self, kind: Any, inputs: int, params: list[int], **given: Any) -> nn.Module:
        """Return one of Pyro's networks from `inputs` numbers and h to `params`, with outputs near 0."""
        width = max(self.sizes["width"], self.latent + 1)
        net = kind(inputs, self.sizes["features"], [width], param_dims=params, nonlinearity=nn.Tanh(), **given)
        last = net.layers[-1]
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.mul_(0.1)
        return net

    def distribution(self, outputs: Tensor) -> dist.TorchDistribution:
        loc, rho, features = outputs.split([self.latent, self.latent, self.sizes["features"]], dim=-1)
        transforms: list[Any] = []
        for layer in self.layers:
            if transforms:
                transforms.append(T.Permute(self.reversal))
            transforms.append(layer.condition(features))
        scale = positive(rho)
        transforms.append(T.AffineTransform(loc, scale, event_dim=1, cache_size=1))  # a draw is never inverted
        noise = dist.Normal(torch.zeros_like(loc), torch.ones_like(loc)).to_event(1)
        return dist.TransformedDistribution(noise, transforms)


class IAF(Flow):
    """Inverse autoregressive flow: T_d(ε) = m_d + s_d ε_d, where m_d and s_d are functions of ε_1 … ε_{d−1}.

    A draw takes one pass. The density at a z that is not its own draw takes k passes, where k is the size of z.
    Arguments are those of `Flow`.

    References:
        Kingma et al. (2016). Improved variational inference with inverse autoregressive flow.
    """

    def layer(self, place: int) -> dist.ConditionalTransformModule:
        order = torch.arange(self.latent)
        net = self.network(ConditionalAutoRegressiveNN, self.latent, [1, 1], permutation=order)
        return T.ConditionalAffineAutoregressive(net)


class AffineCoupling(Flow):
    """Affine coupling flow: in turns, T shifts and scales one half of ε by functions of the other half.

    Draws and densities take one pass each. Arguments are those of `Flow`, with four layers.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017). Density estimation using Real NVP.
    """

    def __init__(self, dim: int, latent: int, hidden: Sequence[int] = (200, 200), *, layers: int = 4, **given: Any):
        super().__init__(dim, latent, hidden, layers=layers, **given)

    def layer(self, place: int) -> dist.ConditionalTransformModule:
        half = self.latent // 2
        net = self.network(ConditionalDenseNN, half, [self.latent - half] * 2)
        return T.ConditionalAffineCoupling(half, net)


class NeuralSpline(Flow):
    """Autoregressive spline flow: T_d(ε) is a monotone rational spline of ε_d on [−4, 4], and the identity beyond.

    The knots are functions of ε_1 … ε_{d−1}. A draw takes one pass. The density at another z takes k passes, where k
    is the size of z.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        hidden: Widths of the hidden layers of the encoder.
        layers: How many splines are composed.
        bins: Pieces of each spline.
        **given: As for `Flow`.

    References:
        Durkan et al. (2019). Neural spline flows.
        Dolatabadi, Erfani & Leckie (2020). Invertible generative modeling using linear rational splines.
    """

    def __init__(self, dim: int, latent: int, hidden: Sequence[int] = (200, 200), *, bins: int = 8, **given: Any):
        super().__init__(dim, latent, hidden, bins=bins, **given)

    def layer(self, place: int) -> dist.ConditionalTransformModule:
        bins, order = self.sizes["bins"], torch.arange(self.latent)
        params = [bins, bins, bins - 1, bins]
        net = self.network(ConditionalAutoRegressiveNN, self.latent, params, permutation=order)
        return T.ConditionalSplineAutoregressive(self.latent, net, count_bins=bins, bound=4.0)
