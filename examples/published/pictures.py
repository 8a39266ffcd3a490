"""The figures of docs/results.md, drawn from the numbers of one record or of all."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from iwae_training import epochs_of
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from record import Line, lines_of, two_digits

from pyrovae.plots.style import COLOURS, new_axes, new_figure

Record = dict[str, Any]


def of_parts(record: Record, function: str) -> list[Line]:
    """The lines of the parts that this function of the script computed."""
    parts = [part for part in record["parts"] if part["part"].startswith(f"{function}(")]
    return lines_of({"parts": parts})


def tightness(record: Record) -> Figure:
    """The bias of the K-sample bound and the tail of its weights, against closed forms."""
    figure = new_figure((9.6, 3.9))
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        new_axes(axes)
    by_variance: dict[float, list[Line]] = defaultdict(list)
    for line in of_parts(record, "bias"):
        by_variance[line.at[0]].append(line)
    for colour, (variance, lines) in zip(COLOURS, by_variance.items(), strict=False):
        K = np.array([line.at[1] for line in lines])
        bias, noise = (np.array([getattr(line, name) for line in lines]) / K for name in ("ours", "mc_se"))
        left.errorbar(K, bias, 2 * noise, fmt="o", ms=5, color=colour, label=f"s² = {variance:g}")
        left.plot(K, [line.published / k for line, k in zip(lines, K, strict=True)], color=colour, lw=1)
    left.set(
        xscale="log",
        yscale="log",
        xlabel="draws K",
        ylabel="log p(x) − $L_K$ (nats)",
        title="Bias of the K-sample bound",
    )
    left.set_ylim(bottom=1e-7)
    left.legend(frameon=False, fontsize=9, title="line: χ²/(2K), the limit of large K", loc="lower left", ncols=2)
    tails = of_parts(record, "tail")
    s2 = [line.at[0] for line in tails]
    right.plot([0, 1], [1, 0], color=COLOURS[1], lw=1, label="theory: 1 − s²")
    right.errorbar(
        s2,
        [line.ours for line in tails],
        [2 * line.mc_se for line in tails],
        fmt="o",
        ms=5,
        color=COLOURS[0],
        label="k̂, ± 2 standard errors",
    )
    right.axhline(0.7, color="0.6", lw=1, ls=":")
    right.annotate(
        "above 0.7 a mean of weights is not to be trusted", (0.99, 0.715), ha="right", fontsize=8, color="0.35"
    )
    right.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="variance of the guide / variance of the posterior, s²",
        ylabel="Pareto k̂",
        title="Tail of the weights",
    )
    right.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def collapse(record: Record) -> Figure:
    """The KL of each latent against its eigenvalue: none at or below σ², and above it ½ ln(λ/σ²)."""
    figure, axes = new_axes(None, (6.4, 4.0))
    by_noise: dict[float, list[Line]] = defaultdict(list)
    for line in lines_of(record):
        if line.at:
            by_noise[line.at[0]].append(line)
    largest = 1.05 * max(line.at[1] for lines in by_noise.values() for line in lines)
    for colour, (noise, lines) in zip(COLOURS, by_noise.items(), strict=False):
        eigenvalues = np.linspace(0.01, largest, 500)
        axes.plot(eigenvalues, np.maximum(0, np.log(eigenvalues / noise) / 2), color=colour, lw=1)
        axes.plot(
            [line.at[1] for line in lines], [line.ours for line in lines], "o", color=colour, label=f"σ² = {noise:g}"
        )
    axes.set(xlim=(0, largest), xlabel="eigenvalue λ of the data's covariance", ylabel="KL of the latent (nats)")
    axes.set_title("A latent is used where its eigenvalue is above σ²")
    axes.legend(frameon=False, title="line: ½ ln(λ/σ²), or 0")
    return figure


def mnist_binarised(record: Record) -> Figure:
    """log p(x) of each model on the same images, the lowest first, and the ELBO where log p(x) is not exact."""
    count = record["settings"]["points"]
    by_quantity: dict[str, dict[str, Line]] = {"log p(x)": {}, "ELBO": {}}
    for line in lines_of(record):
        name, _, quantity = line.quantity.rpartition(": ")
        if line.points == count and quantity in by_quantity:
            by_quantity[quantity][name] = line
    log_p, elbo = by_quantity.values()
    names = sorted(log_p, key=lambda name: log_p[name].ours)
    figure, axes = new_axes(None, (7.6, 1.2 + 0.4 * len(names)))
    for place, name in enumerate(names):
        error = 2 * (log_p[name].data_se or 0.0)
        axes.errorbar(log_p[name].ours, place, xerr=error, fmt="o", ms=6, color=COLOURS[0])
        if name in elbo:
            axes.plot(elbo[name].ours, place, "|", ms=14, mew=2, color=COLOURS[1])
    axes.plot([], [], "o", color=COLOURS[0], label="log p(x), ± 2 standard errors from the choice of images")
    axes.plot([], [], "|", ms=14, mew=2, color=COLOURS[1], label="ELBO")
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set(xlabel="nats an image", title=f"Binarised MNIST, the same {count} test images")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


LEAST = 1e-4  # nats: where the axis of loose bounds begins


def looseness(records: list[Record]) -> Figure | None:
    """How far each bound lies below log p(x), as far as the records know. Rows of one record stand below its title."""
    rows: list[tuple[str, Line | None]] = []
    for record in records:
        loose = [line for line in lines_of(record) if line.bound_error is not None]
        if loose:
            rows += [(record["title"], None), *((line.quantity, line) for line in loose)]
    if not rows:
        return None
    figure, axes = new_axes(None, (8.6, 0.9 + 0.27 * len(rows)))
    for place, (_, line) in enumerate(rows):
        if line is None:
            continue
        error = max(line.bound_error or 0.0, LEAST)
        axes.hlines(place, LEAST, error, color=COLOURS[0], lw=6, alpha=0.35)
        axes.errorbar(error, place, xerr=2 * (line.bound_error_se or 0.0), fmt="o", ms=5, color=COLOURS[0])
        label = two_digits(line.bound_error)
        axes.annotate(label, (error, place), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    for tick, (_, line) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if line is None else "normal")
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="log p(x) − bound (nats, ± 2 standard errors)", title="How loose each bound is")
    axes.set_xlim(left=LEAST)
    return figure


GAPS = {
    "approximation gap": "approximation gap: log p(x) − best q",
    "amortisation gap": "amortisation gap: best q − amortised q",
}


def inference_gaps(records: list[Record]) -> Figure | None:
    """What the family of q and its network cost, published and here, one above the other."""
    bars: dict[str, tuple[float, float, float]] = {}  # approximation gap, amortisation gap, error of their sum
    for record in records:
        found = {line.quantity: line for line in lines_of(record)}
        if not GAPS.keys() <= found.keys():
            continue
        name, both = record["title"].removeprefix("Inference gaps of a "), [found[name] for name in GAPS]
        bars[f"{name.partition(',')[0]}, published"] = both[0].published, both[1].published, 0.0
        error = 2 * sum(line.data_se or 0.0 for line in both)  # at most: the same images are in both
        bars[f"{name}, {epochs_of(record['settings']['stages']):,} epochs"] = both[0].ours, both[1].ours, error
    if not bars:
        return None
    figure, axes = new_axes(None, (9.6, 1.6 + 0.42 * len(bars)))
    for place, (*gaps, error) in enumerate(bars.values()):
        lefts = 0.0, gaps[0]
        axes.barh([place, place], gaps, left=lefts, height=0.62, color=COLOURS[:2])
        axes.errorbar(sum(gaps), place, xerr=error or None, color="0.2", capsize=3)
        for left, gap in zip(lefts, gaps, strict=True):
            axes.annotate(f"{gap:.2f}", (left + gap / 2, place), ha="center", va="center", fontsize=9, color="white")
    axes.set_yticks(range(len(bars)), list(bars), fontsize=9)
    axes.invert_yaxis()
    axes.set(
        xlabel="nats an image (± at most 2 standard errors from the choice of images)", title="Inference gaps on MNIST"
    )
    patches = [Patch(color=colour, label=text) for colour, text in zip(COLOURS, GAPS.values(), strict=False)]
    figure.legend(handles=patches, frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


ONE_RECORD: dict[str, Callable[[Record], Figure]] = {
    "tightness": tightness,
    "collapse": collapse,
    "mnist_binarised": mnist_binarised,
}
ALL_RECORDS: dict[str, Callable[[list[Record]], Figure | None]] = {
    "looseness": looseness,
    "inference_gaps": inference_gaps,
}


def draw(folder: Path, records: dict[str, Record]) -> list[Path]:
    """Draw all figures whose records are there."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {name: function(records[name]) for name, function in ONE_RECORD.items() if name in records}
    for name, function in ALL_RECORDS.items():
        if (figure := function(list(records.values()))) is not None:
            figures[name] = figure
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return [folder / f"{name}.png" for name in figures]
