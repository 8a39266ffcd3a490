"""Networks trained elsewhere: their log-weights against the same computed by hand in plain torch, and against pythae's own."""

import math

import numpy as np
import pytest
import torch
from pyro.distributions import Normal
from torch import nn
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError, check_pair, evaluate, from_networks, log_weights
from pyrovae.cli.app import app
from pyrovae.loading.networks import LogVariance

SHAPE, DIM, LATENT = (1, 8, 8), 64, 3


class Encoder(nn.Module):
    """Of images, with what evaluation must switch off: batch statistics and dropout."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout()
        )
        self.loc, self.log_var = nn.Linear(36, LATENT), nn.Linear(36, LATENT)

    def forward(self, x):
        h = self.features(x)
        return self.loc(h), self.log_var(h)


def decoder(*last):
    return nn.Sequential(nn.Linear(LATENT, 20), nn.Tanh(), nn.Linear(20, DIM), nn.Unflatten(-1, SHAPE), *last)


def images(binary=False, count=9):
    x = torch.rand(count, DIM, generator=torch.Generator().manual_seed(1)).double()
    return x.round() if binary else x


def by_hand(loc, log_var, decode, log_likelihood, x, num_samples):
    """log p(x|z) + log p(z) − log q(z|x) of every draw, nothing of pyrovae's: (samples, N)."""
    sigma = (log_var / 2).exp()
    z = torch.distributions.Normal(loc, sigma).rsample((num_samples,))
    log_q = (-((z - loc) ** 2) / (2 * sigma**2) - sigma.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    log_prior = (-(z**2) / 2 - 0.5 * math.log(2 * math.pi)).sum(-1)
    outputs = torch.stack([decode(row).flatten(1) for row in z])
    return log_likelihood(outputs, x).sum(-1) + log_prior - log_q


def normal(sigma):
    return lambda mean, x: -((x - mean) ** 2) / (2 * sigma**2) - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def bernoulli(logits, x):
    return x * logits - (1 + logits.exp()).log()


def bernoulli_mean(p, x):
    return x * p.log() + (1 - x) * (1 - p).log()


CASES = {
    "logits": (pyrovae.likelihoods.Bernoulli(), (), bernoulli),
    "probabilities": (pyrovae.likelihoods.BernoulliMean(), (nn.Sigmoid(),), bernoulli_mean),
    "mean": (pyrovae.likelihoods.FixedNormal(0.5), (), normal(0.5)),
}


@pytest.mark.parametrize("case", CASES)
def test_log_weights_are_those_of_a_direct_computation(case, seed):
    likelihood, last, log_likelihood = CASES[case]
    encode, decode, x = Encoder().double(), decoder(*last).double(), images(case != "mean")
    encode(torch.rand(50, *SHAPE).double())  # batch statistics of its own
    model, guide = from_networks(encode.eval(), decode, LATENT, likelihood, shape=SHAPE)
    torch.manual_seed(seed)
    own = log_weights(model, guide, x, 40)
    torch.manual_seed(seed)
    direct = by_hand(*encode(x.reshape(-1, *SHAPE)), decode, log_likelihood, x, 40)
    torch.testing.assert_close(own, direct, rtol=1e-10, atol=1e-10)
    nll = math.log(40) - direct.logsumexp(0)
    torch.testing.assert_close(pyrovae.log_likelihood(own), -nll, rtol=1e-10, atol=1e-10)


def test_evidence_is_that_of_networks_in_evaluation_mode_compiled_or_not(seed):
    """As given they are in training mode, where a point's code depends on the others and on chance."""
    encode, decode, x = Encoder().double(), decoder().double(), images()
    encode(torch.rand(50, *SHAPE).double())
    statistics = encode.features[1].running_mean.clone()
    pair = from_networks(encode, decode, LATENT, pyrovae.likelihoods.FixedNormal(0.5), shape=SHAPE)
    found = [evaluate(*pair, x, num_samples=50, seed=seed, compile=compile) for compile in (False, True)]
    assert encode.training
    assert torch.equal(statistics, encode.features[1].running_mean)
    encode.eval()
    found.append(evaluate(*pair, x, num_samples=50, seed=seed, compile=False))
    for other in found[1:]:
        torch.testing.assert_close(found[0].log_likelihood, other.log_likelihood, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_contract(case):
    likelihood, last, _ = CASES[case]
    pair = from_networks(Encoder(), decoder(*last), LATENT, likelihood, shape=SHAPE)
    check_pair(*pair, images(case != "mean").float())


def test_the_networks_are_the_ones_that_were_given_and_train_on(seed):
    """A step of fit on the pair moves the modules themselves, both of them, and the ELBO rises by more than 1 nat."""
    encode, decode, x = Encoder(), decoder(), images(count=60).float()
    before = [p.clone() for net in (encode, decode) for p in net.parameters()]
    model, guide = from_networks(encode, decode, LATENT, pyrovae.likelihoods.FixedNormal(0.5), shape=SHAPE)
    losses = pyrovae.fit(model, guide, x, epochs=40, batch_size=None, lr=1e-2).losses
    assert losses[-1] < losses[0] - 1
    after = [p for net in (encode, decode) for p in net.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(moved) >= len(moved) - 1  # a bias before batch normalisation has no gradient but rounding


def test_what_the_encoder_may_return(seed):
    """Two tensors, one of both, or an object of two: the same weights."""
    encode, decode, x = Encoder().double().eval(), decoder().double(), images()

    class AsOne(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = encode

        def forward(self, x):
            return torch.cat(self.net(x), dim=-1)

    class Output:
        def __init__(self, loc, log_var):
            self.embedding, self.log_covariance = loc, log_var

    class AsObject(AsOne):
        def forward(self, x):
            return Output(*self.net(x))

    found = []
    for network in (encode, AsOne(), AsObject()):
        pair = from_networks(network, decode, LATENT, pyrovae.likelihoods.FixedNormal(0.5), shape=SHAPE)
        torch.manual_seed(seed)
        found.append(log_weights(*pair, x, 5))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-12, atol=1e-12)


def test_another_family_reads_the_encoder_its_way():
    """σ = exp(log σ) of an encoder that says so: as an encoder of log σ² that says twice as much."""

    class LogScale(LogVariance):
        def distribution(self, outputs):
            loc, log_scale = outputs.chunk(2, dim=-1)
            return Normal(loc, log_scale.exp()).to_event(1)

    encode, decode, x = Encoder().double().eval(), decoder().double(), images()

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = encode

        def forward(self, x):
            loc, log_scale = self.net(x)
            return loc, 2 * log_scale

    found = []
    for network, family in ((encode, LogScale), (Twice(), LogVariance)):
        torch.manual_seed(0)
        pair = from_networks(network, decode, LATENT, pyrovae.likelihoods.FixedNormal(0.5), shape=SHAPE, family=family)
        found.append(log_weights(*pair, x, 5))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


def refusal(encoder, decode):
    pair = from_networks(encoder, decode, LATENT, pyrovae.likelihoods.FixedNormal(0.5))
    with pytest.raises(InvalidInputError) as caught:
        log_weights(*pair, images().float())
    return str(caught.value)


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_outputs_that_are_none_of_these():
    encode = nn.Linear(DIM, 2 * LATENT)
    three = Returns(lambda x: (x, x, x))
    assert "The encoder returns a tuple of 3: let it return μ and log σ²" in refusal(three, decoder())
    assert "The encoder returns a dict of 1" in refusal(Returns(lambda x: {"mu": x}), decoder())
    assert "LogVariance(latent=3) needs (9, 6)" in refusal(nn.Linear(DIM, 8), decoder())
    assert "The decoder returns a tuple of 2: let it return one tensor" in refusal(encode, Returns(lambda z: (z, z)))
    assert "Site 'x' is of shape (5,)" in refusal(encode, nn.Linear(LATENT, 5))
    with pytest.raises(
        InvalidInputError, match=r"returns -\d.* and BernoulliMean reads probabilities: give Bernoulli\(\)"
    ):
        from_networks(encode, decoder(), LATENT, pyrovae.likelihoods.BernoulliMean())


def test_two_outputs_of_other_shapes():
    """Three and three of six numbers are not two and four: they would be split where the encoder did not."""
    for first, second in ((2, 4), (4, 2), (6, 0), (0, 6), (4, 4)):
        parts = Returns(lambda x, first=first, second=second: (x[:, :first], x[:, :second]))
        told = f"The encoder returns (9, {first}) and (9, {second}): μ and log σ² are of (9, 3) each."
        assert told in refusal(parts, decoder())
    one_for_all = Returns(lambda x: (x[:, :LATENT], x.new_zeros(1, LATENT)))
    assert "The encoder returns (9, 3) and (1, 3): μ and log σ² are of (9, 3) each." in refusal(one_for_all, decoder())
    assert "(9, 3) and (): μ and" in refusal(Returns(lambda x: (x[:, :LATENT], x.new_zeros(()))), decoder())
    assert "(9, 7) where LogVariance(latent=3) needs (9, 6)" in refusal(
        Returns(lambda x: (x[:, :3], x[:, :4])), decoder()
    )


def test_two_outputs_that_another_family_reads():
    """μ and what L is made of, k and k(k+1)/2 numbers: as one tensor of both."""
    x, net = images().float(), nn.Linear(DIM, 9)
    found = []
    for network in (net, Returns(lambda x: net(x).split((3, 6), dim=-1))):
        torch.manual_seed(0)
        pair = from_networks(
            network, decoder(), LATENT, pyrovae.likelihoods.FixedNormal(0.5), family=pyrovae.guides.FullCovariance
        )
        pair[0].decoder.load_state_dict({k: torch.full_like(v, 0.01) for k, v in pair[0].decoder.state_dict().items()})
        torch.manual_seed(1)
        found.append(log_weights(*pair, x, 5))
    assert torch.equal(*found)


def test_images_that_are_no_rows():
    """Refused by all that takes x: the model's draws are rows, and would not be like the data."""
    x = images().float()
    model, guide = from_networks(Encoder(), decoder(), LATENT, pyrovae.likelihoods.FixedNormal(0.5), shape=SHAPE)
    stacked = x.reshape(-1, *SHAPE)
    told = r"x of shape \(\d, 1, 8, 8\) is not a row for each point: give x.flatten\(1\), and.* shape=\(1, 8, 8\)\)\."
    for call in (
        lambda: evaluate(model, guide, stacked, num_samples=2),
        lambda: check_pair(model, guide, stacked),
        lambda: pyrovae.fit(model, guide, stacked, epochs=1),
        lambda: pyrovae.fit(model, guide, stacked, epochs=1, objective=pyrovae.objectives.WakeSleep()),
        lambda: pyrovae.sample(model, 3, stacked),
    ):
        with pytest.raises(InvalidInputError, match=told):
            call()
    assert pyrovae.sample(model, 3, x).shape == (3, DIM)
    losses = pyrovae.fit(model, guide, x, epochs=1, objective=pyrovae.objectives.WakeSleep()).losses
    assert all(map(math.isfinite, losses))


def test_probabilities_that_have_rounded_to_certainty():
    """A saturated sigmoid says exactly 1: finite all the same, and −log ε/2 nats where it is wrong. One that says 0 is nearer to it."""
    one = torch.ones(2, 4)
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = pyrovae.likelihoods.BernoulliMean()(one).log_prob(x)
        assert float(found[0]) == pytest.approx(0, abs=1e-6)
        assert float(found[1]) == pytest.approx(math.log(torch.finfo(torch.float32).eps / 2), rel=1e-6)
        with torch.set_grad_enabled(grad):
            found = pyrovae.likelihoods.BernoulliMean()(1 - one).log_prob(1 - x)
        assert float(found[0]) == pytest.approx(0, abs=1e-6)
        assert float(found[1]) == pytest.approx(math.log(torch.finfo(torch.float32).tiny), rel=1e-6)
    likelihood = pyrovae.likelihoods.BernoulliMean()
    with pytest.raises(InvalidInputError, match=r"The decoder returns 1 to 1.5, and BernoulliMean reads probabilities"):
        likelihood(torch.tensor([[1.0, 1.5]]))
    likelihood(one)
    with pytest.raises(ValueError, match="found invalid values"):  # later, only where torch looks
        likelihood(torch.tensor([[1.0, 1.5]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_larger_probability_is_never_less_likely(dtype):
    """log p(1) rises and log p(0) falls from η = 0 to 1, by log η and log(1 − η) where neither rounds; nothing is infinite."""
    info = torch.finfo(dtype)
    inner = [info.tiny, info.eps / 2, info.eps, 2 * info.eps, 0.3, 0.5, 1 - info.eps, 1 - info.eps / 2]
    eta = torch.tensor([0.0, info.smallest_normal / 4, *inner, 1.0], dtype=dtype, requires_grad=True)
    fn = pyrovae.likelihoods.BernoulliMean()(eta.unsqueeze(-1))
    lit, dark = (fn.log_prob(torch.full((len(eta), 1), value, dtype=dtype)).double() for value in (1.0, 0.0))
    for rising in (lit, -dark):
        assert bool(torch.isfinite(rising).all())
        assert bool((rising.diff() >= 0).all())
    assert float(fn.base_dist.logits.detach().squeeze(-1)[2:-1].diff().min()) > 0  # numbers inside stay apart
    if dtype == torch.float64:
        torch.testing.assert_close(lit[2:-1], eta[2:-1].log(), rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(dark[2:-1], torch.log1p(-eta[2:-1]), rtol=1e-12, atol=1e-15)
    (gradient,) = torch.autograd.grad(lit.sum() + dark.sum(), eta)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("name", ["vae", "hierarchical_vae", "gmvae", "conditional_vae", "diffusion", "vqvae"])
def test_pairs_whose_outputs_are_no_probabilities(name):
    """Refused before the first step, where they would be nan, by what they return or by where they begin."""
    x = images(binary=True, count=20).float()
    with pytest.raises(InvalidInputError, match=r"give Bernoulli\(\), which reads logits"):
        pyrovae.fit(*pyrovae.load(name)(DIM, likelihood=pyrovae.likelihoods.BernoulliMean()), x, epochs=1)


def test_a_sigmoid_under_an_offset_is_no_probability():
    """The VAE adds the data's mean to what a decoder says: in [0, 1] at first, and 0.5 + 0.5 and more once training begins."""
    pair = pyrovae.load("vae")(
        DIM, latent=LATENT, likelihood=pyrovae.likelihoods.BernoulliMean(), decoder=decoder(nn.Flatten(), nn.Sigmoid())
    )
    with pytest.raises(InvalidInputError, match=r"free to leave \[0, 1\]: give Bernoulli\(\)"):
        pyrovae.fit(*pair, images(binary=True).float(), epochs=1)


OWN = """import torch
from torch import nn
import pyrovae
def pair(dim):
    encoder, decoder = nn.Linear(dim, 4), nn.Linear(2, dim)
    decoder.load_state_dict(torch.load(WEIGHTS))
    return pyrovae.from_networks(encoder, decoder, 2, pyrovae.likelihoods.FixedNormal(1.0))
"""


def test_a_file_that_loads_their_weights_is_scored_at_the_command_line(tmp_path):
    """`train --epochs 0` makes a run of them; nothing of them is moved, initialised or lost on the way."""
    torch.manual_seed(5)
    weights = nn.Linear(2, 6).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    (tmp_path / "mine.py").write_text(OWN.replace("WEIGHTS", repr(str(tmp_path / "weights.pt"))))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 6)))
    words = ["train", tmp_path / "mine.py", "--data", tmp_path / "x.npy", "--epochs", 0, "--out", tmp_path / "run"]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    run = pyrovae.load_run(tmp_path / "run")
    assert torch.equal(run.model.decoder.network.weight, weights["weight"])
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--num-samples", "50"])
    assert "mine" in done.stdout


# pythae, where it is installed


@pytest.fixture(scope="module", params=["mse", "bce"])
def from_pythae(request, tmp_path_factory):
    """A VAE that pythae trained on the digits for a few epochs, and held-out digits: its pair, and itself."""
    models = pytest.importorskip("pythae.models", reason="pythae is not installed: pip install 'pyrovae[test]'")
    pipelines, trainers = pytest.importorskip("pythae.pipelines"), pytest.importorskip("pythae.trainers")
    torch.manual_seed(0)
    data = pyrovae.load_data("digits", None if request.param == "mse" else "threshold")
    x = data.test[:40]
    vae = models.VAE(models.VAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss=request.param))
    settings = trainers.BaseTrainerConfig(
        output_dir=str(tmp_path_factory.mktemp("pythae")),
        num_epochs=5,
        per_device_train_batch_size=100,
        learning_rate=2e-3,
        no_cuda=True,
    )
    pipelines.TrainingPipeline(model=vae, training_config=settings)(train_data=data.train[:].reshape(-1, *SHAPE))
    likelihood = pyrovae.likelihoods.FixedNormal(1.0) if request.param == "mse" else pyrovae.likelihoods.BernoulliMean()
    return vae.eval(), from_networks(vae.encoder, vae.decoder, LATENT, likelihood, shape=vae.input_dim), x


def test_pythae_log_weights_are_those_of_a_direct_computation(from_pythae, seed):
    vae, pair, x = from_pythae
    log_likelihood = normal(1.0) if vae.model_config.reconstruction_loss == "mse" else bernoulli_mean
    vae.double()
    x = x.double()
    check_pair(*pair, x)
    torch.manual_seed(seed)
    own = log_weights(*pair, x, 100)
    torch.manual_seed(seed)
    code = vae.encoder(x.reshape(-1, *SHAPE))
    direct = by_hand(
        code.embedding, code.log_covariance, lambda z: vae.decoder(z).reconstruction, log_likelihood, x, 100
    )
    torch.testing.assert_close(own, direct, rtol=1e-10, atol=1e-10)


def test_pythae_own_numbers(from_pythae, seed):
    """Its `get_nll` is plus log p̂, and ours is within 6 standard errors of it (each of its 300 draws a point). Its loss leaves
    D/2 log 2π out where x is Gaussian: beside its own NLL that would be a false gap of 58.8 nats."""
    vae, pair, x = from_pythae
    vae.float()
    found = evaluate(*pair, x, num_samples=3000, seed=seed)
    mean = found.mean_log_likelihood
    torch.manual_seed(seed)
    with torch.no_grad():
        theirs = vae.get_nll(x.reshape(-1, *SHAPE), n_samples=300, batch_size=300)
        losses = torch.stack([vae({"data": x.reshape(-1, *SHAPE)}).loss for _ in range(300)]).double()
    assert abs(theirs - mean.value) < 6 * mean.mc_se * 11**0.5 + 1e-3
    missing = DIM / 2 * math.log(2 * math.pi) if vae.model_config.reconstruction_loss == "mse" else 0.0
    elbo = -losses.mean() - missing
    assert abs(elbo - found.mean_elbo.value) < 6 * (losses.var() / 300 + found.mean_elbo.mc_se**2) ** 0.5 + 1e-3


@pytest.mark.parametrize(
    ("likelihood", "remedy"),
    [
        (
            "bernoulli",
            r"likelihood='bernoulli' is no likelihood: pass an object, pyrovae\.likelihoods\.Bernoulli\(\)\.",
        ),
        ("mse", r"likelihood='mse' is no likelihood: pass an object, such as pyrovae\.likelihoods\.Bernoulli\(\)\."),
        (
            pyrovae.likelihoods.FixedNormal,
            r"is no likelihood: pass an object, pyrovae\.likelihoods\.FixedNormal\(sigma\)\.",
        ),
        (None, r"likelihood=None is no likelihood: pass an object, such as"),
    ],
)
def test_a_likelihood_is_an_object(likelihood, remedy):
    with pytest.raises(InvalidInputError, match=remedy):
        pyrovae.from_networks(torch.nn.Linear(4, 4), torch.nn.Linear(2, 4), 2, likelihood)
