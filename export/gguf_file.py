"""GGUF's header, written and read back: the part of the format that is not weights.

A file is a header, key-value metadata, a table of tensors, padding, then every tensor's bytes, each padded to the
alignment. Numbers are little-endian. Our own, and not the gguf package's, for two reasons: one export writes a dozen
files with one vocabulary, which is packed once here; and the environments of llama.cpp and of the host, which check
what was written, don't have that package. The tests read our files with it. Standard library only.
Source: the GGUF specification, version 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edge.errors import EdgeError
from edge.export.quantisations import TYPE_NAMES, TYPES

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64",
         "float64")  # fmt: skip
_FORMATS = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i", "uint64": "Q",
            "int64": "q", "float32": "f", "float64": "d", "bool": "?"}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One metadata key. kind: a word of KINDS, or "array:" and the items' kind. Strings are str or UTF-8 bytes."""

    key: str
    kind: str
    value: Any


@dataclass(frozen=True)
class TensorPlace:
    """shape: outermost first (the file holds it reversed); offset: in bytes from the data's start; type: of TYPES."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return TYPES[self.type].nbytes(self.elements)


@dataclass(frozen=True)
class Header:
    """What a file says of itself. data_start: in bytes from the file's start."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorPlace]
    data_start: int

    def types(self) -> dict[str, int]:
        """How many tensors have each type."""
        counts: dict[str, int] = {}
        for t in self.tensors.values():
            counts[t.type] = counts.get(t.type, 0) + 1
        return counts


def place(tensors: Iterable[tuple[str, tuple[int, ...], str]]) -> list[TensorPlace]:
    """Lay tensors (name, shape, type) one after the other, aligned."""
    places, offset = [], 0
    for name, shape, kind in tensors:
        places.append(TensorPlace(name, shape, kind, offset))
        offset += padded(places[-1].nbytes)
    return places


def padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """Metadata as bytes; what several files share need be packed once only."""
    return b"".join(_string(e.key) + _kind_and_value(e) for e in entries)


def pack_header(entry_count: int, entries: bytes, tensors: list[TensorPlace]) -> bytes:
    """Everything before the weights, padding included."""
    table = b"".join(
        _string(t.name)
        + struct.pack(f"<I{len(t.shape)}Q", len(t.shape), *reversed(t.shape))
        + struct.pack("<IQ", TYPES[t.type].number, t.offset)
        for t in tensors
    )
    whole = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), entry_count) + entries + table
    return whole + bytes(padded(len(whole)) - len(whole))


def read(path: Path) -> Header:
    """A file's header. Raises EdgeError for a file that is no GGUF, or is cut off."""
    try:
        with path.open("rb") as f:
            return _read(_Reader(f), path)
    except (struct.error, UnicodeDecodeError, EOFError, IndexError):
        raise EdgeError(f"{path}: the GGUF header is cut off or damaged", "export it again") from None
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from None


def verify(path: Path, expected: Iterable[TensorPlace] | None = None) -> Header:
    """Read a file back: every tensor aligned, inside the file, none over another, and none of `expected` missing.

    Raises EdgeError saying what is wrong.
    """
    header, size, end = read(path), path.stat().st_size, 0
    for t in sorted(header.tensors.values(), key=lambda t: t.offset):
        if t.offset % ALIGNMENT or t.offset < end or header.data_start + t.offset + t.nbytes > size:
            where = f"lies at {t.offset}, {t.nbytes} bytes, in a file of {size}"
            raise EdgeError(f"{path}: tensor {t.name} {where}: damaged", "export it again")
        end = t.offset + t.nbytes
    for want in expected or ():
        if header.tensors.get(want.name) != want:
            raise EdgeError(
                f"{path}: tensor {want.name} is {header.tensors.get(want.name)}, expected {want}", "export it again"
            )
    return header


def _read(r: _Reader, path: Path) -> Header:
    if r.take(4) != MAGIC:
        raise EdgeError(f"{path}: not a GGUF file")
    version, tensor_count, entry_count = r.unpack("IQQ")
    if version not in (2, 3):
        raise EdgeError(f"{path}: GGUF version {version}, this edge reads 2 and 3")
    metadata = {r.string(): r.value(KINDS[r.unpack("I")[0]]) for _ in range(entry_count)}
    tensors = {}
    for _ in range(tensor_count):
        name, dimensions = r.string(), r.unpack("I")[0]
        shape = tuple(reversed(r.unpack(f"{dimensions}Q")))
        number, offset = r.unpack("IQ")
        if number not in TYPE_NAMES:
            raise EdgeError(f"{path}: tensor {name} has type {number}, which this edge does not know")
        tensors[name] = TensorPlace(name, shape, TYPE_NAMES[number], offset)
    return Header(metadata, tensors, padded(r.position))


class _Reader:
    def __init__(self, f: IO[bytes]) -> None:
        self._file, self.position = f, 0

    def take(self, n: int) -> bytes:
        data = self._file.read(n)
        if len(data) < n:
            raise EOFError
        self.position += n
        return data

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def string(self) -> str:
        return self.take(self.unpack("Q")[0]).decode("utf-8", "surrogateescape")

    def value(self, kind: str) -> Any:
        if kind == "string":
            return self.string()
        if kind != "array":
            return self.unpack(_FORMATS[kind])[0]
        item, count = self.unpack("IQ")
        word = KINDS[item]
        if word in _FORMATS:
            return list(self.unpack(f"{count}{_FORMATS[word]}"))
        return [self.value(word) for _ in range(count)]


def _string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _kind_and_value(e: Entry) -> bytes:
    kind, _, item = e.kind.partition(":")
    start = struct.pack("<I", KINDS.index(kind))
    if kind == "string":
        return start + _string(e.value)
    if kind != "array":
        return start + struct.pack("<" + _FORMATS[kind], e.value)
    start += struct.pack("<IQ", KINDS.index(item), len(e.value))
    if item == "string":
        return start + b"".join(map(_string, e.value))
    return start + struct.pack(f"<{len(e.value)}{_FORMATS[item]}", *e.value)
