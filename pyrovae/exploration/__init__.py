"""The arrays behind pictures of one trained pair: what a figure shows is computed here, and `plots` only draws it.

`latent_space` is the continuous latents of a pair as plain vectors, which the others build on. `reconstruction` passes points
through the guide and the model. `grids` varies one or two latents, and `paths` goes from point to point. `encoding`
places points in the latent space. `components` takes a mixture or a linear model apart. `point_posterior` compares
q(z|x) with p(z|x) of one point. `generation` draws new x. `decoder_layers` takes
a decoder out of PyTorch.

All functions take a pair and points (N, D), and return tensors on the CPU. Numbers about log p(x) belong in `evaluation`, and
those about the use of latents in `diagnostics`. To add a picture: write its arrays here, and its drawing in `plots`.
"""

from .components import Components, take_apart
from .encoding import Ellipses, Encodings, ellipses, encode
from .generation import Generated, generate
from .grids import Manifold, Traversals, manifold, traverse
from .latent_space import LatentSpace
from .paths import Analogy, Interpolation, analogy, interpolate
from .plain_decoder import DecoderLayers, decoder_layers
from .point_posterior import DrawnPosterior, GridPosterior, posterior_of_point
from .reconstruction import Reconstruction, reconstruct

__all__ = [
    "Analogy",
    "Components",
    "DecoderLayers",
    "DrawnPosterior",
    "Ellipses",
    "Encodings",
    "Generated",
    "GridPosterior",
    "Interpolation",
    "LatentSpace",
    "Manifold",
    "Reconstruction",
    "Traversals",
    "analogy",
    "decoder_layers",
    "ellipses",
    "encode",
    "generate",
    "interpolate",
    "manifold",
    "posterior_of_point",
    "reconstruct",
    "take_apart",
    "traverse",
]
