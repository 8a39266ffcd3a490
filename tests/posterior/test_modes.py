"""Newton's ends, the modes among them and the mixture about them, against targets whose modes and masses are known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyrovae import load
from pyrovae.posterior.climbing import Ends, _derivatives, climb
from pyrovae.posterior.joint_density import Joint
from pyrovae.posterior.mode_mixture import choose_mixture, mixture_about
from pyrovae.posterior.mode_search import thorough_search
from pyrovae.posterior.modes import distinct_modes


def standard(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))


def squared(x):
    """z ~ N(0, 1), x ~ N(z², 0.3²): two modes, near ±√x."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.square(), 0.3).to_event(1), obs=x)


def test_a_gaussian_posterior_is_reached_in_a_step_and_its_mass_is_exact():
    model, guide = load("ppca")(6, latent=3)
    model.double()  # the guide is the model's own posterior
    x = torch.randn(20, 6).double()
    with torch.no_grad():
        joint = Joint(model, guide, x)
        ends = climb(joint, 10 * torch.randn(4, 20, 3).double())
        modes = distinct_modes(ends, 8)
        posterior, log_p = model.posterior(x), model.log_prob(x)
    assert ends.arrived.all()
    assert (modes.exists.sum(0) == 1).all()
    assert (modes.num_starts == 4).all()
    torch.testing.assert_close(modes.location[0], posterior.mean, rtol=0, atol=1e-2)
    torch.testing.assert_close(modes.precision[0], torch.linalg.inv(posterior.covariance_matrix), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(modes.log_mass, log_p, rtol=0, atol=1e-3)


def test_ends_within_a_standard_deviation_are_no_sign_of_modes_that_were_missed():
    """At 0, 0.6 and 5 standard deviations: three places to draw about, and one that only one start has come near."""
    location = torch.tensor([0.0, 0.6, 5.0]).double()[:, None, None]
    ones = torch.ones(3, 1).double()
    modes = distinct_modes(Ends(location, -location[..., 0], ones[..., None, None], ones.bool()), 8)
    assert modes.exists.sum() == 3
    assert modes.num_starts.flatten().tolist() == [1, 1, 1]
    assert modes.found_once.flatten().tolist() == [False, False, True]
    assert modes.share_found_once == 1 / 3


def test_both_modes_are_found_and_a_single_start_says_that_it_knows_one():
    x = torch.linspace(1.5, 3, 16).double()[:, None]
    with torch.no_grad():
        joint = Joint(squared, standard, x)
        both = distinct_modes(
            climb(joint, torch.tensor([-2.0, -1.0, 1.5, 2.0]).double()[:, None, None].expand(4, 16, 1)), 8
        )
    assert (both.exists.sum(0) == 2).all()
    assert (both.num_starts.sum(0) == 4).all()
    assert (both.share_found_once == 0).all()
    # d/dz of −z²/2 − (x − z²)²/0.18 is zero at z² = x − 0.045
    torch.testing.assert_close(both.location[:2, :, 0].abs(), (x - 0.045).sqrt().mT.expand(2, -1), rtol=0, atol=1e-2)


def test_ends_of_earlier_climbs_spare_hessians(monkeypatch):
    """The start at −1 finds a mode of its own, the other two that of the earlier climb, whose Hessian is taken over."""
    x = torch.linspace(1.5, 3, 4).double()[:, None]
    starts = torch.tensor([-1.0, 1.0, 1.6]).double()[:, None, None].expand(3, 4, 1)
    hessians = []

    def counted(log_density, u):
        hessians.append(u.shape[1])
        return _derivatives(log_density, u)

    monkeypatch.setattr("pyrovae.posterior.climbing._derivatives", counted)
    with torch.no_grad():
        joint = Joint(squared, standard, x)
        known = climb(joint, torch.ones(1, 4, 1).double())
        alone, without = climb(joint, starts), sum(hessians)
        hessians.clear()
        ends = climb(joint, starts, known)
    assert sum(hessians) < without / 2
    assert ends.arrived.all()
    deviation = alone.precision[..., 0].rsqrt()
    assert ((ends.location - alone.location).abs() < 0.05 * deviation).all()
    torch.testing.assert_close(ends.precision, alone.precision, rtol=0.05, atol=0)


def test_a_saddle_is_left_with_the_precision_of_a_known_end():
    """At 0 the gradient is zero between two modes."""
    x = torch.full((3, 1), 2.0).double()
    with torch.no_grad():
        joint = Joint(squared, standard, x)
        ends = climb(joint, torch.zeros(1, 3, 1).double(), climb(joint, torch.ones(1, 3, 1).double()))
    torch.testing.assert_close(ends.location.abs(), torch.full((1, 3, 1), 1.955**0.5).double(), rtol=0, atol=1e-2)


def test_ends_that_nobody_else_reached_are_counted():
    x = torch.full((1, 1), 2.0).double()
    with torch.no_grad():
        ends = climb(Joint(squared, standard, x), torch.tensor([-1.0, 1.0, 2.0]).double()[:, None, None])
    assert float(distinct_modes(ends, 8).share_found_once) == pytest.approx(1 / 3)


def test_a_climb_that_stops_on_its_way_to_a_mode_is_not_another():
    """One point has modes at 0 and 4, and climbs that were not finished at 0.5, beside the first, and at 9. The other has one."""
    location = torch.tensor([[0.0, 4.0, 0.5, 9.0], [1.0, 1.0, 1.0, 1.0]]).double().mT.unsqueeze(-1)
    log_density = torch.tensor([[0.0, -2.0, -1.0, -3.0], [-1.0, -1.0, -1.0, -1.0]]).double().mT
    arrived = torch.tensor([[True, True, False, False], [False, False, False, True]]).mT
    modes = distinct_modes(Ends(location, log_density, torch.ones(4, 2, 1, 1).double(), arrived), 8)
    assert modes.location[:, 0, 0].tolist() == [0.0, 0.5, 4.0, 9.0]
    kept = modes.without_unfinished()
    assert kept.exists.tolist() == [[True, True], [True, False], [True, False]]
    assert kept.location[:, 0, 0].tolist() == [0.0, 4.0, 9.0]
    assert kept.at_rest[:, 0].tolist() == [True, True, False]
    assert kept.num_starts[0].tolist() == [1, 4]
    assert kept.at_rest[0, 1]
    torch.testing.assert_close(kept.log_masses[:, 0].diff(), torch.tensor([-2.0, -1.0]).double())


def test_the_density_of_the_mixture_integrates_to_one_and_its_draws_have_it(seed):
    torch.manual_seed(seed)
    x = torch.linspace(1.5, 3, 4).double()[:, None]
    with torch.no_grad():
        joint = Joint(squared, standard, x)
        mixture = choose_mixture(joint, thorough_search(joint))
        grid = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
        density = mixture.log_density(grid[:, None, None].expand(-1, 4, 1)).exp()
        mass = density.sum(0) * float(grid[1] - grid[0])
        torch.testing.assert_close(mass, torch.ones(4).double(), rtol=0, atol=1e-4)
        draws = mixture.draw(20_000)
    below = (density.cumsum(0) * float(grid[1] - grid[0]))[(grid < 1.0).sum() - 1]
    share = (draws[..., 0] < 1.0).double().mean(0)
    assert ((share - below).abs() < 5 * (below * (1 - below) / 20_000).sqrt()).all()


def test_a_kink_at_the_mode_has_the_width_of_the_density():
    """z ~ Laplace(0, 1) has no curvature beside its mode, and log p drops by 2 at a distance of 2."""

    def laplace(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Laplace(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1), obs=x)

    with torch.no_grad():
        joint = Joint(laplace, standard, torch.zeros(3, 1).double())
        modes = distinct_modes(climb(joint, torch.full((1, 3, 1), 1e-9).double()), 1)
        mixture = mixture_about(joint, modes, stretch=True)
    torch.testing.assert_close(mixture.widths, torch.ones(1, 3, 1).double(), rtol=0.05, atol=0)
    assert math.isfinite(float(mixture.log_density(modes.location).sum()))


def test_a_second_derivative_that_is_not_finite_is_made_of_differences():
    """The second derivative of `torch.logaddexp` is NaN where its arguments are a thousand nats apart."""

    def log_density(u):
        far = torch.logaddexp(-1000 + 0 * u, -u.square() / 2)
        return far.sum(-1)

    u = torch.tensor([[[0.5, -1.0]]]).double()
    with torch.no_grad():
        value, gradient, hessian = _derivatives(log_density, u)
    torch.testing.assert_close(value, -u.square().sum(-1) / 2)
    torch.testing.assert_close(gradient, -u)
    torch.testing.assert_close(hessian[0, 0], -torch.eye(2).double(), rtol=0, atol=1e-6)


def test_modes_of_some_points_are_replaced():
    """Where one search found more modes than the other, those that are missing do not exist."""
    joint = Joint(squared, standard, torch.full((4, 1), 2.0).double())
    torch.manual_seed(0)
    both = thorough_search(joint)
    one = distinct_modes(climb(joint, torch.ones(1, 4, 1).double()), 4)
    rows = torch.tensor([True, False, False, True])
    mixed = one.replaced(rows, thorough_search(joint.subset(rows)))
    assert mixed.exists.sum(0).tolist() == [2, 1, 1, 2]
    torch.testing.assert_close(mixed.log_mass, torch.where(rows, both.log_mass, one.log_mass), rtol=0, atol=0.005)


def test_the_mass_of_a_missed_mode_is_that_of_the_mode():
    """p(u | x) has two modes of equal mass. A search that knows one of them misses log 2, and one that knows both misses nothing."""
    joint = Joint(squared, standard, torch.full((3, 1), 2.0).double())
    torch.manual_seed(0)
    both = thorough_search(joint)
    one = distinct_modes(climb(joint, torch.ones(1, 3, 1).double()), 4)
    again = distinct_modes(climb(joint, torch.tensor([1.3, -0.7]).double().reshape(2, 1, 1).expand(2, 3, 1)), 4)
    assert not torch.equal(again.location, both.location)  # climbs end near the mode, and not at one place
    torch.testing.assert_close(both.mass_missed_by(one), torch.full((3,), math.log(2)).double(), rtol=0, atol=5e-3)
    assert both.mass_missed_by(again).tolist() == [0.0, 0.0, 0.0]
    assert one.mass_missed_by(both).tolist() == [0.0, 0.0, 0.0]
