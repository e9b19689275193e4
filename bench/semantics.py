"""When two arguments mean the same though they are written differently: dates, numbers and case normalised.

What is unified, and nothing else:

    case, width     letters without case, full-width forms as usual ones (NFKC, casefold); Seoul = SEOUL
    blanks, quotes  runs of blanks are one, those at the ends go; curly quotes are straight; quotes around the whole and
                    .,!?;: at its end go
    numbers         by value, as text or not: 20 = 20.0 = "20" = "1,000" with 1000; not "007", not "20 %"
    truth           "true" = true, "false" = false
    dates           2025-06-06 = 2025/6/6 = June 6, 2025 = 6 June 2025 = 2025년 6월 6일; not 6/6/2025, which may be either
    times           14:00 = 14:00:00 = 2 pm = 2:00 PM = 오후 2시 = 14시
    both            2025-06-06T14:00:00 = 2025-06-06 14:00 = June 6, 2025 at 2 pm; with a zone (Z, +09:00) as UTC
    lists, objects  item by item in order; key by key

A missing argument is not an empty one, and null is not missing. Names of tools and arguments are compared as they are.
Standard library only.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from decimal import Decimal
from typing import Any, Optional

from edge.calls import Call

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*|[1-9]\d{0,2}(,\d{3})+)(\.\d+)?")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00b4": "'", "`": "'"})
_LONGEST = 80  # characters of a text that can be a date
_MONTHS = {
    name: number
    for number, names in enumerate(
        ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
         "sep sept september", "oct october", "nov november", "dec december"), 1)
    for name in names.split()
}  # fmt: skip
_MONTH = "(?P<month>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})",
        r"(?P<year>\d{4})/(?P<month>\d{1,2})/(?P<day>\d{1,2})",
        r"(?P<year>\d{4})\. ?(?P<month>\d{1,2})\. ?(?P<day>\d{1,2})\.?",
        rf"{_MONTH} {_DAY},? (?P<year>\d{{4}})",
        rf"{_DAY}(?: of)? {_MONTH},? (?P<year>\d{{4}})",
        r"(?P<year>\d{4})년 ?(?P<month>\d{1,2})월 ?(?P<day>\d{1,2})일",
    )
)
_TIMES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.0+)?)?(?: ?(?P<half>[ap])\.?m\.?)?"
        r"(?P<zone>z|[+-]\d{2}:?\d{2})?",
        r"(?P<hour>\d{1,2}) ?(?P<half>[ap])\.?m\.?",
        r"(?:(?P<half>오전|오후) ?)?(?P<hour>\d{1,2})시(?: ?(?P<minute>\d{1,2})분)?(?: ?(?P<second>\d{1,2})초)?",
    )
)
_BETWEEN = re.compile(r"t(?=\d)|,? at |, ?| ")  # a date and its time


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values mean the same."""
    return normal(a) == normal(b)


def same_calls(got: list[Call], expected: list[Call]) -> bool:
    """The same tools in the same order, each with the same arguments in this sense."""
    return len(got) == len(expected) and all(
        g.name == e.name and same(g.arguments, e.arguments) for g, e in zip(got, expected)
    )


def normal(value: Any) -> tuple[Any, ...]:
    """Equal and hashable, for values that mean the same: (kind, …), the kind being what the value was read as."""
    if isinstance(value, bool):
        return ("truth", value)
    if isinstance(value, (int, float)):
        return ("number", Decimal(value) if isinstance(value, int) else Decimal(repr(value)))
    if isinstance(value, list):
        return ("list", tuple(normal(item) for item in value))
    if isinstance(value, dict):
        return ("object", frozenset((key, normal(item)) for key, item in value.items()))
    return ("null",) if value is None else _text(str(value))


def _text(value: str) -> tuple[Any, ...]:
    text = plain(value)
    if text in ("true", "false"):
        return ("truth", text == "true")
    if _NUMBER.fullmatch(text):
        return ("number", Decimal(text.replace(",", "")))
    return (moment(text) if len(text) <= _LONGEST else None) or ("text", text)


def plain(value: str) -> str:
    """The text without what is unified in any text: case, width, blanks, quotes around it, punctuation at its end."""
    text = " ".join(unicodedata.normalize("NFKC", value).casefold().translate(_QUOTES).split())
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text.rstrip(".,!?;: ") or text


def moment(text: str) -> Optional[tuple[Any, ...]]:
    """("date", date), ("time", time) or ("moment", datetime) if the whole text is one, else None."""
    day, rest = _date(text)
    if day is None:
        found = _time(text)
        return None if found is None else ("time", found)
    if not rest:
        return ("date", day)
    gap = _BETWEEN.match(rest)
    found = _time(rest[gap.end() :]) if gap else None
    if found is None:
        return None
    at = datetime.datetime.combine(day, found)
    return ("moment", at.astimezone(datetime.timezone.utc) if at.tzinfo and 1 < at.year < 9999 else at)


def _date(text: str) -> tuple[Optional[datetime.date], str]:
    """The date at the text's beginning, and what follows."""
    for pattern in _DATES:
        if match := pattern.match(text):
            try:
                month = _MONTHS.get(match["month"]) or int(match["month"])
                return datetime.date(int(match["year"]), month, int(match["day"])), text[match.end() :]
            except ValueError:
                return None, text  # the 31st of February is just text
    return None, text


def _time(text: str) -> Optional[datetime.time]:
    for pattern in _TIMES:
        if match := pattern.fullmatch(text):
            parts = match.groupdict()
            hour, half = int(parts["hour"]), parts.get("half")
            if half and not 1 <= hour <= 12:
                return None
            if half:
                hour = hour % 12 + (12 if half in ("p", "오후") else 0)
            try:
                return datetime.time(
                    hour, int(parts.get("minute") or 0), int(parts.get("second") or 0), tzinfo=_zone(parts.get("zone"))
                )
            except ValueError:
                return None
    return None


def _zone(text: Optional[str]) -> Optional[datetime.timezone]:
    if not text:
        return None
    if text == "z":
        return datetime.timezone.utc
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return datetime.timezone(datetime.timedelta(minutes=minutes if text[0] == "+" else -minutes))
