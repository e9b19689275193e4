# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "gguf==0.19.0",
#     "numpy==2.4.6",
#     "protobuf==7.36.2",
#     "sentencepiece==0.2.3",
#     "tokenizers==0.23.3",
# ]
#
# [tool.edge]
# megabytes = 200
# environment = "gguf"
# ///
"""Hugging Face folder -> GGUF files, without torch. All quantisations of one request come from one read of the weights.

Request:
    checkpoint      the folder: config.json, safetensors, tokenizer.model and, where there are, tokenizer.json,
                    tokenizer_config.json, chat_template.jinja
    name            the files are called NAME-QUANTISATION.gguf
    quantisations   names of edge.export.quantisations that numpy makes, such as ["f16", "q4_0-emb-q4_0"]
    dialect         whose tokens the tokenizer must have, whose stop tokens and (for want of the checkpoint's own)
                    template go into the file
    out             the folder to fill

Makes the GGUF files and `tokens.jsonl`: some 400 strings and their ids, for any llama.cpp to be compared with.

Answer:
    artifacts       one each: file, quantisation, bytes, file_type, tensor_types (type -> count), export_s (quantising
                    and writing this file; what it shared with others counts for each)
    tokens          "tokens.jsonl"
    stop_ids, stop_tokens, chat_template_sha256, chat_template_source, context_tokens
    checks          tensors; tokenizer_strings_checked, tokenizer_mismatches (0, else it fails),
                    tokenizer_exotic_mismatches (invisible characters and the like, left out of tokens.jsonl);
                    tokenizer_json_checked, tokenizer_json_exotic_mismatches; function_tokens, padded_rows,
                    left_out_tokens
    versions        of the packages that the result depends on

Fails with "input" for a checkpoint or tokenizer that can't be exported right, "missing" for want of disk, "gate" if
what was written does not tokenise as SentencePiece does. Memory: a few chunks of rows and the vocabulary, whatever the
model's size.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import hashlib
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edge import dialects
from edge.errors import EdgeError, MissingError
from edge.export import checkpoint, gemma3, gguf_file, quantisations, token_check, vocabulary
from edge.export.gguf_file import Entry, TensorPlace
from edge.export.quantisations import TYPES, Quantisation

CHUNK = 1 << 20  # elements: 4 MB in float32, about what a core's cache holds
HALF_MAX = 65504.0  # float16's largest; the scales of every block type are float16
_KIND = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SAME = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    out, dialect = Path(request["out"]), dialects.get(request["dialect"])
    chosen = _chosen(request["quantisations"])
    folder = checkpoint.inspect(request["checkpoint"])
    shape = gemma3.read(folder)
    plan = gemma3.weights(shape)
    gemma3.check_tensors(folder, plan)
    _check_blocks(plan, chosen)
    _check_disk(out, plan, chosen)

    reply.progress(None, None, "tokenizer")
    tokens = Tokens(folder, shape.vocabulary, dialect)
    template, source = vocabulary.chat_template(folder, dialect.CHAT_TEMPLATE)
    entries = _entries(request["name"], shape, tokens, template)
    shared = gguf_file.pack_entries(entries)

    files = [File(out / f"{request['name']}-{q.name}.gguf", q, plan) for q in chosen]
    with ExitStack() as stack:
        for f in files:
            f.open(stack, len(entries), shared)
        _write_weights(folder, plan, files, reply)
    reply.progress(None, None, "reading back")
    right = _check_tokens(files[0].path, tokens.pairs)
    token_check.save(right, out / token_check.FILE)
    return {
        "artifacts": [f.check() for f in files],
        "tokens": token_check.FILE,
        "stop_ids": [tokens.vocabulary.ids[t] for t in dialect.STOP],
        "stop_tokens": list(dialect.STOP),
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "chat_template_source": source,
        "context_tokens": shape.context,
        "checks": {
            "tensors": len(plan),
            "tokenizer_strings_checked": len(right),
            "tokenizer_mismatches": 0,
            "tokenizer_exotic_mismatches": len(tokens.pairs) - len(right),
            **tokens.checks,
        },
        "versions": _versions(),
    }


# --- what to write ----------------------------------------------------------------------------------------------------


def _chosen(names: list[str]) -> list[Quantisation]:
    chosen = quantisations.parse_all(names)
    others = [q.name for q in chosen if q.made_by != "numpy"]
    if others:
        raise EdgeError(
            f"{', '.join(others)}: made by llama.cpp", "make an f16 here and give it to the quantise worker"
        )
    return chosen


def _check_blocks(plan: list[gemma3.Weight], chosen: list[Quantisation]) -> None:
    for q in chosen:
        for w in plan:
            block = TYPES[_type_of(w, q)].block
            if w.shape[-1] % block:
                raise EdgeError(f"{q.name}: rows of {w.source} have {w.shape[-1]} elements, no multiple of {block}",
                                "this model can be exported as f32, f16 or bf16")  # fmt: skip


def _check_disk(out: Path, plan: list[gemma3.Weight], chosen: list[Quantisation]) -> None:
    """Before anything is written. Raises MissingError with what is needed and what is free."""
    matrices = sum(math.prod(w.shape) for w in plan[1:] if len(w.shape) > 1)
    vectors = sum(math.prod(w.shape) for w in plan if len(w.shape) == 1)
    needed = sum(q.estimate_bytes(matrices, math.prod(plan[0].shape), vectors) for q in chosen)
    free = shutil.disk_usage(out).free
    if needed > free:
        what = ", ".join(q.name for q in chosen)
        raise MissingError(
            f"{out}: {needed / 1e6:,.0f} MB are needed for {what}, {free / 1e6:,.0f} MB are free",
            "free some disk, or export fewer quantisations at a time",
        )


def _type_of(w: gemma3.Weight, q: Quantisation) -> str:
    if len(w.shape) == 1:
        return "f32"
    return q.embedding or q.matrix if w.target == "token_embd.weight" else q.matrix


def _entries(name: str, shape: gemma3.Shape, tokens: Tokens, template: str) -> list[Entry]:
    """All metadata but the file type, in the order of the file."""
    config = tokens.config
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids: dict[str, int | None] = {name: tokens.special(key) for key, name in names.items()}
    ids.update({"eot": tokens.ends.eot, "eom": tokens.ends.eom})
    return [
        Entry("general.architecture", "string", gemma3.ARCHITECTURE),
        Entry("general.type", "string", "model"),
        Entry("general.name", "string", name),
        Entry("general.quantization_version", "uint32", 2),
        *gemma3.entries(shape),
        Entry("tokenizer.ggml.model", "string", "llama"),
        Entry("tokenizer.ggml.pre", "string", "default"),
        *tokens.vocabulary.entries(),
        *(Entry(f"tokenizer.ggml.{k}_token_id", "uint32", n) for k, n in ids.items() if n is not None),
        Entry("tokenizer.ggml.add_bos_token", "bool", bool(config.get("add_bos_token", True))),
        Entry("tokenizer.ggml.add_eos_token", "bool", bool(config.get("add_eos_token", False))),
        Entry("tokenizer.ggml.add_space_prefix", "bool", False),
        Entry("tokenizer.chat_template", "string", template),
    ]


# --- tokenizer --------------------------------------------------------------------------------------------------------


class Tokens:
    """The checkpoint's tokenizer, checked: its vocabulary, the ids of its ends, and pairs of strings and ids.

    The ids come from SentencePiece, told of the added tokens; where there is a tokenizer.json, with which the model was
    trained, it must agree, but for texts that hardly anyone writes: those differences are counted.
    """

    def __init__(self, folder: checkpoint.Folder, rows: int, dialect: dialects.Dialect) -> None:
        self._file = folder.path / "tokenizer.model"
        self._model = self._read()
        self.config = folder.json("tokenizer_config.json")
        pieces = [vocabulary.Piece(p.piece, p.score, p.type) for p in self._model.pieces]
        shown = vocabulary.visible_tokens(dialect.FUNCTION_TOKENS, dialect.STOP)
        self.vocabulary = vocabulary.build(pieces, vocabulary.added_tokens(folder), rows, shown, self._file)
        required = vocabulary.require(self.vocabulary, [*dialect.FUNCTION_TOKENS, *dialect.STOP], folder.path)
        self.ends = vocabulary.ends(
            dialect.STOP, self.vocabulary.ids, vocabulary.token_text(self.config, "eos_token", "<eos>")
        )
        self.pairs = self._pairs(token_check.strings(dialect, self._markers(required)))
        self.checks = {
            **self._check_json(folder.path / "tokenizer.json"),
            "function_tokens": required,
            "padded_rows": self.vocabulary.padded,
            "left_out_tokens": len(self.vocabulary.beyond),
        }

    def special(self, key: str) -> int:
        """The id of the `bos`, `eos`, `unk` or `pad` token."""
        text = vocabulary.token_text(self.config, f"{key}_token", f"<{key}>")
        for n, p in enumerate(self.vocabulary.pieces):
            if p.text == text:
                return n
        raise EdgeError(
            f"{self._file.parent}: the tokenizer has no {key} token {text!r}", "name it in tokenizer_config.json"
        )

    def _read(self) -> Any:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2 as pb

        model = pb.ModelProto()
        try:
            model.ParseFromString(self._file.read_bytes())
        except FileNotFoundError:
            raise EdgeError(
                f"{self._file}: missing; it holds the pieces' scores, which tokenizer.json does not",
                "copy tokenizer.model from the base model: transformers 5 leaves it out when saving",
            ) from None
        except DecodeError:
            raise EdgeError(
                f"{self._file}: not a SentencePiece model, or cut off", "copy it from the base model again"
            ) from None
        _check_sentencepiece(model, self._file)
        return model

    def _markers(self, required: dict[str, int]) -> list[str]:
        """Every required token and a sample of the others; the unknown one can't be written down."""
        others = [t for t in self.vocabulary.ids if t not in required and not t.startswith(("<unused", "[PAD"))]
        step = max(1, len(others) // 30)
        return [*required, *others[::step]]

    def _pairs(self, strings: list[str]) -> list[token_check.Pair]:
        processor = self._processor()
        return list(zip(strings, processor.encode(strings), strict=True))

    def _processor(self) -> Any:
        """SentencePiece with the vocabulary's markers as user-defined pieces: in a text it knows no others."""
        from sentencepiece import SentencePieceProcessor
        from sentencepiece import sentencepiece_model_pb2 as pb

        model = pb.ModelProto()
        model.CopyFrom(self._model)
        for n, piece in enumerate(self.vocabulary.pieces):
            if n == len(model.pieces):
                model.pieces.add(piece=piece.text, score=piece.score, type=vocabulary.UNUSED)
            if piece.type in (vocabulary.CONTROL, vocabulary.USER_DEFINED):
                model.pieces[n].piece = piece.text.replace(" ", vocabulary.SPACE)
                model.pieces[n].type = vocabulary.USER_DEFINED
        return SentencePieceProcessor(model_proto=model.SerializeToString())

    def _check_json(self, file: Path) -> dict[str, Any]:
        """How tokenizer.json compares, if there is one. Raises GateError for a difference in what people write."""
        if not file.is_file():
            return {"tokenizer_json_checked": False}
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the package has no finer one
            raise EdgeError(
                f"{file}: not a tokenizer that can be read: {error}",
                "copy it from the base model again, as it was trained with",
            ) from None
        wrong = token_check.differing(self.pairs, lambda t: list(tokenizer.encode(t, add_special_tokens=False).ids))
        token_check.refuse([w for w in wrong if not token_check.exotic(w[0])], len(self.pairs), str(file))
        return {"tokenizer_json_checked": True, "tokenizer_json_exotic_mismatches": len(wrong)}


def _check_sentencepiece(model: Any, file: Path) -> None:
    """llama.cpp's way with SentencePiece vocabularies is right for those of Gemma's kind only."""
    trainer, normaliser = model.trainer_spec, model.normalizer_spec
    expected = [
        (trainer.model_type == trainer.BPE, "a unigram model; GGUF's `llama` vocabulary is merged by score (BPE)"),
        (not normaliser.precompiled_charsmap, "it normalises Unicode, which llama.cpp does not do"),
        (not normaliser.add_dummy_prefix, "it adds a space in front, which Gemma's does not"),
        (not normaliser.remove_extra_whitespaces, "it drops repeated spaces, which llama.cpp does not do"),
        (
            sum(p.type == vocabulary.BYTE for p in model.pieces) == 256,
            "it lacks byte pieces, which llama.cpp falls back on",
        ),
    ]
    for ok, what in expected:
        if not ok:
            raise EdgeError(f"{file}: {what}", "this tokenizer can't be carried over to GGUF")


def _check_tokens(path: Path, pairs: list[token_check.Pair]) -> list[token_check.Pair]:
    """The pairs that the vocabulary as it stands in the written file gets right.

    Raises: GateError if what people write is tokenised otherwise. Not so for the exotic: where SentencePiece's own
    space is a token, as in edge-tiny, llama.cpp knows it as a space only, and reads one that is written out as bytes.
    """
    told = gguf_file.read(path).metadata
    columns = (told[f"tokenizer.ggml.{k}"] for k in ("tokens", "scores", "token_type"))
    tokenise = token_check.Tokenizer([vocabulary.Piece(*row) for row in zip(*columns, strict=True)])
    wrong = token_check.differing(pairs, tokenise)
    token_check.refuse([w for w in wrong if not token_check.exotic(w[0])], len(pairs), str(path))
    dropped = {text for text, _ in wrong}
    return [p for p in pairs if p[0] not in dropped]


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass
class File:
    """One GGUF being written."""

    path: Path
    quantisation: Quantisation
    plan: list[gemma3.Weight]
    places: list[TensorPlace] = field(init=False)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.places = gguf_file.place((w.target, w.shape, _type_of(w, self.quantisation)) for w in self.plan)

    def open(self, stack: ExitStack, entry_count: int, shared: bytes) -> None:
        self._file: IO[bytes] = stack.enter_context(self.path.open("wb"))
        own = gguf_file.pack_entries([Entry("general.file_type", "uint32", self.quantisation.file_type)])
        self._file.write(gguf_file.pack_header(entry_count + 1, shared + own, self.places))

    def write(self, data: Any) -> None:
        self._file.write(data)

    def pad(self, place: TensorPlace) -> None:
        self._file.write(bytes(gguf_file.padded(place.nbytes) - place.nbytes))

    def check(self) -> dict[str, Any]:
        """Read back what was written, and describe it."""
        header = gguf_file.verify(self.path, self.places)
        return {
            "file": self.path.name,
            "quantisation": self.quantisation.name,
            "bytes": self.path.stat().st_size,
            "file_type": self.quantisation.file_type,
            "tensor_types": header.types(),
            "export_s": self.seconds,
        }


def _write_weights(folder: checkpoint.Folder, plan: list[gemma3.Weight], files: list[File], reply: Any) -> None:
    total, done = sum(math.prod(w.shape) for w in plan), 0
    for n, weight in enumerate(plan):
        kinds = {f.places[n].type for f in files}
        for rows in _chunks(folder.tensors[weight.source], weight):
            made = {kind: _timed(rows, kind) for kind in sorted(kinds)}
            for f in files:
                data, seconds = made[f.places[n].type]
                started = time.perf_counter()
                f.write(data)
                f.seconds += seconds + time.perf_counter() - started
            done += rows.count
            reply.progress(done, total, weight.source)
        for f in files:
            f.pad(f.places[n])


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor, [rows, columns]: as they lie in the checkpoint, and as numbers."""

    name: str
    stored: Any
    dtype: str
    values: Any  # float32, shift added
    largest: float

    @property
    def count(self) -> int:
        return int(self.values.size)


def _chunks(tensor: checkpoint.Tensor, weight: gemma3.Weight) -> Iterator[Rows]:
    """A tensor in pieces of about CHUNK elements, checked to be finite."""
    import numpy as np

    columns = weight.shape[-1]
    left, step = math.prod(weight.shape), max(1, CHUNK // columns) * columns
    with tensor.file.open("rb") as f:
        f.seek(tensor.offset)
        while left:
            stored = np.fromfile(f, _KIND[tensor.dtype], min(step, left)).reshape(-1, columns)
            left -= stored.size
            values = _float32(stored, tensor.dtype)
            largest = float(max(values.max(), -values.min()))
            if not math.isfinite(largest):
                raise _not_finite(tensor)
            yield Rows(
                f"{tensor.file}: {tensor.name}",
                stored,
                tensor.dtype,
                values + np.float32(weight.shift) if weight.shift else values,
                largest + weight.shift,
            )


def _float32(stored: Any, dtype: str) -> Any:
    """bfloat16 is the upper half of a float32."""
    import numpy as np

    if dtype == "BF16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32)


def _timed(rows: Rows, kind: str) -> tuple[Any, float]:
    started = time.perf_counter()
    data = _quantise(rows, kind)
    return data, time.perf_counter() - started


def _quantise(rows: Rows, kind: str) -> Any:
    """The rows' bytes in a type. Raises EdgeError for weights beyond the range of float16."""
    import gguf
    import numpy as np

    if kind not in ("f32", "bf16") and rows.largest > HALF_MAX:
        raise EdgeError(
            f"{rows.name}: a weight of {rows.largest:g} is beyond float16 ({HALF_MAX:g}), which {kind} needs",
            "export as bf16 or f32; weights so large mostly mean that training diverged",
        )
    if kind == _SAME[rows.dtype] and kind != "f32":
        return rows.stored  # only norms have a shift, and they are written as f32
    with np.errstate(all="ignore"):  # blocks of zeros, or of next to nothing
        return gguf.quantize(rows.values, getattr(gguf.GGMLQuantizationType, kind.upper()))


def _not_finite(tensor: checkpoint.Tensor) -> EdgeError:
    """Counts what is wrong in the whole tensor."""
    import numpy as np

    with tensor.file.open("rb") as f:
        f.seek(tensor.offset)
        values = _float32(np.fromfile(f, _KIND[tensor.dtype], math.prod(tensor.shape)), tensor.dtype)
    nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    why = "training diverged: go back to an earlier checkpoint, lower the learning rate"
    if tensor.dtype == "F16":
        why = "Gemma 3 overflows in float16: train and save in bfloat16 or float32"
    count = f"{nans} NaN and {infinities} infinite weights of {values.size}"
    return EdgeError(f"{tensor.file}: {tensor.name} ({tensor.dtype}) has {count}", why)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("gguf", "numpy", "sentencepiece", "tokenizers")
    return {"python": sys.version.split()[0], **{n: version(n) for n in names}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
