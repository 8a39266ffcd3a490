"""A Comparison as a table that a person can read: in the terminal and as text."""

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .comparison import Comparison

WIDTH = 118  # what the table needs; a narrower terminal folds its cells


def table(comparison: Comparison) -> Table:
    """One row per model, in the order of the comparison, nats per point."""
    content = comparison.to_dict()
    samples = content["models"][0]["samples"]
    sheet = Table(box=box.SIMPLE_HEAD, title="nats per held-out point", title_justify="left", title_style="dim")
    for heading, justify in (
        ("model", "left"),
        ("latent", "left"),
        ("parameters", "right"),
        ("log p(x)\nexact", "right"),
        ("log p̂(x)\n± Monte Carlo ± data", "right"),
        ("ELBO", "right"),
        ("gap", "right"),
        ("bits/dim", "right"),
        (f"ESS\nof {samples}", "right"),
        ("seconds", "right"),
    ):
        sheet.add_column(heading, justify=justify, no_wrap="±" in heading)  # type: ignore[arg-type]
    for row in content["models"]:
        estimate = f"{row['log_likelihood']:.3f} ± {_error(row['log_likelihood_mc_se'])} ± {_error(row['log_likelihood_data_se'])}"
        cells = [
            row["name"],
            row["latent"],
            f"{row['parameters']:,}",
            _plain(row["exact_log_likelihood"], ".3f"),
            estimate,
            f"{row['elbo']:.3f}",
            f"{_zero(row['gap']):.3f}",
            _plain(row["bits_per_dim"], ".4f"),
            f"{row['ess']:.0f}",
            f"{row['seconds']:.1f}",
        ]
        sheet.add_row(*cells, style="bold" if row["name"] == content["best"] and len(content["models"]) > 1 else None)
    return sheet


def differences(comparison: Comparison) -> Text:
    """How far each model is below the best, paired point by point."""
    best = comparison.best
    lines = []
    for name in comparison.evidence:
        if name != best:
            value, mc_se, data_se = comparison.difference(name, best)
            lines.append(f"{name} − {best}: {value:.3f} ± {_error(mc_se)} ± {_error(data_se)} nats")
    if not lines:
        return Text("")
    return Text("paired differences to the best, ± Monte Carlo ± data:\n  " + "\n  ".join(lines))


def card_line(card: Mapping[str, Any]) -> Text:
    """The card in one line: data, split, transform, base measure, seed, versions."""
    return Text(
        f"{card['data']}: {card['split']} (split seed {card['split_seed']}); x = {card['transform']}; {card['measure']}; "
        f"seed {card['seed']}; {card['samples']} samples; {card['dtype']} on {card['device']}; pyrovae {card['pyrovae']}, "
        f"torch {card['torch']}, pyro {card['pyro']}, Python {card['python']}",
        style="dim",
    )


def report(comparison: Comparison, card: Mapping[str, Any]) -> Group:
    """The table, the differences below it, and the card."""
    below = Padding(differences(comparison), (0, 0, 1, 1))
    source = Padding(card_line(card), (0, 0, 0, 1))
    return Group(table(comparison), below, source) if len(comparison.evidence) > 1 else Group(table(comparison), source)


def as_text(comparison: Comparison, card: Mapping[str, Any]) -> str:
    """`report` as plain text, for a file."""
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(report(comparison, card))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _plain(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)


def _error(value: float | None) -> str:
    """Three decimals, and no false zero."""
    if value is None:
        return "?"
    if value < 5e-4:
        return "<.001" if value > 0 else "0"
    return f"{value:.3f}"


def _zero(value: float) -> float:
    """Rounding errors of an exact guide's zero gap do not deserve a minus sign."""
    return 0.0 if abs(value) < 5e-4 else value
