# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["litert-lm-api==0.18.1"]
#
# [tool.edge]
# megabytes = 150
# environment = "litert-lm"
# platforms = ["Linux x86_64", "Linux aarch64", "Darwin arm64"]
# ///
"""LiteRT-LM as an app uses it: a conversation with tools, which the runtime renders, and calls as the runtime reads them.

Rows need "messages" and "tools"; their "prompt" is not used. A sample's text is what the runtime handed back, written in
the dialect again: so it is scored like any other, and differs from that of `litert_lm` where the runtime renders or reads
otherwise. For one call that the runtime can't read it drops the whole message: that is the row's error. Of times only the
whole call's is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from edge.bench.runtimes import Heard, litert_lm
from edge.dialects import functiongemma, read_call
from edge.errors import EdgeError, WorkerError
from edge.export import inspect


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model(litert_lm.Model):
    def __init__(self, path: str, options: dict[str, Any]) -> None:
        kind = inspect.read(path).model_type
        if kind != "function_gemma":
            raise EdgeError(f"{path}: of model type {kind}", "only answers of function_gemma are read back")
        super().__init__(path, options)

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._asked(rows[0], 4)  # warm-up: packs the weights
        for row in rows:
            yield {"row": row["id"], **self._asked(row, max_tokens)}

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        """Whole: what the runtime hands back are calls that it has read."""
        return {"row": row["id"], **self._asked(row, max_tokens)}

    def _asked(self, row: dict[str, Any], max_tokens: int) -> dict[str, Any]:
        if "messages" not in row:
            raise EdgeError(f"row {row['id']} has a prompt only", "LiteRT-LM renders messages and tools itself")
        started = time.monotonic()
        try:
            message = self.native(row["messages"], row.get("tools") or [], max_tokens)
        except WorkerError as why:
            return {"text": None, "call_s": time.monotonic() - started, "error": why.message}
        return {"text": _text(message), "call_s": time.monotonic() - started}


def _text(message: dict[str, Any]) -> str:
    """An answer in FunctionGemma's format, without a stop token."""
    if message.get("tool_calls"):
        return functiongemma.render_calls([read_call(call) for call in message["tool_calls"]])
    return "".join(part.get("text", "") for part in message.get("content", []))
