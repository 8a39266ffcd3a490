"""The benchmark's peers compute the same: otherwise a ratio of their times would say nothing."""

import copy
import importlib.util
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pyrovae

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))  # scripts stand there, not a package

from cases import LR, Case, mixture, ppca, vae, without_noise
from peers import by_hand
from peers.ours import rounds_of_fit
from peers.stock import Stock
from rounds import Rounds, interleave, quartiles

POINTS, STEPS = 90, 4
numpyro_missing = importlib.util.find_spec("numpyro") is None
needs_numpyro = pytest.mark.skipif(numpyro_missing, reason="NumPyro is not installed")


@pytest.fixture(params=["vae", "ppca", "mixture"])
def case(request) -> Case:
    """Small, in double precision, all points one batch, and a loss that is the same for every draw of z."""
    torch.set_default_dtype(torch.float64)
    try:
        if request.param == "vae":
            yield without_noise(vae(POINTS, 1, dim=12, latent=3, hidden=(8, 7)))
        elif request.param == "ppca":
            yield off_the_start(ppca(POINTS, 1, latent=3))
        else:
            yield off_the_start(mixture(POINTS, 1, components=2))
    finally:
        torch.set_default_dtype(torch.float32)


def off_the_start(case: Case) -> Case:
    """Where no gradient is 0, as that of the mean is at the data's mean: of a 0 Adam makes a step from its rounding."""
    model, guide = case.pair()
    with torch.no_grad():
        for value in case.named(model, guide).values():
            value += 0.05 * torch.randn_like(value)
    return Case(case.kind, case.data, case.batch, lambda: copy.deepcopy((model, guide)), case.constants)


def tolerance(case: Case) -> float:
    """Relative. What is left of the VAE's noise is σ = 1e-6 wide, and shrinks no further by averaging over 90 points."""
    return 1e-6 if case.kind == "vae" else 1e-10


def by_hand_losses(kind: str) -> list:
    other = {"ppca": [by_hand.ppca_marginal], "mixture": [by_hand.mixture_solving]}
    return [getattr(by_hand, kind), *other.get(kind, [])]


def test_hand_written_losses_are_stock_pyros(case: Case):
    expected = Stock(case).loss(case.data)
    for loss in by_hand_losses(case.kind):
        assert by_hand.ByHand(case, loss).loss(case.data) == pytest.approx(expected, rel=tolerance(case))
    if case.kind == "mixture":
        plain = by_hand.ByHand(case, by_hand.mixture_plain, start=by_hand.plain_start(case))
        assert plain.loss(case.data) == pytest.approx(expected, rel=tolerance(case))


def arrays(parameters: dict) -> dict[str, np.ndarray]:
    return {
        name: value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        for name, value in parameters.items()
    }


def assert_same_parameters(case: Case, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """To a share of what Adam could have moved them by; the VAE's noise is 1e-6 of what drives them."""
    assert found.keys() == expected.keys()
    moved = max(np.abs(expected[name] - value.numpy()).max() for name, value in case.start.items())
    assert moved > 0.5 * LR * STEPS
    share = 1e-3 if case.kind == "vae" else 1e-6
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=share * LR * STEPS, err_msg=name)


def run(case: Case, peer) -> dict[str, np.ndarray]:
    for _ in range(STEPS):
        peer.step(case.data)
    return arrays(peer.p)


def test_the_same_steps_end_at_the_same_parameters(case: Case):
    """So the optimiser is the same too: hand-written, stock Pyro, and `fit`."""
    expected = run(case, by_hand.ByHand(case, getattr(by_hand, case.kind)))
    assert_same_parameters(case, run(case, Stock(case)), expected)
    model, guide = case.pair()
    pyrovae.fit(model, guide, case.data, epochs=STEPS, batch_size=None, lr=LR, schedule=None)
    assert_same_parameters(case, arrays(case.named(model, guide)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ppca"], indirect=True)
def test_the_recorded_step_ends_there_too(case: Case):
    """Of one pair: recorded steps are held to eager ones, over every pair and guide, where they are tested themselves."""
    expected = run(case, by_hand.ByHand(case, getattr(by_hand, case.kind)))
    model, guide = case.pair()
    fit = pyrovae.fit(model, guide, case.data, epochs=STEPS, batch_size=None, lr=LR, schedule=None, compile=True)
    if not fit.execution.startswith("steps recorded"):
        pytest.skip(fit.execution)
    assert_same_parameters(case, arrays(case.named(model, guide)), expected)


@needs_numpyro
@pytest.mark.parametrize(
    ("case", "scan"), [("vae", False), ("ppca", False), ("mixture", False), ("ppca", True)], indirect=["case"]
)
def test_numpyro_has_the_loss_and_ends_there_too(case: Case, scan: bool):
    import jax
    from peers.in_numpyro import InNumPyro

    loss = Stock(case).loss(case.data)
    expected = run(case, by_hand.ByHand(case, getattr(by_hand, case.kind)))
    with jax.enable_x64(True):
        peer = InNumPyro(case, scan)
        assert peer.loss(case.data) == pytest.approx(loss, rel=tolerance(case))
        peer.run(STEPS)  # all points are one batch
        assert_same_parameters(case, arrays(peer.p), expected)


def test_losses_with_noise_are_the_same_for_one_seed():
    case = vae(POINTS, 1, dim=12, latent=3, hidden=(8, 7))
    losses = []
    for peer in (by_hand.ByHand(case, by_hand.vae), Stock(case)):
        torch.manual_seed(3)
        losses.append(peer.loss(case.data))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # single precision


@needs_numpyro
def test_numpyros_loss_with_noise_has_the_same_mean():
    """5 standard errors, of 60 draws each: a false alarm in about half a million."""
    from peers.in_numpyro import InNumPyro

    case = vae(POINTS, 1, dim=12, latent=3, hidden=(8, 7))
    ours, theirs = ([peer.loss(case.data) for _ in range(60)] for peer in (Stock(case), InNumPyro(case, scan=False)))
    error = ((statistics.variance(ours) + statistics.variance(theirs)) / 60) ** 0.5
    assert abs(statistics.mean(ours) - statistics.mean(theirs)) < 5 * error


def test_fit_is_timed_in_the_rounds_of_its_peers():
    case = ppca(10, 3, latent=2)
    timed = Rounds()
    first, execution = rounds_of_fit(
        case, 4, timed, "ours", lambda: timed.once({"other": lambda: None}, 3), compile=False
    )
    assert [len(times) for times in timed.seconds.values()] == [4, 4]
    assert first > 0
    assert execution.startswith("eager")


def test_rounds_take_turns_and_ratios_are_taken_within_a_round():
    order: list[str] = []
    timed = interleave({name: (lambda name=name: order.append(name)) for name in "abc"}, rounds=3, warm=1)
    assert order == [*"abc", *"bca", *"cab", *"abc"]
    timed.seconds = {"a": [1.0, 10.0, 2.0], "b": [2.0, 5.0, 8.0]}  # the machine was busy in the second round
    timed.processor = {"a": [1.0, 1.0, 1.0], "b": [3.0, 4.0, 6.0]}
    row = timed.summary("a")["b"]
    assert row == {"seconds": 5.0, "ratio": 2.0, "low": 1.25, "high": 3.0, "processor": 4.0}
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
