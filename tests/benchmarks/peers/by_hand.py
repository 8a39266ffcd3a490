"""Hand-written PyTorch: the loss as one would write it for this model alone, one fused Adam, data resident.

Each loss is −ELBO of a batch, in nats, as a function of the parameters by name. With its exact guide the mixture's ELBO *is*
log p(x), so that is what a person writes; PPCA draws from its posterior as the pair does.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cases import LR, SOFTPLUS_ONE, Case, batches
from torch import Tensor

Parameters = dict[str, Tensor]
LOG_2PI = math.log(2 * math.pi)


def vae(p: Parameters, x: Tensor) -> Tensor:
    """KL(q(z|x) ‖ N(0, I)) in closed form, less log Bernoulli(x | logits(z))."""
    loc, rho = _mlp(p, "enc", x).chunk(2, dim=-1)
    sigma = F.softplus(rho + SOFTPLUS_ONE) + 1e-6
    z = loc + sigma * torch.randn_like(sigma)
    logits = _mlp(p, "dec", z) + p["offset"]
    kl = 0.5 * (sigma.square() + loc.square() - 1).sum() - sigma.log().sum()
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl


def _mlp(p: Parameters, name: str, h: Tensor) -> Tensor:
    layers = sum(key.startswith(name) for key in p) // 2
    for layer in range(layers):
        h = F.linear(h, p[f"{name}{layer}.weight"], p[f"{name}{layer}.bias"])
        h = torch.tanh(h) if layer < layers - 1 else h
    return h


def ppca(p: Parameters, x: Tensor) -> Tensor:
    """log q(z|x) − log p(x, z) at one z ~ N(M⁻¹Wᵀ(x − μ), σ²M⁻¹), M = WᵀW + σ²I."""
    W, mu, log_sigma = p["W"], p["mu"], p["log_sigma"]
    (dim, latent), count = W.shape, len(x)
    identity = torch.eye(latent, dtype=x.dtype, device=x.device)
    variance = (2 * log_sigma).exp()
    root = torch.linalg.cholesky(W.mT @ W + variance * identity)
    loc = torch.cholesky_solve(W.mT @ (x - mu).mT, root).mT
    scale = torch.linalg.cholesky(variance * torch.cholesky_solve(identity, root))
    noise = torch.randn(count, latent, dtype=x.dtype, device=x.device)
    z = loc + noise @ scale.mT
    log_p = -0.5 * ((x - mu - z @ W.mT).square().sum() / variance + z.square().sum())
    log_q = -0.5 * noise.square().sum() - count * scale.diagonal().log().sum()
    return log_q - log_p + count * dim * (log_sigma + 0.5 * LOG_2PI)


def ppca_marginal(p: Parameters, x: Tensor) -> Tensor:
    """−log N(x | μ, WWᵀ + σ²I), by the determinant and inversion lemmas: what the loss above is equal to for every z."""
    W, mu, log_sigma = p["W"], p["mu"], p["log_sigma"]
    dim, latent = W.shape
    variance = (2 * log_sigma).exp()
    root = torch.linalg.cholesky(W.mT @ W + variance * torch.eye(latent, dtype=x.dtype, device=x.device))
    centred = x - mu
    white = torch.linalg.solve_triangular(root, (centred @ W).mT, upper=False)
    distance = (centred.square().sum() - white.square().sum()) / variance
    log_det = 2 * root.diagonal().log().sum() + 2 * (dim - latent) * log_sigma
    return 0.5 * (distance + len(x) * (log_det + dim * LOG_2PI))


def mixture(p: Parameters, x: Tensor, centre: Tensor, axes: Tensor, variances: Tensor, floor: float) -> Tensor:
    """−log Σ_k π_k N(x | μ_k, (P_k P_kᵀ)⁻¹), one matrix product for each component. μ and P as in pyrovae's `Full`:
    μ = centre + U diag(√v) b, P = U diag(v^−½) R C, C the diagonal that keeps the floor."""
    loc, factor, log_det = _precision(p, centre, axes, variances, floor)
    white = torch.baddbmm(-(loc[:, None] @ factor), x.expand(len(loc), -1, -1), factor)
    log_p = log_det[:, None] - 0.5 * (white.square().sum(-1) + x.shape[-1] * LOG_2PI)
    return -torch.logsumexp(p["logits"].log_softmax(-1)[:, None] + log_p, dim=0).sum()


def _precision(
    p: Parameters, centre: Tensor, axes: Tensor, variances: Tensor, floor: float
) -> tuple[Tensor, Tensor, Tensor]:
    dim = centre.shape[-1]
    diagonal = p["packed"][:, :dim]
    root = _lower(diagonal.exp(), p["packed"][:, dim:]) * variances.rsqrt()[:, :, None]
    cap = (floor * (root.mT @ root).abs().sum(-1)).rsqrt().clamp(max=1)
    log_det = (diagonal + cap.log() - 0.5 * variances.log()).sum(-1)
    loc = centre + (axes @ (variances.sqrt() * p["shift"])[:, :, None])[:, :, 0]
    return loc, axes @ (root * cap[:, None]), log_det


def _lower(diagonal: Tensor, below: Tensor) -> Tensor:
    """Lower triangular matrices from their diagonals and, by rows, what is below."""
    row, column = torch.tril_indices(diagonal.shape[-1], diagonal.shape[-1], offset=-1, device=diagonal.device)
    matrix = torch.diag_embed(diagonal)
    matrix[:, row, column] = below
    return matrix


def mixture_solving(p: Parameters, x: Tensor, centre: Tensor, axes: Tensor, variances: Tensor, floor: float) -> Tensor:
    """The same with torch's own `MultivariateNormal`, which solves a triangular system for every point."""
    loc, factor, _ = _precision(p, centre, axes, variances, floor)
    family = torch.distributions.MultivariateNormal(loc, precision_matrix=factor @ factor.mT, validate_args=False)
    return -torch.logsumexp(p["logits"].log_softmax(-1) + family.log_prob(x[:, None]), dim=-1).sum()


def mixture_plain(p: Parameters, x: Tensor, **_: Any) -> Tensor:
    """The same density from other parameters, and without a floor: μ itself and P lower triangular, Σ⁻¹ = P Pᵀ."""
    loc, dim = p["loc"], x.shape[-1]
    factor = _lower(p["plain"][:, :dim].exp(), p["plain"][:, dim:])
    white = torch.baddbmm(-(loc[:, None] @ factor), x.expand(len(loc), -1, -1), factor)
    log_p = p["plain"][:, :dim].sum(-1)[:, None] - 0.5 * (white.square().sum(-1) + dim * LOG_2PI)
    return -torch.logsumexp(p["logits"].log_softmax(-1)[:, None] + log_p, dim=0).sum()


def plain_start(case: Case) -> Parameters:
    """Where `mixture_plain` has the pair's density."""
    start = case.start
    loc, factor, _ = _precision(start, **case.constants)
    root = torch.linalg.cholesky(factor @ factor.mT)
    row, column = torch.tril_indices(loc.shape[-1], loc.shape[-1], offset=-1, device=loc.device)
    packed = torch.cat([root.diagonal(dim1=-2, dim2=-1).log(), root[:, row, column]], dim=-1)
    return {"loc": loc, "plain": packed, "logits": start["logits"]}


class ByHand:
    """A loss with Adam. `compile` are torch.compile's arguments, for loss and backward; None: eager. `start`:
    parameters, where they are not the case's."""

    def __init__(
        self,
        case: Case,
        loss: Callable[..., Tensor],
        compile: dict[str, Any] | None = None,
        start: Parameters | None = None,
    ):
        self.p = {name: value.clone().requires_grad_() for name, value in (start or case.start).items()}
        self.constants, self.batches = case.constants, batches(case)
        self.optimizer = torch.optim.Adam(self.p.values(), lr=LR, fused=True)
        self.compiled = compile is not None
        self.function = loss if compile is None else torch.compile(loss, **compile)
        self.device = case.data.device

    def loss(self, x: Tensor) -> float:
        with torch.no_grad():
            return float(self.function(self.p, x, **self.constants))

    def step(self, x: Tensor) -> None:
        self.optimizer.zero_grad()
        self.function(self.p, x, **self.constants).backward()
        self.optimizer.step()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step(next(self.batches))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
