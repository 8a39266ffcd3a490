"""fit(): the objective that is passed is the one that is minimised, its losses are nats per point, and bad moments are told."""

import functools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from small_pairs import Location, nothing
from torch import nn

import pyrovae
from pyrovae import InvalidInputError, NonFiniteError, fit
from pyrovae.objectives import default_objective
from pyrovae.pair.structure import inspect_pair


def test_losses_are_nats_per_point_with_a_ragged_last_batch():
    x = torch.randn(10, 3)
    result = fit(Location(), nothing, x, epochs=1, batch_size=4, lr=1e-12)
    expected = 0.5 * (x.square().sum(-1) + 3 * math.log(2 * math.pi)).mean()
    assert result.losses == pytest.approx([expected.item()], rel=1e-5)
    assert result.steps == 3


def test_finds_the_optimum():
    x = torch.randn(50, 3) + torch.tensor([1.0, -2.0, 5.0])
    model = Location()
    fit(model, nothing, x, epochs=300, batch_size=None, lr=0.1)
    torch.testing.assert_close(model.mu.detach(), x.mean(0), atol=1e-3, rtol=0)


def test_the_objective_that_is_passed_is_the_one_that_is_used():
    class Counting(Trace_ELBO):
        calls = 0

        def loss_and_grads(self, *args, **kwargs):
            Counting.calls += 1
            return super().loss_and_grads(*args, **kwargs)

    result = fit(Location(), nothing, torch.randn(8, 3), epochs=2, batch_size=4, objective=Counting())
    assert (Counting.calls, result.objective) == (4, "Counting")


def guide_of(distribution, infer=None):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", distribution(x), infer=infer or {})

    return guide


def continuous(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)


def discrete(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.ones(2) / 2))
        pyro.sample("x", dist.Normal(z.float().unsqueeze(-1), 1.0).to_event(1), obs=x)


def normal(x):
    return dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1)


def multivariate(x):
    return dist.MultivariateNormal(torch.zeros(len(x), 2), torch.eye(2))


def categorical(x):
    return dist.Categorical(torch.ones(len(x), 2) / 2)


@pytest.mark.parametrize(
    ("model", "guide", "objective"),
    [
        (continuous, guide_of(normal), TraceMeanField_ELBO),
        (continuous, guide_of(multivariate), Trace_ELBO),
        (discrete, guide_of(categorical, {"enumerate": "parallel"}), TraceEnum_ELBO),
        (discrete, guide_of(categorical), TraceGraph_ELBO),
    ],
)
def test_default_objective_follows_from_the_sites(model, guide, objective):
    x = torch.randn(6, 1)
    chosen = default_objective(inspect_pair(model, guide, x))
    assert type(chosen) is objective
    assert math.isfinite(chosen.loss(model, guide, x))


def test_same_seed_same_run_and_the_callers_random_state_untouched():
    x = torch.rand(40, 4)

    def run(seed):
        torch.manual_seed(1)
        pair = pyrovae.load("vae")(4, latent=2, hidden=(8,))
        return fit(*pair, x, epochs=3, batch_size=16, seed=seed).losses

    before = run(5)
    state = torch.get_rng_state()
    fit(Location(), nothing, torch.randn(8, 3), epochs=1)
    torch.set_rng_state(state)
    assert run(5) == before
    assert run(6) != before
    torch.manual_seed(9)
    expected = torch.get_rng_state()
    fit(Location(), nothing, torch.ones(8, 3), epochs=2)
    assert torch.equal(torch.get_rng_state(), expected)


def test_unnamed_modules_with_the_same_parameter_names_are_all_trained():
    """Stock SVI finds parameters by name, and of two with one name trains one."""

    class Half(PyroModule):
        def __init__(self, sizes, body):
            super().__init__()
            self.net = nn.Linear(*sizes)
            self.body = body

        def forward(self, x):
            self.body(self.net, x)

    def p(net, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z), 1.0).to_event(1), obs=x)

    def q(net, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(net(x), 1.0).to_event(1))

    model, guide = Half((2, 3), p), Half((3, 2), q)
    before = [value.clone() for value in [*model.parameters(), *guide.parameters()]]
    fit(model, guide, torch.randn(20, 3), epochs=1)
    after = [*model.parameters(), *guide.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_training_one_of_two_leaves_the_other_bit_identical():
    pairs = [pyrovae.load("ppca")(4, latent=2) for _ in range(2)]
    before = {name: value.clone() for name, value in pairs[1][0].state_dict().items()}
    fit(*pairs[0], torch.randn(30, 4), epochs=5)
    assert all(torch.equal(before[name], value) for name, value in pairs[1][0].state_dict().items())


def test_data_that_are_drawn_afresh_are_asked_for_at_every_step():
    class Source:
        asked = 0
        device = torch.device("cpu")

        def __len__(self):
            return 6

        def __getitem__(self, index):
            Source.asked += 1
            return torch.randn(6, 3)[index]

    fit(Location(), nothing, Source(), epochs=4, batch_size=None)
    assert Source.asked >= 4


def test_on_epoch_sees_the_fit_so_far():
    seen = []
    fit(Location(), nothing, torch.randn(8, 3), epochs=3, on_epoch=lambda so_far: seen.append(len(so_far.losses)))
    assert seen == [1, 2, 3]


def test_loss_that_stops_being_a_number_names_step_site_and_point():
    class Explodes(Location):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                loc = torch.where(x > 100, math.nan, self.mu)
                pyro.sample("x", dist.Normal(loc, 1.0, validate_args=False).to_event(1), obs=x)

    x = torch.randn(9, 3)
    x[4] = 200.0
    with pytest.raises(NonFiniteError, match=r"step 1 \(epoch 1\).*site 'x' of the model, data point 4;"):
        fit(Explodes(), nothing, x, epochs=2, batch_size=None)


def test_grey_pixels_anywhere_in_the_data_are_refused_before_training():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1), obs=x)

    x = torch.zeros(300, 2)
    x[299, 1] = 0.5  # not in the first batch
    with pytest.raises(InvalidInputError, match="Point 299 has the value 0.5.*binarise"):
        fit(model, nothing, x, batch_size=10)


def test_pyros_own_words_become_one_sentence():
    with pytest.raises(
        InvalidInputError, match=r"'x' is of shape \(3,\) for each point, and is given values of shape \(4,\)"
    ):
        fit(Location(3), nothing, torch.randn(5, 4))
    with pytest.raises(InvalidInputError, match=r"The guide cannot be run on x of shape \(5, 4\)[^\n]*$"):
        fit(Location(4), pyrovae.guides.MeanField(3, 2), torch.randn(5, 4))


def test_numpy_arrays_are_told_how_to_become_tensors():
    with pytest.raises(InvalidInputError, match=r"x is ndarray: give a tensor .*torch.as_tensor"):
        fit(Location(), nothing, np.ones((5, 3)))
    with pytest.raises(InvalidInputError, match="ndarray .torch.as_tensor converts it"):
        pyrovae.evaluate(Location(), nothing, np.ones((5, 3)))


def test_autoguides_take_all_points_at_once():
    model, _ = pyrovae.load("ppca")(4, latent=2)
    with pytest.raises(InvalidInputError, match="fitted on all at once: batch_size=None"):
        fit(model, AutoNormal(model), torch.randn(20, 4), batch_size=10)


@pytest.mark.parametrize(
    "arguments", [{"epochs": -1}, {"epochs": 1.5}, {"batch_size": 0}, {"lr": 0.0}, {"lr": math.nan}, {"lr": math.inf}]
)
def test_arguments_that_make_no_sense(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(InvalidInputError, match=f"{name} is {value}: give a"):
        fit(Location(), nothing, torch.randn(8, 3), **arguments)


def test_losses_of_a_subsampled_plate_are_still_per_point():
    """SVI scales such a loss up to the whole: 800 points, batches of 100 and a last one of 60."""

    class Part(Location):
        def forward(self, x):
            with pyro.plate("data", 800, subsample=torch.arange(len(x))):
                pyro.sample("x", dist.Normal(self.mu, 1.0).to_event(1), obs=x)

    x = torch.randn(760, 3)
    expected = 0.5 * (x.square().sum(-1) + 3 * math.log(2 * math.pi)).mean()
    assert fit(Part(), nothing, x, epochs=1, batch_size=100, lr=1e-12).losses == pytest.approx(
        [expected.item()], rel=1e-5
    )


def test_a_guide_that_runs_the_other_way_gets_the_unbiased_objective():
    """z₂ → z₁ → x with the exact guide x → z₁ → z₂: the closed-form KL of TraceMeanField_ELBO needs the model's order."""

    def model(x):
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Normal(torch.zeros(len(x)), 1.0))
            low = pyro.sample("low", dist.Normal(top, 1.0))
            pyro.sample("x", dist.Normal(low, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            low = pyro.sample("low", dist.Normal(2 * x[:, 0] / 3, (2 / 3) ** 0.5))
            pyro.sample("top", dist.Normal(low / 2, 0.5**0.5))

    x = torch.randn(5, 1)
    objective = default_objective(inspect_pair(model, guide, x))
    assert -objective.loss(model, guide, x) == pytest.approx(
        dist.Normal(0.0, 3**0.5).log_prob(x).sum().item(), abs=1e-4
    )


DECODER = nn.Linear(2, 3)


def decode(z):
    return DECODER(z)


def model_of_a_notebook(x):
    """Its network is a global name, used by a helper: nothing tells Pyro of it."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(decode(z), 1.0).to_event(1), obs=x)


def test_networks_that_pyro_does_not_see_are_refused():
    decoder = nn.Linear(2, 3)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    class Plain:
        def __init__(self):
            self.parts = {"decoder": decoder}

        def __call__(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.parts["decoder"](z), 1.0).to_event(1), obs=x)

    for hiding in (model, Plain(), Plain().__call__, functools.partial(model), model_of_a_notebook):
        with pytest.raises(InvalidInputError, match=r"Parameter weight of a Linear is never seen by Pyro.*pyro.module"):
            fit(hiding, pyrovae.guides.MeanField(3, 2), torch.randn(9, 3))


def test_a_name_that_is_taken_in_pyros_store_is_refused():
    def build():
        net = nn.Linear(1, 3)

        def model(x):
            pyro.module("decoder", net)
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(net(torch.ones(1)), 1.0).to_event(1), obs=x)

        return model

    fit(build(), nothing, torch.randn(9, 3), epochs=1)
    with pytest.raises(InvalidInputError, match="another parameter under the name 'decoder.*clear_param_store"):
        fit(build(), nothing, torch.randn(9, 3), epochs=1)


def test_grey_pixels_in_a_function_of_x_are_found_in_every_batch():
    class Coins(Location):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Bernoulli(logits=self.mu).to_event(1), obs=x.clone())

    x = torch.zeros(300, 3)
    x[299, 1] = 0.5
    with pytest.raises(InvalidInputError, match="has the value 0.5.*binarise"):
        fit(Coins(), nothing, x, batch_size=10)


def test_a_step_that_cannot_be_computed_names_the_step():
    model, guide = pyrovae.load("gmm")(3, components=2)
    with pytest.raises(NonFiniteError, match=r"Training stopped at step \d+ \(epoch \d+\).*learning rate"):
        fit(model, guide, torch.randn(30, 3), epochs=50, batch_size=None, lr=1e30)


def test_dropout_is_on_while_fitting_and_off_afterwards():
    seen = []

    class Dropping(Location):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            seen.append(self.drop.training)
            super().forward(x)

        def bound(self, x):
            self(x)

    model = Dropping()
    fit(model.bound, nothing, torch.randn(8, 3), epochs=2, batch_size=None)
    assert seen.count(True) == 2  # the two steps
    assert not model.drop.training


def test_a_result_shows_the_elbo_before_and_after() -> None:
    model, guide = pyrovae.load("ppca")(3, latent=1)
    result = pyrovae.fit(model, guide, torch.randn(20, 3), epochs=5)
    before, after = result.initial_elbo, result.history[-1]["elbo"]
    assert f"5 steps in {result.seconds:.1f} seconds: ELBO {before:.3f} → {after:.3f} nats per point" in repr(result)
    assert repr(pyrovae.FitResult(losses=[2.0], history=[{"elbo": math.nan, "loss": 2.0}], steps=1)).endswith(
        "loss 2.000 nats per point)"
    )
