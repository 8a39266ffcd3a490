"""NumPyro, as its own examples write it: `jax.jit(svi.update)` a step, or `lax.scan` over many. Needs numpyro and jax.

The mixture's latent is summed out by hand, as in by_hand.py.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from cases import LR, SOFTPLUS_ONE, Case
from numpyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

Programs = tuple[Callable, Callable]


def vae(start: dict[str, Any]) -> Programs:
    latent = start["dec0.weight"].shape[1]

    def network(name: str, h: Any) -> Any:
        layers = sum(key.startswith(name) for key in start) // 2
        for layer in range(layers):
            weight, bias = _param(start, f"{name}{layer}.weight"), _param(start, f"{name}{layer}.bias")
            h = h @ weight.T + bias
            h = jnp.tanh(h) if layer < layers - 1 else h
        return h

    def model(x: Any) -> None:
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent), 1.0).to_event(1))
            logits = network("dec", z) + _param(start, "offset")
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: Any) -> None:
        loc, rho = jnp.split(network("enc", x), 2, axis=-1)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Normal(loc, jax.nn.softplus(rho + SOFTPLUS_ONE) + 1e-6).to_event(1))

    return model, guide


def ppca(start: dict[str, Any]) -> Programs:
    def parts() -> tuple[Any, Any, Any]:
        return _param(start, "W"), _param(start, "mu"), _param(start, "log_sigma")

    def model(x: Any) -> None:
        W, mu, log_sigma = parts()
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(W.shape[1]), 1.0).to_event(1))
            numpyro.sample("x", dist.Normal(z @ W.T + mu, jnp.exp(log_sigma)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        W, mu, log_sigma = parts()
        variance, identity = jnp.exp(2 * log_sigma), jnp.eye(W.shape[1])
        root = jnp.linalg.cholesky(W.T @ W + variance * identity)
        loc = jax.scipy.linalg.cho_solve((root, True), ((x - mu) @ W).T).T
        scale = jnp.linalg.cholesky(variance * jax.scipy.linalg.cho_solve((root, True), identity))
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.MultivariateNormal(loc, scale_tril=scale))

    return model, guide


def mixture(start: dict[str, Any], centre: Any, axes: Any, variances: Any, floor: float) -> Programs:
    dim = centre.shape[-1]
    rows, columns = jnp.tril_indices(dim, k=-1)
    places = jnp.arange(dim)

    def model(x: Any) -> None:
        shift, packed, logits = _param(start, "shift"), _param(start, "packed"), _param(start, "logits")
        diagonal = packed[:, :dim]
        root = jnp.zeros_like(axes).at[:, places, places].set(jnp.exp(diagonal))
        root = root.at[:, rows, columns].set(packed[:, dim:]) / jnp.sqrt(variances)[:, :, None]
        gram = jnp.swapaxes(root, -1, -2) @ root
        cap = jnp.minimum(1.0, 1 / jnp.sqrt(floor * jnp.abs(gram).sum(-1)))
        log_det = (diagonal + jnp.log(cap) - 0.5 * jnp.log(variances)).sum(-1)
        loc = centre + (axes @ (jnp.sqrt(variances) * shift)[:, :, None])[:, :, 0]
        factor = axes @ (root * cap[:, None])
        white = jnp.einsum("nd,kde->kne", x, factor) - loc[:, None] @ factor
        log_p = log_det[:, None] - 0.5 * ((white**2).sum(-1) + dim * math.log(2 * math.pi))
        joint = jax.nn.log_softmax(logits)[:, None] + log_p
        numpyro.factor("x", jax.scipy.special.logsumexp(joint, axis=0).sum())

    return model, lambda x: None


def _param(start: dict[str, Any], name: str) -> Any:
    return numpyro.param(name, start[name])


class InNumPyro:
    def __init__(self, case: Case, scan: bool):
        arrays = {name: _array(value) for name, value in case.start.items()}
        constants = {
            name: _array(value) if isinstance(value, Tensor) else value for name, value in case.constants.items()
        }
        model, guide = {"vae": vae, "ppca": ppca, "mixture": mixture}[case.kind](arrays, **constants)
        objective = TraceMeanField_ELBO() if case.kind == "vae" else Trace_ELBO()
        self.svi = SVI(model, guide, numpyro.optim.Adam(LR), objective)
        self.data, self.size, self.scan = _array(case.data), case.batch, scan
        self.keys = iter(jax.random.split(jax.random.PRNGKey(0), 100_000))
        self.state = self.svi.init(next(self.keys), self.data[: self.size])
        self.update, self.evaluate = jax.jit(self.svi.update), jax.jit(self.svi.evaluate)
        self.indices = self._order()

        def on_index(state: Any, index: Any) -> tuple[Any, Any]:
            x = self.data if self.size == len(self.data) else self.data[index]
            return self.svi.update(state, x)

        self.on_index = jax.jit(on_index)
        self.many = jax.jit(lambda state, indices: jax.lax.scan(on_index, state, indices))

    def _order(self) -> Any:
        while True:
            order = jax.random.permutation(next(self.keys), len(self.data))
            yield from order[: len(order) // self.size * self.size].reshape(-1, self.size)

    @property
    def p(self) -> dict[str, Any]:
        return self.svi.get_params(self.state)

    def loss(self, x: Tensor) -> float:
        drawn = self.state._replace(rng_key=next(self.keys))
        return float(self.evaluate(drawn, _array(x)))

    def step(self, x: Tensor) -> None:
        self.state, _ = self.update(self.state, _array(x))

    def run(self, steps: int) -> None:
        if self.scan:
            self.state, losses = self.many(self.state, jnp.stack([next(self.indices) for _ in range(steps)]))
            losses.block_until_ready()
            return
        for _ in range(steps):
            self.state, loss = self.on_index(self.state, next(self.indices))
        loss.block_until_ready()


def _array(value: Tensor) -> Any:
    return jnp.asarray(value.detach().cpu().numpy())
