"""What is in an artifact: `read(path)` for any format that edge makes or takes. One file a format.

A format's file has NAME (for messages), SUFFIXES, `matches(path) -> bool` (by content) and `read(path) -> Found`. Reading is
light: headers, tables and checksums; no weights are computed with, no runtime is loaded. Adding a format is adding its
file to FORMATS.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from edge import records
from edge.errors import EdgeError
from edge.export.inspect import folder, gguf, litertlm, onnx, task, tflite
from edge.export.inspect.found import Found, Manifest, printable
from edge.records import Artifact, Checkpoint, PathLike

__all__ = ["FORMATS", "Damaged", "Found", "Manifest", "format_of", "manifest", "read"]

FORMATS: tuple[ModuleType, ...] = (gguf, litertlm, task, tflite, onnx, folder)  # a genai folder has a config.json, too


# What reading altered bytes raises; the last two where JSON or GGUF hold a value of another type than its key takes.
_UNREADABLE = (
    ValueError,
    struct.error,
    LookupError,
    OverflowError,
    MemoryError,
    RecursionError,
    TypeError,
    AttributeError,
)


class Damaged(EdgeError):
    """A file of a known format that is cut short or altered so that it can't be read."""


def format_of(path: Path) -> ModuleType:
    """The format's module: by content, else by the name's ending. Raises EdgeError naming the formats."""
    if not path.exists():
        raise EdgeError(
            f"{path}: no such file or folder", "check the path; artifacts lie in build/artifacts, by default"
        )
    by_content = (f for f in FORMATS if f.matches(path))
    by_name = (f for f in FORMATS if path.is_file() and path.name.removesuffix(".refused").endswith(f.SUFFIXES or "/"))
    found = next(by_content, None) or next(by_name, None)
    if found is None:
        names = ", ".join(f.NAME for f in FORMATS)
        raise EdgeError(f"{path}: of no format that edge reads", f"it reads: {names}")
    return found


def read(path: PathLike) -> Found:
    """Look into an artifact, and at the manifest beside it.

    Raises: EdgeError for what is of no known format, Damaged for what is not whole.
    """
    where = Path(path)
    form = format_of(where)
    try:
        found: Found = form.read(where)
    except EdgeError as error:
        raise _damaged(where, error.message, error.hint) from None
    except _UNREADABLE as error:
        raise _damaged(where, f"{where}: cut short or damaged: not a whole {form.NAME} ({error})", None) from None
    told = manifest(where, found.sha256)
    notices = [*found.notices, *(told.notices if told else [])]
    return replace(found, manifest=told, notices=list(dict.fromkeys(notices)))


def _damaged(path: Path, message: str, hint: str | None) -> Damaged:
    """With what the manifest knows of the file's size."""
    told = manifest(path)
    differs = f"; {told.differs}" if told and told.differs and told.differs not in message else ""
    return Damaged(printable(message + differs), hint or "copy it or export it again")


def manifest(path: Path, sha256: str | None = None) -> Manifest | None:
    """The record beside a file (FILE.json) or in a folder (checkpoint.json); None if there is none."""
    file = next((f for f in _places(path) if f.is_file()), None)
    if file is None:
        return None
    try:
        if file.name == "checkpoint.json":
            c = records.load(Checkpoint, file)
            _refuse_other_types(file, c)
            return Manifest(
                str(file), None, _differs(path, c.digest, None, sha256), c.dialect, notices=c.notices, source=c.source
            )
        a = records.load(Artifact, file)
        _refuse_other_types(file, a)
    except EdgeError as error:
        return Manifest(str(file), error.message)
    differs = _differs(path, a.digest, a.bytes, sha256)
    proof = a.proof if isinstance(a.proof, dict) else {}
    verdict, why = proof.get("verdict"), proof.get("why")
    return Manifest(
        str(file), None, differs, a.dialect, a.quantisation, a.context_tokens, a.notices, a.exporter,
        verdict if isinstance(verdict, str) else None, "; ".join(map(str, why)) if isinstance(why, list) else "",
    )  # fmt: skip


def _refuse_other_types(file: Path, record: Artifact | Checkpoint) -> None:
    """Of the fields that are shown and compared here; `records.load` looks at their names alone."""
    wanted = {"digest": str, "dialect": str, "quantisation": str, "exporter": str, "bytes": int}
    optional = {"source": str, "context_tokens": int}
    values = vars(record)
    wrong = [k for k, kind in wanted.items() if k in values and not isinstance(values[k], kind)]
    wrong += [k for k, kind in optional.items() if not isinstance(values.get(k), (kind, type(None)))]
    if not isinstance(record.notices, list) or not all(isinstance(notice, str) for notice in record.notices):
        wrong.append("notices")
    if wrong:
        raise EdgeError(f"{file}: its {', '.join(wrong)} can't be read: of another type")


def _places(path: Path) -> list[Path]:
    beside = path.resolve()
    inside = [path / "checkpoint.json"] if path.is_dir() else []
    names = [beside.name, beside.name.removesuffix(".refused")]
    return [*inside, *(beside.with_name(f"{name}.json") for name in names)]


def _differs(path: Path, digest: str, size: int | None, sha256: str | None) -> str | None:
    """How a file is not the one that its manifest describes."""
    has = path.stat().st_size
    if size is not None and path.is_file() and has != size:
        return f"{'cut short' if has < size else 'longer'}: the manifest says {size:,} bytes, the file has {has:,}"
    if sha256 is not None and sha256 != digest:
        return f"altered: the manifest says sha256 {digest[:12]}…, the {'files have' if path.is_dir() else 'file has'} {sha256[:12]}…"
    return None
