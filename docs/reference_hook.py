"""Let a page of the reference name a whole namespace: `::: all pyrovae.guides` stands for each of its public names."""

import re
from typing import Any

import pyrovae

ALL = re.compile(r"^::: all pyrovae\.(\w+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the lines of one page. mkdocs calls this."""
    return ALL.sub(lambda match: "\n\n".join(f"::: {path}" for path in described(match[1])), markdown)


def described(space: str) -> list[str]:
    """Return where the public names of a namespace are defined, without those of the top level and of other libraries."""
    top = {getattr(pyrovae, name) for name in pyrovae.__all__ if name not in pyrovae.NAMESPACES}
    module, paths = getattr(pyrovae, space), []
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        home = getattr(value, "__module__", None) or module.__name__
        if not home.startswith("pyrovae"):  # an alias of a type, or another library's class
            home = module.__name__ if not isinstance(value, type) else ""
        if home and value not in top:
            paths.append(f"{home}.{name}")
    return paths
