"""Run a workload through an artifact on a device, and keep what happened as a Measurement.

Samples are appended to a file as they come, so that a run that was stopped goes on after the last finished row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from edge import archive, environments, records
from edge.console import Console, Task
from edge.devices import VITALS, Stopped
from edge.errors import DeviceError, EdgeError, WorkerCrash, from_json
from edge.records import Json, Measurement, Sample
from edge.worker import Channel

_LOOK_S = 0.3  # how often a session that waits looks whether it shall end
_ASKED = ("id", "prompt", "messages", "tools")  # of a row: what an agent is told, and not what would be right


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured: an artifact's file or a checkpoint's folder."""

    name: str
    path: Path
    digest: str
    kind: str  # "artifact" or "checkpoint"
    format: str  # "gguf", "checkpoint"
    tokenizer: Path | None = None  # a tokenizer.model, for a file that carries none (TFLite)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How it is measured; part of what makes two measurements the same."""

    runtime: str
    threads: int
    context: int
    max_tokens: int
    stop: tuple[str, ...]
    stall_s: float = 300.0  # a runtime that says nothing for so long counts as hung


def default_threads() -> int:
    """The physical cores, at most 4: more slows small models down."""
    return min(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1, 4)


def key(subject: Subject, settings: Settings, workload: str, environment: Json, device: Json) -> str:
    """Two measurements with the same key would measure the same thing: the same machine, artifact, rows and code."""
    code = archive.digest("edge/bench/agent.py", "edge/bench/files.py", f"edge/bench/runtimes/{settings.runtime}.py")
    packages = [environment.get("python"), environment.get("packages")]
    fields = sorted(Sample.__annotations__)
    return records.digest_value(
        [subject.digest, subject.name, dataclasses.asdict(settings), workload, packages, device, code, fields]
    )


def measure(
    subject: Subject,
    settings: Settings,
    workload: Path,
    device: Any,
    environment: environments.Environment,
    result: Path,
    console: Console,
    stop: threading.Event | None = None,
) -> Measurement:
    """Measure, or return what was measured before under the same key. A runtime that fails is a record with an `error`.

    Args:
        workload: JSON lines with "id" and "prompt"; for runtimes that render themselves "messages" and "tools" too.
        result: where the Measurement goes; `result.samples` beside it holds the rows of an unfinished one.
        stop: raises Stopped soon after it is set.
    """
    digest = records.digest_file(workload)
    facts = device.facts()
    mark = key(subject, settings, digest, environment.facts, facts)
    kept = _kept(result, mark)
    if kept:
        console.say(f"= {subject.name}: measured already")
        return kept
    rows = [json.loads(line) for line in workload.read_text(encoding="utf-8").splitlines()]
    partial = Partial(result.with_suffix(".samples"), mark)
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    before = device.vitals()
    session = Session(subject, settings, device, environment, result.with_suffix(".log"), stop)
    failure: Json | None = None
    with console.task(f"measuring {subject.name} ({settings.runtime}, {len(rows)} rows)") as task:
        try:
            session.run(rows, partial, task)
        except EdgeError as error:
            failure = error.to_json()
            console.say(f"✗ {subject.name}: {error.message}")
    after = _vitals(device, failure)
    measurement = Measurement(
        subject=subject.digest,
        subject_name=subject.name,
        subject_kind=subject.kind,
        format=subject.format,
        runtime=settings.runtime,
        runtime_version=session.facts.get("runtime_version"),
        device=facts,
        workload=digest,
        threads=settings.threads,
        file_bytes=session.facts.get("file_bytes"),
        load_s=session.facts.get("load_s"),
        peak_rss_bytes=session.peak_rss_bytes,
        samples=[s for row in rows if (s := partial.samples.get(row["id"]))],
        prefix_cache=False,
        file_cache="warm",
        environment=environment.facts,
        settings={**dataclasses.asdict(settings), **session.facts.get("settings", {}), "key": mark},
        load_average_before=before["load_average"],
        load_average_after=after["load_average"],
        temperature_before_c=before["temperature_c"],
        temperature_after_c=after["temperature_c"],
        clock_before_hz=before["clock_hz"],
        clock_after_hz=after["clock_hz"],
        started_at=started,
        error=failure,
    )
    records.save(measurement, result)
    if not failure:
        partial.remove()
    return measurement


def _there(device: Any, file: Path) -> str:
    """Its place on the device; of one that is not here its name, which the runtime then misses."""
    return str(device.push(file, records.digest_file(file))) if file.is_file() else str(file)


def _vitals(device: Any, failure: Json | None) -> Json:
    """How the device is afterwards; nothing of one that went away, which must not cost the record."""
    unknown = dict.fromkeys(VITALS)
    if failure and failure["kind"] == DeviceError.kind:
        return unknown
    try:
        return {**unknown, **device.vitals()}
    except DeviceError:
        return unknown


def _kept(result: Path, mark: str) -> Measurement | None:
    """What lies there if it is whole and of the same key; a failed one is tried again."""
    if not result.exists():
        return None
    try:
        found = records.load(Measurement, result)
    except EdgeError:
        return None
    return found if found.settings.get("key") == mark and not found.error else None


class Partial:
    """The samples of an unfinished measurement: a line with the key, then a line a row."""

    def __init__(self, path: Path, mark: str) -> None:
        self._path = path
        self.samples: dict[str, Sample] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines and lines[0] == mark:
            for line in lines[1:]:
                with contextlib.suppress(ValueError, TypeError):  # the last line may be cut short
                    self._remember(Sample(**json.loads(line)))
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = [mark, *(json.dumps(dataclasses.asdict(s)) for s in self.samples.values())]
        records.write_text(path, "".join(f"{line}\n" for line in whole))

    def add(self, sample: Sample) -> None:
        with self._path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(dataclasses.asdict(sample)) + "\n")
        self._remember(sample)

    def _remember(self, sample: Sample) -> None:
        self.samples[sample.row] = sample

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class Session:
    """One agent with one artifact loaded, from start to end. Raises Stopped soon after `stop` is set."""

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        device: Any,
        environment: environments.Environment,
        log: Path,
        stop: threading.Event | None = None,
    ) -> None:
        self._subject, self._settings, self._device, self._environment, self._log = (
            subject,
            settings,
            device,
            environment,
            log,
        )
        self._stop = stop or threading.Event()
        self.facts: Json = {}
        self.peak_rss_bytes: int | None = None

    def run(self, rows: list[Json], partial: Partial, task: Task) -> None:
        """Fill `partial` with the rows that it lacks. Raises WorkerError or WorkerCrash."""
        with self.loaded() as ask:
            for message in ask(self.run_of([r for r in rows if r["id"] not in partial.samples])):
                if "sample" in message:
                    partial.add(Sample(**message["sample"]))
                    task(len(partial.samples), len(rows))

    def ask(self, request: Json) -> Json:
        """The answer to one request that has but one, such as "compare" (see bench/agent.py)."""
        with self.loaded() as ask:
            return next(dict(message["ok"]) for message in ask(request))

    def run_of(self, rows: list[Json]) -> Json:
        """The request to answer rows: what is right is not in it."""
        asked = [{k: r[k] for k in _ASKED if k in r} for r in rows]
        return {"do": "run", "rows": asked, "max_tokens": self._settings.max_tokens}

    @contextlib.contextmanager
    def loaded(self, cold: bool = False) -> Iterator[Callable[[Json], Iterator[Json]]]:
        """An agent that has the subject in memory: from a request to the messages that answer it, the last one {"ok": …}.

        cold: let the kernel forget the file first. Raises WorkerError or WorkerCrash, from either.
        """
        settings, subject = self._settings, self._subject
        device = self._device
        tokenizer = subject.tokenizer
        options = {
            "threads": settings.threads,
            "context": settings.context,
            "stop": list(settings.stop),
            "tokenizer": _there(device, tokenizer) if tokenizer else None,
        }
        there = device.push(subject.path, subject.digest)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._log.open("wb") as log,
            device.agent(settings.runtime, there, options, self._environment, log) as agent,
        ):
            load = {"do": "load", "runtime": settings.runtime, "path": agent.path, "options": agent.options}
            for message in self._ask(agent.channel, {**load, "cold": True} if cold else load):
                self.facts = message["ok"]
            try:
                yield functools.partial(self._ask, agent.channel)
            finally:
                self._saw(agent.peak_rss_bytes())

    def _ask(self, agent: Channel, request: Json) -> Iterator[Json]:
        agent.send({"id": 1, **request})
        while True:
            message = self._receive(agent)
            if "error" in message:
                raise from_json(message["error"])
            if "ok" in message:
                self._saw(message["ok"].get("peak_rss_bytes"))  # its own high-water mark
            yield message
            if "ok" in message:
                return

    def _receive(self, agent: Channel) -> Json:
        silent = time.monotonic()
        while not self._stop.is_set():
            try:
                return agent.receive(_LOOK_S)
            except TimeoutError:
                if time.monotonic() - silent >= self._settings.stall_s:
                    raise WorkerCrash(
                        f"{self._settings.runtime} said nothing for {self._settings.stall_s:g} s",
                        f"it was stopped; the log is {self._log}",
                    ) from None
        raise Stopped

    def _saw(self, rss: int | None) -> None:
        self.peak_rss_bytes = max(self.peak_rss_bytes or 0, rss or 0) or None
