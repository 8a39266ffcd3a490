"""Numbers and results as other programs read them."""

import math
from typing import Any


def number(value: Any) -> Any:
    """JSON has no NaN: what does not exist is None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
