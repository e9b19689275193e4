"""A project's own words for its tools: a small TOML or JSON file that adds to what `synth_wording` makes, or replaces it.

    [tools.set_light]
    en = ["(dim|light) the {room}[ to {percent} percent]"]     # slots are parameters; [a] may be left out, (a|b) chooses
    ko = ["{room} 불 (켜|밝혀)줘"]
    held.en = ["it's dark in the {room}"]                       # kept for testing; else every fifth of those above is
    only = true                                                # these patterns alone, none that edge makes

    [tools.set_light.parameters.room]
    values = ["hall", "bath"]                # an open parameter's values; of many, some are kept for testing
    kind = "city"                            # or a kind of value: first, city, date, phrase:1:3, int:1:30, …
    label.en = "place"                       # what people call the parameter
    clauses.en = [" in the {room}"]          # how it is mentioned where the pattern doesn't hold it
    held.en = [", I mean the {room}"]
    no.en = [" without music"]               # of a boolean: what means no, `clauses` means yes
    said.en = {living_room = ["living room", "lounge"]}         # a declared choice or value -> how it is said

    [refuse]
    en = "That is beyond me."                # the answer where no tool fits
    [astray]
    en = ["(call|ring) {first}"]             # requests that no tool serves; slots are kinds of values

Tools and parameters must be declared, languages are en and ko. Every error names file, line and remedy.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

from edge.dialects import Tool
from edge.errors import EdgeError
from edge.records import Json
from edge.train.phrases import count, slots
from edge.train.values import Values

from .synth_values import KINDS, of_kind

LANGUAGES = ("en", "ko")
_TOOL = ("en", "ko", "held", "only", "parameters")
_PARAMETER = ("values", "kind", "label", "clauses", "held", "no", "said")


@dataclass(frozen=True)
class ParameterGrammar:
    """What a file says of one parameter; by language where it is wording."""

    values: tuple[Any, ...] = ()
    kind: str | None = None
    label: dict[str, str] = field(default_factory=dict)
    clauses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: dict[str, tuple[str, ...]] = field(default_factory=dict)
    no: dict[str, tuple[str, ...]] = field(default_factory=dict)
    said: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolGrammar:
    say: dict[str, tuple[str, ...]] = field(default_factory=dict)
    held: dict[str, tuple[str, ...]] = field(default_factory=dict)
    only: bool = False
    parameters: dict[str, ParameterGrammar] = field(default_factory=dict)


@dataclass(frozen=True)
class Grammar:
    tools: dict[str, ToolGrammar] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)
    astray: dict[str, tuple[str, ...]] = field(default_factory=dict)


def load(file: Path, tools: Sequence[Tool]) -> Grammar:
    """Read a grammar for these tools. Raises EdgeError naming file and line."""
    try:
        text = file.read_text(encoding="utf-8")
        value = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}", "check the path") from None
    except UnicodeDecodeError as error:
        raise EdgeError(f"{file}: not UTF-8 (byte {error.start})", "save the file as UTF-8") from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise EdgeError(f"{file}: not {kind}: {error}", "correct it there; strings with braces need quotes") from None
    return _Reader(file, text, tools).grammar(value)


class _Reader:
    def __init__(self, file: Path, text: str, tools: Sequence[Tool]) -> None:
        self._file, self._lines = file, text.splitlines()
        self._declared = {t["function"]["name"]: t["function"].get("parameters") or {} for t in tools}

    def grammar(self, value: Any) -> Grammar:
        table = self._table(value, ("tools", "refuse", "astray"), "the file")
        tools = self._table(table.get("tools", {}), self._declared, "[tools]", "tool")
        return Grammar(
            {name: self._tool(name, given) for name, given in tools.items()},
            {lang: self._text(said, f"[refuse] {lang}") for lang, said in self._spoken(table.get("refuse", {}), "[refuse]").items()},
            self._patterns(table.get("astray", {}), KINDS, "[astray]", "kind of value"),
        )  # fmt: skip

    def _tool(self, name: str, given: Any) -> ToolGrammar:
        where = f"[tools.{name}]"
        table = self._table(given, _TOOL, where)
        schema = self._declared[name]
        known = list(schema.get("properties") or {})
        say = self._patterns({k: v for k, v in table.items() if k in LANGUAGES}, known, where, "parameter")
        held = self._patterns(table.get("held", {}), known, f"{where} held", "parameter")
        parameters = self._table(table.get("parameters", {}), known, f"{where} parameters", "parameter")
        only = table.get("only", False)
        if not isinstance(only, bool):
            self._fail(f"{where} only is true or false, not {only!r}", "only", "write only = true")
        if only and not say:
            self._fail(f"{where} says only, and has no patterns", "only", 'add some: en = ["…"]')
        return ToolGrammar(say, held, only, {n: self._parameter(name, n, g) for n, g in parameters.items()})

    def _parameter(self, tool: str, name: str, given: Any) -> ParameterGrammar:
        where = f"[tools.{tool}.parameters.{name}]"
        table = self._table(given, _PARAMETER, where)
        schema = self._declared[tool]["properties"][name]
        values, kind = table.get("values", []), table.get("kind")
        if not isinstance(values, list) or ("values" in table and not values):
            self._fail(f"{where} values is a list that is not empty", "values", 'write values = ["…"]')
        if "values" in table and "enum" in schema:
            self._fail(
                f"{where} has values, and its tool declares a choice",
                "values",
                "the declared ones are taken: say how under said",
            )
        for value in values:
            self._valid(tool, name, value, where)
        if kind is not None and (not isinstance(kind, str) or kind.partition(":")[0] not in KINDS):
            self._unknown(str(kind), KINDS, f"kind of value in {where}")
        if kind is not None:
            self._sample(tool, name, kind, where)
        said = {
            lang: self._said(told, schema, values, where)
            for lang, told in self._spoken(table.get("said", {}), where).items()
        }
        clauses, held, no = (
            self._patterns(table.get(key, {}), [name], f"{where} {key}", "parameter")
            for key in ("clauses", "held", "no")
        )
        yes_or_no = schema.get("type") == "boolean"
        for text in (t for told in (clauses, held, no) for texts in told.values() for t in texts):
            if bool(slots(text)) == yes_or_no:
                hint = "what it means is yes or no" if yes_or_no else f"write {{{name}}} where its value is said"
                self._fail(f"{where} {text!r} holds {'a' if yes_or_no else 'no'} slot", text, hint)
        called = self._spoken(table.get("label", {}), where)
        label = {lang: self._text(text, f"{where} label") for lang, text in called.items()}
        return ParameterGrammar(tuple(values), kind, label, clauses, held, no, said)

    def _sample(self, tool: str, name: str, kind: str, where: str) -> None:
        try:
            value = of_kind(kind)(Values(random.Random(0), "train", dt.datetime(2026, 1, 1)), "en")[1]
        except (ValueError, TypeError):
            self._fail(
                f"{where} kind {kind!r} has limits that it doesn't take",
                kind,
                "limits are numbers: int:1:30, phrase:1:3",
            )
        else:
            self._valid(tool, name, value, where, "kind")

    def _valid(self, tool: str, name: str, value: Any, where: str, key: str = "values") -> None:
        from edge.calls import Call
        from edge.tools import validate_call

        schema = {"type": "object", "properties": {name: self._declared[tool]["properties"][name]}}
        declared: Tool = {"type": "function", "function": {"name": tool, "parameters": schema}}
        problems = validate_call(Call(tool, {name: value}), [declared])
        if problems:
            self._fail(f"{where} {problems[0]}", key, "write values as the tool declares them")

    def _said(self, told: Any, schema: Json, values: Sequence[Any], where: str) -> dict[str, tuple[str, ...]]:
        known = [str(v) for v in schema.get("enum") or values]
        table = self._table(told, known, f"{where} said", "value")
        return {value: self._list(texts, f"{where} said {value}") for value, texts in table.items()}

    # --- shapes -----------------------------------------------------------------------------------------------------------

    def _table(self, value: Any, known: Iterable[str], where: str, what: str = "key") -> Json:
        if not isinstance(value, dict):
            self._fail(
                f"{where} is a table, not {_shown(value)}",
                where.rpartition(".")[2].strip("[]"),
                "write a table: [tools.NAME]",
            )
        for key in value:
            if key not in list(known):
                self._unknown(key, list(known), f"{what} in {where}")
        return dict(value)

    def _spoken(self, value: Any, where: str) -> Json:
        return self._table(value, LANGUAGES, where, "language")

    def _text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self._fail(f"{where} is a text, not {_shown(value)}", where.split()[-1], 'write it in quotes: "…"')
        return str(value)

    def _list(self, value: Any, where: str) -> tuple[str, ...]:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not given or not all(isinstance(v, str) and v.strip() for v in given):
            self._fail(f"{where} is a list of texts, not {_shown(value)}", where.split()[-1], 'write ["…", "…"]')
        return tuple(given)

    def _patterns(self, value: Any, known: Sequence[str], where: str, what: str) -> dict[str, tuple[str, ...]]:
        found = {lang: self._list(texts, f"{where} {lang}") for lang, texts in self._spoken(value, where).items()}
        for texts in found.values():
            for text in texts:
                self._pattern(text, known, where, what)
        return found

    def _pattern(self, text: str, known: Sequence[str], where: str, what: str) -> None:
        try:
            used, _ = slots(text), count(text)
        except ValueError as error:
            self._fail(f"{where} {error}", text, "brackets come in pairs: (a|b), [a], {slot}")
        for slot in sorted(used):
            if slot not in known and not (what != "parameter" and slot.partition(":")[0] in known):
                self._unknown(slot, known, f"{what} in {where}, in {text!r}", text)

    # --- errors -----------------------------------------------------------------------------------------------------------

    def _unknown(self, name: str, known: Sequence[str], what: str, needle: str = "") -> None:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        self._fail(f"no {what} named {name!r}", needle or name, f"{hint}known: {', '.join(known) or 'none'}")

    def _fail(self, message: str, needle: str, hint: str) -> None:
        line = self._line(message, needle)
        raise EdgeError(f"{self._file}{f', line {line}' if line else ''}: {message}", hint)

    def _line(self, message: str, needle: str) -> int | None:
        """Where the words stand that are wrong: behind the header that the message names, or anywhere."""
        header = re.search(r"\[[\w.]+\]", message)
        begins = [n for n, text in enumerate(self._lines) if header and header[0] in text]
        for start in [*begins[:1], 0]:
            for words in (needle, _shown(needle)[1:-1]):
                found = next(
                    (n for n, text in enumerate(self._lines[start:], start + 1) if words and words in text), None
                )
                if found:
                    return found
        return None


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
