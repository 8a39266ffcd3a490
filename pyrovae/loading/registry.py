"""What an option takes by its name: a guide, a likelihood, a prior, a mixture's covariance; and which guides a pair takes."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from .. import guides, likelihoods, priors
from .. import nn as nets
from ..errors import InvalidInputError, did_you_mean
from ..pair.execution import ModelOrGuide
from ..pair.structure import inspect_pair

KINDS = ("guide", "likelihood", "prior", "covariance")
ROWS = 8  # of x, on which a guide is tried
_UNFINISHED = (  # bases, and what takes more than an option can say
    *(guides.Amortised, guides.Flow, guides.HasPosterior, guides.MixtureNormal, guides.PerPoint),
    *(likelihoods.Likelihood, likelihoods.OverLevels, priors.Prior),
    *(likelihoods.MixtureComponents, likelihoods.GaussianComponents, likelihoods.IndependentComponents),
)


def classes_of(kind: str) -> dict[str, type]:
    """pyrovae's own classes of that kind, by name; {} for an option that is of none."""
    classes: dict[str, Any]
    match kind:
        case "guide":
            classes = {name: getattr(guides, name) for name in guides.__all__}
        case "likelihood":
            classes = _derived(likelihoods.Likelihood, vars(likelihoods))
        case "prior":
            classes = _derived(priors.Prior, vars(priors))
        case "covariance":
            classes = _derived(likelihoods.MixtureComponents, vars(likelihoods))
        case _:
            classes = {}
    return {
        name: value for name, value in sorted(classes.items()) if isinstance(value, type) and value not in _UNFINISHED
    }


def _derived(base: type, classes: Mapping[str, Any]) -> dict[str, type]:
    return {name: value for name, value in classes.items() if isinstance(value, type) and issubclass(value, base)}


def check_kind(name: str, text: str, value: Any, default: Any) -> None:
    """A class of pyrovae's where one of another kind belongs, or a number where a class does."""
    mine = classes_of(name)
    if not mine or not (default is None or default in mine.values()):
        return
    given = value if isinstance(value, type) else type(value)
    others = [set(classes_of(kind).values()) for kind in KINDS if kind != name]
    other = given in vars(nets).values() or any(given in classes for classes in others)
    number = isinstance(value, int | float | tuple) and (default is not None or name == "likelihood")
    if (other and given not in mine.values()) or number:
        raise InvalidInputError(
            f"{name}={text}: {text} is no {name}{did_you_mean(text, mine)}; give one of {', '.join(mine)}."
        )


def check_no_text(name: str, text: str) -> None:
    """Raise `InvalidInputError` for a text where Python wants a class or an object, such as likelihood="bernoulli"."""
    classes = classes_of(name)
    if classes:
        module = "likelihoods" if name == "covariance" else f"{name}s"
        called = "()" if name in ("likelihood", "prior") else ""
        near = difflib.get_close_matches(text.capitalize(), classes, n=1) or list(classes)
        raise InvalidInputError(
            f"{name}={text!r} is a text: give one of {', '.join(classes)}, such as {name}=pyrovae.{module}.{near[0]}{called}."
        )


def check_guide(
    name: str,
    asked: Any,
    default: Any,
    own: tuple[type, ...],
    build: Callable[[type], tuple[ModelOrGuide, ModelOrGuide]],
    x: Tensor,
) -> None:
    """Say which guides a pair takes, if `asked` is one of pyrovae's and it does not work, though the pair does under its `default`.

    Each is tried, on a few points: `build` makes the pair under a guide. `own` are the guides of the pair's file.
    """
    known = {**classes_of("guide"), "PerPoint": guides.PerPoint, **{guide.__name__: guide for guide in own}}
    if asked is default or asked not in known.values() or not isinstance(default, type):
        return
    offered = {default.__name__: default, **known}
    works = [called for called, guide in sorted(offered.items()) if _works(build, guide, x[:ROWS])]
    if default.__name__ in works and asked.__name__ not in works:
        raise InvalidInputError(f"{name} takes no guide={asked.__name__}: it takes {', '.join(works)}.")


def _works(build: Callable[[type], tuple[ModelOrGuide, ModelOrGuide]], guide: type, x: Tensor) -> bool:
    try:
        inspect_pair(*build(guide), x, scored=False)
    except InvalidInputError:
        return False
    return True
