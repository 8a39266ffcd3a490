"""The page: its numbers are the comparison's, all text is escaped, every term is explained, and nothing is loaded."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from pyrovae import compare, fit, load, load_data
from pyrovae.evaluation.comparison import Comparison
from pyrovae.exploration import reconstruct
from pyrovae.plots import evidence_plot
from pyrovae.report import Contents, PageFigure, Settings, notebook, render
from pyrovae.report.tables import _number

EVIL = "<b>&\"'"


class Page(HTMLParser):
    """The cells of each table's rows as text, all ids, the targets of links, and the attributes of each element."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self.ids |= {attributes["id"]} if attributes.get("id") else set()
        if (attributes.get("href") or "").startswith("#"):
            self.links.add(attributes["href"][1:])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """An exact guide, and one with doubts at 3 of 30 points, so that its mean is a lower bound."""
    data = load_data("iris")
    pairs = {"ppca": load("ppca")(4, latent=2), EVIL: load("vae")(4, latent=2, hidden=(4,))}
    torch.manual_seed(0)
    fit(*pairs["ppca"], data.train, epochs=2, compile=False)
    fit(*pairs[EVIL], data.train, epochs=2, compile=False)
    found = compare(pairs, data.test, num_samples=100).evidence
    doubt = torch.where(torch.arange(len(data.test)) < 3, 0.1, 0.0)
    return Comparison({"ppca": found["ppca"], EVIL: replace(found[EVIL], shortfall=doubt)})


@pytest.fixture(scope="module")
def contents(comparison: Comparison) -> Contents:
    data = load_data("iris")
    figure = PageFigure("Where", f"seen {EVIL}", "What it means.", evidence_plot(comparison))
    pixels = PageFigure("Pixels", "seen", "In pixels.", evidence_plot(comparison), vector=False)
    model, guide = load("pca")(4, latent=2)
    fit(model, guide, data.train)
    return Contents(
        comparison=comparison,
        metadata={**data.metadata(), "seed": 0, "device": "cpu"},
        settings={
            name: Settings(f"z {EVIL}", {"latent": "2"}, {"lr": "0.1"}, frozenset({"latent"}))
            for name in ("ppca", EVIL)
        },
        reconstructions={"pca": reconstruct(model, guide, data.test)},
        without_density={"pca": "PCA has no log p(x)."},
        figures=[figure, pixels],
        explorers=[{"name": "</script><b>"}],
        excluded={"flow": "It has no place."},
        per="column",
    )


def test_a_number_that_rounds_to_0_has_no_sign() -> None:
    assert [_number(value, ".3f")[0] for value in (-1e-9, -0.25, None)] == ["0.000", "−0.250", "–"]
    assert _number(-1438, ",d")[0] == "−1,438"
    assert notebook._cell(-1e-9) == "0.000"


def test_the_numbers_are_the_comparisons(contents: Contents, comparison: Comparison) -> None:
    rows = {row[0].removeprefix("best "): row for row in Page(render(contents)).rows}
    for name, evidence in comparison.evidence.items():
        value, _, data_se = evidence.mean_log_likelihood
        assert rows[name][1].startswith(f"{value:.3f}".replace("-", "−"))
        assert f"± {data_se:.3f}" in rows[name][1]
        assert rows[name][4] == f"{evidence.mean_elbo.value:.3f}".replace("-", "−")
        assert rows[name][10] == f"{evidence.parameters:,}"
    other = next(name for name in comparison.evidence if name != comparison.best)
    value, _, data_se = comparison.difference(other, comparison.best)
    assert rows[other][3].startswith(f"{value:.3f} ± ".replace("-", "−"))
    assert rows[other][3].endswith(f"± {data_se:.3f}")
    found = contents.reconstructions["pca"]
    assert rows["pca"][1] == f"{found.mean_squared_error:.5f} ± {found.mean_squared_error_se:.5f}"
    assert rows["pca"][2:] == [f"{found.explained_variance:.1%}", "none"]


def test_a_lower_bound_is_marked_in_its_row(contents: Contents, comparison: Comparison) -> None:
    assert comparison.evidence[EVIL].reliability == "lower_bound"
    rows = {row[0].removeprefix("best "): row for row in Page(render(contents)).rows}
    assert rows["ppca"][2] == "● reliable"
    assert rows[EVIL][2] == "○ lower bound, reliable at 90% of points"


def test_all_text_is_escaped_and_every_term_explained(contents: Contents) -> None:
    text = render(contents)
    assert "<b>" not in text
    assert "<script><b>" not in text
    assert text.count("</script>") == 4  # the data of the explorers and three scripts
    page = Page(text)
    assert page.links <= page.ids
    assert {link for link in page.links if link.startswith("term-")}
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [image["alt"] for image in images] == [f"seen {EVIL}", "seen"]
    assert [image["src"].split(";")[0] for image in images] == ["data:image/svg+xml", "data:image/png"]


def test_nothing_is_loaded(contents: Contents) -> None:
    text = render(contents)
    page = Page(text)
    assert not re.search("https?:", text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed"), tag
        assert (attributes.get("src") or "data:").startswith("data:")
    policy = [a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv")]
    assert policy[0].startswith("default-src 'none'")


def test_a_failed_pair_and_one_left_out_say_why(contents: Contents, comparison: Comparison) -> None:
    text = render(replace(contents, comparison=replace(comparison, failed={"wild": "Training stopped."})))
    assert "wild failed: Training stopped." in text
    assert "flow was left out: It has no place." in text
    assert next(row for row in Page(text).rows if row[0] == "wild")[:2] == ["wild", "failed"]
