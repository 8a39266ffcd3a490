"""Figures with numbers: the numbers are those of the result, and a mark is hollow where log p̂(x) is only a lower bound."""

import math
from dataclasses import replace

import pytest
import torch
from matplotlib.colors import to_hex

import pyrovae
from pyrovae import InvalidInputError, plots
from pyrovae.plots.style import COLOURS
from pyrovae.training.result import FitResult

HOLLOW = "#ffffff"


@pytest.fixture(scope="module")
def comparison():
    """Two models that can be told apart; of the second only a lower bound is known."""
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    pairs = {"gaussian": pyrovae.load("gaussian")(3), "vae": pyrovae.load("vae")(3, latent=1, hidden=(4,))}
    found = pyrovae.compare(pairs, x, num_samples=50)
    doubtful = replace(found.evidence["vae"], shortfall=torch.full((40,), math.inf))
    return replace(found, evidence={"gaussian": found.evidence["gaussian"], "vae": doubtful})


def marks(axes):
    """Where each mark of one point is, and its filling."""
    return {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])): to_hex(line.get_markerfacecolor())
        for line in axes.lines
        if len(line.get_xdata()) == 1 and line.get_marker() == "o"
    }


def test_differences_are_paired_and_have_both_errors(comparison):
    (axes,) = plots.difference_plot(comparison).axes
    best, worst = comparison.best, next(name for name in comparison.evidence if name != comparison.best)
    difference = comparison.difference(worst, best)
    place = list(comparison.evidence).index(worst)
    found = marks(axes)
    assert found[difference.value, place] == HOLLOW
    (bar,) = [c for c in axes.collections if len(c.get_segments()) and c.get_segments()[0][0][1] == place]
    (left, right) = (float(end[0]) for end in bar.get_segments()[0])
    assert right - left == pytest.approx(4 * math.hypot(difference.mc_se, difference.data_se))
    assert found[0.0, 1 - place] == (HOLLOW if best == "vae" else COLOURS[1 - place].lower())


def test_a_hollow_end_of_a_bound_is_named_in_the_legend(comparison):
    (axes,) = plots.bound_curves(comparison).axes
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    assert to_hex(named["log p̂(x), a lower bound"].get_markerfacecolor()) == HOLLOW
    alone = replace(comparison, evidence={"gaussian": comparison.evidence["gaussian"]})
    assert "log p̂(x), a lower bound" not in plots.bound_curves(alone).axes[0].get_legend_handles_labels()[1]


def test_a_number_has_the_minus_sign_of_its_axis(comparison):
    texts = [text.get_text() for text in plots.evidence_plot(comparison).axes[0].texts]
    values = [evidence.mean_log_likelihood.value for evidence in comparison.evidence.values()]
    assert max(values) < 0
    assert texts == [f"−{-value:.2f}" for value in values]


def test_pareto_k_is_that_of_every_point_beside_its_limit(comparison):
    (axes,) = plots.pareto_k_plot(comparison).axes
    curve, limit = axes.lines  # the gaussian's weights do not vary
    evidence = comparison.evidence["vae"]
    torch.testing.assert_close(
        torch.as_tensor(curve.get_ydata()), evidence.pareto_k.double().sort().values.clamp(min=-0.5)
    )
    assert limit.get_ydata()[0] == evidence.pareto_k_threshold
    assert f"{evidence.high_pareto_k_fraction:.0%}" in curve.get_label()
    assert to_hex(curve.get_color()) == COLOURS[1].lower()  # as in the other figures of the comparison


def test_weights_that_do_not_vary_have_no_figure(comparison):
    alone = replace(comparison, evidence={"gaussian": comparison.evidence["gaussian"]})
    with pytest.raises(InvalidInputError, match="weights must vary"):
        plots.pareto_k_plot(alone)


def test_a_curve_has_its_models_colour_where_another_has_no_curve(comparison):
    history = [{"elbo": -1.0, "validation_elbo": math.nan}]
    (axes,) = plots.learning_curves({"vae": FitResult(losses=[1.0], history=history)}, comparison.evidence).axes
    assert to_hex(axes.lines[0].get_color()) == COLOURS[1].lower()


@pytest.mark.parametrize("reliable", [True, False])
def test_the_end_of_a_gap_is_hollow_where_log_p_is_a_lower_bound(reliable):
    model, guide = pyrovae.load("ppca")(3, latent=1)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    result = pyrovae.gap(model, guide, x, num_samples=20)
    if not reliable:
        result = replace(result, shortfall=torch.full((6,), math.inf))
    axes = plots.gap_bars({"ppca": result}).axes[0]
    end = result.mean_approximation.value + result.mean_amortisation.value
    (filling,) = [face for (where, place), face in marks(axes).items() if (where, place) == pytest.approx((end, 0.0))]
    assert (filling == HOLLOW) is not reliable
    labels = axes.get_legend_handles_labels()[1]
    assert ("log p̂(x), a lower bound" in labels) is not reliable


def test_the_gaps_of_two_models_points_are_on_one_scale():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    result = pyrovae.gap(*pyrovae.load("ppca")(3, latent=1), x, num_samples=20)
    larger = replace(result, weighted=result.weighted + 5, refined=result.refined + 5)
    _, *panels = plots.gap_bars({"one": result, "other": larger}).axes
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_a_choice_has_hollow_marks_for_lower_bounds_and_rings_for_ties():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    choice = pyrovae.choose(pyrovae.load("gmm"), {"components": [1, 2]}, x, 20, training={"epochs": 2})
    doubtful = replace(choice.candidates["2"], shortfall=torch.full((12,), math.inf))
    choice = replace(choice, candidates={**choice.candidates, "2": doubtful})
    axes = plots.choice_plot(choice).axes[0]
    shown = {line.get_label(): line for line in axes.lines}
    values = [row["log_likelihood"] for row in choice.rows()]
    assert list(shown["held out"].get_ydata()) == values[:1]
    assert list(shown["held out, a lower bound"].get_ydata()) == values[1:]
    assert to_hex(shown["held out, a lower bound"].get_markerfacecolor()) == HOLLOW
    assert to_hex(shown["held out"].get_markerfacecolor()) == COLOURS[0].lower()
    members = [row["log_likelihood"] for row in choice.rows() if row["in_best_set"]]
    assert list(shown["cannot be told from the best"].get_ydata()) == members
    assert shown["best"].get_xdata()[0] == list(choice.candidates).index(choice.best)
    assert "bars: error of the difference to the best" in axes.get_ylabel()
