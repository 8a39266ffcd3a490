"""How much a command says: `--quiet` and `--verbose`, which every command has."""

import functools
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from ..errors import InvalidInputError

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print what the library logs too, and the traceback of an error.")
]
OPTIONS = {"quiet": QuietOption, "verbose": VerboseOption}
_level: ContextVar[int] = ContextVar("level", default=logging.WARNING)


def log_level() -> int:
    """Return the least level of what is printed: ERROR with `--quiet`, DEBUG with `--verbose`, else WARNING."""
    return _level.get()


def with_verbosity(command: Callable[..., None]) -> Callable[..., None]:
    """Add the two options to a command."""

    @functools.wraps(command)
    def run(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> None:
        if quiet and verbose:
            raise InvalidInputError("--quiet and --verbose ask for opposite things: leave one out.")
        token = _level.set(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
        logger = logging.getLogger("pyrovae")
        before = logger.level
        logger.setLevel(_level.get() if verbose else before)
        try:
            command(*args, **kwargs)
        finally:
            logger.setLevel(before)
            _level.reset(token)

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in OPTIONS.items()
    ]
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **OPTIONS}
    return run
