"""Recorded, compiled and screened weights against Pyro's own, on every kind of pair; and when there is nothing to record."""

import math
import shutil
import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from low_precision import no_reason_against
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pyrovae
from pyrovae import evaluate
from pyrovae.estimators import compiled_log_weights as recording
from pyrovae.estimators import compiled_scoring as fast
from pyrovae.estimators import guide_draws as drawing
from pyrovae.utils import precision as low_precision_support

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler to compile with")


def built(name, **options):
    """A pair that has learned a little, and held-out points."""
    binary = name.startswith("bernoulli") or "likelihood" in options
    data = pyrovae.load_data("digits", "binarise" if binary else None)
    model, guide = pyrovae.load(name)(data.dim, **options)
    pyrovae.fit(model, guide, data.train, epochs=10, lr=3e-3)
    return model, guide, data.test[:12]


PAIRS = {
    "vae": lambda: built("vae"),
    "vae of bits": lambda: built("vae", likelihood=pyrovae.likelihoods.Bernoulli(), latent=20),
    "vae, full covariance": lambda: built("vae", guide=pyrovae.guides.FullCovariance),
    "ppca, mean field": lambda: built("ppca", guide=pyrovae.guides.MeanField),
    "ppca, exact": lambda: built("ppca"),
    "bernoulli_pca": lambda: built("bernoulli_pca"),
    "gmm": lambda: built("gmm"),
    "bernoulli_mixture": lambda: built("bernoulli_mixture", guide=pyrovae.guides.AmortisedCategorical),
}


QUICK = ("vae of bits", "ppca, exact", "gmm")  # one of each kind of latent; `pytest -m slow` takes the others


@pytest.fixture
def runs_of_the_graph(monkeypatch):
    """How many blocks were scored by a recording."""
    count, original = [], recording.CompiledLogWeights.__call__

    def call(self, *args):
        count.append(1)
        return original(self, *args)

    monkeypatch.setattr(recording.CompiledLogWeights, "__call__", call)
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 600})
    monkeypatch.setattr("pyrovae.estimators.batch_layout.TABLE_BLOCK_ROWS", 600)
    monkeypatch.setattr("pyrovae.estimators.batch_layout.MAX_BLOCK_DRAWS", 100)
    return count


@pytest.fixture(autouse=True)
def screens_are_used(monkeypatch):
    """Whether low precision is faster here or not."""
    monkeypatch.setattr(low_precision_support, "reason_against", no_reason_against)


@pytest.mark.compiled
@needs_compiler
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vae", marks=pytest.mark.slow),
        pytest.param("vae of bits", marks=pytest.mark.slow),
        pytest.param("vae, full covariance", marks=pytest.mark.slow),
        pytest.param("ppca, exact", marks=[pytest.mark.processor, pytest.mark.slow]),
        pytest.param("bernoulli_mixture", marks=pytest.mark.slow),
    ],
)
def test_a_recording_changes_no_number_but_by_rounding(name, runs_of_the_graph):
    model, guide, x = PAIRS[name]()
    slow = evaluate(model, guide, x, num_samples=500, compile=False)
    assert not runs_of_the_graph
    fast = evaluate(model, guide, x, num_samples=500, compile=True)
    assert len(runs_of_the_graph) >= 10
    for statistic in ("log_likelihood", "elbo"):
        torch.testing.assert_close(getattr(fast, statistic), getattr(slow, statistic), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.processor if name in ("vae of bits", "gmm") else pytest.mark.slow)
        for name in PAIRS
    ],
)
def test_a_bfloat16_screen_moves_no_point_by_5_thousandths_of_a_nat(name):
    model, guide, x = PAIRS[name]()
    full = evaluate(model, guide, x, num_samples=5000, compile=False)
    screened = evaluate(model, guide, x, num_samples=5000, compile=False, low_precision=torch.bfloat16)
    assert (screened.log_likelihood - full.log_likelihood).abs().max() < 0.005
    discrete = name in ("gmm", "bernoulli_mixture")  # the guide draws the class: there is no screen
    assert screened.metadata["dtype"] == ("float32" if discrete else "float32, bfloat16 screen")


@needs_compiler
@pytest.mark.parametrize(
    "pieces",
    [pytest.param(1, marks=[pytest.mark.compiled, pytest.mark.slow]), pytest.param(3, marks=pytest.mark.processor)],
)
def test_a_recorded_screen_is_no_further_off(pieces, runs_of_the_graph, monkeypatch):
    """Recorded it is scored in pieces."""
    model, guide, x = PAIRS["vae of bits"]()
    x = x[:6]  # one batch
    monkeypatch.setattr(
        recording, "CACHE_ELEMENTS", 40 * x.numel() if pieces == 3 else 2**21
    )  # of draws to a block there are 50
    full = evaluate(model, guide, x, num_samples=5000, compile=False)
    screened = evaluate(model, guide, x, num_samples=5000, compile=True, low_precision=torch.bfloat16)
    assert len(runs_of_the_graph) >= 50
    assert (screened.log_likelihood - full.log_likelihood).abs().max() < 0.005


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    # few, of which hardly any are scored again; and a last block that is not full
    ("name", "num_samples"),
    [
        *(pytest.param(name, 450, marks=[pytest.mark.slow] * (name not in QUICK)) for name in PAIRS),
        ("vae of bits", 1999),
        ("gmm", 1999),
    ],
)
def test_a_screen_that_is_recorded_on_the_way_is_no_further_off(name, num_samples, runs_of_the_graph):
    model, guide, x = PAIRS[name]()
    full = evaluate(model, guide, x, num_samples, compile=False)
    screened = evaluate(model, guide, x, num_samples, compile=True, low_precision=torch.bfloat16)
    assert (screened.log_likelihood - full.log_likelihood).abs().max() < 0.005


@pytest.mark.slow
@pytest.mark.compiled
@needs_compiler
def test_a_screen_half_recorded_is_none(runs_of_the_graph, monkeypatch):
    """Recorded and not, low precision errs in two ways, and the controls know one."""
    model, guide, x = PAIRS["vae of bits"]()
    x = x[:6]  # one batch, which is scored in full after all
    full = evaluate(model, guide, x, 1999, compile=False)
    told, are_one = [], fast.match

    def at_first(*args):
        told.append(are_one(*args))
        return told[-1] and len(told) == 1

    monkeypatch.setattr(fast, "match", at_first)
    screened = evaluate(model, guide, x, 1999, compile=True, low_precision=torch.bfloat16)
    assert told[:2] == [True, True]
    assert (screened.log_likelihood - full.log_likelihood).abs().max() < 5e-5


@pytest.mark.slow
@pytest.mark.compiled
@needs_compiler
@pytest.mark.parametrize(
    ("name", "low_precision"),
    [
        pytest.param("vae", None, marks=pytest.mark.slow),
        pytest.param("gmm", None, marks=pytest.mark.slow),
        ("ppca, mean field", None),
        pytest.param("vae", torch.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_a_last_batch_of_fewer_points_is_scored_in_company(name, low_precision, runs_of_the_graph, monkeypatch):
    model, guide, x = PAIRS[name]()
    x, found = x[:10], []  # batches of 6 and 4
    slow = evaluate(model, guide, x, num_samples=500, compile=False, low_precision=low_precision)
    recorded = recording.CompiledLogWeights.__call__

    def call(self, x, *rest):
        found.append((len(x), recorded(self, x, *rest) is not None))
        return recorded(self, x, *rest)

    monkeypatch.setattr(recording.CompiledLogWeights, "__call__", call)
    fast = evaluate(model, guide, x, num_samples=500, compile=True, low_precision=low_precision)
    assert sum(points == 4 for points, _ in found) >= 5
    assert all(done for _, done in found)
    torch.testing.assert_close(
        fast.log_likelihood, slow.log_likelihood, rtol=1e-5, atol=1e-4 if low_precision is None else 5e-3
    )


@needs_compiler
def test_one_point_of_many_is_left_to_pyro(runs_of_the_graph):
    model, guide, x = PAIRS["ppca, mean field"]()
    slow, fast = (evaluate(model, guide, x[:7], num_samples=500, compile=how) for how in (False, True))
    torch.testing.assert_close(fast.log_likelihood, slow.log_likelihood, rtol=1e-5, atol=1e-4)
    assert torch.equal(fast.log_likelihood[6], slow.log_likelihood[6])


class Scaled(nn.Module):
    """x ~ N(z, scale²), the scale a number of Python's, which a recording knows only as it was."""

    def __init__(self):
        super().__init__()
        self.scale = 1.0

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, self.scale).to_event(1), obs=x)


def wide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))


@needs_compiler
def test_a_model_that_has_changed_in_python_is_recorded_anew(runs_of_the_graph):
    model, x = Scaled(), torch.randn(12, 2)
    evaluate(model, wide, x, num_samples=500, compile=True)
    model.scale = 3.0
    exact = dist.Normal(0.0, 10**0.5).log_prob(x).sum(-1)
    runs_of_the_graph.clear()
    found = evaluate(model, wide, x, num_samples=5000, compile=True)
    assert len(runs_of_the_graph) > 10
    assert ((found.log_likelihood - exact).abs() < 6 * found.log_likelihood_se + 1e-3).all()


W = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))


class Factors(nn.Module):
    """x of 64 numbers, so that log w is about −110, of which bfloat16 forgives 7."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ W, 1.0).to_event(1), obs=x)


def around_the_mean(distribution):
    def guide(x):
        with pyro.plate("data", len(x)):
            mean = torch.linalg.solve(torch.eye(4) + W @ W.T, x @ W.T, left=False)
            pyro.sample("z", distribution(mean, 0.3 + 0.2 * torch.sigmoid(x[:, :1])))

    return guide


def stretched(mean, scale):
    """Its scale hides inside a transform, where a recording does not look for parameters."""
    stretch = dist.transforms.AffineTransform(0.0, scale, event_dim=1)
    return dist.TransformedDistribution(dist.Normal(mean / scale, 1.0).to_event(1), [stretch])


NORMAL, HEAVY, STRETCHED = (
    around_the_mean(distribution)
    for distribution in (
        lambda *args: dist.Normal(*args).to_event(1),
        lambda *args: dist.Laplace(*args).to_event(1),
        stretched,
    )
)


@needs_compiler
@pytest.mark.parametrize("guides", [(NORMAL, HEAVY), (STRETCHED,)], ids=["another", "its scale in a transform"])
@pytest.mark.parametrize("low_precision", [None, torch.bfloat16])
def test_a_guide_that_is_another_is_not_scored_by_the_recording(guides, low_precision, runs_of_the_graph):
    model, g = Factors(), torch.Generator().manual_seed(1)
    x = torch.randn(12, 4, generator=g) @ W + torch.randn(12, 64, generator=g)
    for guide in guides:
        found = evaluate(model, guide, x, num_samples=500, compile=True, low_precision=low_precision)
        slow = evaluate(model, guide, x, num_samples=500, compile=False)
        assert (found.log_likelihood - slow.log_likelihood).abs().max() < (1e-4 if low_precision is None else 0.005)


@needs_compiler
def test_a_recording_made_anew_is_held_against_pyros_run_too(runs_of_the_graph):
    class Turned(Scaled):
        reads = False

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                mean = torch.as_tensor(z.numpy()) if self.reads else 3 * z
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    model, x = Turned(), torch.randn(12, 2)
    evaluate(model, wide, x, num_samples=500, compile=True)
    model.reads = True
    slow, fast = (evaluate(model, wide, x, num_samples=500, compile=how) for how in (False, True))
    torch.testing.assert_close(fast.log_likelihood, slow.log_likelihood, rtol=1e-5, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("num_samples", [3, 5, 7])
def test_a_last_block_of_fewer_draws_than_are_compared(num_samples, monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 24})
    monkeypatch.setattr("pyrovae.estimators.batch_layout.MAX_BLOCK_DRAWS", 4)
    x = torch.randn(12, 2)
    slow, fast = (evaluate(Scaled(), wide, x, num_samples, compile=how) for how in (False, True))
    torch.testing.assert_close(fast.log_likelihood, slow.log_likelihood, rtol=1e-5, atol=1e-4)


def two_classes(x):
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(2.0 * k.unsqueeze(-1), torch.ones(2)).to_event(1), obs=x)


def nothing(x):
    pass


@needs_compiler
def test_points_in_columns_and_a_guide_that_draws_nothing(runs_of_the_graph):
    x = torch.randn(2, 12).t()
    parts = [dist.Normal(mean, 1.0).log_prob(x).sum(-1) + math.log(p) for mean, p in ((0.0, 0.3), (2.0, 0.7))]
    found = evaluate(two_classes, nothing, x, num_samples=200, compile=True)
    assert len(runs_of_the_graph) == 4  # two batches of two blocks
    torch.testing.assert_close(found.log_likelihood, torch.logaddexp(*parts).double(), rtol=1e-5, atol=1e-5)


@needs_compiler
def test_blocks_halved_for_want_of_memory_are_recorded_anew(monkeypatch, runs_of_the_graph):
    """The batch is halved, and its halves go by a recording of their own size."""
    model, x = Scaled(), torch.randn(12, 2)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1)
    inner, found, short = recording.CompiledLogWeights.__call__, [], []

    def full(self, x, *rest):
        weights = inner(self, x, *rest)
        found.append((len(x), self.points, weights is not None))
        return weights

    def no_room(*_, **__):
        if len(found) >= 5 and not short:
            short.append(1)
            raise torch.OutOfMemoryError("no room")
        return draws(*_, **__)

    draws = drawing.with_values
    monkeypatch.setattr(recording.CompiledLogWeights, "__call__", full)
    monkeypatch.setattr(drawing, "with_values", no_room)
    fast = evaluate(model, wide, x, num_samples=5000, compile=True)
    assert short
    assert any(points == 3 == made for points, made, _ in found)
    assert all(done for _, _, done in found)
    assert ((fast.log_likelihood - exact).abs() < 6 * fast.log_likelihood_se + 1e-3).all()


@needs_compiler
def test_parameters_are_read_as_they_are_now(runs_of_the_graph):
    model, _ = pyrovae.load("ppca")(4, latent=2)
    guide, x = pyrovae.guides.ExactPosterior(model), torch.randn(12, 4)
    for _ in range(2):
        found = evaluate(model, guide, x, num_samples=500, compile=True)
        torch.testing.assert_close(found.log_likelihood, found.exact_log_likelihood, rtol=0, atol=1e-4)
        with torch.no_grad():
            model.mu.add_(1.0)


def test_numbers_that_are_read_into_python_are_not_frozen(runs_of_the_graph):
    class Reads(Scaled):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                hidden = torch.as_tensor(z.numpy())  # the recorder sees a constant
                pyro.sample("x", dist.Normal(hidden, 1.0).to_event(1), obs=x)

    x = torch.randn(12, 2)
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1)
    found = evaluate(Reads(), wide, x, num_samples=5000, compile=True)
    assert ((found.log_likelihood - exact).abs() < 6 * found.log_likelihood_se + 1e-3).all()


def test_without_a_compiler_pyro_runs_as_before(monkeypatch, runs_of_the_graph):
    def none(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.compile", none)
    model, x = Scaled(), torch.randn(12, 2)
    slow, fast = (evaluate(model, wide, x, num_samples=500, compile=how) for how in (False, True))
    assert torch.equal(slow.log_likelihood, fast.log_likelihood)


@needs_compiler
def test_a_recording_that_runs_out_of_memory_leaves_its_block_to_pyro(monkeypatch, runs_of_the_graph):
    model, x = Scaled(), torch.randn(12, 2)
    slow = evaluate(model, wide, x, num_samples=500, compile=False)
    inner = recording.CompiledLogWeights.__call__

    def full(self, *args):
        if len(runs_of_the_graph) == 5:
            raise torch.OutOfMemoryError("no room")
        return inner(self, *args)

    monkeypatch.setattr(recording.CompiledLogWeights, "__call__", full)
    fast = evaluate(model, wide, x, num_samples=500, compile=True)
    assert len(runs_of_the_graph) == 5
    torch.testing.assert_close(fast.log_likelihood, slow.log_likelihood, rtol=1e-5, atol=1e-5)


def test_little_work_is_not_compiled(monkeypatch):
    monkeypatch.setattr("torch._inductor.compile", lambda *_, **__: pytest.fail("it was compiled"))
    evaluate(Scaled(), wide, torch.randn(12, 2), num_samples=500)


@pytest.mark.parametrize(
    ("network", "x"),
    [
        (nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4)), torch.randn(10, 64)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 3)), torch.randn(2, 3, 8, 8)),
        (nn.GRU(8, 4), torch.randn(5, 3, 8)),
        (nn.TransformerEncoderLayer(8, 2, 16).train(), torch.randn(5, 3, 8)),
        (lambda x: torch.cond(x.sum() > 0, lambda x: x @ x, lambda x: x, (x,)), torch.ones(4, 4)),
    ],
    ids=["dense", "convolutions", "recurrent", "attention", "condition"],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_operations_are_counted_as_torch_counts_them(mode, network, x):
    with mode():
        ours, _ = fast.count_flops(lambda: network(x))
    with mode(), FlopCounterMode(display=False) as theirs:
        network(x)
    assert ours == theirs.get_total_flops() > 0


def test_little_work_does_not_import_the_compiler():
    """The import takes two seconds, which is as long as the work."""
    code = """
import sys, torch, pyrovae
pyrovae.evaluate(*pyrovae.load("vae")(3, latent=2), torch.randn(5, 3))
assert "arviz" in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_screens_of_other_types_are_refused():
    with pytest.raises(pyrovae.InvalidInputError, match="low_precision is 16: give torch.bfloat16"):
        evaluate(Scaled(), wide, torch.randn(12, 2), low_precision=16)
