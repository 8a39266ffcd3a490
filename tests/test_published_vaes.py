"""The commands of published VAEs, on small data: their training is the published one, stops and goes on, and gives its numbers again."""

import json
import runpy
import sys
from pathlib import Path

import iwae_training
import pytest
import torch

import pyrovae

FOLDER = Path(iwae_training.__file__).parent


def lines(name, folder, monkeypatch, **options):
    """Run the command `name`. Returns the lines of its record, by quantity."""
    given = [part for option, value in options.items() for part in (f"--{option.replace('_', '-')}", str(value))]
    folders = ["--records", str(folder / "records"), "--work", str(folder / "work")]
    monkeypatch.setattr(sys, "argv", [name, "--data", "digits", *folders, *given])
    runpy.run_path(str(FOLDER / f"{name}.py"))
    (record,) = (json.loads(path.read_text()) for path in (folder / "records").glob("*.json"))
    assert record["name"].startswith(record["script"])
    assert not record["stopped"]
    assert f"{name}.py --" in record["command"]
    return {line["quantity"]: line for part in record["parts"] for line in part["lines"]}


def test_the_learning_rates_are_those_of_the_paper():
    """Of all 3,280 epochs, whatever the number of stages is."""
    rates = []
    for make, steps in ((iwae_training.staged(1), 1), (pyrovae.schedules.iwae_schedule, 3280)):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1e-3)
        schedule, found = make(optimizer, steps), []
        for _ in range(3280):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        rates.append(found)
    assert rates[0] == rates[1]
    assert [iwae_training.epochs_of(stage) for stage in range(1, 9)] == [1, 4, 13, 40, 121, 364, 1093, 3280]


def test_objectives_are_those_of_the_table():
    """ELBO of k draws: its log-weights are averaged, not their exponentials."""
    log_w = torch.tensor([[0.0], [2.0]])
    found = {name: float(iwae_training.training_objective(name, 2).bound(log_w)) for name in ("elbo", "iwae")}
    assert found == pytest.approx({"elbo": 1.0, "iwae": float(log_w.logsumexp(0)) - 0.6931472})
    assert iwae_training.training_objective("iwae", 1) is None
    with pytest.raises(pyrovae.InvalidInputError, match="no objective 'vae' here: give one of iwae, dreg, elbo"):
        iwae_training.training_objective("vae", 5)


SHORT = {"k": 2, "objective": "iwae", "stages": 2, "batch_size": 200, "K": 200, "both_sides_points": 0, "lr": 0.003}


def test_a_stopped_row_gives_the_numbers_of_a_whole_one_and_of_its_command_again(tmp_path, monkeypatch):
    whole = lines("iwae", tmp_path / "whole", monkeypatch, **SHORT)
    stopped = lines("iwae", tmp_path / "stopped", monkeypatch, **{**SHORT, "stages": 1})
    assert stopped["L_200"]["ours"] < whole["L_200"]["ours"]
    again = lines("iwae", tmp_path / "stopped", monkeypatch, **SHORT)
    for line in (*again.values(), *whole.values()):
        line["note"] = ""  # which has the time
    assert again == whole
    assert whole["L_200"]["published"] is None
    assert whole["active units of 50, z"]["ours"] > 0
    part = lines("iwae", tmp_path / "whole", monkeypatch, **SHORT, bound_points=200)  # trained already
    both = whole["L_200"]["mc_se"], part["L_200"]["mc_se"]
    assert both[0] < both[1] < 0.5
    assert abs(part["L_200"]["ours"] - whole["L_200"]["ours"]) < 5 * sum(error**2 for error in both) ** 0.5


@pytest.mark.slow
def test_rows_of_gaps_and_of_sharp_decoders_hold_together(tmp_path, monkeypatch):
    gaps = lines(
        "inference_gaps", tmp_path / "gaps", monkeypatch, stages=2, batch_size=100, points=5, both_sides_points=3, K=300
    )
    log_p, best, elbo, approximation, amortisation, sides = gaps.values()
    assert log_p["ours"] - best["ours"] == pytest.approx(approximation["ours"], abs=1e-6)
    assert best["ours"] - elbo["ours"] == pytest.approx(amortisation["ours"], abs=1e-6)
    assert sides["lower"] - 0.2 < sides["ours"] < sides["upper"] + 0.2
    sizes = lines("batch_sizes", tmp_path / "sizes", monkeypatch, stages=1, seeds=1, K=10)
    for name in ("ELBO", "L_10"):
        small, large = (sizes[f"batches of {size}, seed 0: {name}"]["ours"] for size in (20, 100))
        assert sizes[f"100 minus 20, seed 0: {name}"]["ours"] == pytest.approx(large - small, abs=1e-4)
    flow = lines(
        "inference_gaps",
        tmp_path / "flow",
        monkeypatch,
        q="flow",
        stages=1,
        batch_size=100,
        points=2,
        both_sides_points=2,
        K=300,
    )
    gaussian = flow["best Gaussian q of each image"]
    assert gaussian["published"] == -113.54
    assert gaussian["ours"] < flow["log p(x)"]["ours"]
    assert flow["amortised flow q"]["ours"] < flow["best flow q of each image"]["ours"] < flow["log p(x)"]["ours"]
    short = {"hidden": "30", "epochs": 20, "points": 2, "steps": 300, "decoders": "3:0.02", "K": 500}
    bound, log_p, annealed, worst, gap = lines("sharp_decoders", tmp_path / "sharp", monkeypatch, **short).values()
    assert bound["ours"] < log_p["ours"]
    assert gap["ours"] == pytest.approx(log_p["ours"] - bound["ours"], abs=1e-6)
    assert abs(worst["ours"]) < 6 * worst["mc_se"] + 0.5
    assert annealed["ours"] == pytest.approx(log_p["ours"], abs=abs(worst["ours"]) + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("q", ["gaussian", "flow"])
def test_gaps_of_grey_levels_are_trained_as_they_are_said_to_be(q, tmp_path, monkeypatch):
    """ELU layers, grey levels, a weight of the KL that rises for 100 of 121 epochs, and ε = 1e-4 beside the batch's mean."""
    seen = []

    def fit(model, guide, x, **settings):
        seen.append((model, guide, x, settings))
        return pyrovae.training.fit(model, guide, x, **settings)

    monkeypatch.setattr(pyrovae, "fit", fit)
    short = {"training": "grey", "batch_size": 100, "points": 3, "both_sides_points": 0, "K": 300}
    with pytest.raises(pyrovae.InvalidInputError, match="rises in 100 epochs: give at least 5 stages"):
        lines("inference_gaps", tmp_path, monkeypatch, q=q, stages=4, **short)
    found = lines("inference_gaps", tmp_path, monkeypatch, q=q, stages=5, **short)
    ((model, guide, x, settings),) = seen
    layers = [part for network in (model.decoder, guide.encoder) for part in network]
    assert [type(part) for part in layers].count(torch.nn.ELU) == 4
    assert not any(isinstance(part, torch.nn.Tanh) for part in layers)
    assert ((x > 0) & (x < 1)).any()
    assert settings["kl_warmup_fraction"] == pytest.approx(100 / 121)
    assert settings["optimizer"].keywords["eps"] == pytest.approx(1e-2)  # of the sum over 100
    log_p, best, elbo = list(found.values())[:3]
    assert elbo["ours"] < best["ours"] < log_p["ours"] < 0
