"""Inference gaps: what the Gaussian family and the network cost a VAE of 50 latents on MNIST's training images.

log p(x) − ELBO = (log p(x) − L[q*]) + (L[q*] − ELBO), where q* is the best Gaussian of each image. The pair is the one-layer VAE of
`iwae.py`, and its checkpoints are read where it was trained before. MNIST is looked for in $PYROVAE_DATA.
"""

import math
from typing import Any

import torch
from iwae_training import STAGES, checkpoint_folder, epochs_of, new_pair, other_batches, train
from protocols import both_sides
from record import Line, Recorder

import pyrovae

KNOWN = {
    "log_likelihood": -89.80,
    "refined_elbo": -91.23,
    "elbo": -92.57,
    "approximation": 1.43,
    "amortisation": 1.34,
}
NAMES = {
    "log_likelihood": "log p(x)",
    "refined_elbo": "best Gaussian q of each image",
    "elbo": "amortised Gaussian q",
    "approximation": "approximation gap",
    "amortisation": "amortisation gap",
}

recorder = Recorder(
    "inference_gaps",
    "Inference gaps of a Gaussian q",
    "Cremer, Li & Duvenaud (2018), Inference suboptimality in variational autoencoders, table 2 (quoted from memory)",
    "nats an image",
    "a VAE of 50 latents on binarised MNIST, at training images; q of each image is optimised by itself",
    differences="The pair is the one-layer VAE of the row IWAE. log p(x) is estimated to 0.05 nats, where the larger of AIS and a bound of "
    "5,000 draws was published. q* begins at the mode of p(z|x), moves until 3 checks of 100 steps bring no gain, and then at a rate that "
    "falls to 0; published was N(0, I), and 10 checks",
    stages=STAGES,
    batch_size=20,
    lr=1e-3,
    points=200,
    both_sides_points=200,
    K=5000,
    data="mnist",
    seed=0,
)
recorder.about["differences"] += other_batches(recorder["batch_size"], recorder["lr"])
seed = recorder["seed"]
data = pyrovae.load_data(recorder["data"], transform="binarise", seed=seed)


def gaps() -> list[Line]:
    """All five numbers, each beside the published one."""
    torch.manual_seed(seed)
    model, guide = new_pair(data.dim)
    settings: dict[str, Any] = {name: recorder[name] for name in ("batch_size", "lr", "seed")}
    folder = checkpoint_folder(recorder.work.parent / "iwae_1_elbo_1", **settings)  # where iwae.py keeps it
    train(model, guide, data.train, folder, recorder["stages"], check=recorder.check_budget, **settings)
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[: recorder["points"]]
    torch.manual_seed(seed)
    x = data.train[chosen]  # one draw of these images
    found = pyrovae.gap(model, guide, x, num_samples=recorder["K"], seed=seed + 1)
    trained = f"the pair is {recorder['stages']} of {STAGES} stages old, {epochs_of(recorder['stages']):,} epochs"
    lines = []
    for name, published in KNOWN.items():
        value, mc_se, data_se = found.mean(name)
        lines.append(Line(NAMES[name], value, published, mc_se, data_se, trained, len(x)))
    some = recorder["both_sides_points"]
    log_p, se = found.log_likelihood[:some].double(), found.log_likelihood_se[:some].double()
    errors = float(se.norm()) / some, float(log_p.std()) / math.sqrt(some)
    sides = both_sides(model, guide, x[:some], seed + 2)
    return [*lines, Line("log p(x) of the first of them", float(log_p.mean()), None, *errors, **sides)]


recorder.run([(gaps,)])
