"""Loggers of trainings: what each program reads back is the history, number by number."""

import importlib.util
import json
import math
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pyrovae
from pyrovae import InvalidInputError
from pyrovae.adapters import LightningLogger, MLflow, TensorBoard, WandB
from pyrovae.cli.app import app


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


def trained(callback: pyrovae.Callback, epochs: int = 3) -> pyrovae.FitResult:
    torch.manual_seed(0)
    model, guide = pyrovae.load("ppca")(4, latent=2)
    return pyrovae.fit(model, guide, torch.randn(60, 4), epochs=epochs, batch_size=20, callbacks=[callback])


def train_by_command(folder: Path, program: str) -> Any:
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    words = ["train", "ppca", "--data", folder / "x.npy", "--set", "latent=2", "--epochs", 3, "--out", folder / "run"]
    return CliRunner().invoke(app, list(map(str, [*words, "--log-to", program])))


def values(history: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in history]


@pytest.mark.parametrize(("library", "logger"), [("tensorboard", TensorBoard), ("wandb", WandB), ("mlflow", MLflow)])
def test_a_program_that_is_not_installed_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, logger: Any
) -> None:
    monkeypatch.setitem(sys.modules, logger.library, None)  # its import fails
    sentence = f"{library} is not installed: run pip install '{library}', or log to another program."
    with pytest.raises(InvalidInputError) as told:
        logger(tmp_path)
    assert str(told.value) == sentence
    result = train_by_command(tmp_path, library)
    assert result.exit_code == 2
    assert result.stderr == f"pyrovae: {sentence}\n"
    assert not (tmp_path / "run").exists()


def test_a_program_that_is_not_known_is_refused(tmp_path: Path) -> None:
    result = train_by_command(tmp_path, "tensorbord")
    assert result.exit_code == 2
    assert (
        "--log-to knows no tensorbord (did you mean 'tensorboard'?): give tensorboard, wandb, mlflow." in result.stderr
    )


@needs("tensorboard")
def test_tensorboard_has_the_metrics_of_epochs_and_steps(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = trained(TensorBoard(tmp_path, every_steps=3, settings={"latent": 2})).history
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("elbo", "loss", "kl", "lr"):
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values(history, name), rel=1e-6)
        assert [event.step for event in events.Scalars(name)] == [3, 6, 9]
    assert [event.step for event in events.Scalars("step/loss")] == [3, 6, 9]
    assert "validation_elbo" not in events.Tags()["scalars"]  # NaN


@needs("tensorboard")
def test_the_command_writes_for_tensorboard_into_the_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train_by_command(tmp_path, "tensorboard").exit_code == 0
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    history = pyrovae.load_run(tmp_path / "run").fit_result.history
    assert [event.value for event in events.Scalars("elbo")] == pytest.approx(values(history, "elbo"), rel=1e-6)


def records(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log, whose first block has wandb's header of 7 bytes: (checksum 4, length 2, kind 1, data)."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no header fits into the end of a block
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@needs("wandb")
def test_wandb_has_the_metrics_without_a_network(tmp_path: Path) -> None:
    from wandb.proto import wandb_internal_pb2

    history = trained(WandB("mine", folder=tmp_path, settings={"latent": 2})).history
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    exit_codes: list[int] = []
    until = time.monotonic() + 30
    while not exit_codes and time.monotonic() < until:  # wandb's own process writes the file
        rows = []
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
            elif kind == "exit":
                exit_codes.append(record.exit.exit_code)
    for name in ("elbo", "loss", "kl", "lr"):
        assert values(rows, name) == pytest.approx(values(history, name), rel=1e-12)
    assert values(rows, "_step") == [3, 6, 9]
    assert exit_codes == [0]


@needs("mlflow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MLflow itself uses
def test_mlflow_has_the_metrics_in_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    done = train_by_command(tmp_path, "mlflow")
    assert done.exit_code == 0, done.output
    history = pyrovae.load_run(tmp_path / "run").fit_result.history
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("pyrovae").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["latent"] == "2"
    for name in ("elbo", "loss", "kl", "lr"):
        told = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
        assert [metric.value for metric in told] == pytest.approx(values(history, name), rel=1e-12)

    class Fails(pyrovae.Callback):
        def on_epoch(self, training: Any, metrics: dict[str, float]) -> None:
            raise ValueError("no")

    model, guide = pyrovae.load("ppca")(4, latent=2)
    with pytest.raises(pyrovae.RunError):
        pyrovae.fit(model, guide, torch.randn(60, 4), epochs=1, callbacks=[MLflow("other", uri=uri), Fails()])
    (run,) = client.search_runs([client.get_experiment_by_name("other").experiment_id])
    assert run.info.status == "FAILED"


class Written:
    """What Lightning's loggers offer, kept in lists."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.ends: list[str] = []

    def log_hyperparams(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))

    def finalize(self, status: str) -> None:
        self.ends.append(status)


def test_a_logger_of_lightning_gets_the_metrics() -> None:
    written = Written()
    history = trained(LightningLogger(written, settings={"latent": 2})).history
    assert [step for step, _ in written.rows] == [3, 6, 9]
    for (_, metrics), row in zip(written.rows, history, strict=True):
        assert metrics == {
            name: value for name, value in row.items() if name not in ("epoch", "steps") and not math.isnan(value)
        }
    assert (written.settings, written.ends) == ({"latent": 2}, ["success"])
    with pytest.raises(InvalidInputError, match="is no logger of Lightning, for it has no method log_metrics"):
        LightningLogger(print)


@needs("lightning")
def test_lightnings_own_csv_logger_writes_the_metrics(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    history = trained(LightningLogger(CSVLogger(tmp_path), settings={"latent": 2})).history
    (file,) = tmp_path.rglob("metrics.csv")
    table = np.genfromtxt(file, delimiter=",", names=True)
    assert table["elbo"] == pytest.approx(values(history, "elbo"), rel=1e-12)
    assert table["step"].tolist() == [3, 6, 9]
