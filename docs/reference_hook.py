"""Lines of a page that stand for what the package says itself.

`::: all pyrovae.guides` stands for each public name of a namespace, and `::: glossary` for the words of `pyrovae.report.glossary`.
"""

import re
from typing import Any

import pyrovae
from pyrovae.report.glossary import GLOSSARY

ALL = re.compile(r"^::: all pyrovae\.(\w+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Expand the lines of one page. mkdocs calls this."""
    words = sorted(GLOSSARY.items(), key=lambda entry: entry[0].lower())
    listed = "\n\n".join(f"**{word}**\n:   {meaning}" for word, meaning in words)
    markdown = markdown.replace("\n::: glossary\n", f"\n{listed}\n")
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
