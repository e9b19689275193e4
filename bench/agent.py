"""The agent: runs one runtime on one artifact, on the laptop exactly as on a device, and speaks JSON lines.

Requests, one a line, each with an `id`; every answer carries the same `id`:

    {"id", "do": "load", "runtime", "path", "options", "cold"?}       -> {"ok": facts + load_s, file_bytes, "file_cache", "rates"}
                                                                      cold: let the kernel forget the file first; "file_cache"
                                                                      says whether it did; "rates": whether it can be asked for
    {"id", "do": "run", "rows": [{"id", "prompt"}], "max_tokens"}     -> {"sample": …, "cpu_s"} a row, then
                                                                      {"ok": {"peak_rss_bytes", "cache_bytes"}}
    {"id", "do": "answer", "row": {"id", "prompt"}, "max_tokens"}     -> {"piece": text} while it is written, if the runtime
                                                                      tells it, then {"ok": {"sample": …, "ids": [...] or null}}
    {"id", "do": "ids", "text"}                                       -> {"ok": {"ids": [...]}}
    {"id", "do": "rates", "prefill", "decode"}                        -> {"ok": {"prefill_tokens", "prefill_s", "decode_tokens",
                                                                      "decode_s", "peak_rss_bytes"}}, as llama-bench asks
    {"id", "do": "reference", "rows": [{"id", "prompt", "completion"}], "places", "folder"}    -> {"ok": {"positions", "rows"}}
    {"id", "do": "compare", "folder"}                                 -> {"ok": …}, both as in edge/bench/parity.py
    {"id", "do": "cancel"}                                            ends the run after the row it is at; with "of", an
                                                                      id, that answer, where its runtime tells it
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
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, os.environ["EDGE_CODE"])
sys.path.insert(1, os.environ.get("EDGE_SITE", os.environ["EDGE_CODE"]))

import importlib
from typing import Any, Callable

from edge.bench import files, parity
from edge.errors import EdgeError
from edge.records import size_path
from edge.worker import Reply, answer, peak_rss_bytes

_GRACE_S = 10  # after the host is gone
_REQUESTS = ("load", "run", "answer", "ids", "rates", "reference", "compare")


class _Rows(list[Any]):
    """Rows that tell what each of them took: from when a runtime takes it up, so that its warm-up is not in the first."""

    def __init__(self, rows: list[Any], clock: Callable[[], float | None]) -> None:
        super().__init__(rows)
        self._clock, self._last = clock, clock()

    def __iter__(self) -> Iterator[Any]:
        for row in super().__iter__():
            self._last = self._clock()
            yield row

    def cpu_s(self) -> float | None:
        """Since the row was taken up, or since this was asked last: a batch's rows are taken up together."""
        before, self._last = self._last, self._clock()
        return None if before is None or self._last is None else self._last - before


class Agent:
    def __init__(self) -> None:
        self._reply = Reply()
        self._requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._cancelled = threading.Event()
        self._ended: set[Any] = set()  # ids of answers that nobody waits for
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
                self._ended.add(request.get("of"))
                self._cancelled.set()
            else:
                self._requests.put(request)
        self._cancelled.set()
        self._requests.put(None)
        signal.alarm(_GRACE_S)  # a row that hangs in native code hears nothing: the kernel ends it

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        runtime = importlib.import_module(f"edge.bench.runtimes.{request['runtime']}")
        self._path = path = request["path"]
        # A checkpoint's folder holds more than what runs; an artifact that is a folder (ONNX) is all that runs.
        self._here = request["runtime"] != "transformers" and Path(path).exists()  # else a device's server has it
        self._beside = files.beside(path) if self._here else {}
        cold = bool(request.get("cold")) and self._here and files.drop_pages(path)
        self._model = runtime.load(path, request["options"])
        told = {
            "file_bytes": size_path(path) if self._here else None,
            "file_cache": "cold" if cold else "warm" if self._here else None,
            "rates": hasattr(self._model, "rates"),
        }
        return {**self._model.facts(), "load_s": self._model.load_s, **told}

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        self._cancelled.clear()
        rows = _Rows(request["rows"], self._cpu_s)
        for sample in self._model.generate(rows, request["max_tokens"]):
            self._reply.send({"id": request.get("id"), "sample": sample, "cpu_s": rows.cpu_s()})
            if self._cancelled.is_set():
                break
        written = files.written(self._path, self._beside) if self._here else None
        return {"peak_rss_bytes": self._peak_rss_bytes(), "cache_bytes": written}

    def _rates(self, request: dict[str, Any]) -> dict[str, Any]:
        if not hasattr(self._model, "rates"):
            raise EdgeError(f"{type(self._model).__module__.rpartition('.')[2]} has no rates", "ask for rows instead")
        return {**self._model.rates(request["prefill"], request["decode"]), "peak_rss_bytes": self._peak_rss_bytes()}

    def _peak_rss_bytes(self) -> int | None:
        """Of what holds the model: this process, or the server that the runtime started."""
        peak: int | None = getattr(self._model, "peak_rss_bytes", peak_rss_bytes)()
        return peak

    def _cpu_s(self) -> float | None:
        """Seconds of all threads, likewise; None where the runtime can't tell those of its server."""
        spent: float | None = getattr(self._model, "cpu_s", time.process_time)()
        return spent

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        row, number = request["row"], request.get("id")
        told, written = "", None
        self._cancelled.clear()

        def heard(text: str, ids: list[int] | None) -> bool:
            nonlocal told, written
            written, text = (
                ids and list(ids),
                text.rstrip("\ufffd"),
            )  # of half a character the rest comes with the next token
            if text.startswith(told) and text != told:
                self._reply.send({"id": number, "piece": text[len(told) :]})
                told = text
            return not (self._cancelled.is_set() or number in self._ended)

        if hasattr(self._model, "answer"):
            sample = self._model.answer(row, request["max_tokens"], heard)
        else:
            sample = next(iter(self._model.generate([row], request["max_tokens"])))
        return {"sample": sample, "ids": written}

    def _ids(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"ids": self._model.ids(request["text"])}

    def _reference(self, request: dict[str, Any]) -> dict[str, Any]:
        return parity.write_reference(self._model, request["rows"], request["places"], Path(request["folder"]))

    def _compare(self, request: dict[str, Any]) -> dict[str, Any]:
        return parity.compare(self._model, Path(request["folder"]))

    def _unknown(self, request: dict[str, Any]) -> dict[str, Any]:
        raise ValueError(f"no such request: {request['do']!r}")


if __name__ == "__main__":
    Agent().serve()
