"""Pieces of HTML, with all text escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from .glossary import GLOSSARY

MAX_PARTS = 40  # of a list that is written out: the columns of a table, but not the pixels of an image


def text(value: object) -> str:
    """Any text as HTML."""
    return escape(str(value))


def plain_value(value: object) -> str:
    """A value of the metadata as HTML: a list by its parts, of many the first and the last, and a dash for nothing."""
    parts = [part for part in (value if isinstance(value, list | tuple) else [value]) if part is not None]
    if len(parts) > MAX_PARTS:
        return f"{text(parts[0])}, {text(parts[1])}, …, {text(parts[-1])} ({len(parts)} in all)"
    return ", ".join(map(text, parts)) or "–"


def term(shown: str, entry: str | None = None) -> str:
    """A word with its explanation: in a hover, and in the glossary behind the link."""
    key = entry or shown
    return f'<a class="term" href="#{anchor(key)}" title="{text(GLOSSARY[key])}">{text(shown)}</a>'


def anchor(key: str) -> str:
    """The place of a term in the glossary."""
    return "term-" + "".join(letter if letter.isascii() and letter.isalnum() else f"{ord(letter):x}" for letter in key)


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names with their values; both are HTML."""
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in pairs)}</dl>"


def table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[tuple[str, object]]], classes: str = ""
) -> str:
    """A table whose columns can be sorted. A cell is HTML and the value that it is sorted by; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = ""
    for first, *others in rows:
        cells = "".join(f'<td data-value="{text(_key(value))}">{shown}</td>' for shown, value in others)
        body += f'<tr><th scope="row" data-value="{text(first[1])}">{first[0]}</th>{cells}</tr>'
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table class="sortable {classes}">'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _key(value: object) -> object:
    return "" if value is None or value != value else value
