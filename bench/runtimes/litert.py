# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["ai-edge-litert==2.3.0", "numpy==2.4.6", "sentencepiece==0.2.3", "tokenizers==0.23.3"]
#
# [tool.edge]
# megabytes = 160
# without = ["huggingface-hub"]
# platforms = ["Linux x86_64", "Linux aarch64", "Darwin arm64"]
# ///
"""LiteRT's interpreter with XNNPACK: a TFLite with prefill and decode signatures, bare or inside a `.litertlm` or `.task`.

It runs the graph and nothing else of a bundle but its tokenizer, so it tells what conversion and quantisation did to the
model; `litert_lm` tells what the runtime of phones makes of the bundle. Each step hands the whole cache in and out again,
which LiteRT-LM does not: its speed is the one to go by.

A prompt goes through prefill but for its last token. That one and each token after it go through decode, which alone
gives logits. A prefill takes exactly so many tokens, and writes so many rows of the cache from its first position on:
what it is short of is filled up behind, where the mask hides it until decode writes there.
"""

from __future__ import annotations

import contextlib
import mmap
import random
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.bench.runtimes import Heard
from edge.errors import EdgeError, WorkerError
from edge.export import inspect
from edge.export.inspect import litertlm, task
from edge.export.inspect.found import Found

_BLOCKED = -1e9  # what the mask holds for a position not to look at, where it holds numbers


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    """A loaded graph with its tokenizer. `context` is the cache's length, or what was asked for if that is less."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        found = inspect.read(path)
        self._tokenizer = _tokenizer(found, options.get("tokenizer"))
        started = time.monotonic()
        with _graph(found) as file:
            self._graph = Graph(path, file, options["threads"])
        self.load_s = time.monotonic() - started
        if self._tokenizer.size != self._graph.vocabulary:
            raise EdgeError(
                f"{path}: logits for {self._graph.vocabulary:,} tokens, its tokenizer has {self._tokenizer.size:,}: "
                "they are of different models",
                "give the tokenizer.model or tokenizer.json of the checkpoint that this was exported from",
            )
        self.context = min(options["context"], self._graph.cache)
        self._stop = self._tokenizer.single(options["stop"])

    def facts(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {
            "runtime_version": f"ai-edge-litert {version('ai-edge-litert')}",
            "settings": {
                "delegate": "XNNPACK",
                "prefill": sorted(self._graph.prefill),
                "cache": self._graph.cache,
                "context": self.context,
                "copies_cache": True,
            },
        }

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._call(rows[0]["prompt"], 4)  # warm-up: pages in the weights
        for row in rows:
            yield {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        return {"row": row["id"], **self._call(row["prompt"], max_tokens, heard)}

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def rates(self, prefill: int, decode: int) -> dict[str, Any]:
        """Random ids into an empty cache, then tokens one by one after them, whatever they are."""
        if prefill + decode > self.context:
            raise EdgeError(f"no room for {prefill} and {decode} tokens in a context of {self.context}", "ask for less")
        ids = random.Random(0).choices(range(self._graph.vocabulary), k=prefill)
        state = self._graph.start()
        started = time.monotonic()
        self._graph.fill(state, ids)
        fed = time.monotonic()
        token = ids[-1] if ids else 0
        for n in range(decode):
            token = int(self._graph.step(state, token, prefill + n).argmax())
        end = time.monotonic()
        return {"prefill_tokens": prefill, "prefill_s": fed - started, "decode_tokens": decode, "decode_s": end - fed}

    def logits(self, ids: list[int], at: list[int]) -> Any:
        """The whole text is prefilled; then a decode step at each place looks at what lies before it, and only at that."""
        import numpy as np

        state = self._graph.start()
        self._graph.fill(state, ids)
        return np.stack([self._graph.step(state, ids[n], n) for n in at]).astype(np.float32)

    def _call(self, prompt: str, max_tokens: int, heard: Heard | None = None) -> dict[str, Any]:
        started = time.monotonic()
        ids = self._tokenizer.encode(prompt)
        if len(ids) + 1 >= self.context:
            why = f"prompt of {len(ids)} tokens, context {self.context}"
            return {"text": None, "prompt_tokens": len(ids), "error": why}
        prefill = time.monotonic()
        state = self._graph.start()
        self._graph.fill(state, ids[:-1])
        token = int(self._graph.step(state, ids[-1], len(ids) - 1).argmax())
        first = time.monotonic()
        out = [token]
        room = min(max_tokens, self.context - len(ids))
        while out[-1] not in self._stop and len(out) < room:
            if heard and not heard(self._tokenizer.decode(out), out):
                break
            out.append(int(self._graph.step(state, out[-1], len(ids) + len(out) - 1).argmax()))
        end = time.monotonic()
        stop = self._stop.get(out[-1])
        return {
            "text": self._tokenizer.decode(out[:-1] if stop else out),
            "prompt_tokens": len(ids),
            "completion_tokens": len(out),
            "prefill_s": first - prefill,
            "first_token_s": first - started,
            "decode_s": end - first,
            "call_s": end - started,
            "stop": stop or "length",
        }


class Graph:
    """The signatures of a TFLite. Positions are counted from 0; a state is the cache's tensors by name."""

    def __init__(self, path: str, file: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_path=str(file), num_threads=threads)
            runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
            self._decode = runners["decode"]
            self._details = {name: d for name, d in self._decode.get_input_details().items() if name.startswith("kv_")}
            mask = self._decode.get_input_details()["mask"]
            self.vocabulary = int(self._decode.get_output_details()["logits"]["shape"][-1])
            self.prefill = {
                int(runner.get_input_details()["tokens"]["shape"][-1]): runner
                for name, runner in runners.items()
                if name.startswith("prefill")
            }
        except KeyError as lacking:
            raise EdgeError(
                f"{path}: its graph has no {lacking}: not one with prefill and decode signatures that take tokens, "
                "input_pos, mask and kv_cache_…",
                "export it with `edge export tflite`",
            ) from None
        except (RuntimeError, ValueError) as error:
            raise EdgeError(f"{path}: LiteRT can't load it: {error}", "export it again") from None
        self._mask_type, self.cache = mask["dtype"], int(mask["shape"][-1])
        self._path = path

    def start(self) -> dict[str, Any]:
        """An empty cache."""
        import numpy as np

        return {name: np.zeros(d["shape"], d["dtype"]) for name, d in self._details.items()}

    def fill(self, state: dict[str, Any], ids: list[int]) -> None:
        """Put tokens into an empty cache, the longest prefill first."""
        import numpy as np

        done = 0
        while done < len(ids):
            left = len(ids) - done
            length = min((n for n in self.prefill if n >= left), default=max(self.prefill))
            # Rows that would lie beyond the cache's end would be written before it: what is there is computed once more.
            begin = min(done, self.cache - length)
            piece = ids[begin : begin + length]
            tokens = np.zeros((1, length), np.int32)
            tokens[0, : len(piece)] = piece
            self._run(self.prefill[length], state, tokens, begin)
            done = begin + len(piece)

    def step(self, state: dict[str, Any], token: int, position: int) -> Any:
        """Logits after this token."""
        import numpy as np

        return self._run(self._decode, state, np.array([[token]], np.int32), position)["logits"].reshape(-1)

    def _run(self, runner: Any, state: dict[str, Any], tokens: Any, begin: int) -> dict[str, Any]:
        import numpy as np

        positions = np.arange(begin, begin + tokens.shape[1], dtype=np.int32)
        seen = np.arange(self.cache) <= positions[:, None]
        mask = seen if self._mask_type == np.bool_ else np.where(seen, 0, _BLOCKED).astype(self._mask_type)
        try:
            out: dict[str, Any] = runner(tokens=tokens, input_pos=positions, mask=mask[None, None], **state)
        except (RuntimeError, ValueError) as error:
            raise WorkerError(f"{self._path}: LiteRT stopped at position {begin}: {error}") from None
        state.update((name, out[name]) for name in state)
        return out


class SentencePiece:
    """As LiteRT-LM reads a prompt and Hugging Face's tokenizers write an answer."""

    def __init__(self, source: str, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError):  # SentencePiece's own words are a line of its source
            raise EdgeError(f"{source}: its tokenizer is no SentencePiece model, or cut off") from None
        self.size = int(self._processor.vocab_size())
        self._start = self._processor.id_to_piece(self._processor.bos_id()) if self._processor.bos_id() >= 0 else ""

    def encode(self, text: str) -> list[int]:
        """The start token in front is one token. Any other control piece in a text is spelled out, as it is on a phone."""
        if self._start and text.startswith(self._start):
            return [self._processor.bos_id(), *self._processor.encode(text[len(self._start) :])]
        return list(self._processor.encode(text))

    def decode(self, ids: list[int]) -> str:
        """The text, control pieces written out: SentencePiece leaves them away."""
        text, run = "", list[int]()
        for n in ids:
            if self._processor.is_control(n) or self._processor.is_unknown(n):
                text += self._processor.decode(run) + self._processor.id_to_piece(n)
                run = []
            else:
                run.append(n)
        return text + str(self._processor.decode(run))

    def single(self, tokens: list[str]) -> dict[int, str]:
        """Those tokens that are a piece each, by id."""
        ids = {int(self._processor.piece_to_id(t)): t for t in tokens}
        ids.pop(self._processor.unk_id(), None)
        return ids


class HuggingFace:
    """A tokenizer.json, which LiteRT-LM runs by the same library: added tokens in a text are single, none are put in front."""

    def __init__(self, source: str, text: bytes) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_buffer(text)
        except Exception as error:  # the library has no finer one
            raise EdgeError(f"{source}: its tokenizer is no tokenizer.json, or cut off: {error}") from None
        self.size = int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def single(self, tokens: list[str]) -> dict[int, str]:
        """Those tokens that it has, by id."""
        return {n: t for t in tokens if (n := self._tokenizer.token_to_id(t)) is not None}


def _tokenizer(found: Found, given: str | None) -> SentencePiece | HuggingFace:
    """The bundle's own goes before one that is given."""
    if found.format == "tflite":
        if not given:
            raise EdgeError(
                f"{found.path}: a TFLite has no tokenizer in it",
                "name the checkpoint's tokenizer.model or tokenizer.json, or measure a .litertlm or .task",
            )
        try:
            data = Path(given).read_bytes()
        except OSError as error:
            raise EdgeError(f"{given}: {error.strerror}") from None
        return HuggingFace(given, data) if given.endswith(".json") else SentencePiece(given, data)
    names = {"litertlm": "SP_Tokenizer", "task": task.TOKENIZER}
    if found.format not in names:
        raise EdgeError(f"{found.path}: LiteRT runs no {found.format}", "it takes .tflite, .litertlm and .task")
    if any(s.name == "HF_Tokenizer" for s in found.sections):  # the length of the text in 8 bytes, then zlib
        return HuggingFace(found.path, zlib.decompress(_section(found, "HF_Tokenizer")[8:]))
    return SentencePiece(found.path, bytes(_section(found, names[found.format])))


@contextlib.contextmanager
def _graph(found: Found) -> Iterator[Path]:
    """The TFLite as a file of its own, so that what is in a bundle is mapped into memory as a bare one is."""
    if found.format == "tflite":
        yield Path(found.path)
        return
    if found.format == "task":
        data = _section(found, task.MODEL)
    else:
        main = litertlm.prefill_decode(found)
        data = _section(found, "TFLiteModel", main[0].offset if main else None)
    with tempfile.TemporaryDirectory(prefix="edge-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "model.tflite"
        with file.open("wb") as f:
            f.write(data)
        del data
        yield file  # once it is mapped, its name may go


def _section(found: Found, name: str, offset: int | None = None) -> Any:
    """The bytes of a bundle's part. Raises EdgeError if it has none of this name (and at this place)."""
    part = next((s for s in found.sections if s.name == name and offset in (None, s.offset)), None)
    if part is None:
        raise EdgeError(f"{found.path}: it has no {name}", "export it again")
    if name in found.facts.get("compressed", ()):
        with zipfile.ZipFile(found.path) as z:
            return z.read(name)
    with Path(found.path).open("rb") as f:
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))[part.offset : part.offset + part.bytes]
