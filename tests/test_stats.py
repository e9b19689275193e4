"""The statistics against published values, and their intervals against simulation: they must cover what they claim."""

from __future__ import annotations

import math
import random

import pytest

from edge.bench import stats


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", Stat. Med. 17:857-872, table I (method 3).
@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(right: int, n: int, low: float, high: float) -> None:
    estimate = stats.proportion(right, n)
    assert (estimate.value, estimate.n) == (right / n, n)
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_interval_is_closed_at_the_ends() -> None:
    assert stats.proportion(0, 7).low == 0.0
    assert stats.proportion(7, 7).high == 1.0


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    pairs = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return [a for a, _ in pairs], [b for _, b in pairs]


# Airway hyper-responsiveness in 21 children (Bentur 2009), worked out in Fagerland, Lydersen and Laake 2014,
# "Recommended tests and confidence intervals for paired binomial proportions", Stat. Med. 33:2850-2875:
# -0.508 to -0.013, exact p 0.070.
def test_paired_difference_as_published() -> None:
    first, second = outcomes(1, 1, 7, 12)
    d = stats.paired_difference(first, second)
    assert (d.n, d.gained, d.lost, d.value) == (21, 7, 1, pytest.approx(6 / 21))
    assert (d.low, d.high) == (pytest.approx(0.013, abs=5e-4), pytest.approx(0.508, abs=5e-4))
    assert d.p == pytest.approx(0.0703125)
    back = stats.paired_difference(second, first)
    assert (back.value, back.low, back.high) == (pytest.approx(-6 / 21), -d.high, -d.low)  # type: ignore[operator]


def test_paired_difference_spans_zero_when_nothing_changed_and_stays_in_range() -> None:
    same = stats.paired_difference(*outcomes(250, 0, 0, 50))
    assert same.value == 0 and same.p == 1.0
    assert same.low is not None and same.high is not None and same.low < 0 < same.high
    for counts in ((0, 0, 3, 0), (0, 3, 0, 0), (0, 0, 300, 0)):
        d = stats.paired_difference(*outcomes(*counts))
        assert d.value is not None and d.low is not None and d.high is not None
        assert -1 <= d.low <= d.value <= d.high <= 1


def test_paired_outcomes_must_pair() -> None:
    with pytest.raises(ValueError, match="length"):
        stats.paired_difference([True], [])


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (1, 1, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (12, 5, 0.1435)]
)
def test_mcnemar_exact(gained: int, lost: int, p: float) -> None:
    assert stats.mcnemar(gained, lost) == pytest.approx(p, abs=5e-5)


def test_mcnemar_of_many_rows() -> None:
    assert 0 < stats.mcnemar(5000, 5200) < 0.06


def test_percentile_is_linear_between_neighbours() -> None:
    values = [15.0, 20.0, 35.0, 40.0, 50.0]
    assert [stats.percentile(values, q) for q in (0, 0.05, 0.4, 0.5, 1)] == pytest.approx([15, 16, 29, 35, 50])
    assert stats.percentile([None, 3.0, math.nan, 1.0], 0.5) == 2.0


# The ranks for 95 %: Conover, Practical Nonparametric Statistics, 3.2; the classic table of the sign interval.
@pytest.mark.parametrize(
    ("n", "rank"), [(6, 1), (8, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)]
)
def test_median_interval_ranks_as_published(n: int, rank: int) -> None:
    estimate = stats.median(float(i) for i in range(1, n + 1))
    assert (estimate.low, estimate.value, estimate.high) == (rank, (n + 1) / 2, n + 1 - rank)


def test_few_values_have_a_median_and_no_interval() -> None:
    assert stats.median([3.0, 1.0, 2.0]) == stats.Estimate(2.0, None, None, 3)


def test_median_of_a_long_run() -> None:
    estimate = stats.median(float(i) for i in range(20_000))
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low < 9999.5 < estimate.high and estimate.high - estimate.low < 300


def test_rate_is_the_median_of_the_rows_own() -> None:
    assert stats.rate([(10, 1.0), (30, 1.0), (20, 100.0), (None, 1.0), (10, None), (10, 0.0), (0, 1.0)]).value == 10
    assert stats.rate([]) == stats.Estimate(None, None, None, 0)


def test_nothing_is_unknown_and_not_zero() -> None:
    assert stats.proportion(0, 0) == stats.median([]) == stats.median([None]) == stats.Estimate(None, None, None, 0)
    assert stats.paired_difference([], []) == stats.Difference(None, None, None, 0, 0, 0, None)
    assert stats.percentile([], 0.5) is None


def covered(trials: int, draw: object, truth: float) -> float:
    """The share of simulated samples whose interval holds the truth."""
    found = [draw() for _ in range(trials)]  # type: ignore[operator]
    return sum(e.low <= truth <= e.high for e in found) / trials


@pytest.mark.parametrize("truth", [0.05, 0.5, 0.87])
def test_proportion_covers(truth: float) -> None:
    r = random.Random(1)
    assert covered(1500, lambda: stats.proportion(sum(r.random() < truth for _ in range(100)), 100), truth) > 0.93


@pytest.mark.parametrize(("gain", "loss"), [(0.02, 0.02), (0.01, 0.06), (0.7, 0.01)])
def test_paired_difference_covers(gain: float, loss: float) -> None:
    r = random.Random(2)

    def draw() -> stats.Difference:
        places = [r.random() for _ in range(150)]
        first = sum(p < loss for p in places)
        second = sum(loss <= p < loss + gain for p in places)
        return stats.paired_difference(*outcomes(0, first, second, 150 - first - second))

    assert covered(1500, draw, gain - loss) > 0.93


def test_median_covers_a_skewed_distribution() -> None:
    r = random.Random(3)
    assert covered(1500, lambda: stats.median(r.lognormvariate(0, 1) for _ in range(41)), 1.0) > 0.94


# ---- the bootstrap


def test_a_bootstrapped_share_is_as_wide_as_theory_says() -> None:
    column = [(i % 4 > 0, 1) for i in range(400)]
    (low, high), _ = interval(column)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == (pytest.approx(0.75 - half, abs=0.01), pytest.approx(0.75 + half, abs=0.01))


def test_rows_are_drawn_whole() -> None:
    """Ten tokens of a row are right or wrong together: 400 tokens say no more than their 40 rows."""
    together = [(10 * (i % 2), 10) for i in range(40)]
    apart = [(i % 2, 1) for i in range(400)]
    (low, high), _ = interval(together)
    (low_apart, high_apart), _ = interval(apart)
    assert (high - low) / (high_apart - low_apart) == pytest.approx(math.sqrt(10), rel=0.15)


def test_differences_are_paired() -> None:
    r = random.Random(4)
    first = [(r.random() < 0.5, 1) for _ in range(300)]
    second = [(a or i % 30 == 0, 1) for i, (a, _) in enumerate(first)]
    _, (paired,) = stats.bootstrap({"a": first, "b": second}, [("a", "b")])
    shuffled = r.sample(second, len(second))
    _, (apart,) = stats.bootstrap({"a": first, "b": shuffled}, [("a", "b")])
    assert paired is not None and apart is not None
    assert paired[0] >= 0 and paired[1] - paired[0] < 0.4 * (apart[1] - apart[0])


def test_the_same_seed_draws_the_same() -> None:
    column = [(i % 3 == 0, 1) for i in range(50)]
    assert stats.bootstrap({"a": column}) == stats.bootstrap({"a": column})
    assert stats.bootstrap({"a": column}) != stats.bootstrap({"a": column}, seed=1)


def test_what_has_no_rows_has_no_interval() -> None:
    intervals, apart = stats.bootstrap({"none": [(0, 0)] * 5, "one": [(1, 1), *[(0, 0)] * 4]}, [("none", "one")])
    assert intervals == {"none": None, "one": None} and apart == [None]
    assert stats.bootstrap({}) == ({}, []) and stats.ratio([]) is None and stats.ratio([(0, 0)]) is None
    with pytest.raises(ValueError, match="length"):
        stats.bootstrap({"a": [(1, 1)], "b": []})


def test_bootstrap_covers_a_ratio() -> None:
    """Of rows with one to six arguments, of which those in long rows are more often wrong."""
    r = random.Random(5)

    def row() -> tuple[float, float]:
        n = r.randint(1, 6)
        return (sum(r.random() < 0.95 - 0.1 * n for _ in range(n)), n)

    truth = sum(n * (0.95 - 0.1 * n) for n in range(1, 7)) / 21
    hits = 0
    for trial in range(200):
        (low, high), _ = interval([row() for _ in range(80)], resamples=200, seed=trial)
        hits += low <= truth <= high
    assert hits / 200 > 0.9


def interval(column: list[tuple[float, float]], **options: int) -> tuple[tuple[float, float], list[object]]:
    found, apart = stats.bootstrap({"a": column}, **options)  # type: ignore[arg-type]
    assert found["a"] is not None
    return found["a"], list(apart)


# ---- quantiles by drawing rows


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_a_quantile_s_interval_covers_it(q: float) -> None:
    """Of exponential values, whose quantiles are known: 200 rows, 150 times. Percentile intervals cover a little less than 95 %."""
    dice, truth, covered = random.Random(7), -math.log(1 - q), 0
    for _ in range(150):
        found = stats.quantile([[dice.expovariate(1.0)] for _ in range(200)], q)
        assert found.low is not None and found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / 150 <= 0.99


def test_repetitions_of_a_row_are_no_further_rows() -> None:
    dice = random.Random(3)
    rows = [[dice.gauss(10, 2)] for _ in range(60)]
    once, often = stats.quantile(rows, 0.5), stats.quantile([row * 5 for row in rows], 0.5)
    assert once.n == often.n == 60 and once.low is not None and often.low is not None
    assert (once.high or 0) - once.low == pytest.approx((often.high or 0) - often.low, rel=0.25)


def test_a_tail_that_too_few_rows_reach_has_no_interval() -> None:
    assert stats.quantile([[float(i)] for i in range(39)], 0.95).low is None
    assert stats.quantile([[float(i)] for i in range(40)], 0.95).low is not None
    assert stats.quantile([], 0.5) == stats.Estimate(None, None, None, 0)
    assert stats.quantile([[math.nan], [1.0], []], 0.5) == stats.Estimate(1.0, None, None, 1)


def test_a_ratio_of_medians_is_paired() -> None:
    """Rows differ a hundredfold among themselves, and by a tenth between both: paired, that is seen."""
    dice = random.Random(5)
    first = [[10 ** dice.uniform(0, 2)] for _ in range(100)]
    second = [[row[0] * 1.1 * dice.uniform(0.99, 1.01)] for row in first]
    found = stats.quantile_ratio(first, second, 0.5)
    assert found.low is not None and found.high is not None and found.n == 100
    assert 1.05 < found.low <= (found.value or 0) <= found.high < 1.15
    assert stats.quantile_ratio([[0.0]] * 9, [[1.0]] * 9, 0.5).value is None, "nothing is so many times nothing"
    with pytest.raises(ValueError, match="paired rows"):
        stats.quantile_ratio([[1.0]], [], 0.5)
