"""Find calls that stand in a text as bare JSON objects, without tags around them, while the text is being generated.

An object is followed character by character through JSON's grammar, so it is known at once when it ends and when it can't
be one any more; work is linear in the text, however it is cut (`work` counts characters, a test holds it down):

- an object whose first key is none that a call begins with is text, and what lies in it is looked at afresh;
- one that breaks off has cost what was read of it, an error, and nothing behind: where the last string before the break
  ends in a brace, a quote was forgotten, and that brace opens the next object. What lay inside as an argument is no call.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional

from edge.calls import Call, Parsed
from edge.callstream import Unreadable
from edge.jsonformat import MAX_DEPTH

_OPEN, _WHOLE, _BROKEN, _OTHER = "open", "whole", "broken", "other"  # what an object has turned out to be
_KEY, _KEY_OR_END, _COLON, _VALUE, _VALUE_OR_END, _AFTER = range(6)  # what may come next
_KEYS, _VALUES, _ENDS = (_KEY, _KEY_OR_END), (_VALUE, _VALUE_OR_END), (_KEY_OR_END, _VALUE_OR_END, _AFTER)
_IN_STRING = re.compile(r'[^"\\{\x00-\x1f]+')
_SPACE = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"[-+.0-9A-Za-z]+")  # a number, true, false, null; json says later whether it is one
_PAIRS = {"}": "{", "]": "["}


@dataclass(frozen=True)
class Syntax:
    """How a dialect writes calls.

    keys: those that a call's object may begin with. tag: a token that may stand before a call. read: an object's text -> a
    call and notes on what was off-format, None if it is other JSON; raises Unreadable.
    """

    keys: tuple[str, ...]
    tag: str
    stop: tuple[str, ...]
    read: Callable[[str], Optional[tuple[Call, list[str]]]]


class _Object:
    """One object from its brace on. `again`, once it is broken: the beginning of the object that begins inside it."""

    def __init__(self, start: int, keys: tuple[str, ...]) -> None:
        self.start, self.status, self.why = start, _OPEN, ""
        self.pieces = ["{"]
        self.known = False  # is its first key read?
        self.again: Optional[str] = None
        self._keys, self._stack, self._next = keys, ["{"], _KEY_OR_END
        self._string = self._escaped = self._word = False
        self._tail: Optional[str] = None  # of a string: what stands from its last brace on, if nothing but space does

    def take(self, text: str, at: int) -> int:
        """Read on from here; returns where it stopped: at the end, or where it is no longer open."""
        while at < len(text) and self.status == _OPEN:
            end = self._in_string(text, at) if self._string else self._between(text, at)
            self.pieces.append(text[at:end])
            at = end
        return at

    def _in_string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped, self._tail = False, None
            return at + 1
        run = _IN_STRING.match(text, at)
        if run:
            self._tail = self._tail + run.group() if self._tail is not None and run.group().isspace() else None
            return run.end()
        character = text[at]
        if character < " ":
            self.again = self._tail
            return self._break(at, "a line end or another control character in a string")
        if character == '"':
            self._string, self.again, self._tail = False, None if self._tail is None else self._tail + '"', None
            self._after_string()
        else:
            self._escaped, self._tail = character == "\\", "{" if character == "{" else None
        return at + 1

    def _after_string(self) -> None:
        if not self.known and len(self._stack) == 1:
            self.known = True
            if "".join(self.pieces).lstrip("{ \t\r\n")[1:] not in self._keys:
                self.status = _OTHER
        self._next = _COLON if self._next in _KEYS else _AFTER

    def _between(self, text: str, at: int) -> int:
        """Between strings; nothing is consumed that can't come next."""
        character, space = text[at], _SPACE.match(text, at)
        if space:
            self.again, self._word = None, False
            return space.end()
        word = _WORD.match(text, at) if self._next in _VALUES or self._word else None
        if not self.known and character != '"':
            self.status = _OTHER
            return at
        if word:
            self._next, self._word = _AFTER, True
            return word.end()
        if character == '"' and self._next in (*_KEYS, *_VALUES):
            self._string = True
        elif character in "{[" and self._next in _VALUES:
            if len(self._stack) == MAX_DEPTH:
                return self._break(at, f"nested deeper than {MAX_DEPTH} levels")
            self._stack.append(character)
            self._next = _KEY_OR_END if character == "{" else _VALUE_OR_END
        elif character in _PAIRS and self._next in _ENDS and self._stack[-1] == _PAIRS[character]:
            self._stack.pop()
            self._next = _AFTER
            self.status = _OPEN if self._stack else _WHOLE
        elif character == ":" and self._next == _COLON:
            self._next = _VALUE
        elif character == "," and self._next == _AFTER:
            self._next = _KEY if self._stack[-1] == "{" else _VALUE
        else:
            return self._break(at, f"{character!r} can't stand there")
        self.again, self._word = None, False
        return at + 1

    def _break(self, at: int, why: str) -> int:
        self.status, self.why = _BROKEN, why
        return at


@dataclass
class ObjectStream:
    """A StreamParser over one Syntax."""

    syntax: Syntax
    work: int = 0
    _calls: list[Call] = field(default_factory=list)
    _errors: list[str] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _parts: list[list[str]] = field(default_factory=lambda: [[]])  # the pieces of text between calls, and around them
    _object: Optional[_Object] = None
    _position: int = 0

    def feed(self, chunk: str) -> list[Call]:
        known, at = len(self._calls), 0
        while at < len(chunk):
            if self._object is None:
                at = self._text(chunk, at)
                continue
            end = self._object.take(chunk, at)
            self.work += end - at
            at = end
            if self._object.status != _OPEN:
                self._settle(self._object, self._position + at)
        self._position += len(chunk)
        return self._calls[known:]

    def close(self) -> Parsed:
        last, self._object = self._object, None
        if last and last.known:
            self._errors.append(f"the call at character {last.start}: cut off")
        elif last:
            self._parts[-1] += last.pieces
        texts = ["".join(pieces) for pieces in self._parts]
        for n, text in enumerate(texts[:-1]):
            before = text.rstrip()
            if before.endswith(self.syntax.tag):
                text = before[: -len(self.syntax.tag)]
            texts[n] = "" if n and not text.strip("; ,\t\r\n") else text  # what stands between two calls
        texts[-1] = _without_stop(texts[-1], self.syntax.stop)
        whole = "".join(texts)
        if self.syntax.tag in whole:
            self._errors.append(f"what follows {self.syntax.tag} is no JSON call")
        return Parsed(self._calls, whole, self._errors, self._notes)

    def _text(self, chunk: str, at: int) -> int:
        """Text up to the next brace; returns where to go on."""
        brace = chunk.find("{", at)
        end = len(chunk) if brace < 0 else brace
        self._parts[-1].append(chunk[at:end])
        self.work += end - at
        if brace < 0:
            return end
        self._object = _Object(self._position + brace, self.syntax.keys)
        return end + 1

    def _settle(self, it: _Object, position: int) -> None:
        self._object = None
        if it.status == _OTHER:
            self._parts[-1] += it.pieces
        elif it.status == _BROKEN:
            self._errors.append(f"the call at character {it.start}: not JSON: {it.why}")
            if it.again:
                self._object = _Object(position - len(it.again), self.syntax.keys)
                self._object.take(it.again, 1)
        else:
            self._read(it)

    def _read(self, it: _Object) -> None:
        body = "".join(it.pieces)
        self.work += len(body)
        try:
            found = self.syntax.read(body)
        except Unreadable as why:
            self._errors.append(f"the call at character {it.start}: {why}")
            return
        if found is None:
            self._parts[-1].append(body)
            return
        call, notes = found
        self._calls.append(call)
        self._notes += [f"{call.name}: {note}" for note in notes]
        self._parts.append([])


def _without_stop(text: str, stop: Sequence[str]) -> str:
    """Without the stop tokens at the end and the white space around them; as it is if there are none."""
    end, found = len(text), False
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        token = next((t for t in stop if text.endswith(t, 0, end)), None)
        if token is None:
            return text[:end] if found else text
        end, found = end - len(token), True
