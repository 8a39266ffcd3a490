"""Make the gallery and its pictures from embedded data: called by docs/make_figures.py.

It trains six models on the digits and one on iris, and writes docs/gallery.md and docs/pictures/gallery/.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

import pyrovae
from pyrovae import exploration, plots

DOCS = Path(__file__).parent
FOLDER = Path("pictures") / "gallery"
SEED = 0
COLOURS = 256  # of a picture, which is saved with a palette
POINT = 3  # whose posterior is drawn
HEAD = """# Gallery

Every picture is made by a command, and by a function of `pyrovae.plots` from the arrays of a function of `pyrovae.exploration`.
`python docs/make_figures.py` makes this page and its pictures from data that come with scikit-learn.

| question of the lecture | picture | command |
|---|---|---|
"""


@dataclass(frozen=True)
class Entry:
    """One picture with the question that it answers."""

    name: str
    title: str
    question: str
    command: str
    caption: str
    draw: Callable[[], Figure]


def trained(name: str, data: pyrovae.Data, epochs: int, **options: object) -> tuple:
    """A pair and its training."""
    torch.manual_seed(SEED)
    builder = pyrovae.load(name)
    model, guide = builder(data.dim, **options)
    recipe = {key: builder.recipe[key] for key in ("batch_size", "lr") if key in builder.recipe}
    return model, guide, pyrovae.fit(model, guide, data.train, epochs=epochs, seed=SEED, progress=False, **recipe)


def entries() -> Iterator[Entry]:
    """The pictures in the order of the lecture."""
    digits, iris = pyrovae.load_data("digits"), pyrovae.load_data("iris")
    x = digits.test
    mixture, its_guide, mixture_fit = trained("gmm", digits, 150, floor=0.1)
    pca, projection, _ = trained("pca", digits, 0)
    vae, encoder, vae_fit = trained("vae", digits, 150, latent=2, hidden=(100,))
    wide, wide_encoder, wide_fit = trained("vae", digits, 60, latent=8)
    ppca, exact_guide, _ = trained("ppca", iris, 100, latent=2)
    plain, its_encoder, _ = trained("autoencoder", digits, 100, latent=2, hidden=(100,))
    flat, its_posterior, _ = trained("ppca", digits, 50, latent=2)
    some = x[:24]
    four, two = (int((digits.test_labels == label).nonzero()[0]) for label in (4, 2))
    fits = {"gmm": mixture_fit, "vae, 2 latents": vae_fit, "vae, 8 latents": wide_fit}
    pairs = {"gmm": (mixture, its_guide), "vae, 2 latents": (vae, encoder), "vae, 8 latents": (wide, wide_encoder)}
    comparison = pyrovae.compare(pairs, x, num_samples=300)
    yield Entry(
        "components",
        "Mixture components",
        "What are the classes of a mixture?",
        "pyrovae show RUN components",
        "The means of the classes, the most probable first, their standard deviations, and to which class 24 digits belong.",
        lambda: plots.components(exploration.take_apart(mixture, its_guide, x), digits),
    )
    yield Entry(
        "directions",
        "Principal directions of a table",
        "Which columns vary together?",
        "pyrovae show RUN components",
        "The directions of probabilistic PCA on the flowers of iris, by the names of the columns.",
        lambda: plots.components(exploration.take_apart(ppca, exact_guide, iris.test), iris),
    )
    yield Entry(
        "reconstruct",
        "Reconstructions",
        "What do eight numbers keep of a picture?",
        "pyrovae show RUN reconstruct",
        "Digits, what PCA makes of them, and the difference, from the best to the worst.",
        lambda: plots.reconstructions(exploration.reconstruct(pca, projection, x), digits),
    )
    yield Entry(
        "training",
        "Training",
        "How do reconstruction and KL share the ELBO?",
        "pyrovae show RUN training",
        "The ELBO is the reconstruction minus the KL: the band between the curves. The diamond is the ELBO on held-out digits. The first epochs lie below the axes.",
        lambda: plots.training(vae_fit, comparison.evidence["vae, 2 latents"]),
    )
    yield Entry(
        "latent",
        "Latent space",
        "Where do the classes lie?",
        "pyrovae show RUN latent",
        "Posterior means of held-out digits, coloured by label, over contours of the prior. The model has not seen the labels.",
        lambda: plots.latent_scatter(exploration.encode(vae, encoder, x), digits.test_labels, digits.label_names),
    )
    yield Entry(
        "models",
        "Latent spaces side by side",
        "What does the prior do for an autoencoder?",
        "pyrovae show RUN latent --beside OTHER",
        "The same digits in the latent spaces of an autoencoder, a VAE and probabilistic PCA. An autoencoder has no prior.",
        lambda: plots.latent_scatters(
            {
                "autoencoder": exploration.encode(plain, its_encoder, x),
                "VAE": exploration.encode(vae, encoder, x),
                "PPCA": exploration.encode(flat, its_posterior, x),
            },
            digits.test_labels,
            digits.label_names,
        ),
    )
    yield Entry(
        "ellipses",
        "Guide and posterior of many points",
        "Where is the guide too narrow?",
        "pyrovae show RUN latent --ellipses 12",
        "Of twelve digits, the region with 90 % of q(z|x), and the same of the true posterior.",
        lambda: plots.latent_scatter(
            exploration.encode(vae, encoder, x),
            digits.test_labels,
            digits.label_names,
            exploration.ellipses(vae, encoder, x, list(range(0, 120, 10)), exploration.encode(vae, encoder, x).latents),
        ),
    )
    yield Entry(
        "manifold",
        "Manifold",
        "What lies between the classes?",
        "pyrovae show RUN manifold",
        "Decoded images on a grid over the two latents, spaced so that all steps are equally probable under the prior.",
        lambda: plots.manifold(exploration.manifold(vae, encoder, x, 16), digits),
    )
    yield Entry(
        "traverse",
        "Traversals",
        "What does each latent do?",
        "pyrovae show RUN traverse",
        "One latent varies in each row, the one with the largest KL first.",
        lambda: plots.traversals(exploration.traverse(wide, wide_encoder, x), digits),
    )
    yield Entry(
        "interpolate",
        "Interpolation",
        "Which way leads from one digit to another?",
        "pyrovae show RUN interpolate A B",
        "A straight line in the latent space, and the shortest path as the decoder measures length. Here both are equally long.",
        lambda: plots.interpolation(exploration.interpolate(vae, encoder, x, four, two), digits),
    )
    yield Entry(
        "analogy",
        "Analogy",
        "Does the latent space add up?",
        "pyrovae show RUN analogy A B C",
        "A is to B as C is to D. The latents of D are those of C plus the difference of B and A.",
        lambda: plots.analogy(exploration.analogy(wide, wide_encoder, x, 3, 8, 12), digits),
    )
    yield Entry(
        "samples",
        "Samples",
        "Does the model draw digits?",
        "pyrovae show RUN samples",
        "Draws look noisy because p(x|z) gives each pixel its own noise. The means leave it out.",
        lambda: plots.samples(exploration.generate(wide, x, 12, SEED), digits),
    )
    yield Entry(
        "posterior",
        "One posterior",
        "How good is the guide at one point?",
        "pyrovae show RUN posterior 3",
        "What the guide says of z for one digit, beside the true posterior.",
        lambda: plots.posterior(exploration.posterior_of_point(vae, encoder, x, POINT)),
    )
    yield Entry(
        "bound",
        "Bound over the number of draws",
        "How far is the ELBO from log p(x)?",
        "pyrovae evaluate RUN --bound-curve bound.png",
        "The bound rises from the ELBO towards log p(x). The mixture's guide is exact, so its curve is flat.",
        lambda: plots.bound_curves(comparison),
    )
    yield Entry(
        "pareto_k",
        "Weights of each point",
        "At how many points do a few draws carry the weight?",
        "pyrovae compare --out FOLDER",
        "k̂ of every held-out digit. Above the dashed line the bound from draws of the guide is too low.",
        lambda: plots.pareto_k_plot(comparison),
    )
    yield Entry(
        "gap",
        "Gaps",
        "Is the gap the family's or the network's?",
        "pyrovae gap RUN --out gap.png",
        "The part of the gap that no Gaussian guide avoids, and the part that a better encoder would save.",
        lambda: plots.gap_bars(
            {
                "vae, 2 latents": pyrovae.gap(vae, encoder, some, progress=False),
                "vae, 8 latents": pyrovae.gap(wide, wide_encoder, some, progress=False),
            }
        ),
    )
    yield Entry(
        "evidence",
        "Comparison",
        "Which model is better, and can the number be believed?",
        "pyrovae compare --out FOLDER",
        "Log p(x), ELBO and gap of each model. Hollow marks are only lower bounds.",
        lambda: plots.evidence_plot(comparison),
    )
    yield Entry(
        "differences",
        "Paired differences",
        "Is the difference more than chance?",
        "pyrovae compare --out FOLDER",
        "The difference of each model to the best on the same digits. A bar that misses 0 shows a difference.",
        lambda: plots.difference_plot(comparison),
    )
    yield Entry(
        "choice",
        "Choice of the number of components",
        "How many components do the data support?",
        "pyrovae choose gmm --over components=1,2,3,5,8 --data iris",
        "Held-out log p(x) and the BIC. Rings are about the values that cannot be told from the best.",
        lambda: plots.choice_plot(
            pyrovae.choose(pyrovae.load("gmm"), {"components": [1, 2, 3, 5, 8]}, iris.train, folds=5)
        ),
    )
    yield Entry(
        "kl",
        "Latents in use",
        "Which latents does the model use?",
        "pyrovae diagnose RUN",
        "The KL of each latent. One with a KL near 0 carries nothing.",
        lambda: plots.kl_bars(pyrovae.diagnose(wide, wide_encoder, x)),
    )
    yield Entry(
        "aggregate",
        "Encodings and prior",
        "Do the encodings fill the prior?",
        "pyrovae diagnose RUN",
        "Encodings over the prior, and how near draws of the prior are to encodings. Draws in the grey part are in holes.",
        lambda: plots.aggregate_and_prior(pyrovae.diagnose(vae, encoder, x)),
    )
    yield Entry(
        "curves",
        "Learning curves",
        "Does the model learn by heart?",
        "pyrovae compare --out FOLDER",
        "The training ELBO of each model, with the held-out ELBO after its end. The VAEs' first epochs lie below the axes.",
        lambda: plots.learning_curves(fits, comparison.evidence),
    )


def save(figure: Figure, path: Path) -> None:
    """Write a small PNG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=100, bbox_inches="tight", pad_inches=0.08)
    Image.open(file).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def make_gallery() -> None:
    """Write the page and its pictures."""
    (DOCS / FOLDER).mkdir(parents=True, exist_ok=True)
    table, sections = [], []
    for entry in entries():
        picture = FOLDER / f"{entry.name}.png"
        save(entry.draw(), DOCS / picture)
        place = entry.title.lower().replace(" ", "-")
        table.append(f"| {entry.question} | [{entry.title}](#{place}) | `{entry.command}` |\n")
        sections.append(f"\n## {entry.title}\n\n{entry.caption}\n\n![{entry.caption}]({picture.as_posix()})\n")
    (DOCS / "gallery.md").write_text(HEAD + "".join(table) + "".join(sections), encoding="utf-8")
