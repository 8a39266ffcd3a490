"""Bars are shown where someone watches, once, and end at all there is to do; else nothing is printed."""

import io

import pytest
import torch
from rich.console import Console

import pyrovae
from pyrovae.utils import progress


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to standard error, as if it were a terminal."""
    page = io.StringIO()
    monkeypatch.setattr(progress, "_console", lambda: Console(file=page, force_terminal=True, width=100))
    return page


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """How much each bar was advanced in all, beside its total."""
    from rich.progress import Progress

    found: dict[str, list[float]] = {}
    stop = Progress.stop

    def keep(self: Progress) -> None:
        for task in self.tasks:
            found[task.description] = [task.completed, task.total or 0.0]
        stop(self)

    monkeypatch.setattr(Progress, "stop", keep)
    return found


def test_every_long_function_shows_one_bar_that_reaches_its_end(
    terminal: io.StringIO, updates: dict[str, list[float]]
) -> None:
    x = torch.randn(30, 4)
    model, guide = pyrovae.load("ppca")(4, latent=2)
    pyrovae.fit(model, guide, x, epochs=3, compile=False)
    pyrovae.evaluate(model, guide, x)
    pyrovae.ais(model, guide, x[:5], 2, 5)
    pyrovae.gap(model, guide, x[:5], num_samples=10, num_temperatures=5, num_chains=2, annealing=True)
    pyrovae.choose(pyrovae.load("ppca"), {"latent": [1, 2]}, x, 5, training={"epochs": 1})
    ends = {"choose": 2, "fit": 3, "evaluate": 30, "anneal": 5, "gap": 15}  # inside of a bar there is none
    assert updates.keys() == ends.keys()
    for name, end in ends.items():
        assert updates[name] == [pytest.approx(end), end]
        assert name in terminal.getvalue()


def test_nothing_is_shown_where_it_is_not_wanted(terminal: io.StringIO, updates: dict[str, list[float]]) -> None:
    x = torch.randn(10, 4)
    model, guide = pyrovae.load("ppca")(4, latent=2)
    pyrovae.fit(model, guide, x, epochs=1, compile=False, progress=False)
    pyrovae.evaluate(model, guide, x, num_samples=5, progress=False)
    pyrovae.choose(pyrovae.load("ppca"), {"latent": [1]}, x, 5, training={"epochs": 1}, progress=False)
    points: list[float] = []
    pyrovae.evaluate(model, guide, x, num_samples=5, on_progress=points.append)
    assert sum(points) == 10
    assert terminal.getvalue() == ""
    assert updates == {}


def test_a_pipe_sees_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(10, 4)
    model, guide = pyrovae.load("ppca")(4, latent=2)
    pyrovae.fit(model, guide, x, epochs=1, compile=False)
    pyrovae.evaluate(model, guide, x, num_samples=5)
    assert capfd.readouterr() == ("", "")
