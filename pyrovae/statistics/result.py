"""The base of all results that hold a number for every data point."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from ..errors import InvalidInputError, did_you_mean
from ..utils.export import attributes, inference_data, json_number
from .estimate import Estimate, mean_over_points


class Row(NamedTuple):
    """One line of a table: what it is, its mean, and which bound on log p(x) it is ("" where it is none)."""

    label: str
    estimate: Estimate
    bound: str


class PointwiseResult:
    """Tensors (N,) on the CPU, with the seconds and the settings of the computation that made them.

    To write a result class: derive a dataclass, name its per-point numbers in `labels` and `other_values`, and extend
    `summary` by what describes the result besides. The standard error of `name` is the attribute `name_se`, where it has one.
    """

    labels: ClassVar[Mapping[str, str]] = {}  # per-point numbers that have a mean, each with its label in a table
    other_values: ClassVar[tuple[str, ...]] = ()  # per-point numbers that are only listed
    errors: ClassVar[Mapping[str, str]] = {}  # standard errors that have another name than `name_se`

    seconds: float
    metadata: Mapping[str, Any]

    def __len__(self) -> int:
        """How many points there are."""
        return next(len(values) for name in self.labels if (values := getattr(self, name)) is not None)

    @property
    def bounds(self) -> Mapping[str, str]:
        """Which numbers bound log p(x) in expectation: "lower", "upper" or "neither", by name."""
        return {}

    def mean(self, name: str) -> Estimate:
        """The mean over points of the number `name`, with both errors.

        Raises `InvalidInputError` for a name that this result does not have.
        """
        values = getattr(self, name, None)
        if not isinstance(values, Tensor) or values.shape != (len(self),):
            raise InvalidInputError(
                f"{type(self).__name__} has no '{name}' for each point{did_you_mean(name, self.labels)}: "
                f"give one of {', '.join(self.estimates())}."
            )
        return mean_over_points(values, getattr(self, self.errors.get(name, f"{name}_se"), None))

    def estimates(self) -> dict[str, Estimate]:
        """The mean of every number in `labels` that this result has."""
        return {name: self.mean(name) for name in self.labels if getattr(self, name) is not None}

    def per_point(self) -> dict[str, Tensor]:
        """Every number of every point, by name: the estimates with their errors, then the others."""
        names = [each for name in self.labels for each in (name, f"{name}_se")]
        values = {name: getattr(self, name, None) for name in (*names, *self.other_values)}
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> list[Row]:
        """The lines of a table, one for each mean."""
        bounds = self.bounds
        return [Row(self.labels[name], mean, bounds.get(name, "")) for name, mean in self.estimates().items()]

    def summary(self) -> dict[str, Any]:
        """What describes the result besides its numbers, `seconds` and `metadata`."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the summary, means with their two errors, bounds, the numbers of each point, metadata."""
        return {
            **{name: json_number(value) for name, value in self.summary().items()},
            "means": {name: mean.to_dict() for name, mean in self.estimates().items()},
            "bounds": dict(self.bounds),
            "per_point": {
                name: [json_number(number) for number in value.tolist()] for name, value in self.per_point().items()
            },
            "seconds": self.seconds,
            "metadata": dict(self.metadata),
        }

    def datasets(self) -> dict[str, Any]:
        """The groups of `to_arviz`, each an `xarray.Dataset`."""
        import xarray

        values = {name: ("point", value.numpy()) for name, value in self.per_point().items()}
        attrs = attributes({**self.metadata, **self.summary()})
        return {"sample_stats": xarray.Dataset(values, coords={"point": range(len(self))}, attrs=attrs)}

    def to_arviz(self, x: Tensor | None = None) -> Any:
        """What ArviZ reads: an `InferenceData`, or an `xarray.DataTree` since its version 1.

        `sample_stats` has the per-point numbers over the dimension `point`, and the metadata in its attributes. The points
        `x` (N, ...), if they are given, are `observed_data`. `.to_netcdf(path)` saves it, `arviz.from_netcdf(path)` reads
        it back.
        """
        groups = self.datasets()
        if x is not None:
            if len(x) != len(self):
                raise InvalidInputError(f"x has {len(x)} points, and the result has {len(self)}: give the same points.")
            import xarray

            dims = ["point", *(f"x_dim_{axis}" for axis in range(x.dim() - 1))]
            coords = {"point": range(len(self))}
            groups["observed_data"] = xarray.Dataset({"x": (dims, x.detach().cpu().numpy())}, coords=coords)
        return inference_data(groups)
