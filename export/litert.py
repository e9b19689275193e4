"""What the three LiteRT workers share: the tokens that a model ends on, and a look into finished files.

LiteRT-LM and MediaPipe tokenise with the checkpoint's `tokenizer.model` alone, so what the dialect needs must stand
there, as single pieces; tokens that only Hugging Face's files know would be spelled out. Standard library only, but for
SentencePiece, which every worker's environment has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from edge.dialects import Dialect
from edge.errors import EdgeError
from edge.export import vocabulary
from edge.export.checkpoint import Folder

_CHUNK = 1 << 20  # bytes
_CARRY = "copy tokenizer.model from the base model: transformers 5 leaves it out when saving"


@dataclass(frozen=True)
class Tokens:
    """start: what a sequence begins with; stop: the dialect's, in its order; pad: None if there is none."""

    start: str
    stop: tuple[str, ...]
    ids: dict[str, int]
    pad_id: int | None

    @property
    def start_id(self) -> int:
        return self.ids[self.start]

    @property
    def stop_ids(self) -> list[int]:
        return [self.ids[t] for t in self.stop]


def read_tokens(folder: Folder, dialect: Dialect, rows: int) -> Tokens:
    """The tokens of a checkpoint whose tokenizer the runtimes can use. rows: of its embedding.

    Raises: EdgeError for a missing or unreadable tokenizer.model, one of another size than the embedding, or one that
    lacks a token of the dialect or spells it in several pieces.
    """
    processor = _processor(folder)
    _check_size(folder, processor.vocab_size(), rows)
    config = folder.json("tokenizer_config.json")
    start = vocabulary.token_text(config, "bos_token", "<bos>")
    pad = processor.piece_to_id(vocabulary.token_text(config, "pad_token", "<pad>"))
    wanted = dict.fromkeys([start, *dialect.STOP, *dialect.FUNCTION_TOKENS])
    ids = {t: int(processor.piece_to_id(t)) for t in wanted}
    lost = [t for t, n in ids.items() if n == processor.unk_id()]
    # What ends or begins a sequence may be a control piece, which never comes out of a text: runtimes know it by its id.
    spelled = [
        t for t, n in ids.items() if t not in lost and not processor.is_control(n) and processor.encode(t) != [n]
    ]
    spelled += [t for t in _written(dialect) if t not in lost and processor.is_control(ids[t])]
    for bad, what in ((lost, "lacks"), (spelled, "does not read as single pieces:")):
        if bad:
            raise EdgeError(
                f"{folder.path / 'tokenizer.model'}: {what} {' '.join(bad)}",
                "start from a model whose tokenizer.model has them, such as FunctionGemma or edge-tiny; tokens that are "
                "only in tokenizer.json do not reach LiteRT-LM or MediaPipe",
            )
    return Tokens(start, tuple(dialect.STOP), ids, pad if pad != processor.unk_id() else None)


def _processor(folder: Folder) -> Any:
    from sentencepiece import SentencePieceProcessor

    file = folder.path / "tokenizer.model"
    if not file.is_file():
        raise EdgeError(f"{file}: missing; LiteRT-LM and MediaPipe read no other tokenizer", _CARRY)
    processor = SentencePieceProcessor()
    try:
        processor.load(str(file))
    except (RuntimeError, OSError):  # SentencePiece's own words are a line of its source
        raise EdgeError(f"{file}: not a SentencePiece model, or cut off", _CARRY) from None
    return processor


def _check_size(folder: Folder, pieces: int, rows: int) -> None:
    file = folder.path / "tokenizer.model"
    if pieces < rows:
        raise EdgeError(
            f"{file}: {pieces:,} pieces, the embedding has {rows:,} rows: a runtime stops with an error at the first id "
            "that the tokenizer lacks",
            "cut the embedding (and vocab_size) down to the tokenizer, or take the tokenizer.model that belongs to it; "
            "GGUF fills such rows itself",
        )
    if pieces > rows:
        raise EdgeError(
            f"{file}: {pieces:,} pieces, the embedding has {rows:,} rows: they are of different models", _CARRY
        )


def _written(dialect: Dialect) -> list[str]:
    """The tokens that stand in a prompt or an answer, `<eos>` left out: nobody writes that one."""
    return [t for t in dialect.FUNCTION_TOKENS if t != "<eos>"]


def digest(stream: IO[bytes], count: int | None = None) -> str:
    """sha256 of the next `count` bytes, or of all that are left."""
    sha = hashlib.sha256()
    while chunk := stream.read(_CHUNK if count is None else min(_CHUNK, count)):
        sha.update(chunk)
        count = None if count is None else count - len(chunk)
    return sha.hexdigest()


def strings(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the length-delimited fields of a protobuf message, not of those within.

    Raises: ValueError for bytes that are no such message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("cut off")
            yield key >> 3, message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("cut off")
