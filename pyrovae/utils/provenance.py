"""What computed a number: versions, device, and a hash of the data."""

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HASHED_ROWS = 2**16  # at once


def data_hash(x: Tensor) -> str:
    """The first 12 hex digits of the SHA-256 of x's shape and values: the same points have the same hash."""
    digest = hashlib.sha256(repr(tuple(x.shape)).encode())
    for part in x.split(HASHED_ROWS) if x.dim() else [x]:
        digest.update(part.detach().to("cpu", torch.float64).contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the type of another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def dtype_name(dtype: torch.dtype) -> str:
    """float32, without `torch.`."""
    return str(dtype).removeprefix("torch.")


def metadata(x: Tensor, /, **settings: Any) -> dict[str, Any]:
    """Return the settings of a computation on x, then its dtype, device and versions. A `dtype` among the settings stays.

    NumPy's whole numbers become Python's, which JSON knows.
    """
    plain = {name: int(value) if isinstance(value, np.integer) else value for name, value in settings.items()}
    return {
        **plain,
        "dtype": settings.get("dtype", dtype_name(x.dtype)),
        "device": device_name(x.device),
        **versions(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """The versions that computed a number. The commit is there where pyrovae runs from its repository."""
    packages = {"pyrovae": "pyrovae", "torch": "torch", "pyro": "pyro-ppl"}
    result = {"python": platform.python_version(), **{name: version(package) for name, package in packages.items()}}
    commit = _commit(Path(__file__).parent)
    return {**result, "commit": commit} if commit else result


def _commit(folder: Path) -> str | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not a repository that merely holds our environment
        return git("describe", "--always", "--dirty=+changes", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
