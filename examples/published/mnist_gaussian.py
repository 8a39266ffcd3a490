"""One Gaussian on MNIST, and one for each digit, in logit space: exact densities of the flows' protocol.

x = logit(α + (1 − 2α) y), y = (pixel + u) / 256, α = 1e-6. The first 50,000 images train. Gaussians of single digits are compared by
log p(x|class) of the image's own class. MNIST is looked for in $PYROVAE_DATA.
"""

from protocols import class_log_densities, density_lines, of_own_class, split, summed_over_classes
from record import Recorder

import pyrovae
from pyrovae.data.transforms import Logit

recorder = Recorder(
    "mnist_gaussian",
    "Gaussians on MNIST in logit space",
    "Papamakarios, Pavlakou & Murray (2017), Masked autoregressive flow for density estimation, tables 2 and 3 (quoted from memory)",
    "nats an image in logit space, or bits a pixel",
    "dequantised, α = 1e-6; the first 50,000 images train; 10,000 test images",
    alpha=1e-6,
    floor=1e-9,
    seed=0,
)


def gaussian(train):
    """log p(x) under the Gaussian of maximum likelihood, in double precision."""
    model, _ = pyrovae.load("gaussian")(train.shape[1], floor=recorder["floor"])
    model = model.double()
    model.initialise(train)
    return lambda x: model.log_prob(x).detach()


def gaussians():
    """One Gaussian, and one for each digit."""
    data = pyrovae.load_data("mnist", transform=Logit(256, recorder["alpha"]), seed=recorder["seed"])
    train, test = split(data)[0].double(), data.test.double()
    labels = data.train_labels[: len(train)]
    apart = class_log_densities(gaussian, train, labels, test)
    own = "class-conditional: log p(x|c) of the image's own class c"
    yield from density_lines("one Gaussian", gaussian(train)(test), test, data.transform, (-1366.9, 2.01))
    log_p = of_own_class(apart, data.test_labels)
    yield from density_lines("a Gaussian for each digit", log_p, test, data.transform, (-1344.7, 1.97), own)
    log_p = summed_over_classes(apart, labels)
    yield from density_lines("a Gaussian for each digit, summed over digits", log_p, test, data.transform)


if __name__ == "__main__":
    recorder.run([(gaussians,)])
