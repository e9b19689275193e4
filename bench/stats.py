"""The figures of a report, computed from raw samples: proportions, paired differences, percentiles, rates.

An average without an interval invites verdicts that the data doesn't carry: 300 rows can't tell 87 % from 85 %. So
everything here comes with its 95 % interval and the count behind it. Unknown is None, never 0. Standard library only.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import NormalDist
from typing import Optional, TypeVar

CONFIDENCE = 0.95
RESAMPLES = 1000
LEAST_BEYOND = 2  # rows beyond a quantile, on average, for an interval of it by drawing

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, over n observations. None where the data doesn't say."""

    value: Optional[float]
    low: Optional[float]
    high: Optional[float]
    n: int


@dataclass(frozen=True)
class Difference:
    """How much more often the second of two outcomes on the same rows is right than the first.

    gained, lost: rows that only the second, only the first has right. p: McNemar's exact test, two-sided.
    """

    value: Optional[float]
    low: Optional[float]
    high: Optional[float]
    n: int
    gained: int
    lost: int
    p: Optional[float]


def proportion(right: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """A share with its Wilson score interval, which stays sensible at 0, at n and for small n.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22:209-212.
    """
    if n == 0:
        return Estimate(None, None, None, 0)
    z = _z(confidence)
    share, shrink = right / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the bound is exactly 0 or 1; rounding would leave it a hair off.
    low = 0.0 if right == 0 else centre - half
    high = 1.0 if right == n else centre + half
    return Estimate(share, low, high, n)


def paired_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = CONFIDENCE) -> Difference:
    """Share right in `second` minus share right in `first`, row by row the same rows.

    The interval is the adjusted Wald one for paired data: Bonett and Price 2012, "Adjusted Wald confidence interval
    for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37(4):479-488.
    """
    if len(first) != len(second):
        raise ValueError(f"paired outcomes differ in length: {len(first)} and {len(second)}")
    n = len(first)
    gained = sum(b and not a for a, b in zip(first, second))
    lost = sum(a and not b for a, b in zip(first, second))
    if n == 0:
        return Difference(None, None, None, 0, 0, 0, None)
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _z(confidence) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(-1.0, up - down - half), min(1.0, up - down + half)
    return Difference((gained - lost) / n, low, high, n, gained, lost, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """The chance of so uneven a split of the changed rows if both ways were equally likely (exact, two-sided)."""
    n = gained + lost
    return min(1.0, 2 * math.fsum(_coin(n, k) for k in range(min(gained, lost) + 1)))


def ratio(pairs: Iterable[tuple[float, float]]) -> Optional[float]:
    """Right ones over all, summed over rows of (right, all); None where there are none at all."""
    sums = [math.fsum(column) for column in zip(*pairs)]
    return sums[0] / sums[1] if sums and sums[1] else None


def bootstrap(
    columns: Mapping[K, Sequence[tuple[float, float]]],
    differences: Sequence[tuple[K, K]] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[dict[K, Optional[tuple[float, float]]], list[Optional[tuple[float, float]]]]:
    """Percentile intervals of ratios, and of differences of two of them, by drawing whole rows with replacement.

    For what a row has several of (arguments, tokens): they are not independent, their rows are. The same rows are drawn for
    all columns, so that differences are paired. Efron and Tibshirani 1993, An Introduction to the Bootstrap, 13.3.

    Args:
        columns: (right, all) of each row, as many rows in each; (0, 0) for a row that has nothing to count.
        differences: pairs of columns (a, b), of which b minus a is wanted.
        seed: the same rows are drawn for the same seed.

    Returns the interval of each column and of each difference; None where fewer than two rows have anything to count.
    """
    n = len(next(iter(columns.values()), ()))
    if any(len(column) != n for column in columns.values()):
        raise ValueError("the columns differ in length")
    counted = {key: sum(1 for _, count in column if count) for key, column in columns.items()}
    split = {key: tuple(zip(*column)) for key, column in columns.items() if counted[key] > 1}
    drawn: dict[K, list[float]] = {key: [] for key in split}
    apart: list[list[float]] = [[] for _ in differences]
    dice, places = random.Random(seed), range(n)
    for _ in range(resamples if split else 0):
        take = itemgetter(*dice.choices(places, k=n))
        values = {}
        for key, (right, count) in split.items():
            total = sum(take(count))
            if total:
                values[key] = sum(take(right)) / total
                drawn[key].append(values[key])
        for i, (a, b) in enumerate(differences):
            if a in values and b in values:
                apart[i].append(values[b] - values[a])
    return {key: _middle(drawn.get(key, []), confidence) for key in columns}, [_middle(d, confidence) for d in apart]


def resample(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[list[int]]:
    """Places of n rows drawn with replacement, so many times; the same ones for the same seed."""
    dice, places = random.Random(seed), range(n)
    return (dice.choices(places, k=n) for _ in range(resamples))


def drawn_quantiles(
    rows: Sequence[Sequence[float]], q: float, resamples: int = RESAMPLES, seed: int = 0
) -> list[Optional[float]]:
    """The q-quantile of what drawing whole rows gives, once a draw; None where a draw holds no value.

    A row's repeated values are not independent, the rows are. `rows` holds the finite values of each.
    """
    draws = resample(len(rows), resamples, seed)
    if all(len(row) == 1 for row in rows):  # as a rule; a third of the time
        single = [row[0] for row in rows]
        return [_between(sorted([single[i] for i in take]), q) for take in draws]
    return [_between(sorted([v for i in take for v in rows[i]]), q) for take in draws]


def quantile(rows: Sequence[Sequence[float]], q: float, confidence: float = CONFIDENCE) -> Estimate:
    """The q-quantile of all values, with the percentile interval of drawing rows; n counts rows.

    The interval is None where on average fewer than LEAST_BEYOND rows lie beyond the quantile: draws from so few can't say
    how far the tail reaches.
    """
    full = [row for row in map(_known, rows) if row]
    value = percentile((v for row in full for v in row), q)
    if value is None or len(full) * min(q, 1 - q) < LEAST_BEYOND:
        return Estimate(value, None, None, len(full))
    low, high = _middle([v for v in drawn_quantiles(full, q) if v is not None], confidence) or (None, None)
    return Estimate(value, low, high, len(full))


def quantile_ratio(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], q: float, confidence: float = CONFIDENCE
) -> Estimate:
    """How many times the q-quantile of `first` that of `second` is, row by row the same rows, drawn together."""
    if len(first) != len(second):
        raise ValueError(f"paired rows differ in number: {len(first)} and {len(second)}")
    pairs = [(a, b) for a, b in zip(map(_known, first), map(_known, second)) if a and b]
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    below, above = (percentile((v for row in side for v in row), q) for side in sides)
    if below is None or above is None or not below:
        return Estimate(None, None, None, len(pairs))
    if len(pairs) * min(q, 1 - q) < LEAST_BEYOND:
        return Estimate(above / below, None, None, len(pairs))
    drawn = [b / a for a, b in zip(*(drawn_quantiles(side, q) for side in sides)) if a and b is not None]
    low, high = _middle(drawn, confidence) or (None, None)
    return Estimate(above / below, low, high, len(pairs))


def _middle(values: list[float], confidence: float) -> Optional[tuple[float, float]]:
    """The bounds of the middle part of what was drawn."""
    low, high = percentile(values, (1 - confidence) / 2), percentile(values, (1 + confidence) / 2)
    return None if low is None or high is None else (low, high)


def percentile(values: Iterable[Optional[float]], q: float) -> Optional[float]:
    """The q-quantile (q from 0 to 1), interpolated linearly between order statistics (Hyndman and Fan's type 7)."""
    return _between(_known(values), q)


def _between(ordered: Sequence[float], q: float) -> Optional[float]:
    """Such a quantile of values in order."""
    if not ordered:
        return None
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Iterable[Optional[float]], confidence: float = CONFIDENCE) -> Estimate:
    """The median with the interval between two order statistics: no shape is assumed, at least this confidence.

    The number of values below the true median is binomial(n, 1/2) (Hahn and Meeker 1991, Statistical Intervals, 5.2).
    Fewer than 6 values can't bound it at 95 %: low and high are None.
    """
    known = _known(values)
    n = len(known)
    k = _rank(n, (1 - confidence) / 2)
    low, high = (known[k - 1], known[n - k]) if k else (None, None)
    return Estimate(percentile(known, 0.5), low, high, n)


def rate(pairs: Iterable[tuple[Optional[float], Optional[float]]]) -> Estimate:
    """Tokens per second: the median of the samples' own rates, so that one stalled row doesn't pull it down.

    Args:
        pairs: (tokens, seconds) of each sample; those without either are left out.
    """
    return median(tokens / seconds for tokens, seconds in pairs if tokens and seconds and tokens > 0 and seconds > 0)


def _known(values: Iterable[Optional[float]]) -> list[float]:
    return sorted(v for v in values if v is not None and math.isfinite(v))


def _rank(n: int, tail: float) -> int:
    """The largest k for which fewer than k of n values lie below the median with a chance of at most `tail`."""
    below, k = 0.0, 0
    while k < n and (below := below + _coin(n, k)) <= tail:
        k += 1
    return k


def _coin(n: int, k: int) -> float:
    """The chance of k heads in n throws; in logarithms, since 2**n is no float for a long run."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
