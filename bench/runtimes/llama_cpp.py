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

from edge.bench.runtimes import Heard
from edge.errors import EdgeError

# Short spinning: ggml's default loses 10 to 70 times beside a busy neighbour, passive waiting 2 to 3 times when alone.
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    """A loaded GGUF. `load_s` is opening it, the context's allocation included."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        import llama_cpp

        self._api = llama_cpp
        # llama.cpp may make room for more than was asked; the package's own buffers don't.
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

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        return {"row": row["id"], **self._call(row["prompt"], max_tokens, heard)}

    def ids(self, text: str) -> list[int]:
        return list(self._llama.tokenize(text.encode(), add_bos=False, special=True))

    def rates(self, prefill: int, decode: int) -> dict[str, Any]:
        """As `llama-bench -p PREFILL -n DECODE`: random ids from an empty context; then one after the other, from an empty one.

        Nothing is sampled and no stop is looked at, as there.
        """
        import random

        llama = self._llama
        if max(prefill, decode) >= self.context:
            raise EdgeError(f"{max(prefill, decode)} tokens, context {self.context}", "ask for fewer")
        ids = random.Random(0).choices(range(llama.n_vocab()), k=max(prefill, decode))
        llama.reset()
        begin = time.perf_counter()
        llama.eval(ids[:prefill])
        self._api.llama_synchronize(llama._ctx.ctx)
        fed = time.perf_counter()
        llama.reset()
        again = time.perf_counter()
        for token in ids[:decode]:
            llama.eval([token])
            self._api.llama_synchronize(llama._ctx.ctx)
        end = time.perf_counter()
        return {"prefill_tokens": prefill, "prefill_s": fed - begin, "decode_tokens": decode, "decode_s": end - again}

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

    def _call(self, prompt: str, max_tokens: int, heard: Heard | None = None) -> dict[str, Any]:
        llama = self._llama
        started = time.monotonic()
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        if len(ids) + 1 >= self.context:
            return {
                "text": None,
                "prompt_tokens": len(ids),
                "error": f"prompt of {len(ids)} tokens, context {self.context}",
            }
        llama.reset()
        prefill = time.monotonic()
        llama.eval(ids)
        token = self._best()
        first = time.monotonic()
        out: list[int] = []
        room = min(max_tokens, self.context - len(ids) - 1)
        while token not in self._stop and len(out) < room:
            out.append(token)
            if heard and not heard(self._text(out), out):
                break
            llama.eval([token])
            token = self._best()
        end = time.monotonic()
        stop = self._stop.get(token) if len(out) < room else None  # beyond the limit nothing is looked at
        return {
            "text": self._text(out),
            "prompt_tokens": len(ids),
            "completion_tokens": len(out) + (stop is not None),
            "prefill_s": first - prefill,
            "first_token_s": first - started,
            "decode_s": end - first,
            "call_s": end - started,
            "stop": stop or "length",
        }

    def _text(self, ids: list[int]) -> str:
        return str(self._llama.detokenize(ids, special=True).decode("utf-8", "replace"))

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
