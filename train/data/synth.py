"""`edge data synth`: rows from tools: composed phrasings, typed values, several calls, no fitting tool, several turns.

The generator of the embedded model's lessons (`train/generator.py`) is asked about the project's tools in place of its
own: what a request is joined, opened, answered and asked again with comes from there. What is said of a tool comes from
`synth_wording` and the project's grammar (`synth_grammar`), what fills it from `synth_values`. Everything follows from
the seed. Rows that are held out are phrased in other patterns, with other words in their values, and none of them is a
near-duplicate of a training row.
"""

# ruff: noqa: SIM905  (a table of words reads better as text)

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.dialects import Tool
from edge.errors import EdgeError
from edge.records import Json, write_text
from edge.train import readers, toolset
from edge.train.generator import Generator, Query, Scene, _Flag, _Request, _Said, _Way
from edge.train.phrases import Slot, draw
from edge.train.readers import Reject
from edge.train.toolset import Concept, Instance, Param
from edge.train.values import MONTHS, Said, Values
from edge.worker import Progress

from . import synth_values, synth_wording, text
from .near import Index, sign
from .source import Source
from .synth_grammar import Grammar, ParameterGrammar, ToolGrammar
from .synth_values import Maker
from .synth_wording import Clauses, Phrasings

INVENTED = 0.1  # the share of values in words that there aren't: copying them takes reading
_PATIENCE = 400  # rows in a row that were there already, until there are probably no more
NEAR = 0.8


@dataclass(frozen=True)
class Settings:
    """What to make. The shares are of all rows; what they leave over asks for one call."""

    count: int
    seed: int = 0
    languages: tuple[str, ...] = ("en",)
    parallel: float = 0.2
    none: float = 0.1
    multi: float = 0.1
    clock: bool | None = None  # tell the date in the developer's message; None: if a tool takes dates
    developer: str = readers.DEVELOPER
    with_tools: bool = False  # write the tools into each row


@dataclass(frozen=True)
class _Param(Param):
    """A declared parameter. In `clauses` and `ko` what is trained with, `wording` has what is held out too."""

    make: Maker = field(default=lambda values, lang: values.word())
    wording: dict[str, Clauses] = field(default_factory=dict, hash=False)

    def say(self, values: Values, lang: str) -> Said:
        return self.make(values, lang)


@dataclass(frozen=True)
class _Concept(Concept):
    wording: dict[str, Phrasings] = field(default_factory=dict, hash=False)


@dataclass
class _Scene(Scene):
    sentence: str = readers.DEVELOPER

    def developer(self) -> Json:
        told = super().developer()
        clock = str(told["content"]).rpartition("\n")[0]
        return {**told, "content": f"{clock}\n{self.sentence}".strip()}


class _Undated(Values):
    """Values of somebody whose listener doesn't know what day it is: days are told by the calendar."""

    def _day(self) -> tuple[str, dt.date]:
        day = self._any_day()
        month = MONTHS[day.month - 1]
        ways = [day.isoformat(), f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}"]
        return self.rng.choice(ways), day

    def _day_ko(self) -> tuple[str, dt.date]:
        day = self._any_day()
        return f"{day.year}년 {day.month}월 {day.day}일", day

    def _any_day(self) -> dt.date:
        return self.now.date() + dt.timedelta(self.rng.randint(0, 400))


# --- tools as the generator knows them ------------------------------------------------------------------------------------


def _instance(tool: Tool, grammar: ToolGrammar) -> Instance:
    function = tool["function"]
    schema = function.get("parameters") or {}
    properties, required = schema.get("properties") or {}, tuple(schema.get("required") or ())
    params = tuple(
        _param(tool, name, inner, grammar.parameters.get(name, ParameterGrammar()))
        for name, inner in properties.items()
        if name in required or _sayable(inner)
    )
    spoken = {lang: _phrasings(tool, lang, grammar) for lang in ("en", "ko")}
    concept = _Concept(
        key=f"declared:{function['name']}", domain="declared", names=(function["name"],),
        about=(str(function.get("description") or ""),), say=spoken["en"].say, held=spoken["en"].held,
        ko=(*spoken["ko"].say, *spoken["ko"].held), params=params, required=required, wording=spoken,
    )  # fmt: skip
    return Instance(concept, function["name"], {p.key: p.key for p in params}, tool)


def _sayable(schema: Json) -> bool:
    """Whether there is anything to say of an optional parameter: of an object without properties there isn't."""
    return schema.get("type") != "object" or bool(schema.get("properties"))


def _phrasings(tool: Tool, lang: str, grammar: ToolGrammar) -> Phrasings:
    """Ours and the grammar's patterns."""
    own = synth_wording.english(tool) if lang == "en" else synth_wording.korean(tool)
    given, held = grammar.say.get(lang, ()), grammar.held.get(lang, ())
    if given and not held and len(given) > 4:
        held = given[4::5]
        given = tuple(pattern for n, pattern in enumerate(given) if n % 5 != 4)
    if grammar.only:
        return Phrasings(given, held) if given else Phrasings((), ())
    # Written by somebody who knows: as often as all of ours together.
    often = given * max(1, round(len(own.say) / len(given))) if given else ()
    return Phrasings(
        (*own.say, *often), (*own.held, *(held * max(1, round(len(own.held) / len(held))) if held else ()))
    )


def _param(tool: Tool, name: str, schema: Json, grammar: ParameterGrammar) -> _Param:
    where = f"{tool['function']['name']}.{name}"
    english, korean = synth_wording.clauses(tool, name, grammar.label)
    spoken = {lang: _mentions(own, lang, grammar) for lang, own in (("en", english), ("ko", korean))}
    yes_or_no = schema.get("type") == "boolean"
    return _Param(
        key=name, kind="bool" if yes_or_no else _quotable(name, schema, grammar), names=(name,), about=("",),
        clauses=spoken["en"].say, held=spoken["en"].held, ko=spoken["ko"].say, no=spoken["en"].no,
        options=tuple(map(str, schema.get("enum", ()))), make=_make(name, schema, grammar, where), wording=spoken,
    )  # fmt: skip


def _mentions(own: Clauses, lang: str, grammar: ParameterGrammar) -> Clauses:
    """The grammar's clauses in place of ours, where it has some; yes and no go together."""
    given, no = grammar.clauses.get(lang), grammar.no.get(lang)
    if not given and not no:
        return own
    return Clauses(given or own.say, grammar.held.get(lang) or given or own.held, no or own.no, no or own.no_held)


def _quotable(name: str, schema: Json, grammar: ParameterGrammar) -> str:
    """The kind, after which the generator decides whether a value may be quoted."""
    if schema.get("type") in ("array", "object"):
        return "items"
    if schema.get("type") != "string" or "enum" in schema or "pattern" in schema:
        return "declared"
    return grammar.kind or ("word" if grammar.values else synth_values.kind_of(name, schema))


def _make(name: str, schema: Json, grammar: ParameterGrammar, where: str) -> Maker:
    if grammar.values:
        make = synth_values.listing(grammar.values)
    elif grammar.kind:
        make = synth_values.of_kind(grammar.kind)
    else:
        make = synth_values.maker(name, schema, where)
    if not grammar.said:
        return make

    def said(values: Values, lang: str) -> Said:
        usual, value = make(values, lang)
        ways = grammar.said.get(lang, {}).get(str(value))
        return (values.rng.choice(ways) if ways else usual), value

    return said


def _length(param: Param) -> int:
    """Where it is best mentioned: plain values first, lists behind them, text that has no end of its own last."""
    kind = param.kind.partition(":")[0]
    return 2 if kind in ("text", "phrase", "title", "task", "song", "item") else 1 if kind == "items" else 0


# --- the source of rows ---------------------------------------------------------------------------------------------------


class Synth(Generator):
    """The generator, asked about the project's tools."""

    def __init__(self, tools: Sequence[Tool], grammar: Grammar, settings: Settings, held: bool) -> None:
        super().__init__(settings.seed, "test" if held else "train", held, "declared", invented=INVENTED)
        self._settings, self._grammar = settings, grammar
        self._instances = [_instance(t, grammar.tools.get(t["function"]["name"], ToolGrammar())) for t in tools]
        self._asked: Counter[str] = Counter()
        self._quoted = set[str]()  # parameters whose text nobody could tell from what follows
        takes_dates = any(
            synth_values.dated(n, s)
            for t in tools
            for n, s in ((t["function"].get("parameters") or {}).get("properties") or {}).items()
        )
        self._clock = takes_dates if settings.clock is None else settings.clock
        foreign = _foreign(tools)
        self._foreign = {lang: [c for c in foreign if self._speaks(c, lang)] for lang in settings.languages}
        for lang in settings.languages:
            if not any(self._speaks(i.concept, lang) for i in self._instances):
                raise EdgeError(f"no tool has {'held-out ' if held else ''}phrasings in {lang!r}",
                                "add some in the grammar file, or take `only` out of it")  # fmt: skip

    def rows(self) -> Iterator[tuple[Query, Json]]:
        """Rows without end, and the query of each."""
        of = self._settings
        one, misses = max(0.0, 1 - of.parallel - of.none - of.multi), 0
        while True:
            scene = self.scene()
            kind = self.rng.choices(["parallel", "none", "multi", "call"], [of.parallel, of.none, of.multi, one])[0]
            query = self.query(scene, kind, self.rng.choice(of.languages))
            if (kind == "parallel" and query.kind != kind) or query.lang not in of.languages:
                misses += 1
                if misses > _PATIENCE:
                    raise EdgeError("no rows of this kind can be made of these tools: the only one takes no arguments",
                                    "give --parallel 0, or more tools")  # fmt: skip
                continue
            misses = 0
            messages = [scene.developer(), *query.messages(), query.answer()]
            yield query, {"messages": messages, **({"tools": scene.tools()} if of.with_tools else {})}

    def count(self, query: Query) -> None:
        """Remember what a row that was taken calls: tools that were called less are asked for more."""
        self._asked.update(query.concepts)

    def scene(self) -> Scene:
        now = dt.datetime(2024, 1, 1) + dt.timedelta(minutes=self.rng.randrange(60 * 24 * 365 * 4))
        return _Scene(now, self._clock, self._instances, self._instances, self._settings.developer)

    def _way(self, scene: Scene, lang: str) -> _Way:
        source = Values if self._clock else _Undated
        return _Way(lang, source(self.rng, self.split, scene.now, self.invented), False)

    def _chosen(self, scene: Scene, lang: str, count: int) -> list[Instance]:
        able = self._able(scene, lang)
        weights = [1 / (1 + self._asked[i.concept.key]) for i in able]
        chosen = self.rng.choices(able, weights, k=count)
        if count > 1 and len(able) > 1 and len({i.name for i in chosen}) == 1:
            chosen[-1] = self.rng.choice([i for i in able if i is not chosen[0]])
        return chosen

    # --- what no tool serves ----------------------------------------------------------------------------------------------

    def _refused(self, scene: Scene, lang: str) -> Query:
        query = super()._refused(scene, lang)
        return dataclasses.replace(query, reply=self._grammar.refuse.get(lang, query.reply))

    def _astray(self, scene: Scene, way: _Way) -> list[str]:
        given = self._grammar.astray.get(way.lang, ())
        kept = given[4::5] if self.held and len(given) > 4 else given
        if kept and (self.rng.random() < 0.5 or not self._foreign[way.lang]):
            return self._spoken(self.rng.choice(kept), way.values)
        if not self._foreign[way.lang]:
            return self._chat(way)
        other = self.rng.choice(self._foreign[way.lang])
        return super()._one(toolset.instantiate(other, self.rng, 0.0), way).pieces

    # --- one request ------------------------------------------------------------------------------------------------------

    def _speaks(self, concept: Concept, lang: str) -> bool:
        if isinstance(concept, _Concept):
            return bool(self._patterns(concept, lang))
        return super()._speaks(concept, lang)

    def _patterns(self, concept: Concept, lang: str) -> tuple[str, ...]:
        if not isinstance(concept, _Concept):
            return super()._patterns(concept, lang)
        return concept.wording[lang].held if self.held else concept.wording[lang].say

    def _clause(self, param: Param, lang: str) -> list[str]:
        if not isinstance(param, _Param):
            return super()._clause(param, lang)
        told = param.wording[lang]
        held = self.held and self.rng.random() < 0.5
        if param.kind != "bool":
            return draw(self.rng, self.rng.choice(told.held if held else told.say))
        yes = self.rng.random() < 0.6
        pool = (told.held if held else told.say) if yes else (told.no_held if held else told.no)
        return [_Flag(self.rng.choice(pool), param.key, yes)]

    def _one(self, instance: Instance, way: _Way) -> _Request:
        """A request whose pattern holds some parameters; clauses mention the other ones."""
        if not isinstance(instance.concept, _Concept):
            return super()._one(instance, way)
        concept, rng = instance.concept, self.rng
        core = draw(rng, rng.choice(self._patterns(concept, way.lang)))
        inside = {str(piece) for piece in core if isinstance(piece, Slot)}
        extra = [p for p in concept.params if p.key not in inside and (p.key in concept.required or rng.random() < 0.4)]
        rng.shuffle(extra)
        extra.sort(key=_length)
        self._quoted = {p.key for p in (extra if way.lang == "ko" else extra[:-1]) if _length(p) == 2}
        clauses = [piece for p in extra for piece in self._clause(p, way.lang)]
        pieces = [*clauses, *core] if way.lang == "ko" else self._placed(core, clauses, extra)
        meant: Json = {}
        filled = self._fill(pieces, [*(p for p in concept.params if p.key in inside), *extra], way, meant)
        return _Request(instance, filled, meant)

    def _fill_one(self, key: str, slots: dict[str, Param], way: _Way, meant: Json) -> _Said:
        said = super()._fill_one(key, slots, way, meant)
        if key in self._quoted and said[0] not in "'\"" and '"' not in said:
            return _Said(f'"{said}"')
        return said


_COMMON = set("a an the to of for in on at and or with by is it this that my your get set show make do use new all one from "
              "open start stop turn add create find check send up off out user s which what how be can into".split())  # fmt: skip


def _foreign(tools: Sequence[Tool]) -> list[Concept]:
    """Tools of the embedded model's lessons that have no word in common with these: what they do, none of these does."""
    told = {w for t in tools for w in _stems(json.dumps(_said_of(t), ensure_ascii=False))}
    return [c for c in toolset.BY_HAND if not told & set(_stems(" ".join([*c.names, *c.about, c.key])))]


def _said_of(tool: Tool) -> list[str]:
    return [tool["function"]["name"], str(tool["function"].get("description") or "")]


def _stems(said: str) -> Iterator[str]:
    for word in re.findall(r"[a-z]+", synth_values.words(said)):
        stem = re.sub(r"(es|s|ing|ed)$", "", word)
        if word not in _COMMON and len(stem) > 2:
            yield stem[:5]


# --- making ---------------------------------------------------------------------------------------------------------------


@dataclass
class Made:
    """Rows as JSON, and what they are."""

    rows: list[Json]
    kinds: Counter[str]
    tools: Counter[str]
    languages: Counter[str]
    exhausted: bool = False  # fewer than were asked for: there are no more

    def to_json(self) -> Json:
        return {"rows": len(self.rows), "kinds": dict(self.kinds.most_common()), "tools": dict(self.tools.most_common()),
                "languages": dict(self.languages.most_common()), "exhausted": self.exhausted}  # fmt: skip


def make(
    tools: Sequence[Tool],
    settings: Settings,
    grammar: Grammar | None = None,
    train: Made | None = None,
    progress: Progress | None = None,
) -> Made:
    """Rows for these tools, no two of them the same.

    Args:
        train: make rows to test with, none of them near to one of these.

    Raises EdgeError for no tools, for a schema that no value can be made for, and for a language that nothing is said in.
    """
    if not tools:
        raise EdgeError("no tools to make rows of", "name them: --tools FILE or --project FOLDER")
    source = Synth(tools, grammar or Grammar(), settings, train is not None)
    made, seen, wasted = Made([], Counter(), Counter(), Counter()), set[str](), 0
    index = Index(NEAR)
    for row in train.rows if train else ():
        seen.add(_key(row))
        index.put(sign(text.normalised(_said(row))))
    for query, row in source.rows():
        if len(made.rows) >= settings.count or wasted > _PATIENCE:
            break
        key = _key(row)
        if key in seen or (train and index.near(sign(text.normalised(_said(row))))):
            wasted += 1
            continue
        wasted = 0
        seen.add(key)
        source.count(query)
        made.rows.append(row)
        made.kinds[query.kind] += 1
        made.languages[query.lang] += 1
        made.tools.update(c.partition(":")[2] for c in query.concepts)
        if progress:
            progress(len(made.rows), settings.count, "")
    made.exhausted = len(made.rows) < settings.count
    return made


def make_holdout(tools: Sequence[Tool], settings: Settings, count: int, grammar: Grammar | None, train: Made) -> Made:
    """Rows to test with; fewer than `count` if no more are far enough from those to train with."""
    return make(tools, dataclasses.replace(settings, count=count), grammar, train)


def _said(row: Json) -> str:
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")


def _key(row: Json) -> str:
    """Equal for rows that ask the same: whatever the date, only one answer may be taught."""
    responses = [m["content"] for m in row["messages"] if m["role"] == "tool"]
    ended = row["messages"][-2]["role"] == "tool"
    return json.dumps([text.normalised(_said(row)), responses if ended else None])


def refused(rows: Sequence[Json], source: Source) -> Reject | None:
    """The first of these rows that the readers would not take: a value that the model's format has no way to write."""
    with tempfile.TemporaryDirectory(prefix="edge-synth-") as folder:
        file = Path(folder) / "rows.jsonl"
        write_text(file, lines(rows))
        found = readers.read([file], source.tools, source.dialect, source.developer)
        return next((each for each in found if isinstance(each, Reject)), None)


def lines(rows: Sequence[Json]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
