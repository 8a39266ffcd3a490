"""What a notebook shows of a result: its numbers, a verdict and a figure; and the DataFrame of a comparison."""

import pytest
import torch

import pyrovae
from pyrovae import FitResult, choose, compare, fit, load, load_data
from pyrovae.evaluation.comparison import Comparison
from pyrovae.utils.notebook import RENDERERS, ShownAsHTML

PICTURE = "data:image/png;base64,"


@pytest.fixture(scope="module")
def fitted() -> tuple[Comparison, FitResult]:
    data = load_data("iris")
    pairs = {"ppca": load("ppca")(4, latent=2), "vae<b>": load("vae")(4, latent=2, hidden=(4,))}
    torch.manual_seed(0)
    results = {name: fit(*pair, data.train, epochs=3, compile=False) for name, pair in pairs.items()}
    return compare(pairs, data.test, num_samples=30), results["vae<b>"]


def test_the_table_has_the_numbers_of_the_comparison(fitted: tuple[Comparison, FitResult]) -> None:
    comparison, _ = fitted
    table = comparison.table()
    assert list(table.index) == ["ppca", "vae<b>"]
    for name, evidence in comparison.evidence.items():
        row = table.loc[name]
        assert row["log_likelihood"] == evidence.mean_log_likelihood.value
        assert row["elbo"] == evidence.mean_elbo.value
        assert row["reliability"] == evidence.reliability
        assert row["difference"] == comparison.difference(name, comparison.best).value
        assert (
            row["difference_data_se"] == comparison.difference(name, comparison.best).data_se or name == comparison.best
        )
    assert "losses" not in table


def test_a_comparison_shows_its_numbers_and_a_figure(fitted: tuple[Comparison, FitResult]) -> None:
    comparison, _ = fitted
    html = comparison._repr_html_()
    assert html is not None
    for evidence in comparison.evidence.values():
        assert f"{evidence.mean_log_likelihood.value:.3f}" in html
        assert f"{evidence.mean_elbo.value:.3f}" in html
    assert "vae&lt;b&gt;" in html
    assert "vae<b>" not in html
    assert PICTURE in html


def test_evidence_and_fit(fitted: tuple[Comparison, FitResult]) -> None:
    comparison, result = fitted
    evidence = comparison.evidence["vae<b>"]
    html = evidence._repr_html_()
    assert html is not None
    assert f"{evidence.mean_gap.value:.3f}" in html
    assert evidence.reliability.replace("_", " ") in html
    assert PICTURE in html
    html = result._repr_html_()
    assert html is not None
    assert f"{result.history[-1]['elbo']:.3f} nats per point" in html
    assert f'<td style="text-align:left">{result.steps:,}</td>' in html
    assert PICTURE in html
    assert PICTURE not in (FitResult()._repr_html_() or "")


def test_a_choice() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    choice = choose(load("gmm"), {"components": [1, 2]}, x, 20, training={"epochs": 1})
    html = choice._repr_html_()
    assert html is not None
    for row in choice.rows():
        assert f"{row['log_likelihood']:.3f}" in html
        assert f"{row['bic']:.3f}" in html
    assert html.count(">yes</td>") == len(choice.best_set)
    assert choice.message in html
    assert PICTURE in html


def test_data_and_pairs() -> None:
    html = load_data("iris")._repr_html_()
    assert html is not None
    assert "setosa, versicolor, virginica" in html
    assert PICTURE not in html
    assert PICTURE in (load_data("digits")._repr_html_() or "")
    html = load("gmm")._repr_html_()
    assert html is not None
    assert load("gmm").summary.split(":")[0] in html
    assert ">components</th>" in html


def test_every_class_that_is_registered_can_be_shown_and_one_that_is_not_is_text() -> None:
    shown = {each.__name__ for each in ShownAsHTML.__subclasses__()}
    assert set(RENDERERS) <= shown
    assert set(RENDERERS) == set(pyrovae._HTML)

    class Unknown(ShownAsHTML):
        pass

    assert Unknown()._repr_html_() is None
