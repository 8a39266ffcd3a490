import math

import pytest
import torch
from torch.autograd.functional import jacobian

from pyrovae import InvalidInputError
from pyrovae.data.transforms import Binarise, Dequantise, Identity, Logit, Threshold

SIGMAS = 6.0  # a correct transform fails once in 5e8 times


def whole(levels: int, points: int = 50, dim: int = 6) -> torch.Tensor:
    return torch.randint(levels, (points, dim)).double()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantise_keeps_pixels_and_knows_its_stretch(levels: int) -> None:
    pixels = whole(levels)
    x = Dequantise(levels)(pixels)
    assert torch.equal((x * levels).floor(), pixels)
    assert x.min() >= 0
    assert x.max() < 1
    assert Dequantise(levels).log_jacobian(x).tolist() == pytest.approx([-6 * math.log(levels)] * 50, abs=1e-12)


def test_dequantise_stays_below_one_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    almost_one = 1 - torch.finfo(torch.float32).eps / 2  # the largest draw of torch.rand
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, almost_one))
    assert Dequantise(256)(torch.full((1, 1), 255.0)).item() < 1


def test_dequantise_noise_is_uniform() -> None:
    u = Dequantise(17)(torch.full((100, 1000), 3.0, dtype=torch.float64)) * 17 - 3
    n = u.numel()
    assert abs(u.mean() - 1 / 2) < SIGMAS * math.sqrt(1 / 12 / n)
    assert abs(u.square().mean() - 1 / 3) < SIGMAS * math.sqrt(4 / 45 / n)


def test_dequantise_draws_from_the_generator() -> None:
    pixels = whole(17)
    first, again, other = (Dequantise(17)(pixels, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_logit_log_jacobian_is_that_of_autograd(alpha: float) -> None:
    logit = Logit(17, alpha)
    pixels = whole(17, points=5)
    u = torch.rand_like(pixels)
    x = logit._map((pixels + u) / 17)
    for n in range(5):
        exact = jacobian(lambda p, n=n: logit._map((p + u[n]) / 17), pixels[n]).diagonal().log().sum()
        assert logit.log_jacobian(x)[n].item() == pytest.approx(exact.item(), abs=1e-10, rel=1e-10)


def test_logit_is_a_change_of_variables_of_dequantise(seed: int) -> None:
    """The uniform density of y carried to x must be what the difference of the two Jacobians says, and integrate to 1."""
    logit, plain = Logit(4, 0.1), Dequantise(4)
    low, high = torch.logit(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
    x = torch.linspace(low, high, 20_001, dtype=torch.float64)[:, None]
    density = (plain.log_jacobian(x) - logit.log_jacobian(x)).exp()
    assert torch.trapezoid(density, x[:, 0]).item() == pytest.approx(1, abs=1e-7)
    pixels = whole(4)
    drawn = [t(pixels, torch.Generator().manual_seed(seed)) for t in (logit, plain)]
    assert torch.allclose(logit.grey(drawn[0]), drawn[1], atol=1e-12)


def test_binarise_lights_pixels_as_often_as_they_are_bright() -> None:
    levels, draws = 17, 4000
    pixels = torch.arange(levels).double().expand(draws, levels)
    x = Binarise(levels)(pixels)
    p = torch.arange(levels).double() / (levels - 1)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.all((x.mean(dim=0) - p).abs() <= SIGMAS * (p * (1 - p) / draws).sqrt())
    assert not torch.equal(x, Binarise(levels)(pixels))


def test_threshold_has_no_randomness() -> None:
    pixels = torch.tensor([[0.0, 7.0, 8.0, 16.0]])
    assert Threshold(17)(pixels).tolist() == [[0, 0, 1, 1]]
    assert Threshold(17, at=0.25)(pixels).tolist() == [[0, 1, 1, 1]]


def test_only_binarise_is_drawn_afresh() -> None:
    assert Binarise(17).fresh
    assert not any(t.fresh for t in (Threshold(17), Dequantise(17), Logit(17), Identity(), Identity(discrete=True)))


@pytest.mark.parametrize(
    ("transform", "base_measure", "text"),
    [
        (Identity(), "Lebesgue on R^9", "as given"),
        (Identity(discrete=True), "counting on {0,1}^9", "as given"),
        (Dequantise(17), "Lebesgue on [0,1]^9", "(pixel + u) / 17"),
        (Logit(256), "Lebesgue on R^9", "logit(0.05 + 0.9 (pixel + u) / 256)"),
        (Binarise(256), "counting on {0,1}^9", "Bernoulli(pixel / 255)"),
        (Threshold(17), "counting on {0,1}^9", "pixel / 16 ≥ 0.5"),
    ],
)
def test_measure_and_name(transform: Identity, base_measure: str, text: str) -> None:
    assert transform.base_measure(9) == base_measure
    assert str(transform) == text


def test_a_probability_stretches_nothing_and_real_numbers_have_no_pixel_scale() -> None:
    x = torch.ones(3, 4)
    for transform in (Identity(discrete=True), Binarise(17), Threshold(17)):
        assert torch.equal(transform.log_jacobian(x), torch.zeros(3))
    assert Identity().log_jacobian(x) is None


def test_grey_is_in_the_unit_interval() -> None:
    assert Dequantise(17).grey(torch.tensor([-0.5, 0.25, 1.5])).tolist() == [0, 0.25, 1]
    assert Identity().grey(torch.tensor([-3.0, 1.0, 5.0])).tolist() == [0, 0.5, 1]
    assert Identity().grey(torch.zeros(2)).tolist() == [0, 0]
    far = torch.tensor([-50.0, 0.0, 50.0], dtype=torch.float64)  # draws of a model may lie where no pixel does
    assert Logit(17).grey(far).tolist() == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("levels", [17, 256])
def test_bytes_are_pixels_of_any_number_of_levels(levels: int) -> None:
    """A byte cannot be compared with 256."""
    pixels = torch.tensor([[0, levels - 1]], dtype=torch.uint8)
    Dequantise(levels).check(pixels)
    if levels < 256:
        with pytest.raises(InvalidInputError, match="Row 0, column 1 has the value 17"):
            Dequantise(levels).check(pixels + torch.tensor([0, 1], dtype=torch.uint8))
