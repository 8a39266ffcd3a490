"""The layout of the package: its layers, its folders, its names, and the drawing of them in CONTRIBUTING.md."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pyrovae"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
FLAT_FILES = {"__init__.py", "__main__.py", "errors.py", "missing.py", "nn.py", "testing.py"}
TEST_ONLY_FOLDERS = {"benchmarks", "gpu", "harness", "models", "oracles"}
COMMANDS = "pyrovae.cli.commands"  # a file has the name of its command, and so has the function in it
INIT_WORDS = 30
OLD_NAMES = (  # whole words: nothing has been released, so no old name is kept
    *("Refusal", "Diverged", "ManySamples", "Redrawn", "Unrecordable", "Screened", "RECIPE", "PUBLISHED"),
    *("draw_weights", "drawn_apart", "first_elbo", "put_back", "taken_up", "terms_of", "objective_of", "blamed"),
    *("untrusted_share", "score_seconds", "left_out", "naive_log_likelihood", "by_onednn", "teach_compiler"),
    *(r"_?refuse_\w+", r"\w+\.road", r"fit\.stopped", '"verdict"', '"card"', '"untrusted"', '"samples": (?!Picture)'),
    *(r"evaluate\.unfinished", r"from_guide=", r"\brecord=(True|False)", r"\bwhole=True", r"\bscreen=torch"),
    *(r"pyrovae\.(running|weights|evidence|evaluation\.py|comparison|scoring|screening|drawing|unfinished|kinds)\b",),
    *(r"pyrovae\.(own_files|recordings|holes|units|joint|families|ascent|tails|bounds|verdict|commands)\b",),
    *(r"pyrovae/(commands|recordings)\b", r"pyrovae/(cli|likelihoods|priors|evaluation|report|plots|runs)\.py"),
)
OLD_FLAGS = ("clip", "ema", "eager", "figure", "kl-warmup", "naive", "num", "record", "retry", "samples", "validation")


def python_files(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it. An editable install may link `models` into the package."""
    return (path for path in sorted(folder.rglob("*.py")) if PACKAGE / "models" not in path.parents)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in python_files(PACKAGE)}
FOLDERS = sorted({path.parent for path in MODULES.values()} - {PACKAGE})
TREES = {name: ast.parse(path.read_text(), path) for name, path in MODULES.items()}


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports anywhere: at its top, in a function, or for types only."""
    found = set()
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            members = {f"{source}.{alias.name}" for alias in node.names}
            found |= {member if member in MODULES else source for member in members}
    return (found & MODULES.keys()) - {name}


GRAPH = {name: imports(name) for name in MODULES}


def contract() -> list[list[str]]:
    """The rows of the layers, top row first; folders that are only planned left out."""
    [layers] = [each for each in SETTINGS["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
    rows = [[name.strip().strip("()") for name in row.split("|")] for row in layers["layers"]]
    there = [[name for name in row if f"pyrovae.{name}" in MODULES] for row in rows]
    return [row for row in there if row]


def drawing() -> list[dict[str, str]]:
    """The rows that CONTRIBUTING.md draws: the folders of each, and what it says of them."""
    [text] = re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    rows = re.split(r"^─+\n", text, flags=re.MULTILINE)
    return [dict(re.fullmatch(r"(\w+) {2,}(\S.*)", line).groups() for line in row.splitlines()) for row in rows]


def test_the_files_import_one_another_without_a_circle():
    """A file that imports none of the rest, or that none of the rest imports, is in no circle."""
    rest = set(MODULES) - {"pyrovae"}  # the root gathers names; who imports it is tested below
    while free := {name for name in rest if not GRAPH[name] & rest or not any(name in GRAPH[other] for other in rest)}:
        rest -= free
    assert not rest


def test_only_the_command_line_imports_the_root():
    assert {name for name, targets in GRAPH.items() if "pyrovae" in targets} <= {"pyrovae.cli.app", "pyrovae.__main__"}


def test_imports_run_down_the_layers():
    """As `lint-imports` checks in CI. This test needs nothing that is not installed with the tests."""
    row_of = {name: number for number, row in enumerate(contract()) for name in row}
    assert row_of.keys() == {name.split(".")[1] for name in MODULES if "." in name} - {"__main__"}
    for name, targets in GRAPH.items():
        for target in targets - {"pyrovae"}:
            source, room = (*name.split("."), "")[1], target.split(".")[1]
            if source in row_of and source != room:
                assert row_of[source] < row_of[room], f"{name} imports {target}"


def test_the_drawing_is_the_contract():
    assert [list(row) for row in drawing()] == contract()


def test_few_files_lie_flat():
    assert {path.name for path in PACKAGE.glob("*.py")} == FLAT_FILES


def test_no_module_is_named_like_what_it_defines():
    """`from pyrovae.training.fitting import fit`: one name is the module, the other the function."""
    for name, tree in TREES.items():
        if not name.startswith(COMMANDS):
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            assert name.rpartition(".")[2] not in defined, name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_what_it_is_for(folder: Path):
    text = ast.get_docstring(TREES[module_name(folder / "__init__.py")]) or ""
    assert len(text.split()) >= INIT_WORDS


def test_every_folder_is_installed_and_models_as_a_part_of_the_package():
    tools = SETTINGS["tool"]["setuptools"]
    expected = {"pyrovae", "pyrovae.models"} | {module_name(folder) for folder in FOLDERS}
    assert tools["packages"] == sorted(expected)
    assert tools["package-dir"] == {"pyrovae.models": "models"}


def test_tests_mirror_the_folders():
    tested = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert tested - TEST_ONLY_FOLDERS <= {folder.name for folder in FOLDERS if folder.parent == PACKAGE}


def public(module: object) -> set[str]:
    return set(getattr(module, "__all__", ()))


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.py")), ids=lambda path: path.stem)
def test_a_model_uses_public_names_only(path: Path):
    """Of the package, or of one of its folders. One model may build on another."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name == "pyrovae" or not alias.name.startswith("pyrovae."), alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyrovae"):
            if not node.module.startswith("pyrovae.models"):
                assert {alias.name for alias in node.names} <= public(import_module(node.module)), ast.unparse(node)
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner == "pyrovae" or re.fullmatch(r"pyrovae\.[a-z]+", owner):
                module = import_module(owner)
                assert node.attr in public(module), ast.unparse(node)


def sources() -> list[Path]:
    """The Python files and pages of the repository, without its history and without this file."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git repository")
    paths = {ROOT / line for line in listing.stdout.splitlines()} - {ROOT / "CHANGELOG.md", Path(__file__).resolve()}
    return sorted(path for path in paths if path.is_file())


def test_no_old_name_is_left():
    flags = "|".join(OLD_FLAGS)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(OLD_NAMES)})(?!\w)|(?<![\w-])--(?:{flags})(?![\w-])")
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for match in pattern.finditer(line)
    ]
    assert not lines, "\n".join(lines)
