"""load(): from a name, or a file, to its pair."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro

from ..errors import InvalidInputError, check_int, did_you_mean, user_code_errors
from ..guides.per_point import PerPoint
from ..pair.execution import ModelOrGuide
from ..utils.notebook import ShownAsHTML
from .options import parse, plain
from .registry import check_no_text
from .user_files import module_of

BUILT_IN = "pyrovae.models"


@dataclass(frozen=True)
class PairBuilder(ShownAsHTML):
    """The builder of a pair: call it with the size of x and options, and it returns `(model, guide)`.

    `load` makes it from a model file.
    """

    name: str
    module: ModuleType
    file: Path | None  # where a user's own came from; None for a built-in

    def __call__(self, dim: int, **options: Any) -> tuple[ModelOrGuide, ModelOrGuide]:
        """A new model and guide for x of `dim` numbers. Raises `InvalidInputError` for an option that the pair does not have, or a text for an object."""
        self._check_known(options)
        for option, value in options.items():
            if isinstance(value, str) and not isinstance(self.options.get(option), str):
                check_no_text(option, value)
        if PerPoint in options.values():
            raise InvalidInputError(
                "PerPoint(num_points, latent) belongs to points, and a pair is built for a size of x: build the pair with another "
                "guide, and then write guide = PerPoint(len(x), latent)."
            )
        if isinstance(self.options.get("latent"), int) and "latent" in options:
            check_int("latent", options["latent"], 1)
        with pyro.settings.context(module_local_params=True):  # modules of one name share nothing
            settings = ", ".join(f"{key}={plain(value)}" for key, value in options.items()) or "its own options"
            with user_code_errors(f"Building {self.name} for x of {dim} numbers with {settings}"):
                built = self._build(dim, **options)
        if not (isinstance(built, tuple) and len(built) == 2 and all(map(callable, built))):
            raise InvalidInputError(
                f"pair(dim, **options) of {self.name} must return (model, guide), two callables; got {built!r:.80}."
            )
        return built

    def _check_known(self, options: Iterable[str]) -> None:
        for option in () if self._open else options:
            if option not in self.options:
                known = ", ".join(f"{key}={plain(value)}" for key, value in self.options.items()) or "none"
                raise InvalidInputError(
                    f"{self.name} has no option '{option}'{did_you_mean(option, self.options)}; its options are: {known}."
                )

    @property
    def _build(self) -> Callable[..., Any]:
        return self.module.pair

    @property
    def _open(self) -> bool:
        """Whether it takes any option, as `pair(dim, **options)` does."""
        parameters = inspect.signature(self._build).parameters.values()
        return any(p.kind is p.VAR_KEYWORD for p in parameters)

    @property
    def options(self) -> dict[str, Any]:
        """The default of each option, by name."""
        parameters = list(inspect.signature(self._build).parameters.values())[1:]
        return {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    @property
    def summary(self) -> str:
        """The first line of the docstring of the file: the name and the equation of the model."""
        lines = (self.module.__doc__ or "").strip().splitlines()
        return lines[0] if lines else "(the file has no docstring)"

    @property
    def recipe(self) -> dict[str, Any]:
        """The training arguments that suit this pair: TRAINING_DEFAULTS of the file, {} if it has none.

        They may have `steps` (as many epochs as they need), `epochs`, `batch_size` and `lr`.
        """
        recipe = getattr(self.module, "TRAINING_DEFAULTS", {})
        known = {"steps", "epochs", "batch_size", "lr"}
        if not (isinstance(recipe, dict) and set(recipe) <= known):
            raise InvalidInputError(
                f"TRAINING_DEFAULTS of {self.name} must be a dictionary of {', '.join(sorted(known))}; got {recipe!r:.80}."
            )
        return dict(recipe)

    def parse(self, settings: Iterable[str]) -> dict[str, Any]:
        """Parse options from `name=value` texts, as `options.parse` does. The classes of the file may be named too."""
        settings = list(settings)
        self._check_known(text.partition("=")[0].strip() for text in settings if "=" in text)
        return parse(settings, self.options, vars(self.module))


def load(name_or_file: str | Path) -> PairBuilder:
    """Load the builder of a pair, by its name or from a Python file.

    A file must define `pair(dim, **options) -> (model, guide)`. Loading runs it.

    Args:
        name_or_file: One of `available()`, or the path of a file.

    Returns:
        A function of D, the size of one point, and of options. It builds the model and the guide.

    Raises:
        InvalidInputError: There is no such name or file, the file cannot be run, or it has no `pair`.

    Example:
        >>> import pyrovae
        >>> model, guide = pyrovae.load("vae")(64, latent=8)
    """
    text = str(name_or_file)
    if text.endswith(".py") or "/" in text:
        return _from_file(Path(text))
    if text not in available():
        near = f" (did you mean '{text}.py'?)" if Path(f"{text}.py").is_file() else did_you_mean(text, available())
        raise InvalidInputError(
            f"There is no model '{text}'{near}; there are {', '.join(available())}, or give the path of a "
            ".py file that defines pair(dim, **options)."
        )
    return PairBuilder(text, importlib.import_module(f"{BUILT_IN}.{text}"), None)


def available() -> list[str]:
    """List the names of the built-in pairs, in alphabetical order.

    Example:
        >>> import pyrovae
        >>> pyrovae.available()[:3]
        ['autoencoder', 'bernoulli_mixture', 'bernoulli_pca']
    """
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(BUILT_IN).__path__))


def _from_file(path: Path) -> PairBuilder:
    if not path.is_file():
        raise InvalidInputError(f"There is no model file {path}.")
    module = module_of(path)
    if not callable(getattr(module, "pair", None)):
        raise InvalidInputError(
            f"{path} does not define pair: add a function pair(dim, **options) that returns (model, guide)."
        )
    return PairBuilder(path.stem, module, path.resolve())
