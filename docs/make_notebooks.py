"""Run the five notebooks of examples/ and write them as pages with their results: `python docs/make_notebooks.py [NUMBER...]`.

The pages are docs/course/, their pictures docs/pictures/course/. A test compares the code of each page with its notebook.
"""

import ast
import base64
import contextlib
import io
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
PAGES, PICTURES = DOCS / "course", DOCS / "pictures" / "course"
COLOURS = 256  # of a picture, which is saved with a palette
PICTURE = re.compile(r'<img alt="[^"]*" src="data:image/png;base64,([^"]+)">')
TIME = re.compile(r"<tr><th[^>]*>seconds</th>.*?</tr>")


def cells(notebook: Path) -> Iterator[tuple[str, str]]:
    """Each cell of a script in percent format: "markdown" or "python", and its text."""
    for part in re.split(r"^# %%", notebook.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()
        else:
            yield "python", body.strip()


def run(code: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line, if that is an expression."""
    tree, value, page = ast.parse(code), None, io.StringIO()
    with contextlib.redirect_stdout(page):
        if isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
            exec(compile(tree, "cell", "exec"), names)
            value = eval(compile(last, "cell", "eval"), names)
        else:
            exec(compile(tree, "cell", "exec"), names)
    return page.getvalue(), value


def shown(value: Any, pictures: list[bytes]) -> str:
    """A value as a notebook shows it. Its pictures are added to `pictures`, and are not in the text."""
    if isinstance(value, Figure):
        file = io.BytesIO()
        value.savefig(file, format="png", dpi=100, bbox_inches="tight", pad_inches=0.08)
        pictures.append(file.getvalue())
        return ""
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    if html is None:
        return f"<pre>{escape(repr(value))}</pre>"
    pictures += [base64.b64decode(data) for data in PICTURE.findall(html)]
    return re.sub(r"<style.*?</style>", "", PICTURE.sub("", html), flags=re.DOTALL).replace("\n", "")


def page(notebook: Path) -> str:
    """Run a notebook, save its pictures, and return its page."""
    names: dict[str, Any] = {"__name__": "notebook"}
    parts, number = [], 0
    for kind, text in cells(notebook):
        if kind == "markdown":
            parts.append(text)
            continue
        printed, value = run(text, names)
        parts.append(f"```python\n{text}\n```")
        pictures: list[bytes] = []
        output = f"<pre>{escape(printed)}</pre>" if printed else ""
        output += "" if value is None else shown(value, pictures)
        if output:  # on one line, and without times, which differ from machine to machine
            output = TIME.sub("", output).replace("\n", "&#10;")
            parts.append(f'<div class="output">{output}</div>')
        for data in pictures:
            number += 1
            file = PICTURES / f"{notebook.stem}_{number}.png"
            Image.open(io.BytesIO(data)).convert("RGB").quantize(COLOURS).save(file, optimize=True)
            parts.append(f"![Result of the cell above](../pictures/course/{file.name})")
    return f"<!-- made by docs/make_notebooks.py from examples/{notebook.name} -->\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for number in sys.argv[1:] or "12345":
        (notebook,) = EXAMPLES.glob(f"course_{number}_*.py")
        (PAGES / f"{notebook.stem.removeprefix('course_')}.md").write_text(page(notebook), encoding="utf-8")
