"""Work that may be too much for the device is told apart from work that fails."""

import pytest
import torch

from pyrovae.utils.memory import unless_out_of_memory

CPU = torch.device("cpu")


def too_much(*_):
    raise torch.OutOfMemoryError("too much")


def test_work_that_fits_has_its_result():
    assert unless_out_of_memory(pow, 2, 5, device=CPU, divisible=True) == 32


def test_divisible_work_that_does_not_fit_is_none_and_the_log_says_so(caplog):
    assert unless_out_of_memory(too_much, device=CPU, divisible=True) is None
    assert caplog.messages == ["Memory ran out on cpu: the work goes on with half as much at once."]


def test_work_that_cannot_be_halved_raises():
    with pytest.raises(torch.OutOfMemoryError, match="too much"):
        unless_out_of_memory(too_much, device=CPU, divisible=False)


def test_other_errors_are_the_works_own():
    with pytest.raises(ZeroDivisionError):
        unless_out_of_memory(lambda: 1 / 0, device=CPU, divisible=True)
