"""Whether low precision is used is decided by a measurement: where it raises or gains nothing, all is computed in full, and said."""

import contextlib
import time

import pytest
import torch
from low_precision import no_reason_against

import pyrovae
from pyrovae import evaluate
from pyrovae.evaluation import evaluating
from pyrovae.utils import precision as low_precision_support
from pyrovae.utils.precision import reason_against, seconds, usable
from pyrovae.utils.provenance import dtype_name

pytestmark = pytest.mark.processor

TYPES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _undecided():
    reason_against.cache_clear()
    yield
    reason_against.cache_clear()


@pytest.fixture
def measured(monkeypatch):
    """Sets what is measured, (float32, low precision) or an error, and has the sizes of the matrices that were asked for."""
    asked = []

    def found(outcome):
        def seconds(size, device, dtype):
            asked.append(size)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(low_precision_support, "seconds", seconds)
        return asked

    return found


def scored(dtype=None, points=torch.float32, **options):
    torch.manual_seed(0)
    model, guide = pyrovae.load("ppca")(4, latent=2, guide=pyrovae.guides.MeanField)
    pair = [module.to(points) for module in (model, guide)]
    return evaluate(*pair, torch.randn(6, 4).to(points), num_samples=300, low_precision=dtype, compile=False, **options)


def same_as_in_full(found):
    return torch.equal(found.log_likelihood, scored().log_likelihood)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_type_that_cannot_be_multiplied_is_not_used(dtype, measured, caplog):
    measured(RuntimeError("could not create\na primitive descriptor"))
    found = scored(dtype)
    assert caplog.messages == [
        f"{dtype_name(dtype)} matrix products cannot be computed on this processor (could not create a primitive descriptor), "
        "so all weights are computed in float32."
    ]
    assert found.metadata["dtype"] == "float32"
    assert same_as_in_full(found)


@pytest.mark.parametrize("times", [(1.0, 1.0), (1.0, 1.5), (1.0, 24.0)])
def test_a_type_that_is_not_faster_is_not_used(times, measured, caplog):
    measured(times)
    found = scored(torch.bfloat16)
    assert caplog.messages == [
        "bfloat16 matrix products are not faster than float32 on this processor, so all weights are computed in float32."
    ]
    assert [(record.name, record.levelname) for record in caplog.records] == [("pyrovae", "WARNING")]
    assert found.metadata["dtype"] == "float32"
    assert same_as_in_full(found)


def test_the_sentence_names_the_type_of_the_points(measured, caplog):
    measured((1.0, 2.0))
    assert scored(torch.bfloat16, points=torch.float64).metadata["dtype"] == "float64"
    assert caplog.messages[0].endswith("so all weights are computed in float64.")


def test_a_faster_type_is_used(measured, caplog):
    no_reason_against(torch.device("cpu"), torch.bfloat16)
    measured((1.0, 0.99))
    found = scored(torch.bfloat16)
    assert not caplog.messages
    assert found.metadata["dtype"] == "float32, bfloat16 screen"
    assert not same_as_in_full(found)


def test_it_is_measured_once_for_a_device_and_type_and_said_each_time(measured, caplog):
    asked = measured((1.0, 1.1))
    for dtype in (*TYPES, *TYPES):
        assert usable(dtype, torch.ones(1)) is None
    assert asked == [128, 512] * 2
    assert len(caplog.messages) == 4


def test_what_is_hopeless_on_small_matrices_is_not_tried_on_large_ones(measured):
    asked = measured((1.0, 2.1))
    assert reason_against(torch.device("cpu"), torch.bfloat16) is not None
    assert asked == [128]


def test_no_screen_measures_nothing_and_says_nothing(measured, caplog):
    asked = measured(RuntimeError("it was measured"))
    assert usable(None, torch.ones(1)) is None
    assert not asked
    assert not caplog.messages


@pytest.mark.parametrize(("times", "first", "used"), [((1.0, 0.5), 0.0, None), ((1.0, 2.0), 1.0, torch.bfloat16)])
def test_processes_do_as_the_first_one_does(times, first, used, measured, monkeypatch):
    measured(times)
    monkeypatch.setattr(low_precision_support.ProcessGroup, "broadcast", lambda self, value: first)
    assert usable(torch.bfloat16, torch.ones(1)) is used


def test_a_killed_evaluation_goes_on_as_what_was_computed(measured, monkeypatch, tmp_path):
    """An evaluation whose screen was not used is the one without a screen, and not the one with it."""
    no_reason_against(torch.device("cpu"), torch.bfloat16)
    identities = []

    class PartialResults(evaluating.PartialResults):
        def __init__(self, path, identity):
            super().__init__(path, identity)
            identities.append(self.identity)

    monkeypatch.setattr(evaluating, "PartialResults", PartialResults)
    for dtype, times in ((None, None), (torch.bfloat16, (1.0, 2.0)), (torch.bfloat16, (1.0, 0.5))):
        reason_against.cache_clear()
        measured(times)
        scored(dtype, partial_file=tmp_path / "unfinished")
    without, not_used, used = identities[::2]  # beside each is that of the search for modes, which is the same
    assert without == not_used != used


@pytest.mark.parametrize("slow", [torch.bfloat16, None])
def test_the_measurement_tells_which_is_slower(slow, monkeypatch):
    @contextlib.contextmanager
    def precision(device, kind):
        yield time.sleep(0.02 if kind == slow else 0.0)

    monkeypatch.setattr(low_precision_support, "autocast_to", precision)
    full, low = seconds(2, torch.device("cpu"), torch.bfloat16)
    assert (low > full) == (slow is not None)
    assert max(full, low) >= 0.02


@pytest.mark.parametrize("dtype", TYPES)
def test_on_this_processor_it_is_used_or_the_card_and_the_log_say_not(dtype, caplog):
    state = torch.get_rng_state()
    used = usable(dtype, torch.ones(1))
    assert torch.equal(torch.get_rng_state(), state)
    caplog.clear()
    found = scored(dtype)
    assert found.metadata["dtype"] == ("float32" if used is None else f"float32, {dtype_name(dtype)} screen")
    assert len(caplog.messages) == (used is None)
    assert (found.log_likelihood - scored().log_likelihood).abs().max() < 0.005
