"""log p(x) to a tolerance, against closed forms and quadrature: the value, the error bar, and what is said of both."""

import dataclasses
import itertools
import math
import types

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, fit, load
from pyrovae.estimators import mode_sampling_log_likelihood
from pyrovae.pair.execution import modules


def standard(*shape):
    """A guide that draws z ~ N(0, I) of this shape, whatever x is."""

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(shape).double(), 1.0).to_event(len(shape)))

    return guide


def by_quadrature(log_joint, width=12.0, steps=40_001):
    """log ∫ exp(log_joint(z)) dz by the trapezoid rule; log_joint (steps,) → (N, steps)."""
    z = torch.linspace(-width, width, steps, dtype=torch.float64)
    return log_joint(z).logsumexp(-1) + math.log(float(z[1] - z[0]))


@pytest.mark.parametrize(
    ("name", "latent"), [("ppca", 2), pytest.param("ppca", 20, marks=pytest.mark.slow), ("factor_analysis", 6)]
)
def test_the_exact_value_within_its_error(name, latent, seed):
    """Also the tolerance is reached, and the interval of ±1.96 SE covers at its rate: 10 seeds, 60 points."""
    torch.manual_seed(seed)
    model, guide = load(name)(30, latent=latent)  # the guide is the model's own posterior, or a network
    x = torch.randn(60, 30).double()
    for module in modules(model, guide):
        module.double()
    exact = model.log_prob(x).detach()
    scores = []
    for each in range(10):
        result = mode_sampling_log_likelihood(model, guide, x, tolerance=0.05, seed=100 * seed + each)
        assert result.reached.double().mean() > 0.97
        assert result.reliable.all()
        scores.append((result.log_likelihood - exact) / result.log_likelihood_se)
    covered = (torch.stack(scores).abs() < 1.96).double().mean()
    assert 0.92 < covered <= 1.0
    assert torch.stack(scores).mean().abs() < 0.3


def test_two_modes_of_which_the_guide_knows_one(seed):
    """z ~ N(0, 1), x ~ N(z², 0.3²). The guide stays at the right-hand mode; its own weights are log 2 short."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.square(), 0.3).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.sqrt(), 0.13).to_event(1))

    x = torch.linspace(1.5, 3, 32).double()[:, None]
    exact = by_quadrature(lambda z: dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.3).log_prob(x))
    result = mode_sampling_log_likelihood(model, guide, x, tolerance=0.02, seed=seed)
    assert (result.num_modes == 2).all()
    assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se).all()
    assert result.reliable.all()


@pytest.mark.parametrize(
    ("prior", "to_reals"),
    [
        (dist.LogNormal(0.0, 0.5), lambda z: z),
        (dist.Gamma(2.0, 1.0), lambda z: z),
        (dist.Laplace(0.0, 1.0), None),
        (dist.StudentT(3.0), None),
    ],
    ids=["log-normal", "gamma", "Laplace", "Student"],
)
def test_other_priors(prior, to_reals, seed):
    """x ~ N(z, 0.5²) under priors on half the line, with a kink and with heavy tails."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", type(prior)(*[getattr(prior, name) for name in prior.arg_constraints]))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", type(prior)(*[getattr(prior, name) for name in prior.arg_constraints]))

    x = torch.linspace(0.2, 4, 24).double()[:, None]
    positive = to_reals is not None

    def log_joint(z):
        value = z.clamp(min=1e-12) if positive else z
        log_p = prior.log_prob(value) + dist.Normal(value, 0.5).log_prob(x)
        return torch.where(z > 1e-12, log_p, -torch.inf) if positive else log_p

    exact = by_quadrature(log_joint, width=30.0, steps=600_001)
    result = mode_sampling_log_likelihood(model, guide, x, tolerance=0.02, seed=seed)
    assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se + 1e-4).all()
    assert result.reliable.double().mean() > 0.9


def test_a_class_that_is_summed_out_beside_a_latent(seed):
    """k ~ Bernoulli(0.3), z ~ N(0, 1), x ~ N(a_k z + b_k, 0.5²): a mixture of two normals, and of two modes in z."""
    slopes, offsets = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.0, 1.0]).double()

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.3).double()), infer={"enumerate": "parallel"}).long()
            z = pyro.sample("z", dist.Normal(torch.tensor(0.0).double(), 1.0))
            pyro.sample("x", dist.Normal(slopes[k] * z + offsets[k], 0.5), obs=x[:, 0])

    x = torch.linspace(-3, 3, 32).double()[:, None]
    weights = torch.tensor([0.7, 0.3]).double().log()
    exact = (dist.Normal(offsets, (slopes.square() + 0.25).sqrt()).log_prob(x) + weights).logsumexp(1)
    result = mode_sampling_log_likelihood(model, standard(), x, tolerance=0.02, seed=seed)
    assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se + 1e-6).all()
    assert result.reliable.all()


def test_the_mean_of_the_estimates_of_p_is_p(seed):
    """E p̂ = p, though the number of draws is chosen: 400 points of one model, 4 standard errors."""
    torch.manual_seed(seed)
    model, guide = load("ppca")(5, latent=2)
    model, x = model.double(), torch.randn(400, 5).double()
    result = mode_sampling_log_likelihood(model, guide, x, tolerance=0.2, seed=seed)
    ratio = (result.log_likelihood - model.log_prob(x).detach()).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 20


def test_an_untrained_guide_costs_no_accuracy(seed):
    """A VAE of 2 latents with the guide of another: the same number within errors, and that of quadrature."""
    torch.manual_seed(0)
    x = torch.sigmoid(2 * torch.randn(200, 2) @ torch.randn(2, 5)).round()
    model, guide = load("vae")(5, latent=2, hidden=(16,), likelihood=pyrovae.likelihoods.Bernoulli())
    fit(model, guide, x, epochs=30, batch_size=50, lr=5e-3)
    _, other = load("vae")(5, latent=2, hidden=(16,), likelihood=pyrovae.likelihoods.Bernoulli())
    model, x = model.double(), x[:8].double()
    axis = (torch.arange(601).double() + 0.5) / 601 * 18 - 9
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        prior, decoded = dist.Normal(0.0, 1.0).log_prob(z).sum(-1), model.decode(z)
        exact = torch.stack([(prior + decoded.log_prob(point)).logsumexp(0) for point in x]) + 2 * math.log(18 / 601)
    for q in (guide.double(), other.double()):
        result = mode_sampling_log_likelihood(model, q, x, tolerance=0.02, seed=seed)
        assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se + 1e-5).all()


def test_rectified_linear_decoders_have_kinks(seed):
    """z ~ N(0, 1), x ~ N(relu(z), 0.2²), against quadrature."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(nn.functional.relu(z), 0.2).to_event(1), obs=x)

    x = torch.linspace(-0.3, 2, 24).double()[:, None]
    exact = by_quadrature(lambda z: dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.relu(), 0.2).log_prob(x))
    result = mode_sampling_log_likelihood(model, standard(1), x, tolerance=0.02, seed=seed)
    assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se + 1e-3).all()


def test_many_modes_are_not_called_reliable(seed):
    """x = z² in each of 12 dimensions: 2¹² modes, of which few starts find the same."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(12).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.square(), 0.1).to_event(1), obs=x)

    result = mode_sampling_log_likelihood(model, standard(12), torch.ones(4, 12).double(), seed=seed)
    assert not result.reliable.any()


def test_the_same_seed_has_the_same_numbers_and_torchs_state_is_left():
    model, guide = load("ppca")(5, latent=2)
    x = torch.randn(10, 5)
    state = torch.get_rng_state()
    one, other = (mode_sampling_log_likelihood(model, guide, x, seed=3) for _ in range(2))
    assert torch.equal(one.log_likelihood, other.log_likelihood)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one.log_likelihood, mode_sampling_log_likelihood(model, guide, x, seed=4).log_likelihood)


@pytest.mark.parametrize("tolerance", [0, -0.1, math.nan, math.inf, "small", None])
def test_a_tolerance_is_a_positive_number(tolerance):
    model, guide = load("ppca")(5, latent=2)
    with pytest.raises(InvalidInputError, match="tolerance is"):
        mode_sampling_log_likelihood(model, guide, torch.randn(10, 5), tolerance=tolerance)


def test_a_class_that_the_guide_draws_is_refused():
    model, guide = load("gmm")(5, components=3)
    with pytest.raises(InvalidInputError, match="is discrete"):
        mode_sampling_log_likelihood(model, guide, torch.randn(10, 5))


def test_an_angle_is_refused_and_evaluated_by_the_guides_draws(seed):
    """Along R the density of an angle repeats itself: the mass of all its periods was 1.5 nats too much, and called reliable."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.VonMises(x.new_zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z.cos(), 0.5), obs=x[:, 0])

    def prior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.VonMises(x.new_zeros(len(x)), 1.0))

    x = torch.tensor([[1.0], [0.0], [-1.0]]).double()
    with pytest.raises(InvalidInputError, match="'z' is an angle"):
        mode_sampling_log_likelihood(model, prior, x)
    angle = torch.linspace(-math.pi, math.pi, 20_001).double()
    log_p = dist.VonMises(0.0, 1.0).log_prob(angle) + dist.Normal(angle.cos(), 0.5).log_prob(x)
    exact = log_p.logsumexp(1) + math.log(2 * math.pi / 20_000)
    evidence = pyrovae.evaluate(model, prior, x, seed=seed)
    assert ((evidence.log_likelihood - exact).abs() < 5 * evidence.log_likelihood_se).all()


def test_points_out_of_reach_have_an_error_above_the_tolerance():
    model, guide = load("ppca")(5, latent=2)
    result = mode_sampling_log_likelihood(model, guide, torch.randn(10, 5), tolerance=1e-4, max_draws=300)
    assert not result.reached.any()
    assert (result.num_draws == 300).all()


@pytest.mark.slow
def test_draws_are_added_and_the_estimate_stays_right(seed):
    """t weights with a heavy tail: the pilot often asks for too few draws. Afterwards the tolerance holds, and p̂ is not biased.

    x says nothing of z, so log p(x) is that of x alone. log p̂ is low by half its variance, about .001.
    """

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.StudentT(3.0, torch.zeros(4).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1), obs=x)

    x = torch.zeros(500, 1).double()
    result = mode_sampling_log_likelihood(model, standard(4), x, tolerance=0.04, seed=seed)
    error = result.log_likelihood - dist.Normal(0.0, 1.0).log_prob(torch.zeros(())).item()
    assert result.reached.all()
    assert abs(float(error.mean())) < 0.001 + 3 * float(error.std()) / 500**0.5
    assert 0.92 < (error.abs() < 1.96 * result.log_likelihood_se).double().mean() < 0.98


def skewed(x):
    """z ~ N(0, I), x_i ~ N(exp(z_i), 0.3): the posterior of each z_i is skewed, and known."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(4).double(), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.exp(), 0.3).to_event(1), obs=x)


def test_where_draws_would_be_wasted_chains_are_annealed(seed, monkeypatch):
    """At every point here, by a lower limit. Against quadrature."""
    monkeypatch.setattr("pyrovae.estimators.mode_sampling.MAX_VARIANCE", 0.0)
    torch.manual_seed(seed)
    x = torch.randn(12, 4).double().exp() + 0.3 * torch.randn(12, 4)
    exact = by_quadrature(
        lambda z: dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.exp(), 0.3).log_prob(x.unsqueeze(-1)), steps=10_001
    ).sum(-1)
    result = mode_sampling_log_likelihood(skewed, standard(4), x, seed=seed)
    assert result.annealed.all()
    assert result.reached.all()
    error = result.log_likelihood - exact
    assert (error.abs() < 4 * result.log_likelihood_se + 0.05).all()
    assert abs(float(error.mean())) < 0.05
    assert "(0 laplace, 12 ais)" in result.reliability_message


def test_time_may_run_out():
    """Points without a draw have no number. The message says how many there are."""
    model, guide = load("ppca")(5, latent=2)
    result = mode_sampling_log_likelihood(model, guide, torch.randn(10, 5), max_seconds=1e-9)
    assert result.without_draws.all()
    assert result.log_likelihood.isnan().all()
    assert not result.reliable.any()
    assert "there was no time for 10 points." in result.reliability_message
    assert "no start comes to rest" not in result.reliability_message
    with pytest.raises(InvalidInputError, match="max_seconds is 0"):
        mode_sampling_log_likelihood(model, guide, torch.randn(10, 5), max_seconds=0)


@pytest.mark.parametrize("annealed", [False, True])
def test_time_may_run_out_anywhere(annealed, monkeypatch):
    """In the search, the fit, among draws or chains: a point has no number or one that is right, and the bar ends full."""
    monkeypatch.setattr("pyrovae.estimators.mode_sampling.MAX_VARIANCE", 0.0 if annealed else math.inf)
    monkeypatch.setattr("pyrovae.posterior.batching.MAX_BLOCK_ROWS", 64)
    torch.manual_seed(0)
    x = torch.randn(6, 4).double().exp() + 0.3 * torch.randn(6, 4)
    whole = mode_sampling_log_likelihood(skewed, standard(4), x)
    finished, needed = [], []
    for checks in (1, 10, 40, 80, 110, 120, 130, 140, 100_000):
        clock = itertools.count()
        monkeypatch.setattr("pyrovae.utils.deadline.time", types.SimpleNamespace(monotonic=clock.__next__))
        bar: list[float] = []
        result = mode_sampling_log_likelihood(skewed, standard(4), x, max_seconds=checks, on_progress=bar.append)
        assert next(clock) <= checks + 10  # after the deadline each kind of work is asked once
        assert sum(bar) == pytest.approx(6)
        assert torch.equal(result.log_likelihood.isnan(), result.without_draws)
        error = (result.log_likelihood - whole.log_likelihood)[~result.without_draws]
        assert (error.abs() < 5 * result.log_likelihood_se[~result.without_draws] + 0.05).all()
        finished.append(int((~result.without_draws).sum()))
        needed.append(result.metadata.get("seconds_needed"))
    assert finished[0] == 0
    assert finished[-1] == 6
    assert finished == sorted(finished)
    assert needed[0] is None  # nothing was done from which it could be told
    assert needed[-1] == pytest.approx(result.seconds, rel=0.1)
    assert any(0 < count < 6 for count in finished) or annealed


def test_where_memory_runs_out_the_bar_goes_back(monkeypatch):
    """Points are halved, and their progress counts once."""
    search = pyrovae.posterior.mode_search.search_modes

    def short_of_memory(joint, thorough):
        if len(joint.x) > 6:
            raise torch.OutOfMemoryError("no room")
        return search(joint, thorough)

    monkeypatch.setattr("pyrovae.posterior.mode_search.search_modes", short_of_memory)
    model, guide = load("ppca")(5, latent=2)
    bar: list[float] = []
    result = mode_sampling_log_likelihood(model, guide, torch.randn(20, 5), on_progress=bar.append)
    assert result.reached.all()
    assert sum(bar) == pytest.approx(20)


def test_what_is_said_of_the_points(seed):
    """Each reason for doubt is named with the number of its points."""
    model, guide = load("ppca")(5, latent=2)
    result = mode_sampling_log_likelihood(model, guide, torch.randn(10, 5), seed=seed)
    assert result.reliability_message.endswith("Reliable at every point, given the modes found.")
    bad = torch.arange(10) < 3
    doubted = dataclasses.replace(
        result,
        largest_weight=torch.where(bad, 0.5, result.largest_weight),
        arrived=torch.arange(10) < 8,
        ess=torch.where(torch.arange(10) == 9, 0.1 * result.num_draws, result.ess),
    )
    assert doubted.reliable.tolist() == [False] * 3 + [True] * 6 + [False]  # at point 8 the draws make up for it
    assert "Reliable at 6 of 10 points" in doubted.reliability_message
    assert "a few draws carry the weight (3); no start comes to rest at a mode" in doubted.reliability_message


class Far(pyrovae.Module):
    """z ~ N(0, I), x ~ N(z + 1e7, 0.1²): in single precision numbers of this size are whole."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(1e7))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + self.offset, 0.1).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))


def test_what_single_precision_does_not_resolve_is_computed_in_double(seed, caplog):
    model = Far()
    x = 1e7 + torch.randn(12, 2, generator=torch.Generator().manual_seed(1)).round()
    result = mode_sampling_log_likelihood(model, model.guide, x, seed=seed)
    exact = dist.Normal(torch.tensor(1e7).double(), math.sqrt(1.01)).log_prob(x.double()).sum(-1)
    assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se).all()
    assert result.metadata["dtype"] == "float64"
    assert "in single precision is off by up to" in caplog.text
    assert model.offset.dtype == torch.float32


def test_single_precision_that_suffices_is_kept(caplog):
    model, guide = load("ppca")(5, latent=2)
    result = mode_sampling_log_likelihood(model, guide, torch.randn(10, 5))
    assert result.metadata["dtype"] == "float32"
    assert not caplog.text


def test_a_guide_with_parameters_for_each_point(seed):
    """Pyro's AutoNormal cannot be asked about some of the points."""
    model, _ = load("ppca")(5, latent=2)
    guide, x = AutoNormal(model), torch.randn(20, 5)
    fit(model, guide, x, epochs=20, batch_size=None, lr=0.05)
    result = mode_sampling_log_likelihood(model, guide, x, tolerance=0.02, seed=seed)
    assert ((result.log_likelihood - model.log_prob(x).double()).abs() < 5 * result.log_likelihood_se + 1e-4).all()


def test_a_density_that_is_zero_at_every_start(seed):
    """z ~ N(0, 1), x is 1 only beyond z = 2: a share of 0.0228 of the prior, which Newton's method does not see."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).double(), 1.0))
            pyro.sample("x", dist.Bernoulli(probs=(z > 2).double()), obs=x[:, 0])

    result = mode_sampling_log_likelihood(model, standard(), torch.ones(6, 1).double(), seed=seed)
    exact = math.log(0.5 * math.erfc(2 / math.sqrt(2)))
    wrong = (result.log_likelihood - exact).abs() > 5 * result.log_likelihood_se
    assert not (wrong & result.reliable).any()


def test_a_density_that_is_zero_everywhere_names_the_point():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).double(), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])
            pyro.factor("ruled out", torch.where(x[:, 0] > 0, -math.inf, 0.0))

    x = torch.tensor([[0.0], [1.0], [0.0]]).double()
    with pytest.raises(pyrovae.NonFiniteError, match="data point 1"):
        mode_sampling_log_likelihood(model, standard(), x)


def test_a_model_that_cannot_be_doubled_is_taken_as_it_is(seed):
    """It multiplies by a matrix of its own, in single precision."""
    matrix = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))

    class Own(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ matrix + self.offset, 0.5).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))

    model, x = Own(), torch.randn(8, 3)
    result = mode_sampling_log_likelihood(model, model.guide, x, seed=seed)
    exact = dist.MultivariateNormal(torch.zeros(3), matrix.mT @ matrix + 0.25 * torch.eye(3)).log_prob(x)
    assert ((result.log_likelihood - exact).abs() < 5 * result.log_likelihood_se + 1e-4).all()
    assert result.metadata["dtype"] == "float32"
