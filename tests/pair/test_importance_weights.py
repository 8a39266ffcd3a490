"""log w = log p(x, z) − log q(z|x): against dense Gaussians and brute force, and everything it must refuse."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, NonFiniteError, log_weights
from pyrovae.pair.parameters import unconstrained_parameters
from pyrovae.pair.structure import inspect_pair as look


@pytest.fixture
def linear():
    """z ~ N(0, I₂), x|z ~ N(Az + b, s²I₄) with its exact guide, and log p(x) as a dense Gaussian."""
    A, b, s = torch.randn(4, 2).double(), torch.randn(4).double(), 0.7
    prior = dist.Normal(torch.zeros(2).double(), 1.0).to_event(1)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z @ A.mT + b, s).to_event(1), obs=x)

    def guide(x):
        precision = torch.eye(2).double() + A.mT @ A / s**2
        loc = (x - b) @ A / s**2 @ torch.linalg.inv(precision)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=precision))

    def log_prob(x):
        return dist.MultivariateNormal(b, A @ A.mT + s**2 * torch.eye(4).double()).log_prob(x)

    return model, guide, log_prob


X = torch.linspace(-2, 2, 24).double().reshape(6, 4)


def test_exact_guide_has_weights_without_variance(linear):
    model, guide, log_prob = linear
    log_w = log_weights(model, guide, X, 7)
    assert log_w.shape == (7, 6)
    torch.testing.assert_close(log_w, log_prob(X).expand(7, 6), rtol=0, atol=1e-10)


def test_weights_are_per_point_not_summed_over_the_batch(linear):
    model, guide, log_prob = linear
    one_by_one = torch.cat([log_weights(model, guide, x[None]) for x in X], dim=1)
    torch.testing.assert_close(one_by_one[0], log_prob(X), rtol=0, atol=1e-10)


def test_random_state_and_parameter_store_are_left_alone_by_inspection(linear):
    model, guide, _ = linear
    torch.manual_seed(3)
    first = log_weights(model, guide, X)
    torch.manual_seed(3)
    unconstrained_parameters(X, guide, model)
    torch.testing.assert_close(log_weights(model, guide, X), first, rtol=0, atol=0)
    assert len(pyro.get_param_store()) == 0


# Two discrete latents, a ∈ {0,1,2} and b ∈ {0,1}: p(a) p(b|a) N(x | m[a,b], 1), against the sum over all six.

P_A = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
P_B = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], dtype=torch.float64)
M = torch.tensor([[-3.0, 0.0], [1.0, 2.0], [4.0, -1.0]]).double()
Y = torch.tensor([[-2.5], [0.3], [1.7], [5.0]]).double()


def joint(y):
    """log p(a, b, y): (N, 3, 2)."""
    return (P_A[:, None] * P_B).log() + dist.Normal(M, 1.0).log_prob(y[:, :, None])


def discrete_model(a_infer, b_infer):
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Categorical(P_A), infer=a_infer)
            b = pyro.sample("b", dist.Categorical(P_B[a]), infer=b_infer)
            pyro.sample("x", dist.Normal(M[a, b].unsqueeze(-1), 1.0).to_event(1), obs=x)

    return model


ENUMERATE = {"enumerate": "parallel"}


def guide_both(x):
    table = joint(x)
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Categorical(logits=table.logsumexp(-1)), infer=ENUMERATE)
        given_a = table.expand(*a.shape, 3, 2).take_along_dim(a[..., None, None], dim=-2).squeeze(-2)
        pyro.sample("b", dist.Categorical(logits=given_a), infer=ENUMERATE)


def guide_a(x):
    with pyro.plate("data", len(x)):
        pyro.sample("a", dist.Categorical(logits=joint(x).logsumexp(-1)))


@pytest.mark.parametrize(
    ("model", "guide"),
    [
        (discrete_model({}, {}), guide_both),
        (discrete_model({}, ENUMERATE), guide_a),
        (discrete_model(ENUMERATE, ENUMERATE), lambda x: None),
    ],
    ids=["both drawn", "one drawn, one summed", "both summed"],
)
def test_two_discrete_latents_against_brute_force(model, guide):
    expected = joint(Y).logsumexp((-2, -1))
    torch.testing.assert_close(log_weights(model, guide, Y, 9), expected.expand(9, 4), rtol=0, atol=1e-10)


def test_summing_out_survives_probabilities_that_underflow():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=torch.tensor([0.0, -3000.0]).double()), infer=ENUMERATE)
            loc = torch.tensor([0.0, 90.0]).double()[z].unsqueeze(-1)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    x = torch.tensor([[90.0]]).double()
    expected = max(-0.5 * 90**2, -3000.0) - 0.5 * math.log(2 * math.pi)  # the other term is e^-1050 of it
    assert log_weights(model, lambda x: None, x).item() == pytest.approx(expected, abs=1e-10)


def test_inner_plates_masks_and_subsampling_against_the_plain_model():
    A = torch.ones(3).double()

    def plated(x):
        with pyro.plate("data", 100, subsample=torch.arange(len(x))):  # SVI would scale by 100 / N
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).double(), 1.0))
            with pyro.plate("pixels", 3, dim=-2), poutine.mask(mask=torch.tensor([[True], [True], [False]])):
                pyro.sample("x", dist.Normal(z * A[:, None], 1.0), obs=x.mT)

    def exact(x):
        seen = x[:, :2].sum(-1)
        with pyro.plate("data", 100, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Normal(seen / 3, (1 / 3) ** 0.5))

    expected = dist.MultivariateNormal(
        torch.zeros(2).double(), torch.eye(2).double() + torch.ones(2, 2).double()
    ).log_prob(X[:, :2])
    log_w = log_weights(plated, exact, X[:, :3], 5)
    torch.testing.assert_close(log_w, expected.expand(5, 6), rtol=0, atol=1e-10)


def test_auto_normal_on_a_full_batch_agrees_with_pyros_own_elbo(linear):
    model, _, _ = linear
    guide = AutoNormal(model)
    log_w = log_weights(model, guide, X, 20_000).sum(dim=1)
    stock = torch.tensor([-Trace_ELBO().loss(model, guide, X) for _ in range(500)])
    error = (log_w.var() / len(log_w) + stock.var() / len(stock)).sqrt()
    assert abs(log_w.mean() - stock.mean()) < 6 * error


def test_gradients_reach_model_and_guide():
    torch.manual_seed(0)
    model, guide = pyrovae.load("vae")(4, latent=2, hidden=(5,))
    log_weights(model, guide, torch.rand(3, 4), 2).mean().backward()
    assert all(p.grad is not None for p in [*model.parameters(), *guide.parameters()])


# What it must refuse.


def gaussian(x, name="z"):
    pyro.sample(name, dist.Normal(torch.zeros(2).to(x), 1.0).to_event(1))


def no_latent_guide(x):
    pass


def test_latent_missing_from_the_guide(linear):
    with pytest.raises(
        InvalidInputError, match="Latent 'z' is in the model but not in the guide.*drawn from its prior"
    ):
        log_weights(linear[0], no_latent_guide, X)


def test_latent_missing_from_the_model(linear):
    def extra(x):
        with pyro.plate("data", len(x)):
            gaussian(x)
            gaussian(x, "u")

    with pytest.raises(
        InvalidInputError, match="Latent 'u' is in the guide but not in the model: sample 'u' in the model"
    ):
        log_weights(linear[0], extra, X)


def test_global_latent():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(4).to(x), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.sample("mu", dist.Normal(torch.zeros(4).to(x), 1.0).to_event(1))

    with pytest.raises(InvalidInputError, match="'mu' of the guide is outside plate\\(\"data\"\\).*do not factorise"):
        log_weights(model, guide, X)


def test_autoguide_that_ties_the_points_together(linear):
    with pytest.raises(InvalidInputError, match="ties all points together.*AutoNormal"):
        log_weights(linear[0], AutoDiagonalNormal(linear[0]), X)


def test_point_mass_guide(linear):
    with pytest.raises(InvalidInputError, match="'z' has a point mass for a guide"):
        log_weights(linear[0], AutoDelta(linear[0]), X)


@pytest.mark.parametrize("half", ["model", "guide"])
def test_scale(linear, half):
    model, guide, _ = linear
    scaled = poutine.scale(model if half == "model" else guide, scale=0.1)
    pair = (scaled, guide) if half == "model" else (model, scaled)
    with pytest.raises(InvalidInputError, match=f"of the {half} is scaled.*keep scales in the training objective"):
        log_weights(*pair, X)


def test_grey_pixels_under_a_bernoulli():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1), obs=x)

    x = torch.tensor([[0.0, 1.0], [1.0, 0.25]])
    with pytest.raises(
        InvalidInputError, match=r"Point 1 has the value 0.25 at site 'x', outside the support of Bernoulli.*binarise"
    ):
        log_weights(model, no_latent_guide, x)


def test_guide_outside_the_prior_support():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.LogNormal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(-5 * torch.ones(len(x), 1), 0.1).to_event(1))

    with pytest.raises(InvalidInputError, match="guide draws latent 'z' outside the support of the model's LogNormal"):
        log_weights(model, guide, torch.zeros(3, 1))


def test_nan_in_the_data(linear):
    x = X.clone()
    x[4, 2] = math.nan
    with pytest.raises(InvalidInputError, match=r"x\[4, 2\] is nan.*1 of 6 points have any"):
        log_weights(*linear[:2], x)


def test_density_that_is_no_number_names_site_and_point(linear):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).to(x), 1.0).to_event(1))
            scale = torch.where(x > 1.9, math.nan, 1.0)
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), scale, validate_args=False).to_event(1), obs=x)

    with pytest.raises(NonFiniteError, match="nan at site 'x', data point 5"):
        log_weights(model, linear[1], X)


def test_plate_of_another_size(linear):
    def model(x):
        with pyro.plate("data", 50):
            pyro.sample("x", dist.Normal(torch.zeros(50, 4), 1.0).to_event(1), obs=torch.zeros(50, 4))

    with pytest.raises(
        InvalidInputError, match='plate\\("data"\\) has 50 points at site .x. of the model where x has 6'
    ):
        log_weights(model, no_latent_guide, X)


def test_forgotten_event_dimension():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(6, 4), 1.0), obs=x)

    with pytest.raises(InvalidInputError, match="to_event"):
        log_weights(model, no_latent_guide, X.float())


def test_forgotten_event_dimension_where_the_shapes_happen_to_fit():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(4, 4), 1.0), obs=x)

    with pytest.raises(InvalidInputError, match="more dimensions than there are plates.*to_event"):
        log_weights(model, no_latent_guide, torch.zeros(4, 4))


def test_network_that_knows_only_flat_batches():
    net = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 1, 1), nn.Flatten())  # unflattens dimension 1 of 2

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))

    with pytest.raises(InvalidInputError, match="The model cannot be run.*over_batch"):
        log_weights(model, guide, torch.zeros(5, 2), 3)


@pytest.mark.parametrize("x", [torch.zeros(4), torch.zeros(0, 3), [[1.0]]])
def test_x_of_the_wrong_shape(linear, x):
    with pytest.raises(InvalidInputError, match="a row for each data point"):
        log_weights(*linear[:2], x)


def test_x_of_whole_numbers(linear):
    with pytest.raises(InvalidInputError, match="x is torch.int64: convert it"):
        log_weights(*linear[:2], torch.ones(3, 4, dtype=torch.int64))


def test_model_that_observes_nothing():
    def model(x):
        with pyro.plate("data", len(x)):
            gaussian(x)

    def guide(x):
        with pyro.plate("data", len(x)):
            gaussian(x)

    with pytest.raises(InvalidInputError, match="observes nothing"):
        log_weights(model, guide, X)


# Enumerated latents where one dimension is not one variable: inside plates, and along chains.


def test_enumerated_latents_of_an_inner_plate_against_brute_force():
    """log Σ_a p(a) Π_d Σ_b p(b|a) p(x_d|b): the inner sum stands inside the product over d."""
    table = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=torch.float64)
    prior, loc = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            a = pyro.sample("a", dist.Categorical(prior), infer=ENUMERATE)
            with pyro.plate("pixels", 4, dim=-1):
                b = pyro.sample("b", dist.Categorical(table[a]), infer=ENUMERATE)
                pyro.sample("x", dist.Normal(loc[b], 1.0), obs=x)

    inner = (table.log()[:, None, :] + dist.Normal(loc, 1.0).log_prob(X[:, None, :, None])).logsumexp(-1)  # (N, a, d)
    expected = (prior.log() + inner.sum(-1)).logsumexp(-1)
    torch.testing.assert_close(log_weights(model, lambda x: None, X, 3), expected.expand(3, 6), rtol=0, atol=1e-10)


def test_enumerated_latent_outside_an_inner_plate_against_brute_force():
    prior, loc = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([-1.0, 2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            a = pyro.sample("a", dist.Categorical(prior), infer=ENUMERATE)
            with pyro.plate("pixels", 4, dim=-1):
                pyro.sample("x", dist.Normal(loc[a], 1.0), obs=x)

    expected = (prior.log() + dist.Normal(loc, 1.0).log_prob(X[:, :, None]).sum(1)).logsumexp(-1)
    torch.testing.assert_close(log_weights(model, lambda x: None, X, 3), expected.expand(3, 6), rtol=0, atol=1e-10)


def test_enumerated_markov_chain_against_every_path():
    start = torch.tensor([0.3, 0.7], dtype=torch.float64)
    move = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    loc = torch.tensor([-1.0, 2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            z = None
            for t in pyro.markov(range(4)):
                z = pyro.sample(f"z{t}", dist.Categorical(start if z is None else move[z]), infer=ENUMERATE)
                pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[:, t])

    paths = list(itertools.product(range(2), repeat=4))
    prior = torch.stack([start[p[0]].log() + sum(move[a, b].log() for a, b in itertools.pairwise(p)) for p in paths])
    emitted = torch.stack([dist.Normal(loc[list(p)], 1.0).log_prob(X).sum(-1) for p in paths], dim=-1)
    expected = (prior + emitted).logsumexp(-1)
    torch.testing.assert_close(log_weights(model, lambda x: None, X, 2), expected.expand(2, 6), rtol=0, atol=1e-10)


def test_enumerated_beside_a_continuous_latent_with_its_exact_posterior():
    """z drawn, k summed out: p(k) N(z; 0, 1) N(x; z + m_k, 1), whose posterior of z is a mixture of two Gaussians."""
    prior, shift = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([-2.0, 2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).double(), 1.0))
            k = pyro.sample("k", dist.Categorical(prior), infer=ENUMERATE)
            pyro.sample("x", dist.Normal(z + shift[k], 1.0), obs=x[:, 0])

    def joint(x):
        return prior.log() + dist.Normal(shift, 2**0.5).log_prob(x[:, :1])

    def guide(x):
        components = dist.Normal((x[:, :1] - shift) / 2, 0.5**0.5)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=joint(x)), components))

    torch.testing.assert_close(log_weights(model, guide, X, 4), joint(X).logsumexp(-1).expand(4, 6), rtol=0, atol=1e-10)


def test_enumerated_latents_of_crossing_plates_are_refused():
    def model(x):
        with pyro.plate("data", len(x), dim=-3):
            rows, columns = pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 2, dim=-1)
            with rows:
                a = pyro.sample("a", dist.Bernoulli(torch.tensor(0.3)), infer=ENUMERATE)
            with columns:
                b = pyro.sample("b", dist.Bernoulli(torch.tensor(0.3)), infer=ENUMERATE)
            with rows, columns:
                pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    with pytest.raises(InvalidInputError, match="plates that cross meet in one density"):
        log_weights(model, lambda x: None, torch.randn(3, 2, 2))


def test_helpers_whose_density_is_not_summed_out_are_refused(linear):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(0.0, 5.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))

    with pytest.raises(InvalidInputError, match="draws 'z' with the help of auxiliary site 'a'.*there are no weights"):
        log_weights(linear[0], guide, X)


def test_points_are_never_scored_against_one_another():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).to(x), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)  # x is (N, 1): N points against N

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0] / 2, 1.0))

    with pytest.raises(InvalidInputError, match=r"points would be scored against one another.*to_event"):
        log_weights(model, guide, X[:, :1], 6)


def test_deterministic_sites_have_no_density_and_no_measure():
    def model(x):
        probability = pyro.deterministic("everywhere", torch.tensor(0.25))
        with pyro.plate("data", len(x)):
            pyro.deterministic("probability", probability.expand(len(x)))
            pyro.sample("x", dist.Bernoulli(probability.expand(3)).to_event(1), obs=x)

    x = torch.tensor([[0.0, 1.0, 1.0]])
    assert look(model, lambda x: None, x).base_measure == "counting"
    assert log_weights(model, lambda x: None, x).item() == pytest.approx(math.log(0.75 * 0.25 * 0.25))


def test_masked_markov_chains_of_their_own_lengths_against_the_forward_algorithm():
    start = torch.tensor([0.3, 0.7], dtype=torch.float64)
    move = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    loc = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    lengths = torch.tensor([4, 3, 1, 2, 4, 1])

    def model(x):
        with pyro.plate("data", len(x)):
            z = None
            for t in pyro.markov(range(4)):
                with poutine.mask(mask=t < lengths):
                    z = pyro.sample(f"z{t}", dist.Categorical(start if z is None else move[z]), infer=ENUMERATE)
                    pyro.sample(f"x{t}", dist.Normal(loc[z], 1.0), obs=x[:, t])

    expected = []
    for x, length in zip(X, lengths, strict=True):
        alpha = start.log() + dist.Normal(loc, 1.0).log_prob(x[0])
        for t in range(1, length):
            alpha = (alpha[:, None] + move.log()).logsumexp(0) + dist.Normal(loc, 1.0).log_prob(x[t])
        expected.append(alpha.logsumexp(0))
    torch.testing.assert_close(
        log_weights(model, lambda x: None, X, 2), torch.stack(expected).expand(2, 6), rtol=0, atol=1e-10
    )


def test_a_drawn_latent_whose_prior_depends_on_an_enumerated_one(seed):
    """A mixture inside a latent space: k summed out, z drawn from its exact posterior, a mixture of Gaussians."""
    prior, centre = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([-2.0, 2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(prior), infer=ENUMERATE)
            z = pyro.sample("z", dist.Normal(centre[k], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def joint(x):
        return prior.log() + dist.Normal(centre, 2**0.5).log_prob(x[:, :1])

    def guide(x):
        components = dist.Normal((x[:, :1] + centre) / 2, 0.5**0.5)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=joint(x)), components))

    for num_samples in (1, 5):
        torch.testing.assert_close(
            log_weights(model, guide, X, num_samples), joint(X).logsumexp(-1).expand(num_samples, 6), rtol=0, atol=1e-10
        )


def test_an_enumerated_latent_beside_a_drawn_one_of_an_inner_plate():
    prior, loc = torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([-1.0, 2.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(prior), infer=ENUMERATE)
            pyro.sample("one", dist.Categorical(torch.ones(1).double()), infer=ENUMERATE)  # a variable of one value
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x[:, 0])
            with pyro.plate("parts", 3, dim=-2):
                pyro.sample("u", dist.Normal(torch.zeros(()).double(), 1.0))

    def guide(x):
        with pyro.plate("data", len(x)), pyro.plate("parts", 3, dim=-2):
            pyro.sample("u", dist.Normal(torch.zeros(()).double(), 1.0))

    expected = (prior.log() + dist.Normal(loc, 1.0).log_prob(X[:, :1])).logsumexp(-1)
    torch.testing.assert_close(log_weights(model, guide, X, 4), expected.expand(4, 6), rtol=0, atol=1e-10)


def test_sizes_that_svi_would_scale_differently_are_refused(linear):
    def model(x):
        with pyro.plate("data", 1000, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True).expand(len(x), 4), 1.0).to_event(1), obs=x)

    with pytest.raises(InvalidInputError, match="6 and 1000 points in all at different sites"):
        log_weights(model, linear[1], X)


def test_a_value_that_has_left_its_plate_is_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            with pyro.plate("parts", 3, dim=-2):
                u = pyro.sample("u", dist.Normal(torch.zeros(()).double(), 1.0))
            pyro.sample("x", dist.Normal(u, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)), pyro.plate("parts", 3, dim=-2):
            pyro.sample("u", dist.Normal(torch.zeros(()).double(), 1.0))

    with pytest.raises(InvalidInputError, match="'x' has 3 values at plate dimension -2.*has left its plate"):
        log_weights(model, guide, X)
