"""Whether log p(x) of deep pairs is right: the default of `evaluate` on digits, against draws that know nothing of it.

    python tests/benchmarks/truth.py --out tests/benchmarks/results/truth.json

Each pair is trained and evaluated with several seeds. The truth of each point comes from 20,000 draws about modes that 96 starts from
the prior and another seed found. Annealing from the prior checks it at some points: it starts at no mode, so that it cannot miss
the same one. An error covers a point if log p̂ is within 1.96 standard errors of the truth, with the truth's own error counted.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rounds import machine
from torch import Tensor

import pyrovae
from pyrovae.estimators.sampling_to_tolerance import draw_to_tolerance
from pyrovae.pair.execution import evaluation_mode
from pyrovae.posterior.batching import in_chunks
from pyrovae.posterior.joint_density import Joint
from pyrovae.posterior.mixture_fitting import fit_mixture
from pyrovae.posterior.mode_search import thorough_search

TRUTH_SEED, TRUTH_DRAWS = 1234, 20_000
PAIRS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    **{f"vae, Normal, {latent}": ("vae", {"latent": latent}, None) for latent in (2, 4, 16, 32)},
    **{
        f"vae, Bernoulli, {latent}": (
            "vae",
            {"latent": latent, "likelihood": pyrovae.likelihoods.Bernoulli()},
            "binarise",
        )
        for latent in (2, 4, 16, 32)
    },
    "gmvae": ("gmvae", {}, None),
    "hierarchical_vae": ("hierarchical_vae", {}, None),
}


def true_log_likelihood(model: Any, guide: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x) of every point, and its standard error, from `TRUTH_DRAWS` draws."""

    def work(joint: Joint, _: int) -> dict[str, Tensor]:
        mixture, _ = fit_mixture(joint, thorough_search(joint, prior_starts=96), 0.005, TRUTH_DRAWS)
        counts = torch.full((len(joint.x),), float(TRUTH_DRAWS), dtype=torch.float64)
        return draw_to_tolerance(joint, mixture, counts, 1e-9, TRUTH_DRAWS)

    torch.manual_seed(TRUTH_SEED)
    with evaluation_mode(model, guide), torch.no_grad():
        parts = in_chunks(model, guide, x, 128, work)
    return tuple(torch.cat([part[name] for part in parts]) for name in ("log_likelihood", "log_likelihood_se"))


def annealed_minus_truth(model: Any, guide: Any, x: Tensor, truth: Tensor) -> tuple[float, float]:
    """The mean difference of annealing from the prior and the truth, and its standard error."""
    found = pyrovae.estimators.ais(model, guide, x, 16, 1000, start="prior", progress=False)
    error = found.log_likelihood - truth
    return float(error.mean()), float(found.log_likelihood_se.square().sum().sqrt() / len(x))


def row_of(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One pair's row of the table."""
    model_name, options, transform = PAIRS[name]
    data = pyrovae.load_data("digits", **({} if transform is None else {"transform": transform}))
    torch.manual_seed(0)
    model, guide = pyrovae.load(model_name)(data.dim, **options)
    pyrovae.fit(model, guide, data.train, epochs=arguments.epochs, lr=2e-3, progress=False)
    x = data.test[: arguments.points]
    truth, truth_se = true_log_likelihood(model, guide, x)
    errors, covered, reached, reliable, draws = [], [], [], [], []
    for seed in range(arguments.seeds):
        found = pyrovae.evaluate(model, guide, x, seed=seed, progress=False)
        error = found.log_likelihood - truth
        errors.append(float(error.mean()))
        covered.append(error.abs() <= 1.96 * (found.log_likelihood_se.square() + truth_se.square()).sqrt())
        reached.append(found.log_likelihood_se <= found.tolerance)
        reliable.append(found.reliability)
        draws.append(found.num_draws.double().mean())
    some = slice(0, arguments.annealed)
    return {
        "pair": name,
        "truth": float(truth.mean()),
        "truth_se": float(truth_se.square().sum().sqrt() / len(x)),
        "annealed_minus_truth": annealed_minus_truth(model, guide, x[some], truth[some]),
        "mean_errors": errors,
        "covered": float(torch.stack(covered).double().mean()),
        "reached": float(torch.stack(reached).double().mean()),
        "reliability": reliable,
        "draws": float(torch.stack(draws).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="*", default=list(PAIRS))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--annealed", type=int, default=16, help="points that are annealed from the prior")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = Table("pair", "largest |mean error|", "±1.96 SE covers", "SE ≤ 0.05", "reliable", "draws", "AIS − truth")
    rows = []
    for name in arguments.pairs:
        row = row_of(name, arguments)
        rows.append(row)
        reliable = sum(word == "reliable" for word in row["reliability"])
        table.add_row(
            name,
            f"{max(map(abs, row['mean_errors'])):.4f}",
            f"{row['covered']:.1%}",
            f"{row['reached']:.1%}",
            f"{reliable} of {arguments.seeds}",
            f"{row['draws']:.0f}",
            "{:+.3f} ± {:.3f}".format(*row["annealed_minus_truth"]),
        )
        print(json.dumps(row), flush=True)
        if arguments.out is not None:
            settings = {key: value for key, value in vars(arguments).items() if key != "out"}
            arguments.out.write_text(json.dumps({"settings": settings, "machine": machine(1), "rows": rows}, indent=1))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
