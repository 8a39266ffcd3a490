"""Stock Pyro, as its own examples write it: SVI, Pyro's Adam with its optimiser for each parameter, validation on.

The pair is pyrovae's, an ordinary Pyro pair. Batches are drawn from a resident tensor, which is faster than the examples'
DataLoader.
"""

import contextlib
from collections.abc import Iterator

import pyro
import torch
from cases import LR, Case, batches
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

OBJECTIVES = {
    "vae": lambda: TraceMeanField_ELBO(),
    "ppca": lambda: Trace_ELBO(),
    "mixture": lambda: TraceEnum_ELBO(max_plate_nesting=1),
}


class Stock:
    def __init__(self, case: Case):
        pyro.clear_param_store()  # copies of a pair have one name, and would have one entry
        self.model, self.guide = case.pair()
        self.p = case.named(self.model, self.guide)
        self.svi = SVI(self.model, self.guide, pyro.optim.Adam({"lr": LR}), OBJECTIVES[case.kind]())
        self.batches = batches(case)

    def loss(self, x: Tensor) -> float:
        with _as_usual():
            return self.svi.evaluate_loss(x)

    def step(self, x: Tensor) -> None:
        with _as_usual():
            self.svi.step(x)

    def run(self, steps: int) -> None:
        with _as_usual():
            for _ in range(steps):
                self.svi.step(next(self.batches))  # reads its loss, so it waits for a GPU by itself


@contextlib.contextmanager
def _as_usual() -> Iterator[None]:
    """Pyro's defaults, whoever calls: `fit` turns them off while it runs."""
    with pyro.validation_enabled(True), pyro.settings.context(module_local_params=False), torch.enable_grad():
        yield
