"""IWAE, Table 1: a VAE or an IWAE of one or two layers, its L_5000 on MNIST's test images, and how loose that bound is.

The defaults are the published training: 3,280 epochs in batches of 20. `--stages 5` stops after 121 epochs, on the same path.
MNIST is looked for in $PYROVAE_DATA.

python examples/published/iwae.py --layers 1 --k 5 --objective iwae --stages 5
"""

import functools
import math
from typing import Any

import torch
from iwae_training import STAGES, checkpoint_folder, epochs_of, new_pair, other_batches, train, training_objective
from protocols import two_sided_lines
from record import Line, Recorder

import pyrovae
from pyrovae.diagnostics.result import ACTIVE_VARIANCE

# −NLL and active units, by layers, objective and k; those of k = 5 are quoted from memory
KNOWN = {
    (1, "elbo", 1): (-86.76, (19,)),
    (1, "elbo", 5): (-86.47, (20,)),
    (1, "iwae", 5): (-85.54, (22,)),
    (1, "elbo", 50): (-86.35, (20,)),
    (1, "iwae", 50): (-84.78, (25,)),
    (2, "elbo", 1): (-85.33, (16, 5)),
    (2, "elbo", 50): (-84.78, (17, 5)),
    (2, "iwae", 50): (-82.90, (26, 7)),
}
TRAINED_BY = {"elbo": "VAE", "iwae": "IWAE", "dreg": "IWAE by DReG"}
SCREEN = 100  # draws at all test images, where L_K is computed at some of them
UNIT_POINTS = 2000  # for active units

recorder = Recorder(
    "iwae",
    "IWAE, Table 1",
    "Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders, table 1",
    "nats an image",
    "training images drawn anew as Bernoulli(pixel / 255) at every use, test images once; tanh networks; Adam with ε = 1e-4 on the "
    "gradient summed over the batch; stage i of 8 has 3^i epochs at the learning rate lr · 10^(−i/7); L_5000 over 10,000 test images",
    differences="The decoder's bias starts at the mean image, kept within 0.01 and 0.99. β₁ is 0.9. With two layers, σ is a softplus",
    rows=("layers", "objective", "k"),
    layers=1,
    objective="elbo",
    k=1,
    stages=STAGES,
    batch_size=20,
    lr=1e-3,
    K=5000,
    bound_points=10_000,
    both_sides_points=100,
    data="mnist",
    seed=0,
)
layers, objective, k, seed = (recorder[name] for name in ("layers", "objective", "k", "seed"))
recorder.about["title"] += f": {layers} layer{'s' * (layers > 1)}, {TRAINED_BY[objective]}, k = {k}"
recorder.about["differences"] += other_batches(recorder["batch_size"], recorder["lr"])
data = pyrovae.load_data(recorder["data"], transform="binarise", seed=seed)
torch.manual_seed(seed)
model, guide = new_pair(data.dim, layers)
known, known_units = KNOWN.get((layers, objective, k), (None, (None,) * layers))
if known is None:
    recorder.about["source"] += " (none of its numbers is set beside this row)"
elif k == 5:
    recorder.about["source"] += " (the row of k = 5 quoted from memory)"
stages = recorder["stages"]
AFTER = (
    ""
    if stages == STAGES
    else f"after {stages} of {STAGES} stages, {epochs_of(stages):,} of {epochs_of(STAGES):,} epochs"
)
# test images in a random order, of which shorter lists are the beginnings
order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed))


@functools.cache
def trained() -> dict[str, Any]:
    """Train the pair, or read it where it is trained already."""
    batch_size, lr = recorder["batch_size"], recorder["lr"]
    folder = checkpoint_folder(recorder.work, batch_size, lr, seed)
    chosen = training_objective(objective, k)
    return train(
        model, guide, data.train, folder, stages, objective=chosen, batch_size=batch_size, lr=lr, seed=seed,
        check=recorder.check_budget,
    )  # fmt: skip


def training() -> list[Line]:
    """What training says of its own images."""
    result = trained()
    name = "ELBO" if k == 1 else f"{result['objective']} bound"
    note = f"{result['steps']:,} steps, {result['cpu_seconds'] / 60:.0f} minutes of one core"
    return [Line(f"{name} of the training images in the last epoch", -result["loss"], note=note)]


def bound() -> list[Line]:
    """L_K over all test images: from all of them, or from a cheaper bound at all and L_K at some of them."""
    trained()
    K, points = recorder["K"], min(recorder["bound_points"], len(data.test))
    some = data.test[order[:points]]
    found = pyrovae.evaluate(model, guide, some, num_samples=K, seed=seed + 1)
    value, mc_se, data_se = found.mean("log_likelihood")
    notes = [AFTER]
    if points < len(data.test):
        every = pyrovae.evaluate(model, guide, data.test, num_samples=SCREEN, seed=seed + 2)
        gained = found.log_likelihood - every.log_likelihood[order[:points]]
        value, mc_se, data_se = every.mean("log_likelihood")
        value, mc_se = value + float(gained.mean()), math.hypot(mc_se, float(gained.std()) / math.sqrt(points))
        notes.append(
            f"L_{SCREEN} at all images and L_{K} − L_{SCREEN} at {points} of them, chosen at random, whose error is in ± MC"
        )
    return [
        Line(f"L_{K}", value, known, mc_se, data_se, "; ".join(filter(None, notes)), points=len(data.test)),
    ]


def both_sides() -> list[Line]:
    """log p(x) of some test images from both sides, and what the ELBO and L_K lose there."""
    trained()
    x, points = data.test[order], recorder["both_sides_points"]
    return two_sided_lines(f"{points} test images", model, guide, x, points, seed + 3, num_samples=recorder["K"])


def active_units() -> list[Line]:
    """How many latents of each layer are active: Var_x(E_q[z_j|x]) > 0.01."""
    trained()
    found = pyrovae.diagnose(model, guide, data.test[order[:UNIT_POINTS]], num_samples=4, seed=seed, prior_samples=2)
    note = AFTER or "a count of one training, which another seed may change"
    names = ["z"] if layers == 1 else [f"z{layer}" for layer in range(1, layers + 1)]
    lines = []
    for name, published in zip(names, known_units, strict=True):
        own = torch.tensor([unit.startswith(f"{name}[") for unit in found.names])
        active = int((found.activity[own] > ACTIVE_VARIANCE).sum())
        lines.append(Line(f"active units of {int(own.sum())}, {name}", active, published, note=note, points=len(found)))
    return lines


recorder.run(
    [
        (part,)
        for part in (training, bound, both_sides, active_units)
        if part is not both_sides or recorder["both_sides_points"]
    ]
)
