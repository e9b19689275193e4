"""Identifiers for generated code: from any name on the wire to one that Dart and Kotlin take, unique where it stands.

Identifiers are ASCII, since Dart's are; what has no ASCII letter is named by its code point, a lone symbol by its Unicode
name. The name on the wire is kept beside every identifier, so nothing depends on this being reversible.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+[a-z]*")
_LONGEST = 48  # characters of an identifier; a sentence may be an enum's value


def listed(text: str) -> frozenset[str]:
    """Words, from text between spaces."""
    return frozenset(text.split())


DART_RESERVED = listed(
    "assert break case catch class const continue default do else enum extends false final finally for if in is new null"
    " rethrow return super switch this throw true try var void while with"
    " abstract as covariant deferred dynamic export extension external factory function get implements import interface"
    " late library mixin operator part required set static type typedef await yield async sync when"
)
KOTLIN_RESERVED = listed(
    "as break class continue do else false for fun if in interface is null object package return super this throw true"
    " try typealias typeof val var when while yield"
)


def words(wire: str) -> list[str]:
    """What a name is made of: `HTTPServer_2go` is HTTP, Server, 2, go. Never empty, first word never a digit's."""
    found = list(_words(wire)) or [w for c in wire for w in _words(unicodedata.name(c, f"U {ord(c):x}"))] or ["empty"]
    if found[0][0].isdigit():
        found.insert(0, "n")
    return _cut(found)


def _words(text: str) -> Iterator[str]:
    run = ""
    for c in unicodedata.normalize("NFC", text):
        plain = "".join(d for d in unicodedata.normalize("NFKD", c) if d.isascii() and d.isalnum())
        if plain or not c.isalnum():
            run += plain or " "
        else:
            yield from _WORD.findall(run)
            run = ""
            yield f"u{ord(c):x}"
    yield from _WORD.findall(run)


def _cut(found: list[str]) -> list[str]:
    kept: list[str] = []
    for word in found:
        if kept and sum(map(len, kept)) + len(word) > _LONGEST:
            break
        kept.append(word[:_LONGEST])
    return kept


def camel(parts: list[str]) -> str:
    """setLight"""
    return parts[0].lower() + "".join(map(_capital, parts[1:]))


def pascal(parts: list[str]) -> str:
    """SetLight"""
    return "".join(map(_capital, parts))


def upper_snake(parts: list[str]) -> str:
    """SET_LIGHT"""
    return "_".join(part.upper() for part in parts)


def package(wire: str) -> str:
    """The name of a package or module in both languages: `tuned-q8_0` is tuned_q8_0."""
    plain = re.sub("[^a-z0-9]+", "_", unicodedata.normalize("NFKD", wire).encode("ascii", "ignore").decode().lower())
    name = plain.strip("_") or "model"
    return name if name[0].isalpha() and name not in DART_RESERVED | KOTLIN_RESERVED else f"model_{name}"


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:].lower()


class Scope:
    """Names that stand side by side: none reserved, no two equal but for case (two classes are two files to a JVM).

    suffix: what a reserved word is followed by, "Value" for `is`.
    """

    def __init__(self, style: Callable[[list[str]], str], reserved: Iterable[str], suffix: str) -> None:
        self._style, self._suffix = style, suffix
        self._reserved = {name.lower() for name in reserved}
        self._taken = set(self._reserved)

    def claim(self, wire: str, ending: str = "") -> str:
        """An identifier for this name, never given out before. ending: a word that every name of its kind ends in."""
        parts = words(wire) + ([ending] if ending else [])
        name = first = self._style(parts)
        if name.lower() in self._reserved:
            name = first = self._style([*parts, self._suffix])
        number = 2
        while name.lower() in self._taken:
            name = f"{first}{'v' if first[-1].isdigit() else ''}{number}"
            number += 1
        self._taken.add(name.lower())
        return name
