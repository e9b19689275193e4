"""The embedded model before its first step: its size, and weights that can already copy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edge.train.scratch.tokenizer import Words

Json = dict[str, Any]

# About 4.3 million parameters. llama.cpp takes every sixth layer of a Gemma 3 model as global whatever the file says,
# so there are six. The window is longer than any prompt of ours: it never cuts.
SIZE = {
    "vocabulary": 3072,
    "hidden": 256,
    "feed_forward": 512,
    "layers": 6,
    "heads": 4,
    "kv_heads": 2,
    "head": 64,
    "window": 1024,
}

# Of these, what stands before a name in a declaration, and what stands before that name in a call.
ALIKE = [("declaration:", "call:"), (",parameters:{properties:{", "{"), ("},", ",")]


FRESH = ("copying", "plain")


def new_model(words: Words, size: Json, seed: int, how: str = "copying") -> Any:
    """A model to train, in float32. how: one of FRESH (of this size, at random or able to copy), or a model's folder."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    if how not in FRESH:
        return Gemma3ForCausalLM.from_pretrained(how, dtype=torch.float32)
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=len(words.tokenizer), hidden_size=size["hidden"], intermediate_size=size["feed_forward"],
            num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], num_key_value_heads=size["kv_heads"], head_dim=size["head"],
            query_pre_attn_scalar=size["head"],
        max_position_embeddings=4096, sliding_window=size["window"],
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(size["layers"])],
        pad_token_id=0, eos_token_id=words.stops, bos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config)
    with torch.no_grad():
        plain_start(model)
        if how == "copying":
            copying_start(model, size)
            reading_start(model, words)
    return model


def plain_start(model: Any) -> None:
    """Random matrices with outputs as large as their inputs; the residual branches start quiet."""
    hidden = model.config.hidden_size
    model.model.embed_tokens.weight.normal_(0, hidden**-0.5)  # Gemma multiplies embeddings by sqrt(hidden)
    for name, p in model.named_parameters():
        if p.ndim == 2 and "embed" not in name:
            p.normal_(0, p.shape[1] ** -0.5 * (0.5 if "o_proj" in name or "down_proj" in name else 1.0))
    for layer in model.model.layers:  # Gemma's norms scale by 1 + weight
        layer.post_feedforward_layernorm.weight.fill_(-0.8)
        layer.post_attention_layernorm.weight.fill_(-0.7)


def copying_start(model: Any, size: Json) -> None:
    """Set the first two layers so that the model can copy before it has learned anything.

    Writing a call is mostly copying: names from the declarations, values from the question. A transformer copies with
    two layers ("induction"). The first lets every position know which token came before it. The second looks for an
    earlier position whose previous token is the one that stands here now, and takes what that position holds: the token
    that followed last time. Random weights find this late and suddenly; a small model on one core can't wait for it. So
    we write it down, and let training change it as it likes. It copies 99 % of a repeated random text at once.

    The hidden vector (256) is cut into four parts:
        0..3      constant 2 in every embedding: something for position-only attention to hold on to
        4..127    who: the token's random embedding, with which the output matrix (tied) also reads the answer
        128..191  slot 1: empty; the first layer writes here who stands one position back
        192..255  slot 2: empty; here who stands two positions back
    Layer 0: head j attends to the position 1 + j back. Key and query come from the constants alone: a fixed vector in
    the fastest-turning rotary pairs, the two turned so that they agree exactly at that distance.
    Layer 1: head 0 compares "who" here with slot 1 there, head 2 compares slot 1 here with slot 2 there: together a
    match of two tokens. Both use the slowest rotary pairs, where distance hardly counts. Both add "who" of the place
    that they found to "who" here, which is what the output reads.
    """
    import torch

    hidden, d, heads, groups = size["hidden"], size["head"], size["heads"], size["heads"] // size["kv_heads"]
    constant, who = slice(0, 4), slice(4, hidden // 2)
    slot1, slot2 = slice(hidden // 2, hidden // 2 + d), slice(hidden // 2 + d, hidden // 2 + 2 * d)
    width = hidden // 2 - 4
    embed = model.model.embed_tokens.weight
    embed[:, slot1], embed[:, slot2], embed[:, constant] = 0.0, 0.0, 2.0 * hidden**-0.5
    first, second = model.model.layers[:2]
    for layer in (first, second):
        layer.post_feedforward_layernorm.weight.fill_(-0.9)  # hardly disturb what attention writes
        layer.self_attn.q_norm.weight.fill_(1.0)  # sharper: keys and queries twice as long
        layer.self_attn.k_norm.weight.fill_(1.0)

    first.post_attention_layernorm.weight.zero_()
    second.post_attention_layernorm.weight.fill_(1.0)  # what was found must drown out what stands here

    a = first.self_attn
    names = orthogonal(d, width)
    fixed = torch.zeros(d)
    fixed[:6] = 1.0
    a.q_proj.weight.mul_(0.1)
    a.k_proj.weight[:d].mul_(0.1)
    a.k_proj.weight[:d, constant] += turned(fixed, 1.0)[:, None]
    for j in range(heads):
        a.q_proj.weight[j * d : (j + 1) * d, constant] += turned(fixed, -float(j))[:, None]
    for g in range(size["kv_heads"]):
        a.k_proj.weight[g * d : (g + 1) * d] = a.k_proj.weight[:d].clone()
        a.v_proj.weight[g * d : (g + 1) * d] = 0.0
        a.v_proj.weight[g * d : (g + 1) * d, who] = names
    a.o_proj.weight.mul_(0.1)
    a.o_proj.weight[slot1, :d] += torch.eye(d)
    a.o_proj.weight[slot2, d : 2 * d] += torch.eye(d)

    b = second.self_attn
    slow = [i for i in range(d // 2) if i >= 22 * d // 64]
    slow += [i + d // 2 for i in slow]
    compare = torch.zeros(d, d)
    compare[slow] = orthogonal(len(slow), d)
    taken = orthogonal(d, width)
    for p, spread in ((b.q_proj, 0.02), (b.k_proj, 0.02), (b.v_proj, 0.02), (b.o_proj, 0.01)):
        p.weight.normal_(0, spread)
    b.q_proj.weight[:d, who] += compare @ names
    b.k_proj.weight[:d, slot1] += compare
    b.q_proj.weight[groups * d : (groups + 1) * d, slot1] += compare
    b.k_proj.weight[d : 2 * d, slot2] += compare
    for g in range(2):
        b.v_proj.weight[g * d : (g + 1) * d, who] += taken
        b.o_proj.weight[who, groups * g * d : (groups * g + 1) * d] += taken.T


def reading_start(model: Any, words: Words) -> None:
    """Let a call's signs resemble the signs of a declaration, so that the copying layer finds names at once.

    In a declaration a tool's name follows `declaration:`, in a call `call:`; parameters follow `properties:{` and `},`
    there, `{` and `,` here. With alike embeddings the second layer takes, after `call:`, what follows `declaration:`:
    the names of the declared tools. Which of them is left to learn; that it is one of them need not be found. (In a
    run without this and with other differences, names were still guessed after eleven CPU minutes.)
    """
    ids = words.tokenizer.convert_tokens_to_ids
    who = slice(4, model.config.hidden_size // 2)
    embed = model.model.embed_tokens.weight
    for declared, called in ALIKE:
        embed[ids(called), who] = 0.85 * embed[ids(declared), who] + 0.5 * embed[ids(called), who]


def orthogonal(rows: int, columns: int) -> Any:
    """A random matrix with orthonormal rows (columns, if there are more rows than columns)."""
    import torch

    if rows > columns:
        return orthogonal(columns, rows).T
    return torch.linalg.qr(torch.randn(columns, rows))[0].T


def turned(vector: Any, positions: float, base: float = 1e4) -> Any:
    """The vector as rotary embedding turns it at this position (base of the local layers)."""
    half = len(vector) // 2
    out = vector.clone()
    for i in range(half):
        angle = positions * base ** (-i / half)
        out[i] = vector[i] * math.cos(angle) - vector[i + half] * math.sin(angle)
        out[i + half] = vector[i + half] * math.cos(angle) + vector[i] * math.sin(angle)
    return out


def save_model(model: Any, out: Path) -> None:
    """Weights in bfloat16, configuration, stop ids, chat template: what `from_pretrained` and llama.cpp want."""
    import torch
    from transformers import Gemma3ForCausalLM, GenerationConfig

    from edge.dialects import functiongemma

    config = type(model.config).from_dict({**model.config.to_dict(), "dtype": "bfloat16"})
    config._attn_implementation = "eager"
    weights = {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in model.state_dict().items()}
    shipped = Gemma3ForCausalLM(config).to(torch.bfloat16)
    shipped.load_state_dict(weights)
    stops = model.config.eos_token_id
    shipped.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=stops, pad_token_id=0, do_sample=False)
    shipped.save_pretrained(out)
    (out / "chat_template.jinja").write_text(functiongemma.CHAT_TEMPLATE, encoding="utf-8")
