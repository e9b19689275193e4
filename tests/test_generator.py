"""The generator: the same seed gives the same rows, nothing held out leaks, and every row survives the dialect."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from edge import dialects, tools
from edge.calls import Call
from edge.dialects import functiongemma
from edge.train import demo, generator, phrases, readers, toolset, values, wording
from edge.train.generator import KINDS, TURNS, Generator, Query, Scene
from edge.train.toolset import Concept, Param

Json = dict[str, Any]
SETS: list[Json] = [{}, {"split": "test", "held": True}, {"split": "test", "tools": "unseen"}, {"tools": "mobile"}]


def drawn(scenes: int, each: int = 5, seed: int = 1, **which: Any) -> list[tuple[Scene, Query]]:
    source = Generator(seed, **which)
    heads = [source.scene() for _ in range(scenes)]
    return [(scene, source.query(scene)) for scene in heads for _ in range(each)]


def called(query: Query) -> list[tuple[str, Json]]:
    """Every call of the conversation, the answer's last."""
    made = [c["function"] for m in query.history for c in m.get("tool_calls", [])]
    return [*((c["name"], c["arguments"]) for c in made), *query.calls]


def arguments(scene: Scene, query: Query) -> Iterator[tuple[Param, Any]]:
    """Every argument of every call, those inside objects one by one."""
    instances = {i.name: i for i in scene.instances}
    for name, given in called(query):
        instance = instances[name]
        for param in instance.concept.params:
            inside = given.get(instance.names[param.key], {}) if param.fields else given
            for part in param.fields or (param,):
                if instance.names[part.key] in inside:
                    yield part, inside[instance.names[part.key]]


def said(query: Query) -> str:
    """All that the user said."""
    return "\n".join(m["content"] for m in query.messages() if m["role"] == "user")


# --- the grammar ------------------------------------------------------------------------------------------------------


def test_a_pattern_has_its_sentences() -> None:
    pattern = "(set|make) [me] a[n] {x}"
    found = {"".join(phrases.draw(random.Random(i), pattern)) for i in range(200)}
    assert len(found) == phrases.count(pattern) == 8
    assert phrases.slots(pattern) == {"x"}


@pytest.mark.parametrize("pattern", ["(a|b", "a]", "[a)", "{x"])
def test_a_bracket_without_its_partner_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError):
        phrases.read.__wrapped__(pattern)


def test_every_slot_has_its_parameter_and_tools_have_many_phrasings() -> None:
    toolset.check()
    sentences = {c.key: sum(map(phrases.count, c.say)) for c in toolset.BY_HAND}
    assert len(toolset.BY_HAND) >= 40
    assert sum(sentences.values()) / len(sentences) > 20  # before clauses, courtesies and values
    assert sum(1 for c in toolset.BY_HAND if c.ko) >= len(toolset.BY_HAND) / 5


# --- rows -------------------------------------------------------------------------------------------------------------


def test_the_seed_decides_everything() -> None:
    assert list(generator.rows(40, seed=3)) == list(generator.rows(40, seed=3))
    assert list(generator.rows(40, seed=3)) != list(generator.rows(40, seed=4))


def test_a_row_has_the_shape_of_mobile_actions() -> None:
    between = {"answer": ["assistant", "tool"], "turn": ["assistant", "tool", "assistant", "user"]}
    for kind in KINDS:
        for row in generator.rows(15, kind=kind):
            assert set(row) == {"metadata", "tools", "messages"}
            roles = [m["role"] for m in row["messages"]]
            more = between["answer" if kind == "answer" else "turn"] if kind in TURNS else []
            assert roles == ["developer", "user", *more, "assistant"]
            assert 1 <= len(row["tools"]) <= 7
            for tool in row["tools"]:
                assert set(tool["function"]) == {"name", "description", "parameters"}
                assert tool["function"]["parameters"]["type"] == "OBJECT"


def test_shares() -> None:
    source = Generator(11)
    scenes = [source.scene() for _ in range(1000)]
    queries = [source.query(scene) for scene in scenes for _ in range(5)]
    kinds, langs = Counter(q.kind for q in queries), Counter(q.lang for q in queries)
    assert 0.25 < kinds["parallel"] / 5000 < 0.30
    assert 0.08 < kinds["none"] / 5000 < 0.12
    assert 0.08 < sum(kinds[turn] for turn in TURNS) / 5000 < 0.12
    assert all(kinds[turn] > 100 for turn in TURNS)
    assert 0.18 < langs["ko"] / 5000 < 0.22
    assert set(Counter(len(scene.instances) for scene in scenes)) == set(range(1, 8))
    alike = [s for s in scenes if len({i.concept.domain for i in s.instances}) < len(s.instances)]
    assert len(alike) > 200


def test_a_kind_and_a_language_can_be_asked_for() -> None:
    source = Generator(3)
    for kind in [*KINDS, "multi"]:
        for lang in ("en", "ko"):
            queries = [source.query(source.scene(), kind, lang) for _ in range(40)]
            found = Counter(q.kind for q in queries)
            allowed = {"again": {"again", "follow-up"}, "parallel": {"parallel", "call"}, "multi": set(TURNS)}
            assert set(found) <= allowed.get(kind, {kind})
            assert kind == "multi" or found[kind] > 20
            assert Counter(q.lang for q in queries)[lang] > 20


def test_training_draws_fast_enough() -> None:
    started = time.process_time()
    drawn(100, each=10)
    assert time.process_time() - started < 0.5  # 2000 a second; about 20,000 where this was written


@pytest.mark.parametrize("which", SETS)
def test_calls_are_valid_and_survive_the_dialect(which: Json) -> None:
    for scene, query in drawn(150, **which):
        declared = [tools.normalise(tool)[0] for tool in scene.tools()]
        assert not functiongemma.check(declared)
        functiongemma.render([scene.developer(), *query.messages()], declared)
        parsed = functiongemma.parse(functiongemma.completion(query.answer()))
        assert not parsed.errors
        assert [(c.name, c.arguments) for c in parsed.calls] == list(query.calls)
        assert bool(query.calls) == (query.kind not in ("none", "answer")) == (not query.reply)
        for name, given in called(query):
            assert not tools.validate_call(Call(name, given), declared)


def test_every_kind_is_read_as_a_row(tmp_path: Any) -> None:
    rows = [row for kind in KINDS for lang in ("en", "ko") for row in generator.rows(20, kind=kind, lang=lang)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    read = list(readers.read([file], [], dialects.get("functiongemma")))
    assert [getattr(r, "reason", None) for r in read] == [None] * len(rows)
    for row, given in zip(read, rows):
        assert isinstance(row, readers.Row)
        assert row.messages == given["messages"]


@pytest.mark.parametrize("which", SETS)
def test_what_goes_into_a_call_was_said(which: Json) -> None:
    """Free text is copied from the question; only dates, times, numbers and choices are translated."""
    copied = ("phrase", "text", "place", "email", "code", "file", "person")
    for scene, query in drawn(60, **which):
        for param, value in arguments(scene, query):
            if param.kind.split(":")[0] in copied:
                assert value in said(query)


def test_texts_are_well_spaced_and_end_in_every_way() -> None:
    texts = [q.text for _, q in drawn(800)]
    assert not [t for t in texts if "  " in t or t != t.strip()]
    ends = Counter(t[-1] if t[-1] in ".?!" else "none" for t in texts)
    assert all(ends[end] > 40 for end in (".", "?", "!", "none"))
    assert ends["none"] > len(texts) / 3


def test_free_text_at_the_end_keeps_its_own_punctuation() -> None:
    """What follows a message is part of it: nothing is put there that the answer doesn't hold."""
    found = 0
    for scene, query in drawn(600):
        kinds = {i.name: {i.names[p.key]: p.kind for p in i.concept.params} for i in scene.instances}
        for name, given in query.calls[-1:]:
            for key, value in given.items():
                if kinds[name][key] == "text" and value in query.text[-len(value) - 1 :]:
                    assert query.text.endswith((value, f"{value}'", f'{value}"'))
                    found += 1
    assert found > 50


def test_a_text_without_capitals_gives_a_call_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_LOWER", 1.0)
    copied, kept = 0, 0
    for scene, query in drawn(150):
        text = said(query)
        if query.lang == "en":
            assert text == text.lower()
            declared = [tools.normalise(tool)[0] for tool in scene.tools()]
            for name, given in called(query):
                assert not tools.validate_call(Call(name, given), declared)
            for param, value in arguments(scene, query):
                if isinstance(value, str) and not param.options and param.kind not in ("time", "date", "when"):
                    assert value in text
                    copied += 1
                elif isinstance(value, str) and value != value.lower():  # a language, a date with its T
                    kept += 1
    assert copied > 300
    assert kept > 20


# --- nested objects ---------------------------------------------------------------------------------------------------


def _box() -> Concept:
    width, height = (Param(key, "int:1:90", (key,), (f"The {key}.",)) for key in ("width", "height"))
    street = Param("street", "phrase:1:2", ("street", "road"), ("The street.",))
    size = Param("size", "object", ("size", "dimensions"), ("The size.",), fields=(width, height),
        clauses=(" of {width} by {height} cm",))  # fmt: skip
    address = Param("to", "object", ("address", "target"), ("Where to.",), fields=(street,))
    say = ("ship a box to {street}",)
    return Concept("box", "boxes", ("ship_box",), ("Ships a box.",), say, say, params=(size, address))


def test_fields_go_into_their_objects() -> None:
    concept, source = _box(), Generator(1)
    sizes = 0
    for _ in range(60):
        instance = toolset.instantiate(concept, source.rng, 0.9)
        scene = Scene(dt.datetime(2026, 1, 1), False, [instance], [instance])
        query = source.query(scene, "again", "en")
        names = instance.names
        declared = [tools.normalise(tool)[0] for tool in scene.tools()]
        assert query.kind == "again"
        (_, first), (_, second) = called(query)
        assert set(second) == {names["to"], names["size"]}
        assert set(second[names["size"]]) == {names["width"], names["height"]}
        assert second[names["to"]] == first[names["to"]]
        assert second[names["to"]][names["street"]] in said(query)
        assert second != first
        sizes += names["size"] in first
        for name, given in called(query):
            assert not tools.validate_call(Call(name, given), declared)
    assert 10 < sizes < 50


# --- several turns ----------------------------------------------------------------------------------------------------


def turns(kind: str, lang: str = "en", count: int = 150) -> Iterator[tuple[Scene, Query]]:
    source = Generator(7)
    for _ in range(count):
        scene = source.scene()
        query = source.query(scene, kind, lang)
        if (query.kind, query.lang) == (kind, lang):
            yield scene, query


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_an_answer_says_what_the_tool_responded(lang: str) -> None:
    kinds: Counter[str] = Counter()
    for scene, query in turns("answer", lang):
        response = query.history[-1]
        assert response["role"] == "tool"
        assert response["name"] in [i.name for i in scene.instances]
        content = response["content"]
        if "error" in content:
            assert query.reply == generator.FAILED[lang].format(content["error"])
        elif query.reply == generator.DONE[lang]:
            assert content in wording.OK
        else:
            assert all(str(v) in query.reply and k[1:].replace("_", " ") in query.reply for k, v in content.items())
        kinds["error" if "error" in content else "done" if content in wording.OK else "values"] += 1
    assert min(kinds[k] for k in ("error", "done", "values")) > 10


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_same_again_changes_one_argument(lang: str) -> None:
    changes: Counter[str] = Counter()
    for _, query in turns("again", lang):
        (name, first), (again, second) = called(query)
        assert name == again
        assert set(first) <= set(second)
        changed = [key for key, value in second.items() if first.get(key) != value]
        assert len(changed) <= 1
        changes["same" if not changed else "changed" if changed[0] in first else "added"] += 1
    assert changes["changed"] > 20
    assert changes["added"] > 20
    assert changes["same"] < 5  # a choice with a single option


def test_a_conversation_is_written_as_the_format_has_it() -> None:
    scene, query = next(turns("follow-up"))
    text = functiongemma.render([scene.developer(), *query.messages()], [])
    user, call, _, answer = query.history
    first = functiongemma.completion(call).replace("<start_function_response>", "")
    assert f"{user['content']}<end_of_turn>\n<start_of_turn>model\n{first}<start_function_response>response:" in text
    assert f"<end_function_response>{answer['content']}<end_of_turn>\n<start_of_turn>user\n{query.text}" in text
    assert text.endswith("<start_of_turn>model\n")
    _, query = next(turns("answer"))
    text = functiongemma.render([scene.developer(), *query.messages()], [])
    assert text.endswith("<end_function_response>")  # the model goes on in the same turn
    assert functiongemma.completion(query.answer()) == f"{query.reply}<end_of_turn>"


# --- dates ------------------------------------------------------------------------------------------------------------


def test_dates_carry_over_into_the_next_month_and_year() -> None:
    found: Counter[str] = Counter()
    for scene, query in drawn(1500):
        for param, value in arguments(scene, query):
            if param.kind in ("date", "when"):
                day = dt.date.fromisoformat(value[:10])
                near = (day - scene.now.date()).days < 12
                found["month"] += near and day.month != scene.now.month
                found["year"] += near and day.year != scene.now.year
    assert found["month"] > 30
    assert found["year"] >= 1


def test_relative_dates_carry_over_month_and_year() -> None:
    source = values.Values(random.Random(2), "train", dt.datetime(2026, 12, 31, 18, 0))
    said = dict(source.date() for _ in range(300))
    assert said["today"] == "2026-12-31"
    assert said["tomorrow"] == "2027-01-01"
    assert said["in 4 days"] == "2027-01-04"
    assert said["Friday"] == "2027-01-01"  # 31 December 2026 is a Thursday


# --- what is held out -------------------------------------------------------------------------------------------------


POOLS = ["first", "last", "city", "word", "phrase:1:3", "song", "email", "first_ko", "tags"]


@pytest.mark.parametrize("kind", POOLS)
def test_test_words_are_never_trained_on(kind: str) -> None:
    halves = []
    for split in ("train", "test"):
        source = values.Values(random.Random(1), split, dt.datetime(2026, 2, 28, 12, 0))
        said = [source.say(kind)[1] for _ in range(1500)]
        words = {w for v in said for w in ([v] if isinstance(v, str) else v)}
        halves.append({w.lower() for text in words for w in (text.split() if "phrase" in kind else [text])})
    assert len(halves[0]) > len(halves[1]) >= 1
    assert not halves[0] & halves[1]


def test_hardly_a_free_text_argument_is_met_twice() -> None:
    """Composed values can meet by chance (an item of one word, a Korean place); names and addresses can't."""

    def met(queries: list[tuple[Scene, Query]], kinds: set[str]) -> set[str]:
        found = [pair for scene, query in queries for pair in arguments(scene, query)]
        return {value for param, value in found if param.kind.split(":")[0] in kinds}

    kinds = {"first", "email", "phrase", "city"}
    trained, tested = met(drawn(1500), kinds), met(drawn(400, split="test", held=True), kinds)
    assert len(tested) > 300
    assert not trained & tested


def test_phrasings_kept_for_testing_are_never_trained_on() -> None:
    for concept in toolset.BY_HAND:
        trained = {"".join(phrases.draw(random.Random(i), p)) for p in concept.say for i in range(300)}
        tested = {"".join(phrases.draw(random.Random(i), p)) for p in concept.held for i in range(60)}
        assert not trained & tested, concept.key


@functools.cache
def lessons() -> list[tuple[Scene, Query]]:
    return drawn(600, seed=21)


@functools.cache
def exam(held: bool = False, tools: str = "train") -> list[tuple[Scene, Query]]:
    return drawn(300, seed=22, split="test", held=held, tools=tools)


def tokens(value: Any) -> set[str]:
    """The words of a value, keys of a response included."""
    if isinstance(value, dict):
        return set().union(*(tokens(part) for pair in value.items() for part in pair))
    if isinstance(value, list):
        return set().union(*map(tokens, value))
    return set(re.findall(r"[^\W\d_]+", value.lower())) if isinstance(value, str) else set()


@functools.cache
def kept_words() -> frozenset[str]:
    """Words of the pools' test half, without those that sentences of the training half have too ("water the plants")."""
    cut = (
        values.FIRST,
        values.LAST,
        values.PLACES,
        values.EVENTS,
        values.ITEMS,
        values.TASKS,
        values.SONGS_A,
        values.SONGS_B,
        values.WORDS,
        values.FIRST_KO,
        values.PLACES_KO,
        values.THINGS_KO,
        values.ITEMS_KO,
    )
    entries = {word for pool in cut for word in pool}
    fixed = [*values.NOTES, *values.SIGHTS, *values.STREETS, *values.KINDS, *values.MESSAGES_KO, *wording.ERRORS]
    trained = tokens([*(e for e in entries if values.side(e) == "train"), *fixed])
    return frozenset({e.lower() for e in entries if values.side(e) == "test" and tokens(e) == {e.lower()}} - trained)


def used_words(drawn_rows: list[tuple[Scene, Query]]) -> set[str]:
    """Words in what goes into calls, declared choices included, and comes out of tools."""
    values = [v for scene, query in drawn_rows for _, v in arguments(scene, query)]
    return tokens([*values, *(m["content"] for _, q in drawn_rows for m in q.history if m["role"] == "tool")])


def test_no_word_kept_for_testing_is_in_a_training_value_or_in_a_history() -> None:
    assert len(lessons()) == 3000
    assert len(kept_words()) > 100
    assert not used_words(lessons()) & kept_words()
    for held, which in [(False, "train"), (True, "train"), (False, "unseen"), (False, "mobile")]:
        rows = exam(held, which)
        assert len(rows) == 1500
        assert len(used_words(rows) & kept_words()) > 50
    history = [(s, q) for s, q in exam() if used_words([(s, q)]) & kept_words() and q.kind == "answer"]
    assert used_words([*lessons(), history[0]]) & kept_words()  # one such row would be noticed


def skeletons(drawn_rows: list[tuple[Scene, Query]]) -> set[str]:
    return {skeleton for _, query in drawn_rows for skeleton in query.skeletons}


def test_no_phrasing_kept_for_testing_is_in_a_training_question_or_in_a_history() -> None:
    seen, kept = skeletons(lessons()), skeletons(exam(held=True))
    assert min(len(seen), len(kept)) > 500
    assert not seen & kept
    assert skeletons([*lessons(), exam(held=True)[0]]) & kept
    assert seen & skeletons(exam())  # the other way about: known phrasings with unseen values are known
    assert {q.lang for _, q in exam(held=True)} == {"en", "ko"}


def new_tools(drawn_rows: list[tuple[Scene, Query]]) -> set[str]:
    concepts = [i.concept for scene, _ in drawn_rows for i in scene.instances]
    return {c.key for c in concepts if c.unseen or toolset.is_unseen(c)}


def test_no_tool_kept_for_testing_is_declared_in_training() -> None:
    keys = {i.concept.key for scene, _ in lessons() for i in scene.instances}
    asked = {key for _, query in exam(tools="unseen") for key in query.concepts}
    assert len(keys) > 500
    assert len(asked) > 200
    assert not asked & keys
    assert not new_tools(lessons())
    assert asked <= new_tools(exam(tools="unseen"))
    assert new_tools([*lessons(), exam(tools="unseen")[0]])


# --- the demo ---------------------------------------------------------------------------------------------------------


def test_the_demo_is_valid_and_its_halves_are_disjoint(tmp_path: Any) -> None:
    (tmp_path / "tools.py").write_text(demo.tools_source(), encoding="utf-8")
    box = tools.load(tmp_path / "tools.py")
    assert not functiongemma.check(box.tools)
    train, test = list(demo.rows("train", 900)), list(demo.rows("eval", 300))
    texts = [{row["messages"][1]["content"] for row in rows} for rows in (train, test)]
    assert (len(texts[0]), len(texts[1]), len(texts[0] & texts[1])) == (900, 300, 0)
    for row in itertools.chain(train, test):
        answer = row["messages"][-1]
        functiongemma.render(row["messages"][:-1], box.tools)
        for call in functiongemma.parse(functiongemma.completion(answer)).calls:
            assert not tools.validate_call(call, box.tools)
    calls = [len(row["messages"][-1].get("tool_calls", [])) for row in test]
    assert 0.1 < sum(n > 1 for n in calls) / 300 < 0.2
    assert 0.01 < sum(n == 0 for n in calls) / 300 < 0.09


def test_the_demo_is_about_tools_that_the_base_never_met() -> None:
    known = {n for c in toolset.BY_HAND for n in c.names}
    assert not known & {"brew", "grind", "heat", "buy", "keep"}
    assert not [row for row in toolset.THINGS if "coffee" in row[0] or "boiler" in row[0] or "beans" in row[0]]
