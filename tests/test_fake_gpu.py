"""Every pair on a GPU that is not there: fake tensors have shapes and a device, and no numbers.

An operation on tensors of two devices fails, and so does Python when it reads a value. Without a GPU, autograd cannot go
backward through fake CUDA tensors: gradients are taken on fake tensors of another device, "meta", besides.
"""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from every_pair import DIM, SCORED, build, label, long_run, points
from pyro.infer import Trace_ELBO, TraceGraph_ELBO
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

import pyrovae
from pyrovae.diagnostics.aggregate_posterior import Aggregate, log_density
from pyrovae.estimators.hmc import State, trajectory
from pyrovae.missing import assume_missing
from pyrovae.objectives import default_objective, differentiable_loss, resolve_objective
from pyrovae.pair.execution import isolated_parameters, local_parameters, modules
from pyrovae.pair.importance_weights import guide_density, model_density, run_guide, run_model
from pyrovae.pair.latent_rows import Layout
from pyrovae.pair.sites import density_sites
from pyrovae.pair.structure import inspect_pair
from pyrovae.posterior.joint_density import Joint, per_point

DRAWS = 3
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:[\s\S]*you need to use TraceEnum_ELBO:UserWarning"),
    pytest.mark.filterwarnings(r"ignore:Found vars in model but not guide:UserWarning"),
]
OBJECTIVES = [
    pyrovae.objectives.IWAE(DRAWS), pyrovae.objectives.DReG(DRAWS), pyrovae.objectives.STL(DRAWS), pyrovae.objectives.Renyi(0.5, DRAWS),
    pyrovae.objectives.Beta(2.0), pyrovae.objectives.FreeBits(0.1), pyrovae.objectives.WakeSleep(DRAWS), Trace_ELBO(num_particles=2),
]  # fmt: skip
LIKELIHOODS = [
    pyrovae.likelihoods.BernoulliMean(), pyrovae.likelihoods.Categorical(2), pyrovae.likelihoods.ContinuousBernoulli(),
    pyrovae.likelihoods.DiscretisedLogistic(2), pyrovae.likelihoods.ImageNormal(), pyrovae.likelihoods.LogisticMixture(2),
    pyrovae.likelihoods.StudentT(),
]  # fmt: skip  # besides those of every pair
BACKWARD = "cuda" if torch.cuda.is_available() else "meta"
PRIORS = ("MixtureOfGaussians", "VampPrior", "FlowPrior")


@pytest.fixture(autouse=True)
def nothing_missing():
    """As `fit` and `evaluate` have it: whether entries are missing is known before, and read from no batch."""
    with assume_missing(False):
        yield


class FakePair:
    """A pair and its points on a device that is not there. `structure` was seen on the processor."""

    def __init__(self, model, guide, x, device):
        self.structure = inspect_pair(model, guide, x, scored=False)
        self.real, self.device = (model, guide, x), device
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.model, self.guide = copy.deepcopy((model, guide))
        self.parts = [part for half in modules(self.model, self.guide) for part in half.modules()]
        with self.mode:
            self.x = self.moved(x)
            for part in self.parts:
                part._parameters |= {
                    name: nn.Parameter(self.moved(value), value.requires_grad)
                    for name, value in part._parameters.items()
                    if value is not None
                }
                part._buffers |= {name: self.moved(value) for name, value in part._buffers.items() if value is not None}

    def moved(self, value):
        return self.mode.from_tensor(value.detach()).to(self.device)

    def check(self, values):
        assert {value.device for value in values} == {self.x.device}


def step(pair, objective):
    """Loss, its parts and, where there are any, gradients of one step of training."""
    terms = differentiable_loss(objective, *pair.real, pair.structure)
    assert not isinstance(terms, str), terms
    for part in pair.parts:
        part.training = True
    with pair.mode, local_parameters(pair.model, pair.guide), pyro.validation_enabled(False):
        found = terms(pair.model, pair.guide, pair.x)
        pair.check(found.parts)
        if pair.device == BACKWARD:
            leaves = [leaf for part in pair.parts for leaf in part._parameters.values() if leaf is not None]
            gradients = torch.autograd.grad(
                found.loss, [leaf for leaf in leaves if leaf.requires_grad], allow_unused=True
            )
            pair.check([gradient for gradient in gradients if gradient is not None])


def weigh(pair):
    """Log-weights, as `evaluate` draws them."""
    nesting = pair.structure.max_plate_nesting
    with pair.mode, isolated_parameters(pair.model, pair.guide), torch.no_grad():
        q = run_guide(pair.guide, pair.x, DRAWS, nesting)
        p = run_model(pair.model, pair.x, q, DRAWS, nesting)
        log_q = guide_density(q, pair.x, DRAWS, nesting, check=False)
        pair.check([model_density(p, len(pair.x), DRAWS, nesting, check=False) - log_q])


def anneal(pair):
    """What the search for modes climbs, and one transition of annealing."""
    joint = copy.copy(Joint(*pair.real))
    joint.model, joint.guide, joint.x = pair.model, pair.guide, pair.x

    def value_and_grad(u):
        if pair.device == BACKWARD:
            return per_point(joint.log_prior_and_p, u)
        return joint.log_prior_and_p(u), (u, u)

    with pair.mode, torch.no_grad():
        u = torch.randn(DRAWS, len(pair.x), joint.size, device=pair.device)
        state, accepted = trajectory(State(u, *value_and_grad(u)), 0.5, torch.full_like(u, 0.1), 2, value_and_grad)
        pair.check([state.u, *state.densities, *state.gradients, accepted])


class Faulty(pyrovae.Module):
    """x ~ N(μ, 1), with a fault on the way."""

    def __init__(self, fault):
        super().__init__()
        self.fault, self.mu = fault, nn.Parameter(torch.zeros(DIM))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.fault(self.mu), 1.0).to_event(1), obs=x)


MIXED = RuntimeError, TypeError  # the second, where Pyro adds shapes to a message of torch's
FAULTS = {
    "cpu": (lambda mu: mu.cpu(), MIXED),
    "zeros": (lambda mu: mu + torch.zeros(DIM), MIXED),
    "item": (lambda mu: mu * mu.sum().item(), DataDependentOutputException),
    "if": (lambda mu: mu if mu.sum() > 0 else -mu, DataDependentOutputException),
}


@pytest.mark.parametrize("device", sorted({"cuda", BACKWARD}))
@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(fault, error, device):
    pair = FakePair(Faulty(fault), lambda x: None, points("ppca"), device)
    with pytest.raises(error, match="device" if error is MIXED else "_local_scalar_dense"):
        step(pair, Trace_ELBO())


on_both = pytest.mark.parametrize("device", sorted({"cuda", BACKWARD}))


@on_both
@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(name, options, marks=long_run(options), id=f"{name}-{label(options)}") for name, options in SCORED],
)
def test_every_pair(name, options, device, request):
    if options.get("guide") is pyrovae.guides.NeuralSpline:
        request.applymarker(
            pytest.mark.xfail(
                raises=DynamicOutputShapeException, strict=True, reason="Pyro counts what lies outside [-4, 4]"
            )
        )
    pair = FakePair(*build(name, options), points(name, options), device)
    chosen = {
        type(each): each for each in (default_objective(pair.structure), resolve_objective(pair.guide, pair.structure))
    }
    chosen.pop(TraceGraph_ELBO, None)  # a discrete latent's score function is Pyro's to compute
    for objective in chosen.values():
        step(pair, objective)
    weigh(pair)
    drawn = [latent for latent in pair.structure.latents if not latent.summed_out]
    if drawn and not any(latent.discrete for latent in drawn):
        anneal(pair)


@pytest.mark.parametrize("name", ["gmm", "ppca", "vae"])
def test_one_of_several_gpus(name):
    """Its number is in no constant and no index: torch's default would be another one."""
    pair = FakePair(*build(name, {}), points(name), "cuda:1")
    weigh(pair)
    step(pair, default_objective(pair.structure))
    if name != "gmm":
        anneal(pair)
    assert pair.x.device.index == 1


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", ["vae", pytest.param("ppca", marks=pytest.mark.slow)])
def test_a_step_of_every_objective(name, objective):
    step(FakePair(*build(name, {}), points(name), BACKWARD), objective)  # some differentiate on the way


@on_both
@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior(prior, device):
    pair = FakePair(*build("vae", {"prior": getattr(pyrovae.priors, prior)}), points("vae"), device)
    step(pair, Trace_ELBO())
    weigh(pair)
    anneal(pair)


@on_both
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda each: type(each).__name__)
def test_every_likelihood(likelihood, device):
    decoder = nn.Sequential(pyrovae.MLP(2, DIM), nn.Sigmoid())  # probabilities, where they are read as such
    options = {"decoder": decoder, "latent": 2} if isinstance(likelihood, pyrovae.likelihoods.BernoulliMean) else {}
    pair = FakePair(*build("vae", {"likelihood": likelihood, **options}), points("vae").round(), device)
    step(pair, Trace_ELBO())
    weigh(pair)
    anneal(pair)


@pytest.mark.parametrize("name", ["vae", "ppca", "gmvae"])
def test_blocks_of_diagnose(name):
    pair = FakePair(*build(name, {}), points(name), "cuda")
    layout, nesting = Layout(pair.structure), pair.structure.max_plate_nesting
    with pair.mode, torch.no_grad():
        with isolated_parameters(pair.model, pair.guide):
            q = run_guide(pair.guide, pair.x, DRAWS, nesting)
        rows = {site["name"]: layout.rows(site["name"], site["value"]).flatten(0, 1) for site in density_sites(q)}
        pair.check([log_density(layout, q, DRAWS)])
        owners = torch.arange(len(pair.x), device="cuda").repeat(DRAWS)[:, None]
        pair.check([Aggregate(pair.guide, pair.x, pair.structure, False).log_sum(rows, owners), *rows.values()])
