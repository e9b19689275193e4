"""Values for a declared parameter: what the user says and what belongs into the call, as its JSON Schema allows.

What a parameter means is read off its schema (enum, format, pattern, limits), else off its name: `email`, `first_name`,
`due_date`, `percent`. Words, names and places come from `train/values.py`, in two halves of which one is held out;
numbers, dates and closed choices are not cut in two.
"""

# ruff: noqa: SIM905  (a table of words reads better as text)

from __future__ import annotations

import datetime as dt
import math
import random
import re
import uuid
from collections.abc import Callable, Sequence
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from edge.errors import EdgeError
from edge.records import Json
from edge.train.values import Said, Values, invented, listed, side

Maker = Callable[[Values, str], Said]
_TRIES = 100

# What a string parameter holds, by its name: a pattern for the name's words, then a kind of `Values` or of those below.
_STRINGS = [
    (re.compile(pattern), kind)
    for pattern, kind in [
        (r"e_?mail", "email"),
        (r"phone|mobile|telephone|fax", "phone"),
        (r"url|uri|link|website|web_page|webpage", "url"),
        (r"date_?time|timestamp|\bwhen\b|starts?_at|ends?_at", "when"),
        (r"date|\bday\b|birthday|deadline|\bdue\b|check_?(in|out)", "date"),
        (r"time|\bhour\b|\balarm\b", "time"),
        (r"first_?name|given_?name|nick_?name", "first"),
        (r"last_?name|sur_?name|family_?name", "last"),
        (r"file|path|document|attachment", "file"),
        (r"song|track|album|movie|film|book|playlist", "song"),
        (r"genre", "genre"),
        (r"country|nation", "country"),
        (r"code|\bid\b|_id$|serial|sku|ticket|reference|\bzip\b|postal", "code"),
        (r"city|town|origin|destination|departure|arrival|airport|station", "city"),
        (r"language|\blang\b|locale", "language"),
        (r"colou?r", "colour"),
        (r"currency", "currency"),
        (r"unit", "unit"),
        (r"location|place|address|venue|where|area|street", "place"),
        (r"recipient|receiver|contact|person|guest|user|customer|employee|patient|player|member|attendee|author|artist"
         r"|\bto\b|\bwho\b|\bwhom\b|assignee|sender|friend", "person"),
        (r"title|subject|heading|headline|event|label", "title"),
        (r"message|text|body|content|note|comment|description|reason|summary|memo|caption", "text"),
        (r"query|search|keyword|topic|term|question|phrase", "phrase:1:3"),
        (r"task|todo|reminder|chore", "task"),
        (r"item|product|ingredient|food|dish|drink|goods|thing", "item"),
        (r"pin\b|passcode|otp", "pin"),
        (r"number", "code"),
        (r"name", "first"),
    ]
]  # fmt: skip
# What a number counts, by its name: least, most.
_NUMBERS = [
    (re.compile(pattern), limits)
    for pattern, limits in [
        (r"percent|volume|brightness|opacity|battery|humidity|\blevel\b", (0, 100)),
        (r"degrees|temperature|celsius|fahrenheit|thermostat", (5, 40)),
        (r"minute", (1, 59)),
        (r"second", (1, 120)),
        (r"hour", (1, 24)),
        (r"\bday|days\b", (1, 30)),
        (r"year", (1990, 2035)),
        (r"month", (1, 12)),
        (r"\bage\b", (1, 99)),
        (r"latitude|\blat\b", (-90, 90)),
        (r"longitude|\blon\b|\blng\b", (-180, 180)),
        (r"price|cost|amount|budget|total|sum|salary|distance|weight|grams|calories", (1, 500)),
        (r"rating|stars|priority|floor", (1, 5)),
        (r"count|quantity|cups|guests|people|times|copies|number_of|how_many", (1, 12)),
    ]
]
_POOLS = {
    "country": listed("Brazil|Canada|Chile|Denmark|Egypt|Finland|France|Germany|Ghana|Greece|India|Italy|Japan|Kenya|Korea|"
                      "Mexico|Morocco|Nepal|Norway|Peru|Poland|Portugal|Spain|Sweden|Turkey|Vietnam"),
    "language": listed("Arabic|Chinese|Danish|Dutch|English|Finnish|French|German|Greek|Hindi|Italian|Japanese|Korean|Polish|"
                       "Portuguese|Russian|Spanish|Swedish|Thai|Turkish|Vietnamese"),
    "colour": listed("red|blue|green|yellow|purple|white|orange|pink|black|brown|grey|turquoise|violet|beige"),
    "currency": listed("EUR|USD|GBP|JPY|KRW|CHF|SEK|CAD|AUD|INR"),
    "unit": listed("metres|feet|miles|kilometres|grams|pounds|ounces|litres|cups|inches|celsius|fahrenheit"),
}  # fmt: skip
_FORMATS = {"date-time": "when", "date": "date", "time": "time", "email": "email", "idn-email": "email", "uri": "url",
            "url": "url", "phone": "phone"}  # fmt: skip
# A text that says how a date or a time is written.
_WRITTEN = [
    (re.compile(r"YYYY-MM-DD[T ]HH|iso[- ]?8601.*time|date-?time", re.IGNORECASE), "when"),
    (re.compile(r"YYYY-MM-DD|ISO date", re.IGNORECASE), "date"),
    (re.compile(r"\bHH:MM\b|24[- ]h", re.IGNORECASE), "time"),
]
KINDS = ("word first last person place city phrase title task text song genre item items tags people email phone code pin url "
         "file int round float time date when onoff uuid").split() + list(_POOLS)  # fmt: skip
_DATED = ("date", "when")


def words(name: str) -> str:
    """`dueDate` and `due-date` as `due date`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_.\-\s]+", " ", name)
    return " ".join(apart.split()).lower()


def kind_of(name: str, schema: Json) -> str:
    """What a string parameter holds: a kind."""
    about = str(schema.get("description") or "")
    written = next((kind for pattern, kind in _WRITTEN if pattern.search(about)), None)
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if schema.get("format") == "uuid":
        return "uuid"
    lower = words(name).replace(" ", "_")
    spaced = lower.replace("_", " ")
    found = next((k for pattern, k in _STRINGS if pattern.search(lower) or pattern.search(spaced)), None)
    if written and found in (None, "when", "date", "time", "code"):
        return written
    if found == "person" and re.search(r"e-?mail", about, re.IGNORECASE):
        return "email"
    return found or "phrase:1:3"


def dated(name: str, schema: Json) -> bool:
    """Whether a value of it is said in relation to today."""
    if schema.get("type") == "array":
        return dated(name, schema.get("items") or {})
    if schema.get("type") == "object":
        return any(dated(n, s) for n, s in (schema.get("properties") or {}).items())
    plain = schema.get("type") == "string" and "enum" not in schema and "pattern" not in schema
    return plain and kind_of(name, schema) in _DATED


def maker(name: str, schema: Json, where: str) -> Maker:
    """What makes values of a parameter.

    Args:
        where: "tool.parameter", for the error.

    Raises EdgeError for a pattern that no string could be made for, or limits that nothing fits.
    """
    make = _maker(name, schema, where)
    make(Values(random.Random(0), "train", dt.datetime(2026, 1, 1), 0.0), "en")  # said now, not at the thousandth row
    return make


def _maker(name: str, schema: Json, where: str) -> Maker:
    if "enum" in schema:
        return choice(schema["enum"])
    kind = schema["type"]
    if kind == "boolean":
        return lambda values, lang: values.say("onoff", lang)
    if kind in ("integer", "number"):
        return _number(name, schema, where)
    if kind == "array":
        return _list(name, schema, where)
    if kind == "object":
        return _object(schema, where)
    if "pattern" in schema:
        return _matching(schema, where)
    return _string(kind_of(name, schema), schema, where)


def choice(options: Sequence[Any]) -> Maker:
    """One of a closed choice, said as it is written but for underscores and shouting."""
    said = [str(o).replace("_", " ").strip() if not isinstance(o, bool) else ("yes" if o else "no") for o in options]
    quiet = [s.lower() if s.isupper() and len(s) > 3 else s for s in said]
    told = quiet if len(set(quiet)) == len(quiet) and all(quiet) else [str(o) for o in options]
    return lambda values, lang: (lambda at: (told[at], options[at]))(values.rng.randrange(len(options)))


def listing(options: Sequence[Any]) -> Maker:
    """One of an open list of examples: those of one half, if the list has both."""
    halves = {half: [o for o in options if side(str(o)) == half] or list(options) for half in ("train", "test")}

    def make(values: Values, lang: str) -> Said:
        value = values.rng.choice(halves[values.split])
        return str(value), value

    return make


def of_kind(kind: str) -> Maker:
    """A value of one of KINDS, with limits after colons as in `int:1:30`."""
    name = kind.partition(":")[0]
    if name in _POOLS:
        return listing(_POOLS[name])
    if name == "uuid":
        return _uuid
    return lambda values, lang: values.say(kind, lang)


def _uuid(values: Values, lang: str) -> Said:
    text = str(uuid.UUID(int=values.rng.getrandbits(128), version=4))
    return text, text


# --- strings ------------------------------------------------------------------------------------------------------------


def _string(kind: str, schema: Json, where: str) -> Maker:
    least, most = schema.get("minLength") or 0, schema.get("maxLength")
    if most is not None and least > most:
        raise EdgeError(f"{where}: minLength {least} is above maxLength {most}", "correct the declaration")
    make = _written(of_kind(kind), kind, str(schema.get("description") or ""))

    def fitting(values: Values, lang: str) -> Said:
        for _ in range(_TRIES if least or most is not None else 1):
            said, value = make(values, lang)
            if least <= len(value) and (most is None or len(value) <= most):
                return said, value
        return _letters(values, least, most)

    return fitting


_ORDERS = {"MM/DD/YYYY": "%m/%d/%Y", "DD/MM/YYYY": "%d/%m/%Y", "DD.MM.YYYY": "%d.%m.%Y", "YYYY/MM/DD": "%Y/%m/%d",
           "YYYYMMDD": "%Y%m%d"}  # fmt: skip


def _written(make: Maker, kind: str, about: str) -> Maker:
    """Dates in the order that the description asks for; ISO if it asks for none."""
    order = next((code for name, code in _ORDERS.items() if name in about), None)
    if kind != "date" or not order:
        return make

    def ordered(values: Values, lang: str) -> Said:
        said, value = make(values, lang)
        return said, dt.date.fromisoformat(value).strftime(order)

    return ordered


def _letters(values: Values, least: int, most: int | None) -> Said:
    """Letters of invented words, as many as there must be."""
    size = values.rng.randint(max(1, least), max(1, least, min(most if most is not None else least + 8, least + 8)))
    text = ""
    while len(text) < size:
        text += invented(values.rng, values.split)
    text = text[: size if most is None or most > 0 else 0]
    return text, text


def _matching(schema: Json, where: str) -> Maker:
    pattern, least, most = schema["pattern"], schema.get("minLength") or 0, schema.get("maxLength")
    hint = "give its values in a grammar file: [tools.TOOL.parameters.NAME] values = […]"
    try:
        tree, wanted = _parser.parse(pattern), re.compile(pattern)
    except (re.error, TypeError) as error:
        raise EdgeError(f"{where}: its pattern {pattern!r} can't be read: {error}", hint) from None

    def make(values: Values, lang: str) -> Said:
        for _ in range(_TRIES):
            text = _drawn(values.rng, tree, {})
            plain = text is not None and text == text.strip() and text.isprintable() and not re.search("[<>]", text)
            if plain and text and wanted.search(text) and least <= len(text) and (most is None or len(text) <= most):
                return text, text
        raise EdgeError(f"{where}: no value was found for its pattern {pattern!r}", hint)

    return make


_CLASSES = {
    codes.CATEGORY_DIGIT: "0123456789",
    codes.CATEGORY_WORD: "abcdefghijklmnopqrstuvwxyz0123456789",
    codes.CATEGORY_SPACE: " ",
    codes.CATEGORY_NOT_DIGIT: "abcdefghijklmnopqrstuvwxyz",
    codes.CATEGORY_NOT_SPACE: "abcdefghijklmnopqrstuvwxyz0123456789",
    codes.CATEGORY_NOT_WORD: "-",
}


def _drawn(rng: random.Random, tree: Any, groups: dict[int, str]) -> str | None:
    """A string of a parsed regular expression; None where one holds what isn't drawn (look-around, conditions)."""
    text = ""
    for code, argument in tree:
        piece: str | None = ""
        if code is codes.LITERAL:
            piece = chr(argument)
        elif code is codes.NOT_LITERAL:
            piece = rng.choice([c for c in "abcdefghij0123456789" if c != chr(argument)])
        elif code is codes.ANY:
            piece = rng.choice("abcdefghijklmnopqrstuvwxyz0123456789")
        elif code is codes.IN:
            piece = _of_class(rng, argument)
        elif code is codes.BRANCH:
            piece = _drawn(rng, rng.choice(argument[1]), groups)
        elif code is codes.SUBPATTERN:
            piece = _drawn(rng, argument[3], groups)
            if argument[0] is not None and piece is not None:
                groups[argument[0]] = piece
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            least, most, inner = argument
            for _ in range(rng.randint(least, min(most, least + 5))):
                more = _drawn(rng, inner, groups)
                piece = None if more is None or piece is None else piece + more
        elif code is codes.GROUPREF:
            piece = groups.get(argument, "")
        elif code is not codes.AT:  # ^, $ and \b hold or don't: the result is looked at
            piece = None
        if piece is None:
            return None
        text += piece
    return text


def _of_class(rng: random.Random, parts: Any) -> str:
    negated, allowed = False, list[str]()
    for code, argument in parts:
        if code is codes.NEGATE:
            negated = True
        elif code is codes.LITERAL:
            allowed.append(chr(argument))
        elif code is codes.RANGE:
            low, high = argument
            allowed += [chr(n) for n in range(low, min(high, low + 400) + 1)]
        elif code is codes.CATEGORY:
            allowed += _CLASSES.get(argument, "")
    if negated:
        allowed = [c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_." if c not in allowed]
    return rng.choice(allowed) if allowed else ""


# --- numbers ------------------------------------------------------------------------------------------------------------


def _number(name: str, schema: Json, where: str) -> Maker:
    whole = schema["type"] == "integer"
    least, most = _limits(name, schema)
    step = schema.get("multipleOf") or (1 if whole else 10.0 ** -_digits(most - least))
    if whole:
        step = max(1, math.ceil(step))
    first = math.ceil(round(least / step, 9))
    last = math.floor(round(most / step, 9))
    # An exclusive limit is no value itself.
    first += schema.get("exclusiveMinimum") is not None and _of(first, step, whole) <= _above(schema)
    last -= schema.get("exclusiveMaximum") is not None and _of(last, step, whole) >= _below(schema)
    if first > last:
        raise EdgeError(f"{where}: no number is within its limits", "correct the declaration")

    def make(values: Values, lang: str) -> Said:
        value = _of(values.rng.randint(first, last), step, whole)
        value = int(value) if value == int(value) else value  # nobody says 5.0
        return str(value), value

    return make


def _above(schema: Json) -> float:
    given = schema["exclusiveMinimum"]
    return float(schema.get("minimum", -math.inf) if given is True else -math.inf if given is False else given)


def _below(schema: Json) -> float:
    given = schema["exclusiveMaximum"]
    return float(schema.get("maximum", math.inf) if given is True else math.inf if given is False else given)


def _limits(name: str, schema: Json) -> tuple[float, float]:
    """The declared limits; where one is missing, what the name makes usual, moved to where it fits."""
    lower = words(name)
    usual = next((found for pattern, found in _NUMBERS if pattern.search(lower)), (1, 100))
    lows = [schema["minimum"]] if schema.get("minimum") is not None else []
    highs = [schema["maximum"]] if schema.get("maximum") is not None else []
    lows += [_above(schema)] if schema.get("exclusiveMinimum") is not None else []
    highs += [_below(schema)] if schema.get("exclusiveMaximum") is not None else []
    least, most = max(lows, default=None), min(highs, default=None)
    least = None if least == -math.inf else least
    most = None if most == math.inf else most
    span = max(usual[1] - usual[0], 20 * (schema.get("multipleOf") or 0))
    if least is None and most is None:
        return usual[0], usual[0] + span
    if least is None:
        return (usual[0] if usual[0] < most else most - span), most  # type: ignore[operator,return-value]
    if most is None:
        return least, (usual[1] if usual[1] > least else least + span)
    return least, most


def _digits(span: float) -> int:
    """How many places behind the point a number of this range is said with."""
    return 1 if span >= 2 else min(9, 2 + max(0, -math.floor(math.log10(span)))) if span > 0 else 9


def _of(count: int, step: float, whole: bool) -> Any:
    return int(count * step) if whole else round(float(count * step), 9)


# --- lists and objects ----------------------------------------------------------------------------------------------------


def _list(name: str, schema: Json, where: str) -> Maker:
    inner = schema.get("items") or {"type": "string"}
    singular = re.sub(r"(?<=\w\w)s$", "", words(name))
    make = _maker(singular, {"type": "string", **inner}, f"{where}[]")
    least, most = schema.get("minItems"), schema.get("maxItems")
    low = least if least is not None else 1 if most is not None and most < 2 else 2
    low, high = max(low, 1) if most is None or most > 0 else 0, max(low, min(most if most is not None else 3, low + 2))

    parted = inner.get("type") in ("array", "object")  # their own parts are told with commas
    unclear = re.compile(";" if parted else r",| and ")  # nobody could tell where one ends

    def several(values: Values, lang: str) -> Said:
        found: dict[str, Any] = {}
        size = values.rng.randint(low, high)
        for tried in range(_TRIES):
            said, value = make(values, lang)
            if not unclear.search(said) or tried > 20:
                found.setdefault(said, value)
            if len(found) == size or (tried > 20 and len(found) >= (least or 0)):
                break
        if len(found) < (least or 0):
            raise EdgeError(f"{where}: fewer than {least} different values were found", "give values in a grammar file")
        return _told(list(found), "; " if parted else ", ", values.rng, lang), list(found.values())

    return several


def _told(texts: list[str], joint: str, rng: random.Random, lang: str) -> str:
    """The parts of a list as one says them; the last one behind an "and"."""
    if len(texts) < 2 or lang != "en" or joint != ", ":
        return joint.join(texts)
    last = " and " if len(texts) == 2 else rng.choice([" and ", ", and "])
    return joint.join(texts[:-1]) + last + texts[-1]


def _object(schema: Json, where: str) -> Maker:
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    makers = {n: _maker(n, s, f"{where}.{n}") for n, s in properties.items()}

    def make(values: Values, lang: str) -> Said:
        kept = [n for n in makers if n in required or values.rng.random() < 0.5] or list(makers)[:1]
        made = {n: makers[n](values, lang) for n in kept}
        if not properties and schema.get("additionalProperties", True) is not False:
            made = {values.word()[0]: values.word()}
        return ", ".join(f"{words(n)} {said}" for n, (said, _) in made.items()), {n: v for n, (_, v) in made.items()}

    return make
