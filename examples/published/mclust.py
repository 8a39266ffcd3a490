"""Gaussian mixtures of mclust: log-likelihood and BIC on iris, Old Faithful and diabetes data.

mclust starts EM from hierarchical clustering, and here it starts from k-means: of the standardised columns, as `gmm` does, and of the
raw ones. The best of all starts counts. mclust's BIC has the other sign and no factor: 2 log L − d log N, larger is better.
"""

import csv
import math
from pathlib import Path

import torch
from record import Line, Recorder
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

import pyrovae
from pyrovae.likelihoods import Diagonal, Full, Tied

FLOOR = 1e-6  # of a column's variance: mclust has none
KNOWN = {  # data, mclust's name of the family, components: covariance, published log-likelihood, published BIC
    ("iris", "VVV", 3): (Full, -180.186, None),
    ("iris", "VVI", 3): (Diagonal, -307.181, None),
    ("iris", "EEE", 3): (Tied, -256.355, None),
    ("old_faithful", "VVV", 1): (Full, -1289.797, None),
    ("old_faithful", "VVV", 2): (Full, -1130.264, None),
    ("old_faithful", "EEE", 3): (Tied, None, -2314.316),
    ("diabetes", "VVV", 3): (Full, -2303.496, None),
}


def points(name):
    """The data, (N, D), in the units that they were measured in."""
    if name == "iris":
        return torch.as_tensor(load_iris().data)
    with open(Path(__file__).parent / "data" / f"{name}.csv", newline="") as file:
        return torch.tensor([[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]).double()


def at_raw_clusters(seed):
    """A start of EM: k-means of the columns as they are."""

    def start(model, x):
        labels = KMeans(model.components.count, n_init=1, random_state=seed).fit(x.numpy()).labels_
        classes = torch.nn.functional.one_hot(torch.as_tensor(labels).long(), model.components.count).to(x)
        model.components.start(x, classes)
        model.logits.data.copy_(classes.mean(0).log())

    return start


def fitted(x, covariance, components, starts):
    """The mixture of largest likelihood."""
    best = None
    for seed in range(starts):
        for start in (None, at_raw_clusters(seed)):
            torch.manual_seed(seed)
            model, _ = pyrovae.load("gmm")(x.shape[1], components=components, covariance=covariance, floor=FLOOR)
            model = model.double()
            pyrovae.EM(steps=5000, tol=1e-12, start=start)(model, x)
            total = float(model.log_prob(x).detach().sum())
            if best is None or total > best[0]:
                best = (total, model)
    return best


recorder = Recorder(
    "mclust",
    "Gaussian mixtures, as mclust fits them",
    "Scrucca, Fop, Murphy & Raftery (2016), mclust 5, and the package's own pages (version 6)",
    "nats, all points together",
    "all points train; log-likelihood of the training points",
    starts=10,
)


def mixture(name, family, components):
    """The log-likelihood of all points, and BIC."""
    covariance, log_likelihood, bic = KNOWN[name, family, components]
    x = points(name)
    total, model = fitted(x, covariance, components, recorder["starts"])
    free = sum(p.numel() for p in model.parameters()) - model.num_redundant_parameters
    row = f"{name}, {family}, {components} component" + "s" * (components > 1)
    higher = log_likelihood is not None and total > log_likelihood + 0.01
    note = "a higher maximum than the one that mclust's start leads to" if higher else ""
    yield Line(f"{row}: log-likelihood", total, log_likelihood, note=note, points=len(x))
    value = 2 * total - free * math.log(len(x))
    yield Line(f"{row}: BIC, 2 log L − d log N", value, bic, note=f"d = {free}", points=len(x))


if __name__ == "__main__":
    recorder.run([(mixture, *row) for row in KNOWN])
