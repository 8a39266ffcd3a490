"""A command's defaults are those of the library's function, where both have the argument."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pyrovae.cli.app import COMMANDS
from pyrovae.data.datasets import load_data
from pyrovae.diagnostics.diagnosing import diagnose
from pyrovae.estimators.annealing import ais
from pyrovae.estimators.bidirectional import bdmc
from pyrovae.estimators.prior_sampling import prior_sampling_log_likelihood
from pyrovae.estimators.two_sided import two_sided_log_likelihood
from pyrovae.evaluation.annealing_comparison import compare_annealing
from pyrovae.evaluation.choosing import choose
from pyrovae.evaluation.comparing import compare
from pyrovae.evaluation.deciding import decide
from pyrovae.evaluation.distilling import distil
from pyrovae.evaluation.evaluating import evaluate
from pyrovae.evaluation.gap_decomposition import gap
from pyrovae.evaluation.imputing import impute
from pyrovae.pair.sampling import sample
from pyrovae.training import EarlyStopping, fit

LIBRARY: dict[str, list[Callable[..., Any]]] = {
    "compare": [compare, decide, load_data],
    "choose": [choose, load_data],
    "evaluate": [
        evaluate,
        prior_sampling_log_likelihood,
        compare_annealing,
        ais,
        bdmc,
        two_sided_log_likelihood,
        load_data,
    ],
    "gap": [gap, ais, load_data],
    "diagnose": [diagnose, load_data],
    "distil": [distil],
    "impute": [impute],
    "sample": [sample],
    "train": [fit, load_data],
}
ARGUMENTS = {  # of the library, where it has another name
    "ais": "annealing",
    "ais_chains": "num_chains",
    "ais_steps": "num_temperatures",
    "ais_start": "start",
    "ais_points": "num_points",
    "split_seed": "seed",
    "two_sided_samples": "num_samples",
    "two_sided_replicates": "num_replicates",
}


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def compared() -> list[tuple[str, str, Callable[..., Any], str]]:
    """Every option of a command, and each function of the library that has its argument."""
    found = []
    for name, functions in LIBRARY.items():
        for option in defaults(COMMANDS[name]):
            for function in functions:
                seeds = {"seed": function is load_data, "split_seed": function is not load_data}
                argument = ARGUMENTS.get(option, option)
                if (option, function) == ("num_samples", prior_sampling_log_likelihood):
                    continue  # the command takes as many draws of the prior as of the guide
                if argument == "num_samples" and option.startswith("two_sided") != (
                    function is two_sided_log_likelihood
                ):
                    continue  # K of one bound is not that of the other
                if argument in defaults(function) and not seeds.get(option, False):
                    found.append((name, option, function, argument))
    return found


@pytest.mark.parametrize(("name", "option", "function", "argument"), compared())
def test_defaults_are_equal(name: str, option: str, function: Callable[..., Any], argument: str) -> None:
    command, library = defaults(COMMANDS[name])[option], defaults(function)[argument]
    if name == "train" and command is None:
        return  # the argument is not passed on
    assert command == library


def test_the_comparison_misses_no_number() -> None:
    """Every number that a command has as a default is compared, but for those of which the library has none."""
    seen = {(name, option) for name, option, _, _ in compared()}
    numbers = {
        (name, option)
        for name in LIBRARY
        for option, value in defaults(COMMANDS[name]).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers - seen == {("gap", "points"), ("sample", "num_samples"), ("sample", "seed")}


def test_every_option_of_train_reaches_fit() -> None:
    others = {"validation_fraction", "patience"}  # EarlyStopping's
    context = {"context", "model", "out", "resume", "data", "settings", "log_to", "device", "overwrite", "seed"}
    of_data = {"transform", "split_seed", "root", "download", "label", "drop", "levels", "dtype"}
    given = set(inspect.signature(COMMANDS["train"]).parameters) - context - of_data
    assert given - others <= set(inspect.signature(fit).parameters)
    assert defaults(EarlyStopping) | {"patience": 10} == defaults(EarlyStopping)  # as the help text says
