"""Results in a notebook: the numbers as a table, a verdict, and a small figure."""

import base64
import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..data.datasets import Data
from ..evaluation.choice import Choice
from ..evaluation.comparison import Comparison
from ..evaluation.result import Evidence
from ..loading.options import plain
from ..loading.pairs import PairBuilder
from ..tables.comparison import error_text
from ..training import FitResult
from .markup import text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 80
IMAGES = 24  # of a data set
SHOWN = {  # columns of a comparison, with their headings
    "log_likelihood": "log p̂(x)",
    "log_likelihood_mc_se": "± Monte Carlo",
    "log_likelihood_data_se": "± data",
    "reliability": "reliability",
    "difference": "− best",
    "difference_data_se": "± data",
    "elbo": "ELBO",
    "gap": "gap",
    "exact_log_likelihood": "exact log p(x)",
    "method": "method",
    "total_seconds": "seconds",
}
OF_CHOICE = {
    "log_likelihood": "log p̂(x)",
    "log_likelihood_mc_se": "± Monte Carlo",
    "difference": "− best",
    "difference_data_se": "± data",
    "in_best_set": "cannot be told from the best",
    "train_log_likelihood": "training log p̂(x)",
    "bic": "BIC",
    "seconds": "seconds",
}


def comparison_html(comparison: Comparison) -> str:
    """The table, the reliability messages, and where each model stands."""
    from ..plots import evidence_plot

    numbers = comparison.table()
    rows = [[name, *(_cell(numbers.loc[name, key]) for key in SHOWN)] for name in comparison.evidence]
    messages = "".join(
        f"<li><b>{text(name)}</b>: {text(evidence.reliability_message)}</li>"
        for name, evidence in comparison.evidence.items()
    )
    messages += "".join(f"<li><b>{text(name)}</b> failed: {text(why)}</li>" for name, why in comparison.failed.items())
    caption = "Nats per point. A lower bound is too low by an unknown amount."
    return (
        _table(caption, ["model", *SHOWN.values()], rows) + f"<ul>{messages}</ul>" + _image(evidence_plot(comparison))
    )


def choice_html(choice: Choice) -> str:
    """A row for each value, what was chosen, and the figure."""
    from ..plots import choice_plot

    rows = [[row["value"], *(_cell(row[key]) for key in OF_CHOICE)] for row in choice.rows()]
    shown = _table("Nats per held-out point", [choice.option, *OF_CHOICE.values()], rows)
    failed = "".join(
        f"<p>{text(choice.option)}={text(name)} failed: {text(why)}</p>" for name, why in choice.failed.items()
    )
    return f"{shown}<p>{text(choice.message)}</p>{failed}" + _image(choice_plot(choice))


def evidence_html(evidence: Evidence) -> str:
    """The means with their errors, whether they are reliable, and the bound over the number of draws."""
    from ..plots import bound_curves

    rows = [
        [label, f"{mean.value:.3f}", error_text(mean.mc_se), error_text(mean.data_se)]
        for label, mean, _ in evidence.rows()
    ]
    shown = _table(f"{len(evidence)} points, nats per point", ["", "mean", "± Monte Carlo", "± data"], rows)
    shown += f"<p><b>{text(evidence.reliability.replace('_', ' '))}</b>: {text(evidence.reliability_message)}</p>"
    return shown if evidence.deterministic_guide else shown + _image(bound_curves(Comparison({"bound": evidence})))


def fit_html(result: FitResult) -> str:
    """How the training went, and its curve."""
    from ..plots import training

    facts = {"objective": result.objective, "steps": f"{result.steps:,}", "seconds": f"{result.seconds:.1f}"}
    if result.history and math.isfinite(result.history[-1]["elbo"]):
        facts["last training ELBO"] = f"{result.history[-1]['elbo']:.3f} nats per point"
    facts |= {"stopped early": result.stop_reason} if result.stop_reason else {}
    facts |= {"no log p(x)": result.no_density} if result.no_density else {}
    facts |= {"warning": result.warning} if result.warning else {}
    return _facts("Training", facts) + (_image(training(result)) if result.history else "")


def data_html(data: Data) -> str:
    """What the data are, and some of them as images."""
    from ..plots import samples_beside_data

    known = {key: value for key, value in data.metadata().items() if value not in (None, [])}
    facts = {
        key.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in known.items()
    }
    if data.label_names:
        facts["labels"] = ", ".join(data.label_names)
    shown = _facts("Data", facts)
    if data.shape is None:
        return shown
    return shown + _image(samples_beside_data(data.transform.grey(data.test[:IMAGES].cpu()), {}, data.shape))


def pair_html(pair: PairBuilder) -> str:
    """The equation of a pair, and its options."""
    options = {name: plain(value) for name, value in pair.options.items()}
    return f"<p><b>{text(pair.name)}</b>: {text(pair.summary)}</p>" + _facts("Options and their defaults", options)


def _facts(caption: str, facts: Mapping[str, str]) -> str:
    return _table(caption, None, [[name, value] for name, value in facts.items()])


def _table(caption: str, headings: list[str] | None, rows: list[list[str]]) -> str:
    head = "" if headings is None else f"<tr>{''.join(f'<th>{text(heading)}</th>' for heading in headings)}</tr>"
    left = 'style="text-align:left"'
    body = ""
    for first, *cells in rows:
        values = "".join(f"<td {left}>{text(cell)}</td>" for cell in cells)
        body += f"<tr><th {left}>{text(first)}</th>{values}</tr>"
    return f"<table><caption {left}>{text(caption)}</caption>{head}{body}</table>"


def _cell(value: object) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:z.3f}" if isinstance(value, float) else str(value).replace("_", " ")


def _image(figure: "Figure") -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
    return f'<img alt="the same numbers as a figure" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
