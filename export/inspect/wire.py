"""Flatbuffers and protobuf messages, read without their schemas: a field by its number, and nothing is copied.

TFLite and `.litertlm` headers are flatbuffers; SentencePiece models, `LlmMetadata`, `.task` metadata and ONNX are
protobuf. Our own readers, because inspecting wants a dozen fields of each, and what carries the schemas is heavy for a
command that answers at once: ai-edge-litert 58 MB, onnx 40 MB with numpy, litert-lm-builder 4 MB for its two; a worker
for each would take longer to start than the reading does. The formats' encodings don't change; field numbers never
are given twice. Whoever reads names each number with its source. Standard library only.
Sources: flatbuffers' internals (https://flatbuffers.dev/internals/), protobuf's encoding
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

Value = Union[int, memoryview]
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protobuf; 3 and 4 are groups, which no format here uses


class CutOff(ValueError):
    """Something points outside of the data: a file that is cut short, altered, or of another format."""


def mapped(path: Path) -> memoryview:
    """A file's bytes without reading them. The mapping ends when nothing refers to it any more."""
    with path.open("rb") as f:
        if not path.stat().st_size:
            raise CutOff("the file is empty")
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))


def part(data: memoryview, begin: int, end: int) -> memoryview:
    """A slice that is whole or an error; Python's own would be shorter without a word."""
    if not 0 <= begin <= end <= len(data):
        raise CutOff(f"bytes {begin:,} to {end:,} are wanted of {len(data):,}")
    return data[begin:end]


# Flatbuffers: a table begins with the distance to its vtable, which holds the distance of each field from the table.


class Table:
    """One table. Fields are numbered from 0 in the schema's order; a missing one is the default."""

    __slots__ = ("_at", "_data", "_vtable", "_vtable_size")

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._get("i", at)
        self._vtable_size = self._get("H", self._vtable)

    def number(self, field: int, layout: str, default: int = 0) -> int:
        """A scalar. layout: struct's letter."""
        at = self._field(field)
        return self._get(layout, at) if at else default

    def text(self, field: int) -> str:
        return str(self.bytes(field), "utf-8", "replace")

    def bytes(self, field: int) -> memoryview:
        """A vector of bytes or a string, empty if missing."""
        return self._vector(field, 1)

    def numbers(self, field: int, layout: str = "i") -> list[Any]:
        """A vector of scalars."""
        size = struct.calcsize("<" + layout)
        data = self._vector(field, size)
        return list(struct.unpack(f"<{len(data) // size}{layout}", data))

    def table(self, field: int) -> Table | None:
        at = self._field(field)
        return Table(self._data, at + self._get("I", at)) if at else None

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        at = self._field(field)
        if not at:
            return []
        start = at + self._get("I", at) + 4
        distances = self.numbers(field, "I")
        return [Table(self._data, start + 4 * n + d) for n, d in enumerate(distances)]

    def _field(self, field: int) -> int:
        """Where a field's value lies, 0 if it is missing."""
        slot = 4 + 2 * field
        distance = self._get("H", self._vtable + slot) if slot + 2 <= self._vtable_size else 0
        return self._at + distance if distance else 0

    def _vector(self, field: int, size: int) -> memoryview:
        at = self._field(field)
        if not at:
            return self._data[:0]
        start = at + self._get("I", at)
        return part(self._data, start + 4, start + 4 + size * self._get("I", start))

    def _get(self, layout: str, at: int) -> int:
        size = struct.calcsize("<" + layout)
        return int(struct.unpack("<" + layout, part(self._data, at, at + size))[0])


def root(data: memoryview) -> Table:
    """The table that a flatbuffer begins with."""
    return Table(data, struct.unpack("<I", part(data, 0, 4))[0])


# Protobuf: a message is a run of fields, each a number with its wire type and then its value.


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value): an int for a varint, the bytes of everything else."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise CutOff(f"no protobuf message: wire type {kind} at byte {at:,}")
        yield tag >> 3, part(data, at, at + size)
        at += size


class Message:
    """A message with its fields gathered by number. Asking for a missing one gives the default."""

    __slots__ = ("_fields",)

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[Value]] = {}
        for number, value in fields(data):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def __iter__(self) -> Iterator[int]:
        """The numbers of the fields that are there."""
        return iter(self._fields)

    def number(self, number: int, default: int = 0) -> int:
        """An integer (the last one counts). Negative ones are stored as 64 bits."""
        values = [v for v in self._fields.get(number, []) if isinstance(v, int)]
        return (values[-1] ^ 1 << 63) - (1 << 63) if values else default

    def numbers(self, number: int) -> list[int]:
        """A repeated integer, packed or not."""
        found: list[int] = []
        for value in self._fields.get(number, []):
            found += [value] if isinstance(value, int) else _packed(value)
        return found

    def texts(self, number: int) -> list[str]:
        return [str(v, "utf-8", "replace") for v in self._fields.get(number, []) if not isinstance(v, int)]

    def text(self, number: int) -> str | None:
        """A string (the last one counts), None if missing."""
        found = self.texts(number)
        return found[-1] if found else None

    def real(self, number: int) -> float | None:
        """A 32-bit float."""
        values = [v for v in self._fields.get(number, []) if not isinstance(v, int) and len(v) == 4]
        return float(struct.unpack("<f", values[-1])[0]) if values else None

    def bytes(self, number: int) -> memoryview | None:
        values = [v for v in self._fields.get(number, []) if not isinstance(v, int)]
        return values[-1] if values else None

    def messages(self, number: int) -> list[Message]:
        return [Message(v) for v in self._fields.get(number, []) if not isinstance(v, int)]

    def message(self, number: int) -> Message | None:
        found = self.bytes(number)
        return None if found is None else Message(found)


def _packed(data: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Seven bits a byte, low ones first; the top bit says that more follow."""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
            if shift > 63:
                raise CutOff(f"no protobuf message: a number of more than 64 bits at byte {at:,}")
    except IndexError:
        raise CutOff(f"the message ends in the middle of a number, at byte {at:,}") from None
