"""An endless, seeded stream of function-calling rows in FunctionGemma's shape, for training and for testing.

A `Scene` is one prompt's head: a date and one to seven declared tools. Any number of questions can be asked in it,
which is what training wants, since a long head need be computed only once for ten questions. `rows` gives independent
rows, one question each, as google/mobile-actions writes them:

    {"metadata": "train", "tools": [{"function": …}, …], "messages": [developer, user, assistant]}

Three things are kept out of training, each on its own: words in values (split "test"), phrasings (`held=True`: other
patterns) and tools (tools="unseen"). Everything follows from the seed. Standard library only.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from edge.train import toolset
from edge.train.phrases import Slot, draw
from edge.train.toolset import Concept, Instance, Json, Param
from edge.train.values import DAYS, Values, listed

SENTENCE = "You are a model that can do function calling with the following functions"
REFUSAL = {"en": "Sorry, none of my functions can do that.", "ko": "죄송하지만 그 일을 할 수 있는 기능이 없어요."}

# How often, in training: several calls in one answer, and no fitting tool.
PARALLEL, NONE, KOREAN = 0.25, 0.08, 0.14

_QUOTABLE = ("phrase", "title", "text", "song", "task", "file", "word", "place", "item")
_BEFORE = [
    "hey, ",
    "hi, ",
    "ok, ",
    "so, ",
    "please ",
    "can you ",
    "could you ",
    "could you please ",
    "I'd like you to ",
    "would you ",
    "can you please ",
    "now ",
    "quick: ",
]
_AFTER = [
    ", please",
    ", thanks",
    ", thank you",
    " now",
    " please",
    " for me",
    " if you can",
    ", would you",
    " right now",
]
_NO_REQUEST = (
    "i ",
    "i'",
    "time to",
    "it'",
    "it is",
    "we ",
    "where",
    "what",
    "how",
    "who",
    "will",
    "do i",
    "are",
    "can i",
    "let",
    "don't",
    "new ",
)
_JOIN = [" and ", " and then ", ". Also, ", ", then ", " and also ", ". Then ", ", and ", "; ", ". After that, ", ". "]
_JOIN_HELD = [", plus ", ", and after that ", ". Next, ", " as well as "]
_JOIN_KO = [" 그리고 ", "고, ", ". 그리고 ", ", "]
_CHAT = listed("""tell me a joke|what is the capital of {city}|who are you|how old is {first} {last}|I'm bored|
what is {int} plus {int}|do you like {item}|sing something|what does {word} mean|thanks a lot|good morning|
who wrote {song}|explain {phrase}|how far is the moon|are you a robot|write a poem about {word}|why is the sky blue|
I had {item} for lunch|my name is {first}|is {word} a word|what's your favourite {word}|who won the match yesterday|
how do I learn {word}|you are great|what do you think about {phrase}|give me advice on {phrase}""")
_CHAT_KO = listed("""안녕|고마워|너는 누구야|심심해|농담 하나 해줘|{item_ko} 좋아해?|하늘은 왜 파래?|
{place_ko} 인구가 얼마야?|배고파|사랑이 뭐야?""")


@dataclass(frozen=True)
class Query:
    """One question and its answer.

    text: what the user says. calls: (declared name, arguments) in order; empty means that `refusal` is the answer.
    kind: "call", "parallel" or "none". lang: "en" or "ko". concepts: keys of what is called. skeleton: the text with
    `{}` for every value, for the leak test.
    """

    text: str
    calls: tuple[tuple[str, Json], ...]
    refusal: str
    kind: str
    lang: str
    concepts: tuple[str, ...]
    skeleton: str

    def answer(self) -> Json:
        """The assistant's message."""
        if not self.calls:
            return {"role": "assistant", "content": self.refusal}
        calls = [
            {"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in self.calls
        ]
        return {"role": "assistant", "tool_calls": calls}


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
    """

    def __init__(
        self, seed: Union[int, str], split: str = "train", held: bool = False, tools: str = "train", most: int = 7
    ) -> None:
        self.rng = random.Random(f"{seed} {split} {held} {tools}")
        self.split, self.held, self.which, self.most = split, held, tools, most
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
        if x < 0.42:
            return toolset.composed(rng, "train")
        return rng.choice(toolset.MOBILE if x < 0.58 else self._known)

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
        """A question in this scene. kind, lang: as in `Query`; by default drawn in training's proportions."""
        rng = self.rng
        lang = lang or ("ko" if rng.random() < KOREAN and any(i.concept.ko for i in scene.targets) else "en")
        if kind is None:
            kind = rng.choices(["none", "parallel", "call"], [NONE, PARALLEL, 1 - NONE - PARALLEL])[0]
        if kind == "none":
            return self._refused(scene, lang)
        return self._called(scene, lang, 1 if kind == "call" else rng.choice([2, 2, 2, 3]))

    def _called(self, scene: Scene, lang: str, count: int) -> Query:
        rng = self.rng
        able = [i for i in scene.targets if i.concept.ko] if lang == "ko" else scene.targets
        lang, able = (lang, able) if able else ("en", scene.targets)
        weights = [1.0 if i.concept.params else 0.35 for i in able]
        chosen = rng.choices(able, weights, k=count)
        if count > 1 and len(able) > 1 and len({i.name for i in chosen}) == 1:
            chosen[-1] = rng.choice([i for i in able if i is not chosen[0]])
        done = [self._one(i, lang, scene.now) for i in chosen]
        join = rng.choice(_JOIN_KO if lang == "ko" else _JOIN_HELD if self.held else _JOIN)
        pieces = done[0][0]
        for more, _ in done[1:]:
            pieces = [*pieces, join, *more]
        text, skeleton = self._finish(pieces, lang)
        calls = tuple((i.name, arguments) for i, (_, arguments) in zip(chosen, done))
        kind = "parallel" if count > 1 else "call"
        return Query(text, calls, "", kind, lang, tuple(i.concept.key for i in chosen), skeleton)

    def _refused(self, scene: Scene, lang: str) -> Query:
        """Small talk, or a question for a tool that is not there, a near one most of the time."""
        rng = self.rng
        if rng.random() < 0.3:
            pieces = self._chat(lang, scene.now)
        else:
            pieces, lang = self._astray(scene, lang)
        text, skeleton = self._finish(pieces, lang)
        return Query(text, (), REFUSAL[lang], "none", lang, (), skeleton)

    def _astray(self, scene: Scene, lang: str) -> tuple[list[str], str]:
        while True:
            near = self.rng.choice(scene.targets).concept
            other = self._neighbour(near) if self.rng.random() < 0.6 else self._any()
            if all(_compatible(other, i.concept) for i in scene.instances):
                lang = lang if other.ko else "en"
                return self._one(toolset.instantiate(other, self.rng, 0.0), lang, scene.now)[0], lang

    def _chat(self, lang: str, now: dt.datetime) -> list[str]:
        values = Values(self.rng, self.split, now)
        pieces = draw(self.rng, self.rng.choice(_CHAT_KO if lang == "ko" else _CHAT))
        return [_Said(values.say(p)[0]) if isinstance(p, Slot) else p for p in pieces]

    def _one(self, instance: Instance, lang: str, now: dt.datetime) -> tuple[list[str], Json]:
        """One request as pieces, and the arguments of its call."""
        concept, values = instance.concept, Values(self.rng, self.split, now)
        core = draw(self.rng, self.rng.choice(self._patterns(concept, lang)))
        used = [p for p in concept.params if not p.clauses]
        extra = [p for p in concept.params if p.clauses and (lang == "en" or p.ko)]
        extra = [p for p in extra if p.key in concept.required or self.rng.random() < 0.5]
        if lang == "ko" and not all(p in extra for p in concept.params if p.key in concept.required):
            return self._one(instance, "en", now)
        self.rng.shuffle(extra)
        pieces = [piece for p in extra for piece in self._clause(p, lang)]
        pieces = [*pieces, *core] if lang == "ko" else self._placed(core, pieces, extra)
        arguments: Json = {}
        pieces = self._fill(pieces, {p.key: p for p in (*used, *extra)}, values, lang, arguments)
        return pieces, {instance.names[key]: arguments[key] for key in arguments}

    def _patterns(self, concept: Concept, lang: str) -> tuple[str, ...]:
        """The concept's patterns of our side; of the Korean ones, the last is kept for testing."""
        if lang == "en":
            return concept.held if self.held else concept.say
        return concept.ko[-1:] if self.held else concept.ko[:-1] or concept.ko

    def _placed(self, core: list[str], clauses: list[str], extra: list[Param]) -> list[str]:
        """Clauses after the request, or one alone before it ("at 7 pm, feed the cat")."""
        first = str(clauses[0]) if clauses else ""
        if len(extra) == 1 and first.startswith((" at ", " on ", " in ", " for ")) and self.rng.random() < 0.2:
            return [first[1:], *clauses[1:], ", ", *core]
        return [*core, *clauses]

    def _clause(self, param: Param, lang: str) -> list[str]:
        if param.kind == "bool":
            yes = self.rng.random() < 0.6
            return [_Flag(self.rng.choice(param.clauses if yes else param.no), param.key, yes)]
        pool = param.ko if lang == "ko" else param.held if self.held and self.rng.random() < 0.5 else param.clauses
        return draw(self.rng, self.rng.choice(pool))

    def _fill(
        self, pieces: list[str], params: dict[str, Param], values: Values, lang: str, arguments: Json
    ) -> list[str]:
        """Replace slots by what is said, and note what is meant in `arguments`."""
        filled: list[str] = []
        for piece in pieces:
            if isinstance(piece, _Flag):
                arguments[piece.key] = piece.value
                filled += draw(self.rng, str(piece))
            elif isinstance(piece, Slot):
                filled.append(self._fill_one(str(piece), params, values, lang, arguments))
            else:
                filled.append(piece)
        return filled

    def _fill_one(self, key: str, params: dict[str, Param], values: Values, lang: str, arguments: Json) -> str:
        param = params["delta"] if key in ("up", "down") else params[key]
        said, value = param.say(values, lang)
        while param.options and value in arguments.values():  # "miles to miles"
            said, value = param.say(values, lang)
        arguments[param.key] = -value if key == "down" else value
        if param.kind.split(":")[0] in _QUOTABLE and lang == "en" and "'" not in said and self.rng.random() < 0.25:
            quote = self.rng.choice("'\"")
            said = f"{quote}{said}{quote}"
        return _Said(said)

    def _finish(self, pieces: list[str], lang: str) -> tuple[str, str]:
        """Courtesies, capitals, full stops and a rare slip of the finger: (text, skeleton)."""
        rng = self.rng
        pieces = [self._slip(p) if not isinstance(p, _Said) and rng.random() < 0.012 else p for p in pieces]
        text, skeleton = _join(pieces), _join(["{}" if isinstance(p, _Said) else p for p in pieces])
        whole = lang == "en" and not text.lower().startswith(_NO_REQUEST)
        before = after = ""
        if lang == "en" and rng.random() < 0.35:
            before = rng.choice(_BEFORE if whole else _BEFORE[:4])
        if lang == "en" and rng.random() < 0.15 and text[-1].isalnum():
            after = rng.choice(_AFTER if whole else _AFTER[:4])
        if rng.random() < 0.6 and not (isinstance(pieces[0], _Said) and not before):
            text = _upper(before + text) + after
        else:
            text = before + text + after
        if rng.random() < 0.35 and text[-1].isalnum():
            text += "?" if before.startswith(("can", "could", "would")) and rng.random() < 0.7 else "."
        return text, skeleton.lower()

    def _slip(self, text: str) -> str:
        """Two neighbouring letters change places."""
        if len(text) < 4:
            return text
        at = self.rng.randrange(1, len(text) - 2)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :] if text[at : at + 2].isalpha() else text


class _Said(str):
    """A piece of the text that is a value."""


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


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


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
    messages: list[Any] = [scene.developer(), {"role": "user", "content": query.text}, query.answer()]
    return {"metadata": metadata, "tools": scene.tools(), "messages": messages}
