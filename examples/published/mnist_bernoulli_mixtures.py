"""Mixtures of Bernoullis on binarised MNIST: exact log p(x) by EM.

The published images were binarised once, by Salakhutdinov & Murray. Here each pixel is drawn with its own seed. MNIST is looked for
in $PYROVAE_DATA.
"""

import math

import torch
from record import Line, Recorder

import pyrovae

PUBLISHED = {10: -168.95, 100: None, 500: -137.64}

recorder = Recorder(
    "mnist_bernoulli_mixtures",
    "Mixtures of Bernoullis on binarised MNIST",
    "Larochelle & Murray (2011), The neural autoregressive distribution estimator, table 1 (quoted from memory)",
    "nats an image",
    "the first 50,000 images train, each pixel drawn once as Bernoulli(pixel / 255); 10,000 test images",
    steps=60,
    seed=0,
)
data = pyrovae.load_data("mnist", transform="binarise", seed=recorder["seed"])
torch.manual_seed(recorder["seed"])
train = data.train[torch.arange(50_000)]  # one draw, as the published images are one
lines = []
for components, published in PUBLISHED.items():
    torch.manual_seed(recorder["seed"])
    model, guide = pyrovae.load("bernoulli_mixture")(data.dim, components=components)
    curve = pyrovae.EM(steps=recorder["steps"], tol=1e-4)(model, train)
    log_p = model.log_prob(data.test).detach().double()
    lines.append(
        Line(
            f"{components} components: log p(x)",
            float(log_p.mean()),
            published,
            data_se=float(log_p.std()) / math.sqrt(len(log_p)),
            note=f"{len(curve)} steps of EM; another draw of the pixels than the published one",
        )
    )
    recorder.write(lines)  # after each, so that a stopped command leaves what it has
