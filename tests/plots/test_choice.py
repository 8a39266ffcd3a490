"""The figure of a choice shows the numbers of the choice."""

import pytest
import torch

import pyrovae


@pytest.mark.parametrize("name", ["gmm", "vae"])
def test_the_figure_shows_every_value(name: str) -> None:
    """Held-out and training means, and the BIC where there is one."""
    option, build = ("components", pyrovae.load("gmm")) if name == "gmm" else ("latent", small_vae)
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    choice = pyrovae.choose(build, {option: [1, 2, 3]}, x, 20, training={"epochs": 2})
    rows = choice.rows()
    figure = pyrovae.plots.choice_plot(choice)
    training, held_out = figure.axes[0].lines[:2]
    assert list(training.get_ydata()) == [row["train_log_likelihood"] for row in rows]
    assert list(held_out.get_ydata()) == [row["log_likelihood"] for row in rows]
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == ["1", "2", "3"]
    assert figure.axes[-1].get_xlabel() == option
    assert len(figure.axes) == (2 if name == "gmm" else 1)
    if name == "gmm":
        least = min(row["bic"] for row in rows)
        assert list(figure.axes[1].lines[0].get_ydata()) == [row["bic"] - least for row in rows]


def small_vae(dim: int, latent: int):
    return pyrovae.load("vae")(dim, latent=latent, hidden=(4,))
