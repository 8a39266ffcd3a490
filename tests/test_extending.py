"""What CONTRIBUTING.md promises: a file in the folder that is named for it adds a model, a guide, a likelihood, a prior, an
objective and an estimator. No list is edited."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyrovae

ROOT = Path(pyrovae.__file__).parent.parent
FILES = {
    "models/added_model.py": '''
"""Added model: z ~ N(0, I), x|z ~ N(Wz, I)."""

import pyrovae
from pyrovae.models.vae import VAE


def pair(dim, latent=2, guide=pyrovae.guides.MeanField, likelihood=None, prior=pyrovae.priors.StandardNormal):
    """As a vae without hidden layers."""
    likelihood = likelihood or pyrovae.likelihoods.PixelNormal()
    q = guide(dim, latent, ())
    decoder = pyrovae.MLP(latent, likelihood.num_outputs(dim))
    return VAE(decoder, latent, dim, likelihood, prior().bind(dim, latent, q)), q
''',
    "pyrovae/guides/added_guide.py": """
import pyro.distributions as dist

from .amortised import Amortised


class AddedGuide(Amortised):
    @staticmethod
    def num_outputs(latent, **sizes):
        return 2 * latent

    def distribution(self, outputs):
        loc, log_scale = outputs.chunk(2, dim=-1)
        return dist.Laplace(loc, log_scale.exp()).to_event(1)
""",
    "pyrovae/likelihoods/added_likelihood.py": """
import pyro.distributions as dist

from .base import Likelihood


class AddedLikelihood(Likelihood):
    def forward(self, eta):
        return dist.Laplace(eta, 0.1).to_event(1)

    def initial_outputs(self, mean, variance):
        return mean
""",
    "pyrovae/priors/added_prior.py": """
import pyro.distributions as dist

from .base import Prior


class AddedPrior(Prior):
    def forward(self, x):
        return dist.Laplace(x.new_zeros(self.latent), x.new_ones(self.latent)).to_event(1)
""",
    "pyrovae/objectives/added_objective.py": """
from .importance_weighted import MultiSampleObjective


class AddedObjective(MultiSampleObjective):
    def bound(self, log_w):
        return log_w.median(dim=0).values
""",
    "pyrovae/estimators/added_estimator.py": """
from ..pair.importance_weights import log_weights

__all__ = ["effective_samples"]


def effective_samples(model, guide, x, num_samples=1000):
    log_w = log_weights(model, guide, x, num_samples)
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
""",
}
USE = """
import json, torch, pyrovae
from pyrovae.loading.options import parse_objective

torch.manual_seed(0)
x = torch.rand(60, 4)
builder = pyrovae.load("added_model")
options = builder.parse(["guide=AddedGuide", "likelihood=AddedLikelihood", "prior=AddedPrior"])
model, guide = builder(4, **options)
pyrovae.check_pair(model, guide, x[:12])
fit = pyrovae.fit(model, guide, x, epochs=1, objective=parse_objective("AddedObjective(3)"))
evidence = pyrovae.evaluate(model, guide, x, num_samples=20)
size = pyrovae.estimators.effective_samples(model, guide, x, 20)
print(json.dumps({
    "file": pyrovae.__file__,
    "available": "added_model" in pyrovae.available(),
    "classes": [type(guide) is pyrovae.guides.AddedGuide, type(model.likelihood) is pyrovae.likelihoods.AddedLikelihood,
                type(model.prior) is pyrovae.priors.AddedPrior],
    "objective": [fit.objective, "AddedObjective" in pyrovae.objectives.__all__],
    "listed": ["AddedGuide" in pyrovae.guides.__all__, "AddedLikelihood" in pyrovae.likelihoods.__all__,
               "AddedPrior" in pyrovae.priors.__all__, "effective_samples" in pyrovae.estimators.__all__],
    "finite": bool(torch.isfinite(evidence.log_likelihood).all()),
    "size": [float(size.min()), float(size.max())],
}))
"""


@pytest.fixture
def copy(tmp_path):
    """The package and the models in a folder of their own."""
    ignored = shutil.ignore_patterns("__pycache__", "models")
    shutil.copytree(ROOT / "pyrovae", tmp_path / "pyrovae", ignore=ignored)
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(copy, script):
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, cwd=copy, capture_output=True, text=True
    )


def test_a_file_in_its_folder_is_enough(copy):
    for path, text in FILES.items():
        (copy / path).write_text(text.lstrip())
    done = run(copy, USE)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["file"] == str(copy / "pyrovae" / "__init__.py")
    assert result["available"]
    assert result["classes"] == [True] * 3
    assert result["objective"] == ["AddedObjective(3)", True]
    assert result["listed"] == [True] * 4
    assert result["finite"]
    assert 1 <= result["size"][0] <= result["size"][1] <= 20 + 1e-3


def test_two_files_cannot_offer_one_name(copy):
    text = FILES["pyrovae/guides/added_guide.py"].replace("AddedGuide", "MeanField")
    (copy / "pyrovae/guides/second_mean_field.py").write_text(text)
    done = run(copy, "import pyrovae; pyrovae.guides.MeanField")
    assert "defines MeanField, and so does another file: give it another name." in done.stderr
