"""The README and the pages of docs/ are run: their Python, and their `pyrovae` commands, each page in an empty folder.

A block after `<!-- no test: reason -->` is not run. A Python block with a title is a file: it is written there under that name.
"""

import json
import os
import re
import shlex
import tomllib
from pathlib import Path

import matplotlib
import numpy
import pandas
import pytest
from command_line import invoke
from sentences import MAX_WORDS, num_words, sentences

import pyrovae
from pyrovae.report.glossary import GLOSSARY

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
COURSE = DOCS / "course"  # made from notebooks in examples/, which test_examples.py runs
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if page.parent != COURSE)]
BLOCK = re.compile(r"(<!-- no test: .+? -->\n)?^```(\w+)(?: title=\"(.+?)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SLOW = {
    "README.md",
    "docs/first_steps.md",
    *(f"docs/manual/{name}.md" for name in ("compare", "estimate", "ordinary_pyro", "train")),
}
INSTALL = (
    "python3 -m venv",
    "source .venv",
    ".venv/bin/pip",
    "pip install",
)  # what .ci/run does in an environment of its own


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[tuple[str, str, str]]:
    """The language, title and text of each block that is to be run."""
    found = [match.groups() for match in BLOCK.finditer(path.read_text())]
    return [
        (kind, title or "", text) for skipped, kind, title, text in found if not skipped and kind in ("python", "sh")
    ]


def run_commands(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and not line.startswith(INSTALL):
            assert words[0].endswith("pyrovae"), f"only `pyrovae` is run here: {line}"
            result = invoke(*words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"


RUN = [
    pytest.param(path, id=page_id(path), marks=[pytest.mark.slow] * (page_id(path) in SLOW))
    for path in PAGES
    if blocks(path)
]


@pytest.mark.parametrize("path", RUN)
def test_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "agg")
    os.symlink(ROOT / "examples", tmp_path / "examples")
    names: dict[str, object] = {"__name__": "docs"}
    for kind, title, text in blocks(path):
        if kind == "sh":
            run_commands(text)
        elif title:
            (tmp_path / title).write_text(text)
        else:
            exec(compile(text, page_id(path), "exec"), names)


@pytest.mark.parametrize("notebook", sorted((ROOT / "examples").glob("course_*.py")), ids=lambda path: path.stem)
def test_a_notebook_stands_in_the_course(notebook: Path):
    """Its page has each of its cells, in order, and its pictures."""
    made = COURSE / f"{notebook.stem.removeprefix('course_')}.md"
    again = "write it again: python docs/make_notebooks.py"
    cells = re.split(r"^# %%", notebook.read_text(), flags=re.MULTILINE)[1:]
    code = [cell.partition("\n")[2].strip() for cell in cells if not cell.startswith(" [markdown]")]
    assert re.findall(r"^```python\n(.*?)\n```$", made.read_text(), re.DOTALL | re.MULTILINE) == code, again
    prose = [
        re.sub(r"^# ?", "", cell.partition("\n")[2], flags=re.MULTILINE).strip() for cell in cells if cell[1:2] == "["
    ]
    assert all(text in made.read_text() for text in prose), again
    pictures = re.findall(r"\]\((\.\./pictures/course/\S+)\)", made.read_text())
    assert pictures
    assert all((COURSE / picture).resolve().is_file() for picture in pictures)


def test_the_readmes_table_of_mixed_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The README as a whole is slow. This part of it runs by itself, and the start of each model does not depend on the units."""
    monkeypatch.chdir(tmp_path)
    part = (ROOT / "README.md").read_text().partition("### A table of your own")[2].partition("\n## ")[0]
    (_, _, _, python), (_, _, _, command) = (match.groups() for match in BLOCK.finditer(part))
    exec(compile(python, "README.md", "exec"), {})
    table = pandas.read_csv("cells.csv", index_col=0)
    units = 10.0 ** numpy.arange(-3, 4).repeat(5)[: table.shape[1] - 1]
    (table.drop(columns="target") * units).assign(target=table["target"]).to_csv("units.csv")
    numbers = {}
    for name in ("cells.csv", "units.csv"):
        run_commands(command.rstrip().replace("cells.csv", name) + f" --json {name}.json --epochs 0 --num-samples 2\n")
        models = json.loads(Path(f"{name}.json").read_text())["models"]
        numbers[name] = {model["name"]: model["log_likelihood"] for model in models}
    shift = numpy.log(units).sum()
    assert len(numbers["cells.csv"]) == 3
    for model, value in numbers["cells.csv"].items():
        assert value - shift == pytest.approx(numbers["units.csv"][model], abs=1e-3)


def test_the_reference_has_every_public_name():
    """A namespace stands there as a whole, functions and results one by one."""
    lines = {line for page in (DOCS / "api").glob("*.md") for line in page.read_text().splitlines()}
    spaces = {f"::: all pyrovae.{name}" for name in pyrovae.NAMESPACES}
    names = {f"::: pyrovae.{name}" for name in pyrovae.__all__ if name not in pyrovae.NAMESPACES}
    missing = sorted((spaces | names) - lines)
    assert not missing, f"write these lines into a page of docs/api: {missing}"


def test_the_glossary_stands_once():
    """The README has some of its words, as they are; their sentences are short."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "README.md").read_text().split("## Glossary")[1], re.MULTILINE)
    shown = {word: meaning.replace("\\|", "|") for word, meaning in rows[1:]}
    assert len(shown) > 10
    assert shown == {word: GLOSSARY[word] for word in shown}
    assert max(num_words(sentence) for text in GLOSSARY.values() for sentence in sentences(text)) <= MAX_WORDS


def test_the_citation_names_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {project['version']}" in citation
    assert f"license: {project['license']}" in citation
