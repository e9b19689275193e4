"""`edge pick`: the best artifact for a device under limits, why each other one fell out, and how sure that is.

Of the artifacts that were measured there to their end and keep every limit, the most often right one wins. Those whose
difference to it no paired interval shows count as just as good: of these the one with the fastest median call, and where the
rows can't tell two speeds apart, the smallest file.

"Not shown to differ" is no order: b may not be shown slower than a, and c, nominally between them, may be. So whoever is
nominally no better than one that is shown to be worse (or slower) counts as that too. Then each step keeps an upper part of
one nominal order and drops the rest; there are no cycles, and nothing is picked where another that keeps the limits is
nominally as often right, as fast and as small, and better in one of these.

A limit is kept when the measured value keeps it. How sure that is comes from draws: the share in which p95 and accuracy keep
theirs. For p95 the rows are drawn anew. Accuracy is drawn from Beta(right + 1/2, wrong + 1/2), what Jeffreys' prior makes of
the rows: drawing rows of which all are right would give all right every time, be they three or three hundred. The two are
drawn independently. Memory and size are single figures, so the draws say nothing about them.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.bench import report as reports
from edge.bench import stats
from edge.bench.report.folder import Cell, Results
from edge.bench.report.matrix import calls_by_row
from edge.bench.report.words import figure, megabytes, percent, points, verdict
from edge.devices import inventory
from edge.errors import EdgeError
from edge.records import Json

SCHEMA = 1
CRITERION = (
    "of those that keep every limit the most often right; where the paired 95 % interval shows no difference, the fastest "
    "median call; where the rows show no difference in that either, the smallest file; what is nominally no better than one "
    "that is shown to be worse, or slower, counts as that too"
)
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}


# ---- limits


@dataclass(frozen=True)
class Limits:
    """None: no limit. Bytes, seconds, a share from 0 to 1."""

    max_size_bytes: int | None = None
    max_rss_bytes: int | None = None
    max_p95_s: float | None = None
    min_accuracy: float | None = None


def parse_bytes(text: str) -> int:
    """400MB, 1.2GB, 300MiB; a bare number is bytes. Raises ValueError with what is accepted."""
    return round(_parse(text, _BYTES, "400MB, 1.2GB or 380MiB") or 0)


def parse_seconds(text: str) -> float:
    """800ms, 1.5s. A bare number is refused: it could be either."""
    return _parse(text, _SECONDS, "800ms or 1.5s")


def parse_share(text: str) -> float:
    """0.9 or 90%."""
    value = _parse(text, {"": 1.0, "%": 1.0}, "0.9 or 90%")
    value = value / 100 if "%" in text else value
    if value > 1:
        raise ValueError(f"{text!r} is more than everything; a share is written such as 0.9 or 90%")
    return value


def _parse(text: str, units: Mapping[str, float], such: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ%]*)\s*", text.casefold().replace("μ", "µ"))
    if not found or found[2] not in units:
        raise ValueError(f"{text!r} is not understood; write it such as {such}")
    value = float(found[1]) * units[found[2]]
    if value <= 0:
        raise ValueError(f"{text!r} leaves no room for anything; write it such as {such}")
    return value


# ---- candidates


@dataclass
class Candidate:
    """One cell. `why` is empty for the one that is picked, else the reasons why it fell out."""

    cell: Cell
    accuracy: stats.Estimate
    median_s: stats.Estimate
    p95_s: stats.Estimate
    out: list[Json] = field(default_factory=list)  # {"limit", "value", "allowed", "by", "words"}
    unfit: str | None = None  # why it can't be considered at all
    sure: float | None = None  # share of draws that keep p95 and accuracy within their limits, see _sureness
    doubts: list[str] = field(default_factory=list)
    beaten: str | None = None

    @property
    def name(self) -> str:
        m = self.cell.measurement
        threads = f", {m.threads} thread{'s' if m.threads > 1 else ''}" if m.threads else ""
        return f"{self.cell.name} ({m.runtime}{threads})"

    @property
    def excess(self) -> float:
        return math.fsum(it["by"] for it in self.out)

    @property
    def why(self) -> list[str]:
        reasons = [self.unfit] if self.unfit else [it["words"] for it in self.out]
        return [*reasons, *([self.beaten] if self.beaten else [])]


@dataclass(frozen=True)
class Choice:
    """What `edge pick` answers. nearest: where nothing fits, what misses the limits by least."""

    device: str
    limits: Limits
    emulated: bool
    picked: Candidate | None
    others: list[Candidate]
    nearest: Candidate | None
    results: Results
    notes: list[str]

    def to_json(self) -> Json:
        return {
            "schema": SCHEMA,
            "device": self.device,
            "emulated": self.emulated,
            "limits": asdict(self.limits),
            "criterion": CRITERION,
            "workload": self.results.workload,
            "rows": len(self.results.rows),
            "picked": _json(self.picked, self.results) if self.picked else None,
            "nearest": _json(self.nearest, self.results) if self.nearest else None,
            "others": [_json(c, self.results) for c in self.others],
            "notes": self.notes,
        }


def pick(results: Results, device: str, limits: Limits, allow_emulated: bool = False) -> Choice:
    """Choose among everything that was measured on a device.

    Raises EdgeError for a device that nothing was measured on, and for an emulated one unless allowed.
    """
    if device == inventory.LAPTOP and device not in results.devices:
        device = inventory.get(device).name
    cells = [c for c in results.cells if c.device == device and c.is_artifact]
    if not cells:
        known = [d for d in results.devices if any(c.device == d and c.is_artifact for c in results.cells)]
        if not known:
            raise EdgeError(f"{results.folder}: no artifact was measured with rows", "edge bench ARTIFACT... measures")
        raise EdgeError(f"nothing was measured on a device {device!r}", f"measured were: {', '.join(known)}")
    emulated = any(c.emulated for c in cells)
    if emulated and not allow_emulated:
        raise EdgeError(
            f"{device} is emulated: how long a call takes there says nothing of the device that it stands for",
            "measure on the device itself, or --allow-emulated to try this command",
        )
    candidates = [_candidate(c, limits) for c in cells]
    fit = [c for c in candidates if not c.unfit and not c.out]
    best = _best(fit)
    others = sorted(
        (c for c in candidates if c is not best), key=lambda c: (bool(c.unfit), len(c.out), c.excess, c.name)
    )
    missed = [c for c in candidates if c.out and not c.unfit]
    nearest = min(missed, key=lambda c: (len(c.out), c.excess, c.name), default=None) if best is None else None
    notes = [*results.notes]
    if emulated:
        notes.insert(0, f"{device} is emulated: none of these figures is a real device's")
    return Choice(device, limits, emulated, best, others, nearest, results, notes)


def _candidate(cell: Cell, limits: Limits) -> Candidate:
    assert cell.score is not None
    m, rows = cell.measurement, list(calls_by_row(cell.measurement).values())
    found = Candidate(
        cell, cell.score.accuracy, stats.median(v for row in rows for v in row), stats.quantile(rows, 0.95)
    )
    if m.error:
        found.unfit = f"failed: {m.error.get('message', 'no reason given')}"
    elif cell.missing:
        found.unfit = f"not measured to its end: {cell.missing} of {len(cell.score.outcomes)} rows were never reached"
    else:
        found.out = [it for it in _broken(found, limits) if it]
        found.sure, found.doubts = _sureness(found, limits)
        found.doubts += [mark for mark in reports.marks(m, 0) if not mark.startswith("emulated")]
    return found


def _broken(found: Candidate, limits: Limits) -> list[Json | None]:
    m = found.cell.measurement

    def size(v: float) -> str:
        return f"{megabytes(v)} MB"

    def speed(v: float) -> str:
        return f"{figure(v * 1000)} ms"

    return [
        _over("size", "file", m.file_bytes, limits.max_size_bytes, size),
        _over("rss", "peak memory", m.peak_rss_bytes, limits.max_rss_bytes, size),
        _over("p95", "p95 of calls", found.p95_s.value, limits.max_p95_s, speed),
        _under(found.accuracy.value, limits.min_accuracy),
    ]


def _over(limit: str, what: str, value: float | None, most: float | None, write: Callable[[float], str]) -> Json | None:
    if most is None or (value is not None and value <= most):
        return None
    if value is None:
        return {
            "limit": limit,
            "value": None,
            "allowed": most,
            "by": 1.0,
            "words": f"{what} is not known, so the limit can't be held",
        }
    by = value / most - 1
    words = f"{what} {write(value)}, over {write(most)} by {_share(by)}"
    return {"limit": limit, "value": value, "allowed": most, "by": by, "words": words}


def _under(value: float | None, least: float | None) -> Json | None:
    if least is None or (value is not None and value >= least):
        return None
    by = 1.0 if value is None else 1 - value / least
    got = "not known" if value is None else f"{percent(value)} %, under {percent(least)} % by {_points(least - value)}"
    return {"limit": "accuracy", "value": value, "allowed": least, "by": by, "words": f"right calls {got}"}


def _points(share: float) -> str:
    return f"{100 * share:.1f} points" if share >= 0.0005 else "less than 0.1 points"


def _share(by: float) -> str:
    return f"{100 * by:.1f} %" if by >= 0.0005 else "less than 0.1 %"


# ---- how sure


def _sureness(found: Candidate, limits: Limits) -> tuple[float | None, list[str]]:
    """The share of draws that keep p95 and accuracy within their limits, and a sentence for each that is close."""
    if limits.max_p95_s is None and limits.min_accuracy is None:
        return None, []
    assert found.cell.score is not None
    outcomes, calls = found.cell.score.outcomes, calls_by_row(found.cell.measurement)
    over, under = [False] * stats.RESAMPLES, [False] * stats.RESAMPLES
    if limits.max_p95_s is not None:
        p95 = stats.drawn_quantiles([calls.get(o.row, []) for o in outcomes], 0.95)
        over = [tail is not None and tail > limits.max_p95_s for tail in p95]
    if limits.min_accuracy is not None:
        shares = _drawn_accuracy(found.cell.score.count("right"), len(outcomes))
        under = [share < limits.min_accuracy for share in shares]
    doubts = [_doubt("p95", sum(over), limits.max_p95_s), _doubt("accuracy", sum(under), limits.min_accuracy),
              _wide(found.accuracy, limits.min_accuracy)]  # fmt: skip
    if limits.max_p95_s is not None and found.p95_s.value is not None and found.p95_s.low is None:
        doubts.append(f"p95 of {len(outcomes)} rows is hardly more than the slowest call: measure more rows")
    kept = sum(not slow and not poor for slow, poor in zip(over, under))
    return kept / stats.RESAMPLES, [doubt for doubt in doubts if doubt]


def _drawn_accuracy(right: int, n: int) -> list[float]:
    """Shares that `right` of n rows speak for: draws from the posterior of Jeffreys' prior, the same ones every time.

    Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion", Statistical Science 16(2):101-133.
    """
    dice = random.Random(0)
    return [dice.betavariate(right + 0.5, n - right + 0.5) for _ in range(stats.RESAMPLES)]


def _wide(accuracy: stats.Estimate, limit: float | None) -> str | None:
    """Where the value keeps the limit, and the lower end of its interval (Wilson's) doesn't."""
    if limit is None or accuracy.value is None or accuracy.low is None or not accuracy.low < limit <= accuracy.value:
        return None
    return (
        f"accuracy: the 95 % interval of {accuracy.n} row{'s' * (accuracy.n != 1)} begins at {percent(accuracy.low)} %, "
        f"under {percent(limit)} %: measure more rows"
    )


def _doubt(what: str, broken: int, limit: float | None) -> str | None:
    share = broken / stats.RESAMPLES
    if limit is None or not 0.005 <= share <= 0.995:
        return None
    side = "over" if what == "p95" else "under"
    word = f"may be {side}" if share < 0.5 else f"may not be {side}"
    return f"{what} {word} its limit: it is in {100 * share:.0f} % of the draws"


# ---- the best


def _best(fit: Sequence[Candidate]) -> Candidate | None:
    """By the rule at the top of this file. Marks what beats each other one."""
    if not fit:
        return None
    top = min(fit, key=lambda c: (_wrong(c), _median(c), _bytes(c), c.name))
    as_good, worse = _level(fit, top, _worse, _wrong)
    fastest = min(as_good, key=lambda c: (_median(c), _bytes(c), _wrong(c), c.name))
    as_fast, slower = _level(as_good, fastest, _slower, _median)
    best = min(as_fast, key=lambda c: (_bytes(c), _median(c), _wrong(c), c.name))
    steps = _Steps(top, as_good, worse, fastest, as_fast, slower, best)
    for c in fit:
        if c is not best:
            c.beaten = steps.beaten(c)
    return best


Test = Callable[[Candidate, Candidate], bool]
Value = Callable[[Candidate], float]


def _level(
    among: Sequence[Candidate], first: Candidate, shown: Test, value: Value
) -> tuple[list[Candidate], Candidate | None]:
    """Those that are on a level with the first one, which has the least value; and which other one is the first that isn't.

    Out is what is shown to differ from it, and what has no smaller value than such a one. So whoever has no larger value than
    one that is in is in too.
    """
    out = min((c for c in among if c is not first and shown(first, c)), key=value, default=None)
    return [c for c in among if c is first or out is None or value(c) < value(out)], out


def _difference(one: Candidate, other: Candidate) -> stats.Difference:
    assert one.cell.score and other.cell.score
    return reports.paired(one.cell.score, other.cell.score)


def _worse(top: Candidate, other: Candidate) -> bool:
    return verdict(asdict(_difference(top, other))) == "lost"


def _slower(fastest: Candidate, other: Candidate) -> bool:
    """By the interval; where the rows are too few for one, or there are no times, by the value."""
    return _longer(_ratio(fastest, other))


def _longer(found: stats.Estimate) -> bool:
    return found.value is None or (found.value if found.low is None else found.low) > 1


def _ratio(one: Candidate, other: Candidate) -> stats.Estimate:
    a, b = calls_by_row(one.cell.measurement), calls_by_row(other.cell.measurement)
    rows = [row for row in a if row in b]
    return stats.quantile_ratio([a[r] for r in rows], [b[r] for r in rows], 0.5)


# What less of is better; what is not known is worst.


def _wrong(c: Candidate) -> float:
    return 1 - (c.accuracy.value or 0.0)


def _median(c: Candidate) -> float:
    return math.inf if c.median_s.value is None else c.median_s.value


def _bytes(c: Candidate) -> float:
    size = c.cell.measurement.file_bytes
    return math.inf if size is None else size


@dataclass(frozen=True)
class _Steps:
    """How it was chosen, for the reasons."""

    top: Candidate
    as_good: Sequence[Candidate]
    worse: Candidate | None  # of those that are shown to be worse, the most often right
    fastest: Candidate
    as_fast: Sequence[Candidate]
    slower: Candidate | None  # of those that are shown to be slower, the fastest
    best: Candidate

    def beaten(self, c: Candidate) -> str:
        """Why it was not chosen: the step at which it fell out, and whom it fell out against."""
        if not _among(c, self.as_good):
            return f"beaten by {self.top.name}: {self._poor(c)}"
        if not _among(c, self.as_fast):
            return f"beaten by {self.fastest.name}: {self._alike(c, self.fastest)}, and {self._slow(c)}"
        of = "" if self.fastest is c or self.fastest is self.best else f" from {self.fastest.name}"
        alike = f"{self._alike(c, self.best)}, none in speed{of}"
        return f"beaten by {self.best.name}: {alike}, and it is {_size_words(self.best, c)}"

    def _poor(self, c: Candidate) -> str:
        d = _difference(self.top, c)
        told = f"right calls {points(d.value)} points to it, 95 % interval {points(d.low)} to {points(d.high)}"
        if self.worse is None or _worse(self.top, c):
            return told
        return f"{told}, and {self.worse.name}, right no less often, is shown to be worse"

    def _alike(self, c: Candidate, by: Candidate) -> str:
        """All that are left are as good as the top one as far as the rows tell, which of two of them need not be true."""
        d, of = _difference(by, c), ""
        if verdict(asdict(d)) in ("gained", "lost"):
            d, of = _difference(self.top, c), f" of either from {self.top.name}"
        half = 0.0 if d.low is None or d.high is None else (d.high - d.low) / 2
        return f"no difference{of} seen in right calls (±{100 * half:.1f} points over {d.n} rows)"

    def _slow(self, c: Candidate) -> str:
        found = _ratio(self.fastest, c)
        told = f"its median call takes {_times(found)} as long"
        if self.slower is None or _longer(found):
            return told
        return f"{told}, and {self.slower.name}, nominally no slower than it, is shown to be slower"


def _among(c: Candidate, those: Sequence[Candidate]) -> bool:
    return any(c is one for one in those)


def _times(ratio: stats.Estimate) -> str:
    if ratio.value is None:
        return "not known to be"
    bounds = (
        f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
        if ratio.low is not None and ratio.high is not None
        else " (too few rows for an interval)"
    )
    return f"{ratio.value:.2f} times{bounds}"


def _size_words(best: Candidate, c: Candidate) -> str:
    mine, theirs = _bytes(best), _bytes(c)
    if mine == theirs:
        return "of the same size, and nominally no faster"
    return f"larger: {megabytes(theirs)} MB to {megabytes(mine)}" if math.isfinite(theirs) else "of unknown size"


# ---- for a CI


def _json(c: Candidate, results: Results) -> Json:
    m = c.cell.measurement
    artifact = results.artifacts.get(m.subject)
    return {
        "name": c.cell.name,
        "runtime": m.runtime,
        "threads": m.threads,
        "path": artifact.path if artifact else None,
        "digest": m.subject,
        "accuracy": asdict(c.accuracy),
        "call_ms": _ms(c.median_s),
        "p95_ms": _ms(c.p95_s),
        "peak_rss_bytes": m.peak_rss_bytes,
        "file_bytes": m.file_bytes,
        "sure": c.sure,
        "doubts": c.doubts,
        "broken": c.out,
        "unfit": c.unfit,
        "beaten": c.beaten,
        "why": c.why,
        "measurement": str(c.cell.file.relative_to(results.folder)),
    }


def _ms(estimate: stats.Estimate) -> dict[str, Any]:
    value, low, high = (None if v is None else v * 1000 for v in (estimate.value, estimate.low, estimate.high))
    return {"value": value, "low": low, "high": high, "n": estimate.n}
