"""A recorded step is the eager step: same losses, same noise, same parameters; and what cannot be recorded says why.

(That every built-in pair's recording is its eager step, and Pyro's own, is in test_models.py.)
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import nn

import pyrovae
from pyrovae import fit
from pyrovae.compilation.compiling import CompilationError
from pyrovae.objectives import default_objective, differentiable_loss, warm_up
from pyrovae.pair.execution import local_parameters, modules
from pyrovae.pair.parameters import unconstrained_parameters
from pyrovae.pair.structure import inspect_pair
from pyrovae.training.flat_parameters import flatten_parameters
from pyrovae.training.recorded_loss import gradient_of, record_step


def trained(name, record, **options):
    """In double precision: optimisers blow rounding up."""
    torch.manual_seed(0)
    if name == "batch-norm":
        model, guide = Moved(two_latents).requires_grad_(False), Moved(two_draws)
    else:
        model, guide = pyrovae.load(name)(6, **options.pop("pair", {}))
    for module in modules(model, guide):
        module.double()
    x = torch.rand(40, 3 if name == "batch-norm" else 6, generator=torch.Generator().manual_seed(1)).double()
    told = {"epochs": 3, "batch_size": 16, "lr": 1e-3, "seed": 5, **options}  # the last batch has 8
    result = fit(model, guide, x, compile=record, **told)
    return result, [value for module in modules(model, guide) for value in module.state_dict().values()]


class Moved(pyrovae.Module):
    """A pair's half, with a body that can do anything."""

    def __init__(self, body):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 4))
        self.body = body

    def forward(self, x):
        self.body(self, x)


def other_optimiser(params, lr):
    return torch.optim.SGD(params, lr / 10, momentum=0.9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ppca", {"max_grad_norm": 5.0, "ema_decay": 0.9, "pair": {"latent": 2}}),
        pytest.param(
            "gmm", {"pair": {"components": 3}, "batch_size": None}, marks=[pytest.mark.compiled, pytest.mark.slow]
        ),
        ("batch-norm", {"kl_warmup_fraction": 0.5, "batch_size": 20}),
        pytest.param(
            "ppca",
            {"optimizer": other_optimiser, "pair": {"latent": 2}, "batch_size": None},
            marks=[pytest.mark.processor, pytest.mark.compiled, pytest.mark.slow],
        ),
    ],
    ids=["clip-and-average", "enumerated", "warm-up", "other-optimiser"],
)
def test_recorded_and_eager_training_are_the_same(name, options):
    eager, expected = trained(name, False, **dict(options))
    recorded, found = trained(name, True, **dict(options))
    assert recorded.execution == "steps recorded and compiled: compile=True"
    assert eager.execution == "eager steps: compile=False"
    assert recorded.losses == pytest.approx(eager.losses, rel=1e-8)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)
    for row, other in zip(recorded.history, eager.history, strict=True):
        for name in ("elbo", "reconstruction", "kl", "grad_norm"):
            assert row[name] == pytest.approx(other[name], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae", {"max_grad_norm": 5.0, "ema_decay": 0.9, "pair": {"latent": 2, "hidden": (8,)}, "epochs": 50}),
        ("gmm", {"pair": {"components": 3}, "batch_size": None, "epochs": 50}),
        ("batch-norm", {"kl_warmup_fraction": 0.5, "batch_size": 20, "epochs": 25}),
        ("ppca", {"optimizer": other_optimiser, "pair": {"latent": 2}, "epochs": 20}),
    ],
    ids=["clip-and-average", "enumerated", "warm-up", "other-optimiser"],
)
def test_replayed_and_eager_training_are_the_same(name, options):
    """The same draws, so the same losses to rounding, and nearly the same parameters, where Adam divides rounding by itself."""
    eager, expected = trained(name, False, **dict(options))
    replayed, found = trained(name, None, **dict(options))
    assert replayed.execution == f"steps recorded and replayed: {eager.steps} of them, fewer than 15000"
    assert replayed.losses == pytest.approx(eager.losses, rel=1e-9)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    for row, other in zip(replayed.history, eager.history, strict=True):
        for name in ("elbo", "reconstruction", "kl", "grad_norm"):
            assert row[name] == pytest.approx(other[name], rel=1e-6)


class Tempered(pyrovae.Module):
    """Its number in Python may be changed between epochs."""

    temperature = 1.0

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.mean, self.temperature).to_event(1), obs=x)


def test_an_attribute_that_a_callback_changes_is_seen():
    x, losses = torch.randn(8, 3), []
    for compile in (False, None):
        model = Tempered()
        model.temperature = 1.0

        def cool(result, model=model):
            model.temperature *= 0.9

        found = fit(model, lambda x: None, x, epochs=60, batch_size=None, compile=compile, on_epoch=cool)
        losses.append(found.losses)
    assert found.execution == "eager steps: an attribute of a module has changed since the steps were recorded"
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def two_latents(module, x):
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        b = pyro.sample("b", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.cat([a, a * b], -1)[..., :3], 0.7).to_event(1), obs=x)


def two_draws(module, x):
    loc, scale = module.net(x).chunk(2, -1)
    with pyro.plate("data", len(x)):
        for name in "ab":  # equal in all but their noise
            pyro.sample(name, dist.Normal(loc, scale.exp()).to_event(1))


def same_step(model, guide, x, objective=None, beta=None):
    """Recorded and eager loss, gradient and buffers on another batch, after parameters and buffers have moved."""
    structure = inspect_pair(model, guide, x)
    objective = objective or default_objective(structure)
    for module in modules(model, guide):
        module.train()
    beta = torch.ones(()) if beta is None else beta
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

        buffers = [buffer for module in modules(model, guide) for buffer in module.buffers()]
        before = [buffer.clone() for buffer in buffers]
        graph, held = record_step(loss, flat, x, beta, modules(model, guide))
        for buffer, value in zip(buffers, before, strict=True):
            assert torch.equal(buffer, value)
        flat.set(flat.vector * 1.1)
        with torch.no_grad():
            for buffer in buffers:
                buffer.add_(1)
        before = [buffer.clone() for buffer in buffers]
        other = x.roll(1, 1)
        torch.manual_seed(3)
        with torch.no_grad():
            (value, _), gradient = graph(*flat.views(flat.vector.data), other, beta * 0.5, *held)
        after = [buffer.clone() for buffer in buffers]
        with torch.no_grad():
            for buffer, old in zip(buffers, before, strict=True):
                buffer.copy_(old)
        torch.manual_seed(3)
        expected, expected_gradient = gradient_of(loss, flat)(other, beta * 0.5)
        torch.testing.assert_close(value, expected.loss, rtol=1e-5, atol=1e-5)
        # a bias before BatchNorm has the gradient 0, but for the rounding of terms as large as the others' gradients
        rounding = 8 * torch.finfo(x.dtype).eps * max(float(each.abs().max()) for each in expected_gradient)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=rounding)
        for buffer, moved in zip(buffers, after, strict=True):
            torch.testing.assert_close(buffer, moved)
        return float(value)


@pytest.mark.compiled
def test_equal_latents_keep_their_own_noise_and_buffers_and_dropout_are_live():
    same_step(Moved(two_latents), Moved(two_draws), torch.randn(8, 3))


@pytest.mark.compiled
@pytest.mark.parametrize("objective", [Trace_ELBO(), Trace_ELBO(num_particles=3), TraceMeanField_ELBO()])
def test_every_objective_that_can_be_recorded(objective):
    same_step(Moved(two_latents), Moved(two_draws), torch.randn(8, 3), objective)


@pytest.mark.compiled
def test_a_class_that_the_model_sums_out_itself_in_a_subsampled_plate_with_an_inner_one():
    """log Σ_k p(x, k), scaled outside its logarithm."""

    def model(x):
        logits = pyro.param("logits", torch.zeros(3))
        means = pyro.param("means", torch.randn(3, 4))
        with pyro.plate("data", 32, subsample=x):
            k = pyro.sample("k", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("columns", 4, dim=-2):
                loc = means[k[..., 0] if k.dim() > 1 else k].transpose(-1, -2)
                pyro.sample("x", dist.Normal(loc + z, 1.0), obs=x.T)

    def guide(x):
        with pyro.plate("data", 32, subsample=x):
            pyro.sample("z", dist.Normal(x.mean(-1), pyro.param("s", torch.tensor(0.4))))

    x = torch.randn(8, 4)
    structure = inspect_pair(model, guide, x)
    objective = default_objective(structure)
    assert isinstance(objective, TraceEnum_ELBO)
    terms = differentiable_loss(objective, model, guide, x, structure)
    assert not isinstance(terms, str), terms
    torch.manual_seed(1)
    mine = terms(model, guide, x).loss
    torch.manual_seed(1)
    stock = objective.differentiable_loss(model, guide, x)
    torch.testing.assert_close(mine, stock)
    leaves = [pyro.get_param_store()._params[name] for name in ("logits", "means", "s")]
    for one, other in zip(torch.autograd.grad(mine, leaves), torch.autograd.grad(stock, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.compiled
def test_operations_that_autograd_does_not_see_are_recorded_as_they_ran():
    """Differentiating a recording would see through no_grad: the recording of the gradient is used then."""

    def body(module, x):
        with torch.no_grad():
            shift = module.net[3].weight.square().sum()
        two_latents(module, x + shift)

    same_step(Moved(body), Moved(two_draws), torch.randn(8, 3))


def cannot(model, guide, x):
    structure = inspect_pair(model, guide, x)
    terms = differentiable_loss(default_objective(structure), model, guide, x, structure)
    if isinstance(terms, str):
        return terms
    leaves = unconstrained_parameters(x, guide, model)
    with local_parameters(model, guide), pyro.validation_enabled(False), flatten_parameters(leaves) as flat:
        with pytest.raises(CompilationError) as error:
            record_step(lambda x, beta: terms(model, guide, x), flat, x, torch.ones(()), modules(model, guide))
        return str(error.value)


def test_what_cannot_be_recorded_says_why():
    x = torch.randn(8, 3)

    def branches(module, x):
        two_latents(module, x if x.sum() > 0 else -x)

    assert "reads a tensor's value on the host" in cannot(Moved(branches), Moved(two_draws), x)

    def counts(module, x):
        module.calls = getattr(module, "calls", 0) + 1
        two_latents(module, x + module.calls)

    assert "changes an attribute or replaces a buffer of a module at each call" in cannot(
        Moved(counts), Moved(two_draws), x
    )

    def replaces(module, x):
        module.register_buffer("last", x.detach().mean())  # where .copy_() into one that is there would be recorded
        two_latents(module, x + module.last)

    assert "changes an attribute or replaces a buffer of a module at each call" in cannot(
        Moved(replaces), Moved(two_draws), x
    )
    calls = []

    def counts_outside(module, x):
        calls.append(1)
        two_latents(module, x + len(calls))

    assert "does something else at another call" in cannot(Moved(counts_outside), Moved(two_draws), x)


def scored(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.ones(2) / 2))
        pyro.sample("x", dist.Normal(z.float().unsqueeze(-1), 1.0).to_event(1), obs=x)


def score_function(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Categorical(logits=pyro.param("logits", torch.zeros(2))))


def test_a_score_function_guide_trains_eagerly_and_says_why():
    result = fit(scored, score_function, torch.randn(8, 1), epochs=2, compile=True)
    assert result.execution == "eager steps: TraceGraph_ELBO reads its loss on the host"
    result = fit(scored, score_function, torch.randn(8, 1), epochs=2, compile=True, objective=Trace_ELBO())
    assert result.execution.endswith("latent 'z' is drawn without reparameterisation (score-function gradient)")


def test_without_a_compiler_training_is_eager_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    result, _ = trained("ppca", True, pair={"latent": 2})
    assert result.execution.startswith("steps recorded and replayed: there is no C++ compiler")


def test_very_short_fits_stay_eager_by_themselves():
    result, _ = trained("ppca", None, pair={"latent": 2})
    assert result.execution == "eager steps: 9 of them, fewer than 50"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_step_that_is_no_number_moves_nothing_recorded_or_not(recorded):
    class Root(pyrovae.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal((self.scale * x).sqrt(), 1.0).to_event(1), obs=x)

    x = torch.rand(8, 3)
    x[5] = 0.0  # there the square root's slope is infinite: the gradient is 0 · ∞, and the loss a number
    model = Root()
    with pytest.raises(
        pyrovae.NonFiniteError,
        match=r"at step 1 \(epoch 1\): gradient nan of site 'x' .* by parameter scale, data point 5;",
    ):
        fit(model, lambda x: None, x, epochs=1, batch_size=None, compile=recorded)
    assert torch.equal(model.scale.detach(), torch.ones(3))
