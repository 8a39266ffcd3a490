"""A deterministic autoencoder: what it loses, what it spans when it is linear, and that nobody calls its loss a likelihood."""

import pytest
import torch
from pyrovae.models.autoencoder import CrossEntropy
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from typer.testing import CliRunner

import pyrovae
from pyrovae import fit, load
from pyrovae.cli.app import app

NO = "An autoencoder has no log p\\(x\\)"


def test_a_linear_one_spans_the_principal_subspace(seed):
    """The decoder's columns and the encoder's rows, each within 1e-3 (radians) of scikit-learn's components, and the error within
    1e-5 of the eigenvalues left out, which no linear map beats."""
    torch.manual_seed(seed)
    x = torch.randn(200, 6).double() * torch.tensor([3.0, 2.5, 2.0, 1.0, 0.9, 0.8]).double()
    x = x @ torch.linalg.qr(torch.randn(6, 6).double())[0] + 1
    model, guide = load("autoencoder")(6, latent=3, hidden=())
    model.double(), guide.double()
    found = fit(model, guide, x, epochs=1000, batch_size=None, lr=0.05)
    judge = PCA(3).fit(x.numpy())
    decoder = model.decoder[0].weight.detach().numpy()
    encoder = guide.encoder[0].weight.detach().numpy().T
    assert subspace_angles(decoder, judge.components_.T).max() < 1e-3
    assert subspace_angles(encoder, judge.components_.T).max() < 1e-3
    excluded = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0))[:3].sum().item()
    assert found.losses[-1] == pytest.approx(excluded, rel=1e-5)


@pytest.mark.parametrize("loss", ["SquaredError", "CrossEntropy"])
def test_the_loss_is_the_reconstruction_error(loss, seed):
    """What `fit` reports is what the formula says of the codes."""
    torch.manual_seed(seed)
    x = torch.rand(40, 5).double()
    pair = load("autoencoder")
    model, guide = pair(5, latent=2, hidden=(7,), **pair.parse([f"loss={loss}"]))
    model.double(), guide.double()
    found = fit(model, guide, x, epochs=3, batch_size=None, lr=1e-12)
    y = model.decode(guide.encode(x)).detach()
    squared, entropy = (x - y).square(), -(x * y.log() + (1 - x) * (1 - y).log())
    expected = (squared if loss == "SquaredError" else entropy).sum(1)
    assert found.losses[-1] == pytest.approx(expected.mean().item(), rel=1e-8)
    assert found.objective == "reconstruction"
    assert found.no_density == model.no_density
    assert found.history[-1]["elbo"] != found.history[-1]["elbo"]  # NaN: there is none


def test_nothing_scores_it():
    x = torch.rand(8, 5)
    model, guide = load("autoencoder")(5, latent=2, hidden=(4,))
    fit(model, guide, x, epochs=1)
    for asked in (
        lambda: pyrovae.evaluate(model, guide, x),
        lambda: pyrovae.log_weights(model, guide, x),
        lambda: pyrovae.compare({"autoencoder": (model, guide)}, x),
        lambda: pyrovae.check_pair(model, guide, x),
    ):
        with pytest.raises(pyrovae.InvalidInputError, match=NO):
            asked()
    with pytest.raises(pyrovae.InvalidInputError, match="An autoencoder has no p\\(z\\) to draw from"):
        pyrovae.sample(model, 3, x)
    with pytest.raises(pyrovae.InvalidInputError, match="support of CrossEntropy"):
        fit(*load("autoencoder")(5, loss=CrossEntropy), 2 * x + 1)


def test_a_point_mass_that_says_nothing_is_still_refused():
    """Only a model that says it has no density is trained with a guide that has none."""
    x = torch.rand(8, 5)
    model, _ = load("ppca")(5, latent=2)
    _, guide = load("autoencoder")(5, latent=2, hidden=(4,))
    with pytest.raises(pyrovae.InvalidInputError, match="point mass"):
        fit(model, guide, x)


def test_early_stopping_watches_the_error():
    x = torch.rand(60, 5)
    model, guide = load("autoencoder")(5, latent=2, hidden=(4,))
    found = fit(model, guide, x, epochs=500, lr=0.1, early_stopping=pyrovae.EarlyStopping(0.5, patience=1))
    assert "held-out reconstruction" in found.stop_reason
    assert "nats" not in found.stop_reason


def test_commands_train_it_and_say_why_they_do_not_score_it(tmp_path):
    run, out = CliRunner().invoke, tmp_path / "run"
    trained = run(app, ["train", "autoencoder", "--out", str(out), "--epochs", "2", "--set", "hidden=8"])
    assert trained.exit_code == 0, trained.output
    assert "training loss" in trained.output
    assert "has no log p(x)" in trained.output
    assert "ELBO" not in trained.output
    assert ",nan," in (out / "metrics.csv").read_text()
    assert pyrovae.load_run(out).fit_result.no_density
    scored = run(app, ["evaluate", str(out)])
    assert scored.exit_code == 0, scored.output
    assert "has no log p(x)" in scored.output
    assert "squared error" in scored.output
    assert "ELBO" not in scored.output
    drawn = run(app, ["sample", str(out)])
    assert drawn.exit_code == 2
    assert "no p(z) to draw from" in drawn.output
