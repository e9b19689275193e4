"""An endless, seeded stream of function-calling rows in FunctionGemma's shape, for training and for testing.

A `Scene` is one prompt's head: a date and one to seven declared tools, half the time near neighbours. Any number of
questions can be asked in it, which is what training wants, since a long head need be computed only once for ten
questions. `rows` gives independent rows, one question each, as google/mobile-actions writes them:

    {"metadata": "train", "tools": [{"function": …}, …], "messages": [developer, user, …, assistant]}

Kinds of questions, with their shares in training:

    call       0.53  one call
    parallel   0.27  two or three calls in one answer
    none       0.10  small talk, or a request that no declared tool can fulfil: a refusal, one text a language
    multi      0.10  several turns, about a third each:
      answer         the user asked, the assistant called, the tool responded: a text that says what the response says
      follow-up      after such an exchange the user asks for something new: a call
      again          after such an exchange the user wants the same with one optional argument changed: that call

A fifth is Korean. Of the English texts 6 % are all in lower case. Then what is copied from the text into a call is in
lower case too (the answer always holds what the user wrote), and what isn't copied (dates, times, declared choices)
stays as it was. Free text at the end of a question gets no full stop of the question's own, which it might have itself.

Three things are kept out of training, each on its own: words in values (split "test"), phrasings (`held=True`: other
patterns) and tools (tools="unseen"). What was said earlier in the conversation and what tools respond is of the same
side. Everything follows from the seed. Standard library only.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from edge.train import toolset, wording
from edge.train.phrases import Slot, draw
from edge.train.toolset import Concept, Instance, Json, Param
from edge.train.values import DAYS, INVENTED, Values

SENTENCE = "You are a model that can do function calling with the following functions"
REFUSAL = {"en": "Sorry, none of my functions can do that.", "ko": "죄송하지만 그 일을 할 수 있는 기능이 없어요."}
DONE = {"en": "Done.", "ko": "완료했어요."}
FAILED = {"en": "It didn't work: {}.", "ko": "안 됐어요: {}."}
FOUND = {"en": "{}: {}.", "ko": "{}: {}입니다."}

# Shares in training (see above).
PARALLEL, NONE, MULTI, KOREAN = 0.27, 0.10, 0.10, 0.20
TURNS = ("answer", "follow-up", "again")
KINDS = ("call", "parallel", "none", *TURNS)
# In how many scenes can a tool be asked for in Korean, and two different calls be asked for (measured)? These draw more.
_SPEAK, _SEVERAL = 0.85, 0.97
_LOWER = 0.06

_QUOTABLE = ("phrase", "title", "text", "song", "task", "file", "word", "place", "item")


@dataclass(frozen=True)
class Query:
    """One question and its answer.

    text: what the user says last. calls: (declared name, arguments) in order; empty means that the answer is the text
    `reply`. kind: one of KINDS. lang: "en" or "ko". concepts: keys of what is called. skeletons: what the user says in
    each turn with `{}` for every value, for the leak test. history: the messages between the developer's and the user's
    last, which for an "answer" is among them.
    """

    text: str
    calls: tuple[tuple[str, Json], ...]
    reply: str
    kind: str
    lang: str
    concepts: tuple[str, ...]
    skeletons: tuple[str, ...]
    history: tuple[Json, ...] = ()

    @property
    def skeleton(self) -> str:
        return self.skeletons[-1]

    def messages(self) -> list[Json]:
        """All messages after the developer's and before the answer."""
        if self.kind == "answer":
            return list(self.history)
        return [*self.history, {"role": "user", "content": self.text}]

    def answer(self) -> Json:
        """The assistant's message."""
        return _calling(self.calls) if self.calls else {"role": "assistant", "content": self.reply}


@dataclass(frozen=True)
class _Way:
    """How somebody speaks: in which language, from which values, and whether without any capitals."""

    lang: str
    values: Values
    low: bool


@dataclass(frozen=True)
class _Request:
    """What is said to have one tool called, in pieces, and what its slots mean (`meant`, by key)."""

    instance: Instance
    pieces: list[str]
    meant: Json

    def call(self) -> tuple[str, Json]:
        """Its name and arguments under the names of this prompt, fields inside their objects."""
        names, arguments = self.instance.names, {}
        for param in self.instance.concept.params:
            if param.fields:
                inner = {names[f.key]: self.meant[f.key] for f in param.fields if f.key in self.meant}
                if inner:
                    arguments[names[param.key]] = inner
            elif param.key in self.meant:
                arguments[names[param.key]] = self.meant[param.key]
        return self.instance.name, arguments


@dataclass
class Scene:
    """What stands before the question: the developer's turn with its tools.

    now: the date and time that the turn gives, if `dated`. targets: the tools that questions are about.
    """

    now: dt.datetime
    dated: bool
    instances: list[Instance]
    targets: list[Instance] = field(default_factory=list)

    def developer(self) -> Json:
        clock = f"Current date and time given in YYYY-MM-DDTHH:MM:SS format: {self.now:%Y-%m-%dT%H:%M:%S}"
        head = f"{clock}\nDay of week is {DAYS[self.now.weekday()]}\n" if self.dated else ""
        return {"role": "developer", "content": head + SENTENCE}

    def tools(self) -> list[Json]:
        return [instance.declaration for instance in self.instances]


class Generator:
    """Scenes and questions.

    Args:
        seed: the same seed gives the same stream.
        split: which half of the words fills values, "train" or "test".
        held: ask in the phrasings kept for testing.
        tools: "train", "unseen" (tools kept for testing are asked for), or "mobile" (the seven of Mobile Actions, all
            declared, under their own names).
        most: at most so many declared tools; fewer are easier and quicker to learn from at first.
        invented: the share of values in which every word is one that there isn't.
    """

    def __init__(
        self,
        seed: Union[int, str],
        split: str = "train",
        held: bool = False,
        tools: str = "train",
        most: int = 7,
        invented: float = INVENTED,
    ) -> None:
        self.rng = random.Random(f"{seed} {split} {held} {tools}")
        self.split, self.held, self.which, self.most = split, held, tools, most
        self.invented = invented
        self._known = [c for c in toolset.BY_HAND if not c.unseen]
        self._unseen = [c for c in toolset.BY_HAND if c.unseen]

    # --- scenes ---------------------------------------------------------------------------------------------------

    def scene(self) -> Scene:
        rng = self.rng
        now = dt.datetime(2023, 1, 1) + dt.timedelta(minutes=rng.randrange(60 * 24 * 365 * 5))
        seven = self.which == "mobile" or (self.which == "train" and self.most >= 7 and rng.random() < 0.08)
        concepts = list(toolset.MOBILE) if seven else self._concepts()
        rename = 0.0 if seven and (self.which == "mobile" or rng.random() < 0.6) else rng.choice([0.0, 0.6, 0.9])
        instances = self._distinct(concepts, rename)
        unseen = self.which == "unseen"
        targets = [i for i in instances if not unseen or i.concept.unseen or toolset.is_unseen(i.concept)]
        rng.shuffle(instances)
        return Scene(now, any(c.dated for c in concepts) or rng.random() < 0.4, instances, targets)

    def _concepts(self) -> list[Concept]:
        """One to seven concepts, half the time neighbours of the first."""
        count = self.rng.choices(range(1, self.most + 1), [22, 25, 20, 13, 9, 6, 5][: self.most])[0]
        chosen: list[Concept] = []
        alike = self.rng.random() < 0.5
        while len(chosen) < count:
            new = self._neighbour(chosen[0]) if chosen and alike else self._any()
            if all(_compatible(new, other) for other in chosen):
                chosen.append(new)
            elif self.rng.random() < 0.2:  # a small domain is used up
                alike = False
        return chosen

    def _any(self) -> Concept:
        rng = self.rng
        if self.which == "unseen":
            return rng.choice(self._unseen) if rng.random() < 0.5 else toolset.composed(rng, "unseen")
        x = rng.random()
        if x < 0.34:
            return toolset.composed(rng, "train")
        return rng.choice(toolset.MOBILE if x < 0.52 else self._known)

    def _neighbour(self, first: Concept) -> Concept:
        if first.domain == "composed":
            thing, verb = toolset.relatives(first, self.rng)
            return toolset.composed(self.rng, "unseen" if self.which == "unseen" else "train", thing or None, verb)
        pool = self._unseen if self.which == "unseen" else self._known
        alike = [c for c in pool if c.domain == first.domain]
        return self.rng.choice(alike) if self.rng.random() < 0.7 else self._any()

    def _distinct(self, concepts: list[Concept], rename: float) -> list[Instance]:
        """Instances, no two of the same name."""
        instances: list[Instance] = []
        for concept in concepts:
            while True:
                new = toolset.instantiate(concept, self.rng, rename)
                if new.name not in [i.name for i in instances]:
                    instances.append(new)
                    break
                rename = max(rename, 0.5)
        return instances

    # --- questions ------------------------------------------------------------------------------------------------

    def query(self, scene: Scene, kind: Optional[str] = None, lang: Optional[str] = None) -> Query:
        """A question in this scene.

        Args:
            scene: where it is asked.
            kind: one of KINDS, or "multi" for any of several turns; by default drawn in training's shares. Where no
                tool has an optional argument, "again" becomes "follow-up"; where there is but one tool, without
                parameters, "parallel" becomes "call".
            lang: "en" or "ko"; by default drawn too. Korean becomes English where no tool has Korean phrasings.
        """
        rng = self.rng
        lang = lang or ("ko" if rng.random() < KOREAN / _SPEAK else "en")
        lang = lang if self._able(scene, lang) else "en"
        if kind is None:
            several = PARALLEL / _SEVERAL
            kind = rng.choices(
                ["none", "parallel", "multi", "call"], [NONE, several, MULTI, 1 - NONE - several - MULTI]
            )[0]
        kind = rng.choice(TURNS) if kind == "multi" else kind
        ask = {"none": self._refused, "answer": self._answered, "follow-up": self._followed, "again": self._repeated}
        if kind in ask:
            return ask[kind](scene, lang)
        return self._called(scene, lang, 1 if kind == "call" else rng.choice([2, 2, 2, 3]))

    def _called(self, scene: Scene, lang: str, count: int) -> Query:
        way = self._way(scene, lang)
        requests = self._different(scene, way, count)
        join = self.rng.choice(wording.JOIN[lang, self.held])
        pieces = requests[0].pieces
        for more in requests[1:]:
            asked = not isinstance(pieces[-1], _Said) and pieces[-1].endswith("?")
            pieces = [*pieces, re.sub("^[.,;]", "", join) if asked else join, *more.pieces]
        text, skeleton = self._finish(pieces, way)
        calls, keys = tuple(r.call() for r in requests), tuple(r.instance.concept.key for r in requests)
        return Query(text, calls, "", "parallel" if len(calls) > 1 else "call", lang, keys, (skeleton,))

    def _different(self, scene: Scene, way: _Way, count: int) -> list[_Request]:
        """Requests, no two for the very same call: fewer than `count` where that is all that can be had."""
        kept: list[_Request] = []
        for instance in self._chosen(scene, way.lang, count):
            for _ in range(6):
                request = self._one(instance, way)
                if all(request.call() != other.call() for other in kept):
                    kept.append(request)
                    break
                instance = self._chosen(scene, way.lang, 1)[0]
        return kept

    def _chosen(self, scene: Scene, lang: str, count: int) -> list[Instance]:
        """Tools to ask for: those with parameters more often, and most often different ones."""
        able = self._able(scene, lang)
        chosen = self.rng.choices(able, [1.0 if i.concept.params else 0.35 for i in able], k=count)
        if count > 1 and len(able) > 1 and len({i.name for i in chosen}) == 1:
            chosen[-1] = self.rng.choice([i for i in able if i is not chosen[0]])
        return chosen

    def _able(self, scene: Scene, lang: str) -> list[Instance]:
        """The tools that can be asked for in this language."""
        return [i for i in scene.targets if self._speaks(i.concept, lang)]

    def _speaks(self, concept: Concept, lang: str) -> bool:
        needed = [p for p in concept.params if p.clauses and p.key in concept.required]
        return bool(self._patterns(concept, lang)) and (lang == "en" or all(p.ko for p in needed))

    def _way(self, scene: Scene, lang: str) -> _Way:
        values = Values(self.rng, self.split, scene.now, self.invented)
        return _Way(lang, values, lang == "en" and self.rng.random() < _LOWER)

    def _refused(self, scene: Scene, lang: str) -> Query:
        """Small talk, or a question for a tool that is not there, a near one most of the time."""
        way = self._way(scene, lang)
        pieces = self._chat(way) if self.rng.random() < 0.3 else self._astray(scene, way)
        text, skeleton = self._finish(pieces, way)
        return Query(text, (), REFUSAL[lang], "none", lang, (), (skeleton,))

    def _astray(self, scene: Scene, way: _Way) -> list[str]:
        while True:
            near = self.rng.choice(scene.targets).concept
            other = self._neighbour(near) if self.rng.random() < 0.6 else self._any()
            if self._speaks(other, way.lang) and all(_compatible(other, i.concept) for i in scene.instances):
                return self._one(toolset.instantiate(other, self.rng, 0.0), way).pieces

    def _chat(self, way: _Way) -> list[str]:
        pool = wording.CHAT_KO if way.lang == "ko" else wording.CHAT
        kept = [chat for at, chat in enumerate(pool) if (at % 5 == 4) == self.held]  # every fifth is for testing
        return self._spoken(self.rng.choice(kept), way.values)

    def _spoken(self, pattern: str, values: Values) -> list[str]:
        """A pattern whose slots are kinds of values."""
        return [_Said(values.say(p)[0]) if isinstance(p, Slot) else p for p in draw(self.rng, pattern)]

    # --- several turns --------------------------------------------------------------------------------------------

    def _answered(self, scene: Scene, lang: str) -> Query:
        """The tool has responded: say what."""
        way = self._way(scene, lang)
        asked = self._one(self._chosen(scene, lang, 1)[0], way)
        history, skeleton = self._exchange(asked, way)
        reply, keys = history.pop()["content"], (asked.instance.concept.key,)
        return Query(history[0]["content"], (), reply, "answer", lang, keys, (skeleton,), tuple(history))

    def _followed(self, scene: Scene, lang: str) -> Query:
        """After an exchange, something else."""
        way = self._way(scene, lang)
        before, after = (self._one(i, way) for i in self._chosen(scene, lang, 2))
        history, skeleton = self._exchange(before, way)
        openers = None if self.rng.random() < 0.5 else _openers(history[-1]["content"], lang)
        text, last = self._finish(after.pieces, way, openers)
        keys = (after.instance.concept.key,)
        return Query(text, (after.call(),), "", "follow-up", lang, keys, (skeleton, last), tuple(history))

    def _repeated(self, scene: Scene, lang: str) -> Query:
        """After an exchange, the same with one optional argument changed."""
        able = [i for i in self._able(scene, lang) if _optional(i.concept, lang)]
        if not able:
            return self._followed(scene, lang)
        way = self._way(scene, lang)
        before = self._one(self.rng.choice(able), way)
        history, skeleton = self._exchange(before, way)
        after = self._changed(before, way)
        openers = [""] if self.rng.random() < 0.6 else _openers(history[-1]["content"], lang)
        text, last = self._finish(after.pieces, way, openers)
        keys = (after.instance.concept.key,)
        return Query(text, (after.call(),), "", "again", lang, keys, (skeleton, last), tuple(history))

    def _exchange(self, asked: _Request, way: _Way) -> tuple[list[Json], str]:
        """The user asks, the assistant calls, the tool responds, the assistant says so; and the skeleton."""
        text, skeleton = self._finish(asked.pieces, way)
        response, said = self._response(way)
        name, arguments = asked.call()
        messages = [
            {"role": "user", "content": text},
            _calling([(name, arguments)]),
            {"role": "tool", "name": name, "content": response},
            {"role": "assistant", "content": said},
        ]
        return messages, skeleton

    def _response(self, way: _Way) -> tuple[Json, str]:
        """What a tool responds, and what the assistant makes of it: nothing but what stands there."""
        rng, x = self.rng, self.rng.random()
        if x < 0.3:
            return dict(rng.choice(wording.OK)), DONE[way.lang]
        if x < 0.5:
            error = _join(self._spoken(rng.choice(wording.ERRORS), way.values))
            return {"error": error}, FAILED[way.lang].format(error)
        found: Json = {}
        for _ in range(rng.choice([1, 1, 2])):
            key = "_".join(dict.fromkeys(way.values.word()[0] for _ in range(rng.choice([1, 1, 2]))))
            found[f"{key}_value" if key == "error" else key] = way.values.say(rng.choice(wording.RESULTS), way.lang)[1]
        said = [FOUND[way.lang].format(_upper(key).replace("_", " "), found[key]) for key in sorted(found)]
        return found, " ".join(said)

    def _changed(self, before: _Request, way: _Way) -> _Request:
        """The same request with one optional argument changed or added."""
        param = self.rng.choice(_optional(before.instance.concept, way.lang))
        clause, meant = self._said_clause(param, way)
        for _ in range(8):  # an enum may have a single option; "add" would be more of the same, not another
            if before.meant != {**before.meant, **meant} and not re.search(r"\badd\b", "".join(clause)):
                break
            clause, meant = self._said_clause(param, way)
        frame = draw(self.rng, self.rng.choice(wording.AGAIN[way.lang, self.held]))
        clause = clause if way.lang == "ko" else _bare(clause)
        pieces = [piece for part in frame for piece in (clause if isinstance(part, Slot) else [part])]
        return _Request(before.instance, pieces, {**before.meant, **meant})

    def _said_clause(self, param: Param, way: _Way) -> tuple[list[str], Json]:
        meant: Json = {}
        return self._fill(self._clause(param, way.lang), [param], way, meant), meant

    # --- one request ----------------------------------------------------------------------------------------------

    def _one(self, instance: Instance, way: _Way) -> _Request:
        concept, rng = instance.concept, self.rng
        core = draw(rng, rng.choice(self._patterns(concept, way.lang)))
        used = [p for p in concept.params if not p.clauses]
        extra = [p for p in _optional(concept, way.lang) if p.key in concept.required or rng.random() < 0.5]
        rng.shuffle(extra)
        clauses = [piece for p in extra for piece in self._clause(p, way.lang)]
        pieces = [*clauses, *core] if way.lang == "ko" else self._placed(core, clauses, extra)
        meant: Json = {}
        return _Request(instance, self._fill(pieces, [*used, *extra], way, meant), meant)

    def _patterns(self, concept: Concept, lang: str) -> tuple[str, ...]:
        """The concept's patterns of our side; of several Korean ones, the last is kept for testing."""
        if lang == "en":
            return concept.held if self.held else concept.say
        if len(concept.ko) < 2:
            return () if self.held else concept.ko
        return concept.ko[-1:] if self.held else concept.ko[:-1]

    def _placed(self, core: list[str], clauses: list[str], extra: list[Param]) -> list[str]:
        """Clauses after the request, or one alone before it ("at 7 pm, feed the cat")."""
        if clauses and core[-1].endswith("?"):
            core = [*core[:-1], core[-1][:-1]]
        first = str(clauses[0]) if clauses and not isinstance(clauses[0], _Flag) else ""
        if len(extra) == 1 and first.startswith((" at ", " on ", " in ", " for ")) and self.rng.random() < 0.2:
            return [first[1:], *clauses[1:], ", ", *core]
        return [*core, *clauses]

    def _clause(self, param: Param, lang: str) -> list[str]:
        """What mentions the parameter. Of a bool's clauses only `no` mean no."""
        pool = param.ko if lang == "ko" else param.clauses
        if param.held and self.held and lang == "en" and self.rng.random() < 0.5:
            pool = param.held
        if param.kind != "bool":
            return draw(self.rng, self.rng.choice(pool))
        yes = lang == "ko" or self.rng.random() < 0.6
        return [_Flag(self.rng.choice(pool if yes else param.no), param.key, yes)]

    def _fill(self, pieces: list[str], params: list[Param], way: _Way, meant: Json) -> list[str]:
        """Replace slots by what is said, and note what is meant."""
        slots = {p.key: p for param in params for p in (param.fields or (param,))}
        filled: list[str] = []
        for piece in pieces:
            if isinstance(piece, _Flag):
                meant[piece.key] = piece.value
                filled += draw(self.rng, str(piece))
            elif isinstance(piece, Slot):
                filled.append(self._fill_one(str(piece), slots, way, meant))
            else:
                filled.append(piece)
        return filled

    def _fill_one(self, key: str, slots: dict[str, Param], way: _Way, meant: Json) -> _Said:
        param = slots["delta"] if key in ("up", "down") else slots[key]
        said, value = param.say(way.values, way.lang)
        for _ in range(8):
            if not (param.options and value in meant.values()):  # "miles to miles"
                break
            said, value = param.say(way.values, way.lang)
        if way.low:
            value = value if param.options or (value != said and isinstance(value, str)) else _lower(value)
            said = said.lower()
        meant[param.key] = -value if key == "down" else value
        kind = param.kind.split(":")[0]
        if kind in _QUOTABLE and way.lang == "en" and "'" not in said and self.rng.random() < 0.25:
            quote = self.rng.choice("'\"")
            return _Said(f"{quote}{said}{quote}")
        return _Said(said, free=kind == "text")

    # --- spelling -------------------------------------------------------------------------------------------------

    def _finish(self, pieces: list[str], way: _Way, openers: Optional[list[str]] = None) -> tuple[str, str]:
        """Courtesies, capitals, full stops and a rare slip of the finger: (text, skeleton).

        openers: what to begin with, instead of a courtesy.
        """
        rng = self.rng
        pieces = [self._slip(p) if not isinstance(p, _Said) and rng.random() < 0.012 else p for p in pieces]
        text, skeleton = _join(pieces), _join(["{}" if isinstance(p, _Said) else p for p in pieces])
        whole = way.lang == "en" and not wording.NO_REQUEST.match(skeleton.lower())
        free = isinstance(pieces[-1], _Said) and pieces[-1].free
        before = after = ""
        if openers is not None:
            before = rng.choice(openers)
        elif way.lang == "en" and rng.random() < 0.35:
            before = rng.choice(wording.BEFORE if whole else wording.BEFORE[:4])
        if way.lang == "en" and rng.random() < 0.15 and text[-1].isalnum() and not free:
            after = rng.choice(wording.AFTER if whole and not before else wording.AFTER[:4])
        if rng.random() < 0.6 and not (isinstance(pieces[0], _Said) and not before):
            text = _upper(before + text) + after
        else:
            text = before + text + after
        text += "" if free else self._stop(text, before)
        return text.lower() if way.low else text, skeleton.lower()

    def _stop(self, text: str, before: str) -> str:
        """The punctuation at the end, more often none."""
        x = self.rng.random()
        if x > 0.4 or not text[-1].isalnum():
            return ""
        if x > 0.36:
            return "!"
        return "?" if before.startswith(("can", "could", "would")) and self.rng.random() < 0.7 else "."

    def _slip(self, text: str) -> str:
        """Two neighbouring letters change places (not in Korean: nobody's finger slips by a syllable)."""
        if len(text) < 4:
            return text
        at = self.rng.randrange(1, len(text) - 2)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :] if re.match("[a-z]{2}", text[at:]) else text


class _Said(str):
    """A piece of the text that is a value. free: may end in punctuation of its own."""

    free: bool

    def __new__(cls, text: str, free: bool = False) -> _Said:
        said = super().__new__(cls, text)
        said.free = free
        return said


class _Flag(str):
    """A clause (a pattern) that means yes or no."""

    key: str
    value: bool

    def __new__(cls, text: str, key: str, value: bool) -> _Flag:
        flag = super().__new__(cls, text)
        flag.key, flag.value = key, value
        return flag


def _join(pieces: list[str]) -> str:
    """One text; where an optional part was left out, only one of the spaces around it stays."""
    return re.sub("  +", " ", "".join(pieces)).replace(" ,", ",").strip()


def _bare(clause: list[str]) -> list[str]:
    """A clause without what ties it to the request before it (", ", " and " or " but ")."""
    at = next((i for i, piece in enumerate(clause) if isinstance(piece, _Said)), len(clause))
    head = "".join(clause[:at])
    bare = re.sub(r"^(?:[,.;]| +(?:and|but)\b)? *", "", head)
    return [bare[:1].lower() + bare[1:] if head.startswith(".") else bare, *clause[at:]]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _lower(value: Any) -> Any:
    return [_lower(v) for v in value] if isinstance(value, list) else value.lower() if isinstance(value, str) else value


def _openers(said: str, lang: str) -> list[str]:
    """How to go on after what the assistant said."""
    if said.startswith(FAILED[lang][:4]):
        return wording.NEXT_FAILED_KO if lang == "ko" else wording.NEXT_FAILED
    return wording.NEXT_KO if lang == "ko" else wording.NEXT


def _optional(concept: Concept, lang: str) -> list[Param]:
    """Parameters that may be left unsaid, as far as the language has words for them."""
    return [p for p in concept.params if p.clauses and (lang == "en" or p.ko)]


def _calling(calls: Iterable[tuple[str, Json]]) -> Json:
    made = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return {"role": "assistant", "tool_calls": made}


def _compatible(a: Concept, b: Concept) -> bool:
    """Whether both can be declared at once, so that a question is never about either."""
    if a.key == b.key or a.key in b.near or b.key in a.near:
        return a.key != b.key and {a.key, b.key} == {"flashlight_on", "flashlight_off"}
    return True


def rows(
    count: int,
    seed: int = 0,
    split: str = "train",
    held: bool = False,
    tools: str = "train",
    kind: Optional[str] = None,
    lang: Optional[str] = None,
) -> Iterator[Json]:
    """Independent rows, each with a prompt of its own. Arguments as for `Generator` and its `query`."""
    source = Generator(seed, split, held, tools)
    for _ in range(count):
        scene = source.scene()
        yield row(scene, source.query(scene, kind, lang), "train" if split == "train" and not held else "eval")


def row(scene: Scene, query: Query, metadata: str) -> Json:
    messages = [scene.developer(), *query.messages(), query.answer()]
    return {"metadata": metadata, "tools": scene.tools(), "messages": messages}
