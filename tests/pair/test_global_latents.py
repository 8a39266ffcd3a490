"""Global latents fixed at a point: log p(x_n | θ) of each point, beside closed forms."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate

import pyrovae
from pyrovae import condition_on_globals, evaluate

X = torch.linspace(-3, 3, 7).double().unsqueeze(-1)
B = torch.tensor(0.7).double()


def noisy(x):
    """b ~ LogNormal(0, 1), z ~ N(0, 1), x|z, b ~ N(z, b²)."""
    b = pyro.sample("b", dist.LogNormal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, b).to_event(1), obs=x)


def posterior(x):
    """A draw of b, then p(z|x, b) = N(x / (1 + b²), b² / (1 + b²))."""
    b = pyro.sample("b", dist.LogNormal(x.new_ones(()), 0.1))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / (1 + b**2), b / (1 + b**2).sqrt()).to_event(1))


def test_every_weight_is_the_conditional_density():
    """With the exact posterior of z given b, log w = log N(x; 0, 1 + b²): b is that of `values` in both halves."""
    pair = condition_on_globals(noisy, posterior, X, {"b": B})
    log_w = pyrovae.log_weights(*pair, X, 5)
    exact = dist.Normal(0.0, (1 + B**2).sqrt()).log_prob(X.squeeze(-1))
    torch.testing.assert_close(log_w, exact.expand(5, -1), atol=1e-10, rtol=0)


def test_a_mixture_with_global_weights_means_and_scale():
    values = {"weights": torch.tensor([0.3, 0.7]), "locs": torch.tensor([-1.0, 2.0]), "scale": torch.tensor(0.8)}
    values = {name: value.double() for name, value in values.items()}

    @config_enumerate
    def mixture(x):
        weights = pyro.sample("weights", dist.Dirichlet(x.new_ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(x.new_zeros(()), 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(x.new_zeros(()), 10.0))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(locs[k].unsqueeze(-1), scale).to_event(1), obs=x)

    evidence = evaluate(*condition_on_globals(mixture, lambda x: None, X, values), X, num_samples=3)
    classes = dist.Categorical(values["weights"])
    exact = dist.MixtureSameFamily(classes, dist.Normal(values["locs"], values["scale"])).log_prob(X.squeeze(-1))
    torch.testing.assert_close(evidence.log_likelihood, exact, atol=1e-10, rtol=0)


def test_the_result_names_what_it_is_conditional_on():
    evidence = evaluate(*condition_on_globals(noisy, posterior, X, {"b": B}), X, num_samples=3)
    assert evidence.metadata["conditional_on"] == ["b"]
    assert "log p̂(x | b)" in repr(evidence)
    assert evidence.reliability_message.startswith("This is log p(x | b), with these global latents fixed")
    assert evidence.to_dict()["reliability_message"] == evidence.reliability_message
    plain = evaluate(*pyrovae.load("ppca")(3, latent=1), torch.rand(5, 3), num_samples=3)
    assert "conditional_on" not in plain.metadata
    assert "fixed" not in plain.reliability_message


@pytest.mark.parametrize("values", [{}, {"z": B}, {"b": B, "z": B}])
def test_a_value_for_each_global_latent_and_for_nothing_else(values):
    with pytest.raises(pyrovae.InvalidInputError, match=r"are b, and there are values for .*: give one value for each"):
        condition_on_globals(noisy, posterior, X, values)


def test_modules_of_the_pair_are_found(seed):
    """Their parameters are used, and their mode is set, through the conditioned pair."""
    model, guide = pyrovae.load("vae")(4, latent=2)

    def shifted(x):
        pyro.sample("shift", dist.Normal(x.new_zeros(()), 1.0))
        model(x)

    x = torch.rand(6, 4)
    torch.manual_seed(seed)
    expected = pyrovae.log_weights(model, guide, x, 3)
    torch.manual_seed(seed)
    pair = condition_on_globals(shifted, guide, x, {"shift": torch.tensor(0.0)})
    torch.manual_seed(seed)
    torch.testing.assert_close(pyrovae.log_weights(*pair, x, 3), expected)
