"""`edge data split`: stable by content, near-duplicates on one side, nothing lost."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import datarows
import pytest
from datarows import flat
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.train.data import near, text
from edge.train.data import split as splitter
from edge.train.data.split import Sides

WORDS = ["please", "set", "the", "lamp", "in", "our", "long", "hall", "to", "a", "dim", "warm", "tone", "and", "lock"]


def rows(seed: int, count: int) -> list[dict[str, Any]]:
    """Requests with many near-duplicates: long common stretches, a word changed here and there."""
    rng, found = random.Random(seed), []
    bases = [" ".join(rng.sample(WORDS, 12)) for _ in range(max(2, count // 4))]
    for _ in range(count):
        words = rng.choice(bases).split()
        for _ in range(rng.randint(0, 2)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        found.append(flat(" ".join(words) + f" {rng.randint(1, 99)}", "f", n=rng.randint(1, 99)))
    return found


def split(folder: Path, given_: list[dict[str, Any]], **options: Any) -> Sides:
    return splitter.split(datarows.load(folder, *given_, tools=False)[0], **options)


def placed(sides: Sides) -> dict[int, str]:
    """Side by line."""
    found = {item.row.line: "train" for item in sides.train} | {item.row.line: "eval" for item in sides.eval}
    return found | {reject.line: "rejected" for reject in sides.rejects}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), old=st.integers(1, 60), more=st.integers(0, 40), share=st.floats(0.05, 0.6))
def test_rows_added_at_the_end_move_no_earlier_row(
    tmp_path_factory: pytest.TempPathFactory, seed: int, old: int, more: int, share: float
) -> None:
    folder, every = tmp_path_factory.mktemp("split"), rows(seed, old + more)
    before = placed(split(folder, every[:old], share=share, seed=seed))
    after = placed(split(folder, every, share=share, seed=seed))
    assert {line: side for line, side in after.items() if line <= old} == before
    assert len(after) == old + more  # none lost, none twice


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 0.6))
def test_no_near_duplicates_on_two_sides(tmp_path_factory: pytest.TempPathFactory, seed: int, share: float) -> None:
    sides = split(tmp_path_factory.mktemp("near"), rows(seed, 60), share=share)
    for said in (text.masked, lambda row: text.normalised(text.said(row))):
        train, held_out = ([near.sign(said(i.row)).shingles for i in side] for side in (sides.train, sides.eval))
        assert all(near.jaccard(a, b) < near.THRESHOLD for a, b in itertools.product(train, held_out))


def test_a_row_between_the_sides_goes_to_neither(tmp_path: Path) -> None:
    left = "please set the lamp in our long hall to a dim warm tone and lock every door behind"
    between = left.replace("behind", "there")
    right = between.replace("please", "now")
    sign = near.sign
    a, b, c = (sign(one).shingles for one in (left, right, between))
    assert near.jaccard(a, b) < 0.8 < min(near.jaccard(a, c), near.jaccard(b, c))
    given_ = [flat(one, "f") for one in (left, right, between, left)]
    seed = next(s for s in range(99) if splitter.fraction(left, s) < 0.5 <= splitter.fraction(right, s))
    sides = split(tmp_path, given_, share=0.5, seed=seed, threshold=0.8)
    assert placed(sides) == {1: "eval", 2: "train", 3: "rejected", 4: "eval"}
    assert (
        "rows.jsonl:2 in training" in sides.rejects[0].reason
        and "rows.jsonl:1 in evaluation" in sides.rejects[0].reason
    )
    assert sides.rejects[0].text == datarows.dump(given_[2])


def test_the_order_of_unrelated_rows_and_their_values_do_not_matter(tmp_path: Path) -> None:
    many = [flat(f"{a} the {b} {c} 7", "f", n=7) for a, b, c in itertools.permutations(WORDS[2:9], 3)][:100]
    one = {i.text: "eval" for i in split(tmp_path, many, share=0.3, threshold=1.0).eval}
    two = {i.text: "eval" for i in split(tmp_path, many[::-1], share=0.3, threshold=1.0).eval}
    assert one == two and 15 < len(one) < 45
    other = [{**row, "user_content": row["user_content"].replace("7", "12")} for row in many]
    assert placed(split(tmp_path, other, share=0.3)) == placed(split(tmp_path, many, share=0.3))


def test_the_share_is_kept_and_another_seed_splits_otherwise(tmp_path: Path) -> None:
    rng = random.Random(0)
    letters = "abcdefghijklmnop"
    many = [flat(" ".join("".join(rng.choices(letters, k=6)) for _ in range(6)), "f") for _ in range(2000)]
    sides = split(tmp_path, many, share=0.1)
    assert 150 < len(sides.eval) < 250 and sides.rejects == [] and sides.groups == 2000 and sides.largest == 1
    assert placed(sides) != placed(split(tmp_path, many, share=0.1, seed=1))
    larger = split(tmp_path, many, share=0.3)
    assert {i.text for i in sides.eval} < {i.text for i in larger.eval}


def test_rows_that_say_their_side_keep_it(tmp_path: Path) -> None:
    given_ = [{**flat("hall on", "f"), "metadata": side} for side in ("train", "eval", "eval")]
    sides = split(tmp_path, [*given_, flat("something else", "f")])
    assert [placed(sides)[n] for n in (1, 2, 3)] == ["train", "eval", "eval"] and sides.leaks == 2


def test_unreadable_rows_are_among_the_rejects(tmp_path: Path) -> None:
    loaded, _ = datarows.load(tmp_path, "{", flat("x y z", "f"), tools=False)
    sides = splitter.split(loaded)
    assert [(r.line, r.text) for r in sides.rejects] == [(1, "{")] and len(sides.train) + len(sides.eval) == 1
