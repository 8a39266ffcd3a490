import json
import os
import sys
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

from pyrovae import Data, InvalidInputError, Module, evaluate, load, load_data, log_weights
from pyrovae.pair import structure
from pyrovae.runs import run as runs
from pyrovae.runs.folder import new_folder, read_run
from pyrovae.training import validate
from pyrovae.utils.files import replacing

AS_MODULES = '''"""z ~ N(0, I), x|z ~ N(Wz, I)."""
import pyro, pyro.distributions as dist, torch, pyrovae
class Model(pyrovae.Module):
    def __init__(self, dim):
        super().__init__()
        self.W = torch.nn.Parameter(torch.randn(dim, 2))
    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.mT, 1.0).to_event(1), obs=x)
def pair(dim, width=8):
    return Model(dim), pyrovae.guides.MeanField(dim, 2, (width,))
'''

AS_FUNCTIONS = '''"""z ~ N(loc, 1), x|z ~ N(z, sigma)."""
import pyro, pyro.distributions as dist, torch
from torch.distributions import constraints
TRAINING_DEFAULTS = {"lr": 0.05}
def pair(dim, tag=""):
    def model(x):
        loc = pyro.param(f"loc{tag}", torch.zeros(dim))
        sigma = pyro.param(f"sigma{tag}", torch.ones(()), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, sigma).to_event(1), obs=x)
    def guide(x):
        shift = pyro.param(f"shift{tag}", torch.zeros(dim))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + shift, 0.7).to_event(1))
    return model, guide
'''


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([1.0, 2.0, 0.5, 1.0]) + 1)
    return path


def prepare_run(model: str | Path, points: Path, *options: str, **arguments: int) -> tuple[runs.Run, Data]:
    data = load_data(points)
    arguments = {"seed": 0, "epochs": 3, **arguments}
    run = runs.prepare_run(
        load(model), data, source=str(points), transform=None, root=None, options=list(options), **arguments
    )
    return run, data


def trained(model: str | Path, points: Path, folder: Path, *options: str) -> tuple[runs.Run, Data]:
    run, data = prepare_run(model, points, *options)
    runs.train_run(run, data, folder)
    return run, data


def reopen(folder: Path, data: Data) -> runs.Run:
    return runs.load_run(folder, data.test.device)


def weights(run: runs.Run, x: Tensor) -> Tensor:
    torch.manual_seed(5)
    return log_weights(run.model, run.guide, x, 3)


def refusal(call, *args) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# round trips


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("gmm", ["components=3", "covariance=Diagonal"]),
        ("gmm", ["components=3", "guide=AmortisedCategorical"]),
        ("ppca", ["latent=2"]),
        ("vae", ["latent=2", "hidden=8", "guide=FullCovariance", "likelihood=FixedNormal(0.5)"]),
    ],
)
def test_a_built_in_comes_back_as_it_was(model: str, options: list[str], points: Path, tmp_path: Path) -> None:
    run, data = trained(model, points, tmp_path / "run", *options)
    before, fresh = weights(run, data.test), weights(prepare_run(model, points, *options)[0], data.test)
    restored = reopen(tmp_path / "run", data)
    assert torch.equal(weights(restored, data.test), before)
    assert not torch.allclose(fresh, before)  # training had changed something
    if hasattr(run.model, "log_prob"):
        assert torch.equal(restored.model.log_prob(data.test), run.model.log_prob(data.test))
    assert (restored.name, restored.config) == (model, run.config)
    assert restored.fit_result.losses == run.fit_result.losses
    assert restored.fit_result.objective == run.fit_result.objective
    assert restored.fit_result.seconds == run.fit_result.seconds


def test_a_users_modules_come_back_without_their_file(points: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(AS_MODULES)
    run, data = trained(mine, points, tmp_path / "run", "width=5")
    before = weights(run, data.test)
    mine.unlink()
    restored = reopen(tmp_path / "run", data)
    assert torch.equal(weights(restored, data.test), before)
    assert restored.name == "mine"


def test_a_users_functions_come_back_into_an_empty_store(points: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(AS_FUNCTIONS)
    run, data = trained(mine, points, tmp_path / "run")
    before = weights(run, data.test)
    trained_loc = pyro.param("loc").detach().clone()
    assert trained_loc.abs().min() > 0.01
    assert set(run.store) == {"loc", "sigma", "shift"}
    pyro.clear_param_store()
    restored = reopen(tmp_path / "run", data)
    assert torch.equal(weights(restored, data.test), before)
    assert torch.equal(pyro.param("loc"), trained_loc)


def test_the_seed_fixes_a_run(points: Path, tmp_path: Path) -> None:
    losses = []
    for seed in (1, 1, 2):
        run, data = prepare_run("vae", points, "latent=2", "hidden=8", seed=seed)
        runs.train_run(run, data, None)
        losses.append(run.fit_result.losses)
    assert losses[0] == losses[1] != losses[2]


def test_arguments_go_before_the_recipe(points: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(AS_FUNCTIONS)
    assert prepare_run(mine, points)[0].config.fit_arguments == {"lr": 0.05, "epochs": 3}
    assert prepare_run(mine, points, batch_size=7)[0].config.fit_arguments == {"lr": 0.05, "epochs": 3, "batch_size": 7}


def test_checkpoints_are_written_while_training(points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
    run, data = prepare_run("ppca", points, "latent=2")
    seen = []

    def stop(fit: object) -> None:
        seen.append(reopen(tmp_path / "run", data))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train_run(run, data, tmp_path / "run", stop)
    assert [len(restored.fit_result.losses) for restored in seen] == [1, 2]
    kept = reopen(tmp_path / "run", data)
    assert torch.equal(kept.model.W, run.model.W)


# what is refused before training


def test_a_density_is_not_trained_on_binary_data(tmp_path: Path) -> None:
    np.save(tmp_path / "binary.npy", np.random.default_rng(0).integers(0, 2, (50, 4)))
    assert "The data are binary" in refusal(prepare_run, "gmm", tmp_path / "binary.npy")
    run, _ = prepare_run("vae", tmp_path / "binary.npy")
    assert type(run.model.likelihood).__name__ == "Bernoulli"


# writing


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as file:
        file.write_text("old")
        assert not path.exists()

    def fail() -> None:
        with replacing(path) as file:
            file.write_text("half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]
    with replacing(path) as file:
        file.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


# damaged runs


@pytest.fixture
def folder(points: Path, tmp_path: Path) -> tuple[Path, Data]:
    _, data = trained("ppca", points, tmp_path / "run", "latent=2")
    return tmp_path / "run", data


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_checkpoint(folder: tuple[Path, Data], share: float) -> None:
    path = folder[0] / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "checkpoint.pt cannot be read: it is truncated, carries code, or is no pyrovae checkpoint" in refusal(
        reopen, *folder
    )


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_a_checkpoint_does_not_run_code(folder: tuple[Path, Data], tmp_path: Path) -> None:
    torch.save({"model": Trap(tmp_path / "mark")}, folder[0] / "checkpoint.pt")
    assert "is no pyrovae checkpoint" in refusal(reopen, *folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [{}, [1, 2], 3, {"version": 0}, {"version": 1, "pair": {}}])
def test_a_checkpoint_of_something_else(folder: tuple[Path, Data], content: object) -> None:
    torch.save(content, folder[0] / "checkpoint.pt")
    assert "is no checkpoint of this version of pyrovae" in refusal(reopen, *folder)


@pytest.mark.parametrize("pair", [None, 5, {"model": 5}, {"model": {}, "guide": {}, "store": {}}])
def test_a_checkpoint_of_another_pair(folder: tuple[Path, Data], pair: object) -> None:
    torch.save({"version": 2, "pair": pair}, folder[0] / "checkpoint.pt")
    assert "does not fit the model of" in refusal(reopen, *folder)


def test_a_checkpoint_of_other_shapes(folder: tuple[Path, Data], points: Path, tmp_path: Path) -> None:
    trained("ppca", points, tmp_path / "other", "latent=3")
    (tmp_path / "other" / "checkpoint.pt").replace(folder[0] / "checkpoint.pt")
    message = refusal(reopen, *folder)
    assert "does not fit the model of" in message
    assert "size mismatch for W" in message


def test_a_checkpoint_of_other_shapes_in_the_store(points: Path, tmp_path: Path) -> None:
    """copy_ would spread one number over a whole parameter."""
    mine = tmp_path / "mine.py"
    mine.write_text(AS_FUNCTIONS)
    _, data = trained(mine, points, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["pair"]["store"]["loc"] = torch.zeros(1)
    torch.save(state, path)
    assert "size mismatch for loc: (1,) in the checkpoint, (4,) in the model" in refusal(reopen, tmp_path / "run", data)


def test_missing_checkpoint(folder: tuple[Path, Data]) -> None:
    (folder[0] / "checkpoint.pt").unlink()
    assert "has no checkpoint.pt" in refusal(reopen, *folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: "3",
        lambda text: "{}",
        lambda text: text.replace('"model":', '"modell":'),
        lambda text: text.replace('"dim": 4', '"dim": "4"'),
        lambda text: text.replace('"latent=2"', "2"),
        lambda text: text.replace('"fit_arguments": {', '"fit_arguments": 3, "more": {'),
    ],
)
def test_damaged_config(folder: tuple[Path, Data], damage) -> None:
    path = folder[0] / "config.json"
    path.write_text(damage(path.read_text()))
    assert "config.json is damaged, or of another version of pyrovae" in refusal(reopen, *folder)


def test_a_run_of_another_format_is_refused_with_what_to_do(folder: tuple[Path, Data]) -> None:
    path = folder[0] / "config.json"
    config = json.loads(path.read_text())
    assert config["format"] == 3
    path.write_text(json.dumps({**config, "format": 4}))
    assert refusal(reopen, *folder) == (
        f"{folder[0]} is a run of format 4, and this version of pyrovae reads format 3: train it again, or use the version that "
        "wrote it."
    )
    del config["format"]
    path.write_text(json.dumps(config))
    assert "config.json is damaged, or of another version of pyrovae" in refusal(reopen, *folder)
    config["file"], config["fit"] = config.pop("user_file"), config.pop("fit_arguments")
    path.write_text(json.dumps(config))
    assert "is a run of format 1, and this version of pyrovae reads format 3: train it again" in refusal(
        reopen, *folder
    )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The points of every call of `inspect_pair` from now on, wherever it has been imported."""
    calls: list[Tensor] = []
    whole = structure.inspect_pair

    def inspect_pair(model, guide, x, **settings):
        calls.append(x)
        return whole(model, guide, x, **settings)

    for name, module in list(sys.modules.items()):
        if name.startswith("pyrovae") and vars(module).get("inspect_pair") is whole:
            monkeypatch.setattr(module, "inspect_pair", inspect_pair)
    return calls


@pytest.mark.parametrize("batch_size", [10, 128])
def test_a_pair_is_inspected_once_on_its_way(points: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, on the first batch. Evaluation data need no second run of the inspection: the sites that were seen observe x itself,
    so the support of new points is checked without. The evidence is that of a pair that is inspected again."""
    calls = counted(monkeypatch)
    run, data = prepare_run("ppca", points, "latent=2", batch_size=batch_size)
    assert [len(x) for x in calls] == [min(batch_size, len(data.train))]
    runs.train_run(run, data, None)
    handed_on = evaluate(run.model, run.guide, data.test, 7, structure=run.structure)
    assert len(calls) == 1
    alone = evaluate(run.model, run.guide, data.test, 7)
    assert len(calls) == 2
    for name in ("log_likelihood", "elbo", "log_likelihood_se"):
        assert torch.equal(getattr(handed_on, name), getattr(alone, name))
    assert handed_on.parameters == alone.parameters


def test_points_outside_the_support_are_refused_with_or_without_a_structure(tmp_path: Path) -> None:
    np.save(tmp_path / "bits.npy", np.random.default_rng(0).integers(0, 2, (40, 4)).astype(float))
    run, data = prepare_run("bernoulli_mixture", tmp_path / "bits.npy", "components=2")
    known = run.structure
    wrong = data.test.clone()
    wrong[1, 2] = 0.5
    for x in (wrong, data.test[:, :3]):
        messages = [
            refusal(lambda given, x=x: evaluate(run.model, run.guide, x, 5, structure=given), given)
            for given in (known, None)
        ]
        assert messages[0] == messages[1]


def test_a_function_of_x_is_inspected_again_on_evaluation_data(points: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a run of the pair knows which values it observes of new points, and whether they lie in the support."""
    calls = counted(monkeypatch)
    x = torch.as_tensor(np.load(points)).float()
    normal = torch.nn.Parameter(torch.zeros(4))

    class Model(Module):
        def __init__(self) -> None:
            super().__init__()
            self.loc = normal

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", pyro.distributions.Normal(self.loc, 1.0).to_event(1), obs=2 * x)

    model = Model()
    known = validate(model, lambda x: None, x, batch_size=20)
    assert [len(seen) for seen in calls] == [20, 20, 20]  # all training data
    evaluate(model, lambda x: None, x, 5, structure=known)
    assert [len(seen) for seen in calls] == [20, 20, 20, 60]


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    assert "is not a run: it has no config.json" in refusal(read_run, tmp_path)
    assert "is not a run" in refusal(read_run, tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps({"command": "compare", "models": ["gmm", "x/mine.py"]}))
    message = refusal(read_run, tmp_path)
    assert f"is a comparison: name one of its runs, {tmp_path / 'gmm'}, {tmp_path / 'mine'}." in message


# new folders


def test_an_existing_folder_is_left_alone(folder: tuple[Path, Data], tmp_path: Path) -> None:
    run, _ = folder
    assert "exists: name another folder, or say --overwrite" in refusal(enter, run, False)
    assert (run / "checkpoint.pt").is_file()
    with new_folder(run, True):
        assert os.listdir(run) == []
    with new_folder(run, True):  # empty: nobody's
        pass
    with new_folder(tmp_path / "a" / "b", False):
        assert (tmp_path / "a" / "b").is_dir()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_the_earlier_run_comes_back_if_the_new_one_never_had_a_checkpoint(folder: tuple[Path, Data]) -> None:
    run, _ = folder
    before = (run / "checkpoint.pt").read_bytes()
    with pytest.raises(KeyError):
        stopped_by(KeyError(), run, "config.json")
    assert (run / "checkpoint.pt").read_bytes() == before
    with pytest.raises(KeyboardInterrupt):
        stopped_by(KeyboardInterrupt(), run, "checkpoint.pt")
    assert (run / "checkpoint.pt").read_bytes() == before
    assert (run.with_name(f"{run.name}.stopped") / "checkpoint.pt").read_text() == "new"
    assert not run.with_name(f"{run.name}.earlier").exists()


def test_a_link_is_followed_and_the_folder_one_is_in_is_left(
    folder: tuple[Path, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = folder
    (tmp_path / "link").symlink_to(run)
    with new_folder(tmp_path / "link", True):
        (run / "config.json").write_text('{"versions": {"pyrovae": "0"}}')
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(run) == ["config.json"]
    monkeypatch.chdir(run)
    assert "is the folder you are in" in refusal(enter, Path(), True)


def stopped_by(error: BaseException, out: Path, written: str) -> None:
    with new_folder(out, True):
        (out / written).write_text("new")
        raise error


def enter(out: Path, overwrite: bool) -> None:
    with new_folder(out, overwrite):
        pass


@pytest.mark.parametrize("config", [None, "{}", '{"architectures": ["Other"]}', "[]", "no json", '{"versions": 3}'])
def test_a_folder_that_pyrovae_did_not_write_is_never_replaced(tmp_path: Path, config: str | None) -> None:
    """Others write a config.json too."""
    (tmp_path / "thesis.tex").write_text("years of work")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert "is not a run of pyrovae, and is left as it is" in refusal(enter, tmp_path, True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert "is not a run of pyrovae" in refusal(enter, tmp_path / "thesis.tex", True)


def test_modules_are_in_the_checkpoint_as_tensors_only(folder: tuple[Path, Data]) -> None:
    state = torch.load(folder[0] / "checkpoint.pt", weights_only=True)
    assert set(state) == {"version", "pair", "training"}
    model = load("ppca")(4, latent=2)[0]
    assert isinstance(model, nn.Module)
    assert [set(saved) for saved in state["pair"]["model"]] == [set(model.state_dict())]
