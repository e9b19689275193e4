"""Gemma 3's arithmetic for training on many questions about the same head.

A head (date and declarations) is long and a question is short. So a head runs once, its keys and values are kept, and
ten questions are asked against them: the cost of the head is shared by ten examples. The library's forward pass can't
do that without copying the head, and casts every matrix anew for each use. Written out it can also be fused by torch's
compiler, where there is one: 0.35 s a step instead of 0.52 s (docs/log.md). In float32 it agrees with the library to
2e-5, fused or not (tests/test_tiny.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass
class Batch:
    """Heads and, for each, as many questions with their answers: token ids. `queries` are what they were made from."""

    heads: list[list[int]]
    questions: list[list[list[int]]]
    answers: list[list[list[int]]]
    queries: list[list[Any]]


def logits(net: Net, batch: Batch) -> tuple[Any, Any, Any]:
    """Logits (tokens of all answers, vocabulary), the right tokens, and the number of the question of each token."""
    import torch

    heads, valid = padded(batch.heads, net.device)
    kept = net.read_heads(heads)
    pairs = [(q, a) for qs, answers in zip(batch.questions, batch.answers) for q, a in zip(qs, answers)]
    rows, _ = padded([q + a[:-1] for q, a in pairs], net.device)
    starts = valid.sum(-1).repeat_interleave(len(batch.questions[0]))
    hidden = net.read_questions(rows, starts, kept, valid)
    at = [i * rows.shape[1] + len(q) - 1 + j for i, (q, a) in enumerate(pairs) for j in range(len(a))]
    of = torch.tensor([i for i, (_, a) in enumerate(pairs) for _ in a], device=net.device)
    right = torch.tensor([t for _, a in pairs for t in a], device=net.device)
    return net.head(hidden.flatten(0, 1)[at]), right, of


def padded(rows: list[list[int]], device: Any = "cpu") -> tuple[Any, Any]:
    """Ids (rows, longest) filled up with zeros, and which of them are real."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device)[None] < lengths[:, None]


class Net:
    """The parameters of a `Gemma3ForCausalLM` in the precision to compute in, joined to fewer, larger matrices.

    Made anew for each step: training changes the parameters, in float32.
    """

    def __init__(self, model: Any, dtype: Any, fused: bool = False) -> None:
        self.config, self.dtype, self.device = model.config, dtype, model.model.embed_tokens.weight.device
        self.embedding = model.model.embed_tokens.weight.to(dtype)
        self.final = 1 + model.model.norm.weight  # Gemma's norms scale by 1 + weight
        self.layers = [_joined(layer, dtype) for layer in model.model.layers]
        self.head_layer, self.question_layer = layers(fused)

    def read_heads(self, ids: Any) -> list[tuple[Any, Any]]:
        """Keys and values of every layer for heads (heads, tokens). Padding stands at the end and is never seen."""
        import torch

        positions = torch.arange(ids.shape[1], device=self.device).expand_as(ids)
        turns, bias = self._turns(positions), causal(ids.shape[1], self.dtype, self.device)
        x, kept = self.embed(ids), []
        for weights, turn in zip(self.layers, turns):
            x, *past = self.head_layer(x, *turn, bias, weights)
            kept.append((past[0], past[1]))
        return kept

    def read_questions(self, ids: Any, starts: Any, kept: list[tuple[Any, Any]], valid: Any) -> Any:
        """Last hidden states (rows, tokens, hidden) of questions that stand after heads which end at `starts`."""
        import torch

        positions = starts[:, None] + torch.arange(ids.shape[1], device=self.device)
        turns, own = self._turns(positions), causal(ids.shape[1], self.dtype, self.device)
        before = torch.zeros(valid.shape, dtype=self.dtype, device=self.device).masked_fill(~valid, -1e9)
        x = self.embed(ids)
        for weights, turn, (k, v) in zip(self.layers, turns, kept):
            x = self.question_layer(x, *turn, k, v, before, own, weights)
        return x

    def embed(self, ids: Any) -> Any:
        return self.embedding[ids] * self.config.hidden_size**0.5

    def head(self, hidden: Any) -> Any:
        """Logits in float32."""
        return (norm(hidden, self.final) @ self.embedding.T).float()

    def _turns(self, positions: Any) -> list[tuple[Any, Any]]:
        """Cosines and sines for every layer: local and global layers turn at different speeds."""
        made = {kind: rotation(positions, self.config.head_dim, base, self.dtype) for kind, base in BASES.items()}
        return [made[kind] for kind in self.config.layer_types]


BASES = {"sliding_attention": 1e4, "full_attention": 1e6}
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _joined(layer: Any, dtype: Any) -> Json:
    import torch

    a, m = layer.self_attn, layer.mlp
    parts = {
        "qkv": [a.q_proj, a.k_proj, a.v_proj],
        "out": [a.o_proj],
        "gate_up": [m.gate_proj, m.up_proj],
        "down": [m.down_proj],
    }
    return {
        **{name: 1 + getattr(layer, name).weight for name in NORMS},
        **{name: torch.cat([p.weight for p in several]).to(dtype) for name, several in parts.items()},
        "q_norm": (1 + a.q_norm.weight) * a.head_dim**-0.5,
        "k_norm": 1 + a.k_norm.weight,
    }


# --- a layer ----------------------------------------------------------------------------------------------------------


@functools.cache
def layers(fused: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two forms of a layer: for heads, and for questions after heads. Fused ones are compiled at their first use."""
    import torch

    if not fused:
        return head_layer, question_layer
    return torch.compile(head_layer), torch.compile(question_layer)


def head_layer(x: Any, cos: Any, sin: Any, bias: Any, w: Json) -> tuple[Any, Any, Any]:
    """x (rows, n, hidden) to the next x, and the keys and values (rows, shared, n, head)."""
    q, k, v = _qkv(x, cos, sin, w)
    shared, n = k.shape[1:3]
    weight = (_stacked(q, shared) @ k.transpose(2, 3)).unflatten(2, (-1, n)) + bias
    found = weight.float().softmax(-1).to(x.dtype).flatten(2, 3) @ v
    return _rest(x, found, w), k, v


def question_layer(x: Any, cos: Any, sin: Any, past_k: Any, past_v: Any, before: Any, own: Any, w: Json) -> Any:
    """x (rows, n, hidden) to the next x; each row sees its head's keys (heads, shared, length, head) and itself.

    All questions of a head are one matrix against its keys; the softmax over both parts is put together by hand.
    """
    import torch

    q, k, v = _qkv(x, cos, sin, w)
    (rows, shared, n, d), (heads, _, length, _) = k.shape, past_k.shape
    q = _stacked(q, shared)  # (rows, shared, groups * n, head)
    each, tall = rows // heads, q.shape[2]
    here = ((q @ k.transpose(2, 3)).unflatten(2, (-1, n)) + own).view(heads, each, shared, tall, n)
    asked = q.view(heads, each, shared, tall, d).transpose(1, 2).reshape(heads, shared, each * tall, d)
    there = (asked @ past_k.transpose(2, 3)).view(heads, shared, each, tall, length) + before[:, None, None, None]
    here = here.transpose(1, 2)
    top = torch.maximum(there.amax(-1, keepdim=True), here.amax(-1, keepdim=True)).float().detach()
    there, here = (there.float() - top).exp(), (here.float() - top).exp()
    total = there.sum(-1, keepdim=True) + here.sum(-1, keepdim=True)
    found = (there.to(x.dtype).view(heads, shared, each * tall, length) @ past_v).view(heads, shared, each, tall, d)
    mine = here.to(x.dtype).transpose(1, 2).reshape(rows, shared, tall, n) @ v
    found = found.transpose(1, 2).reshape(rows, shared, tall, d) + mine
    return _rest(x, found / total.transpose(1, 2).reshape(rows, shared, tall, 1).to(x.dtype), w)


def _qkv(x: Any, cos: Any, sin: Any, w: Json) -> tuple[Any, Any, Any]:
    """Queries (rows, heads, n, head), keys and values (rows, shared, n, head)."""
    from torch.nn import functional as f

    d = len(w["q_norm"])
    heads = w["out"].shape[1] // d
    shared = (w["qkv"].shape[0] // d - heads) // 2
    joined = f.linear(norm(x, w["input_layernorm"]), w["qkv"]).unflatten(-1, (-1, d)).transpose(1, 2)
    q, k, v = joined.split([heads, shared, shared], 1)
    return rotated(norm(q, w["q_norm"]), cos, sin), rotated(norm(k, w["k_norm"]), cos, sin), v


def _rest(x: Any, found: Any, w: Json) -> Any:
    """What follows attention: output matrix, feed-forward, and the norms around both."""
    from torch.nn import functional as f

    found = found.reshape(x.shape[0], -1, x.shape[1], found.shape[-1]).transpose(1, 2).flatten(2)
    x = x + norm(f.linear(found, w["out"]), w["post_attention_layernorm"])
    gate, up = f.linear(norm(x, w["pre_feedforward_layernorm"]), w["gate_up"]).chunk(2, -1)
    h = f.linear(f.gelu(gate, approximate="tanh") * up, w["down"])
    return x + norm(h, w["post_feedforward_layernorm"])


def _stacked(q: Any, shared: int) -> Any:
    """(rows, heads, n, d) to (rows, shared, heads / shared * n, d): query heads with the same keys under each other."""
    return q.reshape(q.shape[0], shared, -1, q.shape[-1])


def norm(x: Any, weight: Any) -> Any:
    """Root mean square norm, in float32 as Gemma does it."""
    import torch

    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * weight).to(x.dtype)


def rotation(positions: Any, d: int, base: float, dtype: Any) -> tuple[Any, Any]:
    """Cosines and sines (rows, 1, tokens, head)."""
    import torch

    angles = positions[:, None, :, None] * base ** (-torch.arange(0, d, 2, device=positions.device) / d)
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotated(x: Any, cos: Any, sin: Any) -> Any:
    import torch

    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def causal(n: int, dtype: Any, device: Any) -> Any:
    import torch

    return torch.full((n, n), -1e9, dtype=dtype, device=device).triu(1)


# --- how to compute ---------------------------------------------------------------------------------------------------


@functools.cache
def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: measured, since no table of processors is complete."""
    import time

    import torch

    def seconds(dtype: Any) -> float:
        a, b = torch.randn(512, 256, dtype=dtype), torch.randn(256, 512, dtype=dtype)
        _ = a @ b
        started = time.perf_counter()
        for _ in range(20):
            _ = a @ b
        return time.perf_counter() - started

    return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


@functools.cache
def can_fuse() -> bool:
    """Whether torch's compiler works here: on a CPU it needs a C++ compiler and Python's headers."""
    import torch

    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8))
    except Exception:  # whatever is missing, the answer is no
        return False
    return True
