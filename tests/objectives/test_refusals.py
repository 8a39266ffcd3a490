"""What fit says of an objective that it cannot train by, before the first step."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyrovae
from pyrovae import InvalidInputError, fit, load
from pyrovae.loading.options import parse_objective
from pyrovae.objectives import DReG, FreeBits, Renyi, WakeSleep


def refused(said, name, objective, dim=4, **arguments):
    model, guide = load(name)(dim)
    with pytest.raises(InvalidInputError, match=said):
        fit(model, guide, torch.rand(20, dim), epochs=1, objective=objective, **arguments)


def test_a_name_is_no_object():
    refused(r"give the object, such as DReG\(3\)", "vae", "DReG(3)")
    refused(r"give the object, such as DReG\(…\)", "vae", DReG)
    refused("is no Pyro ELBO, and has no terms", "vae", 3.0)


def test_terms_are_terms():
    class Plain:
        def terms(self, model, guide, x):
            return Trace_ELBO().differentiable_loss(model, guide, x)

    refused(r"return pyrovae.objectives.Terms\(loss, reconstruction\)", "ppca", Plain())


def test_an_objective_that_knows_no_weight_on_the_kl_is_not_warmed_up():
    """Whether the guide names it or the caller does."""
    own = load("diffusion").module.OneStep()
    refused(
        "kl_warmup_fraction weights the KL of Pyro's objectives, and OneStep", "diffusion", None, kl_warmup_fraction=0.5
    )
    refused(
        "kl_warmup_fraction weights the KL of Pyro's objectives, and OneStep", "diffusion", own, kl_warmup_fraction=0.5
    )


@pytest.mark.parametrize(
    "objective", [Trace_ELBO(), WakeSleep(2), pyrovae.objectives.Beta(2.0)], ids=lambda value: type(value).__name__
)
def test_a_guide_that_knows_one_z_is_trained_by_its_own_objective_alone(objective):
    refused("has no gradient of: leave objective out, and the guide's own, StraightThrough", "vqvae", objective)


def test_free_bits_are_of_latents():
    refused("about the KL of latents, and the pair has none", "gaussian", FreeBits(0.1))


def test_a_dream_is_of_xs_shape():
    model, guide = load("conditional_vae")(4)
    x = torch.cat([torch.rand(20, 3), torch.randint(0, 10, (20, 1)).float()], dim=1)
    with pytest.raises(InvalidInputError, match="dreams nothing of x's shape"):
        fit(model, guide, x, epochs=1, objective=WakeSleep(2))


def test_a_number_of_draws_is_no_truth_value():
    with pytest.raises(InvalidInputError, match="give the number of draws"):
        DReG(True)


def test_a_guide_may_keep_an_elbo_under_that_name():
    class Guide(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.objective = Trace_ELBO()
            self.loc = torch.nn.Parameter(torch.zeros(2))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    assert fit(model, Guide(), torch.rand(20, 2), epochs=1).steps == 1


@pytest.mark.parametrize(
    "objective",
    [Renyi(-float("inf"), 5), pyrovae.objectives.IWAE(1_000_000), pyrovae.objectives.Beta(0.12345678), Renyi(0.5, 3)],
    ids=repr,
)
def test_it_is_written_so_that_it_is_read_again(objective):
    again = parse_objective(repr(objective))
    assert (type(again), again.hyperparameters()) == (type(objective), objective.hyperparameters())
