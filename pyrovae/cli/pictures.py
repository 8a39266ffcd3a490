"""The pictures of `pyrovae show`: for each a function that computes its arrays, draws them, and says in a sentence what they mean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidInputError
from .common import in_units_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..data.datasets import Data
    from ..runs.run import Run

MAX_POINTS = 2000  # of the held-out ones that are encoded
ELBO_DRAWS = 100  # of the guide, for the ELBO of held-out points


@dataclass(frozen=True)
class Request:
    """What is to be drawn, and of what."""

    run: "Run"
    data: "Data"
    points: list[int]
    others: "list[Run]"  # drawn beside
    draws: bool
    ellipses: int
    count: int | None
    seed: int

    @property
    def x(self) -> "Tensor":
        return self.data.test


@dataclass(frozen=True)
class Picture:
    """One of the pictures: how many point numbers it takes, an example of the command, and the function that draws it."""

    points: tuple[int, ...]
    example: str
    draw: "Callable[[Request], tuple[Figure, str]]"


def _reconstruct(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    result = exploration.reconstruct(request.run.model, request.run.guide, request.x, request.seed)
    how = "E[x|z], averaged over draws of the latents" if result.from_draws else "E[x|z] at the posterior mean z"
    return plots.reconstructions(result, request.data, request.count or 12), (
        f"Held-out points, from the one that is reconstructed best to the one that is reconstructed worst: x̂ is {how}."
    )


def _manifold(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    result = exploration.manifold(request.run.model, request.run.guide, request.x[:MAX_POINTS], request.count or 20)
    rest = (
        f" {'Another latent stays' if result.fixed == 1 else f'{result.fixed} other latents stay'} at the median."
        if result.fixed
        else ""
    )
    return plots.manifold(result, request.data), (
        f"What the decoder makes of a grid over {' and '.join(result.names)}, spaced by {result.source}: equal steps are equally "
        f"probable.{rest}"
    )


def _latent(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    x, labels = request.x[:MAX_POINTS], request.data.test_labels
    labels = None if labels is None else labels[: len(x)]
    names = request.data.label_names
    what = "draws of q(z|x)" if request.draws else "posterior means"
    if request.others:
        runs = [request.run, *request.others]
        labelled = {
            f"{run.name} ({place + 1})" if len({r.name for r in runs}) < len(runs) else run.name: run
            for place, run in enumerate(runs)
        }
        found = {name: exploration.encode(run.model, run.guide, x, request.seed) for name, run in labelled.items()}
        return plots.latent_scatters(found, labels, names, draws=request.draws), (
            f"The {what} of {len(x)} held-out points, each on its model's two most informative latents."
        )
    model, guide = request.run.model, request.run.guide
    encodings = exploration.encode(model, guide, x, request.seed)
    ovals = None
    if request.ellipses:
        if encodings.means.shape[1] < 2:
            raise InvalidInputError("Ellipses lie in a plane, and this pair has one latent: leave --ellipses out.")
        step = max(1, len(x) // request.ellipses)
        rows = list(range(0, len(x), step))[: request.ellipses]
        ovals = exploration.ellipses(model, guide, x, rows, encodings.latents, request.seed)
    colours = "coloured by label" if labels is not None else "which have no labels"
    rest = f", on the two most informative of {encodings.size} latents" if encodings.size > 2 else ""
    return plots.latent_scatter(encodings, labels, names, ovals, draws=request.draws), (
        f"The {what} of {len(x)} held-out points, {colours}{rest}: points of one kind lie together where the latents know the kind."
    )


def _traverse(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    start = request.points[0] if request.points else None
    result = exploration.traverse(
        request.run.model, request.run.guide, request.x[:MAX_POINTS], start, latents=request.count or 10
    )
    others = "at their median" if start is None else f"as point {start} has them"
    return plots.traversals(result, request.data), (
        f"E[x|z] as one latent at a time goes through {result.source} from 2 to 98 %, the others {others}: latents with a KL near 0 "
        "change nothing."
    )


def _interpolate(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    a, b = request.points
    result = exploration.interpolate(request.run.model, request.run.guide, request.x, a, b, request.count or 11)
    straight, shortest = result.lengths
    return plots.interpolation(result, request.data), (
        f"E[x|z] on two ways from point {a} to point {b}: the straight line is {straight:.2f} long under the decoder, the shortest path "
        f"{shortest:.2f}."
    )


def _analogy(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    a, b, c = request.points
    result = exploration.analogy(request.run.model, request.run.guide, request.x, a, b, c)
    return plots.analogy(result, request.data), (
        f"Point {a} is to point {b} as point {c} is to the last picture, E[x|z] at z = C + B − A."
    )


def _components(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    result = exploration.take_apart(request.run.model, request.run.guide, request.x[:MAX_POINTS])
    text = (
        "The mixture's classes, the most probable first: each held-out point belongs to those that give it density."
        if result.kind == "mixture"
        else "E[x|z] adds multiples of these directions to the centre, the longest first; a percentage is the share of the squared length."
    )
    return plots.components(result, request.data), text


def _samples(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    count = request.count or 12
    result = exploration.generate(request.run.model, request.x, count, request.seed)
    noise = (
        f" Draws look noisy because p(x|z) gives each number its own noise, {result.noise:.2f} on average; the means leave it out."
        if result.means is not None and result.noise > 0
        else ""
    )
    return plots.samples(result, request.data, count), f"New x from the model, beside held-out data.{noise}"


def _training(request: Request) -> "tuple[Figure, str]":
    from .. import plots
    from ..evaluation.evaluating import evaluate

    run, result = request.run, in_units_of(request.data, request.run.fit_result)
    evidence = None
    text = "ELBO = reconstruction − KL of the training points over the epochs: the band between the curves is the KL."
    if result.history and not result.no_density:
        x, transform = request.x[:MAX_POINTS], request.data.transform
        evidence = evaluate(run.model, run.guide, x, ELBO_DRAWS, request.seed, transform=transform)
        text += f" The ELBO of held-out points is {evidence.mean_elbo.value:.2f} nats."
    return plots.training(result, evidence), text


def _posterior(request: Request) -> "tuple[Figure, str]":
    from .. import exploration, plots

    row = request.points[0]
    result = exploration.posterior_of_point(request.run.model, request.run.guide, request.x, row, request.seed)
    figure = plots.posterior(result)
    if isinstance(result, exploration.GridPosterior):
        text = f"What the guide says of z at held-out point {row}, beside the true posterior: they differ by {max(result.kl, 0.0):.3f} nats."
    else:
        text = (
            f"Draws of the guide and of the true posterior at held-out point {row}, on the two most informative of {result.size} "
            f"latents; the true ones are worth {result.ess:.0f} independent draws."
        )
    return figure, text


PICTURES = {
    "reconstruct": Picture((0,), "pyrovae show RUN reconstruct", _reconstruct),
    "manifold": Picture((0,), "pyrovae show RUN manifold", _manifold),
    "latent": Picture((0,), "pyrovae show RUN latent", _latent),
    "traverse": Picture((0, 1), "pyrovae show RUN traverse 3", _traverse),
    "interpolate": Picture((2,), "pyrovae show RUN interpolate 3 8", _interpolate),
    "analogy": Picture((3,), "pyrovae show RUN analogy 3 8 12", _analogy),
    "components": Picture((0,), "pyrovae show RUN components", _components),
    "samples": Picture((0,), "pyrovae show RUN samples", _samples),
    "training": Picture((0,), "pyrovae show RUN training", _training),
    "posterior": Picture((1,), "pyrovae show RUN posterior 3", _posterior),
}
