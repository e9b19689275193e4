"""What the LiteRT workers share: the tokens that a model ends on, and making bundles and looking into them.

With Gemma's `tokenizer.model` LiteRT-LM and MediaPipe tokenise by SentencePiece alone, so what the dialect needs must
stand there, as single pieces; tokens that only Hugging Face's files know would be spelled out. Families with byte-level
BPE have a `tokenizer.json`, which LiteRT-LM takes whole. Standard library only, but for SentencePiece, which every
worker's environment has.
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
from edge.export import families, vocabulary
from edge.export.checkpoint import Folder
from edge.records import Json

_CHUNK = 1 << 20  # bytes
_JSON = "copy tokenizer.json and tokenizer_config.json from the base model, as it was trained with them"
_CARRY = "copy tokenizer.model from the base model: transformers 5 leaves it out when saving"


@dataclass(frozen=True)
class Tokens:
    """file: the tokenizer. count: how many ids it has. start: what a sequence begins with, None (and no start_id) where
    that is nothing special; stop: the dialect's, in its order; pad_id: None if there is none."""

    file: Path
    count: int
    start: str | None
    stop: tuple[str, ...]
    ids: dict[str, int]
    pad_id: int | None

    @property
    def sentencepiece(self) -> bool:
        return self.file.suffix == ".model"

    @property
    def start_id(self) -> int:
        assert self.start is not None
        return self.ids[self.start]

    @property
    def stop_ids(self) -> list[int]:
        return [self.ids[t] for t in self.stop]


def read_tokens(folder: Folder, dialect: Dialect, rows: int) -> Tokens:
    """The tokens of a checkpoint whose tokenizer the runtimes can use. rows: of its embedding.

    Raises: EdgeError for a missing or unreadable tokenizer, one of another size than the embedding (Hugging Face's may
    be smaller: such rows are cut off), or one that lacks a token of the dialect or spells it in several pieces.
    """
    if folder.config.get("model_type") in families.CONVERTED:
        return _hugging_face(folder, dialect, rows)
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
    pad_id = pad if pad != processor.unk_id() else None
    return Tokens(folder.path / "tokenizer.model", rows, start, tuple(dialect.STOP), ids, pad_id)


def _hugging_face(folder: Folder, dialect: Dialect, rows: int) -> Tokens:
    """Of tokenizer.json, in which the tokens that are never cut are listed apart."""
    file = folder.path / "tokenizer.json"
    if not file.is_file():
        raise EdgeError(f"{file}: missing; of this family it is what runtimes tokenise with", _JSON)
    told = folder.json("tokenizer.json")
    try:
        whole = {str(t["content"]): int(t["id"]) for t in told["added_tokens"]}
        known = {*map(int, told["model"]["vocab"].values()), *whole.values()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EdgeError(f"{file}: not a tokenizer that can be read: {error!r}", _JSON) from None
    count = max(known, default=-1) + 1
    if count > rows:
        raise EdgeError(
            f"{file}: {count:,} tokens, the embedding has {rows:,} rows: they are of different models", _JSON
        )
    if len(known) < count:
        first = next(n for n in range(count) if n not in known)
        raise EdgeError(f"{file}: no token has the id {first}: a runtime stops with an error there", _JSON)
    lost = [t for t in dict.fromkeys([*dialect.STOP, *dialect.FUNCTION_TOKENS]) if t not in whole]
    if lost:
        raise EdgeError(
            f"{file}: lacks {' '.join(lost)} among its added_tokens, so a runtime would spell them in several pieces",
            "start from a model of this dialect's family, or name the dialect that it was trained in",
        )
    config = folder.json("tokenizer_config.json")
    start, pad = (vocabulary.token_text(config, f"{kind}_token", "") for kind in ("bos", "pad"))
    return Tokens(
        file, count, start if start in dialect.FUNCTION_TOKENS else None, tuple(dialect.STOP), whole, whole.get(pad)
    )


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
