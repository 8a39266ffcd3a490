"""One Gaussian on MNIST, and one for each digit, in logit space: exact densities of the flows' protocol.

x = logit(α + (1 − 2α) y), y = (pixel + u) / 256, α = 1e-6. The first 50,000 images train. Gaussians of single digits are compared by
log p(x|class) of the image's own class. MNIST is looked for in $PYROVAE_DATA.
"""

import math

import torch
from record import Line, Recorder

import pyrovae
from pyrovae.data.pixel_transforms import Logit

PUBLISHED = {"one Gaussian": (-1366.9, 2.01), "a Gaussian for each digit": (-1344.7, 1.97)}
FLOOR = 1e-9

recorder = Recorder(
    "mnist_gaussian",
    "Gaussians on MNIST in logit space",
    "Papamakarios, Pavlakou & Murray (2017), Masked autoregressive flow for density estimation, tables 2 and 3 (quoted from memory)",
    "nats an image in logit space, or bits a pixel",
    "dequantised, α = 1e-6; the first 50,000 images train; 10,000 test images",
    seed=0,
)
data = pyrovae.load_data("mnist", transform=Logit(256, 1e-6), seed=recorder["seed"])
train, labels = data.train[:50_000].double(), data.train_labels[:50_000]
test, test_labels = data.test.double(), data.test_labels


def log_density(train, test):
    """log p(x) of the test points under the Gaussian of maximum likelihood, in double precision: (N,)."""
    model, _ = pyrovae.load("gaussian")(train.shape[1], floor=FLOOR)
    model = model.double()
    model.initialise(train)
    return model.log_prob(test).detach()


together = log_density(train, test)
apart = torch.empty_like(together)
for digit in range(10):
    apart[test_labels == digit] = log_density(train[labels == digit], test[test_labels == digit])
jacobian = data.transform.log_jacobian(test)  # nats, of x with respect to the pixel
lines = []
for name, log_p in {"one Gaussian": together, "a Gaussian for each digit": apart}.items():
    bits = -(log_p + jacobian) / (test.shape[1] * math.log(2))
    for quantity, values, published in zip(("log p(x)", "bits a pixel"), (log_p, bits), PUBLISHED[name], strict=True):
        data_se = float(values.std()) / math.sqrt(len(values))
        lines.append(Line(f"{name}: {quantity}", float(values.mean()), published, data_se=data_se))
recorder.write(lines)
