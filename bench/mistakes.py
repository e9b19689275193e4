"""What kind of mistake a wrong row is: each expected call beside the one that was made in its place, and how they differ.

Standard library only.
"""

from __future__ import annotations

import datetime
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from edge.bench import semantics
from edge.bench.score import Outcome
from edge.calls import Call, exact
from edge.records import Json

# Of the mistakes in a row, the first in this order names the row's kind.
KINDS = {
    "failed": "the runtime gave an error and no answer",
    "unparsable": "something that looks like a call can't be read",
    "unwanted call": "it called where the right answer is no call",
    "no call": "it answered without a call where one was expected",
    "wrong tool": "another tool than the expected one",
    "missing call": "fewer calls than expected; those made are of expected tools",
    "extra call": "more calls than expected",
    "wrong order": "the right calls in another order",
    "missing argument": "an expected argument was left out",
    "extra argument": "an argument that was not expected",
    "value far": "another value, and not a near one",
    "value near": "a near value: text that is alike by 0.75 or holds the other, a number within 10 % or 1, a moment within a "
    "day, a time within an hour",
    "other form": "the same value written differently: type, case, date or number format",
}
ALIKE = 0.75  # difflib's ratio of texts that are near
_COMPARED = 500  # characters of texts that are compared for nearness


@dataclass(frozen=True)
class Mistake:
    """One difference. `call`: the number of the expected call (from 1), or of the made one where none was expected."""

    kind: str
    call: Optional[int] = None
    argument: Optional[str] = None
    expected: Any = None
    got: Any = None

    def to_json(self) -> Json:
        return {k: v for k, v in vars(self).items() if v is not None}


def find(outcome: Outcome) -> list[Mistake]:
    """Every mistake of a row, the one that names its kind first; none for a row that is right."""
    found = list(_found(outcome)) if outcome.state in ("wrong", "failed") else []
    order = list(KINDS)
    return sorted(found, key=lambda mistake: order.index(mistake.kind))


def _found(outcome: Outcome) -> list[Mistake]:
    if outcome.state == "failed":
        return [Mistake("failed", got=outcome.why)]
    cut = " (the answer was cut off where it had no more room)" if outcome.stop == "length" else ""
    unread = [Mistake("unparsable", got=error + cut) for error in outcome.errors]
    expected, got = outcome.expected, outcome.got
    if not expected:
        return unread + [Mistake("unwanted call", n, got=call.name) for n, call in enumerate(got, 1)]
    if not got:
        return unread or [Mistake("no call")]
    pairs = pair(expected, got)
    differing = [mistake for e, g in pairs for mistake in _differences(expected, got, e, g)]
    places = [g for e, g in pairs if e is not None and g is not None]
    moved = [] if places == sorted(places) else [Mistake("wrong order")]
    return unread + differing + moved


def _differences(expected: Sequence[Call], got: Sequence[Call], e: Optional[int], g: Optional[int]) -> list[Mistake]:
    if e is None or g is None:
        if e is not None:
            return [Mistake("missing call", e + 1, expected=expected[e].name)]
        return [Mistake("extra call", g + 1, got=got[g].name)] if g is not None else []
    want, made, n = expected[e], got[g], e + 1
    if want.name != made.name:
        return [Mistake("wrong tool", n, expected=want.name, got=made.name)]
    found = [
        Mistake("missing argument", n, key, expected=v)
        for key, v in want.arguments.items()
        if key not in made.arguments
    ]
    found += [
        Mistake("extra argument", n, key, got=v) for key, v in made.arguments.items() if key not in want.arguments
    ]
    for key, value in want.arguments.items():
        if key in made.arguments and not same_value(value, made.arguments[key]):
            found.append(Mistake(_value(value, made.arguments[key]), n, key, value, made.arguments[key]))
    return found


def pair(expected: Sequence[Call], got: Sequence[Call]) -> list[tuple[Optional[int], Optional[int]]]:
    """Which call was made for which expected one (their places), in the expected order; None has no counterpart.

    Equal calls first, then calls of the same tool, most equal arguments first, then what is left in order.
    """
    taken: dict[int, int] = {}
    for alike in (_same_call, _same_tool, _any):
        for e, want in enumerate(expected):
            if e in taken:
                continue
            free = [(g, made) for g, made in enumerate(got) if g not in taken.values() and alike(want, made)]
            if free:
                taken[e] = max(free, key=lambda item: _equal_arguments(want, item[1]))[0]
    extra = [g for g in range(len(got)) if g not in taken.values()]
    return [*((e, taken.get(e)) for e in range(len(expected))), *((None, g) for g in extra)]


def _same_call(want: Call, made: Call) -> bool:
    return exact([want], [made]) is None


def _same_tool(want: Call, made: Call) -> bool:
    return want.name == made.name


def _any(want: Call, made: Call) -> bool:
    return True


def _equal_arguments(want: Call, made: Call) -> int:
    return sum(key in made.arguments and same_value(v, made.arguments[key]) for key, v in want.arguments.items())


def same_value(a: Any, b: Any) -> bool:
    """Equal in value and type, by the rule that calls are scored by."""
    return exact([Call("", {"": a})], [Call("", {"": b})]) is None


def _value(expected: Any, got: Any) -> str:
    if semantics.same(expected, got):
        return "other form"
    return "value near" if near(expected, got) else "value far"


def near(a: Any, b: Any) -> bool:
    """Whether two values that differ are close: see KINDS."""
    left, right = semantics.normal(a), semantics.normal(b)
    kind, other = left[0], right[0]
    if kind == other == "number":
        return bool(abs(left[1] - right[1]) <= max(1, abs(left[1]) / 10))
    if kind == other == "time":
        return abs(_seconds(left[1]) - _seconds(right[1])) <= 3600
    if {kind, other} <= {"date", "moment"}:
        return abs(_moment(left[1]) - _moment(right[1])) <= datetime.timedelta(days=1)
    if kind != other or kind in ("truth", "null", "number"):
        return False
    first, second = (_written(v)[:_COMPARED] for v in (a, b))
    if min(len(first), len(second)) > 1 and (first in second or second in first):
        return True
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() >= ALIKE


def _seconds(value: datetime.time) -> int:
    return value.hour * 3600 + value.minute * 60 + value.second


def _moment(value: datetime.date) -> datetime.datetime:
    at = value if isinstance(value, datetime.datetime) else datetime.datetime.combine(value, datetime.time())
    return at.replace(tzinfo=None)


def _written(value: Any) -> str:
    return semantics.plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))
