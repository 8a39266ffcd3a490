"""How many points and draws are scored together: batches of points, blocks of draws."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..distributions.indexed import Indexed
from ..pair.sites import observed_sites
from ..pair.structure import Structure

# Elements of x in a block: enough to keep a matrix product busy, few enough for caches; and rows, where x has few elements.
BLOCK_ELEMENTS = {"cpu": 2**23, "cuda": 2**27}
BLOCK_ROWS = {"cpu": 2**15, "cuda": 2**20}
# Where x|z is picked from a table that is computed once for all draws (`Indexed`), a draw is one number.
TABLE_BLOCK_ROWS = 2**16
MAX_BLOCK_DRAWS = 500  # unless there are too few points to fill a block


def rows_of(elements: dict[str, int], x: Tensor) -> int:
    """How many rows of x have so many elements, by type of device."""
    return elements.get(x.device.type, elements["cpu"]) // x[0].numel()


def rows_at_once(x: Tensor) -> int:
    """Draws times points that keep this device busy."""
    device = x.device.type if x.device.type in BLOCK_ELEMENTS else "cpu"
    return max(1, min(rows_of(BLOCK_ELEMENTS, x), BLOCK_ROWS[device]))


@dataclass(frozen=True)
class BatchLayout:
    """How the noise is laid out: `batch` points by `draws` draws to a block.

    A batch has a stream of random numbers of its own, of (seed, its first point), and takes its blocks from it in
    order. So the draws of a point follow from the seed, the number of points and of samples, and the kind of device.
    They do not depend on how much of a block is scored at once. Blocks are large because a draw is dear to start, and
    bounded, so that memory is the same for any number of samples.
    """

    batch: int
    draws: int

    @staticmethod
    def of(x: Tensor, num_samples: int, structure: Structure, per_point: bool) -> "BatchLayout":
        """For points that cannot be split (`per_point`) the batch is all of them."""
        rows = rows_at_once(x)
        if all(isinstance(site["fn"], Indexed) for site in observed_sites(structure.model_trace)):
            rows = max(rows, TABLE_BLOCK_ROWS)
        batch = len(x) if per_point else min(len(x), max(1, rows // min(num_samples, MAX_BLOCK_DRAWS)))
        most = min(num_samples, max(1, rows // batch))
        return BatchLayout(batch, -(-num_samples // -(-num_samples // most)))  # blocks of one size, as nearly as can be

    def num_blocks(self, points: int, num_samples: int) -> int:
        """How many blocks there are in all."""
        return -(-points // self.batch) * -(-num_samples // self.draws)

    def is_divisible(self, points: int, per_point: bool) -> bool:
        """Whether a batch of so many points, or its blocks, can be halved."""
        return (points > 1 and not per_point) or self.draws > 1

    def halved(self, points: int, per_point: bool) -> "BatchLayout":
        """Half as many points to a batch; of points that cannot be split, half as many draws to a block."""
        if points > 1 and not per_point:
            return replace(self, batch=points // 2)
        return replace(self, draws=self.draws // 2)
