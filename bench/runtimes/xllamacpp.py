# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["xllamacpp==2026.10.11549"]
#
# [tool.edge]
# megabytes = 150
# ///
"""llama.cpp's server in process, from a prebuilt wheel: the runtime for machines without a C++ compiler.

It tokenises a prompt itself and is then asked with token ids, since to a text it may add a second <bos>. Timings of the
parts are the server's own; it doesn't tell which stop token ended an answer.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from edge.bench.runtimes import Heard
from edge.errors import WorkerError

ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    def __init__(self, path: str, options: dict[str, Any]) -> None:
        import xllamacpp

        self._context = options["context"]
        self._stop = options["stop"]
        parameters = xllamacpp.CommonParams()
        parameters.model.path = path
        parameters.n_ctx = self._context
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = options["threads"]
        parameters.n_parallel = 1
        parameters.warmup = False
        parameters.special = True  # function tokens are part of the answer
        parameters.verbosity = -1
        started = time.monotonic()
        self._server = xllamacpp.Server(parameters)
        self.load_s = time.monotonic() - started

    def facts(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {"runtime_version": f"xllamacpp {version('xllamacpp')}", "settings": ENVIRONMENT}

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._call(rows[0]["prompt"], 4)  # warm-up: pages in the weights and the caches
        for row in rows:
            yield {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        """Whole: the server's stream of pieces is not asked for."""
        return {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def ids(self, text: str) -> list[int]:
        return self._tokenise(text)

    def _call(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        started = time.monotonic()
        ids = self._tokenise(prompt)
        if len(ids) + 1 >= self._context:
            return {
                "text": None,
                "prompt_tokens": len(ids),
                "error": f"prompt of {len(ids)} tokens, context {self._context}",
            }
        asked = time.monotonic()
        answer = self._server.handle_completions(
            {
                "prompt": ids,
                "n_predict": max_tokens,
                "temperature": 0.0,
                "cache_prompt": False,
                "stop": list(self._stop),
            }
        )
        end = time.monotonic()
        if "choices" not in answer:
            raise WorkerError(f"xllamacpp answered {json.dumps(answer)[:300]}")
        told, choice = answer["timings"], answer["choices"][0]
        prefill = told["prompt_ms"] / 1000
        return {
            "text": choice["text"],
            "prompt_tokens": len(ids),
            "completion_tokens": answer["usage"]["completion_tokens"],
            "prefill_s": prefill,
            "first_token_s": asked - started + prefill,
            "decode_s": told["predicted_ms"] / 1000,
            "call_s": end - started,
            "stop": "length" if choice["finish_reason"] == "length" else "a stop token",
        }

    def _tokenise(self, text: str) -> list[int]:
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize", body, {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
            ids: list[int] = json.load(reply)["tokens"]
        return ids
