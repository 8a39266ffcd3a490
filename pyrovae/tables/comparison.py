"""A Comparison as a table that a person can read: in the terminal and as text."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..estimators.prior_sampling import PriorSamplingResult
from ..evaluation.comparison import Comparison
from ..evaluation.result import Evidence
from ..statistics.estimate import Estimate
from ..statistics.result import Row

WIDTH = 132  # of text that goes to a file or a pipe
LABEL_WIDTH = 24  # of a model's name with its settings: a longer one goes on in a line below


def show(
    comparison: Comparison, metadata: Mapping[str, Any], console: Console, further: Sequence[RenderableType] = ()
) -> None:
    """Print the table, the sentences about it, what is `further`, and where its numbers come from.

    In a terminal too narrow for a row per model, models become columns. Paper is as wide as needed.
    """
    wide = _table(_cells(comparison), comparison.best)
    needed = Console(width=1000).measure(wide).minimum  # a console answers with its own width at most
    if console.width == WIDTH and not console.is_terminal:
        console.width = max(WIDTH, needed)
    sheet = wide if needed <= console.width else _transposed(_cells(comparison), comparison.best)
    texts = _differences(comparison), _reliability(comparison), _notes(comparison, metadata), _failures(comparison)
    messages = [text for text in texts if text]
    below = [Padding(part, (0, 0, 1, 1)) for part in messages] + [Padding(part, (0, 0, 0, 1)) for part in further]
    console.print(Group(sheet, *below, Padding(metadata_line(metadata), (0, 0, 0, 1))))


def as_text(comparison: Comparison, metadata: Mapping[str, Any], further: Sequence[RenderableType] = ()) -> str:
    """What `show` prints, for a file."""
    page = io.StringIO()
    show(comparison, metadata, Console(file=page, width=WIDTH), further)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _cells(comparison: Comparison) -> list[dict[str, str]]:
    """Return a dictionary for each model, from heading to text.

    Numbers are in nats per point unless the heading says otherwise. Models that failed come last, without numbers.
    """
    rows = comparison.to_dict()["models"]
    num_samples, limit = rows[0]["num_samples"], _limit(next(iter(comparison.evidence.values())))
    cells = []
    for row in rows:
        estimate = (
            f"{row['log_likelihood']:.3f} ± {error_text(row['log_likelihood_mc_se'])} "
            f"± {error_text(row['log_likelihood_data_se'])}"
        )
        errors = "± Monte Carlo ± data"
        if comparison.trainings:
            estimate += f" ± {error_text(row['log_likelihood_train_se'])}"
            errors += " ± training"
        bound_only = row["tolerance"] is None
        estimated = f"bound L_{num_samples:,}" if bound_only else "log p̂(x)"
        numbers = {
            "model": row["name"],
            "latent": row["latent"],
            "parameters": f"{row['parameters']:,}",
            "exact\nlog p(x)": _plain(row["exact_log_likelihood"], ".3f"),
            f"{estimated}\n{errors}": estimate,
            "method": row["method"].replace("_", " "),
            "ELBO": f"{row['elbo']:.3f}",
            "gap": "–" if row["gap"] is None else f"{_zero(row['gap']):.3f}",
            f"bound error\nof {num_samples:,} draws": "–"
            if row["bound_error"] is None
            else f"{_zero(row['bound_error']):.3f}",
            "bits/dim": _plain(row["bits_per_dim"], ".4f"),
            f"ESS\nof {num_samples}": _plain(row["ess"], ".0f"),
            f"k̂ over\n{limit}": "–" if row["ess"] is None else f"{row['high_pareto_k_fraction']:.0%}",
            "seconds": f"{row['total_seconds']:.1f}",
        }
        absent = ("method", "bound error") if bound_only else ("exact", "ESS", "k̂")
        cells.append({heading: text for heading, text in numbers.items() if not heading.startswith(absent)})
    return cells + [{**dict.fromkeys(cells[0], "–"), "model": name} for name in comparison.failed]


def titled(title: str = "nats per held-out point") -> Table:
    """An empty table, as all of ours look."""
    return Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        title_style="dim",
    )


def bounds_table(title: str) -> Table:
    """An empty table of estimates, a row each: what it is, `estimate_cells`, which bound it is."""
    sheet = titled(title)
    for heading in ("", "mean", "± Monte Carlo", "± data", "bound on log p(x)"):
        sheet.add_column(heading, justify="left" if heading in ("", "bound on log p(x)") else "right", no_wrap=True)
    return sheet


def add_rows(sheet: Table, rows: Iterable[Row]) -> None:
    """Add a line to a `bounds_table` for each row of a result."""
    for label, estimate, bound in rows:
        sheet.add_row(Text(label), *estimate_cells(estimate), bound)  # as Text: markup would swallow [q*]


def estimate_cells(mean: Estimate) -> tuple[str, str, str]:
    """Return the texts of a mean, of its Monte Carlo error and of its data error."""
    return f"{mean.value:.3f}", error_text(mean.mc_se), error_text(mean.data_se)


def _table(cells: list[dict[str, str]], best: str) -> Table:
    sheet = titled()
    labels = [Text("\n".join(_lines(row["model"]))) for row in cells]
    for heading in cells[0]:
        justify: Any = "left" if heading in ("model", "latent") else "right"
        texts = [
            heading,
            *(label.plain if heading == "model" else row[heading] for label, row in zip(labels, cells, strict=True)),
        ]
        # several latents may stand below one another, and nothing else
        parts = [part for text in texts for part in (text.split() if heading == "latent" else text.splitlines())]
        sheet.add_column(heading, justify=justify, no_wrap=heading != "latent", min_width=max(map(cell_len, parts)))
    for label, row in zip(labels, cells, strict=True):
        best_of_several = len(cells) > 1 and row["model"] == best
        sheet.add_row(label, *list(row.values())[1:], style="bold" if best_of_several else None)
    return sheet


def _lines(label: str) -> list[str]:
    """A long name with its settings, broken between these."""
    return wrap(label, LABEL_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _transposed(cells: list[dict[str, str]], best: str) -> Table:
    sheet = titled()
    sheet.add_column("model")
    for row in cells:
        sheet.add_column(
            Text(row["model"]), justify="right", style="bold" if len(cells) > 1 and row["model"] == best else None
        )
    for heading in list(cells[0])[1:]:
        titles, texts = heading.replace("\n", " ").split(" ± "), [row[heading].split(" ± ") for row in cells]
        for index, title in enumerate(titles):  # an error gets a row of its own, where a cell has little room
            mark = "± " if index else ""
            sheet.add_row(mark + title, *(mark + text[index] if index < len(text) else "–" for text in texts))
    return sheet


def _differences(comparison: Comparison) -> Text | None:
    """How far each model is below the best, paired point by point."""
    best = comparison.best
    lines = []
    for name in comparison.evidence:
        if name != best:
            value, mc_se, data_se = comparison.difference(name, best)
            errors = [mc_se, data_se]
            interval = ""
            if comparison.trainings:
                repeated = comparison.difference_over_trainings(name, best)
                errors.append(repeated.train_se)
                low, high = repeated.interval()
                interval = f"; 95% interval {low:.3f} to {high:.3f}" if math.isfinite(low) else ""
            shown = "".join(f" ± {error_text(error)}" for error in errors)
            lines.append(f"\n  {name} − {best}: {value:.3f}{shown} nats{interval}")
    sources = "± Monte Carlo ± data" + (" ± training" if comparison.trainings else "")
    return Text(f"paired differences to the best, {sources}:{''.join(lines)}") if lines else None


def _reliability(comparison: Comparison) -> Text | None:
    """The reliability message of each model whose method draws, and of every model that stands alone."""
    results = comparison.evidence
    lines = [
        (
            f"{name}{_status(evidence)}: {evidence.reliability_message}\n",
            "" if bool(evidence.reliable.all()) else "yellow",
        )
        for name, evidence in results.items()
        if len(results) == 1
        or not bool(evidence.reliable.all())
        or (evidence.tolerance is not None and set(evidence.method) != {"exact"})
    ]
    return Text.assemble(*lines, end="") if lines else None


def _status(evidence: Evidence) -> str:
    """Of an estimate to a tolerance, how reliable its mean is."""
    return "" if evidence.tolerance is None else f", {evidence.reliability.replace('_', ' ')}"


def _notes(comparison: Comparison, metadata: Mapping[str, Any]) -> Text | None:
    """What is to be known of columns, and in which models the floor of variances binds."""
    floors = {name: evidence.metadata.get("variance_floor", "") for name, evidence in comparison.evidence.items()}
    lines = [f"{metadata['data']}: {note}\n" for note in metadata.get("notes", ())]
    lines += [f"{name}: {message}\n" for name, message in floors.items() if message]
    return Text("".join(lines), style="yellow", end="") if lines else None


def _failures(comparison: Comparison) -> Text | None:
    """Why a row has no numbers."""
    lines = [f"{name} failed: {why}\n" for name, why in comparison.failed.items()]
    return Text("".join(lines), style="red", end="") if lines else None


def bound_curve_table(evidence: Evidence) -> Table:
    """L_K over K, averaged over points: it has arrived where it no longer rises."""
    sheet = titled("the bound of K draws")
    sheet.add_column("K")
    curve = evidence.mean_bound_curve
    for K in curve:
        sheet.add_column(f"{K:,}", justify="right")
    sheet.add_row("L_K", *(f"{bound.value:.3f}" for bound in curve.values()))
    sheet.add_row("± Monte Carlo", *(error_text(bound.mc_se) for bound in curve.values()))
    return sheet


def prior_sampling_table(evidence: Evidence, prior: PriorSamplingResult) -> Table:
    """The guide's draws beside the prior's, as many of each."""
    sheet = titled("naive Monte Carlo beside it")
    for heading in ("draws of", "log p̂(x)", "± Monte Carlo", "± data", "ESS", f"k̂ over {_limit(evidence)}"):
        sheet.add_column(heading, justify="left" if heading == "draws of" else "right")
    for name, result in (("guide q(z|x)", evidence), ("prior p(z)", prior)):
        value, mc_se, data_se = result.mean("bound" if isinstance(result, Evidence) else "log_likelihood")
        errors = (error_text(mc_se), error_text(data_se))
        deterministic_guide = isinstance(result, Evidence) and result.deterministic_guide
        tail = (
            ("–", "–") if deterministic_guide else (f"{result.ess.mean():.0f}", f"{result.high_pareto_k_fraction:.0%}")
        )
        sheet.add_row(name, f"{value:.3f}", *errors, *tail)
    return sheet


def _limit(evidence: Evidence) -> str:
    return f"{evidence.pareto_k_threshold:.2f}" if evidence.num_samples > 1 else "–"


def metadata_line(metadata: Mapping[str, Any]) -> Text:
    """The metadata in one line: data, split, transform, base measure, seed, versions."""
    seeds = metadata.get("train_seeds")
    trainings = f"; trainings from seeds {seeds[0]} to {seeds[-1]}" if seeds else ""
    return Text(
        f"{metadata['data']}: {metadata['split']} (split seed {metadata['split_seed']}); x = {metadata['transform']}; {metadata['base_measure']}; "
        f"seed {metadata['seed']}{trainings}; {_precision(metadata)}; {metadata['dtype']} on {metadata['device']}; pyrovae {metadata['pyrovae']}, "
        f"torch {metadata['torch']}, pyro {metadata['pyro']}, Python {metadata['python']}",
        style="dim",
    )


def _precision(metadata: Mapping[str, Any]) -> str:
    tolerance = metadata["tolerance"]
    aim = "" if tolerance is None else f"tolerance {tolerance:g} nats; "
    return f"{aim}{metadata['num_samples']:,} draws of each guide"


def _plain(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)


def error_text(value: float | None) -> str:
    """Three decimals, and no false zero."""
    if value is None or value != value:
        return "?"
    return "<.001" if 0 < value < 5e-4 else f"{value:.3f}" if value else "0"


def _zero(value: float) -> float:
    """Rounding errors of an exact guide's zero gap do not deserve a minus sign."""
    return 0.0 if abs(value) < 5e-4 else value
