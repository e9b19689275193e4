"""In which order rows are trained on, and how they lie in a batch. For a worker.

Rows of like length are in one update, so little is padded: an epoch's rows are shuffled, sorted by length within runs of
some hundred, and cut into updates, whose order is shuffled again. What an update holds depends on the seed and the epoch
alone, not on how many processes share it, so one process and two train on the same. Rows aren't packed: whether a
sliding-window mask keeps packed rows apart is not proven here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edge.train.encode import IGNORE, Encoded

FILLER = -1  # stands for a row without a token to learn, where the last update can't be dealt out evenly
_RUN = 16  # updates whose rows are sorted together


def order(lengths: Sequence[int], update: int, share: int, seed: int, epoch: int) -> list[int]:
    """Row numbers in the order in which they are dealt out.

    Args:
        lengths: of the rows, in tokens.
        update: rows an update: batch x accumulate x processes.
        share: the end is filled up with FILLER to a multiple of this: batch x processes for several processes, 1 for one.
    """
    dice = random.Random(f"{seed}/{epoch}")
    rows = list(range(len(lengths)))
    dice.shuffle(rows)
    updates: list[list[int]] = []
    for begin in range(0, len(rows), update * _RUN):
        some = sorted(rows[begin : begin + update * _RUN], key=lambda row: -lengths[row])
        updates += [some[i : i + update] for i in range(0, len(some), update)]
    last = [updates.pop()] if len(updates[-1]) < update else []  # what is short stays last
    dice.shuffle(updates)
    dealt = [row for some in [*updates, *last] for row in some]
    return dealt + [FILLER] * (-len(dealt) % share)


def sampler(lengths: Sequence[int], update: int, share: int, seed: int, epoch: Callable[[], int]) -> Any:
    """`order` as torch takes it; `epoch` is asked at the beginning of each."""
    from torch.utils.data import Sampler

    class InOrder(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(order(lengths, update, share, seed, epoch()))

        def __len__(self) -> int:
            return len(lengths) + -len(lengths) % share

    return InOrder()


def dataset(rows: list[Encoded]) -> Any:
    """The rows as torch takes them, FILLER among them."""
    from torch.utils.data import Dataset

    class Rows(Dataset[Any]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, number: int) -> tuple[int, Encoded]:
            # Two tokens: the loss looks at all but the first.
            return number, Encoded("", [0, 0], 2) if number == FILLER else rows[number]

    return Rows()


def collator(pad: int) -> Callable[[list[tuple[int, Encoded]]], dict[str, Any]]:
    """Rows to tensors, filled up on the right: input_ids, labels and attention_mask (rows, tokens), rows' numbers."""

    def collate(batch: list[tuple[int, Encoded]]) -> dict[str, Any]:
        import torch

        longest = max(len(row.ids) for _, row in batch)

        def filled(values: list[list[int]], with_: int) -> Any:
            return torch.tensor([v + [with_] * (longest - len(v)) for v in values])

        return {
            "input_ids": filled([row.ids for _, row in batch], pad),
            "labels": filled([row.labels for _, row in batch], IGNORE),
            "attention_mask": filled([[1] * len(row.ids) for _, row in batch], 0),
            "numbers": torch.tensor([number for number, _ in batch]),
        }

    return collate


def shapes(rows: list[Encoded], order: list[int], batch: int) -> list[tuple[int, int, int]]:
    """(tokens with padding, longest row, completion tokens) of each batch in this order."""
    found = []
    for begin in range(0, len(order), batch):
        some = [rows[n] for n in order[begin : begin + batch] if n != FILLER]
        if some:
            longest = max(len(row.ids) for row in some)
            found.append((longest * len(some), longest, sum(len(row.ids) - row.prompt for row in some)))
    return found
