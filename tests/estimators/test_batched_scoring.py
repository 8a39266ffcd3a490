"""Many points and draws in pieces: numbers that no piece changes, memory that does not grow, and what is done is kept."""

import math
import signal
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from gaussians import Wrong, random_wrong
from processes import Script
from pyro.infer.autoguide import AutoNormal

import pyrovae
from pyrovae import InvalidInputError, evaluate
from pyrovae.estimators.guide_draws import independent_sites
from pyrovae.statistics.log_weights import STATISTICS

ENUMERATE = {"enumerate": "parallel"}


def same(one, other, atol=1e-10):
    for name in STATISTICS:
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=atol, equal_nan=True)
    torch.testing.assert_close(one.bound_curve.value, other.bound_curve.value, rtol=0, atol=atol)


# Pairs of every structure that draws: each in double precision, with points of its own.


def chained():
    """b is drawn around a, in model and guide, and x around both."""

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros(len(x)).to(x), 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(x[:, 0] / 2, 1.0))
            pyro.sample("b", dist.Normal((x[:, 0] + a) / 2, 1.0))

    return model, guide


def plated():
    """A latent for each of three parts of a point, in a plate of their own, and one for the point."""

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1).to(x), 1.0))
            with pyro.plate("parts", 3, dim=-1):
                u = pyro.sample("u", dist.Normal(z, 1.0))
                pyro.sample("x", dist.Normal(u, 0.5), obs=x[:, :3])

    def guide(x):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x[:, :3].mean(-1, keepdim=True), 0.8))
            with pyro.plate("parts", 3, dim=-1):
                pyro.sample("u", dist.Normal(x[:, :3], 0.6))

    return model, guide


def discrete():
    """One class drawn, another summed out."""
    table = torch.tensor([[-1.0, 0.0], [2.0, 3.0]]).double()

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Categorical(torch.tensor([0.3, 0.7]).to(x)))
            b = pyro.sample("b", dist.Categorical(torch.tensor([0.6, 0.4]).to(x)), infer=ENUMERATE)
            pyro.sample("x", dist.Normal(table[a, b], 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Categorical(logits=torch.stack([-x[:, 0], x[:, 0]], dim=-1)))

    return model, guide


PAIRS = {"one latent": lambda: random_wrong().pair, "chained": chained, "plated": plated, "discrete": discrete}


@pytest.mark.processor
@pytest.mark.parametrize("build", PAIRS.values(), ids=PAIRS)
def test_chunks_change_no_number(build, monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 64})
    monkeypatch.setattr("pyrovae.estimators.batch_layout.MAX_BLOCK_DRAWS", 16)
    pair, x = build(), torch.randn(11, 5).double()
    whole = evaluate(*pair, x, num_samples=101, seed=3)
    for rows in (1, 7, 40, 10_000):
        same(evaluate(*pair, x, num_samples=101, seed=3, chunk_size=rows), whole)


class Small:
    """A model, or a guide, on a device with room for `most` rows at its site 'z'."""

    def __init__(self, program, most):
        self.program, self.most, self.refused = program, most, 0

    def __call__(self, x):
        with self:
            return self.program(x)

    def __enter__(self):
        self.watch = Watch(self)
        self.watch.__enter__()

    def __exit__(self, *args):
        self.watch.__exit__(*args)


class Watch(pyro.poutine.messenger.Messenger):
    def __init__(self, device):
        super().__init__()
        self.device = device

    def _pyro_post_sample(self, msg):
        if msg["name"] == "z" and msg["value"].shape[:-1].numel() > self.device.most:
            self.device.refused += 1
            raise torch.OutOfMemoryError("no room")


def test_out_of_memory_halves_the_chunk_and_changes_no_number(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 256})
    wrong, done = random_wrong(), []
    x = wrong.draw(20)
    whole = evaluate(*wrong.pair, x, num_samples=500, seed=1)
    model = Small(wrong.model, most=37)
    found = evaluate(model, wrong.guide, x, num_samples=500, seed=1, on_progress=done.append)
    assert model.refused == 3  # 256 rows or so, 128, 64; then 32, from there on
    same(found, whole)
    assert sum(done) == 20


def test_out_of_memory_in_the_guide_halves_the_batch_and_keeps_finished_points(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 256})
    monkeypatch.setattr("pyrovae.estimators.batch_layout.MAX_BLOCK_DRAWS", 16)
    wrong, done = random_wrong(), []
    x = wrong.draw(40)
    guide = Small(wrong.guide, most=math.inf)

    def progress(points):
        done.append(points)
        guide.most = 100  # after the first batch there is less room

    found = evaluate(wrong.model, guide, x, num_samples=500, seed=1, on_progress=progress)
    whole = evaluate(*wrong.pair, x, num_samples=500, seed=1)
    assert done[0] == 16
    assert set(done[1:]) == {4}
    torch.testing.assert_close(found.log_likelihood[:16], whole.log_likelihood[:16], rtol=0, atol=1e-10)
    assert ((found.log_likelihood - wrong.log_prob(x)).abs() < 6 * found.log_likelihood_se).all()


def test_no_room_for_one_row_is_out_of_memory():
    wrong = random_wrong()
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Small(wrong.model, 0), wrong.guide, wrong.draw(3), num_samples=10)


def test_the_encoder_runs_once_for_a_batch_whatever_the_samples(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 64})
    monkeypatch.setattr("pyrovae.estimators.batch_layout.MAX_BLOCK_DRAWS", 8)
    calls = []
    model, guide = pyrovae.load("vae")(4, latent=2, hidden=(5,))
    guide.encoder.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for num_samples in (16, 160):
        calls.clear()
        evaluate(model, guide, torch.rand(32, 4), num_samples=num_samples)
        counts.append(len(calls))
    assert counts[0] == counts[1]
    calls.clear()
    evaluate(model, guide, torch.rand(64, 4), num_samples=160)
    assert len(calls) == counts[0] + 4  # four more batches of eight


def test_which_guides_are_drawn_from_again_without_being_run():
    def later(draw):
        def guide(x):
            with pyro.plate("data", len(x)):
                a = pyro.sample("a", dist.Normal(x[:, 0], 1.0))
                draw(a)

        return guide

    x = torch.rand(5, 2)
    assert independent_sites(later(lambda a: pyro.sample("b", dist.Normal(0.0, 1.0))), x)
    assert independent_sites(later(lambda a: pyro.sample("b", dist.Gamma(torch.ones(5, 2), 1.0).to_event(1))), x)
    assert not independent_sites(later(lambda a: pyro.sample("b", dist.Normal(a.tanh(), 1.0))), x)
    assert not independent_sites(later(lambda a: pyro.sample("b", dist.Normal(1.0 if a.sum() > 0 else 0.0, 1.0))), x)
    assert not independent_sites(later(lambda a: pyro.sample("b", dist.Normal(float(a[0]), 1.0))), x)

    def masked(a):
        with pyro.poutine.mask(mask=a > 0):
            pyro.sample("b", dist.Normal(0.0, 1.0))

    assert not independent_sites(later(masked), x)
    assert not independent_sites(chained()[1], x)
    assert not independent_sites(AutoNormal(chained()[0]), x)


def test_draws_that_do_not_run_the_guide_are_draws_from_it(seed):
    """20,000 draws in blocks of 500, the guide run for the first: ELBO and log p̂ against their exact values."""
    wrong = random_wrong(ratio=0.6)
    x = wrong.draw(8)
    found = evaluate(*wrong.pair, x, num_samples=20_000, seed=seed)
    assert ((found.elbo - (wrong.log_prob(x) - wrong.gap)).abs() < 6 * found.elbo_se).all()


def test_autoguides_are_scored_on_all_points_at_once(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 16})
    model, _ = chained()
    x = torch.randn(40, 1).double()
    guide = AutoNormal(model)
    guide(x)
    with torch.no_grad():
        whole = evaluate(model, guide, x, num_samples=64)
    assert len(whole) == 40
    log_p = dist.Normal(0.0, math.sqrt(6.0)).log_prob(x[:, 0])  # a + b has variance 1 + 2·2, and x one more
    assert (whole.log_likelihood < log_p + 6 * whole.log_likelihood_se).all()
    assert (whole.elbo < whole.log_likelihood).all()


# A weight of zero


def torn(x):
    """Uniform scales of x, of which the guide proposes some that the model rules out."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).to(x), 1.0))
        pyro.factor("positive", torch.where(z > x[:, 1], 0.0, -math.inf))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def wide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, 0] / 2, 1.0))


def test_draws_that_the_model_rules_out_weigh_nothing(seed):
    """log ∫_{z > c} N(z; 0, 1) N(x; z, 1) dz = log N(x; 0, √2) + log Φ((x/2 − c)·√2)."""
    x = torch.tensor([[0.3, 0.0], [-1.0, -0.5], [2.0, 1.0]]).double()
    found = evaluate(torn, wide, x, num_samples=20_000, seed=seed)
    inside = dist.Normal(0.0, 1.0).cdf((x[:, 0] / 2 - x[:, 1]) * math.sqrt(2))
    expected = dist.Normal(0.0, math.sqrt(2)).log_prob(x[:, 0]) + inside.log()
    assert ((found.log_likelihood - expected).abs() < 6 * found.log_likelihood_se).all()
    assert (found.elbo == -math.inf).all()
    assert (pyrovae.log_weights(torn, wide, x, 300) == -math.inf).any()


def test_a_point_whose_every_weight_is_zero_is_named(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 200})
    x = torch.zeros(9, 2).double()
    x[7, 1] = 99.0
    with pytest.raises(InvalidInputError, match="All 100 weights of data point 7 are zero"):
        evaluate(torn, wide, x, num_samples=100)


@pytest.mark.slow
def test_a_density_that_is_no_number_names_the_point_among_all(monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 200})

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)).to(x), 1.0))
            pyro.sample("x", dist.Normal(z, torch.where(x[:, 0] > 5, math.nan, 1.0)), obs=x[:, 1])

    x = torch.zeros(2000, 2).double()
    x[1907, 0] = 9.0
    with pytest.raises(pyrovae.NonFiniteError, match="nan at site 'x', data point 1907"):
        evaluate(model, wide, x, num_samples=100)


# Memory

PEAK = """
import resource, sys, torch, pyrovae
torch.set_num_threads(1)
model, guide = pyrovae.load("vae")(784, latent=20, hidden=(100,), likelihood=pyrovae.likelihoods.Bernoulli())
x = (torch.rand(20, 784) > 0.5).float()
for num_samples in map(int, sys.argv[1:]):
    pyrovae.evaluate(model, guide, x, num_samples=num_samples)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read as Linux counts it")
def test_memory_does_not_grow_with_the_samples(tmp_path):
    (tmp_path / "peak.py").write_text(PEAK)
    script = Script(tmp_path / "peak.py", 500, 2000, 20000, out=tmp_path / "peaks.txt")
    assert script.end() == 0, script.errors()
    _, few, many = map(int, script.printed().split())  # the first imports what all need
    assert many < 1.1 * few


# Resuming

LONG = """
import pathlib, sys, time, torch, pyrovae
sys.path.append(sys.argv[3])
from gaussians import Wrong
from pyrovae.estimators import batch_layout, partial_results
torch.set_num_threads(1)
partial_results.SAVE_INTERVAL_SECONDS = 0.0
batch_layout.BLOCK_ROWS = {"cpu": 400}
wrong = Wrong(torch.ones(3, 1).double(), 1.0, torch.full((1,), 0.2).double())
x = torch.linspace(-2, 2, 60).double().reshape(20, 3)
def slowly(points):
    print(points, flush=True)
    time.sleep(float(sys.argv[2]))
found = pyrovae.evaluate(*wrong.pair, x, num_samples=100, seed=5, partial_file=pathlib.Path(sys.argv[1]), on_progress=slowly)
torch.save([found.log_likelihood, found.pareto_k, found.bound_curve.value], sys.argv[1] + ".done")
"""


def evaluation(folder, path, sleep):
    (folder / "long.py").write_text(LONG)
    return Script(folder / "long.py", path, sleep, Path(__file__).parent.parent / "oracles", out=folder / "printed.txt")


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path):
    path = tmp_path / "partial" / "unfinished.pt"
    path.parent.mkdir()
    killed = evaluation(tmp_path, path, 0.5)
    killed.wait_for("4\n4\n")
    killed.process.kill()
    assert killed.end() == -signal.SIGKILL
    assert [file.name for file in path.parent.iterdir()] == ["unfinished.pt"]
    resumed = evaluation(tmp_path, path, 0.0)
    assert resumed.end() == 0, resumed.errors()
    first, *rest = map(int, resumed.printed().split())
    assert first in (8, 12)  # at once, what was done; a third batch may have been
    assert sum(rest) == 20 - first
    assert not path.exists()
    other = path.with_name("other.pt")
    whole = evaluation(tmp_path, other, 0.0)
    assert whole.end() == 0, whole.errors()
    assert whole.printed().split() == ["4"] * 5
    for one, two in zip(torch.load(f"{path}.done"), torch.load(f"{other}.done"), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_what_another_evaluation_left_is_not_taken_for_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr("pyrovae.estimators.partial_results.SAVE_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("pyrovae.estimators.batch_layout.BLOCK_ROWS", {"cpu": 200})
    path = tmp_path / "unfinished.pt"
    model, guide = pyrovae.load("ppca")(4, latent=2)
    x = torch.randn(10, 4)

    def stopped(points):
        raise KeyboardInterrupt

    def left():
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, guide, x, num_samples=100, partial_file=path, on_progress=stopped)

    def progress(**other):
        counts = []
        evaluate(
            **{"model": model, "guide": guide, "x": x, "num_samples": 100, **other},
            partial_file=path,
            on_progress=counts.append,
        )
        assert not path.exists()
        return counts

    left()
    assert progress() == [2] * 5  # 200 rows: two points; what was done is told at once
    for other in ({"x": torch.randn(10, 4)}, {"seed": 1}, {"num_samples": 101}):
        left()
        held = path.read_bytes()
        monkeypatch.setattr("pyrovae.estimators.partial_results.SAVE_INTERVAL_SECONDS", 100.0)
        fresh = evaluate(**{"model": model, "guide": guide, "x": x, "num_samples": 100, **other})
        again = evaluate(**{"model": model, "guide": guide, "x": x, "num_samples": 100, **other}, partial_file=path)
        same(fresh, again)
        monkeypatch.setattr("pyrovae.estimators.partial_results.SAVE_INTERVAL_SECONDS", 0.0)
        assert held
    left()
    with torch.no_grad():
        model.mu.add_(1.0)
    counts = []
    moved = evaluate(model, guide, x, num_samples=100, partial_file=path, on_progress=counts.append)
    torch.testing.assert_close(moved.log_likelihood, moved.exact_log_likelihood, rtol=0, atol=1e-4)
    path.write_bytes(b"not a file of torch's")
    same(evaluate(model, guide, x, num_samples=100, partial_file=path), moved, atol=1e-6)


# The verdict


def test_a_sharp_decoder_is_not_to_be_trusted_and_the_verdict_says_why(seed):
    """50 latents, σ = 0.05, and a diagonal guide too narrow for their correlations: 5,000 draws are tens of nats short."""
    wrong = Wrong(torch.randn(52, 50).double() / 52**0.5, 0.05, torch.ones(50).double())
    wrong.D = 0.3 / wrong.P.diagonal()
    x = wrong.draw(12)
    found = evaluate(*wrong.pair, x, num_samples=5000, seed=seed)
    short = wrong.log_prob(x) - found.log_likelihood
    assert short.mean() > 20
    assert (short > 6 * found.log_likelihood_se).all()  # and its own error does not know
    assert (found.pareto_k > found.pareto_k_threshold).all()
    assert found.high_pareto_k_fraction == 1.0
    assert found.reliability_message.startswith(
        "Do not trust log p̂(x): k̂ is above 0.70 at 12 of 12 points (100%; median "
    )
    assert "a few draws carry the weight" in found.reliability_message
    assert "lower bound, loose by an unknown amount" in found.reliability_message
    assert "More samples raise it only slowly: it takes a better guide" in found.reliability_message
    assert "AIS" in found.reliability_message
    print(short)


def test_verdicts_of_numbers_that_are_to_be_trusted():
    model, guide = pyrovae.load("ppca")(4, latent=2)
    exact = evaluate(model.double(), guide, torch.randn(5, 4).double(), num_samples=100)
    assert (
        exact.reliability_message
        == "Trust log p̂(x): at no point do its largest weights differ, as with an exact guide."
    )
    assert (exact.pareto_k == -math.inf).all()
    wrong = Wrong(torch.ones(1, 1).double(), 1.0, torch.tensor([0.4]).double())
    sound = evaluate(*wrong.pair, torch.randn(30, 1).double(), num_samples=5000)
    assert sound.reliability_message.startswith("Trust log p̂(x): k̂ is below 0.70 at every point")


def test_more_samples_are_asked_for_where_they_help():
    """k = 0.55 is above the threshold of 100 draws, 0.5, and below that of thousands."""
    wrong = Wrong(torch.ones(1, 1).double(), 1.0, torch.tensor([0.45 / 2]).double())
    found = evaluate(*wrong.pair, torch.randn(200, 1).double(), num_samples=100)
    assert found.reliability_message.startswith("Do not trust log p̂(x): k̂ is above 0.50")
