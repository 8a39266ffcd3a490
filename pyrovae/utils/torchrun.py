"""Whether torchrun has started this process. No torch here, so that `--help` is fast."""

import os


def are_several() -> bool:
    """Whether torchrun has started this process with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
