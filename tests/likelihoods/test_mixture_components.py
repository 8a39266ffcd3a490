"""What makes EM quick, each against the plain way: points of no weight left out, densities by products, a family as it was set."""

import copy

import pytest
import torch

import pyrovae
from pyrovae import EM, load
from pyrovae.likelihoods import mixture_components as components

FAMILIES = pytest.mark.parametrize(
    "kind",
    [pyrovae.likelihoods.Full, pyrovae.likelihoods.Tied, pyrovae.likelihoods.Diagonal, pyrovae.likelihoods.Spherical],
)


def plainly(kind, x, r, centre):
    """Σ_n r_nk (x_n − c_k)(x_n − c_k)ᵀ, all points of it, or its diagonal."""
    y = x.unsqueeze(1) - centre
    full = torch.einsum("nk,nki,nkj->kij", r.to(x), y, y)
    return full if issubclass(kind, pyrovae.likelihoods.Full) else full.diagonal(dim1=-2, dim2=-1)


@pytest.mark.processor
@FAMILIES
def test_scatter_is_the_weighted_sum_of_squares(kind, seed, monkeypatch):
    """Weights from 1 to 1e-40, a component that has none, and pieces of 7 rows or all at once."""
    torch.manual_seed(seed)
    x, centre = 5 + torch.randn(90, 4).double(), 5 + torch.randn(3, 4).double()
    r = 10 ** (-40 * torch.rand(90, 3).double())
    r[:, 1] = 0
    family = kind(3, 4).double()
    expected = plainly(kind, x, r, centre)
    before = x.clone()
    for numbers in (components.BLOCK_ELEMENTS, 7 * 4):
        monkeypatch.setattr(components, "BLOCK_ELEMENTS", numbers)
        torch.testing.assert_close(family.scatter(x, r, centre), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


@FAMILIES
def test_what_scatter_leaves_out_is_within_its_bound(kind, seed):
    """A point of weight 1 on the mean, so that all there is to see comes from the 4,095 others. Of weight 4⁻²⁹ = eps²/N they are left
    out, and that is all of the bound but for a part in 4,096; of weight 4⁻²⁸ they are there to rounding."""
    torch.manual_seed(seed)
    x, centre = torch.randn(4096, 4).double(), torch.zeros(1, 4).double()
    x[0] = 0
    eps = torch.finfo(torch.float32).eps
    family = kind(1, 4).double()
    r = torch.full((4096, 1), 4.0**-29)
    r[0] = 1
    exact = plainly(kind, x, r, centre)
    assert family.scatter(x, r, centre).count_nonzero() == 0
    assert r[1:].double().sum() / (eps**2 * r.double().sum()) == pytest.approx(4095 / 4096, abs=1e-6)
    diagonal = exact.diagonal(dim1=-2, dim2=-1) if exact.dim() == 3 else exact
    assert (diagonal < eps**2 * r.double().sum() * x.square().amax(dim=0)).all()
    r[1:] *= 4
    torch.testing.assert_close(family.scatter(x, r, centre), plainly(kind, x, r, centre), rtol=1e-12, atol=1e-25)


@FAMILIES
def test_a_step_in_single_precision_is_that_in_double(kind, seed):
    """On digits, most of whose pixels are at the floor in some component: log p(x) before the first step and after ten more,
    within 1e-3 nats per point."""
    torch.manual_seed(seed)
    x = pyrovae.load_data("digits").train
    model, _ = load("gmm")(64, covariance=kind)
    model.initialise(x)
    wide = copy.deepcopy(model).double()
    found, expected = (EM(steps=10, tol=0)(m, points) for m, points in ((model, x), (wide, x.double())))
    gaps = [abs(a - b) for a, b in zip(found, expected, strict=False)]
    assert max(gaps) < 1e-3


@FAMILIES
def test_settled_is_the_family_wherever_the_parameters_are(kind, seed):
    """As the M-step leaves them, with variances below the floor, and with every parameter moved: means, precisions, densities."""
    torch.manual_seed(seed)
    x = torch.randn(60, 4).double() * torch.tensor([1.0, 3.0, 0.1, 0.01]).double()
    family = kind(3, 4, 0.05).double()
    family.start(x, torch.rand(60, 3).double())
    states = [copy.deepcopy(family.state_dict())]
    for name, _ in family.named_parameters():
        states.append({**states[0], name: states[0][name] + 0.3 * torch.randn_like(states[0][name])})
    if isinstance(family, pyrovae.likelihoods.Full):
        states.append({**states[0], "variances": states[0]["variances"] / 10})
    for state in states:
        family.load_state_dict(state)
        with torch.no_grad():
            found, expected = family.family_detached(), family.family()
            torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found.variance, expected.variance, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(
                found.log_prob(x.unsqueeze(1)), expected.log_prob(x.unsqueeze(1)), rtol=1e-10, atol=1e-9
            )
