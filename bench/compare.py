"""`edge report --compare OLD NEW`: what got worse, better, or shows no difference between two results folders.

Cells are matched by device, name, runtime and threads. Accuracy is paired over the rows that both answered and that ask and
expect the same; latency is the ratio of the median calls over the same rows, with an interval by drawing rows. Two runs on one
machine differ by more than their rows do (another temperature, another neighbour), so a latency counts as changed only if
its whole interval lies beyond a tolerance, and not at all where either run was noisy, throttled or emulated, or the device is
another one. Memory and size are single figures: they count as changed beyond the tolerance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.bench import report as reports
from edge.bench import stats
from edge.bench.report.folder import Cell, Results
from edge.bench.report.matrix import calls_by_row
from edge.bench.report.words import figure, megabytes, percent, points, verdict
from edge.bench.score import Outcome
from edge.errors import EdgeError
from edge.records import Json

SCHEMA = 1
TOLERANCE = 0.05
WORSE, BETTER, SAME, UNKNOWN = "worse", "better", "no difference seen", "can't tell"
# Of a device's facts, those whose change makes it another one.
_DEVICE = ("model", "cpu", "machine", "cores", "memory_bytes", "emulated")


@dataclass(frozen=True)
class Change:
    """One figure of one cell. verdict: worse, better, no difference seen, or can't tell (and why, in `words`)."""

    what: str  # "run", "accuracy", "latency", "memory", "size"
    verdict: str
    words: str
    old: float | None = None
    new: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Pair:
    key: str
    changes: list[Change]

    @property
    def worse(self) -> bool:
        return any(c.verdict == WORSE for c in self.changes)


@dataclass(frozen=True)
class Comparison:
    """pairs: of all cells that both have. gone, added: keys of cells that only one has. notes: what to know beforehand."""

    old: str
    new: str
    tolerance: float
    pairs: list[Pair]
    gone: list[str]
    added: list[str]
    notes: list[str]

    @property
    def worse(self) -> bool:
        return any(p.worse for p in self.pairs)

    def to_json(self) -> Json:
        return {"schema": SCHEMA, "worse": self.worse, **dataclasses.asdict(self)}


def compare(old: Results, new: Results, tolerance: float = TOLERANCE) -> Comparison:
    """Hold NEW against OLD.

    Args:
        tolerance: by what share a latency, memory or size may grow.

    Raises EdgeError if they have no cell in common.
    """
    before, after = ({c.place: c for c in r.cells} for r in (old, new))
    common = [place for place in before if place in after]
    if not common:
        raise EdgeError(
            f"{old.folder} and {new.folder} have no cell in common",
            f"matched are device, name, runtime and threads; {_some(before)} there, {_some(after)} here",
        )
    notes = [f"{r.folder}: {note}" for r in (old, new) for note in r.notes]
    same = _same_rows(old, new)
    if old.workload != new.workload:
        notes.append(
            f"the rows are not the same ones: accuracy and latency are compared over the {len(same)} that ask and expect the same"
        )
    pairs = [Pair(before[p].key, _changes(before[p], after[p], same, tolerance)) for p in common]
    return Comparison(
        str(old.folder), str(new.folder), tolerance, sorted(pairs, key=lambda p: (not p.worse, p.key)),
        sorted(before[p].key for p in before if p not in after), sorted(after[p].key for p in after if p not in before), notes,
    )  # fmt: skip


def _some(cells: Mapping[Any, Cell]) -> str:
    keys = sorted(c.key for c in cells.values())
    return ", ".join(keys[:4]) + (" …" if len(keys) > 4 else "") if keys else "nothing"


def _same_rows(old: Results, new: Results) -> set[str]:
    """Ids of rows with the same prompt, tools and expected calls in both."""
    asked = ("prompt", "messages", "tools", "expected")
    before = {row["id"]: [row.get(key) for key in asked] for row in old.rows}
    return {row["id"] for row in new.rows if before.get(row["id"]) == [row.get(key) for key in asked]}


def _changes(old: Cell, new: Cell, rows: set[str], tolerance: float) -> list[Change]:
    broken = _run(old, new)
    if broken:
        return broken
    a, b = old.measurement, new.measurement
    why = _incomparable(old, new)
    found = [
        _accuracy(old, new, rows),
        _latency(old, new, rows, tolerance, why),
        _single(
            "memory",
            a.peak_rss_bytes,
            b.peak_rss_bytes,
            tolerance,
            why if _elsewhere(old, new) or _emulated(old, new) else None,
        ),
        _single("size", a.file_bytes, b.file_bytes, tolerance, None),
    ]
    return [c for c in found if c.what == "accuracy" or c.old is not None or c.new is not None]  # fmt: skip


def _run(old: Cell, new: Cell) -> list[Change]:
    """Where one of both failed there is nothing else to compare."""
    before, after = old.measurement.error, new.measurement.error
    if after and not before:
        return [Change("run", WORSE, f"fails now: {after.get('message', 'no reason given')}")]
    if before and not after:
        return [Change("run", BETTER, f"failed before: {before.get('message', 'no reason given')}")]
    return [Change("run", SAME, f"failed before and now: {(after or {}).get('message')}")] if after else []


def _elsewhere(old: Cell, new: Cell) -> str | None:
    a, b = old.measurement.device, new.measurement.device
    other = [key for key in _DEVICE if a.get(key) != b.get(key)]
    return (
        f"the device is another one ({', '.join(f'{k} {a.get(k)}, now {b.get(k)}' for k in other)})" if other else None
    )


def _emulated(old: Cell, new: Cell) -> str | None:
    return "an emulated device's time and memory say nothing" if old.emulated or new.emulated else None


def _incomparable(old: Cell, new: Cell) -> str | None:
    """Why no verdict on time can be given, or None."""
    where = _emulated(old, new) or _elsewhere(old, new)
    if where:
        return where
    marks = [f"{when}: {mark}" for when, c in (("old", old), ("new", new)) for mark in reports.marks(c.measurement, 0)]
    return "; ".join(marks) or None


def _accuracy(old: Cell, new: Cell, rows: set[str]) -> Change:
    assert old.score and new.score
    before, after = _reached(old, rows), _reached(new, rows)
    both = [(before[row].right, o.right) for row, o in after.items() if row in before]
    d = stats.paired_difference([a for a, _ in both], [b for _, b in both])
    if d.value is None:
        return Change("accuracy", UNKNOWN, "no row that both answered")
    was, now = (sum(side) / len(both) for side in zip(*both))
    word = {"lost": WORSE, "gained": BETTER}.get(verdict(dataclasses.asdict(d)), SAME)
    told = (
        f"right calls {percent(was)} % → {percent(now)} %: {points(d.value)} points, 95 % interval {points(d.low)} to "
        f"{points(d.high)}, over {d.n} rows ({d.lost} lost, {d.gained} gained)"
    )
    return Change("accuracy", word, told, was, now, d.low, d.high, d.n)


def _reached(cell: Cell, rows: set[str]) -> dict[str, Outcome]:
    assert cell.score
    return {o.row: o for o in cell.score.outcomes if o.state != "missing" and o.row in rows}


def _latency(old: Cell, new: Cell, rows: set[str], tolerance: float, why: str | None) -> Change:
    before, after = calls_by_row(old.measurement), calls_by_row(new.measurement)
    common = [row for row in before if row in after and row in rows]
    found = stats.quantile_ratio([before[r] for r in common], [after[r] for r in common], 0.5)
    was, now = (stats.percentile((v for r in common for v in side[r]), 0.5) for side in (before, after))
    if why or found.value is None or found.low is None or found.high is None:
        reason = why or (
            "no call of the same row was timed in both" if found.value is None else f"{found.n} rows are too few"
        )
        return Change(
            "latency",
            UNKNOWN,
            f"{_ms(was)} → {_ms(now)} for the median call; no verdict: {reason}",
            was,
            now,
            n=found.n,
        )
    word = WORSE if found.low > 1 + tolerance else BETTER if found.high < 1 / (1 + tolerance) else SAME
    told = (
        f"median call {_ms(was)} → {_ms(now)}: {found.value:.3f} times, 95 % interval {found.low:.3f} to {found.high:.3f}, "
        f"over {found.n} rows"
    )
    return Change("latency", word, told, was, now, found.low, found.high, found.n)


def _ms(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{figure(seconds * 1000)} ms"


def _single(what: str, old: int | None, new: int | None, tolerance: float, why: str | None) -> Change:
    if why or old is None or new is None or not old:
        reason = why or "not known in both"
        return Change(what, UNKNOWN, f"no verdict: {reason}", old, new)
    ratio = new / old
    word = WORSE if ratio > 1 + tolerance else BETTER if ratio < 1 / (1 + tolerance) else SAME
    return Change(what, word, f"{what} {megabytes(old)} → {megabytes(new)} MB: {ratio:.3f} times", old, new)
