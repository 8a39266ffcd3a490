"""A Diagnosis as tables that a person can read at a glance."""

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..diagnostics.prior_holes import TAIL, Proportion
from ..diagnostics.result import ACTIVE, LatentDiagnostics
from ..statistics.estimate import Estimate
from .comparison import error_text

ROWS = 24  # of latents in the table; all of them are in the JSON file


def show(found: LatentDiagnostics, name: str, page: Console) -> None:
    """The latents, what adds up to what, and the verdict."""
    metadata = found.metadata
    parts = [_units(found)] if found.names else []
    colour = "green" if found.reliability_message.startswith("Fine") else "yellow"
    notes = [Padding(Text(note), (0, 0, 0, 1)) for note in found.notes]
    footer = (
        f"{name} on {metadata['data']}: {len(found)} points, {found.num_samples} samples each, seed {metadata['seed']}; {metadata['dtype']} on "
        f"{metadata['device']}; ± Monte Carlo ± data; pyrovae {metadata['pyrovae']}, torch {metadata['torch']}, pyro {metadata['pyro']}"
    )
    page.print(
        Group(
            *parts,
            *_classes(found),
            _sums(found),
            *notes,
            Padding(Text(found.reliability_message, style=f"bold {colour}"), (1, 0, 1, 1)),
            Padding(Text(footer, style="dim"), (0, 0, 0, 1)),
        )
    )


def _units(found: LatentDiagnostics) -> Table:
    sheet = _sheet()
    for heading in ("latent", "Var E\\[z|x] ± data", "KL to prior, nats", ""):
        sheet.add_column(heading, justify="left" if heading in ("latent", "") else "right", no_wrap=True)
    order = found.activity.argsort(descending=True).tolist()
    for j in order[:ROWS]:
        active = bool(found.activity[j] > ACTIVE)
        sheet.add_row(
            found.names[j],
            f"{found.activity[j]:.3f} ± {found.activity_se[j]:.3f}",
            _number(float(found.unit_kl[j])),
            "active" if active else "idle",
            style=None if active else "dim",
        )
    if rest := order[ROWS:]:
        sheet.add_row(
            f"{len(rest)} more",
            f"{found.activity[rest].min():.3f} to {found.activity[rest].max():.3f}",
            f"{_number(float(found.unit_kl[rest].min()))} to {_number(float(found.unit_kl[rest].max()))}",
            f"{int((found.activity[rest] > ACTIVE).sum())} active",
        )
    return sheet


def _classes(found: LatentDiagnostics) -> list[Table]:
    if not found.classes:
        return []
    sheet = _sheet()
    for heading in ("discrete latent", "classes", "in use, exp H(q(z))", "smallest and largest q(z = k)"):
        sheet.add_column(heading, justify="right" if heading != "discrete latent" else "left")
    for name, classes in found.classes.items():
        for place, used in enumerate(classes.used[:ROWS]):
            label = name if len(classes.used) == 1 else f"{name}[{place}]"
            sheet.add_row(
                label, str(len(used)), f"{classes.perplexity[place]:.2f}", f"{used.min():.3f}, {used.max():.3f}"
            )
    return [sheet]


def _sums(found: LatentDiagnostics) -> Table:
    sheet = _sheet()
    sheet.add_column("in sum")
    sheet.add_column("", justify="right", no_wrap=True)
    sheet.add_column("")
    if found.names:
        sheet.add_row(
            "active units",
            f"{found.active_units()} of {len(found.names)}",
            f"Var E\\[z|x] > {ACTIVE}: Burda et al. 2016",
        )
    if len(found.site_kl) > 1:
        for site, estimate in found.site_kl.items():
            sheet.add_row(f"KL of {site}", _estimate(estimate), "")
    sheet.add_row("mean KL(q(z|x) ‖ p(z))", _estimate(found.mean_kl), "nats per point")
    (low, high), (least, most) = found.information_range, found.marginal_kl_range
    capped = ", and is at its cap" if found.mutual_information.value > found.cap - 0.1 else ""
    sheet.add_row(
        "  = I(n; z)",
        _estimate(found.mutual_information),
        f"at most log {len(found)} = {found.cap:.3f}{capped}; of all x {low:.2f} to {high:.2f}",
    )
    sheet.add_row(
        "  + KL(q(z) ‖ p(z))",
        _estimate(found.marginal_kl),
        f"of these points; of all x {max(least, 0):.2f} to {most:.2f}",
    )
    if found.holes is not None:
        sheet.add_row(
            "prior draws in holes",
            _share(found.holes.share),
            f"{TAIL:.0%} if encodings of all x had the prior's density",
        )
        if found.holes.midpoint_share is not None:
            sheet.add_row(
                "boundary samples in holes",
                _share(found.holes.midpoint_share),
                "halfway between the encodings of two points",
            )
    return sheet


def _sheet() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {error_text(estimate.mc_se)} ± {error_text(estimate.data_se)}"


def _share(share: Proportion) -> str:
    return f"{share.value:.1%} ± {share.se:.1%}"
