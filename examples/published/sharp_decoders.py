"""Sharp Gaussian decoders: how far the importance-weighted bound lies below log p(x), beside a long AIS from the prior.

The published checkpoints are not at hand. So VAEs of the published kind are trained here, and the size of the gap compares, not the
level. MNIST is looked for in $PYROVAE_DATA.
"""

import math
import re
import time
from typing import Any

import torch
from protocols import both_sides
from record import Line, Recorder

import pyrovae

# log p̂(x) by AIS minus the bound of 200,000 draws, table 2, by latents and σ²
KNOWN = {(50, 0.005): 991.435 - 826.325, (10, 0.005): 705.375 - 486.466}
LIMIT = -784 / 2 * math.log(2 * math.pi * 0.03)  # nats: no density of σ² = 0.03 is larger
UNSURE = f"the size of the gap compares; σ² is from memory, and 705 nats are above {LIMIT:.0f}, the most that σ² = 0.03 allows"
# widths from x on: the decoders are 50-1024-1024-1024-784 and 10-64-256-256-1024-784
HIDDEN = {50: (1024, 1024, 1024), 10: (1024, 256, 256, 64)}

recorder = Recorder(
    "sharp_decoders",
    "Sharp Gaussian decoders",
    "Wu, Burda, Salakhutdinov & Grosse (2017), On the quantitative analysis of decoder-based generative models, table 2",
    "nats an image",
    "p(x|z) = N(decoder(z), σ² I) on dequantised MNIST; VAE-50 has the decoder 50-1024-1024-1024-784, VAE-10 10-64-256-256-1024-784; AIS of "
    "16 chains and 10,000 steps of 10 leapfrogs from the prior; the bound has 200,000 draws of the encoder; 1,000 test images",
    differences="The published checkpoints are not at hand, so VAEs are trained here, on all 60,000 images. A pilot chain for every four adapts the step size of AIS",
    rows=("hidden",),
    hidden="published",
    epochs=100,
    batch_size=100,
    points=10,
    chains=16,
    steps=10_000,
    K=200_000,
    decoders="10:0.005,50:0.005,50:0.03",
    data="mnist",
    seed=0,
)
as_published = recorder["hidden"] == "published"
if not as_published and not re.fullmatch(r"\d+(,\d+)*", recorder["hidden"]):
    raise pyrovae.InvalidInputError(
        f"--hidden {recorder['hidden']}: give 'published', or widths from x on, such as 100,100."
    )
recorder.about["differences"] += f". The VAEs are trained for {recorder['epochs']} epochs"
if not as_published:
    widths = recorder["hidden"].replace(",", " and ")
    recorder.about["title"] += f": hidden layers of {widths} units"
    recorder.about["differences"] += f", and have hidden layers of {widths} units"
if recorder["K"] != 200_000:
    recorder.about["differences"] += f". The bound has {recorder['K']:,} draws"
data = pyrovae.load_data(recorder["data"], transform="dequantise", seed=recorder["seed"])


def trained(latent: int, variance: float) -> tuple[Any, Any]:
    """A VAE with a decoder of that variance."""
    torch.manual_seed(recorder["seed"])
    likelihood = pyrovae.likelihoods.FixedNormal(math.sqrt(variance))
    hidden = HIDDEN[latent] if as_published else tuple(map(int, recorder["hidden"].split(",")))
    model, guide = pyrovae.load("vae")(data.dim, latent=latent, hidden=hidden, likelihood=likelihood)
    checkpoints = pyrovae.Checkpoints(recorder.work / f"{latent}_{variance:g}", interval=60)
    checkpoints.resume = checkpoints.exist()
    settings = {name: recorder[name] for name in ("epochs", "batch_size", "seed")}
    pyrovae.fit(model, guide, data.train, checkpoints=checkpoints, on_epoch=recorder.check_budget, **settings)
    return model, guide


def timed(function: Any, *arguments: Any, **options: Any) -> tuple[Any, float]:
    """A result, and the seconds of the processor that it took."""
    before = time.process_time()
    return function(*arguments, **options), time.process_time() - before


def decoder(latent: int, variance: float) -> list[Line]:
    """One decoder: three estimates of log p(x) at some test images."""
    model, guide = trained(latent, variance)
    recorder.check_budget()
    x, K, seed = data.test[: recorder["points"]], recorder["K"], recorder["seed"]
    ours, our_time = timed(pyrovae.evaluate, model, guide, x, tolerance=0.05, seed=seed)
    bound = pyrovae.evaluate(model, guide, x, num_samples=K, seed=seed + 3)
    settings = {"num_chains": recorder["chains"], "num_temperatures": recorder["steps"], "num_leapfrog_steps": 10}
    theirs, their_time = timed(pyrovae.ais, model, guide, x, start="prior", seed=seed + 1, **settings)
    sides = both_sides(model, guide, x, seed + 2)
    lost = ours.log_likelihood - bound.log_likelihood
    (log_p, p_se, _), (L_K, L_se, L_data) = (each.mean("log_likelihood") for each in (ours, bound))
    lost_se = math.hypot(p_se, L_se)
    difference = ours.log_likelihood - theirs.log_likelihood
    noise = (ours.log_likelihood_se.square() + theirs.log_likelihood_se.square()).sqrt()
    worst = int(difference.abs().argmax())
    name, points = f"VAE-{latent}, σ² = {variance:g}", len(x)
    return [
        Line(
            f"{name}: L_{K}", L_K, None, L_se, L_data, bound_error=log_p - L_K, bound_error_se=lost_se, **sides,
        ),
        Line(f"{name}: log p̂(x)", *_mean(ours), points=points, note=f"{our_time:.1f} seconds of one core; {ours.reliability}"),
        Line(f"{name}: AIS from the prior, {recorder['steps']:,} steps", *_mean(theirs), points=points,
             note=f"{their_time:.0f} seconds of one core, {their_time / our_time:.1f} times as many"),
        Line(f"{name}: log p̂(x) − AIS where they differ most", float(difference[worst]), None, float(noise[worst]), points=1),
        Line(f"{name}: log p̂(x) − L_{K}", log_p - L_K, KNOWN.get((latent, variance)), lost_se, float(lost.std()) / math.sqrt(points),
             UNSURE if (latent, variance) in KNOWN else "", points=points),
    ]  # fmt: skip


def _mean(result: Any) -> tuple[float, None, float, float]:
    value, mc_se, data_se = result.mean("log_likelihood")
    return value, None, mc_se, data_se


pairs = [each.split(":") for each in recorder["decoders"].split(",")]  # latents and σ²
recorder.run([(decoder, int(latent), float(variance)) for latent, variance in pairs])
