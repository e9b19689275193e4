"""A cell of `edge bench` that is being measured, with its journal: what a round still lacks, and the record that it comes to."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edge import records
from edge.bench import measure, profiles, stats
from edge.bench.journal import Journal, sample
from edge.bench.measure import Session
from edge.bench.plan import LOCAL, Cell, Plan
from edge.bench.profiles import Profile
from edge.console import Console
from edge.environments import Environment
from edge.errors import EdgeError
from edge.records import Json, Measurement, Sample, digest_value

_VITALS_S = 10.0  # how often this machine is looked at while it answers


class Running:
    """One cell.

    Args:
        workload: the digest of its rows.
        file: of the record; the journal lies beside it.
        log: where the runtime's words go.
        stop: raises Stopped soon after it is set.
    """

    def __init__(
        self,
        cell: Cell,
        device: Any,
        environment: Environment,
        plan: Plan,
        workload: str,
        file: Path,
        log: Path,
        console: Console,
        stop: threading.Event,
    ) -> None:
        self._cell, self._device, self._environment, self._plan = cell, device, environment, plan
        self._workload, self._file, self._log, self._console, self._stop = workload, file, log, console, stop
        self._facts: Json = device.facts()
        self._mark = self._mark_of(plan.profile)
        self.journal = Journal(self._file.with_name(f"{cell.name}.{plan.profile.name}.partial"), self._mark)
        told = self.journal.all("vitals")
        self._began = time.monotonic() - (told[-1]["at_s"] if told else 0.0)

    @property
    def rows_answered(self) -> int:
        return len({s["row"] for s in self.journal.all("sample")})

    def kept(self) -> Measurement | None:
        """What lies there if it is whole, of the same key, and at least as thorough; the journal goes then."""
        if not self._file.is_file():
            return None
        with contextlib.suppress(EdgeError):
            found = records.load(Measurement, self._file)
            thorough = [p for p in profiles.PROFILES.values() if self._plan.profile.name in (p.name, *p.covers)]
            if not found.error and found.settings.get("key") in [self._mark_of(p) for p in thorough]:
                self.journal.remove()
                return found
        return None

    def _mark_of(self, profile: Profile) -> str:
        workload = self._workload if profile.answers else ""
        cell = self._cell
        key = measure.key(cell.subject, cell.settings, workload, self._environment.facts, self._facts)
        return digest_value([key, profile.name])

    # measuring

    def round(self, n: int, progress: Callable[[], None]) -> None:
        """What this round still lacks, in a session of its own. Raises WorkerError, WorkerCrash, DeviceError, Stopped."""
        rows = [row for row in self._part(n) if not self.journal.answered(row["id"], n)]
        if not rows and not self._lacking_rates(n):
            return
        self._look(n)
        cell = self._cell
        session = Session(cell.subject, cell.settings, self._device, self._environment, self._log, self._stop)
        many = f", {len(rows)} rows" if rows else ""
        with self._console.task(f"{cell}, round {n + 1}{many}") as task:
            try:
                with session.loaded(cold=not self.journal.all("load")) as ask:
                    self._loaded(session.facts, n)
                    self._rates(ask, n, session.facts)
                    self._answer(ask, session, rows, n, progress, task)
            finally:
                self.journal.add("part", {"rows": 0, "round": n, "peak_rss_bytes": session.peak_rss_bytes})
        self._look(n)

    def _part(self, n: int) -> list[Json]:
        """The rows of a round: every rounds-th, so that all parts are alike."""
        rounds = self._plan.profile.rounds
        return self._plan.rows[n % rounds :: rounds] if self._plan.profile.answers else []

    def _loaded(self, facts: Json, n: int) -> None:
        self.journal.add("facts", {**facts, "at": now()})
        if facts.get("load_s") is not None:
            load = {"load_s": facts["load_s"], "file_cache": facts.get("file_cache"), "round": n}
            self.journal.add("load", load)

    def _lacking_rates(self, n: int) -> list[tuple[int, int]]:
        """Shapes to ask for in this round, as often as they are lacking. What an artifact has no room for is left out of
        a profile that answers rows besides."""
        profile = self._plan.profile
        facts = self.journal.all("facts")
        if n >= profile.rounds or (profile.answers and facts and not facts[-1].get("rates")):
            return []
        artifact = self._plan.artifacts[self._cell.subject.name]
        room = min(self._cell.settings.context, artifact.context_tokens or self._cell.settings.context)
        lacking: list[tuple[int, int]] = []
        for shape in profile.shapes:
            if profile.answers and sum(shape) + 1 > room:
                continue
            have = sum(1 for r in self.journal.all("rates") if r["round"] == n and r["shape"] == list(shape))
            lacking += [shape] * (profile.repetitions - have)
        return lacking

    def _rates(self, ask: Any, n: int, facts: Json) -> None:
        if not facts.get("rates"):
            if not self._plan.profile.answers:
                raise EdgeError(
                    f"{self._cell.settings.runtime} tells no rates", "measure it with --profile quick or full"
                )
            return
        warm: set[tuple[int, int]] = set()
        for shape in self._lacking_rates(n):
            request = {"do": "rates", "prefill": shape[0], "decode": shape[1]}
            if shape not in warm:
                _last(ask, request)
                warm.add(shape)
            told = _last(ask, request)
            told.pop("peak_rss_bytes", None)
            self.journal.add("rates", {**told, "round": n, "shape": list(shape)})

    def _answer(
        self, ask: Any, session: Session, rows: list[Json], n: int, progress: Callable[[], None], task: Any
    ) -> None:
        if not rows:
            return
        before, done, last = self._look(n), 0, {}
        with self._watched(n):
            try:
                for message in ask(session.run_of(rows)):
                    if "sample" in message:
                        self.journal.add("sample", sample(message["sample"], n), cpu_s=message.get("cpu_s"))
                        done += 1
                        task(done, len(rows))
                        progress()
                    else:
                        last = message["ok"]
            finally:
                after = self._look(n) if last else {}
                part = {
                    "rows": done,
                    "round": n,
                    "energy_j": _spent(before, after),
                    "cache_bytes": last.get("cache_bytes"),
                }
                self.journal.add("part", part)

    def _look(self, n: int) -> Json:
        """The device as it is now, put down."""
        told: Json = self._device.vitals()
        self.journal.add("vitals", {"at_s": round(time.monotonic() - self._began, 3), "round": n, **told})
        return told

    @contextlib.contextmanager
    def _watched(self, n: int) -> Iterator[None]:
        """This machine is looked at now and then while it answers. On another one the looking would be in the figures."""
        if self._device.kind != LOCAL:
            yield
            return
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_VITALS_S):
                self._look(n)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def known_well_enough(self) -> bool:
        """Whether the median call's interval is as narrow as the profile wants it."""
        middle = stats.median(s.call_s for s in self.journal.samples if not s.error)
        narrow = self._plan.profile.narrow
        if narrow is None:
            return True
        if not middle.value or middle.low is None or middle.high is None:
            return not middle.n  # a runtime that tells no times never will
        return (middle.high - middle.low) / 2 <= narrow * middle.value

    # what it came to

    def save(self, made: Measurement, whole: bool = True) -> None:
        """whole: nothing is left to measure, so the journal goes."""
        records.save(made, self._file)
        if whole:
            self.journal.remove()

    def record(self, error: Json | None = None) -> Measurement:
        journal, cell = self.journal, self._cell
        told = journal.all("facts")
        facts = told[-1] if told else {}
        loads, vitals = journal.all("load"), journal.all("vitals")
        load = next((one for one in reversed(loads) if one["file_cache"] != "cold"), loads[-1] if loads else {})
        first, last = (vitals[0], vitals[-1]) if vitals else ({}, {})
        bytes_there = facts.get("file_bytes")
        return Measurement(
            subject=cell.subject.digest,
            subject_name=cell.subject.name,
            subject_kind=cell.subject.kind,
            format=cell.subject.format,
            runtime=cell.settings.runtime,
            runtime_version=facts.get("runtime_version"),
            device=self._facts,
            workload=self._workload,
            threads=cell.settings.threads,
            file_bytes=self._plan.artifacts[cell.subject.name].bytes if bytes_there is None else bytes_there,
            load_s=load.get("load_s"),
            file_cache=load.get("file_cache"),
            peak_rss_bytes=journal.most("peak_rss_bytes"),
            samples=self._in_order(journal.samples),
            prefix_cache=False,
            environment=self._environment.facts,
            settings={**dataclasses.asdict(cell.settings), **facts.get("settings", {}), "key": self._mark},
            load_average_before=first.get("load_average"),
            load_average_after=last.get("load_average"),
            throttled=_throttled(vitals),
            temperature_before_c=first.get("temperature_c"),
            temperature_after_c=last.get("temperature_c"),
            clock_before_hz=first.get("clock_hz"),
            clock_after_hz=last.get("clock_hz"),
            started_at=told[0]["at"] if told else now(),
            error=error,
            profile=self._plan.profile.name,
            loads=loads,
            rates=journal.all("rates"),
            vitals=vitals,
            cpu_s=journal.cpu_s,
            energy_j=journal.energy_j,
            cache_bytes=journal.most("cache_bytes"),
        )

    def _in_order(self, samples: list[Sample]) -> list[Sample]:
        """As the rows are, of each row by round."""
        place = {row["id"]: n for n, row in enumerate(self._plan.rows)}
        return sorted(samples, key=lambda s: (place.get(s.row, len(place)), s.round or 0))


def _last(ask: Any, request: Json) -> Json:
    return next(dict(message["ok"]) for message in ask(request))


def _throttled(vitals: Sequence[Json]) -> bool | None:
    """Whether it was slowed down when it was looked at, or said afterwards that it had been for the first time since it started."""
    now, ever = ([v[key] for v in vitals if v.get(key) is not None] for key in ("throttled", "throttled_since_boot"))
    if not now:
        return None
    return any(now) or (bool(ever) and ever[-1] and not ever[0])


def _spent(before: Json, after: Json) -> float | None:
    """Joules between two looks; a counter that began anew tells nothing."""
    first, last = before.get("energy_j"), after.get("energy_j")
    return None if first is None or last is None or last < first else float(last - first)


def unbegun(cell: Cell, facts: Json, workload: str, plan: Plan, error: EdgeError) -> Measurement:
    """The record of a cell that could not begin."""
    return Measurement(
        subject=cell.subject.digest,
        subject_name=cell.subject.name,
        subject_kind=cell.subject.kind,
        format=cell.subject.format,
        runtime=cell.settings.runtime,
        runtime_version=None,
        device=facts,
        workload=workload,
        threads=cell.settings.threads or None,
        file_bytes=plan.artifacts[cell.subject.name].bytes,
        settings=dataclasses.asdict(cell.settings),
        started_at=now(),
        error=error.to_json(),
        profile=plan.profile.name,
    )


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
