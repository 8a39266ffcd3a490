"""What ArviZ makes of evidence: the same sums, differences and errors, whichever its version is."""

import math
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.pair.execution import modules
from pyrovae.utils.export import arviz

matplotlib.use("Agg")
az: Any = arviz()
OLD = az.__version__.startswith("0.")


@pytest.fixture(scope="module")
def scored() -> Any:
    """PPCA under its exact guide, and under an approximate one with errors: evidence, and x."""
    torch.manual_seed(0)
    x = torch.randn(50, 4).double()
    found = []
    for latent, guide in ((2, pyrovae.guides.ExactPosterior), (1, pyrovae.guides.MeanField)):
        pair = pyrovae.load("ppca")(4, latent=latent, guide=guide)
        for module in modules(*pair):
            module.double()
        pyrovae.fit(*pair, x, epochs=3)
        found.append(pyrovae.evaluate(*pair, x, num_samples=200, progress=False))
    return *found, x


def quietly(function: Any, *arguments: Any, **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **settings)


def test_loo_is_the_sum_over_points_with_its_data_error(scored: Any) -> None:
    for evidence in scored[:2]:
        loo = quietly(az.loo, evidence.to_arviz(), pointwise=True)
        value = float(loo.elpd_loo if OLD else loo.elpd)
        points, se = evidence.log_likelihood, evidence.log_likelihood_se.nan_to_num()
        expected = points - se.square() / 2
        assert value == pytest.approx(float(expected.sum()), abs=1e-4 + 0.05 * float(se.square().sum()))
        error = math.sqrt(len(points)) * float(expected.std(correction=0 if OLD else 1))
        assert float(loo.se) == pytest.approx(error, rel=1e-3)
        k = np.asarray(loo.pareto_k)
        assert (k < 0.7).all()  # no warning where nothing is wrong


def test_compare_has_the_paired_difference_and_its_error(scored: Any) -> None:
    exact, rough, _ = scored
    table = quietly(az.compare, {"exact": exact.to_arviz(), "rough": rough.to_arviz()})
    difference = exact.log_likelihood - rough.log_likelihood
    last = table.iloc[-1]
    assert abs(float(last["elpd_diff"])) == pytest.approx(abs(float(difference.sum())), rel=0.05, abs=0.06)
    assert float(last["dse"]) == pytest.approx(math.sqrt(50) * float(difference.std(correction=0)), rel=0.05, abs=0.06)


def test_summary_plots_and_files(scored: Any, tmp_path: Path) -> None:
    evidence, _, x = scored
    tree = evidence.to_arviz(x)
    assert np.array_equal(np.asarray(tree["observed_data"]["x"]), x.numpy())
    means = np.asarray(tree["posterior"]["log_px"].mean(("chain", "draw")))
    assert means == pytest.approx(evidence.log_likelihood.numpy(), abs=1e-9)
    table = quietly(az.summary, tree, round_to="none", kind="stats")
    assert np.asarray(table["mean"], dtype=float) == pytest.approx(evidence.log_likelihood.numpy(), abs=1e-9)
    quietly(az.plot_forest, tree)
    quietly(az.plot_khat, quietly(az.loo, tree, pointwise=True))
    tree.to_netcdf(str(tmp_path / "a.nc"))
    back = quietly(az.from_netcdf, str(tmp_path / "a.nc"))
    stats = back["sample_stats"]
    assert np.array_equal(np.asarray(stats["elbo"]), evidence.elbo.numpy())
    assert stats.attrs["num_samples"] == 200
    with pytest.raises(InvalidInputError, match="x has 49 points, and the result has 50"):
        evidence.to_arviz(x[1:])
