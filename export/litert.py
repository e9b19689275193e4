"""What the LiteRT workers share: the tokens that a model ends on, and making bundles and looking into them.

LiteRT-LM and MediaPipe tokenise with the checkpoint's `tokenizer.model` alone, so what the dialect needs must stand
there, as single pieces; tokens that only Hugging Face's files know would be spelled out. Standard library only, but for
SentencePiece, which every worker's environment has.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge.dialects import Dialect
from edge.errors import EdgeError, MissingError
from edge.export import vocabulary
from edge.export.checkpoint import Folder
from edge.records import Json

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


def check_disk(out: Path, files: list[Json]) -> None:
    """For bundles of these TFLites and their tokenizers. Raises MissingError with what is needed and what is free."""
    needed = sum(Path(f["model"]).stat().st_size for f in files) + (16 << 20)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise MissingError(f"{out}: {needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free", "free some disk")


def bundles(request: Json, reply: Any, make: Callable[[Path, Json], None], look: Callable[[Path, Json], Json]) -> Json:
    """Make the bundle of each of the request's `files` and read it back: "artifacts" and "checks" of a worker's answer.

    make: writes the file. look: raises GateError if what it reads is not what was put in, else returns what it saw.
    """
    out, files = Path(request["out"]), request["files"]
    artifacts: list[Json] = []
    seen: Json = {}
    for n, f in enumerate(files):
        reply.progress(n, len(files), f["quantisation"])
        target, started = out / f["file"], time.perf_counter()
        make(target, f)
        seconds = time.perf_counter() - started
        seen = look(target, f)
        told = {"file": f["file"], "quantisation": f["quantisation"], "bytes": target.stat().st_size}
        artifacts.append({**told, "export_s": seconds, "checks": {"carried_sha256": f["sha256"]}})
    return {"artifacts": artifacts, "checks": seen}
