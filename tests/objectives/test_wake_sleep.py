"""Wake–sleep: against Pyro's own ReweightedWakeSleep, where that is right, and by what it learns."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import ReweightedWakeSleep
from torch import nn

import pyrovae
from pyrovae import EM, InvalidInputError, fit
from pyrovae.objectives import WakeSleep
from pyrovae.pair.structure import inspect

DIM = 5


def pair():
    model, _ = pyrovae.load("ppca")(DIM, latent=2)
    return model.double(), pyrovae.guides.LinearGaussian(DIM, latent=2).double()


def pyros(model, guide, x, num_samples, insomnia):
    """Pyro's object calls the guide with what the model dreamt, by keyword, and gives back two losses."""
    stock = ReweightedWakeSleep(
        num_samples, insomnia=insomnia, vectorize_particles=True, max_plate_nesting=1, num_sleep_particles=1
    )
    stock.loss_and_grads(model, lambda x, observations=None: guide(observations["x"] if observations else x), x)
    return stock


@pytest.mark.parametrize("insomnia", [0.0, 0.3, 1.0])
def test_on_one_point_it_is_pyros(insomnia, seed):
    """The same gradient of every parameter for the same noise."""
    num_samples, (model, guide) = 4, pair()
    x = torch.randn(1, DIM).double()
    leaves = [*model.parameters(), *guide.parameters()]
    found = []
    for run in (
        lambda: WakeSleep(num_samples, insomnia).loss_and_grads(model, guide, x),
        lambda: pyros(model, guide, x, num_samples, insomnia),
    ):
        for leaf in leaves:
            leaf.grad = None
        torch.manual_seed(seed)
        run()
        found.append([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_each_point_has_weights_of_its_own(seed):
    """A batch's gradient is the sum of its points', at the same draws; Pyro's is not, whose weights are products over the batch."""
    model, guide = pair()
    x = torch.randn(4, DIM).double()
    leaves, structure = [*model.parameters(), *guide.encoder.parameters()], inspect(model, guide, x)

    def gradient(points, noise):
        """With these draws of noise (K, N, 2) in the place of torch's."""
        torch.manual_seed(seed)
        loc, scale = guide.encoder(points), torch.eye(2).double()

        def fixed(x):
            with pyro.plate("data", len(x)):
                fn = dist.MultivariateNormal(guide.encoder(x), scale_tril=scale)
                pyro.sample("z", Given(fn, loc + noise))

        loss = WakeSleep(3, 1.0).batch(model, fixed, points, structure).loss
        return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, leaves)])

    noise = torch.randn(3, 4, 2).double()
    apart = sum(gradient(x[n : n + 1], noise[:, n : n + 1]) for n in range(4))
    torch.testing.assert_close(gradient(x, noise), apart, rtol=1e-9, atol=1e-9)


class Given(dist.MultivariateNormal):
    """Whose draw is what it is given."""

    def __init__(self, fn, value):
        super().__init__(fn.loc, scale_tril=fn.scale_tril)
        self.value = value

    def expand(self, batch_shape, _instance=None):
        return Given(dist.MultivariateNormal(self.loc, scale_tril=self.scale_tril).expand(batch_shape), self.value)

    def rsample(self, sample_shape=()):
        return self.value


def test_ppca_learns_by_it():
    """Begun nats away, its log p(x) ends less than 0.01 nats from the maximum, which EM finds, and the guide as near the posterior."""
    truth, _ = pair()
    x = (torch.randn(500, 2).double() @ torch.randn(2, DIM).double()) + 0.5 * torch.randn(500, DIM).double()
    EM()(truth, x)
    best = truth.log_prob(x).mean().item()
    model, guide = pair()
    model.initialised.fill_(True)  # by itself it would begin at the maximum
    assert best - model.log_prob(x).mean().item() > 1.0
    result = fit(model, guide, x, epochs=300, batch_size=None, lr=5e-2, objective=WakeSleep(5), compile=False)
    assert best - model.log_prob(x).mean().item() < 0.01
    evidence = pyrovae.evaluate(model, guide, x[:200], num_samples=200)
    assert (evidence.mean_exact_log_likelihood.value - evidence.mean_elbo.value) < 0.01
    assert result.objective == "WakeSleep(5, 0)"


def test_classes_that_are_drawn_learn_by_it():
    """A guide without reparameterisation: z ∈ {0, 1} at ∓2, q(z|x) a logistic line, which holds the posterior."""

    class Two(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.tensor([-0.5, 0.5]).double())

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Categorical(x.new_ones(2) / 2))
                pyro.sample("x", dist.Normal(self.loc[z].unsqueeze(-1), 1.0).to_event(1), obs=x)

    class Line(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.zeros(()).double())

        def forward(self, x):
            logit = self.slope * x.squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Categorical(logits=torch.stack([torch.zeros_like(logit), logit], -1)))

    x = torch.cat([torch.randn(200, 1) - 2.0, torch.randn(200, 1) + 2.0]).double()
    model, guide = Two(), Line()
    fit(model, guide, x, epochs=40, batch_size=40, lr=5e-2, objective=WakeSleep(5, 0.5))
    exact = torch.logsumexp(dist.Normal(model.loc, 1.0).log_prob(x), -1).mean() - torch.tensor(2.0).log()
    best = torch.logsumexp(dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).log_prob(x), -1).mean() - torch.tensor(2.0).log()
    assert best - exact < 0.02
    log_w = pyrovae.log_weights(model, guide, x, 100)
    assert exact - log_w.mean() < 0.02


def test_what_is_no_share_is_refused():
    with pytest.raises(InvalidInputError, match="insomnia is 1.5: give the wake phase's share"):
        WakeSleep(2, 1.5)
