"""`.task`: MediaPipe's bundle, a zip of stored (never compressed) members.

Field numbers of METADATA: found by running the bundler of mediapipe 0.10.35 with one option at a time (llm_params.proto).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgeError
from edge.export.inspect import tflite, tokens, wire
from edge.export.inspect.found import NO_TOKENIZER, Found, Section, sha256
from edge.export.inspect.wire import Message, part

NAME, SUFFIXES = "MediaPipe .task", (".task",)
MODEL, TOKENIZER, METADATA = "TF_LITE_PREFILL_DECODE", "TOKENIZER_MODEL", "METADATA"
_STOP, _START, _PROMPT, _PROMPTS = 5, 6, 8, 17  # of METADATA
# What the bundler writes into METADATA for its options, in two places: field 8 for older runtimes, 17 for newer ones.
_OLD = {"system prompt": 1, "user prefix": 2, "user suffix and model prefix": 3, "user role": 10, "end role": 14}
_ROLES, _PREFIX, _SUFFIX = {"user": 1, "model": 2, "system": 3}, 2, 3
_LOCAL_HEADER = 30  # bytes of a member's own header, before its name
# What zipfile raises for altered bytes: a version or a method that it lacks, an offset before the file, half a name, …
_NO_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error, OSError)
_AGAIN = "copy it or export it again"


@dataclass(frozen=True)
class _Member:
    name: str
    begin: int
    data: memoryview
    compressed: bool


def matches(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as z:
            return not {MODEL, METADATA}.isdisjoint(z.namelist())
    except _NO_ZIP:
        return False  # damaged; then the name decides


def read(path: Path) -> Found:
    """Raises EdgeError or wire.CutOff for a bundle that is not whole; the members' checksums are looked at, too."""
    data = wire.mapped(path)
    members = {m.name: m for m in _members(path, data)}
    graph = tflite.parse(members[MODEL].data) if MODEL in members else None
    tokenizer = tokens.sentencepiece(members[TOKENIZER].data) if TOKENIZER in members else None
    told = Message(members[METADATA].data) if METADATA in members else Message(data[:0])
    known, start = tokenizer or NO_TOKENIZER, told.text(_START)
    return Found(
        path=str(path),
        format="task",
        bytes=len(data),
        sha256=sha256(data),
        tokenizer=tokenizer,
        start=known.by_text(start) if start else None,
        stops=[known.by_text(t) for t in told.texts(_STOP)],
        sections=[Section(m.name, m.begin, len(m.data), sha256(m.data)) for m in members.values()],
        facts={
            "prompt": _affixes(told),
            "compressed": [m.name for m in members.values() if m.compressed],
            "lacks": [name for name in (MODEL, TOKENIZER, METADATA) if name not in members],
        },
        **(tflite.described(graph) if graph else {}),
    )


def _members(path: Path, data: memoryview) -> list[_Member]:
    """Every member with its bytes, which are copied only where they are compressed."""
    try:
        with zipfile.ZipFile(path) as z:
            bad = z.testzip()
            if bad:
                raise EdgeError(f"{path}: altered: the checksum of {bad} is wrong", _AGAIN)
            return [_member(z, info, data) for info in z.infolist()]
    except _NO_ZIP as error:
        raise EdgeError(f"{path}: cut short or altered: {error}", _AGAIN) from None


def _member(z: zipfile.ZipFile, info: zipfile.ZipInfo, data: memoryview) -> _Member:
    """A member's bytes follow its own header, a name and padding, whose lengths stand at the header's end."""
    at = info.header_offset
    name, extra = struct.unpack("<HH", part(data, at + _LOCAL_HEADER - 4, at + _LOCAL_HEADER))
    begin = at + _LOCAL_HEADER + name + extra
    if info.compress_type != zipfile.ZIP_STORED:
        return _Member(info.filename, begin, memoryview(z.read(info)), True)
    return _Member(info.filename, begin, part(data, begin, begin + info.file_size), False)


def _affixes(m: Message) -> dict[str, str]:
    """What the runtime writes around a turn, where it writes anything; by role if the bundle has it by role."""
    old, new = m.message(_PROMPT), m.message(_PROMPTS)
    found = {}
    for role, n in _ROLES.items():
        turn = new.message(n) if new else None
        for word, number in (("prefix", _PREFIX), ("suffix", _SUFFIX)):
            if turn and (text := turn.text(number)):
                found[f"{role} {word}"] = text
    again = ("user prefix", "user suffix and model prefix") if found else ()
    told = {name: text for name, n in _OLD.items() if old and name not in again and (text := old.text(n))}
    return {**found, **told}
