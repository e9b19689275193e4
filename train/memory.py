"""How much memory a tuning takes, estimated before it begins: what is kept of each layer for the backward pass, counted.

Counted from the layers as transformers writes them (Gemma 3; Llama and Qwen keep less). A peak is the larger of loading,
the heaviest batch, and saving. Held against measured peaks: docs/log.md. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

ALLOCATOR = 1.25  # what is held beyond what is counted: by the allocator, by temporaries (from measured peaks)
ROOM = 0.85  # of the free memory: what a run may take before checkpointing is switched on by itself


@dataclass(frozen=True)
class Shape:
    """A model's sizes, in elements."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    parameters: int
    embedding: int  # elements of the token table (once, if it is tied)


def shape(config: Any, parameters: int) -> Shape:
    """From a transformers configuration."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    tables = 1 if config.tie_word_embeddings else 2
    return Shape(
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        head_dim,
        config.vocab_size,
        parameters,
        tables * config.vocab_size * config.hidden_size,
    )


def estimate(it: Shape, plan: Json, fixed: int) -> Json:
    """Bytes by what they are for, and "total".

    Args:
        plan: "method", "trainable" (elements that are trained), "rank", "bfloat16" (autocast?), "attention",
            "checkpointing" (bool), and the heaviest batch: "tokens" (with padding), "longest", "completion".
        fixed: what the process holds before the weights are loaded (0 for a GPU).
    """
    weights = weight_bytes(it, plan["method"])
    trained = plan["trainable"] * (
        12 if plan["method"] == "full" else 16
    )  # gradient and Adam's two; the adapter itself
    layer = layer_bytes(it, plan)
    kept = plan["tokens"] * 4 * it.hidden * it.layers + layer if plan["checkpointing"] else layer * it.layers
    activations = kept + _in_flight(it, plan)
    wide = 2 if plan["bfloat16"] else 4
    # logits, their copy in float32, log-probabilities and gradients
    logits = plan["completion"] * it.vocabulary * (12 + (2 * wide if plan["bfloat16"] else 0))
    casts = 2 * (it.parameters - it.embedding) if plan["bfloat16"] and plan["method"] != "qlora" else 0
    casts += 2 * it.vocabulary * it.hidden if plan["bfloat16"] else 0
    if plan["checkpointing"]:
        casts = 2 * it.vocabulary * it.hidden if plan["bfloat16"] else 0
    table = 4 * it.vocabulary * it.hidden if plan["method"] == "full" else 0  # the table's second gradient, tied or not
    moving = int((activations + logits + casts) * ALLOCATOR) + table
    parts = {"process": fixed, "weights": weights, "trained": trained, "activations": int(activations * ALLOCATOR),
             "logits": int(logits * ALLOCATOR), "casts": int(casts * ALLOCATOR) + table}  # fmt: skip
    loading = fixed + weights + it.embedding * 2  # a file in bfloat16 lies beside what is made of it
    return {**parts, "total": max(fixed + weights + trained + moving, loading)}


def weight_bytes(it: Shape, method: str) -> int:
    """Float32; of 4 bits with their scales for QLoRA, which leaves the table in float32."""
    if method == "qlora":
        return int((it.parameters - it.embedding) * 0.53) + 4 * it.embedding
    return 4 * it.parameters


def layer_bytes(it: Shape, plan: Json) -> int:
    """What one layer keeps for its backward pass, over the whole batch."""
    q, k = it.heads * it.head_dim, it.kv_heads * it.head_dim
    half = 2 if plan["bfloat16"] else 4
    norms = 4 * 4 * it.hidden + half * 4 * it.hidden  # four norms' inputs, and what the matrices read
    swiglu = 4 * it.ffn * half
    heads = 4 * (2 * q + 2 * k) + half * (q + k)  # before and after their norms and the rotation
    across = half * 3 * q if plan["attention"] == "eager" else half * 2 * q
    scores = it.heads * plan["longest"] * (4 + (2 if plan["bfloat16"] else 0)) if plan["attention"] == "eager" else 0
    adapter = 7 * half * plan["rank"]
    return int(plan["tokens"] * (norms + swiglu + heads + across + scores + adapter))


def _in_flight(it: Shape, plan: Json) -> int:
    """Gradients and intermediate values of the layer at work."""
    half = 2 if plan["bfloat16"] else 4
    scores = 3 * 4 * it.heads * plan["longest"] if plan["attention"] == "eager" else 0
    return int(plan["tokens"] * (3 * half * it.ffn + 4 * 4 * it.hidden + scores))


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
