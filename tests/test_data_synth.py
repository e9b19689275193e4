"""`edge data synth`: rows from whatever tools, each one valid; phrasings and words of two sides; grammars and their faults."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from pathlib import Path
from typing import Any

import datarows
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import tools
from edge.cli import main
from edge.dialects import Tool
from edge.errors import EdgeError
from edge.train.data import check, source, stats, synth, synth_grammar, synth_values, synth_wording, text
from edge.train.data.synth import Made, Settings, make, make_holdout
from edge.train.data.synth_grammar import Grammar
from edge.train.phrases import draw
from edge.train.values import WORDS, Values


def tool(name: str, description: str, required: tuple[str, ...] = (), **properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return tools.normalise({"name": name, "description": description, "parameters": schema})[0]


def string(about: str = "A text.", **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": about, **more}


HOME = [
    tool("set_light", "Sets the brightness of a light.", ("room", "percent"),
         room=string("Which.", enum=["living_room", "hall"]), percent={"type": "integer", "description": "Percent."}),
    tool("send_email", "Sends an email.", ("to", "subject"), to=string("The email address."), subject=string("Subject."),
         body=string("The text."), urgent={"type": "boolean", "description": "Whether it is urgent."}),
    tool("getWeather", "Gets the weather forecast for a city.", ("city",), city=string("The city."),
         date=string("The day, as YYYY-MM-DD.")),
    tool("lock_doors", "Locks all doors."),
    tool("brew", "Makes coffee.", ("drink", "steps"), drink=string("What.", enum=["latte", "mocha"]),
         steps={"type": "array", "description": "Steps.", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
         size={"type": "object", "description": "How big.", "required": ["cups"],
               "properties": {"cups": {"type": "integer", "description": "Cups.", "minimum": 1, "maximum": 9},
                              "strong": {"type": "boolean", "description": "Strong."}}}),
]  # fmt: skip


def checked(folder: Path, declared: list[Tool], train: Made, held: Made | None = None) -> list[check.Problem]:
    """What `edge data check` finds, but for what the tools themselves are warned of."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.json").write_text(json.dumps(declared))
    (folder / "train.jsonl").write_text(synth.lines(train.rows))
    evaluation = []
    if held and held.rows:
        (folder / "eval.jsonl").write_text(synth.lines(held.rows))
        evaluation = [str(folder / "eval.jsonl")]
    found = source.find([str(folder / "train.jsonl")], evaluation=evaluation, tools_file=folder / "tools.json")
    loaded, faults = check.load(found)
    return [p for p in check.check(loaded, found, [], 4096, faults=faults).problems if p.kind != "tool"]


def calls(row: Any) -> list[Any]:
    return [c["function"] for m in row["messages"] for c in m.get("tool_calls", ())]


def values_of(rows: list[Any], argument: str) -> set[Any]:
    return {c["arguments"][argument] for row in rows for c in calls(row) if argument in c["arguments"]}


def asked(row: Any) -> str:
    return str([m["content"] for m in row["messages"] if m["role"] == "user"][-1])


# ---- rows


def test_rows_are_sound_and_everything_is_in_them(tmp_path: Path) -> None:
    made = make(HOME, Settings(400, 1, ("en", "ko")))
    assert [str(p) for p in checked(tmp_path, HOME, made)] == []
    assert len(made.rows) == 400 and not made.exhausted
    assert set(made.tools) == {t["function"]["name"] for t in HOME} and min(made.tools.values()) > 40
    assert set(made.kinds) == {"call", "parallel", "none", "answer", "follow-up", "again"}
    assert 60 < made.kinds["parallel"] < 110 and 25 < made.kinds["none"] < 60
    assert 150 < made.languages["ko"] < 250
    optional = {k for row in made.rows for c in calls(row) for k in c["arguments"]}
    assert optional == {"room", "percent", "to", "subject", "body", "urgent", "city", "date", "drink", "steps", "size"}


def test_the_seed_is_everything() -> None:
    one, again, other = (make(HOME, Settings(60, seed)).rows for seed in (1, 1, 2))
    assert one == again and one != other
    assert make(HOME, Settings(90, 1)).rows[:60] == one  # more rows go on where fewer end


def test_what_is_said_holds_what_is_called() -> None:
    rows = make(HOME, Settings(300, 3, multi=0)).rows
    for row in rows:
        said = text.normalised(asked(row))
        for call in calls(row):
            for key in ("to", "subject", "body", "city", "percent"):
                if key in call["arguments"]:
                    assert text.normalised(str(call["arguments"][key])) in said, row
            if "room" in call["arguments"]:
                assert call["arguments"]["room"].replace("_", " ") in said


def test_dates_are_told_with_a_clock_or_by_the_calendar() -> None:
    for clock in (None, True, False):
        rows = make(HOME, Settings(300, 1, clock=clock, multi=0)).rows
        dates = [(row, c["arguments"]["date"]) for row in rows for c in calls(row) if "date" in c["arguments"]]
        assert len(dates) > 10
        for row, date in dates:
            dt.date.fromisoformat(date)
            told = row["messages"][0]["content"]
            assert told.startswith("Current date and time") == (clock is not False)
            if clock is False:
                assert date[:4] in asked(row) and "tomorrow" not in asked(row)


def test_shares_and_tools_in_rows() -> None:
    made = make(HOME, Settings(120, 1, parallel=0, none=0.5, multi=0, developer="Be brief.", with_tools=True))
    assert set(made.kinds) == {"call", "none"} and 40 < made.kinds["none"] < 80
    assert all(row["tools"] == HOME or {t["function"]["name"] for t in row["tools"]} for row in made.rows)
    assert all(row["messages"][0]["content"].endswith("Be brief.") for row in made.rows)


def test_what_no_tool_serves_is_not_what_one_does() -> None:
    """A tool for alarms in the project: nobody who asks for an alarm is refused."""
    alarm = tool("set_alarm", "Sets an alarm.", ("time",), time=string("When, as HH:MM."))
    made = make([alarm], Settings(300, 1, none=0.9, parallel=0, multi=0))
    refused = [asked(row).lower() for row in made.rows if not calls(row)]
    assert len(refused) > 200 and not [said for said in refused if "alarm" in said or "wake me" in said]
    light = [said for said in refused if "light" in said]
    assert light  # of a project without lights somebody may ask for one


def test_held_out_rows_have_other_phrasings_and_are_near_to_none(tmp_path: Path) -> None:
    of = Settings(400, 1, ("en", "ko"))
    train = make(HOME, of)
    held = make_holdout(HOME, of, 80, None, train)
    assert len(held.rows) == 80 and [str(p) for p in checked(tmp_path, HOME, train, held)] == []
    found = source.find([str(tmp_path / "train.jsonl")], evaluation=[str(tmp_path / "eval.jsonl")])
    told = stats.leaks(source.read(found).items) or {}
    assert told["same_phrasing"] <= 8  # a text of hardly anything but values is its own phrasing
    cities = [values_of(rows.rows, "city") for rows in (train, held)]
    words = [{word for city in found_ for word in city.split()} for found_ in cities]
    assert words[0] and words[1] and not words[0] & words[1]


def test_no_phrasing_of_held_out_rows_is_trained() -> None:
    seen: list[set[str]] = []
    for held in (False, True):
        rows = synth.Synth(HOME, Grammar(), Settings(1, 1, ("en", "ko")), held).rows()
        seen.append({skeleton for _ in range(400) for skeleton in next(rows)[0].skeletons})
    assert min(map(len, seen)) > 150 and not seen[0] & seen[1]


def test_a_held_out_row_that_is_near_to_a_trained_one_is_left_out() -> None:
    said_ = "bolt the doors of " + " ".join(WORDS[:60])  # a set of shingles: saying it twice makes it no longer
    near = synth_grammar.ToolGrammar({"en": (said_,)}, {"en": (f"{said_} ok",)}, only=True)
    of = Settings(5, 1, parallel=0, none=0, multi=0)
    held = make_holdout(
        [HOME[3]], of, 5, Grammar({"lock_doors": near}), make([HOME[3]], of, Grammar({"lock_doors": near}))
    )
    assert held.rows == [] and held.exhausted


def test_too_few_phrasings_end_it() -> None:
    only = Grammar({"lock_doors": synth_grammar.ToolGrammar({"en": ("lock up",)}, only=True)})
    made = make([HOME[3]], Settings(5000, 1, parallel=0, none=0, multi=0), only)
    assert made.exhausted and 5 < len(made.rows) < 1000
    with pytest.raises(EdgeError, match="no tools"):
        make([], Settings(1))
    with pytest.raises(EdgeError, match="no rows of this kind"):
        make([HOME[3]], Settings(5, parallel=1, none=0, multi=0))


# ---- whatever the tools

NAMES = st.sampled_from(
    "to from city date when email phone url name title body query items tags percent minutes amount is_open userId x type_ "  # noqa: SIM905
    "first-name colour unit language code file address description_".split()
)
NUMBER = st.integers(-50, 50)


@st.composite
def numbers(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    schema: dict[str, Any] = {"type": kind}
    low = draw(NUMBER)
    if draw(st.booleans()):
        schema["minimum"] = low
    if draw(st.booleans()):
        schema["maximum"] = low + draw(st.integers(0, 60))
    if draw(st.integers(0, 4)) == 0:
        schema["exclusiveMinimum"] = low - 1
    if draw(st.integers(0, 4)) == 0:
        schema["exclusiveMaximum"] = low + 61
    if draw(st.integers(0, 4)) == 0 and "maximum" not in schema:
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 5, 10, 0.5] if kind == "number" else [1, 2, 5, 10]))
    return schema


STRINGS = (
    st.just({"type": "string"})
    | st.builds(lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 12), st.integers(0, 12))
    | st.sampled_from([{"type": "string", "format": f} for f in ("date", "date-time", "time", "email", "uri", "uuid", "x")])
    | st.sampled_from([{"type": "string", "pattern": p} for p in (
        r"^[A-Z]{2}\d{3,5}$", r"^(red|green) [a-f]+$", r"\d{4}-[0-1]\d", r"^#[0-9a-f]{6}$", r"^[^aeiou ]{3}$", r"(ab)+\1?x?",
        r"^\w+@\w+\.(com|org)$")])
    | st.builds(lambda v: {"type": "string", "enum": v}, st.lists(st.sampled_from(
        ["a", "living_room", "COLD", "ON", "on", "거실", "two words", "x-y"]), min_size=1, max_size=4, unique=True))
)  # fmt: skip
PLAIN = STRINGS | numbers() | st.just({"type": "boolean"}) | st.just({"type": "integer", "enum": [1, 2, 5]})


def _object(properties: dict[str, Any], optional: bool) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [] if optional else list(properties)}


SCHEMAS = st.recursive(
    PLAIN,
    lambda inner: (
        st.builds(lambda items, low: {"type": "array", "items": items, **low}, inner, st.sampled_from(
            [{}, {"minItems": 1, "maxItems": 1}, {"maxItems": 2}, {"minItems": 0}]))
        | st.builds(_object, st.dictionaries(NAMES, inner, max_size=3), st.booleans())
    ),
    max_leaves=4,
)  # fmt: skip
TOOL_NAMES = [
    "set_light",
    "getWeather",
    "now",
    "fetch_x",
    "do-it.now",
    "order",
    "create_event",
    "turn_on",
    "search_web",
    "a",
]
ABOUT = ["Sets a light, or (more) [than] one.", "The time.", "", "Returns {x}|y of a user.", "조명을 켭니다.", "Fixes."]
TOOLS = st.lists(
    st.builds(
        lambda name, about, properties, some: {"name": name, "description": about, "parameters": {
            **_object(properties, False), "required": sorted(properties)[: some]}},
        st.sampled_from(TOOL_NAMES), st.sampled_from(ABOUT),
        st.dictionaries(NAMES, SCHEMAS, max_size=4),
        st.integers(0, 4),
    ),
    min_size=1, max_size=3, unique_by=lambda t: t["name"],
)  # fmt: skip


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """JSON Schema's own words, as far as tools use them: written apart from what makes the values."""
    if "enum" in schema:
        return value in schema["enum"]
    if schema["type"] == "string":
        long = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6)
        return long and bool(re.search(schema.get("pattern", ""), value))
    if schema["type"] in ("integer", "number"):
        steps = value / schema.get("multipleOf", value or 1)
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1)
            and abs(steps - round(steps)) < 1e-6
        )
    if schema["type"] == "array":
        inner = all(fits(v, schema["items"]) for v in value)
        return inner and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99)
    if schema["type"] == "object":
        declared = schema.get("properties") or {}  # where nothing is declared, anything goes
        return all(fits(v, declared[k]) for k, v in value.items() if declared) and {*schema["required"]} <= {*value}
    return isinstance(value, bool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TOOLS, st.integers(0, 999))
def test_whatever_the_tools_every_row_passes(
    tmp_path_factory: pytest.TempPathFactory, given_: list[dict[str, Any]], seed: int
) -> None:
    declared = [tools.normalise(t)[0] for t in given_]
    schemas = {t["function"]["name"]: t["function"]["parameters"] for t in declared}
    try:
        made = make(declared, Settings(12, seed, ("en", "ko")))
    except EdgeError as error:
        assert "no number is within its limits" in error.message  # the one thing that these can be wrong in
        return
    assert made.rows
    problems = checked(tmp_path_factory.mktemp("any"), declared, made)
    assert [str(p) for p in problems if p.kind not in ("uncalled tool", "single row")] == []
    for row in made.rows:
        for call in calls(row):
            for name, value in call["arguments"].items():
                assert fits(value, schemas[call["name"]]["properties"][name]), (name, value)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 4}, 5),
        ({"type": "number", "exclusiveMinimum": 1}, 1),
        ({"type": "string", "pattern": "^a$"}, "b"),
        ({"type": "string", "maxLength": 2}, "abc"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 1}, []),
        ({"type": "string", "enum": ["a"]}, "A"),
        ({"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}, {}),
    ],
)
def test_the_judge_of_that_test_sees_what_does_not_fit(schema: dict[str, Any], wrong: Any) -> None:
    assert not fits(wrong, schema)


# ---- values


def said(name: str, lang: str = "en", split: str = "train", **schema: Any) -> list[tuple[str, Any]]:
    make_ = synth_values.maker(name, {"type": "string", **schema}, f"f.{name}")
    source_ = Values(random.Random(1), split, dt.datetime(2026, 11, 21, 9, 0), 0.0)
    return [make_(source_, lang) for _ in range(60)]


@pytest.mark.parametrize(
    ("name", "schema", "pattern"),
    [
        ("recipient_email", {}, r"[\w.]+@[\w.]+"),
        ("to", {"description": "The email address."}, r"[\w.]+@[\w.]+"),
        ("phoneNumber", {}, r"[\d+(). -]+"),
        ("date", {}, r"\d{4}-\d\d-\d\d"),
        ("due", {"description": "The day as DD.MM.YYYY."}, r"\d\d\.\d\d\.\d{4}"),
        ("start", {"description": "In the format YYYY-MM-DDTHH:MM:SS."}, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"),
        ("alarm_time", {}, r"\d\d:\d\d"),
        ("x", {"format": "uuid"}, r"[0-9a-f]{8}-[0-9a-f-]{27}"),
        ("plate", {"pattern": r"^[A-Z]{2}-\d{3,4}$"}, r"[A-Z]{2}-\d{3,4}"),
        ("percent", {"type": "integer"}, r"\d\d?|100"),
        ("level", {"type": "integer", "minimum": 7, "maximum": 9}, r"[789]"),
        ("share", {"type": "number", "minimum": 0, "maximum": 1}, r"0\.\d\d?|0|1"),
        ("speed", {"type": "integer", "multipleOf": 25, "maximum": 100}, r"-?\d*(00|25|50|75)|0"),
        ("language", {}, r"[A-Z][a-z]+"),
        ("order_id", {}, r"[#A-Z0-9-]+"),
    ],
)
def test_a_value_is_what_name_and_schema_say(name: str, schema: dict[str, Any], pattern: str) -> None:
    found = said(name, **schema)
    assert [value for _, value in found if not re.fullmatch(pattern, str(value))] == []
    assert len({str(value) for _, value in found}) > 2


def test_choices_are_said_as_people_do_and_words_have_two_sides() -> None:
    assert set(said("room", enum=["living_room", "KITCHEN"])) == {
        ("living room", "living_room"),
        ("kitchen", "KITCHEN"),
    }
    assert set(said("x", enum=["on", "ON"])) == {("on", "on"), ("ON", "ON")}
    sides = [{v for _, v in said("city", split=split)} for split in ("train", "test")]
    assert len(sides[0]) > 20 and not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"pattern": "(?=x)y"}, "no value was found for its pattern"),
        ({"pattern": "("}, "can't be read"),
        ({"minLength": 5, "maxLength": 2}, "minLength 5 is above"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "no number is within its limits"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 4}, "fewer than 4 different values"),
    ],
)
def test_a_schema_that_nothing_fits_is_named(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeError, match=rf"f\.x(\[\])?: .*{re.escape(message)}") as caught:
        said("x", **schema)
    assert caught.value.hint


# ---- wording


@pytest.mark.parametrize(
    ("name", "description", "order"),
    [
        ("set_alarm", "Sets an alarm for a time.", "set an alarm"),
        ("turnOnLight", "Turns on the light in a room.", "turn on the light"),
        ("get_price", "Retrieves the price of a stock.", "retrieve the price of a stock"),
        ("find_x", "Searches, with care.", ""),
        ("now", "The time.", "(get|tell me|show me) the time"),
        ("x", "불을 켭니다.", ""),
        ("x", "Carries a box (heavy).", "carry a box heavy"),
    ],
)
def test_a_description_becomes_an_order(name: str, description: str, order: str) -> None:
    assert synth_wording._described(description) == order
    assert synth_wording.english(tool(name, description)).say


def test_the_two_sides_share_no_sentence() -> None:
    for one in HOME:
        for phrasings in (synth_wording.english(one), synth_wording.korean(one)):
            sides = (phrasings.say, phrasings.held)
            drawn = [{"".join(draw(random.Random(i), p)) for p in side for i in range(120)} for side in sides]
            assert drawn[0] and drawn[1] and not drawn[0] & drawn[1]


# ---- grammars

GRAMMAR = """
[tools.set_light]
en = ["(dim|light) the {room} at {percent}", "{room} please, {percent}"]
ko = ["{room} 불 {percent} 켜줘"]
held.en = ["it is dark in the {room}, {percent} would do"]
only = true

[tools.set_light.parameters.room.said.en]
living_room = ["lounge"]

[tools.send_email.parameters.subject]
values = ["Alpha", "Beta", "Gamma", "Delta", "Epsilon", "Zeta", "Eta", "Theta", "Iota", "Kappa", "Lambda", "Mu", "Nu", "Xi"]
label.en = "headline"

[tools.send_email.parameters.urgent]
clauses.en = [" at once"]
no.en = [" when there is time"]

[tools.getWeather.parameters.city]
kind = "country"
clauses.en = [" over in {city}"]

[refuse]
en = "Beyond me."
[astray]
en = ["feed the {item}"]
"""


def grammar(folder: Path, content: str = GRAMMAR, name: str = "words.toml") -> Grammar:
    (folder / name).write_text(content)
    return synth_grammar.load(folder / name, HOME)


def test_a_grammar_adds_its_words_or_replaces_ours(tmp_path: Path) -> None:
    made = make(HOME, Settings(300, 1, parallel=0, multi=0), grammar(tmp_path))
    assert [str(p) for p in checked(tmp_path, HOME, made)] == []
    by_tool: dict[str, list[str]] = {}
    for row in made.rows:
        by_tool.setdefault(calls(row)[0]["name"] if calls(row) else "", []).append(asked(row))
    other = [
        said_
        for said_ in by_tool["set_light"]
        if not re.search(r" the (hall|lounge) at |(hall|lounge) please, ", said_)
    ]
    assert len(other) < len(by_tool["set_light"]) / 10, other  # a finger slips now and then
    assert any("lounge" in said_ for said_ in by_tool["set_light"])
    assert not any("living" in said_ for said_ in by_tool["set_light"])
    assert any("headline" in said_ for said_ in by_tool["send_email"])
    for row in made.rows:
        if calls(row) and "urgent" in calls(row)[0]["arguments"]:
            assert ("at once" in asked(row)) == calls(row)[0]["arguments"]["urgent"]
    assert any(" over in " in said_ for said_ in by_tool["getWeather"])
    assert {row["messages"][-1]["content"] for row in made.rows if not calls(row)} == {"Beyond me."}
    assert any(said_.lower().startswith("feed the ") for said_ in by_tool[""])
    held = make_holdout(HOME, Settings(1, 1, parallel=0, multi=0, none=0), 60, grammar(tmp_path), made)
    subjects = [values_of(rows, "subject") for rows in (made.rows, held.rows)]
    assert subjects[0] and subjects[1] and not subjects[0] & subjects[1]
    assert any("dark in the" in asked(row) for row in held.rows)


def test_json_says_the_same(tmp_path: Path) -> None:
    import tomllib

    as_json = grammar(tmp_path, json.dumps(tomllib.loads(GRAMMAR)), "words.json")
    assert as_json == grammar(tmp_path)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("[tools.set_lihgt]\n", r"line 1: no tool in \[tools\] named 'set_lihgt'", "did you mean 'set_light'"),
        ("\n[tools.set_light]\nfr = ['x']\n", r"line 3: no key in \[tools.set_light\] named 'fr'", "known: en, ko"),
        ("[tools.set_light]\nen = ['to {rom}']\n", r"line 2: no parameter .* named 'rom'", "did you mean 'room'"),
        ("[tools.set_light]\nen = ['to (a|b']\n", "line 2: .*no '\\)' in", "brackets come in pairs"),
        ("[tools.set_light]\nen = ['a {room']\n", "line 2: ", "brackets come in pairs"),
        ("[tools.set_light]\nen = [3]\n", "line 2: .* is a list of texts", "write"),
        ("[tools.set_light]\nonly = true\n", "line 2: .*says only, and has no patterns", "add some"),
        ("[tools.set_light.parameters.rom]\n", "line 1: no parameter .* named 'rom'", "did you mean 'room'"),
        ("[tools.set_light.parameters.room]\nvalues = ['x']\n", "line 2: .*declares a choice", "under said"),
        ("[tools.set_light.parameters.percent]\nvalues = [1, 'x']\n", "line 2: .*wrong type: set_light.percent", "as the tool"),
        ("[tools.send_email.parameters.to]\nkind = 'emial'\n", "line 2: no kind of value .* named 'emial'", "did you mean 'email'"),
        ("[tools.set_light.parameters.room.said.en]\nattic = ['a']\n", "line 2: no value .* named 'attic'", "known: living_room"),
        ("[astray]\nen = ['call {frist}']\n", "line 2: no kind of value .* named 'frist'", "did you mean 'first'"),
        ("[tools.send_email.parameters.to]\nkind = 'int:a'\n", "line 2: .*limits that it doesn't take", "are numbers"),
        ("[tools.send_email.parameters.to]\nkind = 'int:1:5'\n", "line 2: .*wrong type: send_email.to is", "as the tool"),
        ("[tools.set_light.parameters.room]\nclauses.en = [' there']\n", "line 2: .* holds no slot", "write {room}"),
        ("[tools.send_email.parameters.urgent]\nno.en = [' {urgent}']\n", "line 2: .* holds a slot", "yes or no"),
        ("[tools.set_light\n", r"words\.toml: not TOML: .*line 1", "correct it"),
    ],
)  # fmt: skip
def test_a_faulty_grammar_is_told_with_line_and_remedy(tmp_path: Path, content: str, message: str, hint: str) -> None:
    with pytest.raises(EdgeError, match=message) as caught:
        grammar(tmp_path, content)
    assert str(tmp_path / "words.toml") in caught.value.message and hint in str(caught.value.hint)


def test_no_grammar_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="No such file"):
        synth_grammar.load(tmp_path / "none.toml", HOME)


# ---- the command


def edge(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["data", "synth", *map(str, arguments)])


def test_the_command_writes_both_sides_or_nothing(tmp_path: Path) -> None:
    file, out, held = tmp_path / "tools.json", tmp_path / "train.jsonl", tmp_path / "eval.jsonl"
    file.write_text(json.dumps(HOME))
    result = edge("--tools", file, "-n", 60, "--seed", 1, "-o", out, "--holdout", held, "--lang", "en", "--lang", "ko")
    assert result.exit_code == 0, result.output
    assert "60 rows" in result.stdout and "set_light" in result.stdout
    assert len(out.read_text().splitlines()) == 60 and len(held.read_text().splitlines()) == 12
    assert "already there" in edge("--tools", file, "-o", out).stderr
    told = json.loads(edge("--tools", file, "-n", 60, "--seed", 1, "-o", out, "--force", "--json").stdout)
    assert told[str(out)]["rows"] == 60 and sum(told[str(out)]["kinds"].values()) == 60
    assert "at most 1" in edge("--tools", file, "-o", tmp_path / "x", "--none", 0.6, "--multi", 0.6).stderr
    assert "no tools were named" in edge("-o", tmp_path / "x").stderr
    assert "same file" in edge("--tools", file, "-o", out, "--holdout", out).stderr
    file.write_text(json.dumps([datarows.NOW]))
    (tmp_path / "one.toml").write_text('[tools.now]\nen = ["time"]\nonly = true\n')
    few = edge("--tools", file, "-o", tmp_path / "x", "--none", 0, "--multi", 0, "--grammar", tmp_path / "one.toml")
    assert (
        few.exit_code == 2 and "different rows could be made of 1 tools" in few.stderr and not (tmp_path / "x").exists()
    )
    assert edge("--help").stdout.count("edge data synth ") >= 2
    assert "held.en" in edge("--explain-grammar").stdout


def test_the_example_that_is_printed_is_a_grammar(tmp_path: Path) -> None:
    lines_ = (synth_grammar.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines_ if line.startswith("    "))
    flag = "\n[tools.set_light.parameters.room]\n"
    assert flag in example
    for line in (
        'values = ["hall", "bath"]',
        'no.en = [" without music"]',
        "said.en = ",
    ):  # each of another kind of parameter
        example = "\n".join(x for x in example.splitlines() if not x.startswith(line))
    room = {"type": "string", "description": "Where."}
    declared = [
        tool("set_light", "Sets a light.", ("room",), room=room, percent={"type": "integer", "description": "P."})
    ]
    (tmp_path / "words.toml").write_text(example)
    found = synth_grammar.load(tmp_path / "words.toml", declared)
    assert found.tools["set_light"].parameters["room"].kind == "city" and found.refuse["en"] == "That is beyond me."
    assert make(declared, Settings(10, 1, none=0.5), found).rows
