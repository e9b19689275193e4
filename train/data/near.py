"""Near-duplicates: texts whose character 5-shingles overlap by a threshold (Jaccard), found by MinHash, then verified.

Each text gets 128 minima of its shingles' hashes, in 32 bands of 4; texts that agree in a band are candidates, and only
those whose shingle sets really overlap enough count. So what is found is right, and a pair at the default threshold of
0.8 is missed about once in twenty million (at 0.5 once in eight). Nothing is drawn at random: the hashes are fixed, and a
text is only ever compared with those before it, so that texts added later change nothing among the earlier ones.
Of a crowd that agrees in a band only the first eight are compared with. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from edge.worker import Progress

THRESHOLD = 0.8
_SIZE, _BANDS, _ROWS, _CROWD = 5, 32, 4, 8


@functools.lru_cache(maxsize=1 << 20)
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


# x -> x ^ constant orders 64-bit hashes anew for each constant, at the speed of C.
_ORDERS = [_hash(f"order {n}").__xor__ for n in range(_BANDS * _ROWS)]


@dataclass(frozen=True)
class Signature:
    """A text's shingles and its key in each band."""

    shingles: frozenset[int]
    keys: tuple[int, ...]


@functools.lru_cache(maxsize=1 << 15)  # several counts compare the same texts
def sign(text: str) -> Signature:
    shingles = frozenset(_hash(text[i : i + _SIZE]) for i in range(max(1, len(text) - _SIZE + 1)))
    minima = [min(map(order, shingles)) for order in _ORDERS]
    # hash() of integers is the same in every process; two bands that share a hash only cost a verification.
    return Signature(shingles, tuple(hash(tuple(minima[i : i + _ROWS])) for i in range(0, len(minima), _ROWS)))


class Index:
    """Texts in order; `add` tells which earlier ones are near. Equal texts are worth adding once."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._sets: list[frozenset[int]] = []
        self._bands: list[dict[int, list[int]]] = [{} for _ in range(_BANDS)]

    def add(self, text: str) -> list[int]:
        """The numbers of the earlier texts that are near to this one, in order; its own is the next number."""
        signature = sign(text)
        near = self.near(signature)
        self.put(signature)
        return near

    def near(self, signature: Signature) -> list[int]:
        """The numbers of the texts that are near to this one, in order."""
        found: set[int] = set()
        for buckets, key in zip(self._bands, signature.keys):
            found.update(buckets.get(key, ()))
        return [n for n in sorted(found) if jaccard(signature.shingles, self._sets[n]) >= self._threshold]

    def put(self, signature: Signature) -> None:
        """Remember a text under the next number."""
        for buckets, key in zip(self._bands, signature.keys):
            bucket = buckets.setdefault(key, [])
            if len(bucket) < _CROWD:
                bucket.append(len(self._sets))
        self._sets.append(signature.shingles)


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    """What two sets share, of all that is in either."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def groups(texts: Sequence[str], threshold: float = THRESHOLD, progress: Progress | None = None) -> list[int]:
    """For each text the number of the first one of its group: equal texts, near ones, and those near to near ones."""
    index, first, parents = Index(threshold), dict[str, int](), list(range(len(texts)))
    numbers: list[int] = []  # of the index's texts among all
    for n, text in enumerate(texts):
        if progress and n % 100 == 0:
            progress(n, len(texts), "")
        if text in first:
            parents[n] = first[text]
            continue
        first[text] = n
        for near in index.add(text):
            _join(parents, numbers[near], n)
        numbers.append(n)
    return [_root(parents, n) for n in range(len(texts))]


def _root(parents: list[int], n: int) -> int:
    while parents[n] != n:
        parents[n] = parents[parents[n]]
        n = parents[n]
    return n


def _join(parents: list[int], a: int, b: int) -> None:
    a, b = sorted((_root(parents, a), _root(parents, b)))
    parents[b] = a
