"""Progress bars of long functions: on standard error, and only where someone can watch them."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")
_running: list[str] = []  # the bars that are shown: a function inside of another shows none of its own


@contextlib.contextmanager
def progress_bar(description: str, total: float, show: bool = True) -> Iterator[Callable[[float, str], None]]:
    """Show a bar in a terminal or a notebook. Piped output, and a bar inside of another, show nothing.

    Args:
        description: What is done.
        total: How much there is to do.
        show: Whether to show it at all.

    Yields:
        A function that is called with how much more is done, and a note that stands beside the bar.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console()
    if _running or not show or not (console.is_terminal or console.is_jupyter):
        yield _no_advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    _running.append(description)
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(description, total=total, note="")

            def advance(done: float, note: str) -> None:
                progress.update(task, advance=done, note=note)

            yield advance
    finally:
        _running.pop()


def shows_progress(
    description: str, total: Callable[[dict[str, Any]], float]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a function with the arguments `on_progress` and `progress` a bar, where its caller has not given `on_progress`.

    Args:
        description: What the function does.
        total: From all of its arguments to the sum of what it reports to `on_progress`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def with_bar(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            if given["on_progress"] is not None or not given["progress"] or not hasattr(given["x"], "__len__"):
                return function(*args, **kwargs)
            with progress_bar(description, total(given), True) as advance:
                given["on_progress"] = lambda done: advance(done, "")
                return function(*bound.args, **bound.kwargs)

        return with_bar

    return decorate


def _no_advance(done: float, note: str) -> None:
    """No bar is shown."""


def _console() -> "Console":
    from rich.console import Console

    return Console(stderr=True)
