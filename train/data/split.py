"""`edge data split`: training and evaluation rows, by content and not by chance, near-duplicates on one side.

Rows are placed one after the other. A row goes where earlier rows are that are equal or near to it, with the values in
the user's text masked (its phrasing) or as they are; the first of its kind goes where the hash of its phrasing and the
seed says. So a file that grew at its end gives every old row its old side. A row that is near to rows on both sides can
go to neither: it is rejected. A row that says its side (`metadata`) keeps it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.records import Json
from edge.train.readers import Reject
from edge.worker import Progress

from . import text
from .near import THRESHOLD, Index
from .source import Item, Loaded


@dataclass
class Sides:
    """The two sides in the rows' order, and what could go to neither."""

    train: list[Item] = field(default_factory=list)
    eval: list[Item] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    groups: int = 0  # of rows that stay together
    largest: int = 0  # rows in the largest of them
    leaks: int = 0  # rows that say their side, against rows near to them

    def to_json(self) -> Json:
        counts = {"train": len(self.train), "eval": len(self.eval), "rejected": len(self.rejects)}
        return {**counts, "groups": self.groups, "largest_group": self.largest, "leaks": self.leaks}


def split(
    loaded: Loaded, share: float = 0.1, seed: int = 0, threshold: float = THRESHOLD, progress: Progress | None = None
) -> Sides:
    """Place every row.

    Args:
        share: of the groups that go to evaluation; of rows it is about that, by the groups' sizes.
        seed: another one gives another split.
    """
    sides, sizes = Sides(rejects=list(loaded.rejects)), Counter[int]()
    phrasings, texts = _Places(threshold), _Places(threshold)
    for n, item in enumerate(loaded.items):
        phrasing = text.masked(item.row)
        kind, words = phrasings.number(phrasing), texts.number(text.normalised(text.said(item.row)))
        near = {**texts.near(words), **phrasings.near(kind)}
        side = item.row.split or _chosen(near, phrasing, seed, share)
        if side is None:
            sides.rejects.append(Reject(item.row.file, item.row.line, _between(near), item.text))
        else:
            sides.leaks += any(other != side for other in near)
            phrasings.put(kind, side, item)
            texts.put(words, side, item)
            sizes[phrasings.root(kind)] += 1
            (sides.eval if side == "eval" else sides.train).append(item)
        if progress and n % 100 == 0:
            progress(n, len(loaded.items), "")
    sides.groups, sides.largest = len(sizes), max(sizes.values(), default=0)
    return sides


def _chosen(near: dict[str, Item], phrasing: str, seed: int, share: float) -> str | None:
    """The side of the earlier rows, the hash's if there are none, None if they are on both."""
    if len(near) > 1:
        return None
    return next(iter(near), None) or ("eval" if fraction(phrasing, seed) < share else "train")


def fraction(phrasing: str, seed: int) -> float:
    """A number from 0 to 1 that depends on nothing but these two."""
    digest = hashlib.sha256(f"{seed}:{phrasing}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _between(near: dict[str, Item]) -> str:
    return f"between the sides: near to {near['train'].place} in training and {near['eval'].place} in evaluation"


class _Places:
    """Which texts are near to which, and the first row of each on either side."""

    def __init__(self, threshold: float) -> None:
        self._index = Index(threshold)
        self._numbers: dict[str, int] = {}
        self._near: list[list[int]] = []  # of each text, the earlier ones near to it
        self._sides: list[dict[str, Item]] = []

    def number(self, said: str) -> int:
        """The text's number, given to it now if it is new."""
        if said not in self._numbers:
            self._numbers[said] = len(self._near)
            self._near.append(self._index.add(said))
            self._sides.append({})
        return self._numbers[said]

    def near(self, number: int) -> dict[str, Item]:
        """The first row on each side with this text or one near to it."""
        found: dict[str, Item] = {}
        for other in (number, *self._near[number]):
            for side, item in self._sides[other].items():
                found.setdefault(side, item)
        return found

    def put(self, number: int, side: str, item: Item) -> None:
        self._sides[number].setdefault(side, item)

    def root(self, number: int) -> int:
        """The first text of the chain that this one hangs on."""
        while self._near[number]:
            number = self._near[number][0]
        return number


def too_uneven(sides: Sides, rows: int) -> bool:
    """Whether one group holds most rows, so that no share can be kept."""
    return rows > 0 and sides.largest > rows / 2


def counts(items: Sequence[Item]) -> Json:
    """Rows by tool on one side; `(no call)` for those without."""
    return dict(
        Counter(c.name for i in items for c in i.row.calls) + Counter("(no call)" for i in items if not i.row.calls)
    )
