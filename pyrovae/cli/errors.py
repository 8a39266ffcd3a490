"""What goes wrong, in one sentence on standard error."""

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import typer

from ..errors import InvalidInputError, RunError, in_one_line

FAILURES = (InvalidInputError, RunError, torch.OutOfMemoryError)  # of one pair: another may do well


def error_line(error: Exception) -> str:
    """What a failure says, in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "The device is out of memory: use --device cpu, or a smaller model."
    return in_one_line(error)


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What goes wrong is said in one sentence: exit code 2 for what was asked, 1 for what happened, 130 for Ctrl-C."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        notes: BaseException
        try:
            command(*args, **kwargs)
            return
        except FAILURES as error:
            code, message, notes = 2 if isinstance(error, InvalidInputError) else 1, error_line(error), error
        except OSError as error:
            file = f": {error.filename}" if error.filename else ""
            code, message, notes = 1, f"{error.strerror or error}{file}.", error
        except KeyboardInterrupt as error:
            code, message, notes = (
                130,
                "stopped; `pyrovae train --resume RUN` goes on, `pyrovae evaluate RUN` reads the last checkpoint.",
                error,
            )
        said = " ".join([message, *getattr(notes, "__notes__", [])])
        print(f"pyrovae: {' '.join(said.split())}", file=sys.stderr)
        raise typer.Exit(code)

    return run


@contextlib.contextmanager
def warnings_on_stderr(name: str) -> Iterator[None]:
    """What is logged as a warning inside is said on standard error, in one line, with whom it is about."""

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"pyrovae: {name}: {' '.join(record.getMessage().split())}", file=sys.stderr)  # as it is at that time

    handler, log = Said(logging.WARNING), logging.getLogger("pyrovae")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
