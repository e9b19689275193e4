"""What lies in a results folder of `edge bench` (the layout: bench/matrix.py), read and checked.

A measurement that a phone's own app wrote (`edge handoff android`) is read the same way, once it lies in a device's folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import records
from edge.bench.profiles import PROFILES
from edge.bench.score import Score, score
from edge.errors import EdgeError
from edge.records import Artifact, Json, Measurement

INDEX = "bench.json"
SCHEMA = 1
EARLIER = "earlier"
_NO_DEVICES = frozenset({"workloads", EARLIER})


@dataclass(frozen=True)
class Cell:
    """One measurement: a subject in a runtime on a device with so many threads. `device` is its folder's name."""

    device: str
    name: str
    file: Path
    measurement: Measurement
    score: Score | None  # None of a measurement without samples, which was asked for rates alone

    @property
    def place(self) -> tuple[str, str, str, int | None]:
        """What makes two measurements the same cell."""
        return self.device, self.name, self.measurement.runtime, self.measurement.threads

    @property
    def key(self) -> str:
        return "/".join(str(part) for part in self.place if part is not None)

    @property
    def emulated(self) -> bool:
        return bool(self.measurement.device.get("emulated"))

    @property
    def is_artifact(self) -> bool:
        return self.measurement.subject_kind == "artifact"

    @property
    def missing(self) -> int:
        return self.score.count("missing") if self.score else 0

    @property
    def complete(self) -> bool:
        return bool(self.score and self.score.outcomes) and not self.missing and not self.measurement.error


@dataclass(frozen=True)
class Results:
    """cells: answered rows of the workload. rates: measured for their rates alone. notes: what was left out, in words."""

    folder: Path
    project: str
    dialect: str
    workload: str
    rows: list[Json]
    baseline: str | None
    artifacts: dict[str, Artifact]  # by digest
    cells: list[Cell]
    rates: list[Cell]
    notes: list[str]

    @property
    def devices(self) -> list[str]:
        """Those that anything was measured on: this machine first, emulated ones last."""
        emulated = {c.device for c in [*self.cells, *self.rates] if c.emulated}
        names = {c.device for c in [*self.cells, *self.rates]}
        return sorted(names, key=lambda d: (d in emulated, d != "local", d))

    @functools.cached_property
    def reference(self) -> Cell | None:
        """The float checkpoint that artifacts are compared with, where it was measured."""
        found = [c for c in self.cells if c.name == self.baseline and not c.is_artifact and c.score]
        return min(found, key=lambda c: (c.missing, c.device != "local", c.key), default=None)


def read(folder: Path, workload: str | None = None) -> Results:
    """Everything in a results folder that belongs to one workload.

    Args:
        workload: the beginning of its digest; by default the one that was measured last.

    Raises EdgeError for what is no results folder, is of a newer version, is broken, or has no measurement.
    """
    index = _index(folder)
    measured = [(device, file, records.load(Measurement, file)) for device, file in _files(folder)]
    if not measured:
        raise EdgeError(f"{folder}: nothing was measured yet", "edge bench ARTIFACT... measures")
    chosen, notes = _choose(folder, index, [m for _, _, m in measured], workload)
    rows = _rows(folder, chosen) if any(not _rates_alone(m) for _, _, m in measured) else []
    names = {value.get("digest"): name for name, value in _subjects(index).items()}
    cells: dict[Any, Cell] = {}
    rates: dict[Any, Cell] = {}
    for device, file, m in sorted(measured, key=lambda it: it[2].started_at or ""):
        alone = _rates_alone(m)
        if m.workload != chosen and not alone:
            continue
        name = _name(m, _subjects(index), names)
        cell = Cell(device, name, file, m, None if alone else score(rows, m, index["dialect"]))
        into, key = (rates, (cell.place, m.profile)) if alone else (cells, cell.place)
        if key in into:
            notes.append(f"{into[key].file.relative_to(folder)}: left out, {file.name} is newer and of the same")
        into[key] = cell
    notes += [f"{f.relative_to(folder)}: unfinished; edge bench goes on with it" for f in _unfinished(folder)]
    notes += earlier(folder)
    return Results(
        folder, str(index.get("project") or folder.resolve().name), index["dialect"], chosen, rows, index.get("baseline"),
        {a.digest: a for a in map(_artifact, _subjects(index).values()) if a}, list(cells.values()), list(rates.values()), notes,
    )  # fmt: skip


def earlier(folder: Path) -> list[str]:
    """A sentence for each folder of results that a bench of other rows has put aside, and how to see them."""
    notes = []
    for file in sorted((folder / EARLIER).glob(f"*/{INDEX}")):
        with contextlib.suppress(EdgeError):  # one that can't be read keeps nothing back of these results
            index = _index(file.parent)
            artifacts = len([a for a in map(_artifact, _subjects(index).values()) if a])
            many = f"{artifacts} artifacts were" if artifacts != 1 else "1 artifact was"
            place = shlex.quote(str(file.parent))
            notes.append(
                f"{many} measured over other rows ({index.get('rows')}, workload {file.parent.name}): "
                f"edge report {place} (edge pick takes it as --results)"
            )
    return notes


def _index(folder: Path) -> Json:
    file = folder / INDEX
    if not folder.is_dir():
        raise EdgeError(
            f"{folder}: no such folder", "edge bench ARTIFACT... writes results/bench; or name another folder"
        )
    if not file.is_file():
        hint = "edge bench writes one with its results"
        if (folder / "report.html").is_file() and (folder / "report.json").is_file():
            hint = f"these are the results of edge run or edge eval, whose page lies there: {folder / 'report.html'}"
        elif (folder / "bench" / INDEX).is_file():
            hint = f"the results of edge bench lie in {folder / 'bench'}"
        raise EdgeError(f"{folder}: no {INDEX}, so these are no results of edge bench", hint)
    index = records.read_json(file)
    if not isinstance(index, dict) or not isinstance(index.get("schema"), int):
        raise EdgeError(f"{file}: no schema number, so not written by edge bench")
    if index["schema"] > SCHEMA:
        raise EdgeError(
            f"{file}: written by a newer edge (schema {index['schema']}, this one reads {SCHEMA})", "upgrade edgecall"
        )
    if not isinstance(index.get("dialect"), str) or not isinstance(index.get("subjects", {}), dict):
        raise EdgeError(f"{file}: lacks dialect or subjects", "run edge bench again: it writes the file anew")
    return index


def _subjects(index: Json) -> dict[str, Json]:
    return {k: v for k, v in index.get("subjects", {}).items() if isinstance(v, dict)}


def _name(m: Measurement, subjects: dict[str, Json], names: dict[Any, str]) -> str:
    """The subject's name in this folder; of a file that is not the folder's own of that name, with its digest."""
    if m.subject in names:
        return names[m.subject]
    return f"{m.subject_name}@{m.subject[:8]}" if m.subject_name in subjects else m.subject_name


def _rates_alone(m: Measurement) -> bool:
    profile = PROFILES.get(m.profile or "")
    return not m.samples and (bool(m.rates) or bool(profile and not profile.answers))


def _artifact(value: Json) -> Artifact | None:
    known = {k: v for k, v in value.items() if k in Artifact.__dataclass_fields__}
    try:
        return Artifact(**known)
    except TypeError:
        return None  # a checkpoint's entry


def _device_folders(folder: Path) -> list[Path]:
    return sorted(
        d for d in folder.iterdir() if d.is_dir() and d.name not in _NO_DEVICES and not d.name.startswith(".")
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(device, file) of every measurement."""
    for device in _device_folders(folder):
        yield from ((device.name, f) for f in sorted(device.glob("*.json")) if not f.name.startswith("."))


def _unfinished(folder: Path) -> list[Path]:
    return [f for device in _device_folders(folder) for f in sorted(device.glob("*.partial")) if f.name[0] != "."]


def _choose(folder: Path, index: Json, measured: Sequence[Measurement], wanted: str | None) -> tuple[str, list[str]]:
    """The workload's digest, and a sentence if measurements of others lie there."""
    there = Counter(m.workload for m in measured if not _rates_alone(m))
    if not there and wanted is None:  # rates alone need no rows
        return str(index.get("workload") or measured[-1].workload), []
    newest = max(measured, key=lambda m: (m.workload in there, m.started_at or "")).workload
    chosen = index["workload"] if index.get("workload") in there else newest
    if wanted is not None:
        fit = [digest for digest in there if digest.startswith(wanted)] if wanted else []
        if len(fit) != 1:
            known = ", ".join(f"{digest[:12]} ({n} measurements)" for digest, n in there.most_common())
            raise EdgeError(f"{folder}: {len(fit) or 'no'} workloads begin with {wanted!r}", f"measured were {known}")
        chosen = fit[0]
    others = [f"{digest[:12]} ({n})" for digest, n in there.most_common() if digest != chosen]
    if not others:
        return chosen, []
    why = "as asked" if wanted is not None else "the newest"
    return chosen, [
        f"shown is workload {chosen[:12]}, {why}; measurements of other rows are left out: {', '.join(others)} (--workload)"
    ]


def _rows(folder: Path, workload: str) -> list[Json]:
    file = folder / "workloads" / f"{workload[:12]}.jsonl"
    if not file.is_file():
        raise EdgeError(
            f"{file}: missing: these are the rows that were measured", "copy it from where they were measured"
        )
    if records.digest_file(file) != workload:
        raise EdgeError(
            f"{file}: altered since the rows were measured", "restore it: answers can't be scored by other rows"
        )
    found = []
    for number, line in records.read_lines(file):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise EdgeError(f"{file}, line {number}: not JSON: {error}") from None
    return found
