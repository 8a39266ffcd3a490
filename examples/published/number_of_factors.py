"""PCA or factor analysis, and how many factors: scikit-learn's example, by log p(x) of held-out points in 5 folds."""

import pca_or_factor_analysis
import torch
from record import Line, Recorder
from sklearn.model_selection import KFold

import pyrovae

KNOWN = {  # (noise, model): the number that is chosen, and its mean log-likelihood in scikit-learn 1.9
    ("homoscedastic", "ppca"): (5, -37.3523),
    ("homoscedastic", "factor_analysis"): (5, -37.3836),
    ("heteroscedastic", "ppca"): (20, -39.0243),
    ("heteroscedastic", "factor_analysis"): (5, -38.7636),
}
MINKA = {"homoscedastic": 5, "heteroscedastic": 18}

recorder = Recorder(
    "number_of_factors",
    "How many factors, by cross-validated likelihood",
    "scikit-learn, example: Model selection with Probabilistic PCA and Factor Analysis (FA)",
    "nats a held-out point, or the number of factors",
    "500 points of 25 numbers, rank 5, seed 42; 5 folds; numbers of factors 5, 10, 15, 20; trained by EM",
    em_steps=500,
)


def chosen(noise, name):
    """The number of factors that cross-validation chooses, and its mean log p(x)."""
    torch.set_default_dtype(torch.float64)
    data = dict(zip(MINKA, pca_or_factor_analysis.example_data(), strict=True))
    number, log_likelihood = KNOWN[noise, name]
    choice = pyrovae.choose(
        pyrovae.load(name),
        {"latent": [5, 10, 15, 20]},
        torch.as_tensor(data[noise]),
        folds=KFold(5),
        training={"epochs": 0, "init": pyrovae.EM(recorder["em_steps"], 1e-6)},
    )
    row = f"{noise} noise, {name}"
    value, mc_se, data_se = choice.candidates[choice.best].mean_log_likelihood
    divisor = "scikit-learn's PCA divides by N − 1" if name == "ppca" else "scikit-learn's EM stops earlier"
    yield Line(f"{row}: number of factors", float(choice.best), number)
    yield Line(f"{row}: log p(x)", value, log_likelihood, mc_se, data_se, divisor, points=500, lower=value, upper=value)
    if name == "ppca":
        yield Line(f"{noise} noise: number of factors by Minka's evidence", choice.minka, MINKA[noise])


if __name__ == "__main__":
    recorder.run([(chosen, *row) for row in KNOWN])
