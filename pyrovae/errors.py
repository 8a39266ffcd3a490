"""The exceptions that are meant for people: one sentence that says what is wrong and what to do."""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator
from numbers import Integral


class InvalidInputError(ValueError):
    """Invalid input. The message says what to change.

    The command line prints the message alone and exits with 2.
    """


class RunError(RuntimeError):
    """The run failed, although the input is valid. The command line prints the message alone and exits with 1."""


class GroupError(RunError):
    """Another process of the job has stopped, so this one cannot go on."""


class NonFiniteError(RunError):
    """A density or gradient became NaN or infinite: the message names the site, the data point and the step."""


def check_int(name: str, value: object, least: int, *, shown: str = "", why: str = "") -> None:
    """Raise `InvalidInputError` unless the value is a whole number, at least `least`.

    The message begins with `shown`, by default "name is value", and `why` ends it.
    """
    if not isinstance(value, Integral) or value < least:
        raise InvalidInputError(f"{shown or f'{name} is {value!r:.40}'}: give a whole number, at least {least}{why}.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a text such as " (did you mean 'gmm'?)", or nothing if no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""


@contextlib.contextmanager
def user_code_errors(what: str) -> Iterator[None]:
    """Turn an error in the user's code into a message that names the code: "model.initialise failed: …"."""
    try:
        yield
    except (InvalidInputError, RunError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InvalidInputError(f"{what} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device had too little memory. It does not import torch, so that `pyrovae --help` is fast."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def failure_message(error: BaseException) -> str | None:
    """Return what to tell the user about an error that has a remedy, in one line; None for a bug."""
    if is_out_of_memory(error):
        return "The device is out of memory: use --device cpu, or a smaller model."
    return in_one_line(error) if isinstance(error, InvalidInputError | RunError) else None


def in_one_line(error: Exception) -> str:
    """Return the message of an error, without the table of every site that Pyro adds."""
    return " ".join(str(error).split("Trace Shapes:")[0].split())
