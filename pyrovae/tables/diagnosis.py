"""A LatentDiagnostics as tables that a person can read at a glance."""

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..diagnostics.prior_holes import TAIL_FRACTION, Proportion
from ..diagnostics.result import ACTIVE_VARIANCE, LatentDiagnostics
from ..statistics.estimate import Estimate
from .comparison import error_text

MAX_ROWS = 24  # of latents in the table; all of them are in the JSON file


def show(result: LatentDiagnostics, name: str, page: Console) -> None:
    """Print the latents, the sums of KLs, and the reliability message."""
    metadata = result.metadata
    parts = [_units(result)] if result.names else []
    colour = "green" if result.reliability_message.startswith("Fine") else "yellow"
    notes = [Padding(Text(note), (0, 0, 0, 1)) for note in result.notes]
    footer = (
        f"{name} on {metadata['data']}: {len(result)} points, {result.num_samples} samples each, seed {metadata['seed']}; {metadata['dtype']} on "
        f"{metadata['device']}; ± Monte Carlo ± data; pyrovae {metadata['pyrovae']}, torch {metadata['torch']}, pyro {metadata['pyro']}"
    )
    page.print(
        Group(
            *parts,
            *_classes(result),
            _sums(result),
            *notes,
            Padding(Text(result.reliability_message, style=f"bold {colour}"), (1, 0, 1, 1)),
            Padding(Text(footer, style="dim"), (0, 0, 0, 1)),
        )
    )


def _units(result: LatentDiagnostics) -> Table:
    sheet = _sheet()
    for heading in ("latent", "Var E\\[z|x] ± data", "KL to prior, nats", ""):
        sheet.add_column(heading, justify="left" if heading in ("latent", "") else "right", no_wrap=True)
    order = result.activity.argsort(descending=True).tolist()
    for j in order[:MAX_ROWS]:
        active = bool(result.activity[j] > ACTIVE_VARIANCE)
        sheet.add_row(
            result.names[j],
            f"{result.activity[j]:.3f} ± {result.activity_se[j]:.3f}",
            _number(float(result.unit_kl[j])),
            "active" if active else "idle",
            style=None if active else "dim",
        )
    if rest := order[MAX_ROWS:]:
        sheet.add_row(
            f"{len(rest)} more",
            f"{result.activity[rest].min():.3f} to {result.activity[rest].max():.3f}",
            f"{_number(float(result.unit_kl[rest].min()))} to {_number(float(result.unit_kl[rest].max()))}",
            f"{int((result.activity[rest] > ACTIVE_VARIANCE).sum())} active",
        )
    return sheet


def _classes(result: LatentDiagnostics) -> list[Table]:
    if not result.classes:
        return []
    sheet = _sheet()
    for heading in ("discrete latent", "classes", "in use, exp H(q(z))", "smallest and largest q(z = k)"):
        sheet.add_column(heading, justify="right" if heading != "discrete latent" else "left")
    for name, classes in result.classes.items():
        for index, used in enumerate(classes.used[:MAX_ROWS]):
            label = name if len(classes.used) == 1 else f"{name}[{index}]"
            sheet.add_row(
                label, str(len(used)), f"{classes.perplexity[index]:.2f}", f"{used.min():.3f}, {used.max():.3f}"
            )
    return [sheet]


def _sums(result: LatentDiagnostics) -> Table:
    sheet = _sheet()
    sheet.add_column("in sum")
    sheet.add_column("", justify="right", no_wrap=True)
    sheet.add_column("")
    if result.names:
        sheet.add_row(
            "active units",
            f"{result.active_units()} of {len(result.names)}",
            f"Var E\\[z|x] > {ACTIVE_VARIANCE}: Burda et al. 2016",
        )
    if len(result.site_kl) > 1:
        for site, estimate in result.site_kl.items():
            sheet.add_row(f"KL of {site}", _estimate(estimate), "")
    sheet.add_row("mean KL(q(z|x) ‖ p(z))", _estimate(result.mean_kl), "nats per point")
    (low, high), (least, most) = result.information_range, result.marginal_kl_range
    capped = ", and is at its cap" if result.mutual_information.value > result.cap - 0.1 else ""
    sheet.add_row(
        "  = I(n; z)",
        _estimate(result.mutual_information),
        f"at most log {len(result)} = {result.cap:.3f}{capped}; of all x {low:.2f} to {high:.2f}",
    )
    sheet.add_row(
        "  + KL(q(z) ‖ p(z))",
        _estimate(result.marginal_kl),
        f"of these points; of all x {max(least, 0):.2f} to {most:.2f}",
    )
    if result.holes is not None:
        sheet.add_row(
            "prior draws in holes",
            _percentage(result.holes.share),
            f"{TAIL_FRACTION:.0%} if encodings of all x had the prior's density",
        )
        if result.holes.midpoint_share is not None:
            sheet.add_row(
                "boundary samples in holes",
                _percentage(result.holes.midpoint_share),
                "halfway between the encodings of two points",
            )
    return sheet


def _sheet() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {error_text(estimate.mc_se)} ± {error_text(estimate.data_se)}"


def _percentage(proportion: Proportion) -> str:
    return f"{proportion.value:.1%} ± {proportion.se:.1%}"
