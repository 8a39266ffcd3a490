"""Pairs that integrate missing entries of x out: against marginals of the full covariance, by SciPy."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyrovae
from pyrovae import EM, InvalidInputError, evaluate, fit, load, log_weights
from pyrovae.missing import assume_missing
from tests.oracles import missing_entries as oracle

NAMES = list(oracle.PAIRS)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def started(name, x):
    model, guide = oracle.build(name)
    torch.manual_seed(0)
    model.initialise(x)
    return model, guide


def test_log_prob_is_that_of_the_observed_entries(name, seed):
    x = oracle.points(seed=seed)
    x[3] = math.nan  # nothing is known of this point
    model, guide = started(name, x)
    expected = oracle.log_prob(oracle.components(model), x)
    torch.testing.assert_close(model.log_prob(x).detach(), expected, rtol=0, atol=1e-10)
    assert expected[3] == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(log_weights(model, guide, x, 3).detach(), expected.expand(3, 60), rtol=0, atol=1e-10)
    evidence = evaluate(model, guide, x)
    assert set(evidence.method) == {"exact"}
    torch.testing.assert_close(evidence.log_likelihood, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(evidence.elbo, expected, rtol=0, atol=1e-10)


def test_points_without_missing_entries_are_scored_alike_among_others(name):
    x = oracle.points()
    model, _ = started(name, x)
    whole = x.nan_to_num(0.5)
    with assume_missing(True):
        torch.testing.assert_close(model.log_prob(whole), log_prob_of(model, whole), rtol=0, atol=1e-10)


def log_prob_of(model, x):
    with assume_missing(False):
        return model.log_prob(x)


def test_em_never_falls_and_returns_the_likelihood_before_the_step(name, seed):
    x = oracle.points(seed=seed)
    model, _ = oracle.build(name)
    torch.manual_seed(seed)
    with assume_missing(False):  # a start that is no maximum of the observed entries
        model.initialise(x.nan_to_num(0.0))
    before = oracle.log_prob(oracle.components(model), x).mean().item()
    climb = [model.em_step(x).item() for _ in range(25)]
    assert climb[0] == pytest.approx(before, abs=1e-10)
    assert np.diff(climb).min() > -1e-10
    assert climb[-1] > climb[0] + 0.01


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("mixture")])
def test_em_with_nothing_missing_is_the_same_step(name):
    x = oracle.points(share=0.0)
    one, other = started(name, x)[0], started(name, x)[0]
    with torch.no_grad():
        for model in (one, other):  # away from the maximum
            (model.log_sigma if hasattr(model, "log_sigma") else next(model.parameters())).add_(0.1)
    value = one.em_step(x)
    with assume_missing(True):
        assert other.em_step(x) == pytest.approx(value.item(), abs=1e-10)
    torch.testing.assert_close(one.log_prob(x), other.log_prob(x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["mixture_ppca", "mixture_fa"])
def test_em_of_mixtures_of_factors_rests_where_nothing_missing_rests(name):
    """With nothing missing π and μ are set before W and ψ; with missing entries all at once. Both rest at the same places."""
    x = oracle.points(share=0.0)
    model, _ = started(name, x)
    EM(steps=1000, tol=1e-11)(model, x)
    before = model.log_prob(x).detach()
    with assume_missing(True):
        model.em_step(x)
    torch.testing.assert_close(model.log_prob(x), before, rtol=0, atol=1e-3)


def best(log_densities, start):
    """The largest mean of log densities that L-BFGS finds from `start`."""
    parameters = start.double().requires_grad_()
    optimiser = torch.optim.LBFGS([parameters], max_iter=300, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -log_densities(parameters).mean()
        value.backward()
        return value

    optimiser.step(loss)
    return log_densities(parameters).mean().item()


@pytest.mark.parametrize("name", ["gaussian", "ppca", "factor_analysis"])
def test_em_climbs_to_the_maximum_that_an_optimiser_finds(name):
    """L-BFGS from another start, on the density of each point by its own submatrix of the covariance."""
    x = oracle.points(count=40, dim=4, share=0.2)
    model, _ = load(name)(4, **{"latent": 1} if name != "gaussian" else {})
    model.double().initialise(x)
    EM(steps=4000, tol=1e-12)(model, x)
    noises = {"gaussian": 0, "ppca": 1, "factor_analysis": 4}[name]
    rows, columns = torch.tril_indices(4, 4)
    patterns = [(row, ~row.isnan()) for row in x if not row.isnan().all()]

    def log_densities(parameters):
        mu, W, log_noise = parameters[:4], torch.zeros(4, 4).double(), parameters[14:]
        if name == "gaussian":
            W = W.index_put((rows, columns), parameters[4:14])
        else:
            W = torch.cat([parameters[4:8, None], W[:, 1:]], dim=1)
        covariance = W @ W.mT
        if noises:
            covariance = covariance + torch.diag(log_noise.exp().expand(4))
        if name == "factor_analysis":
            covariance = covariance + model.least.diag()
        return torch.stack(
            [
                torch.distributions.MultivariateNormal(mu[seen], covariance[seen][:, seen]).log_prob(row[seen])
                for row, seen in patterns
            ]
        )

    start = torch.cat([x.nanmean(dim=0), torch.eye(4)[rows, columns] + (noises > 0), torch.zeros(noises)])
    fitted = model.log_prob(x[~x.isnan().all(-1)]).mean().item()
    assert fitted == pytest.approx(best(log_densities, start), abs=1e-5)


def test_ppca_with_a_third_missing_finds_the_directions():
    """The subspace that made the points, and the likelihood of the truth or more."""
    torch.manual_seed(0)
    W = torch.randn(6, 2).double() * 2
    x = torch.randn(500, 2).double() @ W.mT + 0.3 * torch.randn(500, 6).double() + 7
    x[torch.rand_like(x) < 0.3] = math.nan
    model, guide = load("ppca")(6, latent=2)
    fit(model.double(), guide, x, init="em", epochs=1, lr=1e-5)
    truth = [(1.0, np.full(6, 7.0), (W @ W.mT + 0.09 * torch.eye(6)).numpy())]
    gain = model.log_prob(x).mean() - oracle.log_prob(truth, x).mean()
    assert 0 < gain.item() < 0.05
    angles = torch.linalg.svdvals(model.principal_directions().mT @ torch.linalg.qr(W)[0])
    assert angles.min().item() > 0.999


def test_loss_of_svi_is_that_of_the_observed_entries(name):
    x = oracle.points()
    model, guide = started(name, x)
    expected = -oracle.log_prob(oracle.components(model), x).mean().item()
    result = fit(model, guide, x, epochs=1, batch_size=None, lr=1e-12)
    assert result.losses[0] == pytest.approx(expected, abs=1e-9)


def test_svi_climbs_from_a_start_without_the_holes():
    x = oracle.points()
    model, guide = oracle.build("gmm")
    torch.manual_seed(0)
    with assume_missing(False):
        model.initialise(x.nan_to_num(0.0))
    before = model.log_prob(x).mean().item()
    fit(model, guide, x, epochs=60, batch_size=None, lr=3e-2)
    after = oracle.log_prob(oracle.components(model), x).mean().item()
    assert after > before + 0.3


@pytest.mark.parametrize("name", ["gmm", "gmm Diagonal", "factor_analysis", "mixture_ppca"])
def test_recorded_steps_follow_the_holes_of_each_batch(name):
    """No two batches have the same entries missing; some have none."""
    x = oracle.points(share=0.15)
    x[::3] = x[::3].nan_to_num(0.0)
    losses, ends = [], []
    for compile in (False, True):
        model, guide = started(name, x)
        result = fit(model, guide, x, epochs=4, batch_size=10, lr=1e-2, compile=compile)
        assert result.execution.startswith("steps recorded" if compile else "eager")
        losses.append(result.losses)
        ends.append(model.log_prob(x).detach())
    np.testing.assert_allclose(*losses, atol=1e-8)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-6)


def test_gradients_are_those_of_finite_differences(name):
    x = oracle.points(count=12)
    model, _ = started(name, oracle.points())
    parameter = next(parameter for parameter in model.parameters() if parameter.requires_grad and parameter.numel() > 2)
    [gradient] = torch.autograd.grad(model.log_prob(x).sum(), parameter)
    parameter.data = parameter.data.contiguous()
    step, flat = 1e-6, parameter.data.view(-1)
    for place in (0, flat.numel() - 1):
        at = flat[place].item()
        values = []
        for moved in (at + step, at - step):
            flat[place] = moved
            values.append(model.log_prob(x).sum().item())
        flat[place] = at
        assert gradient.reshape(-1)[place].item() == pytest.approx(
            (values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-5
        )


@pytest.mark.parametrize("name", ["gaussian", "gmm", "gmm Diagonal", "factor_analysis", "mixture_fa"])
def test_units_of_columns_do_not_matter(name):
    """log p(x) in other units is lower by Σ log s over the observed entries."""
    x = oracle.points()
    units = torch.tensor([1e-4, 1.0, 1e4, 10.0, 3.0]).double()
    one, other = started(name, x)[0], started(name, x * units + 5 * units)[0]
    jacobian = (units.log() * ~x.isnan()).sum(-1)
    torch.testing.assert_close(other.log_prob(x * units + 5 * units) + jacobian, one.log_prob(x), rtol=0, atol=1e-3)


def test_floors_are_of_the_observed_entries():
    x = oracle.points(share=0.5)
    for name in ("gmm", "factor_analysis", "mixture_fa"):
        model, _ = started(name, x)
        unit = model.components.unit if name == "gmm" else model.unit
        np.testing.assert_allclose(unit.numpy(), np.nanstd(x.numpy(), axis=0), rtol=1e-12)


def test_a_column_without_observed_entries():
    x = oracle.points()
    x[:, 2] = math.nan
    with pytest.raises(InvalidInputError, match="Column 2 has no observed entry: leave it out"):
        fit(*oracle.build("ppca"), x, epochs=1)


@pytest.mark.parametrize("name", ["pca", "flow", "conditional_vae", "autoencoder"])
def test_pairs_that_take_no_missing_values_say_so(name):
    x = oracle.points().float()
    message = r"x\[\d+, \d\] is nan, and this pair takes no missing values: remove or impute"
    with pytest.raises(InvalidInputError, match=message):
        fit(*load(name)(5), x, epochs=1)
    with pytest.raises(InvalidInputError, match=message):
        log_weights(*load(name)(5), x)


def test_infinity_is_no_missing_value():
    x = oracle.points()
    x[4, 1] = math.inf
    with pytest.raises(InvalidInputError, match=r"x\[4, 1\] is inf: remove"):
        evaluate(*oracle.build("ppca"), x)


def test_a_stream_shows_its_missing_values_at_its_start():
    x = oracle.points(count=40)
    whole = x.nan_to_num(0.0)
    model, guide = oracle.build("ppca")
    fit(model, guide, [x[:20], whole[20:]], epochs=2)
    assert torch.isfinite(model.log_prob(x)).all()
    late = [whole.repeat(25, 1)] * 22 + [x[20:]]
    with pytest.raises(InvalidInputError, match="In batch 23 of epoch 1, .* is nan"):
        fit(*oracle.build("ppca"), late, epochs=1)


@pytest.mark.parametrize("name", ["gmm", "ppca", "mixture_fa"])
def test_check_pair_passes_with_missing_entries(name):
    x = oracle.points()
    pyrovae.check_pair(*started(name, x), x)


def test_the_number_of_latents_is_chosen_on_points_with_missing_entries():
    x = oracle.points(count=80, share=0.1)
    choice = pyrovae.choose(load("ppca"), {"latent": [1, 2]}, x, training={"epochs": 2})
    assert choice.minka is None
    assert choice.best in choice.candidates


def test_stock_pyro_takes_them():
    import pyro
    from pyro.infer import SVI, TraceEnum_ELBO

    x = oracle.points()
    model, guide = started("gmm", x)
    loss = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), TraceEnum_ELBO(max_plate_nesting=1)).evaluate_loss(x)
    assert -loss == pytest.approx(oracle.log_prob(oracle.components(model), x).sum().item(), abs=1e-8)


def test_a_model_of_ones_own_says_that_it_takes_them():
    """By one attribute; and `observed` makes its density one of the observed entries."""

    class Mine(pyrovae.Module):
        handles_missing = True

        def __init__(self):
            super().__init__()
            self.mean = torch.nn.Parameter(torch.zeros(5).double())

        def forward(self, x):
            with pyro.plate("data", len(x)):
                density = dist.Normal(self.mean, 2.0).to_event(1)
                pyro.sample("x", pyrovae.distributions.observed(density, x), obs=x)

    x, model = oracle.points(), Mine()
    fit(model, lambda x: None, x, epochs=400, batch_size=None, lr=3e-2)
    torch.testing.assert_close(model.mean.detach(), x.nanmean(dim=0), rtol=0, atol=0.02)
    assert evaluate(model, lambda x: None, x).log_likelihood.isfinite().all()


class Unfinished(pyrovae.Module):
    """A newcomer's first try: a model that says that it takes missing entries, and may not observe them."""

    handles_missing = True

    def __init__(self, observes):
        super().__init__()
        self.observes = observes
        self.decoder = torch.nn.Linear(2, 3)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", self.observes(dist.Normal(self.decoder(z), 1.0).to_event(1), x), obs=x)


class ReadsX(pyrovae.Module):
    """A guide whose network reads x as it is."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(3, 4)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            loc, rho = self.encoder(x).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(loc, rho.exp()).to_event(1))


def test_what_is_forgotten_in_a_pair_of_ones_own_is_named():
    x = torch.randn(20, 3)
    x[1, 2] = torch.nan
    guide = pyrovae.guides.MeanField(3, latent=2)
    with pytest.raises(InvalidInputError, match=r"Point 1 has a missing value.*observe .*observed\(density, x\)"):
        fit(Unfinished(lambda density, x: density), guide, x, epochs=1)
    with pytest.raises(pyrovae.NonFiniteError, match=r"data point 1; x has missing entries.*x\.nan_to_num\(\)"):
        fit(Unfinished(pyrovae.distributions.observed), ReadsX(), x, epochs=1)


def test_a_pair_given_its_global_latents_takes_what_it_took_before():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(torch.zeros(5).double(), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            density = dist.Normal(mean, 2.0).to_event(1)
            pyro.sample("x", pyrovae.distributions.observed(density, x), obs=x)

    model.handles_missing = True
    x, value = oracle.points(), torch.arange(5.0).double()
    pair = pyrovae.condition_on_globals(model, lambda x: None, x, {"mean": value})
    expected = torch.distributions.Normal(value, 2.0).log_prob(x.nan_to_num(0.0)) * ~x.isnan()
    torch.testing.assert_close(log_weights(*pair, x)[0], expected.sum(-1))
