"""Do fits reach the optimum, and at what cost? Each against a judge: scikit-learn's EM, our exact EM, or a closed form.

    OMP_NUM_THREADS=1 python tests/benchmarks/fits.py digits mnist-diag mnist-full mnist-ppca memory --out fits.json

Times are CPU seconds of one thread, so that what else the machine does disturbs them little; rounds interleave the two sides,
and a ratio is the median of the rounds' ratios. The mnist cases need MNIST in $PYROVAE_DATA.
"""

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings

import torch
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import pyrovae
from pyrovae import EM, fit, load

FLOOR, K = 1e-3, 10
KINDS = {"full": pyrovae.likelihoods.Full, "diag": pyrovae.likelihoods.Diagonal}


def timed(work):
    """What `work()` returns, and its CPU seconds."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def mixture(kind, x, seed):
    """A mixture at its k-means start, and the state to come back to."""
    torch.manual_seed(seed)
    model, guide = load("gmm")(x.shape[1], components=K, covariance=KINDS[kind], floor=FLOOR)
    model.initialise(x)
    return model, guide, {name: value.clone() for name, value in model.state_dict().items()}


def judge(model, kind, **options):
    """scikit-learn's EM from where the model stands; its own k-means, whose result it would drop, is left out."""
    family = model.components.family()
    with torch.no_grad():
        precision = family.precision_matrix if kind == "full" else family.variance.reciprocal()
        weights = model.logits.double().softmax(-1).numpy()
        return GaussianMixture(
            K,
            covariance_type=kind,
            reg_covar=FLOOR,
            weights_init=weights / weights.sum(),
            means_init=family.mean.double().numpy(),
            precisions_init=precision.double().numpy(),
            init_params="random_from_data",
            **options,
        )


def scikit_learn(model, kind, x, **options):
    em = judge(model, kind, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        em.fit(x)
    return em


def digits(rounds):
    """SVI and our EM from scikit-learn's start, K = 10 full covariances; each round is another k-means start."""
    x = pyrovae.load_data("digits").train
    wide = x.double().numpy()
    rows = []
    for seed in range(rounds):
        model, guide, start = mixture("full", x, seed)
        em, theirs = timed(lambda model=model: scikit_learn(model, "full", wide, tol=1e-3, max_iter=1000))
        row = {"seed": seed, "sklearn": em.score(wide), "sklearn_seconds": theirs, "sklearn_steps": em.n_iter_}
        for steps in (25, 50, 150):
            model.load_state_dict(start)
            _, seconds = timed(
                lambda m=model, g=guide, n=steps, s=seed: fit(m, g, x, epochs=n, batch_size=None, lr=3e-2, seed=s)
            )
            row |= {f"svi{steps}": log_likelihood(model, x), f"svi{steps}_seconds": seconds}
        model.load_state_dict(start)
        trace, seconds = timed(lambda model=model: EM(steps=1000, tol=1e-3)(model, x))
        row |= {"em": log_likelihood(model, x), "em_seconds": seconds, "em_steps": len(trace)}
        rows.append(row)
    ways = ("svi25", "svi50", "svi150", "em")
    return {
        "rows": rows,
        "summary": [
            {
                "case": "digits, full",
                "fit": way,
                "to sklearn, worst": min(row[way] - row["sklearn"] for row in rows),
                "to exact EM, worst": min(row[way] - row["em"] for row in rows),
                "time ratio": statistics.median(row[f"{way}_seconds"] / row["sklearn_seconds"] for row in rows),
            }
            for way in ways
        ],
    }


def mnist():
    return pyrovae.load_data("mnist").train


def mnist_mixture(kind, steps):
    """`init=EM` and scikit-learn from one start, as many steps each."""
    x = mnist()
    model, _, _ = mixture(kind, x, 0)
    em, theirs = timed(lambda: scikit_learn(model, kind, x.double().numpy(), tol=0.0, max_iter=steps))
    reached = em.score(x.double().numpy())
    trace, ours = timed(lambda: EM(steps=steps, tol=0.0)(model, x))
    after = log_likelihood(model, x)
    summary = {
        "case": f"mnist, {kind}, {steps} steps",
        "fit": "em",
        "to sklearn, worst": after - reached,
        "to exact EM, worst": 0.0,
        "time ratio": ours / theirs,
    }
    return {"sklearn": reached, "em": after, "trace": trace, "seconds": [theirs, ours], "summary": [summary]}


def mnist_ppca(rounds):
    """The pair's recipe against the closed form, seed after seed, k = 50."""
    x, latent = mnist(), 50
    best, closed = timed(lambda: closed_form(x.double(), latent))
    recipe = load("ppca").recipe
    epochs = math.ceil(recipe["steps"] / math.ceil(len(x) / recipe["batch_size"]))
    settings = {"epochs": epochs, "batch_size": recipe["batch_size"], "lr": recipe["lr"]}
    rows = []
    for seed in range(rounds):
        torch.manual_seed(seed)
        model, guide = load("ppca")(784, latent=latent)
        _, seconds = timed(lambda m=model, g=guide, s=seed: fit(m, g, x, seed=s, **settings))
        rows.append({"seed": seed, "svi": log_likelihood(model, x) - best, "seconds": seconds})
    summary = {
        "case": "mnist, ppca k=50",
        "fit": f"svi, {recipe['steps']} steps",
        "to closed form, worst": min(row["svi"] for row in rows),
        "time ratio": statistics.median(row["seconds"] for row in rows) / closed,
    }
    return {"closed_form": best, "closed_form_seconds": closed, "rows": rows, "summary": [summary]}


def closed_form(x, latent):
    """Tipping & Bishop 1999, eq. 3.2–3.8."""
    dim = x.shape[1]
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0)
    kept, noise = eigenvalues[:latent], eigenvalues[latent:].mean()
    return -0.5 * (kept.log().sum() + (dim - latent) * noise.log() + dim * math.log(2 * math.pi) + dim).item()


MEMORY = {
    "gmm, full, one EM step": ("load('gmm')(784)", "model.initialise(x); model.em_step(x)"),
    "gmm, diag, one EM step": (
        "load('gmm')(784, covariance=pyrovae.likelihoods.Diagonal)",
        "model.initialise(x); model.em_step(x)",
    ),
    "gmm, full, start and 5 steps of SVI": (
        "load('gmm')(784)",
        "model.initialise(x); fit(model, guide, x[:5120], epochs=1, batch_size=1024)",
    ),
    "ppca k=50, one epoch": ("load('ppca')(784, latent=50)", "fit(model, guide, x, epochs=1, batch_size=4096)"),
}


def memory():
    """Peak resident memory of a fresh process beside that of one that only holds the data and the imports."""
    begin = "import resource, torch, pyrovae; from pyrovae import load, fit; torch.manual_seed(0); x = torch.rand(60000, 784)"
    peak = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

    def mebibytes(*work):
        done = subprocess.run(
            [sys.executable, "-c", "\n".join([begin, *work, peak])], capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1]) / 1024

    alone = mebibytes()
    data = 60000 * 784 * 4 / 2**20
    rows = []
    for case, (pair, work) in MEMORY.items():
        extra = mebibytes(f"model, guide = {pair}", work) - alone
        rows.append({"case": f"memory: {case}", "fit": f"+{extra:.0f} MiB", "times the data": extra / data})
    return {"data_mebibytes": data, "process_alone_mebibytes": alone, "summary": rows}


def log_likelihood(model, x):
    """Mean log p(x) over x, nats."""
    with torch.no_grad():
        return sum(model.log_prob(part).double().sum().item() for part in x.split(2048)) / len(x)


CASES = {
    "digits": lambda args: digits(args.rounds),
    "mnist-diag": lambda args: mnist_mixture("diag", args.steps),
    "mnist-full": lambda args: mnist_mixture("full", args.steps),
    "mnist-ppca": lambda args: mnist_ppca(args.rounds),
    "memory": lambda args: memory(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["digits", "memory"], help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ais-steps", type=int, default=10, help="steps of EM on MNIST, for both sides")
    parser.add_argument("--out", help="write everything there, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {case: CASES[case](args) for case in args.cases}
    rows = [row for case in found.values() for row in case["summary"]]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title="nats per training point, below (−) or above (+) the judge; time ratio to the judge's CPU time")
    for column in columns:
        table.add_column(column, justify="left" if column in ("case", "fit") else "right")
    for row in rows:
        table.add_row(*(f"{v:+.3f}" if isinstance(v := row.get(c, ""), float) else str(v) for c in columns))
    Console(width=140).print(table)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if args.out:
        with open(args.out, "w") as file:
            json.dump({"machine": machine, **found}, file, indent=2)


if __name__ == "__main__":
    main()
