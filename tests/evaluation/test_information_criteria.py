"""Free parameters against the rank of the density's derivatives, and the BIC against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.func import functional_call, jacrev

import pyrovae
from pyrovae.evaluation.information_criteria import bic, num_free_parameters

COVARIANCES = {"full": "Full", "diag": "Diagonal", "spherical": "Spherical", "tied": "Tied"}
PAIRS = [
    ("gaussian", {}), ("gmm", {"components": 3}), ("gmm", {"components": 2, "covariance": "Tied"}),
    ("gmm", {"components": 2, "covariance": "Spherical"}),
    ("ppca", {"latent": 1}), ("ppca", {"latent": 3}), ("ppca", {"latent": 4}), ("linear_vae", {"latent": 2}),
    ("factor_analysis", {"latent": 2}), ("factor_analysis", {"latent": 4}),
    ("mixture_ppca", {"components": 2, "latent": 2}), ("mixture_fa", {"components": 2, "latent": 1}),
    ("bernoulli_mixture", {"components": 2}),
]  # fmt: skip


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=str)
def test_free_parameters_are_the_rank_of_the_derivatives(name, options, double) -> None:
    """∂ log p(x_n)/∂θ at many points has as many independent columns as the density has degrees of freedom."""
    dim = 5
    if "covariance" in options:
        options = {**options, "covariance": getattr(pyrovae.likelihoods, options["covariance"])}
    model, _ = pyrovae.load(name)(dim, **options)
    x = torch.randn(400, dim)
    if name == "bernoulli_mixture":
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * dim)
    names = [key for key, value in model.named_parameters() if value.requires_grad]
    values = {key: value.detach() + 0.3 * torch.randn_like(value) for key, value in model.named_parameters()}

    class LogProb(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.log_prob(x)

    def log_prob(trained):
        fixed = {f"model.{key}": value for key, value in {**values, **trained}.items()}
        return functional_call(LogProb(), fixed, (x,))

    with pyrovae.pair.execution.isolated_parameters(model):
        derivatives = jacrev(log_prob)({key: values[key] for key in names})
    matrix = torch.cat([derivatives[key].reshape(len(x), -1) for key in names], dim=1)
    matrix = matrix / matrix.norm(dim=0).clamp(min=1e-12)
    assert int(torch.linalg.matrix_rank(matrix, rtol=1e-9)) == num_free_parameters(model)


@pytest.mark.parametrize(("kind", "family"), COVARIANCES.items())
def test_the_bic_is_scikit_learns(kind: str, family: str, double) -> None:
    """The mixture that scikit-learn has, with the parameters of ours."""
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(90, 3)) * [1, 2, 3])
    model, _ = pyrovae.load("gmm")(3, components=4, covariance=getattr(pyrovae.likelihoods, family))
    model.initialise(x)
    theirs = GaussianMixture(4, covariance_type=kind, max_iter=1)
    with pytest.warns(Warning, match="did not converge"):
        theirs.fit(x)
    components = model.components.family()
    theirs.weights_ = model.logits.softmax(-1).detach().numpy()
    theirs.means_ = components.mean.detach().numpy()
    if kind in ("full", "tied"):
        factors = np.linalg.cholesky(np.linalg.inv(components.covariance_matrix.detach().numpy()))
        theirs.precisions_cholesky_ = factors if kind == "full" else factors[0]
    else:
        roots = components.variance.rsqrt().detach().numpy()
        theirs.precisions_cholesky_ = roots if kind == "diag" else roots[:, 0]
    ours = bic(model.log_prob(x).detach(), num_free_parameters(model))
    assert ours == pytest.approx(theirs.bic(x.numpy()), rel=1e-10)


def test_a_model_without_an_exact_density_has_no_count() -> None:
    model, _ = pyrovae.load("vae")(4, latent=2)
    assert num_free_parameters(model) is None
