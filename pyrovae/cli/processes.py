"""A command in several processes, as torchrun starts them: all run it, and the first one prints."""

import contextlib
import os
import sys
from collections.abc import Iterator

from ..utils.torchrun import are_several


@contextlib.contextmanager
def first_speaks() -> Iterator[None]:
    """Inside, only the first of several processes writes to standard output.

    Until `process_group`, while the command line is read, only the first process of each machine writes errors.
    """
    if not are_several():
        yield
        return
    with contextlib.ExitStack() as inside:
        nowhere = inside.enter_context(open(os.devnull, "w", encoding="utf-8"))
        if os.environ.get("RANK", "0") != "0":
            inside.enter_context(contextlib.redirect_stdout(nowhere))
        if os.environ.get("LOCAL_RANK", "0") != "0":
            inside.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Inside, processes that torchrun has started do the work together, and each may say what goes wrong."""
    if not are_several():
        yield
        return
    from ..utils.distributed import init_process_group

    with contextlib.redirect_stderr(sys.__stderr__), init_process_group():
        yield


def tell(text: str) -> None:
    """Print a line on standard error. What several processes have to say is printed once."""
    if are_several():
        from ..utils.distributed import ProcessGroup

        if not ProcessGroup().is_first_to_say(text):
            return
    print(f"pyrovae: {' '.join(text.split())}", file=sys.stderr, flush=True)
