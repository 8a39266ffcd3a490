"""metrics.csv: how training goes, a row for each epoch, for any program that reads tables."""

import csv
from pathlib import Path

from ..utils.files import replacing


class MetricsFile:
    """Adds rows to metrics.csv as they come.

    The first time, the file is written anew. A run that was killed may have left it behind its checkpoint, or ahead
    of it.
    """

    def __init__(self, path: Path):
        self.path, self.begun = path, False

    def add(self, history: list[dict[str, float]]) -> None:
        """Add the last row of the history."""
        if self.begun:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, history[-1]).writerow(history[-1])
            return
        with replacing(self.path) as new, new.open("w", newline="") as file:
            table = csv.DictWriter(file, history[-1])
            table.writeheader()
            table.writerows(history)
        self.begun = True
