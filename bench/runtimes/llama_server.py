"""llama.cpp through its own server: GGUF where there is no Python (a phone), or with a llama.cpp of the user's.

Two ways, one code. With options["server"], a path, the server is started here as a child and dies with this process; with
options["url"] it runs on a device already, started with `arguments`, and a forwarded port leads there.

A row is one request with the raw prompt. Its tokens come back as a stream, so the first token's time is what a caller sees, the way
there included; prefill and decode are the server's own figures. Nothing is reused from the row before. Answers are as those of
`llama_cpp`: greedy, function tokens part of the text, ended by the same stop tokens. Standard library only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlsplit

from edge.bench.runtimes import Heard
from edge.errors import EdgeError, WorkerCrash, WorkerError
from edge.worker import ended, tail_of

ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}  # as in llama_cpp, for a server with OpenMP
_OTHER_PROCESSOR = (
    "it has instructions that this processor has not: `edge runners build --for` its class (`edge runners list`)"
)
_GREEDY = {"samplers": ["top_k"], "top_k": 1, "temperature": 0}
_START_S, _SILENT_S = 120.0, 300.0  # until it is up; between two tokens
# Starts the server so that the kernel ends it when this process ends, however that happens (Linux; elsewhere `close` does).
_CHILD = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("its parent has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


def arguments(path: str, options: dict[str, Any], at: Union[int, str]) -> list[str]:
    """What to start llama-server with. at: a port of the loopback, or the path of a socket (its name ends in .sock).

    One row at a time, nothing kept between rows, attention and batches as llama_cpp has them.
    """
    where = ["--host", at] if isinstance(at, str) else ["--host", "127.0.0.1", "--port", str(at)]
    threads = str(options["threads"])
    return [
        *("--model", path, "--threads", threads, "--threads-batch", threads, "--ctx-size", str(options["context"])),
        *("--parallel", "1", "--batch-size", "512", "--ubatch-size", "512", "--flash-attn", "off", "--fit", "off"),
        *("--special", "--no-warmup", "--no-cache-prompt", "--cache-ram", "0", "--ctx-checkpoints", "0"),
        *("--offline", "--no-ui", "--no-slots", *where),
    ]


class Model:
    """A server with a GGUF in it. `load_s`: from its start until it is ready; of one that ran already what options say."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self._options, self._child = options, None
        self.load_s: Optional[float] = options.get("load_s")  # of a server on a device, taken by who started it
        if "url" in options:
            self._server: _Server = _Server(options["url"])
            self._server.wait(lambda: None)
        else:
            self._child = _Child(path, options)
            self.load_s, self._server = self._child.load_s, self._child.server
        self._props = self._server.ask("GET", "/props")
        self._vocabulary: int = self._server.ask("GET", "/v1/models")["data"][0]["meta"]["n_vocab"]
        self.context: int = self._props["default_generation_settings"]["n_ctx"]
        added = self._tokenise("", special=True)
        self._start = (added[0], self._props["bos_token"]) if added else None

    def facts(self) -> dict[str, Any]:
        build = str(self._props.get("build_info"))  # of ours "b0-llama-cpp-python-0.3.36"
        set_here = ENVIRONMENT if self._child else {}
        return {
            "runtime_version": f"llama-server {build[3:] if build.startswith('b0-') else build}",
            "settings": {**set_here, "context": self.context},
        }

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._call(rows[0]["prompt"], 4)  # warm-up: pages in the weights and the caches
        for row in rows:
            yield {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        return {"row": row["id"], **self._call(row["prompt"], max_tokens, heard)}

    def ids(self, text: str) -> list[int]:
        return self._tokenise(text, special=False)

    def rates(self, prefill: int, decode: int) -> dict[str, Any]:
        """As `llama-bench -p PREFILL -n DECODE`: random ids from an empty context; then tokens after one, stops ignored."""
        ids = random.Random(0).choices(range(self._vocabulary), k=prefill)
        fed = self._timed({"prompt": ids, "n_predict": 1})
        # The first token comes from the prompt: its decoding is not in the server's time.
        told = self._timed({"prompt": ids[:1], "n_predict": decode + 1})
        if fed["prompt_n"] != prefill or told["predicted_n"] != decode + 1:
            what = f"{fed['prompt_n']} and {told['predicted_n'] - 1} tokens, not {prefill} and {decode}"
            raise EdgeError(f"llama-server took {what}", f"its context is {self.context}: ask for fewer")
        return {
            "prefill_tokens": prefill,
            "prefill_s": fed["prompt_ms"] / 1000,
            "decode_tokens": decode,
            "decode_s": told["predicted_ms"] / 1000,
        }

    def _timed(self, request: dict[str, Any]) -> dict[str, Any]:
        told = self._complete({**request, "ignore_eos": True})
        if "error" in told:
            raise EdgeError(
                f"llama-server: {told['error'].get('message')}", f"its context is {self.context}: ask for fewer"
            )
        timings: dict[str, Any] = told["timings"]
        return timings

    def peak_rss_bytes(self) -> Optional[int]:
        """The server's; None of one on a device, which is asked itself."""
        return self._child.peak_rss_bytes() if self._child else None

    def cpu_s(self) -> Optional[float]:
        """The server's, likewise, in steps of a hundredth of a second."""
        return self._child.cpu_s() if self._child else None

    def close(self) -> None:
        if self._child:
            self._child.close()

    def _call(self, prompt: str, max_tokens: int, heard: Optional[Heard] = None) -> dict[str, Any]:
        request = {"prompt": self._fed(prompt), "n_predict": max_tokens, "stop": self._options["stop"]}
        started = time.monotonic()
        told = self._complete(request, heard)
        end = time.monotonic()
        if "error" in told:
            return self._refused(told["error"])
        count = told["timings"]["prompt_n"]
        if count + 1 >= self.context:
            return {"text": None, "prompt_tokens": count, "error": self._too_long(count)}
        stop = told["stopping_word"] or "a stop token"
        return {
            "text": told["text"],
            "prompt_tokens": count,
            "completion_tokens": told["tokens_predicted"],
            "prefill_s": told["timings"]["prompt_ms"] / 1000,
            "first_token_s": told["first"] - started,
            "decode_s": told["timings"]["predicted_ms"] / 1000,
            "call_s": end - started,
            "stop": "length" if told["stop_type"] == "limit" else stop,
        }

    def _refused(self, error: dict[str, Any]) -> dict[str, Any]:
        if error.get("type") == "exceed_context_size_error":
            count = error["n_prompt_tokens"]
            return {"text": None, "prompt_tokens": count, "error": self._too_long(count)}
        raise WorkerError(f"llama-server refused a row: {error.get('message')}")

    def _too_long(self, count: int) -> str:
        return f"prompt of {count} tokens, context {self.context}"

    def _fed(self, prompt: str) -> Any:
        """The prompt so that the server adds no start token: it does to a text, and not to what begins with an id."""
        if not self._start:
            return prompt
        number, text = self._start
        if prompt.startswith(text):
            return [number, prompt[len(text) :]]
        return self._tokenise(prompt, special=False)

    def _tokenise(self, text: str, special: bool) -> list[int]:
        told = self._server.ask("POST", "/tokenize", {"content": text, "add_special": special, "parse_special": True})
        ids: list[int] = told["tokens"]
        return ids

    def _complete(self, request: dict[str, Any], heard: Optional[Heard] = None) -> dict[str, Any]:
        """The server's last word on it, with "text", and "first": the clock at the first token; or {"error": …}."""
        body = {
            **request,
            **_GREEDY,
            "cache_prompt": False,
            "stream": True,
            "timings_per_token": True,
            "return_tokens": True,
        }
        text, ids, first, last = "", list[int](), None, dict[str, Any]()
        with contextlib.closing(self._server.stream("/completion", body)) as messages:
            for message in messages:
                if "error" in message:
                    return message
                first = first or time.monotonic()
                text += message["content"]
                ids += message["tokens"]
                last = {"stopping_word": "", "stop_type": "limit", "tokens_predicted": len(ids), **message}
                # The server itself would go one token further into the context than llama_cpp does.
                full = len(ids) >= self.context - last["timings"]["prompt_n"] - 1
                if last["stop"] or full or (heard and not heard(text, ids)):
                    break
            else:
                raise self._server.gone("it broke off in an answer")
        return {**last, "text": text, "first": first}


class _Child:
    """A server of our own on a socket that nobody else can reach; the folder of its socket and log goes with it."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="edge-"))
        at, self._log = str(self._folder / "s.sock"), self._folder / "log"
        command = [options["server"], *arguments(path, options, at)]
        # Of a release its own lie beside it.
        libraries = [str(Path(options["server"]).parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _CHILD, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ENVIRONMENT, "LD_LIBRARY_PATH": ":".join(libraries)},
            )
        self.close = weakref.finalize(self, _end, self._process, self._folder)
        self.server = _Server(at, self.fault)
        try:
            self.server.wait(self.fault)
        except EdgeError:
            self.close()
            raise
        self.load_s = time.monotonic() - started

    def fault(self) -> Optional[EdgeError]:
        """What it died of, if it did."""
        code = self._process.poll()
        if code is None:
            return None
        what, hint = ended("llama-server", code)
        if code == -signal.SIGILL:
            hint = _OTHER_PROCESSOR
        return WorkerCrash(f"{what}; it said last:\n{tail_of(self._log, 12)}", hint or "what it said is above")

    def peak_rss_bytes(self) -> Optional[int]:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return None

    def cpu_s(self) -> Optional[float]:
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")  # user's and system's
        return None


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


class _Server:
    """Requests, each on a connection of its own.

    Args:
        at: "http://HOST:PORT", or the path of a socket.
        fault: what the server died of, where that can be known.
    """

    def __init__(self, at: str, fault: Any = lambda: None) -> None:
        self._at, self._fault = at, fault

    def wait(self, fault: Any) -> None:
        """Until it is ready. Raises what `fault` returns, or WorkerError when it takes too long."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            if died := fault():
                raise died
            with contextlib.suppress(OSError, http.client.HTTPException, WorkerError):
                if self._ask("GET", "/health").get("status") == "ok":
                    return
            time.sleep(0.01)
        raise WorkerError(f"llama-server at {self._at} is not ready after {_START_S:g} s", "look at what it says there")

    def ask(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        """The answer. Raises WorkerCrash, with what it died of where that is known, if none comes."""
        try:
            return self._ask(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(str(error) or type(error).__name__) from None

    def _ask(self, method: str, path: str, body: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        with self._asked(method, path, body) as reply:
            told: dict[str, Any] = json.loads(reply.read())
        return told

    def stream(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The messages of an answer as they come; {"error": …} is one."""
        try:
            with self._asked("POST", path, body) as reply:
                if reply.status != 200:
                    yield json.loads(reply.read())
                    return
                for line in reply:
                    if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                        yield json.loads(line[6:])
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(str(error) or type(error).__name__) from None

    def gone(self, why: str) -> EdgeError:
        time.sleep(0.2)  # a process that dies closes its socket first
        died: Optional[EdgeError] = self._fault()
        return died or WorkerCrash(f"llama-server at {self._at} answers no more: {why}", "it may have died: look there")

    @contextlib.contextmanager
    def _asked(self, method: str, path: str, body: Optional[dict[str, Any]]) -> Iterator[http.client.HTTPResponse]:
        connection = _Unix(self._at) if self._at.startswith("/") else _tcp(self._at)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", "Connection": "close"})
            yield connection.getresponse()
        finally:
            connection.close()


def _tcp(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=_SILENT_S)


class _Unix(http.client.HTTPConnection):
    """HTTP over a socket of this machine's file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SILENT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
