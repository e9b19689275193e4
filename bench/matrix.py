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
    OUT/DEVICE/NAME.unknown.t0.json         a Measurement with the error of a device that did not answer, where there is none
                                            of this artifact; it goes when the device is there again
    OUT/DEVICE/….log                        what the runtime printed
    OUT/earlier/DIGEST12/                   the same again, of other rows: moved there when the rows change, and back; what is
                                            of no rows (rates alone) stays

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
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import archive, locks, records
from edge.bench import measure, plan, report, score, stats
from edge.bench.plan import UNKNOWN, WORKLOADS, Cell, Plan, Wish
from edge.bench.room import is_measured, make_room, write_down
from edge.bench.running import Running, now, unbegun
from edge.console import Console
from edge.devices import Lost, Stopped, inventory
from edge.errors import DeviceError, EdgeError
from edge.records import Json, Measurement, Report, Sample, digest_value

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

    Raises: EdgeError for what can't be measured and DeviceError if no device can be reached, before anything runs;
    KeyboardInterrupt after everything that was measured is kept.
    """
    out = plan.out_of(wish).absolute()
    lock = archive.cache().parent / "locks" / f"bench-{digest_value(str(out))[:16]}.lock"
    with _held(lock, f"into {out}", console, threading.Event()):
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
def _held(file: Path, what: str, console: Console, stop: threading.Event) -> Iterator[None]:
    """One at a time among all processes of this user; a second one waits."""
    told = threading.Event()

    def wait() -> None:
        if stop.is_set():
            raise Stopped
        if not told.is_set():
            console.say(f"another edge bench measures {what}: waiting for it")
            told.set()

    with locks.in_turn(file, wait):
        yield


class _Matrix:
    def __init__(self, plan: Plan, console: Console, watch: Watch) -> None:
        self.plan, self.console, self._watch = plan, console, watch
        self.stop = threading.Event()
        cells = [*([plan.baseline] if plan.baseline else []), *plan.cells]
        self.states = {cell: State(cell, rows=len(plan.rows) if plan.profile.answers else 0) for cell in cells}

    def run(self) -> Outcome:
        out, began = self.plan.out, now()
        self.workload = make_room(out, self.plan)
        entry: Json = {"started_at": began, "ended_at": None, "profile": self.plan.profile.name, "failed": None,
                       "devices": list(dict.fromkeys(cell.device for cell in self.states))}  # fmt: skip
        write_down(out, self.plan, self.workload, entry)
        self._put_down_unreached()
        self.changed()
        devices = [_Device(name, self) for name in entry["devices"] if name not in self.plan.unreached]
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
        entry.update(ended_at=now(), failed=len(failed))
        write_down(out, self.plan, self.workload, entry)
        return Outcome(self.plan, self._measurements(), failed)

    def _put_down_unreached(self) -> None:
        """What a device that did not answer was asked for: failed, in the records too where nothing was measured before."""
        for cell, state in self.states.items():
            if error := self.plan.unreached.get(cell.device):
                state.what, state.error = "failed", error.to_json()
                if not is_measured(self.plan, cell):
                    facts = {"name": cell.device, "kind": inventory.get(cell.device).kind}
                    records.save(unbegun(cell, facts, self.workload or "", self.plan, error), self.file(cell))

    def changed(self) -> None:
        self._watch(list(self.states.values()))

    def file(self, cell: Cell, ending: str = "json") -> Path:
        profile = self.plan.profile
        name = cell.name if profile.answers or ending == "log" else f"{cell.name}.{profile.name}"
        return self.plan.out / cell.device / f"{name}.{ending}"

    def _measurements(self) -> list[tuple[Cell, Measurement, Path]]:
        files = [(cell, self.file(cell)) for cell in self.states]
        return [(cell, records.load(Measurement, file), file) for cell, file in files if file.is_file()]


# --- a device ---------------------------------------------------------------------------------------------------------


class _Device(threading.Thread):
    """All cells of a device, one after the other, in a thread of its own.

    fault: what ended it that is no cell's failure, such as a full disk here.
    """

    def __init__(self, name: str, matrix: _Matrix) -> None:
        super().__init__(name=f"bench {name}", daemon=True)
        self._name, self._matrix, self._plan = name, matrix, matrix.plan
        self._cells = [cell for cell in matrix.plan.cells if cell.device == name]
        self._open: dict[Cell, Running] = {}
        self._answers = 0  # of this run
        self._began = time.monotonic()
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            entry = inventory.get(self._name)
            with _held(inventory.lock(entry), f"on {self._name}", self._matrix.console, self._matrix.stop):
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
                device = inventory.device(inventory.get(self._name))
                device.stop = self._matrix.stop
                with device:
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
        for file in (self._plan.out / self._name).glob(f"*.{UNKNOWN}.t0*.json"):
            file.unlink()  # it is there again
        if (baseline := self._plan.baseline) and baseline.device == self._name:
            self._baseline(device, baseline)
        profile = self._plan.profile
        self._open = {}
        for cell in self._unfinished():
            with self._failing(cell, device):
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
        of = self._matrix
        file, log = of.file(cell), of.file(cell, "log")
        running = Running(cell, device, environment, of.plan, of.workload or "", file, log, of.console, of.stop)
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
    def _failing(self, cell: Cell, device: Any = None) -> Iterator[None]:
        """What goes wrong in here is this cell's failure, also a disk that is full there: others may need less. A lost device is not.

        device: where it is not begun yet, for the record.
        """
        try:
            yield
        except Lost:
            raise
        except EdgeError as error:
            self._fail(cell, error, device)

    def _fail(self, cell: Cell, error: EdgeError, device: Any = None) -> None:
        state = self._matrix.states[cell]
        state.what, state.error = "failed", error.to_json()
        running = self._open.pop(cell, None)
        file = self._matrix.file(cell)
        if running:
            running.save(running.record(error.to_json()), whole=False)
        elif device and not file.exists():  # what was measured before under other circumstances stays
            records.save(unbegun(cell, device.facts(), self._matrix.workload or "", self._plan, error), file)
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

    def _answered(self, state: State, running: Running) -> None:
        self._answers += 1
        self._progress(state, running)

    def _progress(self, state: State, running: Running, scored: bool = False) -> None:
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
    right = score.score(rows, _Samples(samples), plan.dialect).accuracy.value
    return right, stats.percentile((s.call_s for s in samples if not s.error), 0.5)


@dataclass(frozen=True)
class _Samples:
    """As much of a Measurement as scoring looks at."""

    samples: Sequence[Sample]


def _words(state: State, made: Measurement) -> str:
    parts = []
    if state.right is not None:
        parts.append(f"{100 * state.right:.1f} % of {state.done} rows right")
    if state.call_s is not None:
        parts.append(f"{1000 * state.call_s:.1f} ms a call")
    if made.rates and state.right is None:
        parts.append(f"{len(made.rates)} rates")
    return ", ".join(parts) or "done"
