"""`edge bench`: artifacts x runtimes x devices x threads, measured so that the figures can stand side by side.

What lies in the results folder (OUT), and is all that `edge report` reads:

    OUT/bench.json                          {"schema": 1, "dialect", "workload": digest, "baseline": subject name or null,
                                             "project": name, "rows": how many, "subjects": {name: an edge.records.Artifact},
                                             "runs": [{"started_at", "ended_at" or null, "profile", "devices", "failed"}]}
    OUT/workloads/DIGEST12.jsonl            the rows with what they expect: {"id", "prompt", "messages", "tools", "expected",
                                             "user"}; DIGEST12: the first 12 of the workload's digest, which is the file's
    OUT/DEVICE/NAME.RUNTIME.tN.json         a Measurement with samples (profile quick or full)
    OUT/DEVICE/NAME.RUNTIME.tN.PROFILE.json a Measurement with `rates` alone, no samples (llama-bench, model-card)
    OUT/DEVICE/….partial                    the journal of an unfinished one (bench/journal.py)
    OUT/DEVICE/….log                        what the runtime printed
    OUT/earlier/DIGEST12/                   the same again, of other rows: moved there when the rows change, and back

DEVICE is a device's name ("local"), N the threads. NAME is the subject's name, once in a folder: "q8_0" for GGUF,
FORMAT-QUANTISATION for others, and the file's own name where two would be called the same. The float checkpoint that the
artifacts were made from is measured too, on this machine by transformers: OUT/local/NAME.transformers.tN.json, subject_kind
"checkpoint"; `baseline` is its name. Of all Measurements in OUT those of `workload` belong together.

In a Measurement: samples of a row that was answered several times follow each other by round (`Sample.round`), the first
one is the one to score. `loads` has one entry a round, `vitals` the device before, between and after rounds (on this
machine every ten seconds in between as well). A cell that failed has an `error` and what was measured before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from edge import archive, records
from edge.bench import measure, plan, profiles, report, score, stats
from edge.bench.journal import Journal, sample
from edge.bench.measure import Session, Stopped
from edge.bench.plan import BENCH, EARLIER, SCHEMA, WORKLOADS, Cell, Plan, Wish
from edge.bench.profiles import Profile
from edge.console import Console
from edge.devices import Lost, inventory
from edge.environments import Environment
from edge.errors import DeviceError, EdgeError
from edge.records import Json, Measurement, Report, Sample, digest_value

_VITALS_S = 10.0  # how often this machine is looked at while it answers
_BACK_OFF_S, _LONGEST_S, _PATIENCE_S = 2.0, 60.0, 300.0  # first and longest wait for a device, and all waits in a row
_GRACE_S = 15.0  # after Ctrl-C: until sessions have ended


@dataclass
class State:
    """How far a cell is. what: "waiting", "round 2", "done", "measured already", "failed"."""

    cell: Cell
    what: str = "waiting"
    done: int = 0
    rows: int = 0
    right: float | None = None  # share of the rows so far
    call_s: float | None = None  # median so far
    error: Json | None = None


Watch = Callable[[Sequence[State]], None]


@dataclass
class Outcome:
    """What there is after a run. measurements: of all cells that have one, the baseline's first. failed: those states."""

    plan: Plan
    measurements: list[tuple[Cell, Measurement, Path]]
    failed: list[State] = field(default_factory=list)


def run(wish: Wish, console: Console, watch: Watch | None = None) -> Outcome:
    """Measure what isn't measured yet. A cell that fails is a record with an error, and the others go on.

    Args:
        watch: called with the states of all cells when one of them changes, from any thread.

    Raises: EdgeError for what can't be measured and DeviceError for a device that isn't there, before anything runs;
    KeyboardInterrupt after everything that was measured is kept.
    """
    out = plan.out_of(wish).absolute()
    with _held(digest_value(str(out)), f"into {out}", console, threading.Event()):
        return _Matrix(plan.make(wish, console), console, watch or (lambda states: None)).run()


def reports(outcome: Outcome) -> dict[str, Report]:
    """The figures of each device, the checkpoint's beside them; none where only rates were asked for."""
    found = {}
    plan = outcome.plan
    for device in dict.fromkeys(cell.device for cell in plan.cells) if plan.profile.answers else ():
        ours = [(c, m, f) for c, m, f in outcome.measurements if device == c.device or c == plan.baseline]
        ours = [(c, m, f) for c, m, f in ours if m.workload == plan.digest]
        names = _names([cell for cell, _, _ in ours])
        found[device] = report.build(
            plan.project,
            plan.digest,
            plan.rows,
            [dataclasses.replace(m, subject_name=names[cell]) for cell, m, _ in ours],
            list(plan.artifacts.values()),
            dialect=plan.dialect,
            sources={names[cell]: str(file.relative_to(plan.out)) for cell, _, file in ours},
            baseline=plan.baseline.subject.name if plan.baseline else report.TUNED,
        )
    return found


def _names(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Each once in a table: with the runtime and the threads where there are several."""
    found = {}
    for cell in cells:
        same = [c for c in cells if c.subject.name == cell.subject.name]
        runtime = f" {cell.settings.runtime}" if len({c.settings.runtime for c in same}) > 1 else ""
        threads = f" t{cell.settings.threads}" if len({c.settings.threads for c in same}) > 1 else ""
        found[cell] = f"{cell.subject.name}{runtime}{threads}"
    return found


@contextlib.contextmanager
def _held(name: str, what: str, console: Console, stop: threading.Event) -> Iterator[None]:
    """One at a time among all processes of this user; a second one waits. The lock ends with its process."""
    file = archive.cache().parent / "locks" / f"bench-{name[:16]}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        console.say(f"another edge bench measures {what}: waiting for it")
        while not lock.is_locked:
            if stop.is_set():
                raise Stopped from None
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.5, poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()


class _Matrix:
    def __init__(self, plan: Plan, console: Console, watch: Watch) -> None:
        self.plan, self.console, self._watch = plan, console, watch
        self.stop = threading.Event()
        cells = [*([plan.baseline] if plan.baseline else []), *plan.cells]
        self.states = {cell: State(cell, rows=len(plan.rows) if plan.profile.answers else 0) for cell in cells}

    def run(self) -> Outcome:
        out, now = self.plan.out, _now()
        self.workload = _make_room(out, self.plan)
        entry: Json = {"started_at": now, "ended_at": None, "profile": self.plan.profile.name, "failed": None,
                       "devices": list(dict.fromkeys(cell.device for cell in self.states))}  # fmt: skip
        _write_down(out, self.plan, self.workload, entry)
        self.changed()
        devices = [_Device(name, self) for name in entry["devices"]]
        for device in devices:
            device.start()
        try:
            while any(device.is_alive() for device in devices):
                time.sleep(0.1)
        except KeyboardInterrupt:
            self.stop.set()
            self.console.say(f"stopping; what was measured is kept in {out}, and the same command goes on from there")
            end = time.monotonic() + _GRACE_S
            for device in devices:
                device.join(max(0.0, end - time.monotonic()))
            raise
        for device in devices:
            if device.fault:
                raise device.fault
        failed = [state for state in self.states.values() if state.error]
        entry.update(ended_at=_now(), failed=len(failed))
        _write_down(out, self.plan, self.workload, entry)
        return Outcome(self.plan, self._measurements(), failed)

    def changed(self) -> None:
        self._watch(list(self.states.values()))

    def file(self, cell: Cell, ending: str = "json") -> Path:
        profile = self.plan.profile
        name = cell.name if profile.answers or ending == "log" else f"{cell.name}.{profile.name}"
        return self.plan.out / cell.device / f"{name}.{ending}"

    def _measurements(self) -> list[tuple[Cell, Measurement, Path]]:
        files = [(cell, self.file(cell)) for cell in self.states]
        return [(cell, records.load(Measurement, file), file) for cell, file in files if file.is_file()]


# --- the results folder -----------------------------------------------------------------------------------------------


def _make_room(out: Path, plan: Plan) -> str | None:
    """The folder for these rows: what is of others goes to `earlier/`, and what is of these comes back from there.

    Returns the digest of the rows that the folder is of; rates alone have no rows of their own.
    """
    told = records.read_json(out / BENCH) if (out / BENCH).is_file() else {}
    of = told.get("workload")
    if not plan.profile.answers:
        return str(of) if of else None
    if of not in (None, plan.digest):
        _move(out, out / EARLIER / of[:12])
    back = out / EARLIER / plan.digest[:12]
    if back.is_dir() and of != plan.digest:
        _move(back, out)
        back.rmdir()
    file = out / WORKLOADS / f"{plan.digest[:12]}.jsonl"
    if not file.is_file() or records.digest_file(file) != plan.digest:
        records.write_text(file, plan.workload)
    return plan.digest


def _move(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir(), key=lambda e: e.name == BENCH):  # last: without it the rest would be nobody's
        if entry.name != EARLIER:
            entry.rename(target / entry.name)


def _write_down(out: Path, plan: Plan, workload: str | None, entry: Json) -> None:
    """bench.json, this run's entry the last one."""
    told: Json = records.read_json(out / BENCH) if (out / BENCH).is_file() else {}
    known = told.get("subjects") or {}
    runs = [one for one in told.get("runs") or [] if one.get("started_at") != entry["started_at"]]
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


# --- a device ---------------------------------------------------------------------------------------------------------


class _Device(threading.Thread):
    """All cells of a device, one after the other, in a thread of its own.

    fault: what ended it that is no cell's failure, such as a full disk here.
    """

    def __init__(self, name: str, matrix: _Matrix) -> None:
        super().__init__(name=f"bench {name}", daemon=True)
        self._name, self._matrix, self._plan = name, matrix, matrix.plan
        self._cells = [cell for cell in matrix.plan.cells if cell.device == name]
        self._open: dict[Cell, _Running] = {}
        self._answers = 0  # of this run
        self._began = time.monotonic()
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            entry = inventory.get(self._name)
            with _held(digest_value(entry.address), f"on {self._name}", self._matrix.console, self._matrix.stop):
                self._began = time.monotonic()
                self._patiently()
        except Stopped:
            pass
        except BaseException as error:
            self.fault = error

    def _patiently(self) -> None:
        """Until all is measured. A device that is lost is waited for; what was measured meanwhile makes the wait a new one."""
        tries, waited, seen = 0, 0.0, -1
        while True:
            try:
                with inventory.device(inventory.get(self._name)) as device:
                    self._measure(device)
                return
            except DeviceError as error:
                if not isinstance(error, Lost):  # a refused key, another host's: no wait helps
                    self._give_up(error)
                    return
                if self._answers > seen:
                    tries, waited, seen = 0, 0.0, self._answers
                wait = min(_BACK_OFF_S * 2**tries, _LONGEST_S)
                if waited + wait > _PATIENCE_S:
                    self._give_up(error)
                    return
                self._matrix.console.say(f"{self._name}: {error.message}; trying again in {wait:g} s")
                if self._matrix.stop.wait(wait):
                    raise Stopped from None
                tries, waited = tries + 1, waited + wait

    def _measure(self, device: Any) -> None:
        if (baseline := self._plan.baseline) and baseline.device == self._name:
            self._baseline(device, baseline)
        profile = self._plan.profile
        self._open = {}
        for cell in self._unfinished():
            with self._failing(cell):
                self._begin(device, cell)
        for n in range(profile.rounds):
            self._round(n)
        for n in range(profile.rounds, profile.most_rounds if profile.answers else 0):
            if not self._open or time.monotonic() - self._began >= self._plan.budget_s:
                break
            for cell, running in list(self._open.items()):
                if running.known_well_enough():
                    self._end(cell)
            self._round(n)
        for cell in list(self._open):
            self._end(cell)

    def _round(self, n: int) -> None:
        """Every cell once, each round beginning with another one, so that none is always the first on a cool machine."""
        cells = list(self._open)
        at = n % len(cells) if cells else 0
        last = n == self._plan.profile.rounds - 1 and self._plan.profile.narrow is None
        for cell in [*cells[at:], *cells[:at]]:
            state, running = self._matrix.states[cell], self._open[cell]
            if n >= self._plan.profile.rounds and time.monotonic() - self._began >= self._plan.budget_s:
                return
            state.what = f"round {n + 1}"
            self._matrix.changed()
            with self._failing(cell):
                running.round(n, functools.partial(self._answered, state, running))
                self._progress(state, running, scored=True)
                if last:
                    self._end(cell)

    def _begin(self, device: Any, cell: Cell) -> None:
        """Make its environment and its journal ready, unless it is measured already."""
        environment = device.environment(cell.settings.runtime, self._matrix.console)
        running = _Running(cell, device, environment, self._matrix)
        kept = running.kept()
        if kept is None:
            self._open[cell] = running
            self._progress(self._matrix.states[cell], running, scored=True)
            return
        self._matrix.console.say(f"= {cell}: measured already")
        self._show(cell, kept, "measured already")

    def _end(self, cell: Cell) -> None:
        """Put down what was measured."""
        running = self._open.pop(cell)
        made = running.record()
        running.save(made)
        self._show(cell, made, "done")
        self._matrix.console.say(f"✓ {cell}: {_words(self._matrix.states[cell], made)}")

    @contextlib.contextmanager
    def _failing(self, cell: Cell) -> Iterator[None]:
        """What goes wrong in here is this cell's failure; a lost device is not."""
        try:
            yield
        except DeviceError:
            raise
        except EdgeError as error:
            self._fail(cell, error)

    def _fail(self, cell: Cell, error: EdgeError) -> None:
        state = self._matrix.states[cell]
        state.what, state.error = "failed", error.to_json()
        running = self._open.pop(cell, None)
        if running:
            running.save(running.record(error.to_json()), whole=False)
        self._matrix.console.say(f"✗ {cell}: {error.message}")
        self._matrix.changed()

    def _give_up(self, error: EdgeError) -> None:
        for cell in self._unfinished():
            self._fail(cell, error)

    def _unfinished(self) -> list[Cell]:
        states = self._matrix.states
        return [cell for cell in self._cells if states[cell].what not in ("done", "measured already", "failed")]

    def _baseline(self, device: Any, cell: Cell) -> None:
        state = self._matrix.states[cell]
        if state.what != "waiting":
            return
        state.what = "in batches"
        self._matrix.changed()
        with self._failing(cell):
            environment = device.environment(cell.settings.runtime, self._matrix.console)
            workload = self._plan.out / WORKLOADS / f"{self._plan.digest[:12]}.jsonl"
            made = measure.measure(
                cell.subject,
                cell.settings,
                workload,
                device,
                environment,
                self._matrix.file(cell),
                self._matrix.console,
                self._matrix.stop,
            )
            state.error = made.error
            self._show(cell, made, "failed" if made.error else "done")

    # what others see

    def _answered(self, state: State, running: _Running) -> None:
        self._answers += 1
        self._progress(state, running)

    def _progress(self, state: State, running: _Running, scored: bool = False) -> None:
        samples = running.journal.samples if scored else []
        state.done = running.rows_answered
        if samples:
            state.right, state.call_s = _so_far(self._plan, samples)
        self._matrix.changed()

    def _show(self, cell: Cell, made: Measurement, what: str) -> None:
        state = self._matrix.states[cell]
        state.what, state.done = what, len({s.row for s in made.samples})
        state.right, state.call_s = _so_far(self._plan, made.samples)
        self._matrix.changed()


def _so_far(plan: Plan, samples: Sequence[Sample]) -> tuple[float | None, float | None]:
    reached = {s.row for s in samples}
    rows = [row for row in plan.rows if row["id"] in reached]
    first = _Samples(list(samples))
    right = score.score(rows, first, plan.dialect).accuracy.value  # type: ignore[arg-type]
    return right, stats.percentile((s.call_s for s in samples if not s.error), 0.5)


@dataclass(frozen=True)
class _Samples:
    """As much of a Measurement as scoring looks at."""

    samples: list[Sample]


def _words(state: State, made: Measurement) -> str:
    parts = []
    if state.right is not None:
        parts.append(f"{100 * state.right:.1f} % of {state.done} rows right")
    if state.call_s is not None:
        parts.append(f"{1000 * state.call_s:.1f} ms a call")
    if made.rates and state.right is None:
        parts.append(f"{len(made.rates)} rates")
    return ", ".join(parts) or "done"


# --- a cell -----------------------------------------------------------------------------------------------------------


class _Running:
    """A cell that is being measured, with its journal."""

    def __init__(self, cell: Cell, device: Any, environment: Environment, matrix: _Matrix) -> None:
        plan = matrix.plan
        self._cell, self._device, self._environment, self._plan = cell, device, environment, plan
        self._stop, self._console = matrix.stop, matrix.console
        self._file, self._log = matrix.file(cell), matrix.file(cell, "log")
        self._facts: Json = device.facts()
        self._workload = matrix.workload or ""
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
        self.journal.add("facts", {**facts, "at": _now()})
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
        if self._device.kind != plan.LOCAL:
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
        throttled = [v["throttled"] for v in vitals if v.get("throttled") is not None]
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
            throttled=any(throttled) if throttled else None,
            temperature_before_c=first.get("temperature_c"),
            temperature_after_c=last.get("temperature_c"),
            clock_before_hz=first.get("clock_hz"),
            clock_after_hz=last.get("clock_hz"),
            started_at=told[0]["at"] if told else _now(),
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


def _spent(before: Json, after: Json) -> float | None:
    """Joules between two looks; a counter that began anew tells nothing."""
    first, last = before.get("energy_j"), after.get("energy_j")
    return None if first is None or last is None or last < first else float(last - first)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
