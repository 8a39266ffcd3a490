"""Path gradients against a second way of having them: frozen copies of the pair, evaluated at draws that still move."""

import copy
import math

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn

import pyrovae
from pyrovae.objectives import IWAE, STL, Beta, DReG, FreeBits, Renyi, WakeSleep, differentiable_loss, warm_up
from pyrovae.objectives.log_densities import draw
from pyrovae.pair.execution import local_parameters, modules
from pyrovae.pair.importance_weights import guide_density, model_density, run_guide, run_model
from pyrovae.pair.parameters import unconstrained_parameters
from pyrovae.pair.structure import inspect_pair
from pyrovae.training.flat_parameters import flatten_parameters, joined
from pyrovae.training.recorded_loss import gradient_of, record_step

DIM, K = 4, 3
PAIRS = [
    ("vae", {"guide": pyrovae.guides.MeanField}),
    ("vae", {"guide": pyrovae.guides.FullCovariance}),
    ("vae", {"guide": pyrovae.guides.Mixture}),
    ("vae", {"guide": pyrovae.guides.IAF}),
    ("vae", {"guide": pyrovae.guides.AffineCoupling}),
    ("vae", {"guide": pyrovae.guides.NeuralSpline}),
    ("vae", {"prior": pyrovae.priors.VampPrior}),  # it is made of the guide's network
    ("gmvae", {"components": 3}),
    ("hierarchical_vae", {"latents": (3, 2)}),
    ("hierarchical_vae", {"latents": (3, 2), "guide": pyrovae.load("hierarchical_vae").module.Ladder}),
]


def name_of(value):
    return (
        "-".join(getattr(v, "__name__", type(v).__name__) for v in value.values()) if isinstance(value, dict) else None
    )


def build(name, options):
    told = {"hidden": (5,), **({} if name == "hierarchical_vae" else {"latent": 2}), **options}
    model, guide = pyrovae.load(name)(DIM, **told)
    return model.double(), guide.double()


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=name_of)
@pytest.mark.parametrize("kind", [STL, DReG])
def test_the_gradient_is_the_one_written_with_frozen_copies(kind, name, options, seed):
    """Σ w̃ log p(x, z̄; ψ) + Σ c [log p(x, z(ψ); ψ̄) − log q(z(ψ); ψ̄)], bars what does not move; for every parameter ψ."""
    model, guide = build(name, options)
    x = torch.rand(5, DIM).double()
    structure = inspect_pair(model, guide, x)
    max_plate_nesting = structure.max_plate_nesting
    with local_parameters(model, guide), pyro.validation_enabled(False):
        leaves = unconstrained_parameters(x, guide, model)
        torch.manual_seed(seed)
        loss = kind(K).batch(model, guide, x, structure).loss
        found = torch.autograd.grad(loss, leaves, materialize_grads=True, allow_unused=True)

        torch.manual_seed(seed)
        q = run_guide(guide, x, K, max_plate_nesting)
        frozen_model, frozen_guide = copy.deepcopy((model, guide))
        for part in (frozen_model, frozen_guide):
            part.requires_grad_(False)
        with local_parameters(frozen_model, frozen_guide):
            at = run_guide(poutine.replay(frozen_guide, trace=q), x, K, max_plate_nesting)
            along = model_density(
                run_model(frozen_model, x, q, K, max_plate_nesting), 5, K, max_plate_nesting, check=False
            )
            along = along - guide_density(at, x, K, max_plate_nesting, check=False)
        share = along.detach().softmax(0)
        still = q.copy()
        for site in still.nodes.values():
            if site["type"] == "sample" and isinstance(site["value"], torch.Tensor):
                site["value"] = site["value"].detach()
        log_p = model_density(run_model(model, x, still, K, max_plate_nesting), 5, K, max_plate_nesting, check=False)
        c = share if kind is STL else share.square()
        expected = torch.autograd.grad((share * log_p).sum() + (c * along).sum(), leaves, materialize_grads=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, -other, rtol=1e-6, atol=1e-8)
    assert loss.item() == pytest.approx(-(along.logsumexp(0) - math.log(K)).sum().item(), rel=1e-9)


OBJECTIVES = [IWAE(K), STL(K), DReG(K), Renyi(0.5, K), Beta(2.0), FreeBits(0.3), WakeSleep(K, 0.5)]


@pytest.mark.parametrize(
    ("objective", "name", "options"),
    [
        *((objective, *PAIRS[8]) for objective in OBJECTIVES),
        *((objective, *pair) for objective in (IWAE(K), DReG(K)) for pair in (PAIRS[4], PAIRS[7])),
    ],
    ids=lambda value: value if isinstance(value, str) else name_of(value) or repr(value),
)
def test_the_recorded_loss_is_the_eager_one(objective, name, options):
    """Terms and gradient for the same noise, on another batch, after parameters have moved and with another weight on the KL."""
    model, guide = build(name, options)
    x, other = torch.rand(6, DIM).double(), torch.rand(6, DIM).double()
    structure = inspect_pair(model, guide, x)
    beta = torch.ones(()).double()
    with (
        local_parameters(model, guide),
        pyro.validation_enabled(False),
        flatten_parameters(unconstrained_parameters(x, guide, model)) as flat,
    ):
        terms = differentiable_loss(objective, model, guide, x, structure)
        assert not isinstance(terms, str), terms

        def loss(x, beta):
            with warm_up(beta):
                return terms(model, guide, x)

        graph, held = record_step(loss, flat, x, beta, modules(model, guide))
        flat.set(flat.vector * 1.1)
        torch.manual_seed(3)
        with torch.no_grad():
            parts, gradient = graph(*flat.views(flat.vector.data), other, beta * 0.5, *held)
        torch.manual_seed(3)
        expected, expected_gradient = gradient_of(loss, flat)(other, beta * 0.5)
    for one, two in zip(parts, expected.parts, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9, equal_nan=True)
    torch.testing.assert_close(joined(gradient), joined(expected_gradient), rtol=1e-6, atol=1e-9)


def test_a_guide_whose_density_is_slow_to_ask_for_trains_eagerly_and_says_why():
    model, guide = build(
        "vae", {"guide": pyrovae.guides.IAF}
    )  # Pyro's inverse of an autoregressive flow reads places on the host
    result = pyrovae.fit(model, guide, torch.rand(6, DIM).double(), epochs=1, objective=DReG(K), compile=True)
    assert result.execution.startswith("eager steps: it reads a tensor's value on the host")


@pytest.mark.parametrize("name", ["vae", "gmvae"])
def test_a_warm_ups_weight_is_on_the_kl_of_each_draw(name, seed):
    """log p(x|z) + β [log p(z) − log q(z|x)], classes summed out in log p(z) alone."""
    model, guide = build(name, {})
    x = torch.rand(5, DIM).double()
    structure = inspect_pair(model, guide, x)
    plain = None
    for beta in (1.0, 0.3):
        torch.manual_seed(seed)
        with warm_up(torch.tensor(beta, dtype=torch.float64)):
            found = draw(model, guide, x, K, structure.max_plate_nesting)
        plain = found if plain is None else plain
        weighted = plain.log_likelihood + beta * (plain.log_prior - plain.log_q)
        torch.testing.assert_close(found.log_w, weighted, rtol=1e-9, atol=1e-9)
    torch.manual_seed(seed)
    torch.testing.assert_close(plain.log_w, pyrovae.log_weights(model, guide, x, K), rtol=1e-9, atol=1e-9)


def test_dropout_and_batch_statistics_are_those_of_the_draw(seed):
    """A guide whose network is other at every run is run once: with one mask, the density is that of the draw."""

    class Dropping(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(DIM, 20), nn.Dropout(0.5), nn.Linear(20, 2))

        def forward(self, x):
            loc = self.net(x)
            with pyro.plate("data", len(x)):
                pyro.sample("z", pyro.distributions.Normal(loc, 1e-3).to_event(1))

    model, guide = build("vae", {})[0], Dropping().double()
    x = torch.rand(5, DIM).double()
    log_q = draw(model, guide, x, 200, 1).log_q  # a mean of −½ · 2 − 2 log σ − log 2π; another mask is ≥ 10³ nats below
    expected = -1.0 - 2 * math.log(1e-3) - math.log(2 * math.pi)
    assert log_q.mean().item() == pytest.approx(expected, abs=5 / 1000**0.5)
    assert guide.training
