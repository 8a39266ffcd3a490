from pathlib import Path

import numpy as np
import pytest
from command_line import invoke


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vae with two latents, trained for a moment on points of 4 numbers."""
    folder = tmp_path_factory.mktemp("train")
    np.save(folder / "points.npy", np.random.default_rng(0).normal(size=(80, 4)))
    words = ("--data", folder / "points.npy", "--set", "latent=2", "--set", "hidden=8", "--epochs", 3)
    result = invoke("train", "vae", *words, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"
