"""Mixtures of factor analysers: what they add to the mixtures of PPCAs, beside which they are tested."""

import pytest
import torch
from sklearn.decomposition import FactorAnalysis

import pyrovae
from pyrovae import fit, load


def test_one_component_is_scikit_learns_factor_analysis(seed):
    """The maximum of the likelihood, within 1e-3 nat per point."""
    torch.manual_seed(seed)
    W = 1.5 * torch.eye(2).double().repeat_interleave(3, dim=0)  # three x_d to a factor: no noise is near the floor
    x = torch.randn(1000, 2).double() @ W.mT + torch.randn(1000, 6).double() * torch.linspace(0.7, 1.3, 6)
    judge = FactorAnalysis(2, tol=1e-6, max_iter=20_000, svd_method="lapack").fit(x.numpy())
    assert judge.noise_variance_.min() > 0.1
    model, _ = load("mixture_fa")(6, components=1, latent=2)
    model.double().initialise(x)
    pyrovae.EM(steps=2000, tol=0)(model, x)
    assert model.log_prob(x).mean().item() == pytest.approx(judge.score(x.numpy()), abs=1e-3)


def test_a_noise_never_falls_below_the_floor(seed):
    """x_0 is a factor itself: its noise goes to the floor, and stops there."""
    torch.manual_seed(seed)
    z = torch.randn(300, 1).double()
    x = torch.cat([z, z + torch.randn(300, 4).double()], dim=1)
    x[:, 0] /= x[:, 0].std(correction=0)  # the floor is a fraction of the variance of a column
    model, _ = load("mixture_fa")(5, components=1, latent=1, floor=0.3)
    model.double().initialise(x)
    pyrovae.EM(steps=500, tol=0)(model, x)
    noise = model.noise.detach()[0]
    assert noise[0].item() == pytest.approx(0.3, rel=1e-5)
    assert (noise[1:] > 0.5).all()


def test_on_held_out_digits_it_beats_both_of_its_parents():
    """Factor analysis, and the mixture of PPCAs with as many directions, each by more than 2 standard errors."""
    data = pyrovae.load_data("digits")
    pairs = {name: load(name)(64) for name in ("mixture_fa", "factor_analysis", "mixture_ppca")}
    for name, (model, guide) in pairs.items():
        fit(
            model,
            guide,
            data.train,
            epochs=5,
            batch_size=None,
            lr=1e-3,
            init="em" if name == "factor_analysis" else None,
        )
    found = pyrovae.compare(pairs, data.test, num_samples=2)
    for parent in ("factor_analysis", "mixture_ppca"):
        value, _, data_se = found.difference("mixture_fa", parent)
        assert value > 2 * data_se > 0
