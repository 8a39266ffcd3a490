"""Cells without a value: read as NaN, kept by every transform, and left out of every Jacobian."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrovae import InvalidInputError, evaluate, load, load_data, transforms
from pyrovae.data.columns import few_values, resolving_dtype, rounding_message

NAN = math.nan


@pytest.mark.parametrize("cell", ["", "?", "NA", "NaN", "nan", "N/A", "null", " "])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_without_a_value(tmp_path: Path, cell: str, separator: str) -> None:
    rows = [[f"{row}.5", "1.25", f"{row * row}.0"] for row in range(20)]
    rows[7][1] = rows[3][2] = rows[19][0] = cell
    rows[0][1] = "2.5"
    (tmp_path / "x.csv").write_text("\n".join(separator.join(row) for row in [["a", "b", "c"], *rows]) + "\n")
    data = load_data(tmp_path / "x.csv", split=False)
    places = [tuple(place) for place in data.test.isnan().nonzero().tolist()]
    assert places == [(3, 2), (7, 1), (19, 0)]
    assert data.test[4].tolist() == [4.5, 1.25, 16.0]
    assert "3 of 60 cells have no value, in column a, b, c." in " ".join(data.notes)


def test_a_first_row_without_values_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("?,?\n1.5,2.5\n3.5,4.0\n")
    assert len(load_data(tmp_path / "x.csv", split=False).test) == 3


def test_arrays_with_nan(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    x[4, 1] = NAN
    np.save(tmp_path / "x.npy", x)
    assert int(load_data(tmp_path / "x.npy", split=False).test.isnan().sum()) == 1
    x[:, 2] = NAN
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InvalidInputError, match="has no value to train on in column 2: take it out with --drop 2"):
        load_data(tmp_path / "x.npy")


def test_whole_numbers_and_bits_with_gaps(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("a,b\n" + "".join(f"{n},{n % 7 if n != 3 else ''}\n" for n in range(30)))
    data = load_data(tmp_path / "counts.csv", split=False)
    assert isinstance(data.transform, transforms.DequantiseTable)
    assert data.test.isnan().sum() == 1
    assert torch.equal(data.test.floor()[:3], torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]).to(data.test))
    (tmp_path / "bits.csv").write_text(
        "a,b\n" + "".join(f"{n % 2},{n % 3 % 2 if n != 3 else '?'}\n" for n in range(30))
    )
    assert load_data(tmp_path / "bits.csv", split=False).transform.discrete


def test_messages_are_about_the_values_that_are_there() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=generator).double()
    x[::2, 1] = NAN
    assert resolving_dtype(x) == torch.float32
    assert resolving_dtype(x * torch.tensor([1.0, 1e5])) == torch.float64
    assert rounding_message(x, ()) == ""
    assert few_values(x) == []
    assert "column 1" in rounding_message(x + torch.tensor([0.0, 1e8]), ())
    x[1::2, 1] = (x[1::2, 1] > 0).double()
    assert few_values(x) == [1]


OF_PIXELS = [
    transforms.Dequantise(5),
    transforms.Logit(5),
    transforms.Binarise(5),
    transforms.Threshold(5),
    transforms.Levels(5),
]


@pytest.mark.parametrize("transform", OF_PIXELS, ids=lambda transform: type(transform).__name__)
def test_pixel_transforms_keep_gaps_and_count_the_others(transform: transforms.Transform) -> None:
    pixels = torch.randint(5, (6, 4), generator=torch.Generator().manual_seed(0)).double()
    gaps = pixels.clone()
    gaps[0] = gaps[2, 1] = gaps[3, 0] = NAN
    transform.check(gaps)
    x = transform(gaps, torch.Generator().manual_seed(1))
    assert torch.equal(x.isnan(), gaps.isnan())
    jacobian = transform.log_jacobian(x)
    alone = [
        sum(float(transform.log_jacobian(value.reshape(1, 1))) for value in row[~row.isnan()].reshape(-1, 1))
        for row in x
    ]
    assert jacobian is not None
    torch.testing.assert_close(jacobian, torch.tensor(alone, dtype=torch.float64))
    whole = transform(pixels, torch.Generator().manual_seed(1))
    torch.testing.assert_close(x[1], whole[1])
    with pytest.raises(InvalidInputError, match="Row 1, column 2 has the value 9"):
        transform.check(torch.where(torch.arange(24).reshape(6, 4) == 6, 9.0, gaps))


def test_standardised_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    """The Jacobian of the observed entries brings log p(x) back: the exact pair gives the same with and without."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 3)) * [1.0, 1e-2, 50.0] + [0.0, 7.0, 100.0]
    x[rng.random(x.shape) < 0.3] = NAN
    np.save(tmp_path / "x.npy", x)
    values = []
    for transform in (None, "standardise"):
        data = load_data(tmp_path / "x.npy", transform, dtype="float64")
        if transform:
            column = data.train[:, 1]
            assert abs(float(column.nanmean())) < 1e-12
        model, guide = load("gaussian")(3)
        model.double().initialise(data.train)
        values.append(evaluate(model, guide, data.test, transform=data.transform))
    torch.testing.assert_close(values[0].log_likelihood, values[1].log_likelihood, rtol=0, atol=1e-4)
    torch.testing.assert_close(values[0].elbo, values[1].elbo, rtol=0, atol=1e-4)


def test_bits_per_dimension_are_of_the_observed_entries() -> None:
    """A uniform density of dequantised pixels is log2 of their levels in each, however many are missing."""
    import pyro
    import pyro.distributions as dist

    import pyrovae

    class Uniform(pyrovae.Module):
        handles_missing = True

        def forward(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                density = dist.Uniform(x.new_zeros(4), 1.0).to_event(1)
                pyro.sample("x", pyrovae.distributions.observed(density, x), obs=x)

    transform = transforms.Dequantise(8)
    pixels = torch.randint(8, (20, 4), generator=torch.Generator().manual_seed(0)).float()
    pixels[::3, 1] = NAN
    evidence = evaluate(Uniform(), lambda x: None, transform(pixels), 2, transform=transform)
    assert evidence.num_missing == 7
    assert evidence.bits_per_dim == pytest.approx(3.0, abs=1e-6)
