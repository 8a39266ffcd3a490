"""Docstrings of public names: each argument is described, and each example gives what it says."""

import doctest
import inspect
import re
from importlib import import_module

import pytest

import pyrovae

NAMES = [name for name in pyrovae.__all__ if name not in pyrovae.NAMESPACES]
SETTINGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Their own class describes them field by field, or they are made by pyrovae and not by a caller.
RESULTS = {"Comparison", "Data", "Evidence", "FitResult", "Run"}
VERBS = [name for name in NAMES if name not in RESULTS and not isinstance(getattr(pyrovae, name), type)]


def families() -> dict[str, object]:
    """The classes and functions of the namespaces, by their dotted names."""
    found = {}
    for space in pyrovae.NAMESPACES:
        module = getattr(pyrovae, space)
        for name in [name for name in getattr(module, "__all__", dir(module)) if not name.startswith("_")]:
            value = getattr(module, name)
            if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("pyrovae"):
                found[f"{space}.{name}"] = value
    return found


FAMILIES = families()


def section(text: str, title: str) -> str:
    match = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    return match[1] if match else ""


def documented(value: object, text: str) -> list[str]:
    """The arguments that a docstring leaves out."""
    described = set(re.findall(r"^    \*{0,2}(\w+):", section(text, "Args"), re.MULTILINE))
    return [name for name in inspect.signature(value).parameters if name not in described]


@pytest.mark.parametrize("name", VERBS)
def test_a_function_describes_its_arguments_and_has_an_example(name):
    function = getattr(pyrovae, name)
    text = inspect.getdoc(function) or ""
    assert not documented(function, text)
    assert ">>> " in section(text, "Example")
    if inspect.signature(function).return_annotation not in (None, "None"):
        assert section(text, "Returns") or not section(text, "Args")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in VERBS] + list(FAMILIES))
def test_a_public_name_has_a_docstring_of_its_own(name):
    value = FAMILIES.get(name) or getattr(pyrovae, name)
    first = (value.__doc__ or "").split("\n")[0]
    assert first.endswith((".", ":")), f"{name}: {first!r}"
    assert 10 <= len(first) <= 120, f"{name}: {first!r}"


MODULES = sorted({getattr(pyrovae, name).__module__ for name in NAMES} | {v.__module__ for v in FAMILIES.values()})
EXAMPLES = [
    test
    for module in MODULES
    for test in doctest.DocTestFinder(exclude_empty=True).find(import_module(module))
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name.removeprefix("pyrovae."))
def test_an_example_gives_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=SETTINGS).run(example, out=report.append, clear_globs=False)
    assert result.failed == 0, "".join(report)
