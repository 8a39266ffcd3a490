"""What test_distributed.py has several processes do, and one for comparison: `torchrun … run_distributed.py FILE` writes the outcome to FILE.

What is recorded runs as it was recorded: that it can be compiled is tested elsewhere.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
import torch._inductor
from torch import Tensor, nn

import pyrovae
from pyrovae import NonFiniteError, fit, objectives
from pyrovae.data.stochastic import StochasticData
from pyrovae.data.transforms import Binarise
from pyrovae.pair.execution import modules
from pyrovae.training import Checkpoints, EarlyStopping
from pyrovae.training.trainer import Trainer
from pyrovae.utils.distributed import init_process_group

DIM = 4
WHAT = {"epochs": 2, "batch_size": 16, "lr": 0.02, "seed": 5}


def points(count: int) -> Tensor:
    x = torch.randn(count, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return x @ torch.diag(torch.arange(1.0, DIM + 1, dtype=torch.float64))


def pair(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return [part.double() if isinstance(part, nn.Module) else part for part in pyrovae.load(name)(DIM, **options)]


def vae(**options: Any) -> Any:
    return pair("vae", latent=2, hidden=(6,), **options)


def codes(**options: Any) -> Any:
    return pair("vqvae", positions=2, codes=5, size=2, hidden=(6,), **options)


class Batches:
    """As a webdataset loader: tuples, batches of unequal size, and a length that nobody knows."""

    def __iter__(self) -> Any:
        return ((x, ["name"] * len(x)) for x in points(37).split([16, 9, 12]))


class Half(pyrovae.Module):
    """A subsample's plate stands for more points than are there, and SVI scales by it."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(DIM, dtype=torch.float64))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", 1000, subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(self.mu.new_zeros(DIM), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.mu + z, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", 1000, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Normal((x - self.mu) / 2, 0.7).to_event(1))


def scaled() -> Any:
    model = Half()
    return model, model.guide


def start_at_the_median(model: Any, x: Tensor) -> None:
    with torch.no_grad():
        model.mu.copy_(x.median(0).values)


def early_stopping() -> dict[str, Any]:
    return {"early_stopping": EarlyStopping(0.3, patience=1), "lr": 0.4, "schedule": None, "epochs": 9}


# 37 points in batches of 16: the last has 5; 33: the last has 1, fewer than there are processes; 34: 2
CASES: dict[str, Any] = {
    "vae": lambda: (*vae(), points(37), {}),
    "vae-last-of-one": lambda: (*vae(), points(33), {}),
    "vae-last-of-two": lambda: (*vae(), points(34), {"kl_warmup_fraction": 0.5, "ema_decay": 0.9}),
    "full-covariance": lambda: (*vae(guide=pyrovae.guides.FullCovariance), points(37), {"max_grad_norm": 2.0}),
    "ppca": lambda: (*pair("ppca", latent=2), points(37), {"init": start_at_the_median}),
    "gmm": lambda: (*pair("gmm", components=3), points(37), {}),
    "redrawn": lambda: (
        *vae(likelihood=pyrovae.likelihoods.Bernoulli()),
        StochasticData(torch.rand(37, DIM).double(), Binarise()),
        {},
    ),
    "dataset": lambda: (*vae(), torch.utils.data.TensorDataset(points(37)), {}),
    "iterable": lambda: (*vae(), Batches(), {"schedule": None}),
    "scaled": lambda: (*scaled(), points(33), {"objective": pyro.infer.Trace_ELBO()}),
    "iwae": lambda: (*vae(), points(33), {"objective": objectives.IWAE(3)}),
    "dreg": lambda: (*vae(), points(37), {"objective": objectives.DReG(3)}),
    "renyi": lambda: (*vae(), points(37), {"objective": objectives.Renyi(0.5, 3)}),
    "wake-sleep": lambda: (*vae(), points(37), {"objective": objectives.WakeSleep(3, 0.5)}),
    "beta": lambda: (*vae(), points(37), {"objective": objectives.Beta(2.0)}),
    "free-bits": lambda: (*vae(), points(33), {"objective": objectives.FreeBits(1.03)}),
    "free-bits-of-all": lambda: (
        *vae(guide=pyrovae.guides.FullCovariance),
        points(37),
        {"objective": objectives.FreeBits(0.2), "kl_warmup_fraction": 0.5},
    ),
    "diffusion": lambda: (*pair("diffusion", steps=3, width=8), points(33), {}),
    "diffusion-replayed": lambda: (*pair("diffusion", steps=3, width=8), points(32), {"epochs": 25}),
    "vqvae": lambda: (*codes(), points(37), {}),
    "score-function": lambda: (*codes(guide=pyrovae.load("vqvae").module.Soft), points(33), {}),
    "sgd": lambda: (*vae(), points(37), {"optimizer": lambda params, lr: torch.optim.SGD(params, 1e-3 * lr)}),
    "early-stopping": lambda: (*vae(), points(50), early_stopping()),
    "replayed": lambda: (*vae(), points(32), {"epochs": 25}),  # enough steps for a recording
    "recorded": lambda: (*vae(), points(32), {"compile": True}),
}


MORE = ("iwae", "renyi", "beta", "diffusion-replayed")  # with three processes: they differ little from others


def outcome(case: str, **told: Any) -> dict[str, Any]:
    """A short fit, its first step's gradient, and where it ended."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    model, guide, x, options = CASES[case]()
    gradients: list[list[float]] = []
    whole = Trainer._step

    def watched(self: Trainer, x: Tensor) -> Tensor:
        before, update = self.state.updater.flat.vector.detach().clone(), self.state.updater.update
        self.state.updater.update = lambda gradient, points: (
            gradients.append(gradient.tolist()),
            update(gradient, points),
        )[1]
        out = whole(self, x)
        self.state.updater.update = update
        assert not torch.equal(before, self.state.updater.flat.vector)
        return out

    Trainer._step = watched
    try:
        result = fit(model, guide, x, **{**WHAT, **options, **told})
    finally:
        Trainer._step = whole
    values = {id(value): value for module in modules(model, guide) for value in module.state_dict().values()}
    return {
        "grad_norm": gradients[0] if gradients else None,
        "losses": result.losses,
        "history": [{k: v for k, v in row.items() if k != "seconds"} for row in result.history],
        "parameters": [number for value in values.values() for number in value.double().flatten().tolist()],
        "stop_reason": result.stop_reason,
        "execution": result.execution,
    }


def resumed(folder: Path) -> dict[str, Any]:
    """The VAE, stopped on all processes after a step, and taken up again."""
    whole, left = Trainer._step, [3]

    def dying(self: Trainer, x: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return whole(self, x)

    Trainer._step = dying
    try:
        outcome("vae", checkpoints=Checkpoints(folder, 0.0))
    except KeyboardInterrupt:
        pass
    finally:
        Trainer._step = whole
    return outcome("vae", checkpoints=Checkpoints(folder, 0.0, resume=True))


class Brittle(pyrovae.Module):
    """x ~ N(μ, 1), unless the points are those of the process that is to fail."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(DIM, dtype=torch.float64))
        self.how, self.calls = how, 0

    def forward(self, x: Tensor) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        self.calls += self.training  # a step; what looks the pair over does so in evaluation mode
        mu = self.mu
        if rank == 1 and self.calls == 6 and self.training:
            if self.how == "error":
                raise RuntimeError("linalg.cholesky: the input is not positive-definite")
            mu = mu * float("nan")
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0).to_event(1), obs=x)


def diverged(how: str, retry_lr_factor: float | None) -> Any:
    model = Brittle(how)
    try:
        result = fit(
            model, lambda x: None, points(48), **{**WHAT, "epochs": 6}, retry_lr_factor=retry_lr_factor, compile=False
        )
    except NonFiniteError as error:
        return str(error)
    return [result.losses, result.history[-1]["lr"], model.mu.tolist()]


def main(out: Path) -> None:
    with init_process_group() as ranks:
        not_here = ("recorded",) if ranks.count == 3 else MORE
        found: dict[str, Any] = {case: outcome(case) for case in CASES if case not in not_here}
        found["resumed"] = resumed(out.with_suffix(".folder"))
        for how in ("error", "nan"):
            found[f"diverged-{how}"] = [diverged(how, None), diverged(how, 0.1)]
        every: list[Any] = [None] * ranks.count
        torch.distributed.all_gather_object(every, found)
        if ranks.first:
            out.write_text(json.dumps(every))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch._inductor.compile = lambda graph, inputs, options: graph  # type: ignore[assignment]
    main(Path(sys.argv[1]))
