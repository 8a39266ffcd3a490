"""Three kinds of models on continuous MNIST: a Gaussian and mixtures, PPCA and its mixtures, and a VAE, in nats and bits per pixel.

Pixels are dequantised, y = (pixel + u) / 256, and modelled as they are or as x = logit(α + (1 − 2α) y). Nats are of the space that is
modelled. Bits per pixel count the Jacobian, so that both spaces can be compared. MNIST is looked for in $PYROVAE_DATA.
"""

import torch
from protocols import density_lines, mean, split, trained_by_svi, two_sided_lines
from record import Recorder

import pyrovae
from pyrovae.data.transforms import Dequantise, Logit

recorder = Recorder(
    "mnist_continuous",
    "Three kinds of models on continuous MNIST",
    "none: models of this package in one table; the Gaussian in logit space stands in the table of Gaussians too",
    "nats an image in the space that is modelled, or bits a pixel",
    "dequantised; the first 50,000 images train, 10,000 validate; 10,000 test images where log p(x) is exact",
    alpha=1e-6,
    components=10,
    em_steps=5,
    latent=20,
    epochs=5,
    points=100,
    seed=0,
)


def images(space):
    """Training, validation and test images, and their transform."""
    transform = Dequantise(256) if space == "pixels" else Logit(256, recorder["alpha"])
    data = pyrovae.load_data("mnist", transform=transform, seed=recorder["seed"])
    return *split(data), data.test, data.transform


def exact_lines(name, space, model, validation, test, transform):
    """Both lines of a model that knows its log p(x). The validation images say which of several is the best."""
    with torch.no_grad():
        held_out, log_p = (
            (torch.cat([model.log_prob(part) for part in x.split(1000)])) for x in (validation.to(test), test)
        )
    note = f"validation images: {mean(held_out)[0]:.2f} nats"
    return density_lines(f"{space}, {name}", log_p, test, transform, note=note)


def gaussian(space):
    """The Gaussian of maximum likelihood, in double precision."""
    train, validation, test, transform = images(space)
    model = pyrovae.load("gaussian")(train.shape[1], floor=1e-9)[0].double()
    model.initialise(train.double())
    return exact_lines("one Gaussian", space, model, validation, test.double(), transform)


def ppca(space, latent):
    """PPCA at its maximum likelihood."""
    train, validation, test, transform = images(space)
    model, _ = pyrovae.load("ppca")(train.shape[1], latent=latent)
    model.initialise(train)
    return exact_lines(f"PPCA, {latent} latents", space, model, validation, test, transform)


def by_em(name, space, title, **options):
    """A mixture that some steps of EM have fitted."""
    train, validation, test, transform = images(space)
    model, _ = pyrovae.load(name)(train.shape[1], components=recorder["components"], **options)
    model.initialise(train)
    model.initialised.fill_(True)
    for _ in range(recorder["em_steps"]):
        recorder.check_budget()
        model.em_step(train)
    return exact_lines(title, space, model, validation, test, transform)


def mixture_ppca(space, latent):
    """A mixture of PPCAs."""
    return by_em("mixture_ppca", space, f"{recorder['components']} PPCAs, {latent} latents each", latent=latent)


def mixture(space, floor):
    """A mixture of Gaussians with full covariances."""
    return by_em("gmm", space, f"{recorder['components']} Gaussians, floor {floor:g}", floor=floor)


def vae(space):
    """784-200-200-latents and its mirror, tanh, with a mean and a variance for each pixel."""
    train, _, test, transform = images(space)
    model, guide = trained_by_svi("vae", train, recorder)
    name = f"{space}, VAE, {recorder['latent']} latents"
    return two_sided_lines(name, model, guide, test, recorder["points"], recorder["seed"], transform)


if __name__ == "__main__":
    rows = [(gaussian,), (ppca, 20), (ppca, 100), (vae,), (mixture_ppca, 20), (mixture, 0.1)]
    recorder.run([(function, space, *rest) for function, *rest in rows for space in ("pixels", "logit")])
