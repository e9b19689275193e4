"""What a user said, in the forms that rows are compared in, and the script it is written in."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

from edge.records import digest_value
from edge.train.readers import Row, calls_of

MASK = "_"
_LETTERS = re.compile(r"[^\W_]+")
_MASKED = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
_SCRIPTS = {
    "HANGUL": "hangul", "LATIN": "latin", "CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "CYRILLIC": "cyrillic",
    "GREEK": "greek", "ARABIC": "arabic", "HEBREW": "hebrew", "DEVANAGARI": "devanagari", "THAI": "thai",
    "BENGALI": "bengali", "TAMIL": "tamil", "TELUGU": "telugu", "GEORGIAN": "georgian", "ARMENIAN": "armenian",
}  # fmt: skip
SCRIPTS = tuple(dict.fromkeys(_SCRIPTS.values()))


def said(row: Row) -> str:
    """Everything that the user says in a row, a line a turn."""
    return "\n".join(str(m["content"]) for m in row.messages if m["role"] == "user")


def normalised(text: str) -> str:
    """Words and numbers only: compatibility forms unified, case folded, every run of anything else one blank."""
    return " ".join(_LETTERS.findall(_folded(text)))


def masked(row: Row) -> str:
    """The user's text normalised, each value of the row's calls and each number in it a `_`: its phrasing.

    A text that holds nothing but values is its own phrasing.
    """
    text = _folded(said(row)).replace(MASK, " ")
    words = {_folded(v).strip() for v in values(row) if isinstance(v, str)} - {""}
    for word in sorted(words, key=lambda w: (-len(w), w)):
        text = _replaced(text, word)
    phrasing = " ".join(_MASKED.findall(_DIGITS.sub(MASK, text)))
    return phrasing if _LETTERS.search(phrasing) else normalised(said(row))


def _replaced(text: str, word: str) -> str:
    if not word.isascii():
        return text.replace(word, MASK)  # particles stand right behind a word in Korean, Japanese, Turkish …
    return re.sub(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", MASK, text)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def values(row: Row) -> Iterator[Any]:
    """Every single value in the arguments of a row's calls, those of earlier turns too."""
    for message in row.messages:
        if message["role"] == "assistant":
            for call in calls_of(message):
                yield from leaves(call.arguments)


def leaves(value: Any) -> Iterator[Any]:
    """The strings, numbers, booleans and nulls inside a JSON value."""
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def stands_in(value: Any, text: str) -> bool:
    """Whether a value can be copied from this text."""
    words = normalised(value if isinstance(value, str) else str(value))
    return bool(words) and words in normalised(text)


def identity(row: Row) -> str:
    """Equal for rows that teach the same: one conversation with one answer, whatever the developer's message says."""
    return digest_value([m for m in row.messages if m["role"] not in ("developer", "system")])


def question(row: Row, names: list[str]) -> str:
    """Equal for rows that ask the same of the same tools: only one answer can be right."""
    return digest_value([row.messages[:-1], sorted(names)])


# ---- scripts


def script(text: str) -> str:
    """The script of most of the letters: hangul, latin, …; other for a rarer one, none for a text without letters."""
    counts = scripts(text)
    return counts.most_common(1)[0][0] if counts else "none"


def scripts(text: str) -> Counter[str]:
    """How many letters of each script. A script is not a language: latin is English as well as Turkish."""
    return Counter(_script(c) for c in unicodedata.normalize("NFKC", text) if c.isalpha())


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return _SCRIPTS.get(unicodedata.name(letter, "").partition(" ")[0], "other")
