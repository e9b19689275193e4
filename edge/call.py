"""One artifact in memory, asked for calls one sentence at a time: what `edge call` shows and `edge serve` serves.

    from edge import call
    target = call.find("build/artifacts/app-q8_0.gguf")
    with call.Session(target, console) as session:
        turn = session.ask([{"role": "user", "content": "two lattes, please"}], tools)
        turn.calls, turn.problems

The prompt is what training wrote (or what the project's `renderer` writes), the runtime is the one that measures the
format, in its own process (bench/agent.py), and calls are read and checked by the same code that scores them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import dialects, project, records, renderers, tools
from edge.bench import measure
from edge.bench import subjects as candidates
from edge.bench.runtimes import COMPARES, READS
from edge.calls import Call, Parsed
from edge.console import Console
from edge.dialects import Message, Tool
from edge.errors import EdgeError, MissingError, WorkerCrash, from_json
from edge.export import families, inspect, lint
from edge.export.inspect.found import Found
from edge.functions import Result, run
from edge.project import Project
from edge.records import Json, Sample
from edge.signatures import Function
from edge.train.readers import DEVELOPER

CONTEXT = 2048  # tokens of prompt and answer, where neither the artifact nor a project says less
MAX_TOKENS = 256  # longest answer
CHECKPOINT = "transformers"  # what runs a checkpoint's folder


@dataclass(frozen=True)
class Target:
    """What is asked, and how. notes: what to know before an answer of it is believed."""

    subject: measure.Subject
    settings: measure.Settings
    dialect: str
    renderer: str
    developer: str | None
    project: Project | None = None
    adapter: candidates.Candidate | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def facts(self) -> str:
        """One line for the screen."""
        return f"{self.subject.name} ({self.subject.format}, {self.settings.runtime}, {self.dialect})"


@dataclass(frozen=True)
class Turn:
    """One answer. problems: why it can't be acted on; seconds: by the clock outside; ids: as the model wrote them, None
    where the runtime doesn't tell."""

    prompt: str
    sample: Sample
    parsed: Parsed
    problems: list[str]
    seconds: float
    ids: list[int] | None = None

    @property
    def calls(self) -> list[Call]:
        return self.parsed.calls

    @property
    def raw(self) -> str:
        """What the model wrote, the stop token included where the runtime tells it."""
        stop = self.sample.stop or ""
        return (self.sample.text or "") + (stop if stop.startswith("<") else "")


# --- what is asked ----------------------------------------------------------------------------------------------------


def find(
    artifact: str | Path,
    *,
    runtime: str | None = None,
    dialect: str | None = None,
    tokenizer: Path | None = None,
    system: str | None = None,
    threads: int | None = None,
    context: int | None = None,
    max_tokens: int | None = None,
    lacks: Callable[[str], str | None] = lambda name: None,
) -> Target:
    """An artifact's file, an ONNX folder, a checkpoint's or an adapter's, or `edge-tiny`; nothing is loaded yet.

    What is not given comes from the project that it lies in, else from the file itself.

    Args:
        tokenizer: of a bare TFLite: a file, or its checkpoint's folder.
        system: what the developer's turn says where the messages have none.
        lacks: why the device can't run a runtime, None if it can.

    Raises: EdgeError for what is none of these, or that `runtime` doesn't run; MissingError if no runtime can run here.
    """
    path = candidates.folder_of(artifact)
    if not path.exists():
        raise EdgeError(f"{artifact}: no such file or folder", "give an artifact, a checkpoint's folder, or edge-tiny")
    found, home, notes = inspect.read(path), *_project(path)
    form = found.format
    if form not in (*READS, "checkpoint", "adapter") or (form == "onnx" and not path.is_dir()):
        raise EdgeError(f"{path}: nothing that a runtime runs by itself ({form})", "give the folder with its tokenizer")
    record = candidates.recorded(path) if path.is_dir() else None
    told = record.dialect if record else (lint.dialect_of(found) or (home.dialect if home else "functiongemma",))[0]
    spoken = dialect or told
    stop = dialects.get(spoken).STOP
    adapter = _adapter(path, home, spoken) if form == "adapter" else None
    chosen = _runtime(found, runtime, lacks)
    bench: Json = home.bench if home else {}
    room = [context or bench.get("context") or CONTEXT, *filter(None, (found.cache_tokens, found.context_tokens))]
    return Target(
        measure.Subject(
            path.resolve().name, path.absolute(), adapter.digest if adapter else found.sha256,
            "artifact" if form in READS else "checkpoint", form, _tokenizer(found, tokenizer, home),
        ),
        measure.Settings(
            runtime=chosen,
            threads=threads or bench.get("threads") or measure.default_threads(),
            context=min(room),
            max_tokens=max_tokens or (bench.get("max_tokens") if home else None) or MAX_TOKENS,
            stop=stop,
        ),
        spoken,
        home.renderer if home else record.renderer if record else renderers.TRAINING,
        system or (home.developer if home else DEVELOPER if spoken == "functiongemma" else None),
        home,
        adapter,
        [*notes, *_doubts(found)],
    )  # fmt: skip


def _project(path: Path) -> tuple[Project | None, list[str]]:
    """The project that it lies in, and what to say if there is one that can't be read."""
    for folder in path.absolute().parents:
        if (folder / "edge.toml").is_file():
            try:
                return project.load(folder), []
            except EdgeError as error:
                return None, [f"its project is left out: {error.message}"]
    return None, []


def _adapter(path: Path, home: Project | None, dialect: str) -> candidates.Candidate:
    """With the base that it names, or that its project has fetched."""
    fetched = home.build / "base" if home else None
    base = fetched if fetched and (fetched / "config.json").is_file() else None
    return candidates.find([path], base, dialect)[-1]


def _runtime(found: Found, wanted: str | None, lacks: Callable[[str], str | None]) -> str:
    if found.format not in READS:
        able: tuple[str, ...] = (CHECKPOINT,)
    else:
        able = tuple(dict.fromkeys([*READS[found.format], COMPARES[found.format]]))
    if wanted and wanted not in able:
        raise EdgeError(f"{found.path}: {wanted} doesn't run {found.format}", f"what does: {', '.join(able)}")
    why: dict[str, str] = {}
    for name in (wanted,) if wanted else able:
        lack = lacks(name)
        if lack is None:
            return name
        why[name] = lack
    raise MissingError(f"{found.path}: nothing here runs {found.format}", "; ".join(f"{n} {w}" for n, w in why.items()))


def _tokenizer(found: Found, given: Path | None, home: Project | None) -> Path | None:
    """For a bare TFLite, which carries none."""
    if found.format != "tflite":
        return None
    place = given or (home.build / "tuned" if home else None)
    file = families.tokenizer_file(place) if place and place.is_dir() else place
    if file is None or not file.is_file():
        raise EdgeError(f"{found.path}: a TFLite has no tokenizer in it", "name its checkpoint's: --tokenizer FOLDER")
    return file.absolute()


def _doubts(found: Found) -> list[str]:
    told = found.manifest
    if told is None:
        return []
    verdict = f"its proof says {told.verdict}: {told.why}" if told.verdict in ("refused", "degraded") else None
    return [note for note in (verdict, told.differs, told.error) if note]


# --- asking -----------------------------------------------------------------------------------------------------------


class Session:
    """An artifact in a process of its own; a context manager. One thread asks at a time, any may cancel.

    A process that died is started again by the next question.
    """

    def __init__(self, target: Target, console: Console, device: Any = None) -> None:
        from edge.devices.local import Local

        self.target, self._console, self._device = target, console, device or Local()
        self._numbers, self._sending = itertools.count(1), threading.Lock()
        self._stack, self._channel, self._killed = contextlib.ExitStack(), None, False
        self._log: Path | None = None
        self.facts: Json = {}

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()
        if not isinstance(error, WorkerCrash):  # whose message names the log
            self._forget_log()

    def open(self) -> None:
        """Load it, if it isn't."""
        if self._killed:
            self.close()
        if self._channel:
            return
        environment = self._device.environment(self.target.settings.runtime, self._console)
        try:
            with self._console.task(f"loading {self.target.facts}"):
                self._start(environment)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._channel, self._killed = None, False
        self._stack.close()

    def ask(
        self, messages: list[Message], declared: list[Tool], told: Callable[[str], object] = lambda piece: None
    ) -> Turn:
        """The answer to a conversation. told: hears it while it is written, where the runtime tells.

        Raises: EdgeError for what can't be rendered or doesn't fit, WorkerError for a runtime that failed.
        """
        messages = with_developer(messages, self.target.developer, bool(declared))
        prompt = renderers.prompt(self.target.renderer, self.target.dialect, messages, declared)
        try:
            prompt.encode()
        except UnicodeEncodeError:  # of a terminal or a pipe that isn't UTF-8; of JSON that says "\\ud800"
            raise EdgeError("a text holds half a surrogate pair, or a byte that is no UTF-8", "send UTF-8") from None
        row = {"id": "call", "prompt": prompt, "messages": messages, "tools": declared}
        started = time.monotonic()
        sample, ids = self.answer(row, self.target.settings.max_tokens, told)
        seconds = time.monotonic() - started
        if sample.error:
            raise EdgeError(f"{self.target.subject.name}: {sample.error}", "fewer tools or words, or more --context")
        parsed = dialects.get(self.target.dialect).parse(sample.text or "")
        return Turn(prompt, sample, parsed, problems(parsed, declared), seconds, ids)

    def answer(
        self, row: Json, max_tokens: int, told: Callable[[str], object], number: int | None = None
    ) -> tuple[Sample, list[int] | None]:
        """What the runtime makes of one row: {"id", "prompt", "messages", "tools"}. number: what `cancel` will call it."""
        self.open()
        request = {"do": "answer", "row": row, "max_tokens": max_tokens}
        found = self._request(request, told, number)
        return Sample(**found["sample"]), found["ids"]

    def ids(self, text: str) -> list[int] | None:
        """The text's tokens as the runtime feeds them; None where it doesn't tell."""
        if self.target.settings.runtime == "litert_lm_chat":
            return None  # it writes its prompt itself
        return list(self._request({"do": "ids", "text": text})["ids"])

    def number(self) -> int:
        """One that no question had before, to ask and to cancel by."""
        return next(self._numbers)

    def cancel(self, number: int) -> None:
        """End an answer, or see to it that it ends at once when it begins; not every runtime hears it."""
        with self._sending:
            if self._channel:
                self._channel.send({"do": "cancel", "of": number})

    def kill(self) -> None:
        """End the process; whoever waits for its answer gets a WorkerCrash, and the next question another process."""
        if channel := self._channel:
            self._killed = True
            channel.kill()

    def _start(self, environment: Any) -> None:
        target, device, stack = self.target, self._device, self._stack
        options = {
            "threads": target.settings.threads,
            "context": target.settings.context,
            "stop": list(target.settings.stop),
            "tokenizer": None,
        }
        if tokenizer := target.subject.tokenizer:
            options["tokenizer"] = device.push(tokenizer, records.digest_file(tokenizer))
        there = device.push(self._path(), target.subject.digest)
        self._forget_log()
        self._log = new_log("edge-call-")
        log = stack.enter_context(self._log.open("wb"))
        agent = stack.enter_context(device.agent(target.settings.runtime, there, options, environment, log))
        self._channel = agent.channel
        load = {"do": "load", "runtime": target.settings.runtime, "path": agent.path, "options": agent.options}
        self.facts = self._request(load)

    def _forget_log(self) -> None:
        if self._log:
            self._log.unlink(missing_ok=True)

    def _path(self) -> Path:
        """What the runtime is given: an adapter's is a file that names its base (bench/runtimes/transformers.py)."""
        if self.target.adapter is None:
            return self.target.subject.path
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-call-")))
        told = {"checkpoint": self.target.adapter.checkpoint.path, "adapter": str(self.target.adapter.adapter)}
        (folder / "subject.json").write_text(json.dumps(told), encoding="utf-8")
        return folder / "subject.json"

    def _request(
        self, request: Json, told: Callable[[str], object] = lambda piece: None, number: int | None = None
    ) -> Json:
        channel, runtime = self._channel, self.target.settings.runtime
        number = self.number() if number is None else number
        if channel is None:
            raise WorkerCrash(f"{runtime} is not running")
        with self._sending:
            channel.send({"id": number, **request})
        try:
            while True:
                message = channel.receive(self.target.settings.stall_s)
                if "error" in message:
                    raise from_json(message["error"])
                if "ok" in message:
                    return dict(message["ok"])
                told(message.get("piece", ""))
        except TimeoutError:
            self.close()
            raise WorkerCrash(
                f"{runtime} said nothing for {self.target.settings.stall_s:g} s; it was stopped"
            ) from None
        except WorkerCrash:
            self.close()
            raise


def new_log(prefix: str) -> Path:
    """An empty file for what a process says; whoever makes it deletes it, unless a crash's message names it."""
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".log")
    os.close(handle)
    return Path(name)


def with_developer(messages: list[Message], text: str | None, declared: bool) -> list[Message]:
    """What training said before the tools, where the messages don't say anything there themselves."""
    told = bool(messages) and messages[0].get("role") in ("developer", "system")
    return messages if told or not (text and declared) else [{"role": "developer", "content": text}, *messages]


def problems(parsed: Parsed, declared: list[Tool]) -> list[str]:
    """Why an answer can't be acted on: what could not be read, and what is wrong with the calls that could."""
    return [*parsed.errors, *(wrong for call in parsed.calls for wrong in tools.validate_call(call, declared))]


def messages_of(turn: Turn, results: Iterable[tuple[Call, Json]]) -> list[Message]:
    """A turn that called, and what its tools answered, as the messages before the next turn."""
    called = [{"type": "function", "function": call.to_json()} for call in turn.calls]
    said = turn.parsed.text.strip() or None
    answers = [{"role": "tool", "name": call.name, "content": content} for call, content in results]
    return [{"role": "assistant", "content": said, "tool_calls": called}, *answers]


def written(call: Call) -> str:
    """A call as Python writes one, its texts in JSON's quotes: readable, and the types can be told apart."""
    return f"{call.name}({', '.join(f'{name}={_literal(value)}' for name, value in call.arguments.items())})"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


# --- several turns ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A call that was run, and what came of it."""

    call: Call
    result: Result


def converse(
    session: Session,
    messages: list[Message],
    declared: list[Tool],
    functions: Mapping[str, Function] | None = None,
    turns: int = 1,
) -> Iterator[Turn | Ran]:
    """Ask; run what was called; tell the model what came of it; ask again.

    It ends with a turn that calls nothing, with one that can't be acted on (none of its calls is run), and after the
    `turns`th, whose calls are run too. What a function raises is told to the model as {"error": …}.

    Args:
        functions: what tools do, by name; None runs nothing, and there is one turn.
    """
    for _ in range(turns):
        turn = session.ask(messages, declared)
        yield turn
        if functions is None or not turn.calls or turn.problems:
            return
        results = []
        for call in turn.calls:
            result = run(functions[call.name], call.arguments)
            yield Ran(call, result)
            results.append((call, result.content))
        messages = [*messages, *messages_of(turn, results)]
