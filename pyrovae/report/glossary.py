"""The glossary: each term in a sentence or two. The report page shows it, docs/glossary.md is made from it, README.md has some of it."""

GLOSSARY = {
    "amortised": "One network predicts q(z|x) for all points, instead of a fit for each point.",
    "base measure": (
        "What a density is relative to. Lebesgue measure: x is real, and p(x) is a density. Counting measure: x is discrete, and "
        "p(x) is a probability."
    ),
    "bits/dim": "Bits per dimension: −log₂ p(x) per pixel, on the scale of the original pixels. Smaller is better.",
    "bound error": "How far the bound from a fixed number of draws of the guide lies below log p̂(x).",
    "certificate": "A number that is below the mean of log p(x) with a stated probability.",
    "checkpoint": "A file with everything that training needs to continue.",
    "data error": "The standard error of a mean because the held-out points are few.",
    "dequantise": "Add uniform noise to whole numbers such as pixels, so that they have a density.",
    "draw": "One random value of z from the guide, the prior or the posterior, or of x from the model. Also called a sample.",
    "ELBO": "Evidence lower bound, E_q[log p(x, z) − log q(z|x)]. It is at most log p(x). Training maximises it.",
    "encoder, decoder": "The network of the guide, from x to q(z|x), and the network of the model, from z to p(x|z).",
    "ESS": (
        "Effective sample size, (Σ w)² / Σ w² for weights w: how many equally weighted draws the weighted draws are worth."
    ),
    "evidence": "p(x), the probability or density that the model gives x, with z summed out. Its logarithm is log p(x).",
    "exact log p(x)": "log p(x) in closed form, where the model has one.",
    "explained variance": "1 minus the squared error of the reconstruction over the variance of x. 1 is perfect, 0 is the mean.",
    "gap": "log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)): how far the guide is from the true posterior. 0 is best.",
    "guide": "Pyro's word for q(z|x), the approximation of the posterior. Often a network that predicts z from x.",
    "held-out points": "Points that training has not seen. Models are compared on these.",
    "importance weight": "w = p(x, z) / q(z|x) for a draw z of q. Its mean is p(x).",
    "k̂": "The Pareto tail index of the weights. Above 0.7, a few draws carry most of the weight.",
    "KL": "Kullback-Leibler divergence: how much q(z|x) says of z that the prior does not. A latent with 0 is not used.",
    "latent": "A variable z that is not observed.",
    "likelihood": "p(x|z), how x is drawn once z is known.",
    "log p(x)": "The log-density, or log-probability, that the model gives a data point x. Larger is better. Unit: nats.",
    "log p̂(x)": "The estimate of log p(x).",
    "lower bound": "A number that is too low by an unknown amount: the draws were too few to find all of p(x).",
    "method": (
        "How log p(x) was computed: by a formula (exact), by draws about the modes of p(z|x) (laplace), or by draws of the guide "
        "(importance_sampling)."
    ),
    "mode": "A local maximum of the posterior p(z|x).",
    "Monte Carlo error": "The standard error of an estimate because its draws are random.",
    "nat": "The unit of a natural logarithm. 1 nat is 1.443 bits.",
    "pair": "A model and a guide that name the same latents.",
    "paired difference": (
        "The mean over points of the difference of two models on the same point. What makes a point hard for both cancels."
    ),
    "posterior": "p(z|x), the distribution of z once x is known.",
    "posterior mean": "E[z|x] under the guide: where a point lies in the latent space.",
    "prior": "p(z), the distribution of z before x is seen.",
    "reliable": "All checks of the estimate passed: its error may be believed.",
    "run": "A folder that holds one trained pair, with its settings.",
    "split": "Which points were used for training, and which were held out.",
    "squared error": "The mean of (x − x̂)² over points and over the numbers of each, with x̂ the reconstruction.",
    "standard error": "How far an estimate typically is from its exact value: see Monte Carlo error and data error.",
    "SVI": "Stochastic variational inference: maximising the ELBO by noisy gradient steps.",
    "tolerance": "The standard error that log p(x) of each point is to have.",
    "transform": "What was done to the data to make x. A density of x depends on it.",
    "variance floor": "The smallest variance that a model may use. Where it is reached, it decides the density, and not the data.",
}
