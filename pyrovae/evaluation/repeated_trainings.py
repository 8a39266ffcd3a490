"""Rows of a comparison that are trainings of one pair, as one row: their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import RunError
from .averaging import average_evidence
from .comparison import Comparison
from .result import Evidence


def training_name(name: str, number: int) -> str:
    """What the training of this number is called; the first is 1."""
    return f"{name}, training {number}"


def average_trainings(comparison: Comparison, trainings: Mapping[str, Sequence[str]]) -> Comparison:
    """A comparison with one row for each of `trainings`, which are names of rows: their mean, with the error over trainings.

    Where one of them has failed the mean would be that of the others, so the row fails.
    """
    fits, failed = dict(comparison.fits or {}), dict(comparison.failed)
    evidence: dict[str, Evidence] = {}
    repeated: dict[str, tuple[Evidence, ...]] = {}
    first = {names[0]: name for name, names in trainings.items()}
    members = {name for names in trainings.values() for name in names}
    for member in [*comparison.evidence, *comparison.failed]:
        if member not in members:
            evidence |= {member: comparison.evidence[member]} if member in comparison.evidence else {}
        elif member in first:
            name, names = first[member], trainings[first[member]]
            own_fits = [fits.pop(each) for each in names if each in fits]
            if broken := [each for each in names if each in failed]:
                failed = {each: why for each, why in failed.items() if each not in names}
                failed[name] = f"{broken[0].removeprefix(f'{name}, ')} of {len(names)}: {comparison.failed[broken[0]]}"
                continue
            repeated[name] = tuple(comparison.evidence[each] for each in names)
            evidence[name] = average_evidence(repeated[name])
            if own_fits:
                fits[name] = replace(own_fits[0], seconds=sum(fit.seconds for fit in own_fits))
    if not evidence:
        raise RunError(f"Every pair failed, {'; '.join(f'{name}: {message}' for name, message in failed.items())}")
    return Comparison(evidence, fits or None, failed, repeated)
