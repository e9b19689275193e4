"""Find calls in a model's output while it is being generated: the part of parsing that dialects share.

A dialect wraps a call in two tags and puts strings between quotes, inside which tags mean nothing. That is all this
file knows; what lies between the tags is the dialect's to read. Work is linear in the text, however it is cut:

- tags are found once, on the new chunk and the few characters that may be the beginning of a tag;
- a call that can't be read gives back what follows the first tag inside it, so that a forgotten quote doesn't cost the
  calls behind it. Two readings of the same text differ in whether they begin inside quotes, so a third reading never
  gets past the next tag: no piece of text is read more than a few times. `work` counts it; a test holds it down.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Callable

from edge.calls import Call, Parsed

Token = tuple[str, int]  # a tag or a piece of text, and where it starts


class Unreadable(Exception):
    """What lies between two call tags is no call; the message says why, on one line."""


@dataclass(frozen=True)
class Syntax:
    """How a dialect marks calls.

    read: the text between the tags -> a call and notes on what was off-format; raises Unreadable.
    letters: further strings that are one token, so that `quote` isn't found inside them (an escaped quote).
    """

    begin: str
    end: str
    quote: str
    stop: tuple[str, ...]
    read: Callable[[str], tuple[Call, list[str]]]
    letters: tuple[str, ...] = ()

    def tags(self) -> tuple[str, ...]:
        return (self.begin, self.end, self.quote, *self.letters, *self.stop)


class _Lexer:
    """Cuts text into tags and the pieces between them; holds back what may be the beginning of a tag."""

    def __init__(self, tags: Iterable[str]) -> None:
        ordered = sorted(set(tags), key=len, reverse=True)
        self._match = re.compile("|".join(map(re.escape, ordered)))
        self._prefixes = {tag[:n] for tag in ordered for n in range(1, len(tag))}
        self._longest = len(ordered[0]) - 1
        self._held = ""
        self._position = 0

    def feed(self, chunk: str) -> list[Token]:
        text, end, tokens = self._held + chunk, 0, []
        for match in self._match.finditer(text):
            tokens += self._piece(text[end : match.start()]) + self._piece(match.group())
            end = match.end()
        cut = self._possible_tag(text, end)
        self._held = text[cut:]
        return tokens + self._piece(text[end:cut])

    def close(self) -> list[Token]:
        held, self._held = self._held, ""
        return self._piece(held)

    def _piece(self, text: str) -> list[Token]:
        start = self._position
        self._position += len(text)
        return [(text, start)] if text else []

    def _possible_tag(self, text: str, start: int) -> int:
        """Where the longest ending of `text` starts that a tag could begin with; its length if there is none."""
        for cut in range(max(start, len(text) - self._longest), len(text)):
            if text[cut:] in self._prefixes:
                return cut
        return len(text)


@dataclass
class CallStream:
    """A StreamParser over one Syntax. `work` counts characters looked at, for the test that holds it linear."""

    syntax: Syntax
    work: int = 0
    _calls: list[Call] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _errors: list[str] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _open: list[Token] = field(default_factory=list)  # the call being read, its begin tag first; empty between calls
    _quoted: bool = False
    _behind: int = 0  # the pieces of `_text` before the last call: what stands there is verbatim

    def __post_init__(self) -> None:
        self._lexer = _Lexer(self.syntax.tags())

    def feed(self, chunk: str) -> list[Call]:
        known = len(self._calls)
        self._run(self._lexer.feed(chunk))
        return self._calls[known:]

    def close(self) -> Parsed:
        self._run(self._lexer.close())
        while self._open:
            self._run(self._finish(None))
        before, behind = self._text[: self._behind], self._text[self._behind :]
        text = "".join([*before, *_without_stop(behind, self.syntax.stop)])
        return Parsed(self._calls, text, self._errors, self._notes)

    def _run(self, tokens: Sequence[Token]) -> None:
        queue = deque(tokens)
        while queue:
            queue.extendleft(reversed(self._step(queue.popleft())))

    def _step(self, token: Token) -> Sequence[Token]:
        """Take one token; returns those to take again before the next."""
        tag = token[0]
        self.work += len(tag)
        if not self._open and tag != self.syntax.begin:
            self._text.append(tag)
        elif self._open and not self._quoted and tag in (self.syntax.begin, self.syntax.end):
            return self._finish(token)
        else:
            self._quoted ^= tag == self.syntax.quote and bool(self._open)
            self._open.append(token)
        return ()

    def _finish(self, last: Token | None) -> Sequence[Token]:
        """The open call ends: at its end tag, at the next begin tag or (None) with the text."""
        (_, start), *body = self._open
        self._open, self._quoted, self._behind = [], False, len(self._text)
        after = [last] if last else []
        try:
            self._read([text for text, _ in body], last[0] if last else "")
        except Unreadable as why:
            self._errors.append(f"the call at character {start}: {why}")
            return self._after_first_tag([*body, *after])
        return self._after_first_tag(after)

    def _read(self, pieces: list[str], last: str) -> None:
        ended = last == self.syntax.end
        body = "".join(pieces if ended else _without_stop(pieces, self.syntax.stop))
        self.work += len(body)
        if ended and not body.strip():
            return  # an empty pair of tags: neither a call nor an error
        call, notes = self.syntax.read(body)
        if last and not ended:  # a stop token may have eaten the tag at the end of the text, but not here
            notes = [*notes, f"no {self.syntax.end} before the next call"]
        self._calls.append(call)
        self._notes += [f"{call.name}: {note}" for note in notes]

    def _after_first_tag(self, tokens: Sequence[Token]) -> Sequence[Token]:
        """What to read again after a failed call: from the next begin tag, or from behind the end tag."""
        for i, (tag, _) in enumerate(tokens):
            if tag in (self.syntax.begin, self.syntax.end):
                return tokens[i + (tag == self.syntax.end) :]
        return ()


def _without_stop(pieces: list[str], stop: tuple[str, ...]) -> list[str]:
    """Without the stop tokens at the end and the white space around them; as it is if there are none."""
    kept = len(pieces)
    while kept and (pieces[kept - 1] in stop or pieces[kept - 1].isspace()):
        kept -= 1
    if not any(piece in stop for piece in pieces[kept:]):
        return pieces
    return [*pieces[: kept - 1], pieces[kept - 1].rstrip()] if kept else []
