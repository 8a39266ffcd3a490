"""The candidates of a choice: how each is built, trained and scored, on the same points as all others."""

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from ..data.stochastic import StochasticData
from ..estimators.exact import exact_log_likelihood
from ..missing import any_missing
from ..pair.execution import ModelOrGuide, evaluation_mode, modules
from ..pair.parameters import unconstrained_parameters
from ..pair.structure import inspect_pair
from ..statistics.estimate import Estimate, mean_over_points
from ..training import fit
from ..training.arguments import recipe_arguments
from ..utils.random import derived_seed, fork_rng, random_rows
from .base_measure import check_base_measure, log_unit_jacobian_of
from .choice import Candidate
from .evaluating import evaluate
from .information_criteria import bic, num_free_parameters
from .methods import MethodResult, exact_result

Points = Tensor | StochasticData


@dataclass(frozen=True)
class CandidateWork:
    """What all candidates share: the points and their splits, and how pairs are made, trained and scored."""

    build: Callable[..., tuple[ModelOrGuide, ModelOrGuide]]
    x: Points
    splits: list[tuple[Tensor, Tensor]]
    has_folds: bool
    recipe: dict[str, Any]
    scoring: dict[str, Any]
    seed: int

    def check(self, options: dict[str, Any]) -> None:
        """Raise `InvalidInputError` for a pair that cannot be scored, before any is trained."""
        with self._built(options) as (model, guide):
            structure = inspect_pair(model, guide, self.values(torch.arange(min(len(self.x), 256))))
        if self.scoring["transform"] is not None:
            check_base_measure(structure, self.scoring["transform"])

    def candidate(self, option: str, name: str, value: Any) -> Candidate:
        """One value, trained and scored on every split."""
        seed = derived_seed(self.seed, zlib.crc32(f"{option}={name}".encode()))
        held_out, trained, seconds = [], [], 0.0
        exact: Tensor | None = None
        for rows, held in self.splits:
            with self._fitted({option: value}, rows) as (model, guide, train_seconds):
                started = time.perf_counter()
                num_parameters = sum(p.numel() for p in unconstrained_parameters(self.values(held[:2]), guide, model))
                num_free = num_free_parameters(model)
                held_out.append(self._score(model, guide, held, seed))
                exact = self._exact(model, rows)
                if exact is None:  # of as many points as are held out: more would only cost time
                    some = rows[random_rows(rows, len(held), self.seed)]
                    scores = self._score(model, guide, some, derived_seed(seed, 1))
                    trained.append(mean_over_points(scores.log_likelihood, scores.log_likelihood_se))
                else:
                    trained.append(mean_over_points(exact))
            seconds += train_seconds + time.perf_counter() - started
        if self.has_folds and num_free is not None:
            every = torch.arange(len(self.x))
            with self._fitted({option: value}, every) as (model, _, train_seconds):
                exact = self._exact(model, every)
            seconds += train_seconds
        order = torch.cat([held for _, held in self.splits]).argsort()
        return Candidate(
            value,
            log_likelihood=torch.cat([each.log_likelihood for each in held_out])[order],
            log_likelihood_se=torch.cat([each.log_likelihood_se for each in held_out])[order],
            shortfall=torch.cat([each.shortfall for each in held_out])[order],
            method=", ".join(dict.fromkeys(method for each in held_out for method in each.method)),
            train_log_likelihood=_average(trained),
            num_parameters=num_parameters,
            num_free_parameters=num_free,
            bic=None if exact is None or num_free is None else bic(exact, num_free),
            seconds=seconds,
        )

    def _score(self, model: ModelOrGuide, guide: ModelOrGuide, rows: Tensor, seed: int) -> MethodResult:
        """log p̂(x) of those points. The exact value needs no draws, unless the K-sample bound is asked for."""
        x = self.values(rows)
        exact = None if self.scoring["tolerance"] is None else self._exact(model, rows)
        if exact is not None:
            inspect_pair(model, guide, x)
            return exact_result(exact)
        evidence = evaluate(model, guide, x, seed=seed, progress=False, **self.scoring)
        values = (evidence.log_likelihood, evidence.log_likelihood_se, evidence.num_draws, evidence.shortfall)
        return MethodResult(evidence.method, *values)

    def minka_latent(self, options: dict[str, Any]) -> int | None:
        """Minka's choice for the points that the BIC is of.

        None for a model without such a function, for too few points, or where entries are missing.
        """
        rows = torch.arange(len(self.x)) if self.has_folds else self.splits[0][0]
        with self._built(options) as (model, _):
            function = getattr(model, "minka_latent", None)
        x = self.values(rows)
        return None if function is None or len(x) < x.shape[1] or any_missing(x) else function(x)

    def _exact(self, model: ModelOrGuide, rows: Tensor) -> Tensor | None:
        """The model's own log p(x), in the units before a standardisation; None without one."""
        x = self.values(rows)
        with evaluation_mode(model), torch.no_grad():
            exact = exact_log_likelihood(model, x)
        return None if exact is None else exact + log_unit_jacobian_of(self.scoring["transform"], x, x[0].numel())

    def values(self, rows: Tensor) -> Tensor:
        """Those points; of points that are drawn anew at every use, one draw that is the same for all candidates."""
        with fork_rng(self.x.device, self.seed):
            return self.x[rows.to(self.x.device)]

    @contextlib.contextmanager
    def _built(self, options: dict[str, Any]) -> Iterator[tuple[ModelOrGuide, ModelOrGuide]]:
        """A new pair. What it keeps in Pyro's global store is gone afterwards, so that candidates share nothing."""
        with pyro.get_param_store().scope():
            with fork_rng(self.x.device, self.seed):
                first = self.x[:1]
                model, guide = self.build(first.shape[1], **options)
            for module in modules(model, guide):
                module.to(first.device, first.dtype)
            yield model, guide

    @contextlib.contextmanager
    def _fitted(self, options: dict[str, Any], rows: Tensor) -> Iterator[tuple[ModelOrGuide, ModelOrGuide, float]]:
        """A new pair that is trained on those points, and the seconds that it took."""
        rows = rows.to(self.x.device)
        points = (
            StochasticData(self.x.pixels[rows], self.x.transform)
            if isinstance(self.x, StochasticData)
            else self.x[rows]
        )
        with self._built(options) as (model, guide):
            arguments = {"seed": self.seed, **recipe_arguments(self.recipe, len(rows))}
            yield model, guide, fit(model, guide, points, progress=False, **arguments).seconds


def _average(means: list[Estimate]) -> Estimate:
    """The mean over folds. Its data error is that of one fold, because folds share their training points."""
    count = len(means)
    return Estimate(
        sum(mean.value for mean in means) / count,
        sum(mean.mc_se**2 for mean in means) ** 0.5 / count,
        sum(mean.data_se for mean in means) / count,
    )
