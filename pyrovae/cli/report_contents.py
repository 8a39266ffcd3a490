"""What a report page is made from: the settings, the figures and the latent spaces of some runs."""

import contextlib
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import InvalidInputError
from ..evaluation.comparison import Comparison
from ..loading.options import plain
from ..report import Contents, PageFigure, Settings
from ..report.explorer import MAX_WEIGHTS, pack
from ..training import fit
from .common import draw_points, in_units_of
from .pictures import PICTURES, Request
from .reconstructions import Reconstructions, per_what

if TYPE_CHECKING:
    from ..data.datasets import Data
    from ..runs.run import Run

MAX_PICTURED = 4  # models with figures of their own: those with the highest log p̂(x)
SAMPLES = 24  # images of each model
OWN = {  # the pictures of one model: title, what there is to see, and whether curves are drawn
    "latent": ("latent space", "A scatter of held-out points in the plane of two latents", True),
    "manifold": ("decoded grid", "Decoded images on a grid over two latents", False),
    "traverse": ("one latent at a time", "Rows of decoded x, one latent varied in each", False),
    "components": (
        "parts",
        "The classes of the mixture or the directions of the linear model, as the model decodes them",
        False,
    ),
}
NOT_SETTINGS = (
    "model",
    "guide",
    "x",
    "seed",
    "checkpoints",
    "on_epoch",
    "callbacks",
    "structure",
    "early_stopping",
    "progress",
)


def gather_contents(
    comparison: Comparison,
    metadata: Mapping[str, Any],
    runs: Mapping[str, "Run"],
    data: "Data",
    reconstructions: Reconstructions,
    seed: int,
    excluded: Mapping[str, str] | None = None,
) -> Contents:
    """Gather all that the page shows; `runs` are those of the comparison, and those without log p(x)."""
    from ..plots import note

    shown = {name: run for name, run in runs.items() if name not in comparison.failed}
    ranked = sorted(comparison.evidence, key=lambda name: -comparison.evidence[name].mean_log_likelihood.value)
    ranked = [*ranked, *(name for name in shown if name not in comparison.evidence)]
    pictured = {name: shown[name] for name in ranked[:MAX_PICTURED]}
    figures = [*_shared(comparison, shown, data, reconstructions, seed)]
    for name, run in pictured.items():
        figures += _own(name, run, data, seed)
    for each in figures:
        note(each.figure, (data.name, each.model or ", ".join(shown), f"seed {seed}"))
    explorers, left = [], MAX_WEIGHTS
    for name, run in pictured.items():
        packed = pack(name, run.model, run.guide, data, left)
        if packed is not None:
            explorers.append(packed)
            left -= sum(len(layer["weight"]) + len(layer["bias"]) for layer in packed.get("layers", ())) * 3 // 16
    return Contents(
        comparison=comparison,
        metadata=metadata,
        settings={name: run_settings(run) for name, run in shown.items()},
        reconstructions=reconstructions.results,
        without_density=reconstructions.without_density,
        figures=figures,
        explorers=explorers,
        excluded=excluded or {},
        per=per_what(data),
    )


def run_settings(run: "Run") -> Settings:
    """Every option of a run with its value; of one that the model chose itself, what it chose."""
    given = run.pair.parse(run.config.options)
    options = {
        name: _chosen(run, name) if value is None else plain(value)
        for name, value in {**run.pair.options, **given}.items()
    }
    defaults = {name: p.default for name, p in signature(fit).parameters.items() if name not in NOT_SETTINGS}
    training = {name: getattr(value, "__name__", plain(value)) for name, value in defaults.items()}
    training |= {name: plain(value) for name, value in run.config.fit_arguments.items()}
    result = run.fit_result
    training |= {"objective": result.objective or training["objective"], "seed": str(run.config.seed)}
    training |= {"steps": str(result.steps), "seconds": f"{result.seconds:.1f}"}
    training |= {"stopped early": result.stop_reason} if result.stop_reason else {}
    return Settings(run.pair.summary, options, training, frozenset(given))


def _chosen(run: "Run", option: str) -> str:
    value = next((v for half in (run.guide, run.model) if (v := getattr(half, option, None)) is not None), None)
    if isinstance(value, nn.Module):
        value = type(value).__name__
    return f"{value} (chosen by the model)" if isinstance(value, int | float | str) else "chosen by the model"


def _shared(
    comparison: Comparison, runs: Mapping[str, "Run"], data: "Data", reconstructions: Reconstructions, seed: int
) -> Iterator[PageFigure]:
    """The figures that show all models."""
    from .. import plots

    names = ", ".join(comparison.evidence)
    yield PageFigure(
        "Where each model stands",
        f"log p̂(x), ELBO and gap of {names}; the numbers are in the table above",
        "Further right is better. A hollow mark is only a lower bound; the bar at the right is what the guide loses.",
        plots.evidence_plot(comparison),
    )
    fits = {
        name: in_units_of(data, run.fit_result)
        for name, run in runs.items()
        if name in comparison.evidence and run.fit_result.history
    }
    if fits:
        yield PageFigure(
            "Training",
            f"The training ELBO of {', '.join(fits)} over the epochs, with the held-out ELBO beside its end",
            "A held-out mark far below the end of its curve means that the model has learned the training points by heart.",
            plots.learning_curves(fits, comparison.evidence),
        )
    if len(comparison.evidence) > 1:
        yield PageFigure(
            "Differences on the same points",
            f"The paired difference of {names} to the best model, with two standard errors; the numbers are in the table above",
            "A bar that misses 0 shows a difference. Errors are small because what makes a point hard for both models cancels.",
            plots.difference_plot(comparison),
        )
    with contextlib.suppress(InvalidInputError):  # no weights vary
        yield PageFigure(
            "How far the draws of each guide carry",
            f"The Pareto tail index of every held-out point, from the smallest to the largest, of {names}",
            "Above the dashed line a few draws of the guide carry most of the weight: there its bound is too low.",
            plots.pareto_k_plot(comparison),
        )
    if any(not evidence.deterministic_guide for evidence in comparison.evidence.values()):
        yield PageFigure(
            "The bound over the number of draws",
            f"The importance-weighted bound of {names} over the number of draws",
            "The bound rises to log p(x) as draws are added: a curve that still rises at its end has not arrived.",
            plots.bound_curves(comparison),
        )
    if data.shape is not None:
        draws = {
            name: data.transform.grey(draw_points(runs[name], data, SAMPLES, seed)) for name in comparison.evidence
        }
        yield PageFigure(
            "Samples",
            f"Held-out images in the first rows, then new images that {names} drew",
            "New x from each model below held-out data: a good model's cannot be told from the data.",
            plots.samples_beside_data(data.transform.grey(data.test[:SAMPLES].cpu()), draws, data.shape),
            vector=False,
        )
    for figure in reconstructions.figures().values():
        yield PageFigure(
            "Reconstructions",
            f"Held-out images in the first rows, then what {', '.join(reconstructions.results)} make of them",
            "What the latents keep of each image: what is missing here was too expensive to encode.",
            figure,
            vector=False,
        )


def _own(name: str, run: "Run", data: "Data", seed: int) -> Iterator[PageFigure]:
    """The figures of one model; those that it has no place for are left out."""
    for what, (title, alt, vector) in OWN.items():
        if what == "manifold" and data.shape is None:
            continue
        count = 12 if what == "manifold" else None
        try:
            figure, caption = PICTURES[what].draw(Request(run, data, [], [], False, 0, count, seed))
        except InvalidInputError:
            continue
        yield PageFigure(f"{name}: {title}", f"{alt}, of {name}", caption, figure, vector, name)
