"""Fake quantisation: weights rounded as a format would round them, and kept in float32.

Tells what a number of bits costs without any runtime: where a real quantisation of as many bits loses much more, the
format or its runtime is to blame. Symmetric, round to nearest, weights only.
"""

from __future__ import annotations

from typing import Any

# name: (bits, weights that share a scale (0: a whole row), embedding too)
KINDS: dict[str, tuple[int, int, bool]] = {
    "int8": (8, 0, True),
    "int4-block32": (4, 32, False),
    "int4-block32-embedding": (4, 32, True),
    "int4-channel": (4, 0, False),
    "int3-block32": (3, 32, False),
    "int2-block32": (2, 32, False),
}


def apply(model: Any, kind: str) -> None:
    """Round the model's matrices in place. Raises ValueError for a kind that is not in `KINDS`."""
    import torch

    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    bits, block, embedding = KINDS[kind]
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2 and (embedding or "embed" not in name):
                p.copy_(rounded(p, bits, block))


def rounded(matrix: Any, bits: int, block: int) -> Any:
    """The matrix (rows, columns), each `block` columns (0: all) of a row in steps of its largest magnitude."""
    import torch

    parts = matrix.unflatten(1, (-1, block or matrix.shape[1]))
    most = 2 ** (bits - 1) - 1
    scale = (parts.abs().amax(-1, keepdim=True) / most).clamp(min=torch.finfo(torch.float32).tiny)
    return ((parts / scale).round().clamp(-most, most) * scale).flatten(1)
