"""The agent: runs one runtime on one artifact, on the laptop exactly as on a device, and speaks JSON lines.

Requests, one a line, each with an `id`; every answer carries the same `id`:

    {"id", "do": "load", "runtime", "path", "options"}   -> {"ok": facts + load_s}
    {"id", "do": "run", "rows": [{"id", "prompt"}], "max_tokens"}     -> {"sample": …} a row, then {"ok": {"peak_rss_bytes"}}
    {"id", "do": "reference", "rows": [{"id", "prompt", "completion"}], "places", "folder"}    -> {"ok": {"positions", "rows"}}
    {"id", "do": "compare", "folder"}                                 -> {"ok": …}, both as in edge/bench/parity.py
    {"id", "do": "cancel"}                                            ends the run after the row it is at
    {"id", "do": "shutdown"}                                          -> {"ok": {}}, and ends; so does the end of input

Errors are `{"error": {"kind", "message", "hint"}}` and leave the agent ready for the next request. It runs in the runtime's
own environment and imports from `EDGE_CODE`, on a device also from `EDGE_SITE`, the packages pushed there. When its input ends, so
does it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])
sys.path.insert(1, os.environ.get("EDGE_SITE", os.environ["EDGE_CODE"]))

import importlib
from typing import Any

from edge.bench import parity
from edge.records import size_path
from edge.worker import Reply, answer, peak_rss_bytes

_GRACE_S = 10  # after the host is gone
_REQUESTS = ("load", "run", "reference", "compare")


class Agent:
    def __init__(self) -> None:
        self._reply = Reply()
        self._requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._cancelled = threading.Event()
        self._model: Any = None
        threading.Thread(target=self._listen, daemon=True).start()

    def serve(self) -> None:
        while (request := self._requests.get()) and request["do"] != "shutdown":
            do = getattr(self, f"_{request['do']}") if request["do"] in _REQUESTS else self._unknown
            last = answer(lambda do=do, request=request: do(request))  # type: ignore[misc]
            self._reply.send({"id": request.get("id"), **last})
        if request:
            self._reply.send({"id": request.get("id"), "ok": {}})
        os._exit(0)  # no interpreter shutdown: native libraries have crashed in theirs

    def _listen(self) -> None:
        """Reads ahead, so that a cancel or the host's end is heard while a row runs."""
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "cancel":
                self._cancelled.set()
            else:
                self._requests.put(request)
        self._cancelled.set()
        self._requests.put(None)
        signal.alarm(_GRACE_S)  # a row that hangs in native code hears nothing: the kernel ends it

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        runtime = importlib.import_module(f"edge.bench.runtimes.{request['runtime']}")
        self._model = runtime.load(request["path"], request["options"])
        # A checkpoint's folder holds more than what runs; an artifact that is a folder (ONNX) is all that runs.
        size = None if request["runtime"] == "transformers" else size_path(request["path"])
        return {**self._model.facts(), "load_s": self._model.load_s, "file_bytes": size}

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        self._cancelled.clear()
        for sample in self._model.generate(request["rows"], request["max_tokens"]):
            self._reply.send({"id": request.get("id"), "sample": sample})
            if self._cancelled.is_set():
                break
        return {"peak_rss_bytes": peak_rss_bytes()}

    def _reference(self, request: dict[str, Any]) -> dict[str, Any]:
        return parity.write_reference(self._model, request["rows"], request["places"], Path(request["folder"]))

    def _compare(self, request: dict[str, Any]) -> dict[str, Any]:
        return parity.compare(self._model, Path(request["folder"]))

    def _unknown(self, request: dict[str, Any]) -> dict[str, Any]:
        raise ValueError(f"no such request: {request['do']!r}")


if __name__ == "__main__":
    Agent().serve()
