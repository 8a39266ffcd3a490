"""Options of a pair as texts: `latent=20`, `hidden=200,200`, `guide=FullCovariance`, `likelihood=FixedNormal(0.1)`."""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pyro.infer import ELBO

from .. import guides, likelihoods, objectives, priors
from .. import nn as nets
from ..errors import InvalidInputError, did_you_mean
from .registry import check_kind, classes_of
from .user_files import module_of, parse_file_class


def parse(settings: Iterable[str], defaults: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Parse `name=value` texts.

    A value is a Python literal (`20`, `200,200`, `0.1`), or the name of a class of pyrovae or in `names`, such as
    `FullCovariance`. It may also be a call of a class with literals: `FixedNormal(0.1)`. A class of your own file has the
    file before it, `own_guide.py:HeavyTails`, and naming it runs the file.

    Args:
        settings: The texts.
        defaults: The pair's own values, whose types say what is expected.
        names: Classes that may be named, besides those of pyrovae.

    Returns:
        The values, by name.

    Raises:
        InvalidInputError: A text is none of these.
    """
    options = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInputError(f"'{text}' is not an option: write name=value, for example latent=20.")
        name, value = name.strip(), value.strip()
        default, parsed = defaults.get(name), _value(value, {**classes_of(name), **names})
        if isinstance(parsed, str):
            _check_word(name, parsed, default, names)
        check_kind(name, value, parsed, default)
        if isinstance(default, tuple) and not isinstance(parsed, tuple):
            parsed = (parsed,)
        if isinstance(parsed, type) and not isinstance(default, type):  # an object is wanted: likelihood=Bernoulli
            parsed = _called(value, parsed)
        options[name] = parsed
    return options


def listed(text: str) -> list[str]:
    """The parts of a text between commas that stand in no brackets: `gmm,vae(hidden=200,200)` has two.

    Raises `InvalidInputError` where a bracket has no partner.
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise InvalidInputError(
            f"'{text}' has a bracket without its partner: write name(option=value, …), such as vae(guide=IAF)."
        )
    return [part.strip() for part in parts]


def with_settings(text: str) -> tuple[str, list[str]]:
    """Return the name and the settings of `vae(guide=IAF, hidden=200,200)`, as `--set` takes them. `gmm` has none.

    A part without `=` continues the value before it, as the second 200 does.
    """
    bracket, depth = len(text), 0
    # a folder may have brackets in its name: those count that the text ends with
    for bracket in reversed(range(len(text))):
        depth += (text[bracket] == ")") - (text[bracket] == "(")
        if depth == 0:
            break
    if not text.endswith(")"):
        return text, []
    settings: list[str] = []
    for part in listed(text[bracket + 1 : -1]):
        name, equals, value = part.partition("=")
        if equals and "(" not in name:
            settings.append(f"{name.strip()}={value.strip()}")
        elif settings:
            settings[-1] += f",{part}"
        elif part:
            settings.append(part)
    return text[:bracket].strip(), settings


def parse_range(text: str, parse: Callable[[list[str]], dict[str, Any]]) -> tuple[str, list[Any]]:
    """The option and the values that `components=1..30` or `latent=2,4,8` stands for; `parse` reads `name=value` texts.

    Raises `InvalidInputError` where there is no name, no value, or a range that ends below its start.
    """
    name, equals, rest = (part.strip() for part in text.partition("="))
    if not (name and equals and rest):
        raise InvalidInputError(f"'{text}' is no option with values: write name=1..30, or name=2,4,8.")
    values: list[Any] = []
    for part in listed(rest):
        ends = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", part)
        if ends and int(ends[1]) > int(ends[2]):
            raise InvalidInputError(f"'{part}' ends below its start: write the smaller number first.")
        texts = map(str, range(int(ends[1]), int(ends[2]) + 1)) if ends else [part]
        values += [parse([f"{name}={value}"])[name] for value in texts]
    return name, values


def parse_objective(text: str) -> ELBO:
    """The objective that `DReG(50)` stands for: one of `pyrovae.objectives`, called with literals. Raises `InvalidInputError` for others."""
    known = {name: kind for name, kind in vars(objectives).items() if isinstance(kind, type) and issubclass(kind, ELBO)}
    for base in (objectives.Objective, objectives.MultiSampleObjective, objectives.PathGradient):
        known.pop(base.__name__)
    objective = _value(text.strip().replace("-inf", "-1e999"), {}, known)  # which Python reads as −∞
    if isinstance(objective, type):
        objective = _called(text, objective)
    if not isinstance(objective, ELBO):
        called = text.partition("(")[0].strip()
        raise InvalidInputError(
            f"There is no objective '{text}'{did_you_mean(called, sorted(known))}: give one of {', '.join(sorted(known))}, such as "
            "DReG(50)."
        )
    return objective


def plain(value: Any) -> str:
    """An option's value as it would be written after `--set name=`."""
    if value is inspect.Parameter.empty:
        return "…"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.__name__ if isinstance(value, type) else str(value)


def _value(text: str, names: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> Any:
    if known is None and (own := parse_file_class(text)) is not None:
        return _own_value(*own)
    known = _known(names) if known is None else known
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return text
    match tree:
        case ast.Name(id=name) if isinstance(known.get(name), type):
            return known[name]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if isinstance(known.get(name), type):
            try:
                values = [ast.literal_eval(arg) for arg in args]
                named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
            except (ValueError, TypeError) as error:
                raise InvalidInputError(f"'{text}' must be called with plain values, such as {name}(0.1).") from error
            return _called(text, known[name], *values, **named)
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError):
        return text


def _own_value(path: Path, text: str) -> Any:
    names, name = vars(module_of(path)), text.partition("(")[0]
    if not isinstance(names.get(name), type):
        known = [key for key, value in names.items() if _is_own(value)]
        raise InvalidInputError(f"{path} has no class '{name}'{did_you_mean(name, known)}.")
    return _value(text, names)


def _known(names: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **vars(likelihoods),
        **vars(guides),
        **vars(priors),
        **vars(nets),
        **names,
    }


def _called(text: str, kind: type, *args: Any, **named: Any) -> Any:
    try:
        return kind(*args, **named)
    except Exception as error:
        raise InvalidInputError(
            f"'{text}' cannot be made: {error}; it is called as {kind.__name__}{signature_of(kind)}."
        ) from error


def signature_of(kind: type) -> str:
    """What a class is called with, as `(floor=0.0001)`."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except ValueError:
        return "(…)"
    return f"({', '.join(p.name if p.default is p.empty else f'{p.name}={p.default}' for p in parameters)})"


def _check_word(name: str, word: str, default: Any, names: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` for a word where a class or a number belongs, before it fails deep in a model."""
    if isinstance(default, type) or default is None:
        called = word.partition("(")[0]
        if called.endswith(".py"):
            raise InvalidInputError(f"{name}={word} names a file: write the class too, {name}={word}:Name.")
        own = {key for key, value in names.items() if _is_own(value) and value.__module__ == names.get("__name__")}
        kind, offered = classes_of(name), (nets, likelihoods, guides, priors)
        every = {key for module in offered for key, value in vars(module).items() if _is_own(value)}
        near = did_you_mean(called, sorted(own | (set(kind) or every)))
        raise InvalidInputError(
            f"{name}={word}: '{word}' is no number, and there is no class of that name{near}"
            f"{'; give one of ' + ', '.join(kind) if kind and not near else ''}."
        )
    if isinstance(default, int | float | tuple):
        raise InvalidInputError(f"{name}={word}: '{word}' is not a number; write {name}={plain(default)}, for example.")


def _is_own(value: Any) -> bool:
    return (
        isinstance(value, type)
        and not value.__name__.startswith("_")
        and not value.__module__.startswith(("torch", "typing"))
    )
