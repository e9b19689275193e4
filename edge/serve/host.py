"""`edge serve`'s own process: the model in one child (edge/call.py), HTTP in another (app.py), and the lines between them.

So the model's environment knows nothing of HTTP, and the server's none of models; and whoever ends this process, however,
ends both: they end when their input does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge import environments
from edge.call import Session, Target, new_log
from edge.console import Console
from edge.dialects import Tool
from edge.errors import EdgeError, WorkerCrash, from_json
from edge.records import Json
from edge.serve import listener
from edge.worker import Channel, python_channel

KEY = "EDGE_SERVE_KEY"
GRACE_S = (
    2.0  # for a runtime that doesn't hear a cancel; then its process is ended, and loads the model again when asked
)
START_S = 60.0


@dataclass(frozen=True)
class Limits:
    """host, port: where to listen; 0 takes a free one. queue: requests that may wait. max_body: bytes of one."""

    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = None
    queue: int = 8
    max_body: int = 1_000_000


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check(limits: Limits) -> None:
    """Before anything takes its time. Raises EdgeError for another address without a key, and for a port in use."""
    if not limits.key and not is_loopback(limits.host):
        raise EdgeError(
            f"{limits.host}: others could reach it there, and it has no key",
            f"set {KEY} (or --key), or leave --host out: 127.0.0.1",
        )
    if limits.key and not (limits.key.isascii() and limits.key.isprintable() and " " not in limits.key):
        raise EdgeError("the key holds what no HTTP header can carry", "use letters, digits and punctuation")
    listener.bind(limits.host, limits.port).close()


def serve(
    target: Target, declared: list[Tool], limits: Limits, console: Console, ready: Callable[[str], object]
) -> None:
    """Answer until interrupted. ready: told the address once requests are answered.

    Raises: EdgeError for a port in use; WorkerCrash if the server died.
    """
    check(limits)
    script = environments.script("app")
    environment = environments.ensure(environments.spec(script), console)
    with (
        Session(target, console) as session,
        _logged() as log,
        python_channel(script, python=environment.python, log=log, env={}) as app,
    ):
        app.send(_request(target, declared, limits))
        address, port = _bound(app)
        with _Broker(session, app) as broker:
            app.send({"go": True})
            shown = f"[{address}]" if ":" in address else address
            ready(f"http://{shown}:{port}/v1")
            while True:
                broker.hear(app.receive(), console)


def _request(target: Target, declared: list[Tool], limits: Limits) -> Json:
    manner = {
        "name": target.subject.path.resolve().name,
        "dialect": target.dialect,
        "renderer": target.renderer,
        "developer": target.developer,
        "max_tokens": target.settings.max_tokens,
        "declared": declared,
        "begins": target.settings.runtime != "litert_lm_chat",
    }
    return {**dataclasses.asdict(limits), "manner": manner}


def _bound(app: Channel) -> tuple[str, int]:
    message = app.receive(START_S)
    if "error" in message:
        raise from_json(message["error"])
    address, port = message["bound"]
    return address, port


@contextlib.contextmanager
def _logged() -> Iterator[Any]:
    """What the server prints; kept if it crashes, whose message names it."""
    file = new_log("edge-serve-")
    try:
        with file.open("wb") as log:
            yield log
    except WorkerCrash:
        raise
    except BaseException:
        file.unlink(missing_ok=True)
        raise


class _Broker:
    """Between the server and the model: one question at a time, on a thread of its own, so that a cancel is heard."""

    def __init__(self, session: Session, app: Channel) -> None:
        self._session, self._app = session, app
        self._asked: queue.Queue[Json | None] = queue.Queue()
        self._lock = threading.Lock()
        self._now: tuple[int, int] | None = None  # the server's number and the session's, of the question at work
        self._cancelled: set[int] = set()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> _Broker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        self._session.kill()
        self._thread.join()

    def hear(self, message: Json, console: Console) -> None:
        """A line from the server."""
        if "ask" in message:
            self._asked.put(message)
        elif "cancel" in message:
            self._cancel(message["cancel"])
        elif "log" in message:
            console.say(message["log"])
        elif "error" in message:
            raise from_json(message["error"])

    def _cancel(self, number: int) -> None:
        with self._lock:
            self._cancelled.add(number)
            if self._now and self._now[0] == number:
                self._session.cancel(self._now[1])
        timer = threading.Timer(GRACE_S, self._end, [number])
        timer.daemon = True
        timer.start()

    def _end(self, number: int) -> None:
        with self._lock:
            if self._now and self._now[0] == number:
                self._session.kill()

    def _work(self) -> None:
        while (message := self._asked.get()) is not None:
            number = message["number"]
            try:
                with self._at_work(number) as ours:
                    sample, _ = self._session.answer(message["ask"], message["max_tokens"], self._teller(number), ours)
                self._tell(number, sample=dataclasses.asdict(sample))
            except EdgeError as error:
                self._tell(number, failed=error.to_json())
            except Exception as error:  # ours: the server must hear of it, or it waits for ever
                self._tell(number, failed={"kind": "worker", "message": f"{type(error).__name__}: {error}"})

    @contextlib.contextmanager
    def _at_work(self, number: int) -> Iterator[int]:
        ours = self._session.number()
        with self._lock:
            if number in self._cancelled:
                raise EdgeError("cancelled")
            self._now = (number, ours)
        try:
            yield ours
        finally:
            with self._lock:
                self._now = None
                self._cancelled.discard(number)

    def _teller(self, number: int) -> Callable[[str], None]:
        return lambda piece: self._tell(number, piece=piece)

    def _tell(self, number: int, **what: Any) -> None:
        self._app.send({"number": number, **what})
