"""Numbers and results as other programs read them: JSON, and the InferenceData or DataTree of ArviZ."""

import math
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def json_number(value: Any) -> Any:
    """The value, or None for a number that is not finite: JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that a NetCDF file can hold as attributes: numbers and text as they are, all else as text."""
    return {
        name: value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)
        for name, value in values.items()
    }


def inference_data(groups: Mapping[str, Any]) -> Any:
    """Groups, each an `xarray.Dataset`, as ArviZ has them: an `InferenceData` before version 1, an `xarray.DataTree` since."""
    module = arviz()
    if module.__version__.startswith("0."):
        return module.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict(dict(groups))


def pareto_shapes(log_weights: Any, relative_efficiency: float) -> Any:
    """ArviZ's k̂ of each row of log-weights (N, K): (N,). Version 1 takes log-likelihoods, which are minus the log-weights."""
    module = arviz()
    if module.__version__.startswith("0."):
        return module.psislw(log_weights, reff=relative_efficiency)[1]
    from arviz_stats.base import array_stats

    return array_stats.psislw(-log_weights, r_eff=relative_efficiency)[1]


def arviz() -> ModuleType:
    """Import ArviZ, without the warning about version 1.0 that version 0.23 gives at every import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz as module
    return module
