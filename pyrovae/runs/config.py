"""The settings of a run, in plain JSON types, and `fit`'s arguments from it."""

from dataclasses import dataclass, field
from typing import Any, get_origin, get_type_hints

from ..errors import InvalidInputError, did_you_mean
from ..loading.options import parse_objective
from ..training import EarlyStopping
from ..training.em import EM
from ..training.schedules import SCHEDULES

FORMAT = 3  # of a run folder: what its config.json is written in

INITIALISERS = {"em": EM}


@dataclass(frozen=True)
class Config:
    """Everything that a run was made with, in plain JSON types."""

    model: str  # a built-in's name, or the stem of the user's file
    user_file: bool  # the run holds the model's file
    options: list[str]  # name=value texts
    data: str  # a name, or the absolute path of a file
    transform: str | None
    fitted_transform: dict[str, Any]  # with levels, means and scales: what x is made by, whatever data it is made of
    reading: dict[str, Any]  # how a file is read, as arguments of load_data
    column_names: list[str]  # of x
    dtype: str  # of x and of the pair's parameters
    split_seed: int
    root: str | None
    dim: int
    seed: int
    fit_arguments: dict[str, Any]  # fit's own arguments
    versions: dict[str, str]
    resolved_options: dict[str, str] = field(
        default_factory=dict
    )  # every option of the pair, defaults included, as text

    def check(self) -> None:
        """Raises `TypeError` for a field of another type than is written here: the file may have been edited."""
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not isinstance(value, get_origin(kind) if get_origin(kind) in (list, dict) else kind):
                raise TypeError(f"{name} is {value!r:.40}")
        if not all(isinstance(option, str) for option in self.options):
            raise TypeError(f"options are {self.options!r:.40}")


def parse_fit_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `fit` from the plain values of a config.

    Names of schedules, initialisers and objectives become what they name.
    """
    arguments = dict(settings)
    if "schedule" in arguments:
        arguments["schedule"] = _named(SCHEDULES, "schedule", arguments["schedule"])
    if "init" in arguments:
        arguments["init"] = _named(INITIALISERS, "init", arguments["init"])()
    if "objective" in arguments:
        arguments["objective"] = parse_objective(arguments["objective"])
    validation, patience = arguments.pop("validation_fraction", None), arguments.pop("patience", None)
    if validation is not None or patience is not None:
        given = {"validation": validation, "patience": patience}
        arguments["early_stopping"] = EarlyStopping(**{k: v for k, v in given.items() if v is not None})
    return arguments


def _named(known: dict[str, Any], kind: str, name: str) -> Any:
    if name not in known:
        raise InvalidInputError(
            f"There is no {kind} '{name}'{did_you_mean(name, known)}: give one of {', '.join(known)}."
        )
    return known[name]
