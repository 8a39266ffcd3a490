"""What computed a number: versions, device, and a hash of the data."""

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor


def data_hash(x: Tensor) -> str:
    """The first 12 hex digits of the SHA-256 of x's shape and values: the same points have the same fingerprint."""
    values = x.detach().to("cpu", torch.float64).contiguous().numpy()
    return hashlib.sha256(repr(tuple(x.shape)).encode() + values.tobytes()).hexdigest()[:12]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@functools.cache
def versions() -> dict[str, str]:
    """What computed a number: it belongs on the number's card. The commit is there where pyrovae runs from its repository."""
    packages = {"pyrovae": "pyrovae", "torch": "torch", "pyro": "pyro-ppl"}
    found = {"python": platform.python_version(), **{name: version(package) for name, package in packages.items()}}
    commit = _commit(Path(__file__).parent)
    return {**found, "commit": commit} if commit else found


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
