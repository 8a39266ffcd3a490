"""distil(): train a guide on draws of the posterior, and say what that does to the gap."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InvalidInputError, NonFiniteError, check_int
from ..pair.execution import ModelOrGuide, evaluation_mode, modules
from ..pair.parameters import is_per_point, unconstrained_parameters
from ..pair.validation import check_points, handles_missing
from ..posterior.joint_density import Joint
from ..posterior.laplace_limits import why_not_laplace
from ..posterior.resampled_draws import resampled_latents
from ..training import schedules
from ..utils.provenance import metadata
from ..utils.random import fork_rng, random_rows
from .distillation_result import DistillationResult
from .evaluating import GUIDE_DRAWS, TOLERANCE, evaluate

STEP_DRAWS = 8  # of each point of a batch
HELD_OUT_FRACTION = 0.2


def distil(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    x_test: Tensor | None = None,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    lr: float = 1e-3,
    num_draws: int = 64,
    num_samples: int = GUIDE_DRAWS,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> DistillationResult:
    """Train the guide, in place, on draws of each point's posterior, and report the gap before and after.

    It maximises 1/N Σ_n E_{p(z|x_n)} log q(z|x_n), whose maximum over all q is p(z|x) itself. The q of the best ELBO
    within a family is too narrow. This one covers all of the posterior: log-weights have a lighter tail, and L_K
    gains more than the ELBO. Where the family is far from the posterior, the ELBO may fall. The model stays as it is.

    Args:
        model: The model, a function of x.
        guide: The guide, a function of x. It is trained.
        x: The points (N, ...) to train on, on the device and in the type of the pair's parameters.
        x_test: Other points, to measure both gaps on. Default: a fifth of x is held out at random.
        epochs: Passes over x.
        batch_size: Points for each step.
        lr: Adam's first learning rate. It falls to 0 along half a cosine.
        num_draws: Draws of the posterior that are kept for each point. A step takes 8 of each.
        num_samples: K, draws of the guide for ELBO and L_K.
        seed: The same seed gives the same numbers.
        on_progress: Called with the fraction of the work done since its last call.

    Returns:
        A `DistillationResult`, in nats.

    Raises:
        InvalidInputError: The modes of the posterior are not searched for this pair. Or the guide has no parameters of
            its own, has them for each point, or has no density at given latents.
        NonFiniteError: log q became NaN or infinite. The guide then has the parameters that it came with.

    References:
        Bornschein & Bengio (2015). Reweighted wake-sleep.

    Example:
        >>> import pyrovae, torch
        >>> model, _ = pyrovae.load("ppca")(3, latent=1)
        >>> guide = pyrovae.guides.MeanField(3, 1)
        >>> result = pyrovae.distil(model, guide, torch.randn(40, 3), epochs=1, num_samples=50)
        >>> print(result.message)  # doctest: +SKIP
    """
    for name, value, least in (
        ("epochs", epochs, 1),
        ("batch_size", batch_size, 1),
        ("num_draws", num_draws, STEP_DRAWS),
    ):
        check_int(name, value, least)
    if not (isinstance(lr, int | float) and 0 < lr < math.inf):
        raise InvalidInputError(f"lr is {lr!r:.40}: give a learning rate above 0, such as 1e-3.")
    check_points(x, handles_missing(model))
    _check_can_be_distilled(model, guide, x)
    x, x_test = _split(x, seed) if x_test is None else (x, x_test)
    parameters = _own_parameters(model, guide, x[:2])
    started = time.perf_counter()
    report = on_progress or (lambda fraction: None)

    def stage(share: float, points: int) -> Callable[[float], None]:
        return lambda done: report(share * done / points)

    before = evaluate(model, guide, x_test, num_samples, seed, tolerance=TOLERANCE, on_progress=stage(0.2, len(x_test)))
    draws = resampled_latents(model, guide, x, num_draws, seed, stage(0.2, len(x)))
    losses = _train(model, guide, x, draws, parameters, epochs, batch_size, lr, seed, stage(0.5, epochs))
    after = evaluate(model, guide, x_test, num_samples, seed, on_progress=stage(0.1, len(x_test)))
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "num_draws": num_draws,
        "num_samples": num_samples,
    }
    return DistillationResult(
        before,
        after,
        tuple(losses),
        time.perf_counter() - started,
        metadata(x_test, **settings, seed=seed, points=len(x_test), train_points=len(x)),
    )


def _split(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Points to train on, and points that are held out."""
    count = round(HELD_OUT_FRACTION * len(x))
    if not count:
        raise InvalidInputError(f"Of {len(x)} points none can be held out: give more, or others as x_test.")
    held_out = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    held_out[random_rows(x, count, seed).to(x.device)] = True
    return x[~held_out], x[held_out]


def _check_can_be_distilled(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> None:
    if is_per_point(guide, x):
        raise InvalidInputError(
            "The guide has parameters for each point, so other points tell nothing of it: fit it, or give the pair a guide that "
            "is a function of x."
        )
    if why := why_not_laplace(model, guide, x):
        raise InvalidInputError(f"This guide cannot be trained on draws of the posterior. {why}")
    Joint(model, guide, x[:2]).check_no_auxiliary()


def _own_parameters(model: ModelOrGuide, guide: ModelOrGuide, x: Tensor) -> list[Tensor]:
    """The parameters that the guide does not share with the model."""
    models = {id(leaf) for leaf in unconstrained_parameters(x, model)}
    own = [leaf for leaf in unconstrained_parameters(x, guide) if id(leaf) not in models]
    if not own:
        raise InvalidInputError(
            "The guide has no parameters of its own that are trained: it is a function of the model's, or all are fixed."
        )
    return own


def _train(
    model: ModelOrGuide,
    guide: ModelOrGuide,
    x: Tensor,
    draws: Tensor,
    parameters: list[Tensor],
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    on_progress: Callable[[float], None],
) -> list[float]:
    """Adam on the mean of −log q(u|x). Returns its mean over the draws of each epoch."""
    kept = [parameter.detach().clone() for parameter in parameters]
    batch_size = min(batch_size, len(x))
    optimizer = torch.optim.Adam(parameters, lr=lr)
    schedule = schedules.cosine(optimizer, epochs * math.ceil(len(x) / batch_size))
    shared = modules(model)
    losses = []
    with evaluation_mode(model, guide), fork_rng(x.device, seed):
        joint = Joint(model, guide, x[:batch_size])
        for module in modules(guide):
            if module not in shared:
                module.train()
        for epoch in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(x), device=x.device).split(batch_size):
                chosen = torch.randint(len(draws), (STEP_DRAWS, len(rows)), device=x.device)
                loss = -joint.at_points(x[rows]).log_guide(draws[chosen, rows]).mean()
                if not bool(torch.isfinite(loss)):
                    for parameter, value in zip(parameters, kept, strict=True):
                        parameter.data.copy_(value)
                    raise NonFiniteError(
                        f"−log q(z|x) is {loss.item()} in epoch {epoch + 1} of the distillation, and the guide is as it was: "
                        "lower lr, or look at draws of the posterior that the guide's support may not hold."
                    )
                optimizer.zero_grad()
                loss.backward(inputs=parameters)
                optimizer.step()
                schedule.step()
                total += loss.item() * len(rows)
            losses.append(total / len(x))
            on_progress(1.0)
    return losses
