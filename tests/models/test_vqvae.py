"""Few codes, so that log p(x) is a sum over all of them; and the gradient of what has none, by its definition."""

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from typer.testing import CliRunner

import pyrovae
from pyrovae import check_pair, evaluate, fit, load, log_weights, sample
from pyrovae.cli.app import app
from pyrovae.tables.comparison import as_text

module = load("vqvae").module
EVERY = torch.tensor(list(itertools.product(range(4), repeat=3)))  # (64, 3)


def build(guide=module.Nearest, dtype=torch.float64, **options):
    """3 codes of 4 for x of 5 numbers, whose every parameter is somewhere."""
    model, q = load("vqvae")(5, **{"positions": 3, "codes": 4, "size": 2, "hidden": (8,), "guide": guide, **options})
    with torch.no_grad():
        for parameter in [*model.parameters(), *q.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
        if guide is module.Soft:
            q.log_temperature.fill_(2.0)  # no code is rare under it
    return model.to(dtype), q.to(dtype)


def joint(model, x):
    """log p(x, z) of every z: (64, N)."""
    given = torch.stack([model.decode(model.codebook[z].expand(len(x), 3, -1)).log_prob(x) for z in EVERY])
    return given + model.prior().log_prob(EVERY).unsqueeze(-1)


def test_the_prior_is_a_distribution_over_all_codes_and_draws_from_itself(seed):
    """Σ p(z) = 1 to rounding, log p(z_m|z_<m) knows nothing of z_m and after, and of 20,000 draws each z has its share, within 6
    standard errors."""
    torch.manual_seed(seed)
    model, _ = build()
    with torch.no_grad():
        p = model.prior().log_prob(EVERY).exp()
        assert abs(p.sum() - 1) < 1e-12
        assert p.max() / p.min() > 1.5  # it is not the uniform one
        logits, changed = model.prior().logits(EVERY), EVERY.clone()
        changed[:, 1:] = (changed[:, 1:] + 1) % 4
        torch.testing.assert_close(model.prior().logits(changed)[:, :2], logits[:, :2], rtol=0, atol=1e-12)
        assert (model.prior().logits(changed)[:, 2] - logits[:, 2]).abs().max() > 1e-3
    drawn = model.prior().sample((20_000,))
    share = (drawn.unsqueeze(1) == EVERY).all(-1).double().mean(0)
    assert ((share - p).abs() < 6 * (p * (1 - p) / 20_000).sqrt()).all()


@pytest.mark.parametrize("guide", module.GUIDES)
def test_evidence_against_a_sum_over_all_codes(guide, seed):
    """Nearest: the weight is log p(x, z) at its code, below log p(x) at every point. Soft: log p̂ is log p(x), within 6 standard
    errors, and the exact mean of log w is the ELBO."""
    torch.manual_seed(seed)
    model, q = build(guide)
    x = torch.rand(12, 5).double()
    with torch.no_grad():
        log_joint = joint(model, x)
        log_q = torch.stack([q.posterior(x).log_prob(z) for z in EVERY])
        torch.testing.assert_close(log_q.exp().sum(0), torch.ones(12).double())
        exact = log_joint.logsumexp(0)
        elbo = torch.where(log_q.isfinite(), log_q.exp() * (log_joint - log_q), 0.0).sum(0)
    found = evaluate(model, q, x, num_samples=4000, seed=seed)
    assert (elbo < exact).all()
    if guide is module.Nearest:
        torch.testing.assert_close(found.elbo, elbo, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.log_likelihood, elbo, rtol=1e-10, atol=1e-10)
    else:
        assert ((found.log_likelihood - exact).abs() < 6 * found.log_likelihood_se + 1e-3).all()
        assert ((found.elbo - elbo).abs() < 6 * found.elbo_se).all()


def test_the_nearest_code_by_looking_at_each():
    """And Soft is Boltzmann's distribution of the same squares, whose limit for a small temperature is the nearest."""
    model, q = build()
    x = torch.rand(20, 5).double()
    soft = module.Soft(model, q.encoder, 0.7).double()
    cold = module.Soft(model, q.encoder, 1e-6).double()
    with torch.no_grad():
        e = q.encode(x)
        squares = torch.stack([torch.stack([((a - b) ** 2).sum(-1) for b in model.codebook], -1) for a in e])
        assert torch.equal(q.codes(e), squares.argmin(-1))
        torch.testing.assert_close(soft.posterior(x).base_dist.probs, (-squares / 0.7).softmax(-1))
        assert torch.equal(cold.posterior(x).sample(), q.codes(e))
        assert torch.equal(q.posterior(x).sample(), q.codes(e))
        assert (q.posterior(x).log_prob(q.codes(e)) == 0).all()


def test_the_straight_through_gradient_by_its_definition():
    """The loss is −ELBO, to rounding. ∂/∂e(x) is the decoder's −∂ log p(x|e)/∂e at e_z, and 2β(e − e_z); ∂/∂e_k is 2(e_k − e) over
    the e(x) next to it; decoder and prior have their own."""
    model, q = build(hidden=())
    x, beta = torch.rand(20, 5).double(), 0.4
    loss = module.StraightThrough(beta).terms(model, q, x).loss
    assert loss.item() == pytest.approx(-log_weights(model, q, x).sum().item(), rel=1e-12)
    loss.backward()
    found = {name: p.grad.clone() for name, p in [*model.named_parameters(), *q.named_parameters()]}
    e = q.encode(x).detach()
    z = q.codes(e)
    e_z = model.codebook.detach()[z].requires_grad_()
    model.zero_grad()
    (-model.decode(e_z).log_prob(x).sum() - model.prior().log_prob(z).sum()).backward()
    with torch.no_grad():
        slope = (e_z.grad + 2 * beta * (e - e_z)).flatten(1)
        codebook = torch.zeros_like(model.codebook)
        for position in itertools.product(range(20), range(3)):
            codebook[z[position]] += 2 * (e_z[position] - e[position])
    torch.testing.assert_close(found["encoder.0.weight"], slope.mT @ x)
    torch.testing.assert_close(found["encoder.0.bias"], slope.sum(0))
    torch.testing.assert_close(found["codebook"], codebook)
    for name, parameter in model.named_parameters():
        if name != "codebook":
            torch.testing.assert_close(found[name], parameter.grad)


def test_a_guide_that_knows_one_code_is_a_bound_and_called_no_estimate():
    """No gap, ESS or k̂ where all draws are one; of probabilities that only round to 1, as before."""
    model, q = build()
    x = torch.rand(12, 5).double()
    found = evaluate(model, q, x, num_samples=200)
    assert found.deterministic_guide
    assert "nan" not in repr(found)
    for value in (found.gap, found.ess, found.pareto_k):
        assert value.isnan().all()
    assert found.high_pareto_k.all()
    assert found.reliability_message.startswith("A bound, no estimate: the guide knows one z for each x")
    assert "it takes a guide that draws" in found.reliability_message
    metadata = {**found.metadata, "data": "x", "split": "none", "split_seed": 0, "transform": "x"}
    text = as_text(pyrovae.compare({"vqvae": (model, q)}, x, 100), metadata)
    assert "A bound, no estimate" in " ".join(text.split())
    assert "nan" not in text
    cold = evaluate(model, module.Soft(model, q.encoder, 1e-4).double(), x, num_samples=200)
    assert not cold.deterministic_guide
    assert not cold.ess.isnan().any()


@pytest.mark.slow
def test_digits_are_coded_and_a_guide_that_draws_tightens_the_bound():
    """After 1,200 steps the bound is a nat above log p(x) of the best Gaussian, each position uses 5 codes (perplexity) of 64 at least,
    and Soft around the same encoder has a log p̂ that is 2 nats higher."""
    data = pyrovae.load_data("digits")
    torch.manual_seed(0)
    model, q = load("vqvae")(data.dim)
    fit(model, q, data.train, epochs=100, lr=2e-3, compile=False)
    bound = evaluate(model, q, data.test, num_samples=2).mean_elbo.value
    train, test = data.train.double(), data.test.double()
    gaussian = MultivariateNormal(train.mean(0), torch.cov(train.mT, correction=0)).log_prob(test).mean()
    with torch.no_grad():
        z = q.codes(q.encode(data.test))
    share = torch.nn.functional.one_hot(z, 64).double().mean(0)
    perplexity = torch.special.entr(share).sum(-1).exp()
    soft = evaluate(model, module.Soft(model, q.encoder, 1.0), data.test, num_samples=50).mean_log_likelihood.value
    assert bound > gaussian + 1
    assert perplexity.min() > 5
    assert soft > bound + 2


def test_what_it_draws_has_the_mixtures_moments(seed):
    """p(x) is a mixture of 64 components: the mean of 20,000 draws is that of their means, within 6 standard errors."""
    torch.manual_seed(seed)
    model, _ = build(likelihood=pyrovae.likelihoods.FixedNormal(0.3))
    with torch.no_grad():
        means = model.decode(model.codebook[EVERY]).mean
        expected = model.prior().log_prob(EVERY).exp() @ means
    x = sample(model, 20_000, torch.rand(1, 5).double())
    assert ((x.mean(0) - expected).abs() < 6 * x.std(0) / math.sqrt(len(x))).all()


@pytest.mark.slow
def test_what_diagnose_says_of_the_codes(seed):
    """The shares of codes under q are counted, those under p are of as many draws of the prior as were asked for: within 6 standard
    errors of the marginals of a sum over all z."""
    torch.manual_seed(seed)
    model, q = build()
    x = torch.rand(30, 5).double()
    found = pyrovae.diagnose(model, q, x, seed=seed, prior_samples=5000).classes["z"]
    one_hot = torch.nn.functional.one_hot
    with torch.no_grad():
        p = torch.einsum("z,zmk->mk", model.prior().log_prob(EVERY).exp(), one_hot(EVERY, 4).double())
        torch.testing.assert_close(found.used.double(), one_hot(q.codes(q.encode(x)), 4).double().mean(0))
    assert ((found.prior - p).abs() < 6 * (p * (1 - p) / 5000).sqrt()).all()


@pytest.mark.parametrize("guide", module.GUIDES)
@pytest.mark.parametrize("likelihood", [pyrovae.likelihoods.Normal, pyrovae.likelihoods.Bernoulli])
def test_contract(guide, likelihood):
    x = torch.rand(12, 5)
    model, q = build(guide, torch.float32, likelihood=likelihood())
    check_pair(model, q, x.round() if likelihood is pyrovae.likelihoods.Bernoulli else x)


def test_each_guide_is_trained_by_what_can_train_it():
    x = torch.rand(20, 5)
    for guide, objective in ((module.Nearest, "StraightThrough"), (module.Soft, "TraceGraph_ELBO")):
        assert fit(*build(guide, torch.float32), x, epochs=1).objective == objective


def test_commands_say_what_the_number_is(tmp_path):
    run, out = CliRunner().invoke, tmp_path / "run"
    words = ["train", "vqvae", "--out", str(out), "--epochs", "2", "--set", "hidden=8", "--set", "codes=4"]
    trained = run(app, words)
    assert trained.exit_code == 0, trained.output
    scored = run(app, ["evaluate", str(out), "--num-samples", "100"])
    assert scored.exit_code == 0, scored.output
    assert "A bound, no estimate" in " ".join(scored.output.split())
    drawn = run(app, ["sample", str(out), "--num-samples", "4"])
    assert drawn.exit_code == 0, drawn.output


def test_one_code_is_refused():
    with pytest.raises(pyrovae.InvalidInputError, match="2 codes or more"):
        load("vqvae")(4, codes=1)
