"""Make the pictures of README.md and of the documentation from embedded data: `python docs/make_figures.py`.

It trains the three default models on the digits, which takes about a minute, and writes docs/pictures/. Then it makes the gallery,
which takes a few minutes more.
"""

from pathlib import Path

import torch
from make_gallery import make_gallery
from matplotlib.figure import Figure

import pyrovae

PICTURES = Path(__file__).parent / "pictures"
SEED = 0
COUNT = 8  # pictures a column


def trained(name: str, data: pyrovae.Data, steps: int) -> object:
    """Return the trained model of a pair, with its own defaults."""
    torch.manual_seed(SEED)
    builder = pyrovae.load(name)
    model, guide = builder(data.dim, **getattr(builder.module, "PIXEL_OPTIONS", {}))  # as the command does
    settings = builder.recipe
    epochs = -(-steps // -(-len(data.train) // settings["batch_size"]))
    pyrovae.fit(model, guide, data.train, epochs=epochs, batch_size=settings["batch_size"], lr=settings["lr"])
    return model


def samples_beside_data() -> Figure:
    """Draw rows of digits: the data first, then draws of each model."""
    data = pyrovae.load_data("digits")
    rows = {"data": data.test[:COUNT]}
    for name, label in (("gmm", "mixture"), ("ppca", "PCA"), ("vae", "VAE")):
        model = trained(name, data, pyrovae.load(name).recipe["steps"])
        torch.manual_seed(SEED)
        rows[label] = pyrovae.sample(model, COUNT, data.test)
    figure = Figure(figsize=(COUNT * 0.62 + 0.9, len(rows) * 0.62), layout="constrained")
    axes = figure.subplots(len(rows), COUNT)
    for line, (label, points) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, data.transform.grey(points).reshape(-1, *data.shape), strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    return figure


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    samples_beside_data().savefig(PICTURES / "samples.png", dpi=110)
    make_gallery()
