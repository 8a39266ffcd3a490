"""The tables of the page: what was asked, and what was found."""

from collections.abc import Mapping

from ..evaluation.comparison import Comparison
from ..statistics.estimate import Estimate
from ..tables.comparison import error_text
from .contents import Contents, Settings
from .markup import definitions, table, term, text

NOTHING = "–"


def data_list(contents: Contents) -> str:
    """The data, the split and the transform."""
    metadata = contents.metadata
    discrete = metadata["base_measure"].startswith("counting")
    return definitions(
        [
            ("data", text(metadata["data"])),
            (term("split"), f"{text(metadata['split'])}, seed {text(metadata['split_seed'])}"),
            (term("transform"), f"x = {text(metadata['transform'])}"),
            (
                "p(x) is",
                f"a {'probability' if discrete else 'density'}; base measure: {text(metadata['base_measure'])}",
            ),
            (term("held-out points"), text(metadata["test_points"])),
        ]
    )


def settings_of(name: str, settings: Settings) -> str:
    """One model with every option, in a part that opens."""
    return (
        f"<details><summary><strong>{text(name)}</strong>: {text(settings.summary)}</summary><div class='two'>"
        f"<div><h4>Options of the model</h4>{_options(settings.options, settings.given)}</div>"
        f"<div><h4>Training</h4>{_options(settings.training, settings.given)}</div></div></details>"
    )


def _options(values: Mapping[str, str], given: frozenset[str]) -> str:
    if not values:
        return "<p>none</p>"
    return definitions(
        (text(name), text(value) + (' <small class="given">given</small>' if name in given else ""))
        for name, value in values.items()
    )


def comparison_table(comparison: Comparison) -> str:
    """A row for each model. One whose number is a lower bound says so in the row."""
    headings = [
        "model",
        term("log p̂(x)"),
        "reliable?",
        f"{term('paired difference')} to the best",
        term("ELBO"),
        term("gap"),
    ]
    headings += [term("exact log p(x)"), term("method"), term("bits/dim"), term("latent"), "parameters", "seconds"]
    rows = []
    for row in comparison.to_dict()["models"]:
        name = row["name"]
        estimate = Estimate(row["log_likelihood"], row["log_likelihood_mc_se"], row["log_likelihood_data_se"])
        difference = None if name == comparison.best else comparison.difference(name, comparison.best)
        best = '<span class="best" title="highest mean log p̂(x)">best</span> ' if name == comparison.best else ""
        rows.append(
            [
                (best + text(name), name),
                (_estimate(estimate), estimate.value),
                (_reliability(row["reliability"], row["reliable_fraction"]), row["reliable_fraction"]),
                (NOTHING, 0.0) if difference is None else (_estimate(difference), difference.value),
                _number(row["elbo"], ".3f"),
                _number(row["gap"], ".3f"),
                _number(row["exact_log_likelihood"], ".3f"),
                (text(row["method"].replace("_", " ")), row["method"]),
                _number(row["bits_per_dim"], ".4f"),
                (text(row["latent"]), row["latent"]),
                _number(row["parameters"], ",d"),
                _number(row["total_seconds"], ".1f"),
            ]
        )
    for name in comparison.failed:
        rows.append([(text(name), name), ("failed", None), *[(NOTHING, None)] * (len(headings) - 2)])
    return table("Nats per held-out point; errors are ± Monte Carlo ± data", headings, rows, "comparison")


def reconstruction_table(contents: Contents) -> str:
    """Reconstruction errors, of models without log p(x) among others."""
    rows = [
        [
            (text(name), name),
            (
                f"{result.mean_squared_error:.5f} <small>± {result.mean_squared_error_se:.5f}</small>",
                result.mean_squared_error,
            ),
            (f"{result.explained_variance:.1%}", result.explained_variance),
            (("none", 0) if name in contents.without_density else ("in the table above", 1)),
        ]
        for name, result in contents.reconstructions.items()
    ]
    headings = ["model", f"{term('squared error')} per {text(contents.per)}", term("explained variance"), "log p(x)"]
    return table("Reconstruction of held-out points, in the units of x", headings, rows)


def _estimate(estimate: Estimate) -> str:
    errors = f"± {error_text(estimate.mc_se)} ± {error_text(estimate.data_se)}"
    return f"{_minus(f'{estimate.value:z.3f}')} <small>{text(errors)}</small>"


def _reliability(reliability: str, fraction: float) -> str:
    if reliability == "reliable":
        rest = "" if fraction == 1 else f", {fraction:.0%} of points"
        return f'<span class="reliable">● {term("reliable")}{rest}</span>'
    words = "lower bound" if reliability == "lower_bound" else "not estimated"
    shown = term(words) if words == "lower bound" else words
    return f'<span class="doubtful">○ {shown}, reliable at {fraction:.0%} of points</span>'


def _number(value: float | None, spec: str) -> tuple[str, object]:
    if value is None:
        return NOTHING, None
    return _minus(format(value, spec if isinstance(value, int) else f"z{spec}")), value  # z: no −0


def _minus(number: str) -> str:
    """A minus sign as wide as a digit."""
    return number.replace("-", "−")
