"""One shape for all results: means with their errors, plain JSON, InferenceData, rows of a table."""

import json
from dataclasses import dataclass

import arviz
import numpy as np
import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.estimators.prior_sampling import prior_sampling_log_likelihood
from pyrovae.posterior.optimise import RefinementSettings
from pyrovae.statistics.estimate import mean_over_points
from pyrovae.statistics.result import PointwiseResult

SHORT = RefinementSettings(draws=4, check=5, limit=5, settle=0)


@dataclass(frozen=True)
class Scores(PointwiseResult):
    score: torch.Tensor
    score_se: torch.Tensor
    exact: torch.Tensor | None
    count: torch.Tensor
    seconds: float
    metadata: dict

    labels = {"exact": "exact score", "score": "score"}  # noqa: RUF012
    other_values = ("count",)
    bounds = {"score": "lower"}  # noqa: RUF012

    def summary(self):
        return {"limit": float("inf"), "fast": True}


@pytest.fixture
def scores():
    values = torch.tensor([1.0, 2.0, 6.0])
    return Scores(values, values / 10, None, torch.tensor([3, 4, 5]), 0.5, {"seed": 1, "device": "cpu"})


def test_a_mean_has_both_errors_and_what_does_not_exist_is_left_out(scores):
    assert len(scores) == 3
    assert scores.mean("score") == mean_over_points(scores.score, scores.score_se)
    assert scores.mean("count").mc_se == 0
    assert list(scores.estimates()) == ["score"]
    assert list(scores.per_point()) == ["score", "score_se", "count"]
    assert scores.rows() == [("score", scores.mean("score"), "lower")]


@pytest.mark.parametrize("name", ["scores", "exact", "seconds"])
def test_a_mean_of_no_such_name_is_refused(scores, name):
    with pytest.raises(InvalidInputError, match=rf"Scores has no '{name}' for each point.*: give one of score\."):
        scores.mean(name)


def test_json_has_no_infinity_and_netcdf_no_booleans(scores):
    content = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert content["limit"] is None
    assert content["means"]["score"]["value"] == 3.0
    assert content["per_point"]["count"] == [3, 4, 5]
    assert (content["seconds"], content["metadata"]["seed"], content["bounds"]) == (0.5, 1, {"score": "lower"})
    stats = scores.to_arviz().sample_stats
    assert stats.attrs["fast"] == "True"
    assert stats.attrs["seed"] == 1


def _pair():
    return pyrovae.load("ppca")(4, latent=2), torch.randn(6, 4)


RESULTS = {
    "evaluate": lambda model, guide, x: pyrovae.evaluate(model, guide, x, num_samples=20),
    "ais": lambda model, guide, x: pyrovae.ais(model, guide, x, num_chains=2, num_temperatures=3),
    "bdmc": lambda model, guide, x: pyrovae.bdmc(model, guide, x, points=5, num_chains=2, num_temperatures=3),
    "reverse_iwae": lambda model, guide, x: pyrovae.reverse_iwae(model, guide, x, points=5, num_samples=10),
    "refine": lambda model, guide, x: pyrovae.refine(model, guide, x, num_samples=10, protocol=SHORT),
    "gap": lambda model, guide, x: pyrovae.gap(
        model, guide, x, num_samples=10, num_chains=2, num_temperatures=3, protocol=SHORT
    ),
    "prior sampling": lambda model, guide, x: prior_sampling_log_likelihood(model, x, num_samples=20),
    "diagnose": lambda model, guide, x: pyrovae.diagnose(model, guide, x, num_samples=20, prior_samples=50),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_can_be_read_in_the_same_way(name, tmp_path):
    (model, guide), x = _pair()
    result = RESULTS[name](model, guide, x)
    assert isinstance(result, PointwiseResult)
    assert result.seconds > 0
    assert {"seed", "points", "dtype", "device", "pyrovae", "torch"} <= result.metadata.keys()
    for each, estimate in result.estimates().items():
        assert estimate.value == pytest.approx(float(getattr(result, each).double().mean()), rel=1e-9)
        assert estimate.data_se >= 0
    assert len(result.rows()) == len(result.estimates()) > 0
    assert set(result.bounds.values()) <= {"lower", "upper", "neither"}
    json.dumps(result.to_dict(), allow_nan=False)
    result.to_arviz().to_netcdf(str(tmp_path / "result.nc"))
    stats = arviz.from_netcdf(str(tmp_path / "result.nc")).sample_stats
    for each, values in result.per_point().items():
        np.testing.assert_array_equal(stats[each].values, values.numpy())
    assert stats.attrs["seed"] == result.metadata["seed"]
    assert repr(result).startswith(f"{type(result).__name__}(")
