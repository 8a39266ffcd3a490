"""A Choice as a table in the terminal and as text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..evaluation.choice import Choice
from .comparison import WIDTH, error_text, metadata_line, titled

# headings that a narrow terminal does without, the first of them first
LEFT_OUT = ("seconds", "method", "parameters", "free", "training\n− held out", "training\nlog p̂(x)", "BIC")


def show(choice: Choice, metadata: Mapping[str, Any], console: Console) -> None:
    """Print a row for each value, what was chosen, and where the numbers come from.

    In a terminal that is too narrow, columns of less interest are left out. Files have them all.
    """
    below = [Text(choice.message)]
    below += [Text(f"{choice.option}={name} failed: {why}", style="red") for name, why in choice.failed.items()]
    below.append(metadata_line(metadata))
    sheet = _table(choice)
    for count in range(1, len(LEFT_OUT) + 1):
        if Console(width=1000).measure(sheet).maximum <= console.width:  # a console answers with its own width at most
            break
        sheet = _table(choice, LEFT_OUT[:count])
    console.print(Group(sheet, *(Padding(part, (0, 0, 1, 1)) for part in below)))


def as_text(choice: Choice, metadata: Mapping[str, Any]) -> str:
    """What `show` prints, for a file."""
    page = io.StringIO()
    show(choice, metadata, Console(file=page, width=WIDTH))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _table(choice: Choice, without: Sequence[str] = ()) -> Table:
    """A star marks the values that cannot be told from the best, which stands in bold."""
    rows = choice.rows()
    points = sum(1 for _ in next(iter(choice.candidates.values())).log_likelihood)
    how = f"{choice.num_folds} folds" if choice.num_folds else "held out once"
    sheet = titled(f"nats per point: {points} points, {how}; {choice.num_train} to train on")
    headings = [choice.option, "held-out log p̂(x)\n± Monte Carlo ± data", "", "− best\n± Monte Carlo ± data"]
    headings += ["training\nlog p̂(x)", "training\n− held out", "parameters", "method", "seconds"]
    has_bic = any(row["bic"] is not None for row in rows)
    if has_bic:
        headings[7:7] = ["free", "BIC"]
    kept = [place for place, heading in enumerate(headings) if heading not in without]
    for place in kept:
        sheet.add_column(headings[place], justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        is_best = row["value"] == choice.best
        cells = [
            row["value"],
            _with_errors(row, "log_likelihood"),
            "*" if row["in_best_set"] else "",
            "–" if is_best else _with_errors(row, "difference"),
            f"{row['train_log_likelihood']:.3f}",
            f"{row['train_log_likelihood'] - row['log_likelihood']:.3f}",
            f"{row['num_parameters']:,}",
        ]
        if has_bic:
            cells += ["–", "–"] if row["bic"] is None else [f"{row['num_free_parameters']:,}", f"{row['bic']:,.1f}"]
        cells += [row["method"].replace("_", " "), f"{row['seconds']:.1f}"]
        sheet.add_row(*(Text(cells[place]) for place in kept), style="bold" if is_best else None)
    return sheet


def _with_errors(row: Mapping[str, Any], name: str) -> str:
    errors = (error_text(row[f"{name}_mc_se"]), error_text(row[f"{name}_data_se"]))
    return f"{row[name]:.3f} ± {errors[0]} ± {errors[1]}"
