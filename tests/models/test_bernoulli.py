"""The binary two: a mixture of Bernoullis against enumeration, Bernoulli PCA against quadrature."""

import itertools
import math

import pytest
import torch

import pyrovae
from pyrovae import evaluate, fit, load, log_weights
from pyrovae.distributions.bernoulli import Pixels

EVERY = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double()  # all 16 binary x


def test_mixture_is_exact_and_sums_to_one(seed):
    torch.manual_seed(seed)
    model, guide = load("bernoulli_mixture")(4, components=3)
    model.double()
    with torch.no_grad():
        model.logits.normal_()
    log_p = model.log_prob(EVERY)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-10)
    probability = model.components.family().mean  # (3, 4)
    by_hand = (
        model.logits.softmax(-1) * (probability ** EVERY[:, None] * (1 - probability) ** (1 - EVERY[:, None])).prod(-1)
    ).sum(-1)
    torch.testing.assert_close(log_p, by_hand.log(), rtol=0, atol=1e-10)
    torch.testing.assert_close(log_weights(model, guide, EVERY, 5), log_p.expand(5, 16), rtol=0, atol=1e-10)


def test_a_step_of_em_computes_what_all_points_share_once_for_many(monkeypatch):
    """Chunks of few points would compute log(1 + eˡ) of all logits for each of them."""
    model, _ = load("bernoulli_mixture")(784, components=100)
    model.initialised.fill_(True)
    chunks, log_prob = [], Pixels.log_prob
    monkeypatch.setattr(Pixels, "log_prob", lambda self, x: chunks.append(len(x)) or log_prob(self, x))
    model.em_step((torch.rand(1024, 784) < 0.2).float())
    assert chunks == [512, 512]


def test_mixture_finds_two_patterns():
    torch.manual_seed(0)
    patterns = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    x = torch.bernoulli((0.9 * patterns + 0.05).repeat(150, 1))
    model, guide = load("bernoulli_mixture")(4, components=2)
    fit(model, guide, x, epochs=150, batch_size=None, lr=2e-2)
    found = model.components.family().mean.detach()
    found = found[found[:, 0].argsort(descending=True)]
    torch.testing.assert_close(found, 0.9 * patterns + 0.05, atol=0.08, rtol=0)


def test_pca_evidence_sums_to_one_over_all_x_by_quadrature(seed):
    """log p̂ of all 16 x with a 1-D latent: each against the midpoint rule, and all of them to 1."""
    torch.manual_seed(0)
    model, guide = load("bernoulli_pca")(4, latent=1)
    fit(model, guide, EVERY[[0, 3, 3, 12, 12, 15]].float(), epochs=50, lr=0.02)
    model, guide = model.double(), guide.double()
    z = ((torch.arange(4000).double() + 0.5) / 4000 * 20 - 10)[:, None]
    with torch.no_grad():
        joint = torch.distributions.Normal(0.0, 1.0).log_prob(z) + model.decode(z[:, None]).log_prob(EVERY)
    exact = joint.logsumexp(0) + math.log(20 / 4000)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-8)
    found = evaluate(model, guide, EVERY, num_samples=20_000, seed=seed)
    assert ((found.log_likelihood - exact).abs() < 6 * found.log_likelihood_se).all()
    assert found.base_measure == "counting"
    assert found.bits_per_dim == pytest.approx(-found.log_likelihood.mean().item() / 4 / math.log(2))


@pytest.mark.parametrize("name", ["bernoulli_mixture", "bernoulli_pca"])
def test_grey_pixels_are_refused(name):
    with pytest.raises(pyrovae.InvalidInputError, match="outside the support of Bernoulli.*binarise"):
        fit(*load(name)(4), torch.full((20, 4), 0.5))
