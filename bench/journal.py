"""What is known of an unfinished measurement: a file that grows by a line a time, so that nothing is measured twice.

    {"key": …}                       first; a journal with another key is another measurement's, and begun anew
    {"facts": {…}}                   what the runtime said when it was loaded
    {"load": {…}}                    an entry of Measurement.loads, likewise of `rates` and of `vitals`
    {"sample": {…}, "cpu_s": S}      a row's answer, with its round
    {"part": {…}}                    of one session: "rows", "energy_j", "peak_rss_bytes", "cache_bytes"

A line that was cut short by the end of its process is dropped.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge import records
from edge.records import Json, Sample

KINDS = ("facts", "load", "rates", "vitals", "sample", "part")


class Journal:
    def __init__(self, path: Path, key: str) -> None:
        self._path, self._lock = path, threading.Lock()
        self._entries: dict[str, list[Json]] = {kind: [] for kind in KINDS}
        self._answered: set[tuple[str, int | None]] = set()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [json.dumps({"key": key})]
        if lines and lines[0] == kept[0]:
            for entry in map(_read, lines[1:]):
                if entry:
                    kept.append(json.dumps(entry))
                    self._remember(entry)
        records.write_text(path, "".join(f"{line}\n" for line in kept))

    def add(self, kind: str, value: Json, **more: Any) -> None:
        """Also from another thread."""
        entry = {kind: value, **more}
        with self._lock:
            with self._path.open("a", encoding="utf-8") as f:
                f.write(json.dumps(entry) + "\n")
            self._remember(entry)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def all(self, kind: str) -> list[Json]:
        return [entry[kind] for entry in self._entries[kind]]

    def answered(self, row: str, number: int) -> bool:
        """Whether there is an answer to this row in this round."""
        return (row, number) in self._answered

    @property
    def samples(self) -> list[Sample]:
        return [Sample(**value) for value in self.all("sample")]

    @property
    def cpu_s(self) -> float | None:
        """Of all answers together; None unless every one's is known."""
        spent = [entry.get("cpu_s") for entry in self._entries["sample"]]
        return _sum(spent)

    @property
    def energy_j(self) -> float | None:
        """Of all answers together; None if a session was cut off, since what its rows took is not known."""
        parts = [part for part in self.all("part") if part["rows"]]
        if sum(part["rows"] for part in parts) != len(self._entries["sample"]):
            return None
        return _sum([part.get("energy_j") for part in parts])

    def most(self, field: str) -> int | None:
        """The largest of a field over all parts."""
        return max((part[field] for part in self.all("part") if part.get(field) is not None), default=None)

    def _remember(self, entry: Json) -> None:
        kind = next(k for k in KINDS if k in entry)
        self._entries[kind].append(entry)
        if kind == "sample":
            self._answered.add((entry["sample"]["row"], entry["sample"].get("round")))


def sample(told: Json, number: int) -> Json:
    """A sample as an agent sends it, as an entry of the round."""
    return asdict(Sample(**{**told, "round": number}))


def _read(line: str) -> Json | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        entry = json.loads(line)
        kind = next(iter(_kinds(entry)), None)
        if kind == "sample":
            Sample(**entry["sample"])
        if kind and isinstance(entry[kind], dict):
            return dict(entry)
    return None


def _kinds(entry: Any) -> Iterator[str]:
    return (kind for kind in KINDS if kind in entry)


def _sum(values: list[Any]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if known and len(known) == len(values) else None
