"""The terms of the page, each explained in a sentence or two."""

GLOSSARY = {
    "bits/dim": "−log₂ p(x) divided by the number of pixels, on the scale of the original pixels. Smaller is better.",
    "bound error": "How far the bound from a fixed number of draws of the guide lies below log p̂(x).",
    "data error": "The standard error of a mean because the held-out points are few.",
    "ELBO": "Evidence lower bound, E_q[log p(x, z) − log q(z|x)]. It is at most log p(x). Training maximises it.",
    "exact log p(x)": "log p(x) in closed form, where the model has one.",
    "explained variance": "1 minus the squared error of the reconstruction over the variance of x. 1 is perfect, 0 is the mean.",
    "gap": "log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)): how far the guide is from the true posterior. 0 is best.",
    "guide": "Pyro's word for q(z|x), the approximation of the posterior.",
    "held-out points": "Points that training has not seen. All numbers of this page are of these.",
    "KL": "Kullback-Leibler divergence: how much q(z|x) says of z that the prior does not. A latent with 0 is not used.",
    "latent": "A variable z that is not observed.",
    "log p̂(x)": "The estimate of log p(x), the log-probability or log-density that the model gives x. Larger is better.",
    "lower bound": "A number that is too low by an unknown amount: the draws were too few to find all of p(x).",
    "method": "How log p(x) was computed: in closed form, by importance sampling about the modes, or from draws of the guide.",
    "Monte Carlo error": "The standard error of an estimate because its draws are random.",
    "nat": "The unit of a natural logarithm. 1 nat is 1.443 bits.",
    "paired difference": (
        "The mean over points of the difference of two models on the same point. What makes a point hard for both cancels."
    ),
    "posterior": "p(z|x), the distribution of z once x is known.",
    "posterior mean": "E[z|x] under the guide: where a point lies in the latent space.",
    "prior": "p(z), the distribution of z before x is seen.",
    "reliable": "All checks of the estimate passed: its error may be believed.",
    "split": "Which points were used for training, and which were held out.",
    "squared error": "The mean of (x − x̂)² over points and over the numbers of each, with x̂ the reconstruction.",
    "tolerance": "The standard error that log p(x) of each point is to have.",
    "transform": "What was done to the data to make x. A density of x depends on it.",
}
