"""What the script of the page needs to show a latent space: a decoder, or a grid that was decoded beforehand, and points."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.datasets import Data
from ..data.transforms import Identity, Logit
from ..errors import InvalidInputError
from ..exploration import DecoderLayers, LatentSpace, decoder_layers, manifold
from ..missing import any_missing, fill_missing
from ..nn import column_moments
from ..pair.execution import ModelOrGuide

MAX_WEIGHTS = 210_000  # of the decoders that the page computes itself: about 1.1 MB
MAX_POINTS = 300  # that lie in the plane
MAX_IMAGE_NUMBERS = 120_000  # of all points together
MAX_SLIDERS = 10
GRID = 15  # values of each latent, where the decoder is too large for the page
EDGE = 0.001  # probability of the prior below the lowest value of a slider


def pack(
    name: str, model: ModelOrGuide, guide: ModelOrGuide, data: Data, max_weights: int = MAX_WEIGHTS
) -> dict[str, Any] | None:
    """Pack one pair for the page.

    Args:
        name: What the model is called.
        model: The model.
        guide: Its guide.
        data: The data set, whose held-out points are encoded.
        max_weights: How many weights a decoder may have that is computed in the page.

    Returns:
        Values for JSON, arrays as base64 text; None where the pair has no latent space of 2 or more dimensions, and for
        images in colours.
    """
    if data.shape is not None and len(data.shape) > 2:
        return None
    count = max(2, min(MAX_POINTS, MAX_IMAGE_NUMBERS // data.dim, len(data.test)))
    x = data.test[:count]
    try:
        space = LatentSpace(model, guide, x)
        if space.size < 2:
            return None
        order, codes = space.order(x), space.encode(x).cpu()
    except InvalidInputError:  # a discrete latent, or none
        return None
    values, source = space.quantiles(torch.tensor([EDGE, 0.5, 1 - EDGE]))
    low, high = torch.minimum(values[0], codes.min(0).values), torch.maximum(values[2], codes.max(0).values)
    kl = space.kl()
    labels = data.test_labels
    packed = {
        "name": name,
        "latents": list(space.names),
        "order": order[:MAX_SLIDERS],
        "kl": [None if value != value else round(value, 4) for value in kl.tolist()],
        "low": low.tolist(),
        "high": high.tolist(),
        "start": values[1].tolist(),
        "source": source,
        "points": {"z": pack_floats(codes), "count": count, "x": _pack_view(x.cpu(), data)},
        "labels": None if labels is None else labels[:count].tolist(),
        "label_names": list(data.label_names),
        "view": _view(data),
    }
    layers = decoder_layers(space) if len(space.shapes) == 1 else None
    if layers is not None and layers.num_weights <= max_weights:
        return {**packed, "kind": "network", "layers": pack_layers(layers)}
    result = manifold(model, guide, x, GRID)
    grid = {
        "across": result.across.tolist(),
        "up": result.up.tolist(),
        "x": _pack_view(result.decoded.flatten(0, 1), data),
    }
    return {**packed, "kind": "grid", "grid": grid, "order": order[:2]}


def pack_layers(layers: DecoderLayers) -> list[dict[str, Any]]:
    """The layers with their weights as base64 text, row by row."""
    parts = zip(layers.weights, layers.biases, layers.activations, strict=True)
    return [
        {"weight": pack_floats(weight), "bias": pack_floats(bias), "activation": activation}
        for weight, bias, activation in parts
    ]


def pack_floats(values: Tensor) -> str:
    """Single-precision numbers, the lowest byte first, as base64 text."""
    return base64.b64encode(values.detach().numpy().astype("<f4").tobytes()).decode()


def _pack_view(x: Tensor, data: Data) -> str:
    """Images as bytes of grey levels, 255 for 1; columns as single-precision numbers. Missing entries are at their column's mean."""
    if any_missing(x):
        x = fill_missing(x, column_moments(data.train[:])[0].to(x))
    if data.shape is None:
        return pack_floats(x)
    return base64.b64encode((255 * data.transform.grey(x)).round().numpy().astype(np.uint8).tobytes()).decode()


def _view(data: Data) -> Mapping[str, Any]:
    """How x is shown: grey levels of an image, or columns in units of their standard deviations."""
    if data.shape is None:
        train = data.train[:].cpu()
        names = data.column_names or tuple(f"column {j}" for j in range(data.dim))
        mean, sd = column_moments(train)
        return {"columns": list(names), "mean": mean.tolist(), "sd": sd.tolist()}
    view: dict[str, Any] = {"shape": list(data.shape), "grey": "clamp"}
    if isinstance(data.transform, Logit):
        view |= {"grey": "logit", "alpha": data.transform.alpha}
    elif isinstance(data.transform, Identity):
        seen = data.test[~data.test.isnan()]
        view |= {"grey": "linear", "low": float(seen.min()), "high": float(seen.max())}
    return view
