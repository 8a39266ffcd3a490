"""A decoder as plain layers, which a program without PyTorch can compute."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .latent_space import LatentSpace

ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "Sigmoid": "sigmoid"}
FUNCTIONS = {
    "none": lambda h: h,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": nn.functional.elu,
    "sigmoid": torch.sigmoid,
}
CHECKS = 64  # values of z at which layers must agree with the pair
RADIUS = 2.0  # standard deviation of these values
SAME = 1e-5  # largest difference, relative to the largest x


@dataclass(frozen=True)
class DecoderLayers:
    """E[x|z] = f_L(W_L … f_1(W_1 z + b_1) … + b_L). Tensors on the CPU."""

    weights: tuple[Tensor, ...]  # (outputs, inputs) each
    biases: tuple[Tensor, ...]  # (outputs,) each
    activations: tuple[str, ...]  # "none", "tanh", "relu", "elu" or "sigmoid"

    def __call__(self, z: Tensor) -> Tensor:
        """(M, latents) → (M, D)."""
        for weight, bias, activation in zip(self.weights, self.biases, self.activations, strict=True):
            z = FUNCTIONS[activation](z @ weight.mT + bias)
        return z

    @property
    def num_weights(self) -> int:
        return sum(part.numel() for part in (*self.weights, *self.biases))


def decoder_layers(space: LatentSpace) -> DecoderLayers | None:
    """The layers of a pair whose E[x|z] is linear, or comes from an `MLP` named `decoder`.

    Args:
        space: The latent space of the pair.

    Returns:
        The layers, after a check against E[x|z] of the pair itself at 64 values of z; None where the decoder is of another kind.
    """
    generator = torch.Generator().manual_seed(0)
    z = (RADIUS * torch.randn(CHECKS, space.size, generator=generator)).to(space.like.dtype)
    with torch.no_grad():
        expected = space.decode(z.to(space.like)).flatten(1).cpu()
        for layers in _candidates(space, expected.shape[1]):
            if float((layers(z) - expected).abs().max()) <= SAME * (1 + float(expected.abs().max())):
                return layers
    return None


def _candidates(space: LatentSpace, dim: int) -> Iterator[DecoderLayers]:
    """What the decoder may be. Which of them it is, if any, is for a check to say."""
    steps = torch.cat([torch.zeros(1, space.size), torch.eye(space.size)]).to(space.like)
    decoded = space.decode(steps).flatten(1).cpu()
    yield DecoderLayers(((decoded[1:] - decoded[0]).mT.contiguous(),), (decoded[0],), ("none",))
    net = getattr(space.model, "decoder", None)
    if not isinstance(net, nn.Sequential) or not len(net):
        return
    weights, biases, activations = [], [], []
    for layer in net:
        if isinstance(layer, nn.Linear):
            weights.append(layer.weight.detach().cpu())
            biases.append(torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().cpu())
            activations.append("none")
        elif type(layer).__name__ in ACTIVATIONS and activations and activations[-1] == "none":
            activations[-1] = ACTIVATIONS[type(layer).__name__]
        else:
            return
    offset = getattr(space.model, "offset", None)
    if weights[0].shape[1] != space.size or activations[-1] != "none" or len(biases[-1]) < dim:
        return
    if isinstance(offset, Tensor) and offset.shape == biases[-1].shape:
        biases[-1] = biases[-1] + offset.detach().cpu()
    weights[-1], biases[-1] = weights[-1][:dim], biases[-1][:dim]  # the outputs behind are variances
    for last in ("none", "sigmoid"):
        yield DecoderLayers(tuple(weights), tuple(biases), (*activations[:-1], last))
