"""What goes wrong, in one sentence on standard error."""

import contextlib
import functools
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import typer

from ..errors import InvalidInputError, failure_message
from .processes import process_group, tell
from .verbosity import log_level


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print what goes wrong in one sentence. Exit codes: 2 for invalid input, 1 for a failure, 130 for Ctrl-C."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with process_group():
            try:
                command(*args, **kwargs)
                return
            except (Exception, KeyboardInterrupt) as error:
                described = _describe(error)
                if described is None:
                    raise
                code, message = described
                if kwargs.get("verbose") and not kwargs.get("quiet"):
                    traceback.print_exc()
                tell(" ".join([message, *getattr(error, "__notes__", [])]))
        raise typer.Exit(code)

    return run


def _describe(error: BaseException) -> tuple[int, str] | None:
    """The exit code and the message of an expected error; None for any other, which is a bug."""
    message = failure_message(error)
    if message is not None:
        return 2 if isinstance(error, InvalidInputError) else 1, message
    if isinstance(error, OSError):
        file = f": {error.filename}" if error.filename else ""
        return 1, f"{error.strerror or error}{file}."
    if (
        isinstance(error, KeyboardInterrupt) and error.args
    ):  # torchrun's signal, of a job whose other processes have gone
        return 1, str(error)
    if isinstance(error, KeyboardInterrupt):
        return (
            130,
            "stopped; if RUN has a checkpoint, `pyrovae train --resume RUN` goes on, and `pyrovae evaluate RUN` reads it.",
        )
    return None


@contextlib.contextmanager
def warnings_on_stderr(name: str) -> Iterator[None]:
    """Print warnings that are logged inside on standard error, one line each, with the name of the pair."""

    class LineHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(f"{name}: {record.getMessage()}")

    handler, log = LineHandler(log_level()), logging.getLogger("pyrovae")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
