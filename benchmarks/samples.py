"""Medians, percentiles and spread of repeated measurements."""

import math
from dataclasses import dataclass
from statistics import median


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed."""
    if not values:
        raise ValueError("a percentile needs at least one value")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Samples:
    """Repeated measurements of one thing; higher or lower may be better."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance between the extremes, as a share of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median

    def __str__(self) -> str:
        if len(self.values) == 1:
            return significant(self.median)
        return f"{significant(self.median)} ± {self.spread:.0%}"


def significant(value: float) -> str:
    """Three digits: a quiet machine repeats no better."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def paired_ratio(ours: Samples, theirs: Samples) -> Samples:
    """Sample by sample: neighbours in time shared the state of the machine."""
    pairs = zip(ours.values, theirs.values, strict=True)
    return Samples(tuple(mine / other for mine, other in pairs))
