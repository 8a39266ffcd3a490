"""Data that are drawn anew whenever they are used."""

from typing import Any

import torch
from torch import Tensor

from .transforms import Transform


def index_rows(x: Tensor, index: Any) -> Tensor:
    """x[index], several times as fast where the index is a tensor of rows: they are copied whole."""
    rows = isinstance(index, Tensor) and index.dtype == torch.int64 and index.dim() == 1
    return x.index_select(0, index) if rows else x[index]


class StochasticData:
    """Training images whose transform is drawn afresh at every use: `redrawn[index]` is x for those images."""

    def __init__(self, pixels: Tensor, transform: Transform):
        self.pixels, self.transform = pixels, transform

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> Tensor:
        return self.transform(index_rows(self.pixels, index))

    def to(self, device: torch.device | str) -> "StochasticData":
        return StochasticData(self.pixels.to(device), self.transform)
