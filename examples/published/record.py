"""What a published row was, what it is here, and how both were computed: one JSON file for each row of RESULTS.md."""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyrovae.utils.files import replacing
from pyrovae.utils.provenance import versions

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Line:
    """One number of a row, beside the published one."""

    quantity: str
    ours: float
    published: float | None = None
    mc_se: float = 0.0  # from random draws of the latent; 0 where the number is exact
    data_se: float | None = None  # from the choice of points, where they are held out
    note: str = ""  # what the reader must know to compare the two numbers


class Recorder:
    """The command line of a row, and its record."""

    def __init__(self, name: str, title: str, source: str, unit: str, protocol: str, **defaults: Any):
        """`defaults` are options of the command: --name VALUE, of the default's type."""
        self.name, self.title, self.source, self.unit, self.protocol = name, title, source, unit, protocol
        parser = argparse.ArgumentParser(description=f"{title}. Source: {source}.")
        parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the record")
        for option, default in defaults.items():
            kind = str if default is None else type(default)
            parser.add_argument(f"--{option.replace('_', '-')}", type=kind, default=default)
        self.settings = vars(parser.parse_args())
        self.records: Path = self.settings.pop("records")
        self.started = time.perf_counter()

    def __getitem__(self, option: str) -> Any:
        return self.settings[option]

    def write(self, lines: list[Line]) -> None:
        """Print the lines, and replace the row's record."""
        for line in lines:
            known = "" if line.published is None else f"  published {line.published:g}"
            print(f"{line.quantity:60} {line.ours:.4f}{known}")
        options = " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items() if value is not None
        )
        record = {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "unit": self.unit,
            "protocol": self.protocol,
            "command": f"python examples/published/{self.name}.py {options}".strip(),
            "settings": self.settings,
            "seconds": round(time.perf_counter() - self.started, 1),
            "machine": {"cores": os.cpu_count(), "system": platform.system(), "processor": platform.machine()},
            "versions": versions(),
            "lines": [asdict(line) for line in lines],
        }
        self.records.mkdir(parents=True, exist_ok=True)
        with replacing(self.records / f"{self.name}.json") as path:
            path.write_text(json.dumps(record, indent=1) + "\n")
