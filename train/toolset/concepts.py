"""What a tool is before it has a name, and how it gets one.

A `Concept` is a tool before it has a name: what it does, how people ask for it (patterns of `phrases`), what it takes,
and several names and descriptions for all of that. A prompt declares an `Instance`: one choice of those names. Since
names change from prompt to prompt, the only way to write the right one is to read the declaration.

Standard library only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

from edge.train.phrases import Slot, draw, slots
from edge.train.values import Said, Values, invented

Json = dict[str, Any]

_TYPES = {
    "int": "INTEGER",
    "round": "INTEGER",
    "float": "NUMBER",
    "bool": "BOOLEAN",
    "onoff": "BOOLEAN",
    "items": "ARRAY",
    "tags": "ARRAY",
    "people": "ARRAY",
    "object": "OBJECT",
}

# Openings and endings that any request can have, so that a table has to spell out only what is its own.
_SHORT = {
    "<want>": "(I want|I'd like|I need|we need|we want|we'd like|I could use|I'd prefer|I'm asking for|all I need is"
    "|what I need is|what I want is)",
    "<to>": "(I want to|I'd like to|I need to|we have to|we want to|we need to|I'm trying to|I'm going to|I have to"
    "|I was about to|we'd like to|I would love to|my plan is to|I'm about to|we're going to|what I want is to"
    "|we're trying to)",
    "<you>": "(is it possible to|would it be possible to|any chance you could|I'd be glad if you could"
    "|I would like you to|is there a way to|will you|are you able to|I need you to|I want you to|you could"
    "|I'd be happy if you could|do you think you could|might you|if you don't mind,|if it's possible,)",
    "<ask>": "(make sure to|be sure to|remember to|go and|don't forget to|you should|you have to|you need to|it's"
    " time to|someone should|somebody has to|try to|the next step is to|your task is to|what you should do is|next,"
    "|first,|when you can,|as soon as you can,|for me,|now then,|one thing to do:|could someone|take a moment and)",
    "<kindly>": "(I was hoping you could|it would help if you could|I'd appreciate it if you could)",
    "<set>": "(set|change|adjust|put)",
    "<show>": "(show|tell|give) me",
    "<줘>": "(줘| 줘|주세요| 주세요|줄래| 줄래?|줄 수 있어?)",
    # Only for patterns of training: more ways to end a request, from an order to a wish.
    "<줄래>": "(줘| 줘|줘요| 줄래?|줄래요?|주세요| 주세요|주라|줄 수 있어?| 줄 수 있을까?| 줄 수 있나요?|주실 수 있나요?"
    "| 주시겠어요?|주실래요?| 주면 안 될까?|주면 좋겠어|줬으면 좋겠어| 줬으면 해|주면 고맙겠어|주면 돼)",
    "<부탁>": "(부탁|부탁해|부탁해요|부탁드려요|부탁합니다|부탁할게|부탁드립니다)",
}

# A pattern that always starts with one of these can follow any of the openings.
_IMPERATIVES = set(
    """activate add adjust arrange ask bake begin book borrow brighten bring buy calculate call change charge check
    clean close compose convert cool count create deactivate decrease define delete deliver dial dim disable
    drive drop email enable enter erase explain express feed file fill find get give go google guide have heat
    hoover increase invite irrigate jot keep kill launch lead light list load locate lock log look lower make
    mark message move mute name navigate note open order pay phone place plan play preheat print pull put quote
    raise read record reduce remember remind remove rename report request reserve ring run save say schedule
    search see send set share ship show silence start stop store stream sweep switch take tell text time track
    transfer translate turn vacuum wake water work write""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Param:
    """One parameter of a concept.

    key: its name in patterns. kind: a method of `Values` with limits, or "bool", "enum" or "object". names, about:
    words and descriptions to choose from. clauses: patterns that mention it; a parameter with clauses is optional, one
    without stands in the concept's own patterns. A bool has clauses for yes and for no. held: clauses kept for testing
    (a bool's mean yes). options: an enum's values, options_ko: how Koreans say them. fields: what an object holds;
    patterns and clauses name the fields, never the object, and mention all of them.
    """

    key: str
    kind: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    clauses: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    ko: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    options_ko: tuple[str, ...] = ()
    fields: tuple[Param, ...] = ()

    def say(self, values: Values, lang: str) -> Said:
        if self.kind == "enum":
            at = values.rng.randrange(len(self.options))
            said = self.options_ko[at] if lang == "ko" and self.options_ko else self.options[at].replace("_", " ")
            return said, self.options[at]
        return values.say(self.kind, lang)

    def declare(self, about: str, fields: Optional[dict[str, Json]] = None) -> Json:
        """The property in a declaration, in Google's upper-case types. fields: an object's, by declared name."""
        declared: Json = {"type": _TYPES.get(self.kind.split(":")[0], "STRING"), "description": about}
        if declared["type"] == "ARRAY":
            declared["items"] = {"type": "STRING"}
        if self.options:
            declared["enum"] = list(self.options)
        if fields:
            declared.update(properties=fields, required=list(fields))
        return declared


@dataclass(frozen=True)
class Concept:
    """A tool before it has a name.

    key: unique. domain: neighbours share it. names, about: to choose from. say: patterns for training, held: patterns
    for testing, ko: Korean patterns, the last of them for testing. unseen: kept out of training altogether. near: keys
    too alike to stand in one prompt. required: optional parameters that the declaration asks for all the same.
    """

    key: str
    domain: str
    names: tuple[str, ...]
    about: tuple[str, ...]
    say: tuple[str, ...]
    held: tuple[str, ...]
    ko: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    unseen: bool = False
    near: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @property
    def dated(self) -> bool:
        """Needs to know what day it is."""
        return any(p.kind in ("date", "when") for p in _every(self.params))


@dataclass(frozen=True)
class Instance:
    """A concept under the names of one prompt: `names` maps keys of parameters and of fields to declared names."""

    concept: Concept
    name: str
    names: dict[str, str]
    declaration: Json = field(hash=False)


def instantiate(concept: Concept, rng: random.Random, rename: float) -> Instance:
    """Choose names. rename: how likely each departs from the first of its list."""
    free = rng.random() < 0.04 and rename > 0  # a name without a meaning: only the description tells
    name = _opaque(rng) if free else _choose(rng, concept.names, rename)
    style = rng.random() if rng.random() < rename else 1.0
    names: dict[str, str] = {}
    for param in _every(concept.params):
        chosen = _styled(_choose(rng, param.names, rename * 0.8), style)
        names[param.key] = chosen if chosen not in names.values() else _styled(param.key, style)
    parameters: Json = {"type": "OBJECT", "properties": _properties(concept.params, names, rng, rename)}
    required = [names[p.key] for p in concept.params if not p.clauses or p.key in concept.required]
    if required:
        parameters["required"] = required
    name = _styled(name, style)
    function = {"name": name, "description": _choose(rng, concept.about, rename), "parameters": parameters}
    return Instance(concept, name, names, {"type": "function", "function": function})


def _properties(params: tuple[Param, ...], names: dict[str, str], rng: random.Random, rename: float) -> Json:
    """Declared name -> property, with those of an object inside it."""
    return {
        names[p.key]: p.declare(_choose(rng, p.about, rename), _properties(p.fields, names, rng, rename))
        for p in params
    }


def _every(params: tuple[Param, ...]) -> Iterator[Param]:
    """The parameters and the fields of those that are objects."""
    for param in params:
        yield param
        yield from param.fields


def _choose(rng: random.Random, options: tuple[str, ...], rename: float) -> str:
    return rng.choice(options) if rng.random() < rename else options[0]


def _styled(name: str, style: float) -> str:
    """snake_case as it is; now and then camelCase, kebab-case or with a dot."""
    if "_" not in name or style > 0.3:
        return name
    head, *rest = name.split("_")
    if style < 0.15:
        return head + "".join(part.capitalize() for part in rest)
    return "-".join([head, *rest]) if style < 0.22 else f"{head}.{'_'.join(rest)}"


def _opaque(rng: random.Random) -> str:
    word, other = invented(rng, "train"), invented(rng, "train")
    return rng.choice([f"fn_{word}", f"tool_{rng.randint(1, 99)}", f"{word}_{other}", f"do_{rng.randint(10, 999)}"])


# --- how tables are written -------------------------------------------------------------------------------------------


def spell(pattern: str) -> str:
    """The pattern with its `<openings>` written out."""
    for short, long in _SHORT.items():
        pattern = pattern.replace(short, long)
    return pattern


def P(key: str, kind: str, names: str, about: str, **more: Any) -> Param:
    """A parameter: names by spaces, descriptions by bars, everything else as lists."""
    lists = {k: tuple(spell(x) if isinstance(x, str) else x for x in v) for k, v in more.items()}
    return Param(key, kind, tuple(names.split()), tuple(about.split("|")), **lists)


def C(key: str, domain: str, names: str, about: str, say: list[str], held: list[str], **more: Any) -> Concept:
    """A concept, written as `P` is. What is said as an order is also said after the usual openings."""
    more["params"], more["near"] = tuple(more.get("params", ())), tuple(more.get("near", "").split())
    more["ko"] = tuple(map(spell, more.get("ko", ())))
    said, kept = tuple(map(spell, say)), tuple(map(spell, held))
    said += () if more.get("unseen") else _opened(said)
    return Concept(key, domain, tuple(names.split()), tuple(about.split("|")), said, kept, **more)


def _opened(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The orders among the patterns, all in one, after each kind of opening."""
    orders = [p for p in patterns if _leads(p) <= _IMPERATIVES]
    own = [p for p in orders if not re.search(r"\bme\b", p)]  # "I want to show me" is no English
    pairs = [("<to>", own), ("<you>", orders), ("<ask>", orders)]
    return tuple(spell(f"{opening} ({'|'.join(found)})") for opening, found in pairs if found)


def _leads(pattern: str) -> set[str]:
    """The words that sentences of the pattern start with."""
    rng = random.Random(0)
    drawn = (["{}" if isinstance(p, Slot) else p for p in draw(rng, pattern)] for _ in range(60))
    return {"".join(pieces).split()[0].strip(",:") for pieces in drawn}


COLORS = ("red", "blue", "green", "yellow", "purple", "white", "orange", "pink")
COLORS_KO = ("빨간색", "파란색", "초록색", "노란색", "보라색", "흰색", "주황색", "분홍색")
ROOMS = ("kitchen", "bedroom", "living_room", "bathroom", "office", "hallway", "garage")
ROOMS_KO = ("주방", "침실", "거실", "욕실", "서재", "복도", "차고")


def check_slots(concept: Concept) -> None:
    """Every slot of every pattern has its parameter, and every key is there once."""
    keys = [p.key for p in _every(concept.params)]
    assert len(keys) == len(set(keys)), (concept.key, keys)
    known = {p.key for p in _every(concept.params) if not p.fields}
    known |= {"up", "down"} if concept.key == "ac_step" else set()  # one change, said as a rise or a fall
    for pattern in (*concept.say, *concept.held, *concept.ko):
        assert slots(pattern) <= known, (concept.key, pattern)
    for param in concept.params:
        allowed = {f.key for f in param.fields} or {param.key}
        for clause in (*param.clauses, *param.held, *param.ko, *param.no):
            assert slots(clause) <= allowed, (concept.key, clause)
