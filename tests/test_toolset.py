"""The tables of tools: enough of them, enough ways to ask for each, nothing kept for testing in what is trained on."""

from __future__ import annotations

import random

import pytest

from edge.train import phrases, toolset
from edge.train.toolset import BY_HAND, COMPOSED, MOBILE, Concept, Param

TRAINED = [c for c in BY_HAND if not c.unseen]


def optional(concept: Concept) -> list[Param]:
    return [p for p in concept.params if p.clauses]


def sampled(patterns: tuple[str, ...], each: int) -> set[str]:
    """Sentences with `{}` for every value."""
    rng = random.Random(1)
    pieces = (phrases.draw(rng, p) for p in patterns for _ in range(each))
    return {"".join("{}" if isinstance(p, phrases.Slot) else p for p in drawn).lower() for drawn in pieces}


def test_there_are_enough_tools_of_every_kind() -> None:
    toolset.check()
    assert len(MOBILE) == 7
    assert len(TRAINED) >= 7 + 52
    assert len([c for c in BY_HAND if c.unseen]) >= 8
    assert len({c.domain for c in TRAINED}) >= 10
    assert len([c for c in BY_HAND if c.ko]) >= len(BY_HAND) / 3
    kinds = [{p.kind.split(":")[0] for p in c.params} for c in TRAINED]
    for kind in ("object", "float", "bool", "enum", "items", "people", "int", "date", "when", "time"):
        assert any(kind in found for found in kinds), kind
    assert len([k for k in kinds if "object" in k]) >= 3
    assert any(p.kind == "object" for c in BY_HAND if c.unseen for p in c.params)


@pytest.mark.parametrize("concept", TRAINED, ids=lambda c: c.key)
def test_a_trained_tool_is_asked_for_in_many_ways(concept: Concept) -> None:
    assert len(concept.say) >= 10
    assert sum(map(phrases.count, concept.say)) >= 300
    assert len(concept.held) >= 4
    assert not concept.ko or len(concept.ko) >= 5


@pytest.mark.parametrize("concept", BY_HAND, ids=lambda c: c.key)
def test_optional_parameters_are_mentioned_in_many_ways(concept: Concept) -> None:
    for param in optional(concept):
        assert len(param.clauses) >= 5 and len(param.held) >= 2, param.key
        assert not set(param.clauses) & set(param.held)
        assert param.kind != "bool" or len(param.no) >= 5


def test_composed_parameters_are_mentioned_in_many_ways() -> None:
    for _, param in COMPOSED:
        assert len(param.clauses) >= 5 and len(param.held) >= 2, param.key


def test_no_tool_is_trained_on_a_sentence_kept_for_testing() -> None:
    """Not on another tool's either: what one is asked for in a test is no other's request."""
    trained = set().union(*(sampled(c.say, 150) for c in TRAINED))
    for concept in BY_HAND:
        assert not set(concept.say) & set(concept.held)
        assert not sampled(concept.held, 60) & trained, concept.key


def test_a_pattern_names_every_parameter_that_has_no_clauses() -> None:
    for concept in BY_HAND:
        if concept.key == "ac_step":  # says a rise or a fall
            continue
        needed = {f.key for p in concept.params if not p.clauses for f in p.fields or (p,)}
        for pattern in (*concept.say, *concept.held, *concept.ko):
            for _ in range(5):
                drawn = phrases.draw(random.Random(2), pattern)
                assert {p for p in drawn if isinstance(p, phrases.Slot)} == needed, pattern


def test_an_object_is_declared_with_its_fields() -> None:
    ship = next(c for c in BY_HAND if c.key == "ship")
    instance = toolset.instantiate(ship, random.Random(1), 0.0)
    size = instance.declaration["function"]["parameters"]["properties"][instance.names["size"]]
    assert size["type"] == "OBJECT"
    assert size["required"] == list(size["properties"]) == [instance.names["width"], instance.names["height"]]
    assert {p["type"] for p in size["properties"].values()} == {"INTEGER"}


def test_names_within_a_tool_differ() -> None:
    for concept in BY_HAND:
        for seed in range(20):
            names = toolset.instantiate(concept, random.Random(seed), 0.9).names
            assert len(set(names.values())) == len(names), (concept.key, names)


@pytest.mark.parametrize("split", ["train", "unseen"])
def test_composed_tools_keep_to_their_half(split: str) -> None:
    rng = random.Random(3)
    for _ in range(200):
        concept = toolset.composed(rng, split)
        assert toolset.is_unseen(concept) == (split == "unseen")
        assert not sampled(concept.say, 3) & sampled(concept.held, 3)
        assert not concept.ko or len(concept.ko) >= 5
