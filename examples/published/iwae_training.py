"""The training of Burda, Grosse & Salakhutdinov 2016, which several rows share: networks, optimiser, stages, and resuming.

Every image is drawn anew as Bernoulli(pixel / 255) whenever it is used. Stage i has 3^i epochs at the learning rate lr · 10^(−i/7).
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import pyrovae
from pyrovae.utils.files import replacing

STAGES = 8
LATENTS = {1: (50,), 2: (100, 50)}  # by layers, from x upwards
HIDDEN = (200, 200)


class ExpMeanField(pyrovae.guides.MeanField):
    """A Gaussian q(z|x) whose σ is the exponential of the network's output, as in the paper."""

    scale = staticmethod(torch.exp)


def epochs_of(stages: int) -> int:
    """1 + 3 + 9 + …: the epochs of so many stages."""
    return (3**stages - 1) // 2


def new_pair(dim: int, layers: int = 1, guide: Any = ExpMeanField, **options: Any) -> tuple[nn.Module, nn.Module]:
    """The published networks, of tanh layers. With two layers, σ is a softplus.

    Args:
        dim: D, the size of one x.
        layers: Of latents, 1 or 2.
        guide: q(z|x) of one layer.
        **options: Other sizes and networks than the published ones.
    """
    given = {"likelihood": pyrovae.likelihoods.Bernoulli(), "hidden": HIDDEN, **options}
    if layers == 1:
        return pyrovae.load("vae")(dim, **{"latent": LATENTS[1][0], "guide": guide, **given})
    return pyrovae.load("hierarchical_vae")(dim, **{"latents": LATENTS[layers], **given})


def other_batches(batch_size: int, lr: float, published: int = 20) -> str:
    """A sentence where batches and the learning rate are not the published ones."""
    if (batch_size, lr) == (published, 1e-3):
        return ""
    return f". Batches have {batch_size} images at lr = {lr:g}; published are {published} and 0.001"


def checkpoint_folder(work: Path, batch_size: int, lr: float, seed: int) -> Path:
    """Where a row keeps the checkpoints of one training."""
    return work / f"batch_{batch_size}_lr_{lr:g}_seed_{seed}"


def training_objective(name: str, k: int) -> Any:
    """ELBO (of k draws), IWAE or DReG. The bound of one draw is the ELBO, and the pair's own estimator is taken."""
    if k == 1:
        return None
    kinds = {
        "iwae": pyrovae.objectives.IWAE,
        "dreg": pyrovae.objectives.DReG,
        "elbo": partial(pyrovae.objectives.Renyi, 1),
    }
    if name not in kinds:
        raise pyrovae.InvalidInputError(f"There is no objective '{name}' here: give one of {', '.join(kinds)}.")
    return kinds[name](k)


def staged(steps_per_epoch: int) -> Callable[[Optimizer, int], LRScheduler]:
    """The schedule of all stages, also for fewer, so that a shorter training is the beginning of a longer one."""
    return lambda optimizer, steps: pyrovae.schedules.iwae_schedule(optimizer, steps_per_epoch * epochs_of(STAGES))


def train(
    model: nn.Module,
    guide: nn.Module,
    x: Any,
    folder: Path,
    stages: int,
    *,
    objective: Any = None,
    batch_size: int = 20,
    lr: float = 1e-3,
    seed: int = 0,
    eps: float = 1e-4,
    warmup_epochs: int = 0,
    check: Callable[[Any], None] = lambda result: None,
) -> dict[str, Any]:
    """Train the pair in place, from the checkpoint in `folder` where there is one. Stage ends are kept beside it.

    Args:
        model: The model.
        guide: The guide.
        x: Training points; those that are drawn anew at every use as `load_data` gives them.
        folder: Of the checkpoints.
        stages: How many of the eight.
        objective: As for `fit`.
        batch_size: Points of a step.
        lr: Of the first stage.
        seed: Of all random numbers.
        eps: Of Adam, whose gradient is summed over the batch.
        warmup_epochs: In which the weight of the KL rises from 0 to 1.
        check: Called after each epoch; it may raise to stop.

    Returns:
        The loss of the last epoch's training images in nats a point, the steps, and the objective's name. `cpu_seconds` is what
        training took of the processor, in all commands that went on with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = folder / f"stage_{stages}.pt"
    if end.exists():
        return _read(model, guide, end)
    checkpoints = pyrovae.Checkpoints(folder, interval=60)
    checkpoints.resume = checkpoints.exist()
    spent = folder / "cpu_seconds.txt"
    before = (float(spent.read_text()) if spent.exists() else 0.0) - time.process_time()
    ends = {epochs_of(stage): stage for stage in range(1, STAGES + 1)}

    def after_epoch(result: Any) -> None:
        seconds = before + time.process_time()
        spent.write_text(f"{seconds}\n")
        if stage := ends.get(len(result.losses)):
            told = {
                "loss": result.losses[-1],
                "steps": result.steps,
                "objective": result.objective,
                "cpu_seconds": seconds,
            }
            with replacing(folder / f"stage_{stage}.pt") as path:
                torch.save({**told, "model": model.state_dict(), "guide": guide.state_dict()}, path)
        check(result)

    pyrovae.fit(
        model,
        guide,
        x,
        epochs=epochs_of(stages),
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        objective=objective,
        optimizer=partial(pyrovae.schedules.adam, eps=eps),
        kl_warmup_fraction=min(warmup_epochs / epochs_of(stages), 1.0),
        schedule=staged(-(-len(x) // batch_size)),
        checkpoints=checkpoints,
        on_epoch=after_epoch,
    )
    return _read(model, guide, end)


def _read(model: nn.Module, guide: nn.Module, file: Path) -> dict[str, Any]:
    """Put the parameters of a stage's end into the pair; the rest is what `train` returns."""
    state = torch.load(file, weights_only=True)
    for half, name in ((model, "model"), (guide, "guide")):
        half.load_state_dict(state.pop(name))
        half.eval()
    return state
