"""The script for a GPU runs to its end where there is none, and its checks can fail."""

import json
import sys
from pathlib import Path

import pytest
import torch
from every_pair import SCORED

import pyrovae

# scripts stand there, not packages
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent))

import correctness
import measurements
import run_all
from noise import NoiseOfTheProcessor

CPU = torch.device("cpu")
DEFAULTS = [case for case in SCORED if case[0] in ("gmvae", "ppca", "vae") and not case[1]]
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:[\s\S]*you need to use TraceEnum_ELBO:UserWarning"),
    pytest.mark.filterwarnings("ignore:Found vars in model but not guide:UserWarning"),
]


def failed(checks):
    found = correctness.summary(list(checks))
    assert found["passed"] + len(found["failed"]) > 0
    return found["failed"]


def test_noise_is_the_same_in_every_type():
    drawn = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(3)
        with NoiseOfTheProcessor():
            like = torch.zeros(20, dtype=dtype)
            drawn.append([
                torch.randn(20, dtype=dtype), torch.randn_like(like), torch.normal(like, like + 2), like.clone().exponential_(),
                torch.randint(9, (20,)), torch.multinomial(like + 1, 5), torch._standard_gamma(like + 2), torch.bernoulli(like + 0.5),
            ])  # fmt: skip
    for one, other in zip(*drawn, strict=True):
        assert one.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-6, atol=0)


def test_losses_gradients_and_weights_are_those_of_double_precision():
    assert not failed(correctness.same_losses_and_gradients(CPU, DEFAULTS))
    assert not failed(correctness.same_log_weights(CPU, DEFAULTS))


@pytest.mark.parametrize("checks", [correctness.same_losses_and_gradients, correctness.same_log_weights])
def test_a_device_that_computes_something_else_fails(checks, monkeypatch):
    on = correctness.on

    def slightly_wrong(pair, device, dtype=torch.float32):
        model, guide = on(pair, device, dtype)
        if dtype == torch.float32:
            next(model.parameters()).data.mul_(1.01)
        return model, guide

    monkeypatch.setattr(correctness, "on", slightly_wrong)
    assert failed(checks(CPU, DEFAULTS[-1:]))


def test_a_part_that_fails_or_takes_too_long_is_written_down(tmp_path):
    report = run_all.Report(tmp_path / "found.json", sum(run_all.LIMITS.values()), {"device": "none"})
    report.part("limits", "", lambda: 1 / 0)
    report.used["steps"] = run_all.LIMITS["steps"] - 0.05
    report.part("steps", "endless", lambda: [None for _ in iter(int, 1)])
    assert report.part("evidence", "", lambda: {"seconds": 1.0}) == {"seconds": 1.0}
    found = json.loads(report.out.read_text())["parts"]
    assert found["limits"]["error"].startswith("ZeroDivisionError")
    assert found["steps: endless"]["error"].startswith("OutOfTime")
    assert found["evidence"]["found"] == {"seconds": 1.0}
    assert not report.ok


def test_training_and_evidence_are_measured(monkeypatch):
    """On random images, without a network and without MNIST."""
    monkeypatch.delenv("PYROVAE_DATA", raising=False)
    limit = {f"{kind} products, flop/s": 1e9 for kind in ("float32", "tf32", "bfloat16")} | {"copy, bytes/s": 1e9}
    pair = measurements.vae(CPU, True)
    trained = measurements.training(CPU, True, limit, pair, "fp32")
    assert trained["data"].startswith("random images")
    assert "replayed" in trained["execution"]
    x, _ = measurements.images(300)
    evidence = pyrovae.evaluate(*pair, x[:100], 20, compile=False, progress=False)
    assert evidence.mean_elbo.value == pytest.approx(trained["ELBO of the last epoch"], rel=0.05)


def test_the_share_of_the_roofline():
    limit = {"float32 products, flop/s": 100.0, "copy, bytes/s": 10.0}
    found = measurements.share_of_roofline(200.0, 10.0, 4.0, limit)
    assert found == {"least seconds": 2.0, "bound by": "products", "share of the roofline": 0.5}
    assert measurements.share_of_roofline(200.0, 40.0, 8.0, limit)["bound by"] == "memory"


@pytest.mark.slow
def test_the_rehearsal_runs_to_its_end(tmp_path):
    out = tmp_path / "found.json"
    assert run_all.main(["--device", "cpu", "--small", "--no-compile", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["ok"]
    assert found["parts"]["evidence: to a tolerance"]["found"]["points within the tolerance"] == 1.0
