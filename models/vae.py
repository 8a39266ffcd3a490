"""Variational autoencoder: z ~ p(z), x|z ~ p(x | η = decoder(z)), with p(z) = N(0, I) or another prior.

No exact log p(x): the gap between ELBO and log p(x) is what the evidence measures (Kingma & Welling 2014). Where entries of x are
missing, all bounds are of the observed entries (Mattei & Frellsen 2019).
"""

import pyro
from torch import Tensor, nn

import pyrovae

TRAINING_DEFAULTS = {"steps": 3600, "batch_size": 128, "lr": 2e-3}


class VAE(pyrovae.nn.DecoderModel):
    """z ~ prior, x|z ~ likelihood(decoder(z) + offset)."""

    handles_missing = True  # p(x|z) is of the observed entries, and the encoder sees 0 for the others

    def __init__(
        self,
        decoder: nn.Module,
        latent: int,
        dim: int,
        likelihood: pyrovae.likelihoods.Likelihood,
        prior: pyrovae.priors.Prior | None = None,
    ):
        """Make the model.

        Args:
            decoder: Any module from (B, latent) to (B, likelihood.num_outputs(dim)).
            latent: k, the size of z.
            dim: D, the size of one point x.
            likelihood: p(x|z).
            prior: p(z), bound to the pair; N(0, I_k) if not given.
        """
        super().__init__(decoder, likelihood, dim)
        self.latent = latent
        self.prior = prior if prior is not None else pyrovae.priors.StandardNormal().bind(dim, latent, None)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", pyrovae.distributions.observed(self.decode(z), x), obs=x)

    def initialise(self, x: Tensor) -> None:
        """Begin at the data's moments, and the prior where the data suggest."""
        super().initialise(x)
        self.prior.start(x)


def pair(
    dim: int,
    latent: int = 16,
    hidden: tuple[int, ...] = (200, 200),
    likelihood: pyrovae.likelihoods.Likelihood | None = None,
    guide: type = pyrovae.guides.MeanField,
    prior: type | pyrovae.priors.Prior = pyrovae.priors.StandardNormal,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    image_shape: tuple[int, ...] | None = None,
) -> tuple[VAE, nn.Module]:
    """Build the model and its guide, with networks of tanh layers.

    Args:
        dim: D, the size of one point x.
        latent: k, the size of z.
        hidden: Widths of the hidden layers.
        likelihood: One of `pyrovae.likelihoods`: PixelNormal() by default, Bernoulli() for binary x,
            LogisticMixture(levels) for levels.
        guide: MeanField, FullCovariance or any other for R^k.
        prior: StandardNormal, MixtureOfGaussians, VampPrior or FlowPrior, or such an object, `VampPrior(100)`.
        encoder: A module from x to the outputs of the guide, in place of the default network.
        decoder: A module from z to the outputs of the likelihood, in place of the default network: `ConvDecoder((8,
            8), 16, 2)`.
        image_shape: Height and width of an image, and 3 for colours: both networks are then convolutional. `28,28`.
    """
    likelihood = likelihood or pyrovae.likelihoods.PixelNormal()
    if image_shape and decoder is None:
        decoder = pyrovae.nn.ConvDecoder.of(image_shape, latent, likelihood, dim)
    decoder = decoder or pyrovae.MLP(latent, *reversed(hidden), likelihood.num_outputs(dim))
    q = guide(dim, latent, hidden, encoder=encoder) if encoder is not None else guide(dim, latent, hidden)
    if image_shape and encoder is None:
        if not isinstance(q, pyrovae.guides.Amortised):
            raise pyrovae.InvalidInputError(
                f"{guide.__name__} has no encoder to be convolutional: leave image_shape out."
            )
        q.encoder = pyrovae.nn.ConvEncoder(image_shape, q.num_outputs(latent, **q.sizes))
    p_z = prior if isinstance(prior, pyrovae.priors.Prior) else prior()
    return VAE(decoder, latent, dim, likelihood, p_z.bind(dim, latent, q)), q
