"""The names at the top of the package, and what `import pyrovae` loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyrovae

FILE = Path(pyrovae.__file__)


def resolved(name):
    value = getattr(pyrovae, name)
    return getattr(value, "__name__", "") or str(value)


@pytest.mark.parametrize("name", pyrovae.__all__)
def test_every_public_name_can_be_imported(name):
    assert resolved(name)
    assert name in dir(pyrovae)


def test_type_checkers_and_python_see_the_same_names():
    """The imports under TYPE_CHECKING and the table of modules are two lists: they name the same things."""
    block = next(node for node in ast.parse(FILE.read_text()).body if isinstance(node, ast.If))
    names = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name  # what a type checker takes for a re-export
                names[alias.name] = f".{node.module or ''}"
    functions = {name: module for name, module in names.items() if name not in pyrovae.NAMESPACES}
    assert functions == pyrovae._MODULES
    for name, module in pyrovae.NAMESPACES.items():
        assert f"{names[name].rstrip('.')}.{name}" == module


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'MeanField'"):
        pyrovae.MeanField  # noqa: B018  it is pyrovae.guides.MeanField
    with pytest.raises(ImportError, match="cannot import name 'MeanField'"):
        exec("from pyrovae import MeanField")


def test_importing_the_package_imports_nothing_else():
    """`import pyrovae` leaves torch for later; then every name is there without a further import."""
    script = (
        "import sys, pyrovae; heavy = {'torch', 'pyro', 'sklearn', 'matplotlib', 'arviz', 'pandas'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "pyrovae.guides.MeanField, pyrovae.fit, pyrovae.evaluate, pyrovae.load('vae');"
        "heavy = {'sklearn', 'matplotlib', 'arviz', 'pandas', 'torch._inductor.compile_fx'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
