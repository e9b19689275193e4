# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["starlette==1.10.0", "uvicorn==0.54.0", "jinja2==3.1.6"]
#
# [tool.edge]
# megabytes = 30
# environment = "serve"
# ///
"""The HTTP half of `edge serve`; the model is with the host, which starts this (edge/serve/host.py).

On standard input come the host's lines, the first of which is the request:

    {"host", "port", "key", "manner", "queue", "max_body"}     -> {"bound": [address, port]}, or {"error": …} and the end
    {"go": true}                                                 the model is loaded: begin to answer
    {"number", "piece"} …, then {"number", "sample"} or {"number", "failed": error}      what a question came to

and on standard output go {"ask": row, "number", "max_tokens"}, {"cancel": number} and {"log": line}. When input ends, so
does it.

One question is with the model at a time; `queue` more may wait. Bodies are read up to `max_body`. A client that hangs up
takes its question with it, from the queue or in mid-answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.calls import Parsed
from edge.errors import EdgeError
from edge.serve import chat, listener
from edge.serve.chat import Asked, Completion, Manner, Reader, Refused
from edge.worker import Reply

Json = dict[str, Any]
DROPPED = 16  # times max_body that are read and dropped, since a client that still sends hears no answer
BODY_S = 30.0  # a body that takes longer is given up
CONNECTIONS = 128  # beyond those in the queue: more are turned away
RETRY_S = 1  # what a client is told when the queue is full
# What a request without a key may have come to: another name is a web page that had its own resolved to this machine.
LOCAL_NAMES = (
    "localhost",
    "127.0.0.1",
    "::1",
    "10.0.2.2",
    "10.0.3.2",
)  # the last two: this machine in Android's emulators


def main() -> None:
    reply = Reply()
    request = json.loads(sys.stdin.readline())
    try:
        bound = listener.bind(request["host"], request["port"])
    except EdgeError as error:
        reply.send({"error": error.to_json()})
        return
    reply.send({"bound": bound.getsockname()[:2]})
    if not json.loads(sys.stdin.readline() or "{}").get("go"):
        return
    asyncio.run(serve(request, bound, reply))
    os._exit(0)  # the thread that waits for input would keep it


async def serve(request: Json, bound: socket.socket, reply: Reply) -> None:
    import uvicorn

    desk = Desk(reply.send, request["queue"])
    app = App(request, desk, reply)
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", access_log=False, server_header=False, ws="none", http="h11",
        limit_concurrency=CONNECTIONS + request["queue"], timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(desk.hear, json.loads(line))
        os._exit(0)  # the host is gone

    threading.Thread(target=listen, daemon=True).start()
    await server.serve(sockets=[bound])


# --- the way to the model ---------------------------------------------------------------------------------------------


class Job:
    """One question on its way. events: {"piece"}s, then {"sample"} or {"failed"}."""

    def __init__(self, number: int, row: Json, max_tokens: int) -> None:
        self.number, self.row, self.max_tokens = number, row, max_tokens
        self.events: asyncio.Queue[Json] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.asked = False
        self.task: asyncio.Task[None] | None = None


class Desk:
    """Puts questions to the host one after the other. limit: how many may wait for the one that is asked."""

    def __init__(self, send: Callable[[Json], None], limit: int) -> None:
        self._send, self._limit = send, limit
        self._jobs: dict[int, Job] = {}
        self._turn, self._numbers = asyncio.Lock(), 0

    @property
    def waiting(self) -> int:
        """Questions that are not answered yet, the one that is being answered included."""
        return len(self._jobs)

    def submit(self, row: Json, max_tokens: int) -> Job:
        """Raises Refused if the queue is full."""
        if self.waiting > self._limit:
            raise Refused(
                503, f"{self._limit} requests wait already; try again", code="queue_full", kind="server_error"
            )
        self._numbers += 1
        job = Job(self._numbers, row, max_tokens)
        self._jobs[job.number] = job
        job.task = asyncio.create_task(self._run(job))
        return job

    def give_up(self, job: Job) -> None:
        """Nobody waits for it any more: out of the queue with it, or an end to it."""
        if job.asked:
            self._send({"cancel": job.number})
        elif job.task:
            job.task.cancel()
            self._jobs.pop(job.number, None)  # by itself it leaves only if it has begun to wait

    def hear(self, message: Json) -> None:
        job = self._jobs.get(message.get("number", 0))
        if job:
            job.events.put_nowait(message)
            if "piece" not in message:
                job.ended.set()

    async def _run(self, job: Job) -> None:
        try:
            async with self._turn:
                job.asked = True
                self._send({"ask": job.row, "number": job.number, "max_tokens": job.max_tokens})
                await job.ended.wait()
        finally:
            self._jobs.pop(job.number, None)


class HungUp(Exception):
    """The client is gone."""


async def events(job: Job, desk: Desk, receive: Callable[[], Awaitable[Json]]) -> AsyncGenerator[Json, None]:
    """What comes of it. Raises HungUp when the client leaves; whoever stops listening, for whatever reason, gives it up."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        while True:
            get = asyncio.ensure_future(job.events.get())
            await asyncio.wait({get, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not get.done():
                get.cancel()
                raise HungUp
            yield get.result()
            if "piece" not in get.result():
                return
    finally:
        gone.cancel()
        if not job.ended.is_set():
            desk.give_up(job)


async def _disconnected(receive: Callable[[], Awaitable[Json]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# --- HTTP -------------------------------------------------------------------------------------------------------------


class App:
    """The ASGI application: who may ask, for what, and what it is sent."""

    def __init__(self, request: Json, desk: Desk, reply: Reply) -> None:
        self._manner = Manner(**request["manner"])
        self._key, self._most, self._desk, self._reply = request["key"], request["max_body"], desk, reply
        self._names = {*LOCAL_NAMES, request["host"].lower()}
        self._created = int(time.time())
        self._paths = {
            "/health": ("GET", self._health),
            "/v1/models": ("GET", self._models),
            "/v1/chat/completions": ("POST", self._chat),
        }

    async def __call__(self, scope: Json, receive: Any, send: Any) -> None:
        from starlette.requests import Request

        started, status = time.monotonic(), 0
        scope["edge_note"] = ""

        async def watched(message: Json) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            response = await self._respond(Request(scope, receive))
            await response(scope, receive, watched)
        except HungUp:
            scope["edge_note"] = "hung up"
        finally:
            client = scope["client"][0] if scope.get("client") else "?"
            took = f"{time.monotonic() - started:.2f} s"
            words = [client, scope["method"], scope["path"], str(status or "-"), took, scope["edge_note"]]
            self._reply.log(" ".join(filter(None, words)))

    async def _respond(self, request: Any) -> Any:
        try:
            self._admit(request)
            return await self._route(request)
        except Refused as why:
            request.scope["edge_note"] = str(why)[:200]
            return _refusal(why)
        except HungUp:
            raise
        except Exception as error:
            self._reply.log(traceback.format_exc())
            return _refusal(Refused(500, f"{type(error).__name__} in the server: see its log", kind="server_error"))

    def _admit(self, request: Any) -> None:
        """Raises Refused for a wrong key, or without a key for a name that isn't this machine's."""
        if request.url.path == "/health":
            return
        if self._key:
            kind, _, key = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self._key.encode()):
                raise Refused(401, "a wrong or missing API key: Authorization: Bearer KEY", code="invalid_api_key")
        elif _name_of(request.headers.get("host", "")) not in self._names:
            raise Refused(403, "asked for under a name that is not this machine's; start it with a key to allow any")

    async def _route(self, request: Any) -> Any:
        path = request.url.path
        named = path.startswith("/v1/models/")
        method, answer = ("GET", self._model) if named else self._paths.get(path, (None, None))
        if answer is None:
            raise Refused(404, f"no {path} here: {', '.join(self._paths)}", code="unknown_url")
        if request.method != method:
            raise Refused(405, f"{path} takes {method}", code="method_not_allowed")
        return await answer(request)

    async def _health(self, request: Any) -> Any:
        return _json({"status": "ok", "requests": self._desk.waiting})

    async def _models(self, request: Any) -> Any:
        return _json({"object": "list", "data": [self._entry()]})

    async def _model(self, request: Any) -> Any:
        name = request.url.path.removeprefix("/v1/models/")
        if name != self._manner.name:
            raise Refused(404, f"no model {name!r}; this is {self._manner.name}", param="model", code="model_not_found")
        return _json(self._entry())

    def _entry(self) -> Json:
        return {"id": self._manner.name, "object": "model", "created": self._created, "owned_by": "edge"}

    async def _chat(self, request: Any) -> Any:
        asked = chat.understand(chat.read_body(await self._body(request)), self._manner)
        answer = Answer(asked, self._manner, self._desk, request)
        deltas = answer.deltas()
        if not asked.stream or asked.must is not None:  # what must come is known to have come before anything is sent
            every = [delta async for delta in deltas]
            return Streamed(answer, _each(every)) if asked.stream else answer.whole()
        first = [delta async for delta in _first(deltas)]
        return Streamed(answer, _each(first, deltas))

    async def _body(self, request: Any) -> bytes:
        """Raises Refused for one that is too large, too slow, or said to be no JSON (what a web page may send unasked)."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "the body must be application/json")
        try:
            return await asyncio.wait_for(self._read(request), BODY_S)
        except asyncio.TimeoutError:
            raise Refused(408, f"the body took longer than {BODY_S:g} s") from None

    async def _read(self, request: Any) -> bytes:
        from starlette.requests import ClientDisconnect

        body, size = bytearray(), 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size <= self._most:
                    body += chunk
                elif size > DROPPED * self._most:
                    break
        except ClientDisconnect:
            raise HungUp from None
        if size > self._most:
            raise Refused(413, f"the body is larger than {self._most:,} bytes", code="request_too_large")
        return bytes(body)


class Answer:
    """From what the model writes to what the client is sent."""

    def __init__(self, asked: Asked, manner: Manner, desk: Desk, request: Any) -> None:
        self.asked, self.completion = asked, Completion(manner.name)
        self._desk, self._request = desk, request
        self._reader = Reader(asked, manner.dialect)
        self._parsed = Parsed([], "")
        self._sample: Json = {}

    async def deltas(self) -> AsyncGenerator[Json, None]:
        """As they come; all else is known afterwards. Raises Refused for a full queue and a question that failed, HungUp."""
        text, over = "", False
        job = self._desk.submit(self.asked.row, self.asked.max_tokens)
        async with contextlib.aclosing(events(job, self._desk, self._request.receive)) as came:
            async for event in came:
                if "piece" in event:
                    text += event["piece"]
                    for delta in self._reader.feed(event["piece"]):
                        yield delta
                    if self._reader.over and not over:
                        over = True
                        self._desk.give_up(job)
                elif not over:
                    self._sample = _sample(event)
                    text = self._sample["text"]
                else:
                    self._sample = event.get("sample") or {}
        self._parsed, rest = self._reader.close(text)
        for delta in rest:
            yield delta
        self._request.scope["edge_note"] = self._note()

    def whole(self) -> Any:
        told = chat.told(self.asked, self._parsed)
        return _json(self.completion.whole(self._parsed, self.reason, chat.usage(self._sample), told))

    def last(self) -> Iterator[Json]:
        """The chunks that end a stream."""
        yield self.completion.chunk({}, self.reason, chat.told(self.asked, self._parsed))
        if self.asked.usage:
            yield self.completion.last(chat.usage(self._sample))

    @property
    def reason(self) -> str:
        return chat.finish(self._parsed, self._sample, self._reader.stopped)

    def _note(self) -> str:
        s, calls = self._sample, ", ".join(call.name for call in self._parsed.calls)
        tokens = f"{s.get('prompt_tokens') or '?'} + {s.get('completion_tokens') or '?'} tokens"
        return f"{tokens}, {calls or 'no call'}" + "".join(f"; warning: {w}" for w in self.asked.warnings)


class Streamed:
    """A response of server-sent events. What goes wrong from here on is an event too: the status is sent."""

    def __init__(self, answer: Answer, deltas: AsyncGenerator[Json, None]) -> None:
        self._answer, self._deltas = answer, deltas

    async def __call__(self, scope: Json, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        async with contextlib.aclosing(self._deltas) as deltas:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            try:
                async for chunk in self._chunks(deltas):
                    await send(_event(json.dumps(chunk)))
                await send(_event("[DONE]"))
            except Refused as why:
                scope["edge_note"] = str(why)[:200]
                await send(_event(json.dumps(why.body)))
        await send({"type": "http.response.body", "body": b""})

    async def _chunks(self, deltas: AsyncIterator[Json]) -> AsyncIterator[Json]:
        """The first delta says whose turn it is."""
        completion, role = self._answer.completion, {"role": "assistant"}
        async for delta in deltas:
            yield completion.chunk({**role, **delta})
            role = {}
        if role:
            yield completion.chunk({**role, "content": ""})
        for chunk in self._answer.last():
            yield chunk


def _event(data: str) -> Json:
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}


async def _first(deltas: AsyncGenerator[Json, None]) -> AsyncIterator[Json]:
    """The first one, or none: with it it is known whether there is an answer at all, and so what the status is."""
    async for delta in deltas:
        yield delta
        return


async def _each(first: list[Json], rest: AsyncGenerator[Json, None] | None = None) -> AsyncGenerator[Json, None]:
    """The first ones, and then the rest, which is closed with this."""
    try:
        for delta in first:
            yield delta
        if rest is not None:
            async for delta in rest:
                yield delta
    finally:
        if rest is not None:
            await rest.aclose()


def _sample(event: Json) -> Json:
    """Raises Refused for a question that failed, or that the runtime can't answer."""
    if "failed" in event:
        error = event["failed"]
        status = 400 if error.get("kind") == "input" else 500
        raise Refused(
            status, str(error.get("message")), kind="invalid_request_error" if status == 400 else "server_error"
        )
    sample: Json = event["sample"]
    if sample.get("error") or sample.get("text") is None:
        why = str(sample.get("error") or "no answer")
        if "context" in why or "length" in why:  # as the runtimes word it
            raise Refused(400, why, param="messages", code="context_length_exceeded")
        raise Refused(500, why, kind="model_error")
    return sample


def _refusal(why: Refused) -> Any:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": str(RETRY_S)}, 413: {"Connection": "close"}}
    return _json(why.body, why.status, headers.get(why.status))


def _json(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(value, status, headers)


def _name_of(host: str) -> str:
    """Of a Host header, without its port."""
    return (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()


if __name__ == "__main__":
    main()
