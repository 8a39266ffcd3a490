"""scikit-learn's example "Model selection with Probabilistic PCA and Factor Analysis (FA)": its data."""

import numpy as np
from scipy import linalg

POINTS, DIM, RANK = 500, 25, 5


def example_data() -> tuple[np.ndarray, np.ndarray]:
    """500 points of 25 numbers and rank 5, with noise of one size, and with noise of a size for each of the 25."""
    rng = np.random.RandomState(42)
    U, _, _ = linalg.svd(rng.randn(DIM, DIM))
    x = np.dot(rng.randn(POINTS, RANK), U[:, :RANK].T)
    homoscedastic = x + rng.randn(POINTS, DIM)
    sigmas = rng.rand(DIM) + 0.5
    return homoscedastic, x + rng.randn(POINTS, DIM) * sigmas
