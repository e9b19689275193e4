# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["llama-cpp-python==0.3.36", "numpy==2.4.6"]
#
# [tool.edge]
# megabytes = 900
# environment = "llama"
# needs = ["c++"]
# about = "compiles llama.cpp, about 3 minutes on two cores, once"
#
# [tool.edge.build-environment]
# CMAKE_ARGS = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF"
# CMAKE_BUILD_PARALLEL_LEVEL = "2"
# ///
"""llama.cpp through llama-cpp-python: GGUF of any quantisation, compiled for this machine.

Every call starts from an empty context, so that a row's figures don't depend on the row before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

# Short spinning: ggml's default loses 10 to 70 times beside a busy neighbour, passive waiting 2 to 3 times when alone.
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    """A loaded GGUF. `load_s` is opening it, the context's allocation included."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        import llama_cpp

        self._api = llama_cpp
        self._threads, self.context = options["threads"], options["context"]
        started = time.monotonic()
        self._llama = llama_cpp.Llama(
            path,
            n_ctx=options["context"],
            n_batch=512,
            n_threads=self._threads,
            n_threads_batch=self._threads,
            verbose=False,
        )
        self.load_s = time.monotonic() - started
        self._stop = self._stop_ids(options["stop"])

    def facts(self) -> dict[str, Any]:
        info = self._api.llama_print_system_info().decode()
        return {
            "runtime_version": f"llama-cpp-python {self._api.__version__}",
            "build": info.strip(),
            "settings": ENVIRONMENT,
        }

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._call(rows[0]["prompt"], 4)  # warm-up: pages in the weights and the caches
        for row in rows:
            yield {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def logits(self, ids: list[int], at: list[int]) -> Any:
        """llama.cpp keeps the logits of a batch's last token, so the text is fed in pieces that end where they are wanted."""
        import numpy as np

        self._llama.reset()
        found, begin = [], 0
        for end in at:
            self._llama.eval(ids[begin : end + 1])
            found.append(self._last().copy())
            begin = end + 1
        return np.stack(found)

    def _call(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        llama = self._llama
        started = time.monotonic()
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        if len(ids) + 1 >= llama.n_ctx():
            return {
                "text": None,
                "prompt_tokens": len(ids),
                "error": f"prompt of {len(ids)} tokens, context {llama.n_ctx()}",
            }
        llama.reset()
        prefill = time.monotonic()
        llama.eval(ids)
        token = self._best()
        first = time.monotonic()
        out: list[int] = []
        room = min(max_tokens, llama.n_ctx() - len(ids) - 1)
        while token not in self._stop and len(out) < room:
            out.append(token)
            llama.eval([token])
            token = self._best()
        end = time.monotonic()
        stop = self._stop.get(token) if len(out) < room else None  # beyond the limit nothing is looked at
        return {
            "text": llama.detokenize(out, special=True).decode("utf-8", "replace"),
            "prompt_tokens": len(ids),
            "completion_tokens": len(out) + (stop is not None),
            "prefill_s": first - prefill,
            "first_token_s": first - started,
            "decode_s": end - first,
            "call_s": end - started,
            "stop": stop or "length",
        }

    def _best(self) -> int:
        return int(self._last().argmax())

    def _last(self) -> Any:
        """Logits after the last token, in llama.cpp's own memory: gone with the next one."""
        import numpy as np

        pointer = self._api.llama_get_logits_ith(self._llama._ctx.ctx, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._llama.n_vocab(),))

    def _stop_ids(self, tokens: list[str]) -> dict[int, str]:
        """Those stop tokens that this vocabulary holds as one token each."""
        found = {}
        for text in tokens:
            ids = self._llama.tokenize(text.encode(), add_bos=False, special=True)
            if len(ids) == 1:
                found[ids[0]] = text
        return found
