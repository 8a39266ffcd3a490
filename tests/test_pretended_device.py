"""Whole fits and estimates on a device that is not the CPU: what they give is what the CPU gives, number for number.

`tests/test_fake_gpu.py` has every pair, but no numbers, so it ends where Python reads one. Here the verbs run to their end.
"""

import pytest
import torch
from pretended_device import DEVICE, PretendedDevice, There, moved
from torch.optim import Adam

import pyrovae

DIM = 5
PAIRS = {"vae": {"latent": 1, "hidden": (4,)}, "ppca": {"latent": 1}, "gmm": {"components": 2}}


def trained(epochs, **options):
    """Eager or replayed steps, by how many there are; torch's fused kernels know no pretended device."""

    def run(model, guide, x):
        given = {"epochs": epochs, "batch_size": 4, "optimizer": lambda params, lr: Adam(params, lr), "progress": False}
        return torch.tensor(pyrovae.fit(model, guide, x, **given, **options).losses)

    return run


VERBS = {
    "eager steps": trained(2, early_stopping=pyrovae.EarlyStopping(0.3)),
    "replayed steps": trained(3, ema_decay=0.9, max_grad_norm=5.0),
    "weights": lambda model, guide, x: pyrovae.evaluate(model, guide, x, 20, compile=False).log_likelihood,
    "diagnose": lambda model, guide, x: pyrovae.diagnose(model, guide, x, num_samples=10).mutual_information.value,
    "sample": lambda model, guide, x: pyrovae.sample(model, 3, x).cpu(),
    "modes": lambda model, guide, x: pyrovae.evaluate(model, guide, x[:2], 10, tolerance=0.2).log_likelihood,
}
RUN = [
    *(("vae", verb) for verb in VERBS),
    *((name, verb) for name in ("ppca", "gmm") for verb in ("weights", "sample")),
    *(pytest.param(name, verb, marks=pytest.mark.slow) for name in ("ppca", "gmm") for verb in list(VERBS)[:2]),
]


@pytest.mark.parametrize(("name", "verb"), RUN, ids=lambda value: value)
def test_a_verb_on_another_device(name, verb, seed, monkeypatch):
    monkeypatch.setattr("pyrovae.training.step_builder.REPLAYED_FROM", 9)
    torch.manual_seed(seed)
    x = torch.rand(12, DIM)
    pair = pyrovae.load(name)(DIM, **PAIRS[name])
    found = []
    for there in (False, True):
        torch.manual_seed(seed)
        if not there:
            found.append(VERBS[verb](*moved(*pair, there=False), x))
            continue
        with PretendedDevice():
            found.append(VERBS[verb](*moved(*pair), There(x)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_two_devices_do_not_mix():
    with PretendedDevice():
        there = torch.ones(3, device=DEVICE)
        assert (there + 1).tolist() == [2.0] * 3
        assert (there * torch.tensor(2.0)).tolist() == [2.0] * 3  # one number of the CPU goes with any
        with pytest.raises(RuntimeError, match="on the same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
