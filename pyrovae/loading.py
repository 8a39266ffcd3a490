"""load(): from a name, or a file, to its pair."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import torch

from . import components, guides, likelihoods
from .errors import Diverged, Refusal, suggest
from .weights import Program

BUILT_IN = "pyrovae.models"


@dataclass(frozen=True)
class Pair:
    """What a model file offers: called with the size of x and its options, it builds `(model, guide)`."""

    name: str
    module: ModuleType
    file: Path | None  # where a user's own came from; None for a built-in

    def __call__(self, dim: int, **options: Any) -> tuple[Program, Program]:
        """A new model and guide for x of `dim` numbers. Raises `Refusal` for an option that the pair does not have."""
        for option in () if self._open else options:
            if option not in self.options:
                known = ", ".join(f"{key}={plain(value)}" for key, value in self.options.items()) or "none"
                raise Refusal(
                    f"{self.name} has no option '{option}'{suggest(option, self.options)}; its options are: {known}."
                )
        with pyro.settings.context(module_local_params=True):  # modules of one name share nothing
            try:
                built = self._build(dim, **options)
            except (Refusal, Diverged, torch.OutOfMemoryError):
                raise
            except Exception as error:
                told = ", ".join(f"{key}={plain(value)}" for key, value in options.items()) or "its own options"
                raise Refusal(
                    f"{self.name} cannot be built for x of {dim} numbers with {told}: {type(error).__name__}: {error}"
                ) from error
        if not (isinstance(built, tuple) and len(built) == 2 and all(map(callable, built))):
            raise Refusal(
                f"pair(dim, **options) of {self.name} must return (model, guide), two callables; got {built!r:.80}."
            )
        return built

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
        """Each option's default, by name."""
        parameters = list(inspect.signature(self._build).parameters.values())[1:]
        return {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    @property
    def summary(self) -> str:
        """The first line of the file's docstring: the model's name and equation."""
        lines = (self.module.__doc__ or "").strip().splitlines()
        return lines[0] if lines else "(the file has no docstring)"

    @property
    def recipe(self) -> dict[str, Any]:
        """What suits this pair's training: the file's RECIPE, `steps` and arguments of `fit`; {} where it has none."""
        return dict(getattr(self.module, "RECIPE", {}))

    def parse(self, settings: Iterable[str]) -> dict[str, Any]:
        """Options from `name=value` texts. Values are Python literals (`20`, `200,200`, `0.1`), names of pyrovae's or the
        file's own classes (`FullCovariance`), or calls of them with literals (`FixedNormal(0.1)`)."""
        options = {}
        for text in settings:
            name, equals, value = text.partition("=")
            if not equals:
                raise Refusal(f"'{text}' is not an option: write name=value, for example latent=20.")
            name, value, default = name.strip(), value.strip(), self.options.get(name.strip())
            parsed = _value(value, vars(self.module))
            if isinstance(parsed, str):
                _refuse_word(name, parsed, default, vars(self.module))
            if isinstance(default, tuple) and not isinstance(parsed, tuple):
                parsed = (parsed,)
            if name == "likelihood" and isinstance(parsed, type):
                parsed = _called(value, parsed)
            options[name] = parsed
        return options


def load(name_or_file: str | Path) -> Pair:
    """The pair of that name (`available()` lists them), or of the Python file at that path.

    A file must define `pair(dim, **options) -> (model, guide)`. Loading runs it. Raises `Refusal` when there is no such name
    or file, when it cannot be run, or has no `pair`.
    """
    text = str(name_or_file)
    if text.endswith(".py") or "/" in text:
        return _from_file(Path(text))
    if text not in available():
        raise Refusal(
            f"There is no model '{text}'{suggest(text, available())}; there are {', '.join(available())}, or give the path of a "
            ".py file that defines pair(dim, **options)."
        )
    return Pair(text, importlib.import_module(f"{BUILT_IN}.{text}"), None)


def available() -> list[str]:
    """The names of the built-in pairs, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(BUILT_IN).__path__))


def _from_file(path: Path) -> Pair:
    if not path.is_file():
        raise Refusal(f"There is no model file {path}.")
    spec = importlib.util.spec_from_file_location(f"pyrovae_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Refusal(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Refusal(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "pair", None)):
        raise Refusal(f"{path} does not define pair: add a function pair(dim, **options) that returns (model, guide).")
    return Pair(path.stem, module, path.resolve())


def _value(text: str, names: Mapping[str, Any]) -> Any:
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return text
    known = _known(names)
    match tree:
        case ast.Name(id=name) if isinstance(known.get(name), type):
            return known[name]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if isinstance(known.get(name), type):
            try:
                values = [ast.literal_eval(arg) for arg in args]
                named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
            except (ValueError, TypeError) as error:
                raise Refusal(f"'{text}' must be called with plain values, such as {name}(0.1).") from error
            return _called(text, known[name], *values, **named)
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError):
        return text


def _known(names: Mapping[str, Any]) -> dict[str, Any]:
    return {**vars(likelihoods), **vars(guides), **vars(components), **names}


def _called(text: str, kind: type, *args: Any, **named: Any) -> Any:
    try:
        return kind(*args, **named)
    except Exception as error:
        raise Refusal(
            f"'{text}' cannot be made: {error}; it is called as {kind.__name__}{_signature(kind)}."
        ) from error


def _signature(kind: type) -> str:
    try:
        parameters = inspect.signature(kind).parameters.values()
    except ValueError:
        return "(…)"
    return f"({', '.join(p.name if p.default is p.empty else f'{p.name}={p.default}' for p in parameters)})"


def _refuse_word(name: str, word: str, default: Any, names: Mapping[str, Any]) -> None:
    """A word where a class or a number belongs is a slip of the pen: better said now than as an error deep in a model."""
    if isinstance(default, type) or name == "likelihood":
        called = word.partition("(")[0]
        offered = (likelihoods, guides, components)
        known = {key for module in offered for key, value in vars(module).items() if _is_own(value)}
        known |= {key for key, value in names.items() if _is_own(value)}
        raise Refusal(f"{name}={word}: there is no class '{called}'{suggest(called, sorted(known))}.")
    if isinstance(default, int | float | tuple):
        raise Refusal(f"{name}={word}: '{word}' is not a number; write {name}={plain(default)}, for example.")


def _is_own(value: Any) -> bool:
    return (
        isinstance(value, type)
        and not value.__name__.startswith("_")
        and not value.__module__.startswith(("torch", "typing"))
    )


def plain(value: Any) -> str:
    """An option's value as it would be written after `--set name=`."""
    if value is inspect.Parameter.empty:
        return "…"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.__name__ if isinstance(value, type) else str(value)
