"""What figures show: plotted numbers against the arrays that they come from."""

import math
from dataclasses import replace

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import pyrovae
from pyrovae import exploration, plots
from pyrovae.data.datasets import load_data
from pyrovae.plots.pictures import View, draw_images, grid
from pyrovae.plots.style import COLOURS
from pyrovae.training.result import FitResult


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def iris():
    return load_data("iris")


@pytest.fixture(scope="module")
def ppca(digits):
    model, guide = pyrovae.load("ppca")(64, latent=2)
    pyrovae.fit(model, guide, digits.train[:], epochs=0)
    return model, guide


def pixels(axes, place=0):
    """The numbers of a drawn picture, NaN on its frames."""
    return torch.as_tensor(axes.images[place].get_array().filled(math.nan))


def test_a_grid_has_every_pixel_of_every_image_and_a_frame_about_each():
    images = torch.rand(5, 6)
    page, (height, width) = grid(images, (2, 3), 3)
    scale = (width - 1) // 3
    assert (height - 1) // 2 == scale
    for number, image in enumerate(images):
        top, left = 1 + number // 3 * height, 1 + number % 3 * width
        cell = page[top : top + height - 1, left : left + width - 1]
        torch.testing.assert_close(cell[::scale, ::scale], image.reshape(2, 3))
        assert bool(page[top - 1, left - 1 : left + width].isnan().all())
    assert bool((page[1 + height :, 2 * width + 1 :] == 0).all())  # no sixth image, and no frame about it


def test_pictures_of_a_table_are_in_standard_deviations(iris):
    x = iris.test[:4]
    (drawn,) = View(iris, x).groups
    train = iris.train[:]
    torch.testing.assert_close(drawn, (x - train.mean(0)) / train.std(0))


def test_reconstructions_show_data_reconstruction_and_difference(digits, ppca):
    result = exploration.reconstruct(*ppca, digits.test)
    figure = plots.reconstructions(result, digits, count=3)
    data, reconstructed, difference = (pixels(axes) for axes in figure.axes)
    torch.testing.assert_close(difference, data - reconstructed, equal_nan=True)  # NaN on the frames
    errors = sorted(result.squared_error.tolist())
    labels = [float(label.get_text()) for label in figure.axes[2].get_xticklabels()]
    assert labels == pytest.approx([errors[0], errors[179], errors[-1]], abs=5e-4)
    assert f"{result.mean_squared_error:.4f}" in figure.axes[2].get_xlabel()
    best = int(result.squared_error.argmin())
    scale = (data.shape[0] - 2) // 8
    torch.testing.assert_close(data[1::scale, 1::scale][:8, :8], digits.test[best].reshape(8, 8))


def test_a_manifold_has_its_values_on_the_axes(digits, ppca):
    result = exploration.manifold(*ppca, digits.test, size=5)
    (axes,) = plots.manifold(result, digits).axes
    for labels, values in ((axes.get_xticklabels(), result.across), (axes.get_yticklabels(), result.up)):
        texts = [label.get_text() for label in labels]
        assert not any("-" in text for text in texts)  # a minus sign, as the axes of other figures have
        assert [float(text.replace("−", "-")) for text in texts] == pytest.approx(values.tolist(), abs=0.051)
    assert axes.get_xlabel() == result.names[0]
    first = pixels(axes)[1:, 1:][:28:4, :28:4]
    torch.testing.assert_close(first[:7, :7], digits.transform.grey(result.decoded[0, 0]).reshape(8, 8)[:7, :7])


def test_a_scatter_has_each_point_where_its_mean_is(digits, ppca):
    result = exploration.encode(*ppca, digits.test)
    (axes,) = plots.latent_scatter(result, digits.test_labels, digits.label_names).axes
    groups = axes.collections[:10]
    for label, group in enumerate(groups):
        own = result.means[digits.test_labels == label]
        torch.testing.assert_close(torch.as_tensor(group.get_offsets().data).float(), own)
    assert {text.get_text() for text in axes.texts} == set(map(str, range(10)))
    border = axes.collections[10]  # the prior's contours
    radii = sorted(float(torch.as_tensor(path.vertices).norm(dim=1).mean()) for path in border.get_paths())
    expected = [math.sqrt(-2 * math.log(1 - mass)) for mass in (0.5, 0.9)]
    assert radii == pytest.approx(expected, abs=0.02)  # circles, not dented
    for path in border.get_paths():
        assert float(torch.as_tensor(path.vertices).norm(dim=1).std()) < 0.01


def test_a_scatter_of_many_points_has_5000_of_them(iris):
    means = torch.randn(100_000, 2)
    result = exploration.Encodings(("z[0]", "z[1]"), (0, 1), 2, means, means, False, None)
    (axes,) = plots.latent_scatter(result).axes
    assert len(axes.collections[0].get_offsets()) == 5000


def test_labels_that_do_not_fit_and_nothing_to_draw_are_refused(digits, ppca):
    encodings = exploration.encode(*ppca, digits.test)
    with pytest.raises(pyrovae.InvalidInputError, match=r"359 points, and the labels have the shape \(7,\)"):
        plots.latent_scatter(encodings, digits.test_labels[:7])
    with pytest.raises(pyrovae.InvalidInputError, match="give whole numbers from 0"):
        plots.latent_scatter(encodings, digits.test_labels.float())
    for draw in (plots.latent_scatters, plots.gap_bars):
        with pytest.raises(pyrovae.InvalidInputError, match="give at least one"):
            draw({})


def test_one_latent_is_drawn_by_class():
    means = torch.tensor([[0.1], [0.5], [0.9]])
    result = exploration.Encodings(("z",), (0,), 1, means, means, False, None)
    (axes,) = plots.latent_scatter(result, torch.tensor([0, 1, 1]), ("no", "yes")).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no", "yes"]
    assert sorted(p for c in axes.collections for p in c.get_offsets()[:, 0]) == pytest.approx([0.1, 0.5, 0.9])


def test_ellipses_hold_nine_tenths(seed):
    torch.manual_seed(seed)
    mean, covariance = torch.zeros(1, 2).double(), torch.tensor([[[2.0, 0.6], [0.6, 0.5]]]).double()
    ovals = exploration.Ellipses((0,), mean, covariance, mean + 1, covariance)
    points = exploration.Encodings(("a", "b"), (0, 1), 2, torch.randn(5, 2), torch.randn(5, 2), False, None)
    (axes,) = plots.latent_scatter(points, ellipses=ovals).axes
    border = torch.as_tensor(axes.lines[0].get_xydata())
    inverse = torch.linalg.inv(covariance[0])
    distance = torch.einsum("nd,de,ne->n", border, inverse, border)
    torch.testing.assert_close(distance, torch.full_like(distance, -2 * math.log(0.1)))


def test_a_traversal_has_a_row_for_each_latent(digits, ppca):
    result = exploration.traverse(*ppca, digits.test, steps=3)
    figure = plots.traversals(result, digits)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        f"{name}\nKL {kl:.2f}" for name, kl in zip(result.names, result.kl.tolist(), strict=True)
    ]
    middle = pixels(figure.axes[0])[1:, 1 + 33 :][::4, ::4][:8, :8]  # cells are 33 wide: 8 pixels of 4, and a frame
    torch.testing.assert_close(middle, digits.transform.grey(result.decoded[0, 1]).reshape(8, 8))


def test_paths_have_their_lengths(digits, ppca):
    result = exploration.interpolate(*ppca, digits.test, 0, 1, steps=3)
    figure = plots.interpolation(result, digits)
    assert figure.axes[0].get_ylabel() == f"straight line\nlength {result.lengths[0]:.2f}"
    ends = pixels(figure.axes[0])[1:, 1:][::4, ::4]
    torch.testing.assert_close(ends[:8, :8], digits.test[0].reshape(8, 8))


def test_an_analogy_has_four_pictures(digits, ppca):
    result = exploration.analogy(*ppca, digits.test, 0, 1, 2)
    figure = plots.analogy(result, digits)
    assert pixels(figure.axes[0]).shape[1] == 3 * 33 + 1 or bool((pixels(figure.axes[0])[:, 3 * 33 + 1 :] == 0).all())
    last = pixels(figure.axes[1])[1:, 1 + 3 * 33 :][::4, ::4][:8, :8]
    torch.testing.assert_close(last, digits.transform.grey(result.decoded[3]).reshape(8, 8))


def test_directions_of_a_table_are_named_by_column(iris):
    model, guide = pyrovae.load("ppca")(4, latent=2)
    pyrovae.fit(model, guide, iris.train[:], epochs=0)
    result = exploration.take_apart(model, guide, iris.test)
    figure = plots.components(result, iris)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(iris.column_names)
    expected = (result.means / iris.train[:].std(0)).mT
    torch.testing.assert_close(pixels(axes), expected)


def test_a_mixture_has_its_weights_below_its_means(iris):
    model, guide = pyrovae.load("gmm")(4, components=3)
    pyrovae.fit(model, guide, iris.train[:], epochs=0)
    result = exploration.take_apart(model, guide, iris.test)
    figure = plots.components(result, iris)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    weights = zip(result.names, result.weights.tolist(), strict=True)
    assert labels == [f"{name}\n{weight:.0%}" for name, weight in weights]
    torch.testing.assert_close(pixels(figure.axes[2]), result.responsibilities[:24].mT)


def test_each_heat_map_of_a_mixture_says_what_its_colours_mean(iris):
    model, guide = pyrovae.load("gmm")(4, components=3)
    pyrovae.fit(model, guide, iris.train[:], epochs=0)
    figure = plots.components(exploration.take_apart(model, guide, iris.test), iris)
    panels, scales = figure.axes[:3], figure.axes[3:]
    assert [scale.get_ylabel() for scale in scales] == [
        "standard deviations\nfrom the mean",
        "standard deviations\nof the column",
        "probability",
    ]
    assert [scale.get_ylim() for scale in scales] == [panel.images[0].get_clim() for panel in panels]


def history(**columns):
    keys = ("loss", "elbo", "reconstruction", "kl", "validation_elbo")
    return [{key: float(columns.get(key, [math.nan] * 3)[k]) for key in keys} for k in range(3)]


def test_the_band_of_a_training_is_the_kl():
    fit = FitResult(
        losses=[9.0, 5.0, 4.0],
        history=history(elbo=[-9, -5, -4], reconstruction=[-8, -3, -1], validation_elbo=[-10, -6, -6]),
    )
    (axes,) = plots.training(fit).axes
    curves = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert curves["ELBO = reconstruction − KL"] == [-9, -5, -4]
    assert curves["reconstruction E[log p(x|z)]"] == [-8, -3, -1]
    assert curves["ELBO of points held out"] == [-10, -6, -6]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    low, high = axes.get_ylim()
    assert low < -10 < -1 < high


def test_a_training_without_epochs_is_refused():
    with pytest.raises(pyrovae.InvalidInputError, match="closed form"):
        plots.training(FitResult())


def test_an_objective_without_elbo_is_drawn_as_its_loss():
    (axes,) = plots.training(FitResult(losses=[3.0, 2.0, 1.0], history=history())).axes
    assert list(axes.lines[0].get_ydata()) == [-3, -2, -1]


def test_one_points_posterior_is_filled_where_its_mass_is(digits, ppca):
    result = exploration.posterior_of_point(*ppca, digits.test, 3)
    (axes,) = plots.posterior(result).axes
    border = torch.as_tensor(axes.collections[1].get_paths()[0].vertices)  # of q: 99 % inside
    model, _ = ppca
    posterior = model.posterior(digits.test[3:4])
    mean, covariance = posterior.mean[0].detach().double(), posterior.covariance_matrix[0].detach().double()
    centred = border - mean
    distance = torch.einsum("nd,de,ne->n", centred, torch.linalg.inv(covariance), centred)
    assert float(distance.mean()) == pytest.approx(-2 * math.log(0.01), rel=0.02)
    assert f"{max(result.kl, 0):.3f}" in axes.get_title()


def test_the_legend_of_a_flat_posterior_is_below_the_name_of_its_axis(digits, ppca):
    result = exploration.posterior_of_point(*ppca, digits.test, 3)
    across, up = result.axes
    p, q = (density + math.log(8) for density in (result.log_posterior, result.log_guide))
    figure = plots.posterior(replace(result, axes=(across, up / 8), log_posterior=p, log_guide=q))
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert axes.get_legend().get_window_extent().y1 <= axes.xaxis.label.get_window_extent().y0


def test_figures_draw_into_axes_that_they_are_given():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    fit = FitResult(losses=[3.0, 2.0, 1.0], history=history())
    assert plots.training(fit, axes=left) is figure
    assert plots.learning_curves({"a": fit}, axes=right) is figure
    assert len(left.lines) == len(right.lines) == 1


def test_a_model_has_one_colour_in_all_figures_of_a_comparison():
    fit = FitResult(losses=[3.0, 2.0, 1.0], history=history(elbo=[-3, -2, -1]))
    (axes,) = plots.learning_curves({"one": fit, "other": fit}).axes
    assert [to_hex(line.get_color()).upper() for line in axes.lines[:2]] == COLOURS[:2]


def test_a_note_stands_in_the_corner():
    figure = plots.note(plots.training(FitResult(losses=[1.0], history=history()[:1])), ("digits", "vae", "seed 3"))
    assert figure.texts[0].get_text() == "digits · vae · seed 3"


def test_rounding_errors_do_not_fill_an_axis(iris):
    """Of a guide that is exact: its gap is 0 but for rounding, and its bound is log p(x)."""
    model, guide = pyrovae.load("ppca")(4, latent=2)
    pyrovae.fit(model, guide, iris.train, epochs=0)
    comparison = pyrovae.compare({"ppca": (model, guide)}, iris.test, num_samples=10)
    assert comparison.evidence["ppca"].mean_gap.value < 1e-4
    bars = plots.evidence_plot(comparison).axes[1]
    assert bars.get_xlim() == (0, 0.1)
    low, high = plots.bound_curves(comparison).axes[0].get_ylim()
    assert high - low == pytest.approx(0.1)
    assert low < comparison.evidence["ppca"].mean("bound").value < high


def test_ranked_points_are_sorted_with_their_errors():
    """Each mark stands at its log p̂(x), each bar reaches two standard errors to both sides, and hollow marks are lower bounds."""
    model, guide = pyrovae.load("vae")(3, latent=1, hidden=(4,))
    evidence = pyrovae.evaluate(model, guide, 3 * torch.randn(40, 3), 30)
    figure = plots.ranking(evidence, torch.arange(40) + 7, ["a", "b"] * 20)
    left, right = figure.axes
    table = evidence.ranking(torch.arange(40) + 7, ["a", "b"] * 20)
    names = [tick.get_text() for tick in right.get_yticklabels()]
    assert names == [f"row {row} ({label})" for row, label in zip(table["row"][:8], table["label"][:8], strict=True)]
    for axes, count in ((left, 40), (right, 8)):
        found = {}
        for container in axes.containers:
            marks, _, (bars,) = container
            for x, y, bar in zip(*marks.get_data(), bars.get_segments(), strict=True):
                rank, value = (x, y) if axes is left else (y + 1, x)
                ends = bar[:, 1 if axes is left else 0]
                hollow = marks.get_markerfacecolor() == "white"
                found[int(rank)] = (value, ends, hollow)
        assert sorted(found) == list(range(1, count + 1))
        for rank, (value, ends, hollow) in found.items():
            point = table.iloc[rank - 1]
            assert value == point["log_likelihood"]
            assert ends[1] - ends[0] == pytest.approx(4 * point["log_likelihood_se"])
            assert hollow == (point["reliability"] != "reliable")
    some_hollow = (table["reliability"][:8] != "reliable").any()
    named = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert named == (["reliable", "a lower bound, or no estimate"] if some_hollow else [])


def test_images_in_colours_are_drawn_as_they_are():
    """With a grey frame about each; values about 0 as their mean over the colours."""
    images, figure = torch.rand(3, 2 * 3 * 3), Figure()
    axes = figure.subplots(2)
    draw_images(axes[0], images, (2, 3, 3), 2)
    drawn = torch.as_tensor(axes[0].images[0].get_array())
    scale = (drawn.shape[1] - 3) // 6
    assert drawn.shape[2] == 3
    torch.testing.assert_close(drawn[1 : 1 + 2 * scale : scale, 1 : 1 + 3 * scale : scale], images[0].reshape(2, 3, 3))
    assert (drawn[0] == 0.75).all()
    draw_images(axes[1], images - 0.5, (2, 3, 3), 2, signed_limit=0.5)
    mean = (images[0] - 0.5).reshape(2, 3, 3).mean(-1)
    torch.testing.assert_close(pixels(axes[1])[1 : 1 + 2 * scale : scale, 1 : 1 + 3 * scale : scale], mean)


def test_the_middle_of_a_long_name_is_left_out():
    """The paths of runs leave room for the axes; the end, by which they differ, stays."""
    assert pyrovae.plots.style.short_name("vae") == "vae"
    paths = [f"/a/folder/in/another/folder/with/more/than/one/run/{run}" for run in "ab"]
    short = [pyrovae.plots.style.short_name(path) for path in paths]
    assert [len(name) for name in short] == [37, 37]
    assert [name[-4:] for name in short] == ["un/a", "un/b"]


def test_a_curve_that_leaves_the_axes_is_said_to():
    figure = plots.style.new_figure((4, 3))
    axes = figure.subplots()
    axes.plot([1, 2, 3], [-500.0, -10.0, -9.0])
    plots.style.zoom(axes, [-10.0, -9.0], 0.1)
    assert axes.get_ylim() == pytest.approx((-10.1, -8.9))
    assert [text.get_text() for text in axes.texts] == ["The first epochs lie below, from −500"]
    whole = figure.add_subplot()
    whole.plot([1, 2], [-10.0, -9.0])
    plots.style.zoom(whole, [-10.0, -9.0], 0.1)
    assert not whole.texts
