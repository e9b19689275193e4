# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["onnxruntime==1.31.1", "numpy==2.4.6", "tokenizers==0.23.3"]
#
# [tool.edge]
# megabytes = 150
# environment = "onnxruntime"
# ///
"""ONNX Runtime on the CPU: the folders of `edge export onnx`, which onnxruntime-genai runs as well.

Through a session of ONNX Runtime itself rather than through onnxruntime-genai: the ids are those of the checkpoint's own
tokenizer, nothing is added to a prompt, and no telemetry has to be turned off. The key-value cache is one buffer a layer,
past and present at once, as onnxruntime-genai keeps it, so that a step copies nothing.

The graph gives the logits of the last position only: those of a whole prompt would be a gigabyte for a vocabulary of
262,144. `logits` therefore feeds the ids piece by piece, which puts the cache to the test as well.

Every call starts from an empty context, so that a row's figures don't depend on the row before it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.bench.runtimes import Heard
from edge.errors import EdgeError

# Threads that wait asleep: spinning ones lose several times beside a busy neighbour.
SETTINGS = {"session.intra_op.allow_spinning": "0"}


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    """A loaded folder. `load_s` is opening it, the cache's allocation included."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        folder = Path(path)
        config = _config(folder)
        self.context = min(options["context"], config["context_length"])
        started = time.monotonic()
        self._session = _session(folder / config["decoder"]["filename"], options["threads"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._cache = self._empty_cache(config["decoder"])
        self.load_s = time.monotonic() - started
        ids = {self._tokenizer.token_to_id(t): t for t in options["stop"]}
        self._stop = {n: t for n, t in ids.items() if n is not None}
        self._fed = 0  # tokens in the cache

    def facts(self) -> dict[str, Any]:
        import onnxruntime

        return {
            "runtime_version": f"onnxruntime {onnxruntime.__version__}",
            "build": onnxruntime.get_build_info(),
            "settings": {"providers": self._session.get_providers(), **SETTINGS},
        }

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._call(rows[0]["prompt"], 4)  # warm-up: pages in the weights and the caches
        for row in rows:
            yield {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        return {"row": row["id"], **self._call(row["prompt"], max_tokens, heard)}

    def ids(self, text: str) -> list[int]:
        """The text's tokens, none added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def logits(self, ids: list[int], at: list[int]) -> Any:
        """What the model expects after each of these positions of `ids`: float32 [positions, vocabulary]."""
        import numpy as np

        self._fed, found = 0, {}
        for position in sorted(set(at)):
            found[position] = self._feed(ids[self._fed : position + 1])
        return np.stack([found[position] for position in at])

    def rates(self, prefill: int, decode: int) -> dict[str, Any]:
        """Random ids from an empty context, then tokens one by one after them, whatever they are."""
        if prefill + decode > self.context:
            raise EdgeError(f"no room for {prefill} and {decode} tokens in a context of {self.context}", "ask for less")
        ids = random.Random(0).choices(range(self._tokenizer.get_vocab_size()), k=prefill)
        self._fed = 0
        started = time.monotonic()
        token = int(self._feed(ids).argmax())
        fed = time.monotonic()
        for _ in range(decode):
            token = int(self._feed([token]).argmax())
        end = time.monotonic()
        return {"prefill_tokens": prefill, "prefill_s": fed - started, "decode_tokens": decode, "decode_s": end - fed}

    def ends(self) -> tuple[set[str], set[str]]:
        """The names of the graph's inputs and outputs."""
        return {i.name for i in self._session.get_inputs()}, {o.name for o in self._session.get_outputs()}

    def _call(self, prompt: str, max_tokens: int, heard: Heard | None = None) -> dict[str, Any]:
        started = time.monotonic()
        ids = self.ids(prompt)
        if len(ids) + 1 >= self.context:
            return {
                "text": None,
                "prompt_tokens": len(ids),
                "error": f"prompt of {len(ids)} tokens, context {self.context}",
            }
        self._fed = 0
        prefill = time.monotonic()
        token = int(self._feed(ids).argmax())
        first = time.monotonic()
        out: list[int] = []
        room = min(max_tokens, self.context - len(ids) - 1)
        while token not in self._stop and len(out) < room:
            out.append(token)
            if heard and not heard(self._text(out), out):
                break
            token = int(self._feed([token]).argmax())
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
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def _feed(self, ids: list[int]) -> Any:
        """Run the model on further tokens; the logits of the last one, [vocabulary]."""
        import numpy as np

        self._fed += len(ids)
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
        binding.bind_cpu_input("attention_mask", np.ones((1, self._fed), np.int64))
        for (past, present), buffer in self._cache.items():
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()[0, -1]

    def _empty_cache(self, decoder: dict[str, Any]) -> dict[tuple[str, str], Any]:
        """{(past, present): a buffer of the whole context}, a key and a value for each layer."""
        import numpy as np
        from onnxruntime import OrtValue

        shape = (1, decoder["num_key_value_heads"], self.context, decoder["head_size"])
        names = [
            (decoder["inputs"][f"past_{kind}_names"] % n, decoder["outputs"][f"present_{kind}_names"] % n)
            for n in range(decoder["num_hidden_layers"])
            for kind in ("key", "value")
        ]
        return {pair: OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for pair in names}


def _config(folder: Path) -> dict[str, Any]:
    """The part `model` of genai_config.json. Raises EdgeError for a folder without one."""
    file = folder / "genai_config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeError(f"{file}: can't be read: {error!r}", "give a folder that `edge export onnx` made") from None
    return config


def _session(file: Path, threads: int) -> Any:
    """Raises EdgeError for a graph or weights that are cut short, or are none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings are of nodes that it places itself
    for key, value in SETTINGS.items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the package's own kinds have no common base
        raise EdgeError(
            f"{file}: ONNX Runtime can't load it: {error}", "copy the whole folder or export it again"
        ) from error
