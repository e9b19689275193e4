"""Near-duplicates, phrasings and scripts: against brute force, and at 10,000 rows."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import datarows
import pytest
from datarows import call, flat, mobile
from hypothesis import given
from hypothesis import strategies as st

from edge.train.data import near, text


def words(seed: int, count: int, longest: int = 20) -> list[str]:
    rng = random.Random(seed)
    known = ["".join(rng.choices("abcdefghijklmnoprstu", k=rng.randint(2, 9))) for _ in range(400)]
    return [" ".join(rng.choices(known, k=rng.randint(3, longest))) for _ in range(count)]


def changed(texts: list[str], seed: int) -> list[str]:
    """Each text with one word put elsewhere."""
    rng, found = random.Random(seed), []
    for one in texts:
        parts = one.split()
        parts.insert(rng.randrange(len(parts)), parts.pop(rng.randrange(len(parts))))
        found.append(" ".join(parts))
    return found


def shingles(one: str) -> frozenset[int]:
    return near.sign(one).shingles


@pytest.mark.parametrize("threshold", [0.8, 0.7])
def test_the_pairs_are_those_of_brute_force(threshold: float) -> None:
    texts = list(dict.fromkeys([*words(1, 200), *changed(words(1, 200), 2)]))
    index = near.Index(threshold)
    got = {(other, n) for n, one in enumerate(texts) for other in index.add(one)}
    sets = [shingles(one) for one in texts]
    want = {
        (a, b) for a, b in itertools.combinations(range(len(texts)), 2) if near.jaccard(sets[a], sets[b]) >= threshold
    }
    assert len(want) > 40 and got == want


def test_groups_join_what_is_near_to_near_ones() -> None:
    one = "please set the light in the long hall to forty percent and then lock the door behind me at once"
    two = one.replace("percent", "per cent")
    texts = [one, "something else", two, two.replace("at once", "right at once"), one]
    assert near.groups(texts) == [0, 1, 0, 0, 0]


def test_texts_added_later_change_nothing_among_the_earlier() -> None:
    texts = [*words(3, 100), *changed(words(3, 100), 4)]
    for n in (10, 120):
        assert near.groups(texts)[:1] == near.groups(texts[:n])[:1]
    one, two = near.Index(), near.Index()
    assert [one.add(t) for t in texts[:120]] == [two.add(t) for t in texts][:120]


@given(st.lists(st.text(max_size=12), max_size=12))
def test_any_text_is_near_to_itself_and_nothing_fails(texts: list[str]) -> None:
    found = near.groups([*texts, *texts])
    assert found[: len(texts)] == found[len(texts) :]


@pytest.mark.parametrize("alike", [False, True])
def test_ten_thousand_texts_take_seconds(alike: bool) -> None:
    texts = words(5, 10_000, 16)
    if alike:  # one long beginning: all of them are near to one another
        texts = ["please act as the assistant of the house, and do at once what is asked there " + t[:3] for t in texts]
    started = time.process_time()
    found = near.groups(texts)
    assert time.process_time() - started < 20
    assert (len(set(found)) == 1) is alike


def row(folder: Path, one: dict) -> text.Row:
    return datarows.load(folder, one, tools=False)[0].items[0].row


@pytest.mark.parametrize(
    ("given_", "phrasing"),
    [
        (flat("Hall to 40!", room="hall", percent=40), "_ to _"),
        (flat("set the title to My App", "f", title="My App"), "set the title to _"),
        (flat("거실에 불 켜 줘", room="거실"), "_에 불 켜 줘"),
        (flat("turn it on in Bonn", "f", to="on"), "turn it _ in bonn"),
        (flat("Ｒｏｏｍ １２", None), "room _"),
        (flat("hall", room="hall"), "hall"),
        (mobile("call Ann and Bo", call("f", who="Ann"), call("f", who="Bo")), "call _ and _"),
        (mobile("a b c", call("f", x={"y": ["b", "c"]})), "a _ _"),
    ],
)
def test_a_phrasing_is_the_text_without_its_values(tmp_path: Path, given_: dict, phrasing: str) -> None:
    assert text.masked(row(tmp_path, given_)) == phrasing


@pytest.mark.parametrize(
    ("one", "script"),
    [("불 켜", "hangul"), ("OK 불 켜 줘", "hangul"), ("light", "latin"), ("свет", "cyrillic"), ("電気をつけて", "kana"),
     ("开灯", "han"), ("42!", "none"), ("ᚠᚢᚦ", "other"), ("Ｌｉｇｈｔ", "latin")],
)  # fmt: skip
def test_the_script_is_that_of_most_letters(one: str, script: str) -> None:
    assert text.script(one) == script


def test_values_that_stand_in_a_text() -> None:
    assert (
        text.stands_in("My App", "call it my app.") and text.stands_in(40, "to 40 %") and text.stands_in("26", "26도로")
    )
    assert not text.stands_in("bath", "the hall") and not text.stands_in("", "x") and not text.stands_in("!", "x!")
