"""Every pair in models/, found by being there: the contract, the constants, stock Pyro, and nothing shared."""

import ast
import inspect
import itertools
import re
from pathlib import Path

import pyro
import pytest
import torch
from every_pair import CASES, GUIDES, SCORED, TRAINED, build, label, long_run, points
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch import nn

import pyrovae
from pyrovae import check_pair, fit, load, log_weights
from pyrovae.compilation.replaying import replay_graph
from pyrovae.objectives import HasTerms, default_objective, differentiable_loss, resolve_objective
from pyrovae.pair.execution import local_parameters, modules
from pyrovae.pair.parameters import unconstrained_parameters
from pyrovae.pair.structure import inspect_pair as look
from pyrovae.training.flat_parameters import flatten_parameters, joined
from pyrovae.training.recorded_loss import gradient_of, record_step

pytestmark = [
    # Trace_ELBO draws the mixtures' latents, and says that TraceEnum_ELBO would sum them out;
    pytest.mark.filterwarnings(r"ignore:[\s\S]*you need to use TraceEnum_ELBO:UserWarning"),
    # and those that only the model names, from their prior.
    pytest.mark.filterwarnings(r"ignore:Found vars in model but not guide:UserWarning"),
]
every_pair = pytest.mark.parametrize(("name", "options"), CASES, ids=label)
every_scored_pair = pytest.mark.parametrize(("name", "options"), SCORED, ids=label)
pairs_trained = pytest.mark.parametrize(("name", "options"), TRAINED, ids=label)


MODEL_FILES = sorted((Path(__file__).parent.parent / "models").glob("*.py"))


def names_used(file):
    """Dotted names of pyrovae that a file imports or reads, such as `pyrovae.guides.MeanField`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pyrovae")
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "pyrovae"):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and re.fullmatch(r"pyrovae(\.\w+)+", dotted := ast.unparse(node)):
            yield dotted


def is_public(dotted):
    """Whether it is `pyrovae.X`, or `pyrovae.NAMESPACE.X`, and each `__all__` lists it; or it is another model."""
    root, *names = dotted.split(".")
    if root != "pyrovae" or names[:1] == ["models"]:
        return root == "pyrovae"
    if not names:
        return True
    if names[0] not in pyrovae.__all__:
        return False
    return len(names) == 1 or names[0] not in pyrovae.NAMESPACES or names[1] in getattr(pyrovae, names[0]).__all__


@pytest.mark.parametrize("file", MODEL_FILES, ids=lambda file: file.stem)
def test_models_use_public_names_only(file):
    assert [dotted for dotted in names_used(file) if not is_public(dotted)] == []


def test_a_private_name_is_found(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import pyrovae.pair.sites\nfrom pyrovae.pair.structure import inspect\nfrom .vae import VAE\n"
        "pyrovae.guides.amortised.positive, pyrovae.guides.Amortised, pyrovae.MeanField, pyrovae.likelihoods.math\n"
    )
    private = {dotted for dotted in names_used(file) if not is_public(dotted)}
    assert private >= {
        "pyrovae.pair.sites",
        "pyrovae.pair.structure.inspect",
        ".vae.VAE",
        "pyrovae.guides.amortised",
        "pyrovae.MeanField",
        "pyrovae.likelihoods.math",
    }
    assert "pyrovae.guides.Amortised" not in private


def test_the_walk_finds_the_files():
    assert {"gmm", "ppca", "vae", "bernoulli_mixture", "bernoulli_pca"} <= {name for name, _ in CASES}
    assert len(CASES) >= 20
    assert {options["guide"] for _, options in TRAINED if "guide" in options} >= set(GUIDES)


@every_scored_pair
def test_contract(name, options):
    check_pair(*build(name, options), points(name, options))


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES} - {name for name, _ in SCORED}))
def test_without_a_density_there_is_a_sentence_instead_of_a_number(name):
    model, guide = build(name, {})
    for ask in (check_pair, pyrovae.evaluate, log_weights):
        with pytest.raises(pyrovae.InvalidInputError, match=r"has no log p\(x\)"):
            ask(model, guide, points(name))


@pairs_trained
def test_one_sample_weights_have_the_mean_of_the_objective(name, options, seed):
    """Training loss and evidence use the same constants: 400 draws of each, 6 standard errors. A loss is of ten copies of x."""
    model, guide = build(name, options, torch.float64)
    x = points(name, options, 4, torch.float64)
    torch.manual_seed(seed)
    objective = default_objective(look(model, guide, x))
    copies = x.repeat(10, 1)
    with torch.no_grad():
        weights = log_weights(model, guide, x, num_samples=400).mean(dim=1)
        losses = torch.tensor([objective.loss(model, guide, copies) for _ in range(40)], dtype=torch.float64)
    losses /= len(copies)
    error = (weights.var() / 400 + losses.var() / 40).sqrt()
    assert abs(weights.mean() + losses.mean()) < 6 * error + 1e-9


# argmin has no gradient: only the objective that Nearest names moves its encoder. Of the pairs that take a likelihood, the vae
# is trained with each.
stock_pairs_trained = pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, marks=long_run(options))
        for name, options in TRAINED
        if (name != "vqvae" or "Soft" in label(options)) and ("likelihood" not in options or name == "vae")
    ],
    ids=label,
)


@stock_pairs_trained
def test_trained_by_stock_svi(name, options):
    """The store is on, as Pyro has it by default: parameters move, every one of them, and the loss comes down."""
    model, guide = build(name, options)
    x = points(name, options)
    before = [value.clone() for value in unconstrained_parameters(x, guide, model)]
    svi = SVI(model, guide, pyro.optim.Adam({"lr": step_size(name, options)}), stock_objective(model, guide, x))
    assert comes_down(svi, x, copies=10)
    after = unconstrained_parameters(x, guide, model)
    assert len(before) == len(after)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def stock_objective(model, guide, x):
    """Pyro's plainest that takes the pair: what the guide leaves out must be summed."""
    summed_out = any(latent.summed_out for latent in look(model, guide, x).latents)
    return TraceEnum_ELBO(max_plate_nesting=1) if summed_out else Trace_ELBO()


def step_size(name, options=None):
    networks = {"hidden", "width"} & set(load(name).options) or (options or {}).get(
        "guide"
    ) is pyrovae.guides.AmortisedCategorical
    return 0.002 if networks else 0.02  # networks of 200 units want smaller steps


def comes_down(svi, x, copies=1, steps=100):
    """Means of 50 losses of x before and after: one loss of one draw says little. A loss can be of several copies of x."""
    many = x.repeat(copies, 1)
    before = sum(svi.evaluate_loss(many) for _ in range(50 // copies))
    for _ in range(steps):
        svi.step(x)
    return sum(svi.evaluate_loss(many) for _ in range(50 // copies)) < before


@pairs_trained
def test_two_of_one_class_share_nothing(name, options):
    if any(isinstance(value, nn.Module) for value in options.values()):
        options = {}  # one likelihood object given to two models is one object
    first, second = (build(name, options) for _ in range(2))
    x = points(name, options)
    shared = {id(p) for p in unconstrained_parameters(x, *first[::-1])} & {
        id(p) for p in unconstrained_parameters(x, *second[::-1])
    }
    assert not shared
    before = loss_of(second, x)
    fit(*first, x, epochs=2, lr=0.01)
    objective = stock_objective(*first, x)
    SVI(*first, pyro.optim.Adam({"lr": 0.01}), objective).step(x)  # by name, in Pyro's global store
    SVI(*second, pyro.optim.Adam({"lr": 0.0}), objective).step(x)
    assert loss_of(second, x) == before


def loss_of(pair, x):
    torch.manual_seed(0)
    with local_parameters(*pair), torch.no_grad():
        return Trace_ELBO().loss(*pair, x)


@pytest.mark.parametrize(
    ("name", "autoguide"), list(itertools.product(("ppca", "vae"), (AutoNormal, AutoMultivariateNormal)))
)
def test_trained_with_pyros_autoguides_on_a_full_batch(name, autoguide):
    model, _ = build(name, {"latent": 2})
    guide = autoguide(model)
    x = points(name, count=12)
    assert comes_down(SVI(model, guide, pyro.optim.Adam({"lr": step_size(name)}), Trace_ELBO()), x)


def test_autoguide_is_scored_and_fitted_like_our_own():
    model, _ = build("ppca", {"latent": 2})
    x = points("ppca", count=12)
    guide = AutoNormal(model)
    fit(model, guide, x, epochs=300, batch_size=None, lr=0.05)
    found = pyrovae.evaluate(model, guide, x, num_samples=2000)
    assert (found.log_likelihood < found.exact_log_likelihood + 6 * found.log_likelihood_se + 1e-4).all()
    assert (found.elbo < found.exact_log_likelihood + 6 * found.elbo_se).all()
    assert found.mean_gap.value > 0


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_says_what_it_is(name):
    pair = load(name)
    assert set("~=") & set(pair.summary)  # a name and an equation
    assert inspect.getdoc(pair.module.pair)
    assert set(pair.recipe) <= {*inspect.signature(fit).parameters, "steps"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            pytest.param(name, options, id=f"{name}-{label(options)}", marks=long_run(options))
            for name, options in TRAINED
        ),
        *(
            pytest.param(name, {}, marks=[pytest.mark.compiled, pytest.mark.slow], id=f"{name}-compiled")
            for name, options in TRAINED
            if not options
        ),
    ],
)
def test_a_recorded_step_is_the_eager_step(name, options):
    """The same loss and gradient for the same noise, on a batch that was not recorded, after parameters have moved; and the loss
    is the one of Pyro's own objective. The guide's objective, where it has one, and the default."""
    model, guide = build(name, options, torch.float64)
    x, other = points(name, options, 20, torch.float64), points(name, options, 24, torch.float64)[4:]
    if hasattr(model, "initialise"):
        model.initialise(other)
    structure = look(model, guide, x, scored=False)
    every = {type(chosen): chosen for chosen in (default_objective(structure), resolve_objective(guide, structure))}
    if TraceGraph_ELBO in every:  # a discrete latent's score function is Pyro's to compute
        assert (
            differentiable_loss(every.pop(TraceGraph_ELBO), model, guide, x, structure)
            == "TraceGraph_ELBO reads its loss on the host"
        )
    for objective in every.values():
        check_recorded(objective, model, guide, x, other, structure)


def check_recorded(objective, model, guide, x, other, structure):
    leaves = unconstrained_parameters(x, guide, model)
    one = torch.ones((), dtype=torch.float64)
    with local_parameters(model, guide), pyro.validation_enabled(False), flatten_parameters(leaves) as flat:
        terms = differentiable_loss(objective, model, guide, x, structure)
        assert not isinstance(terms, str), terms

        def loss(x, beta):
            return terms(model, guide, x)

        graph, held = record_step(loss, flat, x, one, modules(model, guide))
        flat.set(flat.vector * 1.01)
        torch.manual_seed(3)
        with torch.no_grad():
            (value, reconstruction), gradient = graph(*flat.views(flat.vector.data), other, one, *held)
        torch.manual_seed(3)
        expected, expected_gradient = gradient_of(loss, flat)(other, one)
        inputs = [*flat.views(flat.vector.data), x, one, *held]
        torch.manual_seed(3)
        with torch.no_grad():
            replayed = replay_graph(graph, inputs, len(flat.leaves))(other)
    torch.testing.assert_close(replayed, ((value, reconstruction), gradient), rtol=1e-12, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(value, expected.loss, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(joined(gradient), joined(expected_gradient), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(reconstruction, expected.reconstruction, rtol=1e-9, atol=1e-9, equal_nan=True)
    if isinstance(objective, HasTerms):
        return  # it has nothing beside its terms
    with local_parameters(model, guide), pyro.validation_enabled(False):
        torch.manual_seed(3)
        stock = objective.loss_and_grads(model, guide, other)
    assert float(value) == pytest.approx(stock, rel=1e-9)
    stock_gradient = torch.cat([leaf.grad.reshape(-1) for leaf in leaves])
    torch.testing.assert_close(joined(gradient), stock_gradient, rtol=1e-6, atol=1e-9)
