"""Low precision in tests, whether or not it is worth it on the processor they run on."""

import pytest
import torch


def no_reason_against(device, dtype):
    """In place of `reason_against`: a processor without the instructions emulates them, slowly but right. Where torch does not do
    even that, as under a limit on oneDNN's instructions alone, there is nothing to test."""
    a = torch.ones(128, 128, dtype=dtype, device=device)
    try:
        a @ a
    except RuntimeError as error:
        pytest.skip(f"torch cannot multiply in {dtype} here: {error}")
