"""The generator: the same seed gives the same rows, nothing held out leaks, and every row survives the dialect."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from edge import tools
from edge.dialects import functiongemma
from edge.train import demo, generator, phrases, toolset, values
from edge.train.generator import Generator, Query, Scene

Json = dict[str, Any]
SETS: list[Json] = [{}, {"split": "test", "held": True}, {"split": "test", "tools": "unseen"}, {"tools": "mobile"}]


def drawn(scenes: int, each: int = 5, seed: int = 1, **which: Any) -> list[tuple[Scene, Query]]:
    source = Generator(seed, **which)
    heads = [source.scene() for _ in range(scenes)]
    return [(scene, source.query(scene)) for scene in heads for _ in range(each)]


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
    for row in generator.rows(50):
        assert set(row) == {"metadata", "tools", "messages"}
        assert [m["role"] for m in row["messages"]] == ["developer", "user", "assistant"]
        assert 1 <= len(row["tools"]) <= 7
        for tool in row["tools"]:
            assert set(tool["function"]) == {"name", "description", "parameters"}
            assert tool["function"]["parameters"]["type"] == "OBJECT"


def test_proportions() -> None:
    kinds = Counter(q.kind for _, q in drawn(600))
    langs = Counter(q.lang for _, q in drawn(600))
    assert 0.2 < kinds["parallel"] / 3000 < 0.3
    assert 0.05 < kinds["none"] / 3000 < 0.11
    assert 0.08 < langs["ko"] / 3000 < 0.2
    sizes = Counter(len(scene.instances) for scene, _ in drawn(600))
    assert set(sizes) == set(range(1, 8))


@pytest.mark.parametrize("which", SETS)
def test_calls_are_valid_and_survive_the_dialect(which: Json) -> None:
    for scene, query in drawn(150, **which):
        declared = [tools.normalise(tool)[0] for tool in scene.tools()]
        assert not functiongemma.check(declared)
        functiongemma.render([scene.developer(), {"role": "user", "content": query.text}], declared)
        parsed = functiongemma.parse(functiongemma.completion(query.answer()))
        assert not parsed.errors
        assert [(c.name, c.arguments) for c in parsed.calls] == list(query.calls)
        assert bool(query.calls) == (query.kind != "none")
        for call in parsed.calls:
            assert not tools.validate_call(call, declared)


@pytest.mark.parametrize("which", SETS)
def test_what_goes_into_a_call_was_said(which: Json) -> None:
    """Free text is copied from the question; only dates, times, numbers and choices are translated."""
    copied = ("phrase", "text", "place", "email", "code", "file", "person")
    for scene, query in drawn(60, **which):
        kinds = {i.name: {i.names[p.key]: p.kind for p in i.concept.params} for i in scene.instances}
        for name, arguments in query.calls:
            for key, value in arguments.items():
                if kinds[name][key].split(":")[0] in copied:
                    assert value in query.text


def test_relative_dates_carry_over_month_and_year() -> None:
    source = values.Values(random.Random(2), "train", values.dt.datetime(2026, 12, 31, 18, 0))
    said = dict(source.date() for _ in range(300))
    assert said["today"] == "2026-12-31"
    assert said["tomorrow"] == "2027-01-01"
    assert said["in 4 days"] == "2027-01-04"
    assert said["Friday"] == "2027-01-01"  # 31 December 2026 is a Thursday


# --- what is held out -------------------------------------------------------------------------------------------------


KINDS = ["first", "last", "city", "word", "phrase:1:3", "song", "email", "first_ko", "tags"]


@pytest.mark.parametrize("kind", KINDS)
def test_test_words_are_never_trained_on(kind: str) -> None:
    halves = []
    for split in ("train", "test"):
        source = values.Values(random.Random(1), split, values.dt.datetime(2026, 2, 28, 12, 0))
        said = [source.say(kind)[1] for _ in range(1500)]
        words = {w for v in said for w in ([v] if isinstance(v, str) else v)}
        halves.append({w.lower() for text in words for w in (text.split() if "phrase" in kind else [text])})
    assert len(halves[0]) > len(halves[1]) >= 1
    assert not halves[0] & halves[1]


def test_hardly_a_free_text_argument_is_met_twice() -> None:
    """Composed values can meet by chance (an item of one word, a Korean place); names and addresses can't."""

    def said(queries: list[tuple[Scene, Query]], kinds: set[str]) -> set[str]:
        return {
            v for s, q in queries for i in s.instances for name, a in q.calls if name == i.name
            for p in i.concept.params if p.kind.split(":")[0] in kinds for v in [a.get(i.names[p.key])] if v
        }  # fmt: skip

    kinds = {"first", "email", "phrase", "city"}
    trained, tested = said(drawn(1500), kinds), said(drawn(400, split="test", held=True), kinds)
    assert len(tested) > 300
    assert not trained & tested


def test_phrasings_kept_for_testing_are_never_trained_on() -> None:
    for concept in toolset.BY_HAND:
        trained = {"".join(phrases.draw(random.Random(i), p)) for p in concept.say for i in range(300)}
        tested = {"".join(phrases.draw(random.Random(i), p)) for p in concept.held for i in range(60)}
        assert not trained & tested, concept.key
    seen = {q.skeleton for _, q in drawn(2500) if q.kind == "call" and q.lang == "en"}
    held = [q for _, q in drawn(500, split="test", held=True) if q.kind == "call" and q.lang == "en"]
    assert not [q.text for q in held if q.skeleton in seen]


def test_tools_kept_for_testing_are_never_trained_on() -> None:
    trained = [i.concept for scene, _ in drawn(1500, each=1) for i in scene.instances]
    assert not any(c.unseen or toolset.is_unseen(c) for c in trained)
    for scene, query in drawn(200, split="test", tools="unseen"):
        asked = [i.concept for i in scene.instances if i.concept.key in query.concepts]
        assert all(c.unseen or toolset.is_unseen(c) for c in asked)


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
    assert 0.02 < sum(n == 0 for n in calls) / 300 < 0.09


def test_the_demo_is_about_tools_that_the_base_never_met() -> None:
    known = {n for c in toolset.BY_HAND for n in c.names}
    assert not known & {"brew", "grind", "heat", "buy", "keep"}
    assert not [row for row in toolset._THINGS if "coffee" in row[0] or "boiler" in row[0] or "beans" in row[0]]
