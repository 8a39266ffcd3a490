"""Inference gaps: what the family of q and the network cost a VAE of 50 latents on MNIST's training images.

log p(x) − ELBO = (log p(x) − L[q*]) + (L[q*] − ELBO), where q* is the best member of the family for each image. With `--q gaussian`
the pair is the one-layer VAE of `iwae.py`, and its checkpoints are read where it was trained before. With `--q flow` the same model
is trained under a guide of affine coupling layers. `--training grey` trains nearer to the code that the authors have published. It has
ELU layers, a rising weight of the KL, and grey levels where a Bernoulli needs 0 or 1. MNIST is looked for in $PYROVAE_DATA.

python examples/published/inference_gaps.py --q flow --stages 5
"""

import functools
import math
from typing import Any

import torch
from iwae_training import (
    HIDDEN,
    LATENTS,
    STAGES,
    ExpMeanField,
    checkpoint_folder,
    epochs_of,
    new_pair,
    other_batches,
    train,
)
from protocols import CrossEntropy, both_sides
from record import Line, Recorder
from torch import Tensor, nn

import pyrovae

# log p(x), best q, amortised q, approximation gap, amortisation gap
NUMBERS = ("log_likelihood", "refined_elbo", "elbo", "approximation", "amortisation")
KNOWN = {
    "gaussian": (-89.80, -91.23, -92.57, 1.43, 1.34),
    "flow": (-89.53, -90.37, -91.79, 0.84, 1.42),
}
KNOWN_GAUSSIAN_AFTER_FLOW = -113.54  # the best Gaussian q of a model that was trained under a flow
Q = {"gaussian": "Gaussian", "flow": "flow"}

TRAININGS = ("burda", "grey")
WARMUP_EPOCHS = 100

recorder = Recorder(
    "inference_gaps",
    "Inference gaps",
    "Cremer, Li & Duvenaud (2018), Inference suboptimality in variational autoencoders, table 2 (quoted from memory)",
    "nats an image",
    "a VAE of 50 latents on binarised MNIST, at training images; q of each image is optimised by itself",
    differences="log p(x) is estimated to 0.05 nats, where the larger of AIS and a bound of "
    "5,000 draws was published. q* begins at the mode of p(z|x), moves until 3 checks of 100 steps bring no gain, and then at a rate that "
    "falls to 0; published was N(0, I), and 10 checks",
    rows=("q", "training"),
    q="gaussian",
    training="burda",
    stages=STAGES,
    batch_size=20,
    lr=1e-3,
    points=200,
    both_sides_points=200,
    K=5000,
    data="mnist",
    seed=0,
)
q = recorder["q"]
if q not in Q:
    raise pyrovae.InvalidInputError(f"There is no q '{q}' here: give one of {', '.join(Q)}.")
if recorder["training"] not in TRAININGS:
    raise pyrovae.InvalidInputError(
        f"There is no training '{recorder['training']}' here: give one of {', '.join(TRAININGS)}."
    )
grey = recorder["training"] == "grey"
about = recorder.about
about["title"] += f" of a {Q[q]} q"
if q == "flow":
    about["differences"] += (
        ". The flow has four affine coupling layers, in the guide and in q*; the published flow also has auxiliary variables"
    )
if grey:
    if epochs_of(recorder["stages"]) < WARMUP_EPOCHS:
        raise pyrovae.InvalidInputError(
            f"The weight of the KL rises in {WARMUP_EPOCHS} epochs: give at least 5 stages."
        )
    about["title"] += ", trained on grey levels"
    about["protocol"] = (
        "a VAE of 50 latents at training images of MNIST. It is trained nearer to the authors' code (lxuechen/inference-suboptimality on "
        "GitHub): ELU layers, batches of 100, Adam with ε = 1e-4 on the gradient of a batch's mean, and grey levels where a Bernoulli needs 0 "
        "or 1. So p(x|z) is a cross-entropy, and log p(x) no logarithm of a density. q of each image is optimised by itself"
    )
    about["differences"] += (
        f". The weight of the KL rises in {WARMUP_EPOCHS} epochs; in that code the weight of log q alone rises, in 400 epochs. Weights start "
        "Glorot-uniform and the decoder's bias at the mean image, and each epoch has another order"
    )
else:
    about["differences"] += ". The authors' code trains ELU layers on grey levels, and a weight in the ELBO rises"
    about["differences"] += ". The pair is the one-layer VAE of the row IWAE" if q == "gaussian" else ""
about["differences"] += other_batches(recorder["batch_size"], recorder["lr"], published=100 if grey else 20)
seed = recorder["seed"]
data = pyrovae.load_data(recorder["data"], transform="levels" if grey else "binarise", seed=seed)


TRAINED = f"the pair is {recorder['stages']} of {STAGES} stages old, {epochs_of(recorder['stages']):,} epochs"


def grey_pair(dim: int, guide: Any) -> tuple[nn.Module, nn.Module]:
    """ELU layers, and the cross-entropy of grey levels."""
    (latent,) = LATENTS[1]
    encoder = pyrovae.nn.EncoderMLP(dim, *HIDDEN, guide.num_outputs(latent), activation=nn.ELU)
    decoder = pyrovae.MLP(latent, *reversed(HIDDEN), dim, activation=nn.ELU)
    return new_pair(dim, guide=guide, encoder=encoder, decoder=decoder, likelihood=CrossEntropy())


@functools.cache
def trained_pair() -> tuple[Any, Any, Tensor]:
    """The pair, and one draw of the images."""
    torch.manual_seed(seed)
    family = pyrovae.guides.AffineCoupling if q == "flow" else ExpMeanField
    model, guide = (grey_pair if grey else new_pair)(data.dim, guide=family)
    settings: dict[str, Any] = {name: recorder[name] for name in ("batch_size", "lr", "seed")}
    shared = q == "gaussian" and not grey
    work = recorder.work.parent / "iwae_1_elbo_1" if shared else recorder.work  # where iwae.py keeps it
    folder = checkpoint_folder(work, **settings)
    if grey:  # Adam's ε is 1e-4 beside the gradient of the batch's mean, and here the gradient is of the sum
        settings |= {"eps": 1e-4 * recorder["batch_size"], "warmup_epochs": WARMUP_EPOCHS}
    train(model, guide, data.train, folder, recorder["stages"], check=recorder.check_budget, **settings)
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[: recorder["points"]]
    torch.manual_seed(seed)
    return model, guide, data.train[chosen]


def training() -> list[Line]:
    """Train the pair, or read it where it is trained already."""
    trained_pair()
    return []


def gaps() -> list[Line]:
    """All five numbers, each beside the published one."""
    model, guide, x = trained_pair()
    found = pyrovae.gap(model, guide, x, num_samples=recorder["K"], seed=seed + 1)
    names = ("log p(x)", f"best {Q[q]} q of each image", f"amortised {Q[q]} q", "approximation gap", "amortisation gap")
    lines = []
    for number, name, published in zip(NUMBERS, names, KNOWN[q], strict=True):
        value, mc_se, data_se = found.mean(number)
        lines.append(Line(name, value, published, mc_se, data_se, TRAINED, len(x)))
    some = recorder["both_sides_points"]
    if not some:
        return lines
    log_p, se = found.log_likelihood[:some].double(), found.log_likelihood_se[:some].double()
    errors = float(se.norm()) / some, float(log_p.std()) / math.sqrt(some)
    sides = both_sides(model, guide, x[:some], seed + 2)
    return [*lines, Line("log p(x) of the first of them", float(log_p.mean()), None, *errors, **sides)]


def best_gaussian() -> list[Line]:
    """The best Gaussian q of each image, for a model that was trained under a flow."""
    model, guide, x = trained_pair()
    family = pyrovae.posterior.DiagonalGaussian()
    value, mc_se, data_se = pyrovae.gap(model, guide, x, family, num_samples=recorder["K"], seed=seed + 1).mean(
        "refined_elbo"
    )
    return [
        Line("best Gaussian q of each image", value, KNOWN_GAUSSIAN_AFTER_FLOW, mc_se, data_se, TRAINED, len(x)),
    ]


recorder.run([(training,), (gaps,), *([(best_gaussian,)] if q == "flow" else [])])
