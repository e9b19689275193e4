"""The results folder of `edge bench` (its layout: bench/matrix.py): what is of other rows makes room, and what it is about."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from edge import records
from edge.bench import profiles
from edge.bench.plan import BENCH, EARLIER, SCHEMA, UNKNOWN, WORKLOADS, Cell, Plan
from edge.errors import EdgeError
from edge.records import Json, Measurement

_RATES_ALONE = tuple(
    f".{p.name}.{end}" for p in profiles.PROFILES.values() if not p.answers for end in ("json", "partial")
)


def make_room(out: Path, plan: Plan) -> str | None:
    """The folder for these rows: what is of others goes to `earlier/`, and what is of these comes back from there.

    Returns the digest of the rows that the folder is of; rates alone have no rows of their own.
    """
    told = records.read_json(out / BENCH) if (out / BENCH).is_file() else {}
    of = told.get("workload")
    if not plan.profile.answers:
        return str(of) if of else None
    if of not in (None, plan.digest):
        _move(out, out / EARLIER / of[:12], stays=_RATES_ALONE)
    back = out / EARLIER / plan.digest[:12]
    if back.is_dir() and of != plan.digest:
        _move(back, out)
        with contextlib.suppress(OSError):  # somebody put something into it
            back.rmdir()
    file = out / WORKLOADS / f"{plan.digest[:12]}.jsonl"
    if not file.is_file() or records.digest_file(file) != plan.digest:
        records.write_text(file, plan.workload)
    return plan.digest


def _move(source: Path, target: Path, stays: tuple[str, ...] = ()) -> None:
    """What a bench wrote there, file by file; the folder may hold other things. stays: endings of what is of no rows."""
    target.mkdir(parents=True, exist_ok=True)
    told = records.read_json(source / BENCH) if (source / BENCH).is_file() else {}
    devices = {name for one in told.get("runs") or [] for name in one.get("devices") or []}
    devices |= {
        entry.name
        for entry in source.iterdir()
        if entry.name != EARLIER and any(map(_is_measured, entry.glob("*.json")))
    }
    for name in (WORKLOADS, *sorted(devices)):
        for file in sorted((source / name).glob("*")):
            place = target / name / file.name
            if not file.name.endswith(stays) and not place.exists():
                place.parent.mkdir(exist_ok=True)
                file.rename(place)
        with contextlib.suppress(OSError):  # something stays in it, or it is not there
            (source / name).rmdir()
    for name in ("report.html", "report.json", BENCH):  # last: without it the rest would be nobody's
        if (source / name).is_file():
            (source / name).rename(target / name)


def _is_measured(file: Path) -> bool:
    with contextlib.suppress(EdgeError):
        told = records.read_json(file)
        return isinstance(told, dict) and {"subject", "workload", "runtime"} <= set(told)
    return False


def is_measured(plan: Plan, cell: Cell) -> bool:
    """Whether there is a record of this artifact on this device, in whatever runtime, of rows or rates as is planned."""
    for file in (plan.out / cell.device).glob("*.json"):
        if f".{UNKNOWN}.t0." in file.name or file.name.endswith(_RATES_ALONE) is plan.profile.answers:
            continue
        with contextlib.suppress(EdgeError):
            if records.load(Measurement, file).subject == cell.subject.digest:
                return True
    return False


def write_down(out: Path, plan: Plan, workload: str | None, entry: Json) -> None:
    """bench.json, this run's entry the last one."""
    told: Json = records.read_json(out / BENCH) if (out / BENCH).is_file() else {}
    known = told.get("subjects") or {}
    runs = list(told.get("runs") or [])
    if entry["ended_at"]:
        runs.pop()  # its own beginning; not found by its time, which is another's too if the clock was set back
    made = {
        "schema": SCHEMA,
        "dialect": plan.dialect,
        "workload": workload,
        "baseline": plan.baseline.subject.name if plan.baseline else told.get("baseline"),
        "project": plan.project,
        "rows": len(plan.rows) if plan.profile.answers else told.get("rows"),
        "subjects": {**known, **{name: dataclasses.asdict(a) for name, a in plan.artifacts.items()}},
        "runs": [*runs, entry],
    }
    records.save(made, out / BENCH)
