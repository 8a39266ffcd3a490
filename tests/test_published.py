"""The page of published numbers: made of its records, and the records of their commands."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pictures
import protocols
import pytest
import results
import torch
from iwae_training import epochs_of
from record import Line, Recorder, lines_of, two_digits
from scipy import stats

import pyrovae
from pyrovae.data.transforms import Dequantise, Logit

FOLDER = Path(results.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("records/*.json"))
# what a command may be off its record: another processor rounds otherwise, and Monte-Carlo numbers have errors beside that
TOLERANCE = {"mclust": 1e-3, "linear_vae": 1e-3}


def record_of(name: str, folder: Path = FOLDER / "records") -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def test_grey_levels_are_counted_by_their_cross_entropy():
    grey, eta = torch.rand(5, 7), torch.randn(5, 7)
    density = protocols.CrossEntropy()(eta)
    expected = (grey * eta.sigmoid().log() + (1 - grey) * (-eta).sigmoid().log()).sum(-1)
    torch.testing.assert_close(density.log_prob(grey), expected)
    torch.testing.assert_close(
        density.log_prob(grey.round()), pyrovae.likelihoods.Bernoulli()(eta).log_prob(grey.round())
    )
    assert density.support.check(grey).all()
    assert not density.support.check(2 * grey + 1).any()


def test_every_row_has_a_record_and_every_record_a_row():
    assert NAMES
    for name in NAMES:
        record = record_of(name)
        assert record["name"] == name
        script = record.get("script", name)  # of which one record may be for each choice of options
        assert (FOLDER / f"{script}.py").exists()
        assert record["command"].startswith(f"python examples/published/{script}.py")
        assert lines_of(record)  # each has the fields of a Line
        assert all(part["versions"]["torch"] for part in record["parts"])


def test_the_page_is_that_of_the_records():
    assert results.PAGE.read_text() == results.page(), "run python examples/published/results.py"


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_are_reproduced(name: str):
    """A difference is within the errors, or the row says why: a place in the fourth digit of nats, here."""
    for line in lines_of(record_of(name)):
        if line.published is None or line.note:
            continue
        errors = 4 * math.hypot(line.mc_se or 0, line.data_se or 0)
        assert abs(line.ours - line.published) < errors + 1e-3 * max(1, abs(line.published)), line


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_of_log_p_do_not_cross(name: str):
    for line in lines_of(record_of(name)):
        if line.lower is not None and line.upper is not None:
            assert line.lower <= line.upper + 4 * (line.two_sided_se or 0), line
        if line.bound_error is not None:
            assert line.bound_error > -4 * (line.bound_error_se or 0) - 1e-9, line


def row(tmp_path: Path, *arguments: str) -> Recorder:
    """A row whose record is in this folder."""
    return Recorder(
        "row", "A row", "nobody", "nats", "none", arguments=["--records", str(tmp_path), *arguments], seed=3
    )


def parts(calls: list[float], stop_at: float | None = None) -> list:
    """Three parts with random numbers, which note that they are computed."""

    def noise(scale):
        if scale == stop_at:
            raise KeyboardInterrupt
        calls.append(scale)
        yield Line(f"scale {scale}", float(scale * torch.randn(())))

    return [(noise, scale) for scale in (1.0, 2.0, 3.0)]


def numbers(record: dict) -> list[tuple[str, float]]:
    return [(line.quantity, line.ours) for line in lines_of(record)]


def test_a_stopped_command_goes_on_and_gives_the_same_record(tmp_path: Path):
    calls: list[float] = []
    row(tmp_path / "whole").run(parts(calls))
    whole = record_of("row", tmp_path / "whole")
    assert whole["stopped"] == ""
    torch.randn(5)  # another random state than at the first start
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        row(tmp_path).run(parts(calls, stop_at=2.0))
    stopped = record_of("row", tmp_path)
    assert "1 of 3 parts" in stopped["stopped"]
    assert numbers(stopped) == numbers(whole)[:1]
    row(tmp_path).run(parts(calls))
    assert calls == [1.0, 2.0, 3.0]  # nothing twice
    assert record_of("row", tmp_path)["stopped"] == ""
    assert numbers(record_of("row", tmp_path)) == numbers(whole)


def test_a_row_that_asks_for_fewer_parts_is_finished(tmp_path: Path):
    calls: list[float] = []
    row(tmp_path, "--only", "1.0").run(parts(calls))
    assert "without noise(2.0), noise(3.0)" in record_of("row", tmp_path)["stopped"]
    row(tmp_path).run(parts(calls)[:1])
    assert calls == [1.0]
    assert record_of("row", tmp_path)["stopped"] == ""


def test_other_settings_and_finished_records_begin_anew(tmp_path: Path):
    calls: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        row(tmp_path).run(parts(calls, stop_at=3.0))
    row(tmp_path, "--seed", "4").run(parts(calls))
    assert calls == [1.0, 2.0, 1.0, 2.0, 3.0]
    row(tmp_path, "--seed", "4").run(parts(calls))
    assert calls[5:] == [1.0, 2.0, 3.0]


def test_a_script_may_have_a_record_for_each_choice_of_options(tmp_path: Path):
    for layers in ("1", "2"):
        given = ["--records", str(tmp_path), "--layers", layers]
        recorder = Recorder("row", "A row", "", "", "", rows=("layers",), arguments=given, layers=1)
        recorder.run(parts([]))
        record = record_of(f"row_{layers}", tmp_path)
        assert (record["name"], record["script"]) == (f"row_{layers}", "row")
        assert record["command"] == f"python examples/published/row.py --layers {layers}"


def test_two_commands_may_share_the_parts_of_a_row(tmp_path: Path):
    calls: list[float] = []

    def meanwhile():
        row(tmp_path, "--only", "2.0").run(parts(calls))
        yield Line("meanwhile", 0.0)

    row(tmp_path, "--restart").run([(meanwhile,), *parts(calls)])
    assert calls == [2.0, 1.0, 3.0]  # in the record, and not computed by the other
    assert record_of("row", tmp_path)["stopped"] == ""


def test_a_budget_stops_and_the_record_says_so(tmp_path: Path):
    calls: list[float] = []
    recorder = row(tmp_path, "--budget", "60")
    first, *rest = parts(calls)

    def long_part():
        recorder.budget = 0.0
        recorder.check_budget()
        yield Line("never", 0.0)

    lines = recorder.run([first, (long_part,), *rest])
    assert calls == [1.0]
    assert [line.quantity for line in lines] == ["scale 1.0"]
    record = record_of("row", tmp_path)
    assert "stopped after a budget" in record["stopped"]
    assert "1 of 4 parts" in record["stopped"]
    assert "**Not finished**: stopped after a budget" in results.section(record)
    assert record["cpu_seconds"] >= 0


@pytest.mark.parametrize("of_parts", [True, False])
def test_each_part_names_the_machine_that_computed_it(of_parts, tmp_path: Path, monkeypatch):
    """A command that was stopped may go on elsewhere. Older records have one machine for all parts."""
    for name in ("the first", "the second"):
        monkeypatch.setattr("record.machine", lambda name=name: {"threads": 1, "processor": name})
        row(tmp_path, "--only", "1.0" if name == "the first" else "").run(parts([]))
        record = record_of("row", tmp_path)
        if name == "the first" and not of_parts:
            for part in record["parts"]:
                del part["machine"]
            (tmp_path / "row.json").write_text(json.dumps(record))
    assert [part["machine"]["processor"] for part in record["parts"]] == ["the first", "the second", "the second"]
    assert "1 thread(s) of the first; 1 thread(s) of the second;" in results.section(record)


def test_a_table_shows_what_is_known():
    line = Line("NLL | K", 86.76, 86.5, 0.01, 0.5, lower=-86.1, upper=-86.05, two_sided_se=0.02, bound_error=0.66)
    table = results.grid(results.columns([line, Line("other", 3.0)]))
    head, _, first, second = table.splitlines()
    assert head == "| quantity | published | here | ± MC | ± data | difference | log p(x), both sides | bound error |"
    assert first == "| NLL \\| K | 86.5 | 86.7600 | 0.01 | 0.5 | +0.2600 | −86.1000 to −86.0500 ± 0.02 | 0.6600 |"
    assert second == "| other |  | 3 |  |  |  |  |  |"


def test_bounds_whose_looseness_is_known_stand_in_one_table():
    loose, other = Line("L_5", -90.0, lower=-89.0, upper=-88.9, bound_error=1.0), Line("exact", -1.0)
    record = {"title": "Row", "parts": [{"lines": [vars(loose), vars(other)]}]}
    table = results.loose_bounds([record])
    assert "| Row: L_5 | -90 | −89 to −88.9000 | 1 |".replace("-90", "−90") in table
    assert "exact" not in table
    assert results.loose_bounds([{"title": "Row", "parts": [{"lines": [vars(other)]}]}]) == ""


def test_class_sums_are_those_of_scipy(seed: int):
    rng = np.random.default_rng(seed)
    labels = torch.as_tensor(rng.permutation([0] * 30 + [1] * 70))
    train = torch.as_tensor(rng.normal(size=(100, 2))) + labels.unsqueeze(1)
    x, own = torch.as_tensor(rng.normal(size=(7, 2))), torch.tensor([0, 1, 1, 0, 1, 0, 0])

    def density(points: torch.Tensor):
        normal = stats.multivariate_normal(points.mean(0), np.cov(points.T, bias=True))
        return lambda x: torch.as_tensor(normal.logpdf(x))

    log_p = protocols.class_log_densities(density, train, labels, x)
    each = [
        stats.multivariate_normal(train[labels == c].mean(0), np.cov(train[labels == c].T, bias=True)).pdf(x)
        for c in (0, 1)
    ]
    torch.testing.assert_close(protocols.of_own_class(log_p, own).exp(), torch.as_tensor(np.where(own == 0, *each)))
    mixed = torch.as_tensor(0.3 * each[0] + 0.7 * each[1])
    torch.testing.assert_close(protocols.summed_over_classes(log_p, labels).exp(), mixed)


def test_bits_per_dim_of_uniform_pixels_are_eight():
    """A density that is uniform on [0, 1]^D gives each of 256 levels the same probability, in any space."""
    pixels = torch.randint(256, (20, 6)).double()
    y = Dequantise(256)(pixels)
    torch.testing.assert_close(
        protocols.bits_per_dim(torch.zeros(20), y, Dequantise(256)), torch.full((20,), 8.0).double()
    )
    logit = Logit(256, 0.01)
    x = logit(pixels)
    log_p = (x.sigmoid().log() + (-x).sigmoid().log() - math.log(1 - 0.02)).sum(-1)  # |dy/dx|
    torch.testing.assert_close(protocols.bits_per_dim(log_p, x, logit), torch.full((20,), 8.0).double())


def test_the_split_holds_the_last_points_out():
    data = pyrovae.load_data("digits", transform="threshold")
    train, validation = protocols.split(data, 100)
    assert torch.equal(torch.cat([train, validation]), data.train[torch.arange(len(data.train))])
    assert len(validation) == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOLERANCE))
def test_a_command_gives_the_numbers_of_its_record(name: str, tmp_path: Path):
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--records", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    again, record = numbers(record_of(name, tmp_path)), numbers(record_of(name))
    assert [quantity for quantity, _ in again] == [quantity for quantity, _ in record]
    for (_, one), (_, other) in zip(again, record, strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE[name])


def test_the_figure_of_gaps_has_the_published_bars_and_those_of_each_record():
    names = [name for name in NAMES if name.startswith("inference_gaps")]
    figure = pictures.inference_gaps([record_of(name) for name in names])
    (axes,) = figure.axes
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()) for bar in axes.patches]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(names) + 2  # of a Gaussian and of a flow
    for name in names:
        record = record_of(name)
        gaps = {line.quantity: line for line in lines_of(record)}
        approximation, amortisation = gaps["approximation gap"], gaps["amortisation gap"]
        own = f"{record['title'].removeprefix('Inference gaps of a ')}, {epochs_of(record['settings']['stages']):,} epochs"
        published = f"{record['title'].removeprefix('Inference gaps of a ').partition(',')[0]}, published"
        for label, field in ((own, "ours"), (published, "published")):
            place, first, second = labels.index(label), getattr(approximation, field), getattr(amortisation, field)
            assert (place, 0.0, pytest.approx(first)) in bars
            assert (place, pytest.approx(first), pytest.approx(second)) in bars
    assert pictures.inference_gaps([record_of("mclust")]) is None


@pytest.mark.parametrize(("value", "shown"), [(0.00021, "0.00021"), (-6.62, "−6.6"), (130.25, "130"), (2e-5, "2e−05")])
def test_two_digits_are_written_as_a_reader_expects(value, shown):
    assert two_digits(value) == shown
