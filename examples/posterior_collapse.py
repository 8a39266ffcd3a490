"""A decoder that needs no latent gets none: posterior collapse on purpose, seen by `diagnose`, mended by free bits."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyrovae

PIXELS, LATENT, STAY = 20, 2, 0.9


class Strong(pyrovae.Module):
    """z ~ N(0, I), x_d | x_<d, z ~ Bernoulli(sigmoid((x_<d − ½)·w_d + decoder(z)_d)). It begins where w alone explains the data."""

    def __init__(self) -> None:
        super().__init__()
        odds = 2 * torch.logit(torch.tensor(STAY))
        self.before = nn.Parameter(odds * torch.ones(PIXELS - 1).diag(-1))
        self.decoder = pyrovae.MLP(LATENT, PIXELS)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT), 1.0).to_event(1))
            logits = (x - 0.5) @ self.before.tril(-1).mT + pyrovae.over_batch(self.decoder, z)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


torch.set_num_threads(1)  # the tensors are small
torch.manual_seed(0)
# many points, each seen thrice: what few points seem to have in common is something for z to say
steps = 1 - 2 * (torch.rand(60300, PIXELS) > STAY).float()
steps[:, 0] = 2 * torch.rand(60300).round() - 1
x = (steps.cumprod(dim=1) + 1) / 2  # a pixel is the one before it, nine times in ten: all there is to know of it

found, score = {}, {}
for objective in (None, pyrovae.objectives.FreeBits(0.5)):
    model, guide = Strong(), pyrovae.guides.MeanField(PIXELS, LATENT, (32,))
    name = pyrovae.fit(model, guide, x[:60000], epochs=3, batch_size=400, lr=1e-2, objective=objective).objective
    found[name] = pyrovae.diagnose(model, guide, x[60000:])
    score[name] = pyrovae.evaluate(model, guide, x[60000:], num_samples=200).mean_log_likelihood.value
    units = ", ".join(f"{variance:.3f}" for variance in found[name].activity)
    print(f"{name}: Var E[z|x] {units}; KL {float(found[name].kl.mean()):.3f} nats; log p̂(x) {score[name]:.3f}")

collapsed, mended = found.values()
assert collapsed.activity.max() < 0.1
assert collapsed.kl.mean() < 0.1
assert mended.activity.min() > 0.4
assert mended.kl.mean() > 0.9  # λ for each unit
assert abs(score["FreeBits(0.5)"] - score["TraceMeanField_ELBO"]) < 0.1  # as good a density
