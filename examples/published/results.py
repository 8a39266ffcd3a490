"""Write RESULTS.md and the figures of docs/results.md from the records of all rows: no number in them is typed.

python examples/published/results.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import RECORDS, Line, lines_of, two_digits

PAGE = Path(__file__).parents[2] / "RESULTS.md"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures" / "results"
HEAD = """# Published numbers, again

Each table stands for one published result. Its command computes the numbers of the column "here". This page is written from the
records that the commands leave in `examples/published/records/`.

| column | meaning |
|---|---|
| published | the number of the source, or of a closed form |
| ± MC | the standard error from random draws of the latent |
| ± data | the standard error from the choice of held-out points |
| log p(x), both sides | the mean of log p(x) over the same points: exact, or a lower and an upper bound in expectation |
| bound error | log p(x) minus the bound that is published: how loose it is |

Where no error is given, the number is exact for the trained model. Costs are seconds of a processor, summed over threads.
"""
Column = tuple[str, list[str]]


def known_number(value: float | None) -> str:
    """A published number with the digits that it was published with: nothing for None."""
    return "" if value is None else f"{round(value, 4):.10g}".replace("-", "−")


def number(value: float | None, sign: str = "") -> str:
    """A number of ours with four digits after the point, or a whole one."""
    if value is None:
        return ""
    return (f"{value:{sign}.0f}" if float(value).is_integer() else f"{value:{sign}.4f}").replace("-", "−")


def error(value: float | None) -> str:
    """A standard error with two digits: nothing where the number is exact or there is none."""
    return two_digits(value) if value else ""


def with_error(value: float | None, se: float | None) -> str:
    """A number, and its standard error behind it."""
    return number(value) + (f" ± {error(se)}" if value is not None and se else "")


def both_sides(line: Line) -> str:
    """log p(x): one number where it is exact, else both bounds. A bound that is not known is a dash."""
    if line.lower is None and line.upper is None:
        return ""
    if line.lower == line.upper:
        return number(line.lower)
    sides = " to ".join("–" if side is None else number(side) for side in (line.lower, line.upper))
    return sides + (f" ± {error(line.two_sided_se)}" if line.two_sided_se else "")


def difference(line: Line) -> str:
    """Ours minus the published number."""
    return "" if line.published is None else number(line.ours - line.published, sign="+")


def columns(lines: list[Line]) -> list[Column]:
    """The columns of a table: all that have a number in some line."""
    every = [
        ("quantity", [line.quantity.replace("|", "\\|") for line in lines]),
        ("published", [known_number(line.published) for line in lines]),
        ("here", [number(line.ours) for line in lines]),
        ("± MC", [error(line.mc_se) for line in lines]),
        ("± data", [error(line.data_se) for line in lines]),
        ("difference", [difference(line) for line in lines]),
        ("log p(x), both sides", [both_sides(line) for line in lines]),
        ("bound error", [with_error(line.bound_error, line.bound_error_se) for line in lines]),
        ("points", ["" if line.points is None else f"{line.points}" for line in lines]),
        ("note", [line.note.replace("|", "\\|") for line in lines]),
    ]
    return [(head, cells) for head, cells in every if any(cells)]


def grid(table: list[Column]) -> str:
    """A table in Markdown."""
    rows = [
        [head for head, _ in table],
        ["---"] * len(table),
        *map(list, zip(*(cells for _, cells in table), strict=True)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cost(record: dict[str, Any]) -> str:
    """Seconds of a processor, or minutes."""
    seconds = record["cpu_seconds"]
    if seconds is None:
        return "cost not counted"
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def versions(record: dict[str, Any]) -> str:
    """What computed the parts: more than one version where a stopped command was continued with another."""
    every = (", ".join(f"{name} {version}" for name, version in part["versions"].items()) for part in record["parts"])
    return "; ".join(dict.fromkeys(every))


def processors(record: dict[str, Any]) -> str:
    """Where the parts were computed: more than one processor where a stopped command was continued on another."""
    every = [part.get("machine", record["machine"]) for part in record["parts"]]
    return "; ".join(dict.fromkeys(f"{machine['threads']} thread(s) of {machine['processor']}" for machine in every))


def section(record: dict[str, Any]) -> str:
    """One row of the page: what was published, and the table."""
    parts = [f"## {record['title']}"]
    if record["stopped"]:
        parts.append(f"**Not finished**: {record['stopped']}.")
    parts.append(f"Source: {record['source']}. Unit: {record['unit']}. Protocol: {record['protocol']}.")
    if record["differences"]:
        parts.append(f"Not as published: {record['differences']}.")
    parts.append(grid(columns(lines_of(record))))
    parts.append(f"`{record['command']}`: {cost(record)}, {processors(record)}; {versions(record)}.")
    return "\n\n".join(parts)


def loose_bounds(found: list[dict[str, Any]]) -> str:
    """All bounds whose distance to log p(x) is known, in one table."""
    lines = [(record["title"], line) for record in found for line in lines_of(record) if line.bound_error is not None]
    if not lines:
        return ""
    shown = [replace(line, quantity=f"{title}: {line.quantity}", note="") for title, line in lines]
    return f"## How loose each bound is\n\n{grid(columns(shown))}\n"


def records() -> list[dict[str, Any]]:
    """All records, by name."""
    return [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]


def page() -> str:
    """The whole of RESULTS.md."""
    found = records()
    return "\n".join([HEAD, loose_bounds(found), *(section(record) + "\n" for record in found)])


if __name__ == "__main__":
    from pictures import draw

    PAGE.write_text(page())
    draw(PICTURES, {record["name"]: record for record in records()})
