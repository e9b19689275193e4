"""A grammar small enough to write by hand: `(a|b)` chooses, `[a]` is left out half the time, `{name}` is a slot.

`"(set|make) [me] an alarm for {time}"` is four sentences. Patterns are read once and kept as trees, since a training
run draws from them a million times. Standard library only.
"""

from __future__ import annotations

import functools
import random
from typing import Union

# A tree: text, a slot, a sequence of trees, or a choice of trees.
Tree = Union[str, "Slot", "Sequence", "Choice"]


class Slot(str):
    """The name of something to fill in."""


class Sequence(tuple):  # type: ignore[type-arg]
    """Trees, one after the other."""


class Choice(tuple):  # type: ignore[type-arg]
    """Trees, of which one."""


def draw(rng: random.Random, pattern: str) -> list[str]:
    """One sentence of the pattern as pieces: plain text and `Slot`s, in order."""
    pieces: list[str] = []
    _walk(rng, read(pattern), pieces)
    return pieces


def slots(pattern: str) -> set[str]:
    """The names of all slots that a sentence of this pattern can have."""
    found: set[str] = set()
    _collect(read(pattern), found)
    return found


def count(pattern: str) -> int:
    """How many different sentences the pattern has (slots unfilled)."""
    return _count(read(pattern))


@functools.cache
def read(pattern: str) -> Tree:
    """The pattern's tree. Raises ValueError where a bracket has no partner."""
    tree, end = _read(pattern, 0, "")
    if end != len(pattern):
        raise ValueError(f"unexpected {pattern[end]!r} at {end} in {pattern!r}")
    return tree


def _read(text: str, at: int, closing: str) -> tuple[Tree, int]:
    """Alternatives up to the closing bracket: (tree, the position of that bracket)."""
    options: list[Tree] = []
    parts: list[Tree] = []
    while at < len(text) and text[at] not in ")]":
        here = text[at]
        if here == "|" and closing:
            options.append(Sequence(parts))
            parts, at = [], at + 1
        elif here == "{":
            end = text.index("}", at)
            parts.append(Slot(text[at + 1 : end]))
            at = end + 1
        elif here in "([":
            inner, end = _read(text, at + 1, ")" if here == "(" else "]")
            parts.append(inner if here == "(" else Choice((Sequence(()), inner)))
            at = end + 1
        else:
            end = at + 1
            while end < len(text) and text[end] not in "()[]{|}":
                end += 1
            parts.append(text[at:end])
            at = end
    if closing and (at == len(text) or text[at] != closing):
        raise ValueError(f"no {closing!r} in {text!r}")
    tree = Sequence(parts)
    return (Choice((*options, tree)) if options else tree), at


def _walk(rng: random.Random, tree: Tree, out: list[str]) -> None:
    if isinstance(tree, Sequence):
        for part in tree:
            _walk(rng, part, out)
    elif isinstance(tree, Choice):
        _walk(rng, rng.choice(tree), out)
    else:
        out.append(tree)


def _collect(tree: Tree, out: set[str]) -> None:
    if isinstance(tree, (Sequence, Choice)):
        for part in tree:
            _collect(part, out)
    elif isinstance(tree, Slot):
        out.add(str(tree))


def _count(tree: Tree) -> int:
    if isinstance(tree, Choice):
        return sum(_count(part) for part in tree)
    if isinstance(tree, Sequence):
        total = 1
        for part in tree:
            total *= _count(part)
        return total
    return 1
