"""pyrovae evaluate: log p(x) of the held-out points."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InvalidInputError
from ..common import open_scored, options_given, score_run
from ..options import (
    AisOption,
    AisPointsOption,
    BdmcOption,
    BoundSamplesOption,
    ChainsOption,
    DeviceOption,
    JsonOption,
    MaxDrawsOption,
    MaxSecondsOption,
    NetcdfOption,
    OtherDataOption,
    RootOption,
    RunArgument,
    SeedOption,
    StartOption,
    StepsOption,
    ToleranceOption,
    TransformOption,
)
from ..output import (
    check_figure,
    check_table_format,
    check_writable,
    console,
    progress_bars,
    save_figure,
    write_json,
    write_netcdf,
    write_table,
)
from ..reconstructions import Reconstructions

if TYPE_CHECKING:
    from ...data.datasets import Data
    from ...estimators.prior_sampling import PriorSamplingResult
    from ...runs.run import Run

ANNEALING = ("ais_chains", "ais_steps", "ais_start", "ais_points", "bdmc")  # options that mean nothing without --ais
TWO_SIDED = ("two_sided_samples", "two_sided_replicates", "delta")  # and without --two-sided
WITHOUT_DENSITY = (
    "run",
    "seed",
    "device",
    "data",
    "transform",
    "root",
    "json_file",
)  # what a pair without log p(x) takes


def evaluate_command(
    context: typer.Context,
    run: RunArgument,
    num_samples: BoundSamplesOption = None,
    tolerance: ToleranceOption = None,
    max_draws: MaxDrawsOption = 20_000,
    max_seconds: MaxSecondsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: OtherDataOption = None,
    transform: TransformOption = None,
    root: RootOption = None,
    json_file: JsonOption = None,
    netcdf: NetcdfOption = None,
    bound_curve: Annotated[
        Path | None, typer.Option(help="Draw the bound over the number of draws, as a .png, .svg or .pdf file.")
    ] = None,
    per_point: Annotated[
        Path | None,
        typer.Option(help="Write log p(x), error and reliability of each point, as .csv or .parquet."),
    ] = None,
    ranking: Annotated[
        Path | None,
        typer.Option(
            help="Draw the points sorted by log p(x), the least probable first, as a .png, .svg or .pdf file."
        ),
    ] = None,
    prior_sampling: Annotated[
        bool, typer.Option("--prior-sampling", help="Also report the estimate from as many draws of the prior.")
    ] = False,
    two_sided: Annotated[
        bool, typer.Option("--two-sided", help="Bound log p(x) from below and from above, and certify its mean.")
    ] = False,
    two_sided_samples: Annotated[
        int,
        typer.Option(
            min=2,
            help="With --two-sided: draws K for each bound, and up to 16 times as many where weights vary much. The distance of the "
            "bounds falls as 1/K.",
        ),
    ] = 256,
    two_sided_replicates: Annotated[
        int, typer.Option(min=2, help="With --two-sided: repetitions, which give the standard errors.")
    ] = 8,
    delta: Annotated[
        float, typer.Option(help="With --two-sided: the largest probability that the certified bound is wrong.")
    ] = 0.025,
    ais: AisOption = False,
    ais_chains: ChainsOption = 16,
    ais_steps: StepsOption = None,
    ais_start: StartOption = None,
    ais_points: AisPointsOption = 100,
    bdmc: BdmcOption = False,
) -> None:
    """Estimate log p(x) of each test point of a run.

    The result has standard errors and a message that says whether it is reliable. After an interruption, the same
    command continues with the points that are left. Under torchrun the processes share the points.
    """
    from ...estimators.two_sided import two_sided_log_likelihood
    from ...evaluation.annealing_comparison import check_can_anneal, compare_annealing
    from ...evaluation.base_measure import in_source_units, log_unit_jacobian_of
    from ...evaluation.comparison import Comparison
    from ...statistics.certificate import check_delta
    from ...tables.annealing import show as show_annealing
    from ...tables.comparison import bound_curve_table, prior_sampling_table, show
    from ...tables.two_sided import show as show_two_sided
    from ...utils.export import attributes, inference_data

    alone = not (ais or two_sided or prior_sampling)
    restored, loaded = open_scored(run, device, data, transform, root, in_blocks=alone)
    model, guide, x = restored.model, restored.guide, loaded.test
    if getattr(model, "no_density", ""):
        _show_reconstruction(context, restored, loaded, seed, json_file)
        return
    if ais:
        check_can_anneal(model, guide, x, ais_start)
    elif given := options_given(context, lambda name: name in ANNEALING):
        raise InvalidInputError(f"{', '.join(given)} say how chains are annealed: add --ais.")
    if two_sided:
        check_delta(delta)
    elif given := options_given(context, lambda name: name in TWO_SIDED):
        raise InvalidInputError(f"{', '.join(given)} say how log p(x) is bounded from both sides: add --two-sided.")
    for figure_file in (bound_curve, ranking):
        check_figure(figure_file)
    check_writable(json_file, netcdf, bound_curve, per_point, ranking)
    check_table_format(per_point)
    partial_file = run / "evaluate.partial.pt" if os.access(run, os.W_OK) else None
    prior: PriorSamplingResult | None = None
    with progress_bars() as progress:
        evidence = score_run(
            progress, restored, loaded, num_samples, seed, tolerance, partial_file, max_draws, max_seconds
        )
        if prior_sampling:
            from ...estimators.prior_sampling import prior_sampling_log_likelihood

            draws = evidence.num_samples
            task = progress.add_task("prior sampling", total=len(x), note=f"{draws} draws of the prior")
            prior = prior_sampling_log_likelihood(
                model, x, draws, seed, on_progress=lambda points: progress.advance(task, points)
            )
            prior = in_source_units(prior, log_unit_jacobian_of(loaded.transform, x, evidence.dim))
    both_sides = None
    if two_sided:
        with progress_bars() as progress:
            task = progress.add_task(f"bound {restored.name}", total=len(x), note="from both sides")
            both_sides = two_sided_log_likelihood(
                model,
                guide,
                x,
                two_sided_samples,
                two_sided_replicates,
                seed,
                delta=delta,
                on_progress=lambda points: progress.advance(task, points),
            )
        both_sides = in_source_units(both_sides, log_unit_jacobian_of(loaded.transform, x, evidence.dim))
    annealed = None
    if ais:
        with progress_bars() as progress:
            total = min(ais_points, len(x)) * (2 if bdmc else 1)
            task = progress.add_task(f"anneal {restored.name}", total=total, note=f"{ais_chains} chains a point")
            annealed = compare_annealing(
                model,
                guide,
                x,
                evidence,
                ais_points,
                ais_chains,
                ais_steps,
                seed,
                start=ais_start,
                bdmc=bdmc,
                transform=loaded.transform,
                on_progress=lambda points: progress.advance(task, points),
            )
    comparison = Comparison({restored.name: evidence}, {restored.name: restored.fit_result})
    metadata = {**loaded.metadata(), **evidence.metadata}
    if json_file is not None:
        content = {"metadata": metadata, **comparison.to_dict(), "points": evidence.to_dict()["per_point"]}
        content |= {"prior_sampling": prior.to_dict()} if prior else {}
        content |= {"two_sided": both_sides.to_dict()} if both_sides else {}
        content |= {"annealing": annealed.to_dict()} if annealed else {}
        write_json(json_file, content)
    if netcdf is not None:
        groups = replace(evidence, metadata=metadata).datasets()
        for prefix, other in (("prior_sampling", prior), ("two_sided", both_sides)):
            for name, values in other.per_point().items() if other else ():
                groups["sample_stats"][f"{prefix}_{name}"] = ("point", values.numpy())
        if both_sides:
            summary = attributes({f"two_sided_{name}": value for name, value in both_sides.summary().items()})
            groups["sample_stats"].attrs.update(summary)
        write_netcdf(netcdf, inference_data(groups))
    if per_point is not None:
        write_table(per_point, evidence.table(loaded.test_rows, loaded.test_label_names))
    if ranking is not None:
        from ...plots import note
        from ...plots import ranking as draw_ranking

        figure = draw_ranking(evidence, loaded.test_rows, loaded.test_label_names)
        save_figure(ranking, note(figure, (loaded.name, restored.name, f"seed {seed}")))
    if bound_curve is not None:
        from ...plots import bound_curves, note

        figure = note(bound_curves(comparison), (loaded.name, restored.name, f"seed {seed}"))
        save_figure(bound_curve, figure)
    below = [bound_curve_table(evidence), *([prior_sampling_table(evidence, prior)] if prior else [])]
    show(comparison, metadata, console(), below)
    if both_sides:
        show_two_sided(both_sides, console())
    if annealed:
        show_annealing(annealed, console())


def _show_reconstruction(context: typer.Context, run: "Run", data: "Data", seed: int, json_file: Path | None) -> None:
    """What there is in place of log p(x): the error of the reconstruction."""
    sentence = run.model.no_density  # type: ignore[attr-defined]
    if given := options_given(context, lambda name: name not in WITHOUT_DENSITY):
        raise InvalidInputError(f"{sentence.rstrip('.')}. Leave out {', '.join(given)}, which are about log p(x).")
    check_writable(json_file)
    reconstructions = Reconstructions([run], data, seed)
    if json_file is not None:
        write_json(json_file, {"metadata": data.metadata(), "reconstructions": reconstructions.to_dict()})
    console().print(*reconstructions.tables(), sep="")
    print(f" {sentence}")
