"""Commands of several processes have the numbers of one process, print them once, and end together."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from processes import run_group

pytestmark = pytest.mark.slow  # the functions behind the commands: tests/estimators/test_shared_scoring.py

SCRIPT = Path(__file__).with_name("run_commands.py")
SHARED = {
    "evaluate": ("chunks", "batches"),
    "gap": ("chunks",),
    "diagnose": ("blocks",),
    "choose": ("trainings",),
    "compare": ("trainings",),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process has left, and what a group of two."""
    folder = tmp_path_factory.mktemp("processes")
    np.save(folder / "points.npy", np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([1.0, 2.0, 3.0, 4.0]))
    words = ("train", "vae", "--data", folder / "points.npy", "--set", "latent=2", "--set", "hidden=(6,)")
    result = invoke(*words, "--epochs", 3, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    for count in (1, 2):
        (folder / str(count)).mkdir()
        group = folder / str(count)
        run_group(count, SCRIPT, group, folder / "run", folder / "points.npy", folder=group)
    return folder / "1", folder / "2"


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("found-*.json"))]


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(part) for key, part in value.items() if "seconds" not in key}
    return [without_seconds(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", SHARED)
def test_numbers_are_those_of_one_process_bit_for_bit(name: str, folders: tuple[Path, Path]) -> None:
    one, two = (json.loads((folder / f"{name}.json").read_text()) for folder in folders)
    assert without_seconds(two) == without_seconds(one)


@pytest.mark.parametrize("name", SHARED)
def test_each_process_does_a_part(name: str, folders: tuple[Path, Path]) -> None:
    (alone,), group = map(outcomes, folders)
    for kind in SHARED[name]:
        parts, whole = [process[name]["work"][kind] for process in group], alone[name]["work"][kind]
        assert 0 < min(parts) <= max(parts) < whole, (kind, parts, whole)
        assert max(parts) <= 0.75 * whole + 2, (kind, parts, whole)


def test_the_first_process_prints_and_writes_what_one_does(folders: tuple[Path, Path]) -> None:
    (alone,), (first, second) = map(outcomes, folders)
    for name in ("evaluate", "gap", "diagnose", "choose", "compare", "train"):
        texts = [re.sub(r"[\d.]+ s|/\d/|\d+\.\d\d? ", "…", found[name]["printed"]) for found in (alone, first)]
        assert texts[0].split() == texts[1].split(), name
        assert second[name]["printed"] == ""
        assert (alone[name]["code"], first[name]["code"], second[name]["code"]) == (0, 0, 0)
    names = [
        {str(path.relative_to(folder)) for path in folder.rglob("*") if "rank-" not in path.name} for folder in folders
    ]
    assert names[1] == names[0] | {"found-1.json"}


def test_an_error_ends_all_with_one_sentence(folders: tuple[Path, Path]) -> None:
    """One that all have, and one that a single process has."""
    _, folder = folders
    first, second = outcomes(folder)
    errors = "".join((folder / f"rank-{rank}.txt.errors").read_text() for rank in (0, 1))
    assert (first["again"]["code"], second["again"]["code"]) == (2, 2)
    assert errors.count("run exists: name another folder") == 1
    assert (first["failed"]["code"], second["failed"]["code"]) == (1, 1)
    assert errors.count("pyrovae: The density of data point 7 is no number.") == 1
    assert len([line for line in errors.splitlines() if "% done" not in line]) == 2, errors
