"""The normal by its precision's factor: against torch's MultivariateNormal, under every shape, and recorded without a host read."""

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch.distributions import MultivariateNormal
from torch.fx.experimental.proxy_tensor import make_fx

from pyrovae import load
from pyrovae.distributions import PrecisionNormal
from pyrovae.distributions.normal import DiagonalNormal
from pyrovae.pair.execution import evaluation_mode, local_parameters, scoring
from pyrovae.pair.parameters import parameters

SHAPES = {  # of loc, of P, of x
    "one": ((3,), (3, 3), (5, 3)),
    "P shared": ((5, 3), (3, 3), (5, 3)),
    "P shared, draws": ((5, 3), (3, 3), (2, 5, 3)),
    "family": ((4, 3), (4, 3, 3), (5, 1, 3)),
    "family, P shared": ((4, 3), (1, 3, 3), (5, 1, 3)),
    "family, draws": ((4, 3), (4, 3, 3), (2, 5, 1, 3)),
    "a point each": ((4, 3), (4, 3, 3), (4, 3)),
    "one point": ((1, 3), (3, 3), (1, 3)),
}


def both(loc, factor, triangular=False):
    loc = 5 + torch.randn(loc).double()
    factor = torch.randn(factor).double() + 2 * torch.eye(3).double()
    if triangular:
        factor = factor.tril()
    log_det = None if triangular else torch.linalg.slogdet(factor)[1]
    ours = PrecisionNormal(loc, factor, log_det=log_det)
    return ours, MultivariateNormal(loc, precision_matrix=factor @ factor.mT)


@pytest.mark.processor
@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("triangular", [False, True])
def test_is_torchs_multivariate_normal(case, triangular, seed):
    torch.manual_seed(seed)
    loc, factor, x = SHAPES[case]
    ours, theirs = both(loc, factor, triangular)
    value = 5 + torch.randn(x).double()
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value), rtol=1e-9, atol=1e-9)
    for name in ("mean", "variance", "covariance_matrix", "precision_matrix"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.entropy(), theirs.entropy(), rtol=1e-9, atol=1e-9)
    assert ours.batch_shape == theirs.batch_shape


def test_expanded_it_is_the_same(seed):
    torch.manual_seed(seed)
    ours, theirs = both((5, 3), (3, 3))
    value = torch.randn(2, 5, 3).double()
    wider = ours.expand(torch.Size((2, 5)))
    assert wider.batch_shape == (2, 5)
    assert wider.sample().shape == (2, 5, 3)
    torch.testing.assert_close(wider.log_prob(value), theirs.log_prob(value), rtol=1e-9, atol=1e-9)


def test_draws_have_its_moments(seed):
    """6 standard errors of a mean and of a covariance."""
    torch.manual_seed(seed)
    ours, theirs = both((2, 3), (2, 3, 3))
    draws, sigma = ours.sample((40_000,)), theirs.covariance_matrix
    width = sigma.diagonal(dim1=-2, dim2=-1)
    assert ((draws.mean(0) - theirs.mean).abs() < 6 * (width / 40_000).sqrt()).all()
    error = ((sigma.square() + width.unsqueeze(-1) * width.unsqueeze(-2)) / 40_000).sqrt()
    found = torch.stack([torch.cov(draws[:, k].mT) for k in range(2)])
    assert ((found - sigma).abs() < 6 * error).all()


def test_gradients_are_those_of_torchs(seed):
    torch.manual_seed(seed)
    value = torch.randn(7, 1, 3).double()
    loc = torch.randn(4, 3).double().requires_grad_()
    factor = (torch.randn(4, 3, 3).double() + 2 * torch.eye(3).double()).tril().requires_grad_()
    ours = PrecisionNormal(loc, factor).log_prob(value).sum()
    theirs = MultivariateNormal(loc, precision_matrix=factor @ factor.mT).log_prob(value).sum()
    for mine, other in zip(
        torch.autograd.grad(ours, [loc, factor]), torch.autograd.grad(theirs, [loc, factor]), strict=True
    ):
        torch.testing.assert_close(mine.tril(), other.tril(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["gmm", "ppca", "factor_analysis", "bernoulli_mixture"])
def test_the_pairs_densities_are_recorded_without_a_host_read(name, seed):
    """log p(x), p(z|x) and their gradients as one graph: it reads nothing back, and gives new points the eager numbers."""
    torch.manual_seed(seed)
    model, guide = load(name)(6)
    model.double()
    points = [
        torch.rand(20, 6).double().round() if "bernoulli" in name else torch.rand(20, 6).double() for _ in range(2)
    ]
    with scoring(model, guide):  # as fit runs them: Pyro's checks off
        leaves = parameters(points[0], guide, model)

        def density(x):
            posterior = model.posterior(x)
            inside = (
                posterior.logits
                if hasattr(posterior, "logits")
                else posterior.log_prob(torch.zeros_like(posterior.mean))
            )
            loss = model.log_prob(x).sum() + inside.square().sum()
            return loss.detach(), *torch.autograd.grad(loss, leaves)

        recorded = make_fx(density)(points[0])
        reads = ("_local_scalar_dense", "aten.item", "_to_copy", "linalg_cholesky.", "nonzero")
        targets = [str(node.target) for node in recorded.graph.nodes]
        assert not [target for target in targets if any(read in target for read in reads)]
        for found, expected in zip(recorded(points[1]), density(points[1]), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_an_exact_posterior_under_svi_has_the_gradient_of_log_p(seed):
    """The pathwise gradient of the ELBO has no variance: PPCA's, against that of −log p(x)."""
    torch.manual_seed(seed)
    x = torch.randn(30, 5).double()
    model, guide = load("ppca")(5, latent=2)
    model.double()
    leaves = [model.W, model.mu, model.log_sigma]
    exact = torch.autograd.grad(-model.log_prob(x).sum(), leaves)
    with local_parameters(model, guide), evaluation_mode(model):
        for leaf in leaves:
            leaf.grad = None
        Trace_ELBO().loss_and_grads(model, guide, x)
    for leaf, gradient in zip(leaves, exact, strict=True):
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.processor
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("apart", [1.0, 1e4])
def test_the_diagonal_normals_products_lose_no_more_than_they_say(dtype, apart, seed):
    """Far from the origin, of unlike units and means `apart` widths apart: within the docstring's bound of exact sums (in
    single precision of the same numbers in double; in double by the differences), and x is left as it was."""
    torch.manual_seed(seed)
    units = 10 ** torch.linspace(-2, 2, 20).double()
    loc = ((100 + apart * torch.randn(4, 20).double()) * units).to(dtype)
    scale = (units * (0.5 + torch.rand(4, 20).double())).to(dtype)
    x = (loc[torch.arange(60) % 4] + scale[torch.arange(60) % 4] * torch.randn(60, 20).to(dtype)).unsqueeze(1)
    before = x.clone()
    with torch.no_grad():
        found = DiagonalNormal(dist.Normal(loc, scale), 1).log_prob(x)
    assert found.dtype == dtype
    assert torch.equal(x, before)
    wide, exact = loc.double(), dist.Normal(loc.double(), scale.double()).log_prob(x.double()).sum(-1)
    centre = wide.mean(dim=0)
    spread = (((x - centre).abs() + (wide - centre).abs()) / scale.double()).square().sum(-1)
    bound = 2**-52 * (20 + 4) * spread + torch.finfo(dtype).eps * exact.abs()
    assert ((found.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("case", [case for case in SHAPES if SHAPES[case][1][:-2] != (1,)])
def test_the_diagonal_normal_is_torchs_with_and_without_gradients(case, seed):
    torch.manual_seed(seed)
    loc, _, x = SHAPES[case]
    loc, scale, value = torch.randn(loc).double(), 0.5 + torch.rand(loc).double(), torch.randn(x).double()
    ours, theirs = (kind(dist.Normal(loc, scale), 1) for kind in (DiagonalNormal, torch.distributions.Independent))
    expected = theirs.log_prob(value)
    torch.testing.assert_close(ours.log_prob(value), expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(ours.log_prob(value), expected, rtol=1e-12, atol=1e-12)


def test_of_a_family_that_is_expanded_each_point_has_its_own(seed):
    """K densities for each of two points: no table of points under all of them."""
    torch.manual_seed(seed)
    loc, value = torch.randn(4, 3).double(), torch.randn(2, 1, 3).double()
    for family in (DiagonalNormal(dist.Normal(loc, 0.7), 1), both((4, 3), (4, 3, 3))[0]):
        expected = family.log_prob(value)
        with torch.no_grad():
            torch.testing.assert_close(family.expand(torch.Size((2, 4))).log_prob(value), expected)
            torch.testing.assert_close(family.log_prob(value), expected)
