"""A worker: a script that runs in its own pinned environment. This file is both ends of the wire, and this is the contract.

The host starts `python -I SCRIPT` with `EDGE_CODE` (a zip of this package) in its environment and writes one line of
JSON, the request, to standard input, which it then keeps open: when input ends, the host is gone and the worker kills
itself and its children. On standard output come JSON lines:

    {"progress": {"done": 3, "total": 10, "what": "epoch 1"}}      any number
    {"log": "…"}                                                  any number
    {"ok": {…}, "peak_rss_bytes": N, "cpu_s": S}                  the last line, or
    {"error": {"kind": "…", "message": "…", "hint": "…"}}         the last line

The worker keeps the real standard output to itself before any heavy import, since C libraries print; what they print
goes to the log with standard error. `request["out"]` is an empty folder to fill (with `keep_partial` it may hold what
a stopped worker left there). The host moves it to its place only after "ok", and keeps beside it, in `NAME.worker/`,
`request.json`, `reply.json` and `worker.log`, so that any failure can be replayed by hand:

    EDGE_CODE=… python -I SCRIPT < NAME.worker/request.json

No last line, a signal or a time-out is a WorkerCrash with the log's tail and a guess. Standard library only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Callable, Optional

from edge import archive
from edge.errors import EdgeError, WorkerCrash, from_json
from edge.records import Json, PathLike, save

_SLICE_S = 1.0  # how often a silent worker is looked at
Progress = Callable[[Optional[float], Optional[float], str], None]


# --- the worker's end -------------------------------------------------------------------------------------------------


class Reply:
    """The worker's voice. Made before any heavy import: from then on, what C code prints lands in the log."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, message: Json) -> None:
        line = json.dumps(message, ensure_ascii=True, allow_nan=False)
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()

    def progress(self, done: Optional[float], total: Optional[float], what: str = "") -> None:
        self.send({"progress": {"done": done, "total": total, "what": what}})

    def log(self, text: str) -> None:
        self.send({"log": text})


def serve(main: Callable[[Json, Reply], Json]) -> None:
    """Run a worker: read the request, call `main(request, reply)`, send what it returns; then exit the process."""
    reply = Reply()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_host, daemon=True).start()
    started = time.process_time()
    last = answer(lambda: main(request, reply))
    if "ok" in last:
        last.update(peak_rss_bytes=peak_rss_bytes(), cpu_s=time.process_time() - started)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        reply.send(last)  # after this word the host may end us
    except (TypeError, ValueError) as error:
        reply.send({"error": {"kind": "worker", "message": f"its answer is no JSON: {error}", "hint": None}})
    os._exit(0 if "ok" in last else 4)  # no interpreter shutdown: native libraries have crashed in theirs


def answer(call: Callable[[], Json]) -> Json:
    """`{"ok": …}` or `{"error": …}`; a traceback of what was not foreseen goes to the log."""
    try:
        return {"ok": call()}
    except EdgeError as error:
        return {"error": error.to_json()}
    except MemoryError:
        traceback.print_exc()
        return {"error": {"kind": "worker", "message": "out of memory", "hint": _MEMORY_HINT}}
    except Exception as error:
        traceback.print_exc()
        return {"error": {"kind": "worker", "message": f"{type(error).__name__}: {error}", "hint": None}}


def peak_rss_bytes() -> Optional[int]:
    """The peak resident memory of this process. VmHWM where there is one: ru_maxrss survives exec, so it may be the parent's."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _die_with_host() -> None:
    # Not through sys.stdin: a process forked while a thread waits in it would wait for its lock for ever (torch's loader).
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGKILL)  # the host made us the leader of our own group


# --- the host's end ---------------------------------------------------------------------------------------------------

_MEMORY_HINT = "close other programs, or take a smaller model or batch"


def run(
    script: PathLike,
    request: Json,
    out: PathLike,
    *,
    python: PathLike = sys.executable,
    progress: Optional[Progress] = None,
    timeout_s: Optional[float] = None,
    keep_partial: bool = False,
    env: Optional[dict[str, str]] = None,
) -> Json:
    """Run a worker to its end and move what it made to `out`.

    Args:
        script: the worker's file.
        request: JSON values; `out` is added to it.
        out: the folder to make, replaced whole if it is there.
        python: the interpreter of the worker's environment.
        progress: called with (done, total, what); done and total may be None.
        timeout_s: seconds until it counts as hung; None waits for ever.
        keep_partial: leave what an unfinished worker made, and give it to the next run (for those that can resume).
        env: environment variables to add.

    Returns: the worker's answer, with `peak_rss_bytes`, `cpu_s` and `wall_s` added where they are known.

    Raises: the EdgeError that the worker reported, or WorkerCrash.
    """
    target = Path(out).absolute()
    desk = target.with_name(target.name + ".worker")
    partial = desk / "partial"
    if not keep_partial:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    request = {**request, "out": str(partial)}
    (desk / "request.json").write_text(json.dumps(request, ensure_ascii=False) + "\n", encoding="utf-8")
    (desk / "reply.json").unlink(missing_ok=True)
    started = time.monotonic()
    try:
        last = _talk(Path(script), request, desk, str(python), progress, timeout_s, env or {})
        last["wall_s"] = time.monotonic() - started
        save(last, desk / "reply.json")
        if "error" in last:
            error = from_json(last["error"])
            error.hint = error.hint or f"the log is {desk / 'worker.log'}"
            raise error
        replace_folder(partial, target)
    finally:
        if not keep_partial:
            shutil.rmtree(partial, ignore_errors=True)
    facts = {k: last[k] for k in ("peak_rss_bytes", "cpu_s", "wall_s") if k in last}
    return {**last["ok"], **facts}


class Channel:
    """A process in a group of its own that reads requests and writes JSON lines. Its standard error goes to `log`.

    Args:
        command: of this machine; on a device it is the ssh that leads there.
        name: what a message calls it.
        guess: from how it ended (a status; negative: a signal) to what is likely and what to do, before our own guesses.
    """

    def __init__(
        self,
        command: Sequence[PathLike],
        *,
        name: str,
        log: IO[bytes],
        env: dict[str, str],
        guess: Callable[[int], Optional[EdgeError]] = lambda code: None,
    ) -> None:
        self._name, self._log, self._guess = name, Path(log.name), guess
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=env,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lines: queue.Queue[Optional[bytes]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def send(self, message: Json) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; receive() says how

    def receive(self, timeout_s: Optional[float] = None) -> Json:
        """The next message. Raises TimeoutError, or WorkerCrash when the process ended without a last word."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = _SLICE_S if end is None else min(_SLICE_S, end - time.monotonic())
            try:
                line = self._lines.get(timeout=max(0.0, left))
            except queue.Empty:
                if self._process.poll() is not None:  # a child of its may hold the pipe open
                    raise self._crash() from None
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError from None
                continue
            if line is None:
                raise self._crash()
            message = _message(line)
            if message is not None:
                return _checked(message, self._name)

    def kill(self) -> None:
        """End the process and everything that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe:
                    pipe.close()
            except BrokenPipeError:
                pass

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _crash(self) -> EdgeError:
        """What to say of a process that ended without a last word."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return WorkerCrash(f"{self._name} closed its output without a last word", f"the log is {self._log}")
        if guessed := self._guess(code):
            return guessed
        tail = tail_of(self._log)
        what, hint = ended(self._name, code)
        return WorkerCrash(what + (f"; it said last:\n{tail}" if tail else ""), hint or f"the log is {self._log}")


def python_channel(script: PathLike, *, python: PathLike, log: IO[bytes], env: dict[str, str]) -> Channel:
    """A script in a Python of this machine, alone with the package's zip."""
    command = [python, "-I", "-X", "utf8", script]
    every = {**clean_environment(), "EDGE_CODE": str(archive.path()), **env}
    return Channel(command, name=Path(script).stem, log=log, env=every)


def clean_environment() -> dict[str, str]:
    """This process's variables without those that would bend another interpreter."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}


_GUESSES: dict[int, str] = {
    signal.SIGKILL: "this is what running out of memory looks like: " + _MEMORY_HINT,
    signal.SIGILL: "its native code was built for another processor: `edge env clean` and build it here",
}


def ended(name: str, code: int) -> tuple[str, Optional[str]]:
    """What became of a process, by its status (a signal is negative, or over 128 through a shell), and what that looks like."""
    if 0 <= code <= 128:
        return f"{name} ended with status {code}", None
    number = -code if code < 0 else code - 128
    return f"{name} was ended by signal {number} ({_signal_name(number)})", _GUESSES.get(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def tail_of(log: Path, lines: int = 8) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def _talk(
    script: Path,
    request: Json,
    desk: Path,
    python: str,
    progress: Optional[Progress],
    timeout_s: Optional[float],
    env: dict[str, str],
) -> Json:
    end = None if timeout_s is None else time.monotonic() + timeout_s
    log_path = desk / "worker.log"
    with log_path.open("wb") as log, python_channel(script, python=python, log=log, env=env) as channel:
        channel.send(request)
        try:
            while True:
                message = channel.receive(None if end is None else end - time.monotonic())
                if "ok" in message or "error" in message:
                    return message
                _pass_on(message, progress, log)
        except TimeoutError:
            raise WorkerCrash(
                f"{script.stem} did not finish within {timeout_s:g} s", f"it was stopped; the log is {log_path}"
            ) from None


def _pass_on(message: Json, progress: Optional[Progress], log: IO[bytes]) -> None:
    if "log" in message:
        log.write(f"{message['log']}\n".encode())
        log.flush()
    elif "progress" in message and progress:
        told = message["progress"]
        progress(told.get("done"), told.get("total"), told.get("what", ""))


def _message(line: bytes) -> Optional[Json]:
    """One line of the protocol; None for anything else, which a worker can only print before `Reply` exists."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _checked(message: Json, name: str) -> Json:
    """The message if it has the shape that the contract gives it."""
    shapes = {"ok": dict, "error": dict, "progress": dict, "log": str, "sample": dict}
    for key, shape in shapes.items():
        if key in message and not isinstance(message[key], shape):
            raise WorkerCrash(
                f"{name} broke the protocol: {key} is {message[key]!r:.80}", "this is a bug of the worker's"
            )
    return message


def replace_folder(source: Path, target: Path) -> None:
    """Put a whole folder at `target`; what was there goes only when the new one is in place."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)
