"""Write RESULTS.md from the records of all rows: no number in it is typed.

python examples/published/results.py
"""

import json
from pathlib import Path

from record import RECORDS

PAGE = Path(__file__).parents[2] / "RESULTS.md"
HEAD = """# Published numbers, again

Each table stands for one published result. Its command computes the numbers of the column "here", and this page is written from the
records that the commands leave in `examples/published/records/`. "MC" is the standard error from random draws of the latent, and "data"
the one from the choice of held-out points. Where no error is given, the number is exact for the trained model. A closed form stands in the
column "known" too.
"""


def known_number(value: float | None) -> str:
    """A published number with the digits that it was published with: nothing for None."""
    return "" if value is None else f"{round(value, 4):.10g}".replace("-", "−")


def number(value: float, sign: str = "") -> str:
    """A number of ours with four digits after the point, or a whole one."""
    return (f"{value:{sign}.0f}" if float(value).is_integer() else f"{value:{sign}.4f}").replace("-", "−")


def error(value: float | None) -> str:
    """A standard error with two digits: nothing where the number is exact or there is none."""
    return f"{value:.2g}" if value else ""


def table(record: dict) -> str:
    """One row of the page: what was published, and the table."""
    lines = record["lines"]
    parts = [
        f"## {record['title']}",
        f"Source: {record['source']}. Unit: {record['unit']}. Protocol: {record['protocol']}.",
        "| quantity | known | here | ± MC | ± data | difference | note |\n|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        known = line["published"]
        difference = "" if known is None else number(line["ours"] - known, sign="+")
        cells = (
            line["quantity"].replace("|", "\\|"),
            known_number(known),
            number(line["ours"]),
            error(line["mc_se"]),
            error(line["data_se"]),
            difference,
            line["note"],
        )
        parts[-1] += f"\n| {' | '.join(cells)} |"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts.append(
        f"`{record['command']}`: {record['seconds']:.0f} seconds on {record['machine']['cores']} cores; {versions}."
    )
    return "\n\n".join(parts)


def page() -> str:
    """The whole of RESULTS.md."""
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    return "\n".join([HEAD, *(table(record) + "\n" for record in records)])


if __name__ == "__main__":
    PAGE.write_text(page())
