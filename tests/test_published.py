"""The page of published numbers: made of its records, and the records of their commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import results

FOLDER = Path(results.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("records/*.json"))
# what a command may be off its record: another processor rounds otherwise, and Monte-Carlo numbers have errors beside that
TOLERANCE = {"mclust": 1e-3, "linear_vae": 1e-3}


def test_every_row_has_a_record_and_every_record_a_row():
    assert NAMES
    for name in NAMES:
        assert (FOLDER / f"{name}.py").exists()
        assert json.loads((FOLDER / "records" / f"{name}.json").read_text())["name"] == name


def test_the_page_is_that_of_the_records():
    assert results.PAGE.read_text() == results.page(), "run python examples/published/results.py"


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_are_reproduced(name):
    """A difference is within the errors and the note, or the row says why: a place in the fourth digit of nats, here."""
    for line in json.loads((FOLDER / "records" / f"{name}.json").read_text())["lines"]:
        if line["published"] is None or line["note"]:
            continue
        errors = 4 * ((line["mc_se"] or 0) ** 2 + (line["data_se"] or 0) ** 2) ** 0.5
        assert abs(line["ours"] - line["published"]) < errors + 1e-3 * max(1, abs(line["published"])), line


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOLERANCE))
def test_a_command_gives_the_numbers_of_its_record(name, tmp_path):
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--records", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    again, record = (
        json.loads((folder / f"{name}.json").read_text())["lines"] for folder in (tmp_path, FOLDER / "records")
    )
    assert [line["quantity"] for line in again] == [line["quantity"] for line in record]
    for one, other in zip(again, record, strict=True):
        assert one["ours"] == pytest.approx(other["ours"], abs=TOLERANCE[name])
