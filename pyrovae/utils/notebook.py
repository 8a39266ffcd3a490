"""How results show themselves in a notebook. Who draws them registers here, so that results import nothing of it."""

from collections.abc import Callable
from typing import Any

RENDERERS: dict[str, Callable[[Any], str]] = {}  # by the name of a class: from an object of it to HTML


class ShownAsHTML:
    """A result that a notebook shows as HTML, where someone has registered how; else as text."""

    def _repr_html_(self) -> str | None:
        render = RENDERERS.get(type(self).__name__)
        return None if render is None else render(self)
