"""pyrovae evaluate: log p(x) of the held-out points."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InvalidInputError
from ...estimators.prior_sampling import PriorSamplingResult, prior_sampling_log_likelihood
from ...evaluation.comparing import Comparison
from ...evaluation.result import Evidence
from ...plots import comparison as plots
from ...statistics.log_weights import STATISTICS
from ...tables.annealing import show as show_annealing
from ...tables.comparison import bound_curve_table, naive_table, show
from ...utils.distributed import init_process_group
from ...utils.export import json_number
from ...utils.files import replacing
from ..common import open_scored, options_given, score_run
from ..options import (
    AisOption,
    AisPointsOption,
    BdmcOption,
    ChainsOption,
    DeviceOption,
    JsonOption,
    NetcdfOption,
    OtherDataOption,
    RootOption,
    SamplesOption,
    SeedOption,
    StartOption,
    StepsOption,
    TransformOption,
)
from ..output import check_writable, console, progress_bars, write_json
from .ais import annealed_section, check_annealing

ANNEALING = ("ais_chains", "ais_steps", "ais_start", "ais_points", "bdmc")  # options that mean nothing without --ais


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A folder that `pyrovae train --out` wrote.")],
    num_samples: SamplesOption = 5000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: OtherDataOption = None,
    transform: TransformOption = None,
    root: RootOption = None,
    json_file: JsonOption = None,
    netcdf: NetcdfOption = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the bound over the number of draws there, a .png file.")
    ] = None,
    naive: Annotated[
        bool, typer.Option("--prior-sampling", help="Beside it the naive estimate, from as many draws of the prior.")
    ] = False,
    ais: AisOption = False,
    ais_chains: ChainsOption = 16,
    ais_steps: StepsOption = 1000,
    ais_start: StartOption = "prior",
    ais_points: AisPointsOption = 100,
    bdmc: BdmcOption = False,
) -> None:
    """Estimate log p(x) of the held-out points, with errors, and say whether the estimate is to be trusted. Once stopped, the
    same command goes on with the points that are left. Under torchrun the processes share the points."""
    with init_process_group() as ranks:
        restored, loaded = open_scored(run, device, data, transform, root)
        if ais:
            check_annealing(restored, loaded, ais_start)
        elif said := options_given(context, lambda name: name in ANNEALING):
            raise InvalidInputError(f"{', '.join(said)} say how chains are annealed: add --ais.")
        for path in (json_file, netcdf, figure):
            check_writable(path)
        resume = run / "evaluate.partial.pt" if os.access(run, os.W_OK) else None
        prior: PriorSamplingResult | None = None
        with progress_bars(show=ranks.first) as progress:
            evidence = score_run(progress, restored, loaded, num_samples, seed, resume)
            if not ranks.first:
                return
            if naive:
                task = progress.add_task("naive", total=len(loaded.test), note=f"{num_samples} draws of the prior")
                prior = prior_sampling_log_likelihood(
                    restored.model,
                    loaded.test,
                    num_samples,
                    seed,
                    on_progress=lambda points: progress.advance(task, points),
                )
        annealed = None
        if ais:
            annealed = annealed_section(
                restored,
                loaded,
                evidence,
                num_chains=ais_chains,
                num_temperatures=ais_steps,
                start=ais_start,
                points=ais_points,
                bracket=bdmc,
                seed=seed,
            )
        comparison = Comparison({restored.name: evidence}, {restored.name: restored.fit_result})
        metadata = {**loaded.metadata(), **evidence.metadata}
        if json_file is not None:
            points = {"points": _by_point(evidence), **({"naive": _naive(prior)} if prior else {})}
            points |= {"annealing": annealed.to_dict()} if annealed else {}
            write_json(json_file, {"metadata": metadata, **comparison.to_dict(), **points})
        if netcdf is not None:
            content = replace(evidence, metadata=metadata).to_arviz()
            for name in NAIVE if prior else ():
                content.sample_stats[f"naive_{name}"] = ("point", getattr(prior, name).numpy())
            with replacing(netcdf) as file:
                content.to_netcdf(str(file))
        if figure is not None:
            with replacing(figure) as file:
                plots.bound_curves(comparison).savefig(file, dpi=150)
        show(
            comparison,
            metadata,
            console(),
            [bound_curve_table(evidence), *([naive_table(evidence, prior)] if prior else [])],
        )
        if annealed:
            show_annealing(annealed, console())


NAIVE = ("log_likelihood", "log_likelihood_se", "ess", "pareto_k")


def _by_point(evidence: Evidence) -> dict[str, Any]:
    """A list for each statistic, in the order of the points."""
    exact = {} if evidence.exact_log_likelihood is None else {"exact_log_likelihood": evidence.exact_log_likelihood}
    found = {name: getattr(evidence, name) for name in STATISTICS} | exact
    return {name: [json_number(value) for value in values.tolist()] for name, values in found.items()}


def _naive(prior: PriorSamplingResult) -> dict[str, Any]:
    value, mc_se, data_se = prior.mean_log_likelihood
    told = {"log_likelihood": value, "log_likelihood_mc_se": mc_se, "log_likelihood_data_se": data_se}
    told |= {"ess": float(prior.ess.mean()), "high_pareto_k_fraction": prior.high_pareto_k_fraction}
    points = {name: [json_number(v) for v in getattr(prior, name).tolist()] for name in NAIVE}
    return {**{name: json_number(value) for name, value in told.items()}, "points": points}
