"""Three kinds of models on binarised MNIST: mixtures of Bernoullis, Bernoulli (logistic) PCA, and a VAE, in one table.

All train on the same 50,000 images, made binary once. log p(x) of the mixtures is exact. The others have it from two sides on some
test images. MNIST is looked for in $PYROVAE_DATA.
"""

import copy

import torch
from protocols import mean, split, trained_by_svi, two_sided_lines
from record import Line, Recorder
from torch.nn.functional import one_hot

import pyrovae

KNOWN = {10: -168.95, 500: -137.64}  # components: log p(x) of the test images

recorder = Recorder(
    "mnist_binarised",
    "Three kinds of models on binarised MNIST",
    "mixtures: Larochelle & Murray (2011), The neural autoregressive distribution estimator, table 1 (quoted from memory)",
    "nats an image",
    "each pixel drawn once as Bernoulli(pixel / 255); the first 50,000 images train, 10,000 validate; 10,000 test images",
    differences="the published images are another draw of the pixels; how the published mixtures began is not known here",
    em_steps=30,
    latent=20,
    epochs=10,
    points=100,
    seed=0,
)


def images():
    """Training, validation and test images, each drawn once."""
    data = pyrovae.load_data("mnist", transform="binarise", seed=recorder["seed"])
    return *split(data), data.test


def at_random(model, x):
    """A start of EM that knows nothing: each image belongs to a random component."""
    model.components.start(x, one_hot(torch.randint(model.components.count, (len(x),)), model.components.count).to(x))


def mixture(components, start, patience=2):
    """EM until the validation images have gained nothing for some steps: the step that is best for them."""
    train, validation, test = images()
    model, _ = pyrovae.load("bernoulli_mixture")(train.shape[1], components=components)
    (at_random if start == "random" else type(model).initialise)(model, train)
    model.initialised.fill_(True)
    best, kept, last = float("-inf"), None, 0
    for step in range(1, recorder["em_steps"] + 1):
        recorder.check_budget()
        model.em_step(train)
        with torch.no_grad():
            value = float(model.log_prob(validation).double().mean())
        if value > best + 1e-3:
            best, kept, last = value, copy.deepcopy(model.state_dict()), step
        elif step - last >= patience:
            break
    model.load_state_dict(kept)
    with torch.no_grad():  # with gradients it would take 16 GB
        log_p = model.log_prob(test)
    value, data_se = mean(log_p)
    some, some_se = mean(log_p[: recorder["points"]])
    name = f"mixture, {components} components from {start}"
    note = f"{last} of {step} steps of EM, by the validation images"
    published = KNOWN.get(components) if start == "k-means" else None
    exact = {"lower": value, "upper": value, "points": len(test)}
    yield Line(f"{name}: log p(x)", value, published, data_se=data_se, note=note, **exact)
    yield Line(f"{name}: log p(x)", some, data_se=some_se, lower=some, upper=some, points=recorder["points"])


def continuous(name, **options):
    """A pair that is trained by SVI, with log p(x) from both sides and the looseness of its bounds."""
    train, _, test = images()
    model, guide = trained_by_svi(name, train, recorder, **options)
    title = {"vae": "VAE", "bernoulli_pca": "logistic PCA"}[name] + f", {recorder['latent']} latents"
    yield from two_sided_lines(title, model, guide, test, recorder["points"], recorder["seed"])


def logistic_pca():
    """A decoder that is one matrix."""
    return continuous("bernoulli_pca")


def vae():
    """784-200-200-latents and its mirror, tanh."""
    return continuous("vae", likelihood=pyrovae.likelihoods.Bernoulli())


if __name__ == "__main__":
    mixtures = [(mixture, components, "k-means") for components in (10, 100, 500)]
    recorder.run([*mixtures, (vae,), (logistic_pca,), (mixture, 10, "random"), (mixture, 100, "random")])
