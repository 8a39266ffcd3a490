"""Do batches of 100 end where the published batches of 20 do? The one-layer VAE of `iwae.py`, trained both ways from several seeds.

Batches five times as large take a fifth of the steps, at a learning rate √5 times as high. MNIST is looked for in $PYROVAE_DATA.

python examples/published/batch_sizes.py --stages 4
"""

import functools
import math

import torch
from iwae_training import STAGES, checkpoint_folder, epochs_of, new_pair, train
from protocols import mean
from record import Line, Recorder

import pyrovae

SIZES = {20: 1e-3, 100: 2.236e-3}  # and the learning rate of the first stage

recorder = Recorder(
    "batch_sizes",
    "Batches of 100 in place of 20",
    "Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders: the training of table 1, in batches of 20",
    "nats an image",
    "the VAE of 50 latents of the row IWAE, k = 1, from the same weights; L_K over 10,000 test images",
    stages=4,
    seeds=2,
    K=100,
    data="mnist",
    seed=0,
)
BOUNDS = {"ELBO": "elbo", f"L_{recorder['K']}": "log_likelihood"}
data = pyrovae.load_data(recorder["data"], transform="binarise", seed=recorder["seed"])


@functools.cache
def trained(size: int, seed: int) -> tuple[pyrovae.Evidence, str]:
    """What the test images have under one training, and what it took."""
    torch.manual_seed(seed)
    model, guide = new_pair(data.dim)
    settings = {"batch_size": size, "lr": SIZES[size], "seed": seed}
    folder = checkpoint_folder(recorder.work.parent / "iwae_1_elbo_1", **settings)  # where iwae.py keeps its own
    result = train(model, guide, data.train, folder, recorder["stages"], check=recorder.check_budget, **settings)
    found = pyrovae.evaluate(model, guide, data.test, num_samples=recorder["K"], seed=recorder["seed"] + 1)
    epochs = f"after {recorder['stages']} of {STAGES} stages, {epochs_of(recorder['stages']):,} epochs"
    return found, f"{epochs}, {result['steps']:,} steps, {result['cpu_seconds'] / 60:.0f} minutes of one core"


def bounds(size: int, seed: int) -> list[Line]:
    """ELBO and L_K of one training."""
    found, note = trained(size, seed)
    lines = []
    for name, number in BOUNDS.items():
        value, mc_se, data_se = found.mean(number)
        lines.append(Line(f"batches of {size}, seed {seed}: {name}", value, None, mc_se, data_se, note, len(found)))
    return lines


def differences(seed: int) -> list[Line]:
    """Batches of 100 minus batches of 20, image by image."""
    large, small = trained(100, seed)[0], trained(20, seed)[0]
    lines = []
    for name, number in BOUNDS.items():
        value, data_se = mean(getattr(large, number) - getattr(small, number))
        # at most: both have the same noise
        mc_se = math.hypot(large.mean(number).mc_se, small.mean(number).mc_se)
        lines.append(
            Line(f"100 minus 20, seed {seed}: {name}", value, None, mc_se, data_se, "paired over images", len(large))
        )
    return lines


seeds = range(recorder["seed"], recorder["seed"] + recorder["seeds"])
recorder.run([*((bounds, size, seed) for seed in seeds for size in SIZES), *((differences, seed) for seed in seeds)])
