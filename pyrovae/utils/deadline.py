"""A moment by which work is to end."""

import math
import time

__all__ = ["Deadline", "OutOfTimeError"]


class OutOfTimeError(Exception):
    """A deadline has passed. Whoever set the deadline handles it, so that users never see it."""


class Deadline:
    """The moment that is `seconds` from now, or never.

    Args:
        seconds: How long the work may take, or None for as long as it needs.
    """

    def __init__(self, seconds: float | None = None):
        self.moment = time.monotonic() + (math.inf if seconds is None else seconds)

    @property
    def passed(self) -> bool:
        return time.monotonic() > self.moment

    def check(self) -> None:
        """Raise `OutOfTimeError` if the moment has passed."""
        if self.passed:
            raise OutOfTimeError
