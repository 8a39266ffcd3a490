"""How often an estimate that is called reliable is wrong: pairs with known log p(x), from easy to hopeless.

    python tests/benchmarks/calibration.py --out tests/benchmarks/results/calibration.json

A point is wrong where its estimate is off by more than 4 standard errors and 0.05 nats. A family has hidden modes where some of
the posterior's mass may lie in modes that no start comes near.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import pyrovae

POINTS = 20
GRID = torch.linspace(-30, 30, 60_001).double()
Likelihood = Callable[[Tensor], Any]  # z → the distribution of x, element by element

STANDARD = dist.Normal(torch.zeros(()).double(), 1.0)


@dataclass(frozen=True)
class Problem:
    """A pair, points, and their exact log p(x)."""

    family: str
    hidden_modes: bool
    model: Any
    guide: Any
    x: Tensor
    exact: Tensor


def independent(
    family: str, likelihood: Likelihood, d: int, prior: Any = STANDARD, *, hidden: bool = False, **guide: Any
) -> Problem:
    """d latents with a prior each, and x_i of z_i alone: log p(x) is a sum of quadratures in one dimension."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior.expand((d,)).to_event(1))
            pyro.sample("x", likelihood(z).to_event(1), obs=x)

    drawn = prior.expand((POINTS, d)).sample()
    x = likelihood(drawn).sample()
    positive = prior.support in (dist.constraints.positive, dist.constraints.nonnegative)
    grid = GRID[GRID > 0] if positive else GRID
    step = float(grid[1] - grid[0])
    log_joint = prior.log_prob(grid) + likelihood(grid).log_prob(x.unsqueeze(-1))
    exact = (log_joint.logsumexp(-1) + math.log(step)).sum(-1)
    return Problem(family, hidden, model, guide_of(d, positive=positive, **guide), x, exact)


def guide_of(d: int, loc: float = 0.0, scale: float = 1.0, *, positive: bool = False) -> Any:
    """A guide that knows nothing of x."""

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            own = dist.LogNormal if positive else dist.Normal
            pyro.sample("z", own(x.new_full((d,), loc), scale).to_event(1))

    return guide


def linear(d: int, **guide: Any) -> Problem:
    """x = W z + noise, 60 numbers: all latents are correlated in the posterior."""
    weights = torch.randn(d, 60).double() / 4

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(d), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weights, 0.7).to_event(1), obs=x)

    marginal = dist.MultivariateNormal(torch.zeros(60).double(), weights.mT @ weights + 0.49 * torch.eye(60).double())
    x = marginal.sample((POINTS,))
    return Problem("linear Gaussian", False, model, guide_of(d, **guide), x, marginal.log_prob(x))


def funnel(sigma: float) -> Problem:
    """v ~ N(0, 1), z ~ N(0, e^v), x ~ N(z, σ²): by quadrature over v, z integrated out."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            v = pyro.sample("v", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            z = pyro.sample("z", dist.Normal(0.0, (v / 2).exp()).to_event(1))
            pyro.sample("x", dist.Normal(z, sigma).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("v", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("z", dist.Normal(x, sigma).to_event(1))

    v = STANDARD.sample((POINTS, 1))
    x = dist.Normal(0.0, (v.exp() + sigma**2).sqrt()).sample()
    log_joint = STANDARD.log_prob(GRID) + dist.Normal(0.0, (GRID.exp() + sigma**2).sqrt()).log_prob(x)
    return Problem("funnel", False, model, guide, x, log_joint.logsumexp(-1) + math.log(float(GRID[1] - GRID[0])))


def ring(sigma: float) -> Problem:
    """z ~ N(0, I₂), x ~ N(|z|, σ²): a ring of modes. By quadrature over the radius, which is of Rayleigh's distribution."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.norm(dim=-1, keepdim=True), sigma).to_event(1), obs=x)

    radius = GRID[GRID > 0]
    x = (torch.randn(POINTS, 2).double().norm(dim=-1, keepdim=True) + sigma * torch.randn(POINTS, 1)).double()
    log_joint = radius.log() - radius.square() / 2 + dist.Normal(radius, sigma).log_prob(x)
    exact = log_joint.logsumexp(-1) + math.log(float(GRID[1] - GRID[0]))
    return Problem("ring", True, model, guide_of(2), x, exact)


def needle(width: float, d: int) -> Problem:
    """A class sums out of z ~ ½ N(0, I) + ½ N(3, width²): the posterior is that, because x says nothing of z."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(x.new_ones(2)), infer={"enumerate": "parallel"}).unsqueeze(-1)
            loc, scale = torch.where(k == 1, 3.0, 0.0), torch.where(k == 1, width, 1.0)
            pyro.sample("z", dist.Normal(loc.expand(*k.shape[:-1], d).to(x), scale.to(x)).to_event(1))
            pyro.sample("x", dist.Normal(x.new_zeros(1), 1.0).to_event(1), obs=x)

    x = torch.randn(POINTS, 1).double()
    return Problem("needle", True, model, guide_of(d), x, STANDARD.log_prob(x).sum(-1))


def single_precision(offset: float) -> Problem:
    """Linear Gaussian data about a large number, in single precision."""
    noise = 0.1

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + offset, noise).to_event(1), obs=x)

    x = (torch.randn(POINTS, 3) * math.sqrt(1 + noise**2) + offset).float()
    exact = dist.Normal(offset, math.sqrt(1 + noise**2)).log_prob(x.double()).sum(-1)
    return Problem("float32 with an offset", False, model, guide_of(3), x, exact)


def problems() -> Iterator[Callable[[], Problem]]:
    """What builds each problem, the easy ones first."""
    guides: list[dict[str, float]] = [{}, {"scale": 0.2}, {"loc": 3.0, "scale": 0.3}, {"scale": 4.0}]
    for d in (1, 2, 5, 10, 16, 30, 50):
        for guide in guides:
            yield lambda d=d, guide=guide: linear(d, **guide)
    normal, poisson = dist.Normal, dist.Poisson
    for d in (1, 5, 16, 30):
        for guide in guides[:3]:
            for sigma in (0.3, 1.0):
                yield lambda d=d, s=sigma, g=guide: independent("skewed", lambda z: normal(z.exp(), s), d, **g)
            yield lambda d=d, g=guide: independent("Poisson counts", lambda z: poisson(z.exp()), d, **g)
            yield lambda d=d, g=guide: independent("binary", lambda z: dist.Bernoulli(logits=3 * z), d, **g)
            yield lambda d=d, g=guide: independent("ReLU", lambda z: normal(z.relu(), 0.3), d, **g)
            yield lambda d=d, g=guide: independent("tanh", lambda z: normal(z.tanh(), 0.1), d, **g)
    zero = torch.zeros(()).double()
    priors = {
        "Laplace prior": dist.Laplace(zero, 1.0),
        "Student t prior": dist.StudentT(torch.tensor(3.0).double(), 0.0, 1.0),
        "Gamma prior": dist.Gamma(torch.tensor(2.0).double(), 1.0),
    }
    for name, prior in priors.items():
        for d in (1, 5, 20):
            for sigma in (0.3, 1.0):
                yield lambda n=name, p=prior, d=d, s=sigma: independent(n, lambda z: normal(z, s), d, p)
    yield from (lambda s=s: funnel(s) for s in (0.1, 0.3, 1.0))
    yield from (lambda o=o: single_precision(o) for o in (0.0, 1e2, 1e4, 1e6))
    for d in (1, 2, 3, 5, 10):
        for sigma in (0.1, 0.3, 1.0):
            yield lambda d=d, s=sigma: independent(
                "two modes a latent", lambda z: normal(z.square(), s), d, hidden=True
            )
    yield from (lambda s=s: ring(s) for s in (0.03, 0.1, 0.3))
    yield from (lambda w=w, d=d: needle(w, d) for w in (0.05, 0.2, 0.5) for d in (1, 2, 5, 10))


def measure(problem: Problem, seed: int) -> dict[str, Any]:
    """What is said of each point of a problem, and what is true."""
    started = time.perf_counter()
    found = pyrovae.evaluate(problem.model, problem.guide, problem.x, seed=seed, compile=False)
    error = found.log_likelihood - problem.exact
    wrong = ~(error.abs() <= 4 * found.log_likelihood_se + 0.05)
    return {
        "family": problem.family,
        "hidden_modes": problem.hidden_modes,
        "points": len(found),
        "reliable": int(found.reliable.sum()),
        "wrong": int(wrong.sum()),
        "wrong_and_reliable": int((wrong & found.reliable).sum()),
        "covered": int((error.abs() <= 1.96 * found.log_likelihood_se)[found.reliable].sum()),
        "reached": int(found.reached.sum()),
        "mean_error": float(error.mean()),
        "reliability": found.reliability,
        "method": found.method[0],
        "seconds": time.perf_counter() - started,
    }


def rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of several problems: shares of points, and of problems."""
    total = {
        key: sum(row[key] for row in rows)
        for key in ("points", "reliable", "wrong", "wrong_and_reliable", "covered", "reached")
    }
    right = [row for row in rows if abs(row["mean_error"]) < 0.02]
    return {
        "pairs": len(rows),
        "reliable": total["reliable"] / total["points"],
        "reached": total["reached"] / total["points"],
        "wrong": total["wrong"] / total["points"],
        "wrong_given_reliable": total["wrong_and_reliable"] / max(1, total["reliable"]),
        "coverage_given_reliable": total["covered"] / max(1, total["reliable"]),
        "right_means": len(right) / len(rows),
        "reliable_given_right_mean": sum(row["reliability"] == "reliable" for row in right) / max(1, len(right)),
        "reliable_means_that_are_wrong": sum(
            row["reliability"] == "reliable" and abs(row["mean_error"]) > 0.05 for row in rows
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="take one problem of so many")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for number, build in enumerate(list(problems())[:: arguments.every]):
        pyro.clear_param_store()
        torch.manual_seed(1000 * arguments.seed + number)
        rows.append(measure(build(), arguments.seed))
        print(json.dumps({"number": number, **rows[-1]}), flush=True)
    families = list(dict.fromkeys(row["family"] for row in rows))
    table = {name: rates([row for row in rows if row["family"] == name]) for name in families}
    table["all without hidden modes"] = rates([row for row in rows if not row["hidden_modes"]])
    table["all"] = rates(rows)
    sheet = Table(
        "family",
        "pairs",
        "reliable",
        "SE ≤ .05",
        "wrong",
        "wrong, reliable",
        "covered, reliable",
        "right means",
        "of them reliable",
    )
    for name, row in table.items():
        shares = [f"{100 * row[key]:.1f} %" for key in list(row)[1:-1]]
        sheet.add_row(name, str(row["pairs"]), *shares)
    Console(width=140).print(sheet)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"rates": table, "problems": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
