"""What every test has: a seed that can be any of 0 … 99 (`pytest --seed 7`), and a clean Pyro before and after."""

import os

import pyro
import pytest
import torch

os.environ.pop("COLUMNS", None)  # how wide somebody's terminal is: pytest-xdist passes it on
torch.set_num_threads(1)  # the tensors are small: a second thread mostly waits for the first


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of all tests, any of 0 … 99")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--seed")


@pytest.fixture(autouse=True)
def _clean_pyro(seed: int):
    pyro.clear_param_store()
    torch.manual_seed(seed)
    yield
    assert not pyro.settings.get("module_local_params"), "a test left Pyro's settings changed"
    pyro.clear_param_store()
