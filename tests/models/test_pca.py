"""PCA against scikit-learn's, and against the PPCA whose noise goes to nothing."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

import pyrovae
from pyrovae import fit, load


def fitted(x, latent, epochs=0):
    model, guide = load("pca")(x.shape[1], latent=latent)
    model.to(x.dtype)
    found = fit(model, guide, x, epochs=epochs, batch_size=None)
    return model, guide, found


def test_it_is_scikit_learns(seed):
    """Subspace, codes (ours are white: z/√λ), reconstructions, and variances, whose divisor there is N − 1."""
    torch.manual_seed(seed)
    x = torch.randn(100, 6).double() @ torch.randn(6, 6).double() + 2
    model, _, _ = fitted(x, 3)
    judge = PCA(3, svd_solver="full").fit(x.numpy())
    assert subspace_angles(model.eigenvectors().numpy(), judge.components_.T).max() < 1e-7
    np.testing.assert_allclose(model.variances[:3].numpy() * 100 / 99, judge.explained_variance_, rtol=1e-9)
    ratio = (model.variances[:3] / model.variances.sum()).numpy()
    np.testing.assert_allclose(ratio, judge.explained_variance_ratio_, rtol=1e-9)
    scores = model.encode(x).detach().numpy() * model.variances[:3].sqrt().numpy()
    theirs = judge.transform(x.numpy())
    np.testing.assert_allclose(np.abs(scores), np.abs(theirs), atol=1e-8)
    rebuilt = model.decode(model.encode(x)).detach().numpy()
    np.testing.assert_allclose(rebuilt, judge.inverse_transform(theirs), atol=1e-8)
    error = ((x.numpy() - rebuilt) ** 2).sum(1)
    np.testing.assert_allclose(model.error(x).detach().numpy(), error, atol=1e-8)
    assert model.error(x).mean().item() == pytest.approx(model.variances[3:].sum().item(), rel=1e-9)


def test_training_stays_at_the_least_error(seed):
    """The loss is the error, and no gradient leads away from it: ‖∂‖ is zero but for rounding, and 20 epochs move nothing."""
    torch.manual_seed(seed)
    x = torch.randn(100, 5).double() @ torch.randn(5, 5).double()
    model, _, found = fitted(x, 2, epochs=20)
    np.testing.assert_allclose(found.losses, model.variances[2:].sum().item(), rtol=1e-3)
    assert min(found.losses) > model.variances[2:].sum().item() * (1 - 1e-9)


def test_ppcas_codes_become_its_codes_as_the_noise_goes(seed):
    """E[z|x] of PPCA with the same W and σ → 0: the difference falls as σ²."""
    torch.manual_seed(seed)
    x = torch.randn(80, 5).double() @ torch.randn(5, 5).double()
    model, _, _ = fitted(x, 2)
    ppca, _ = load("ppca")(5, latent=2)
    ppca.double()
    distance = []
    with torch.no_grad():
        ppca.W.copy_(model.W), ppca.mu.copy_(model.mu)
        for sigma in (1e-2, 1e-3):
            ppca.log_sigma.fill_(float(np.log(sigma)))
            distance.append((ppca.encode(x) - model.encode(x)).abs().max().item())
    assert distance[1] < 1e-4
    assert distance[0] / distance[1] == pytest.approx(100, rel=0.01)


def test_new_x_has_the_datas_covariance_in_the_subspace(seed):
    torch.manual_seed(seed)
    x = torch.randn(200, 4).double() @ torch.randn(4, 4).double()
    model, _, _ = fitted(x, 2)
    draws = pyrovae.sample(model, 40_000, x)
    covariance = (model.W @ model.W.mT).detach()
    error = ((covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()) / 40_000).sqrt()
    assert ((torch.cov(draws.mT) - covariance).abs() < 6 * error).all()
    assert torch.linalg.matrix_rank(draws - model.mu, rtol=1e-9) == 2


def test_it_has_no_density_and_says_so():
    x = torch.rand(30, 4)
    model, guide, _ = fitted(x, 2)
    with pytest.raises(pyrovae.InvalidInputError, match="PCA has no log p\\(x\\).*train ppca"):
        pyrovae.evaluate(model, guide, x)
    flat = x.clone()
    flat[:, 1:] = flat[:, :1]
    with pytest.raises(pyrovae.InvalidInputError, match="vary in 1 directions: there are no 2"):
        fitted(flat.double(), 2)
