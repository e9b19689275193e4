"""Gemma 3's text models in GGUF: what their configuration must say, the metadata keys, the names of the tensors.

Another architecture would be another file like this one. llama.cpp's reader takes some things for granted; where a
checkpoint says otherwise it is refused here, since the file would load and write nonsense. Standard library only.
Sources: llama.cpp's Gemma 3 reader, ollama's convert_gemma3.go, the configuration of transformers 4.5x and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edge.errors import EdgeError
from edge.export.checkpoint import FLOATS, Folder
from edge.export.gguf_file import Entry
from edge.records import Json

ARCHITECTURE = "gemma3"
PERIOD = 6  # every sixth layer attends globally
_SUPPORTED = (
    "supported for now: Gemma 3 text models (Gemma3ForCausalLM, model_type gemma3_text), so Gemma 3 270M and 1B, "
    "FunctionGemma and what was tuned from them"
)
_LAYERS_OF_27B = 62  # the one depth for which llama.cpp scales attention by hidden / heads


@dataclass(frozen=True)
class Shape:
    """The hyperparameters. Counts are of elements, tokens or layers; rope bases are the angles' base."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    feed_forward: int
    window: int
    context: int
    epsilon: float
    rope_base: float
    rope_base_local: float
    rope_factor: float | None  # linear scaling of the global layers
    softcap: float | None


@dataclass(frozen=True)
class Weight:
    """One tensor on its way. shift: added in float32, since Gemma's norms multiply by 1 + w."""

    source: str
    target: str
    shape: tuple[int, ...]
    shift: float = 0.0


def read(folder: Folder) -> Shape:
    """The hyperparameters of a checkpoint.

    Raises: EdgeError naming the key, for another architecture, a missing value, or a model that llama.cpp's reader
    would run differently.
    """
    _require_text_model(folder)
    c, where = folder.config, folder.path / "config.json"
    try:
        shape = _shape(c)
        expectations = _expectations(c, shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EdgeError(
            f"{where}: missing or unusable: {error}", "compare it with the config.json of the base model"
        ) from None
    for ok, what in expectations:
        if not ok:
            raise EdgeError(f"{where}: {what}", "such a model can't be expressed in GGUF's gemma3")
    return shape


def weights(shape: Shape) -> list[Weight]:
    """Every tensor of the model, in the order of the file."""
    h, q, kv, ff = shape.hidden, shape.heads * shape.head, shape.kv_heads * shape.head, shape.feed_forward
    found = [Weight("model.embed_tokens.weight", "token_embd.weight", (shape.vocabulary, h))]
    for n in range(shape.layers):
        a, b = f"model.layers.{n}", f"blk.{n}"
        found += [
            Weight(f"{a}.input_layernorm.weight", f"{b}.attn_norm.weight", (h,), 1.0),
            Weight(f"{a}.self_attn.q_proj.weight", f"{b}.attn_q.weight", (q, h)),
            Weight(f"{a}.self_attn.k_proj.weight", f"{b}.attn_k.weight", (kv, h)),
            Weight(f"{a}.self_attn.v_proj.weight", f"{b}.attn_v.weight", (kv, h)),
            Weight(f"{a}.self_attn.o_proj.weight", f"{b}.attn_output.weight", (h, q)),
            Weight(f"{a}.self_attn.q_norm.weight", f"{b}.attn_q_norm.weight", (shape.head,), 1.0),
            Weight(f"{a}.self_attn.k_norm.weight", f"{b}.attn_k_norm.weight", (shape.head,), 1.0),
            Weight(f"{a}.post_attention_layernorm.weight", f"{b}.post_attention_norm.weight", (h,), 1.0),
            Weight(f"{a}.pre_feedforward_layernorm.weight", f"{b}.ffn_norm.weight", (h,), 1.0),
            Weight(f"{a}.mlp.gate_proj.weight", f"{b}.ffn_gate.weight", (ff, h)),
            Weight(f"{a}.mlp.up_proj.weight", f"{b}.ffn_up.weight", (ff, h)),
            Weight(f"{a}.mlp.down_proj.weight", f"{b}.ffn_down.weight", (h, ff)),
            Weight(f"{a}.post_feedforward_layernorm.weight", f"{b}.post_ffw_norm.weight", (h,), 1.0),
        ]
    return [*found, Weight("model.norm.weight", "output_norm.weight", (h,), 1.0)]


def check_tensors(folder: Folder, plan: list[Weight]) -> None:
    """The checkpoint holds exactly these tensors, in a float type. Raises EdgeError naming the first that is off."""
    _refuse_untied(folder)
    known = {w.source for w in plan} | {"lm_head.weight"}
    stray = sorted(set(folder.tensors) - known)
    lost = [w.source for w in plan if w.source not in folder.tensors]
    if lost:
        raise EdgeError(f"{folder.path}: {len(lost)} of {len(plan)} tensors are missing, first {lost[0]}"
                        + (f"; unknown are {len(stray)}, first {stray[0]}" if stray else ""),
                        "export the whole, merged model as `save_pretrained` writes it")  # fmt: skip
    if stray:
        raise EdgeError(f"{folder.path}: {len(stray)} tensors are unknown, first {stray[0]}",
                        "merge adapters first; tensors left out silently would change the model")  # fmt: skip
    for w in plan:
        t = folder.tensors[w.source]
        if t.shape != w.shape:
            raise EdgeError(f"{t.file}: {w.source} is {list(t.shape)}, by config.json it should be {list(w.shape)}",
                            "config.json and weights are from different models")  # fmt: skip
        if t.dtype not in FLOATS:
            raise EdgeError(f"{t.file}: {w.source} is {t.dtype}", f"export from one of {', '.join(FLOATS)}")


def entries(shape: Shape) -> list[Entry]:
    """The metadata under `gemma3.`, for llama.cpp and for Ollama, which asks for two keys of its own."""
    prefix = f"{ARCHITECTURE}."
    table: list[tuple[str, str, Any]] = [
        ("context_length", "uint32", shape.context),
        ("embedding_length", "uint32", shape.hidden),
        ("block_count", "uint32", shape.layers),
        ("feed_forward_length", "uint32", shape.feed_forward),
        ("attention.head_count", "uint32", shape.heads),
        ("attention.head_count_kv", "uint32", shape.kv_heads),
        ("attention.key_length", "uint32", shape.head),
        ("attention.value_length", "uint32", shape.head),
        ("attention.layer_norm_rms_epsilon", "float32", shape.epsilon),
        ("attention.sliding_window", "uint32", shape.window),
        (
            "attention.sliding_window_pattern",
            "array:bool",
            [not _is_global(n) for n in range(shape.layers)],
        ),  # Ollama's
        ("rope.freq_base", "float32", shape.rope_base),
        ("rope.freq_base_swa", "float32", shape.rope_base_local),
        ("rope.local.freq_base", "float32", shape.rope_base_local),  # Ollama's name for the line above
    ]
    if shape.rope_factor is not None:
        table += [("rope.scaling.type", "string", "linear"), ("rope.scaling.factor", "float32", shape.rope_factor)]
    if shape.softcap:
        table += [("final_logit_softcapping", "float32", shape.softcap)]
    return [Entry(prefix + key, kind, value) for key, kind, value in table]


def _require_text_model(folder: Folder) -> None:
    kind = folder.config.get("model_type")
    names = folder.config.get("architectures") or []
    said = f"{folder.path / 'config.json'}: model_type {kind!r}, architectures {names}"
    if kind == "gemma3":
        raise EdgeError(f"{said}: a Gemma 3 with vision", f"its text part alone can't be taken yet; {_SUPPORTED}")
    if kind != "gemma3_text":
        raise EdgeError(f"{said}: this architecture can't be exported to GGUF", _SUPPORTED)
    if names and "Gemma3ForCausalLM" not in names:
        raise EdgeError(f"{said}: not a language model", _SUPPORTED)


def _shape(c: Json) -> Shape:
    rope: Json = c.get("rope_parameters") or {}
    everywhere: Json = rope.get("full_attention", rope)
    local: Json = rope.get("sliding_attention", {})
    factor = _rope_factor(everywhere if rope else c.get("rope_scaling") or {})
    if _rope_factor(local) is not None:
        raise ValueError("rope scaling of the sliding layers, which llama.cpp does not have")
    return Shape(
        vocabulary=_count(c, "vocab_size"),
        hidden=_count(c, "hidden_size"),
        layers=_count(c, "num_hidden_layers"),
        heads=_count(c, "num_attention_heads"),
        kv_heads=_count(c, "num_key_value_heads"),
        head=_count(c, "head_dim"),
        feed_forward=_count(c, "intermediate_size"),
        window=_count(c, "sliding_window"),
        context=_count(c, "max_position_embeddings"),
        epsilon=float(c["rms_norm_eps"]),
        rope_base=float(everywhere.get("rope_theta") or c.get("rope_theta") or 1e6),
        rope_base_local=float(local.get("rope_theta") or c.get("rope_local_base_freq") or 1e4),
        rope_factor=factor,
        softcap=c.get("final_logit_softcapping"),
    )


def _count(c: Json, key: str) -> int:
    value = c[key]
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} is {value!r}, not a whole number above 0")
    return value


def _rope_factor(rope: Json) -> float | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "linear":
        raise ValueError(f"rope scaling of type {kind!r}")
    return float(rope["factor"])


def _expectations(c: Json, shape: Shape) -> list[tuple[bool, str]]:
    """(holds, what is wrong if not): what llama.cpp's reader and transformers' model must agree on."""
    layer_types = c.get("layer_types")
    scalar = c.get("query_pre_attn_scalar", 256)
    if not isinstance(scalar, (int, float)):
        raise ValueError(f"query_pre_attn_scalar is {scalar!r}, no number")
    scale = shape.hidden // shape.heads if shape.layers == _LAYERS_OF_27B else shape.head
    period = c.get("sliding_window_pattern") or c.get("_sliding_window_pattern") or PERIOD
    wanted = ["full_attention" if _is_global(n) else "sliding_attention" for n in range(shape.layers)]
    bias, activation = c.get("attention_bias"), c.get("hidden_activation", "gelu_pytorch_tanh")
    return [
        (layer_types is None or layer_types == wanted,
         f"layer_types: every sixth layer must be global, the others sliding; it says {layer_types}"),
        (layer_types is not None or period == PERIOD, f"sliding_window_pattern {period}: it must be {PERIOD}"),
        (math.isclose(scalar, scale),
         f"query_pre_attn_scalar {scalar}: llama.cpp scales attention by 1/sqrt({scale}), so it must be {scale}"),
        (c.get("attn_logit_softcapping") is None, "attn_logit_softcapping is set, which Gemma 3 has not"),
        (not c.get("use_bidirectional_attention"), "use_bidirectional_attention: it embeds, it writes no text"),
        (not bias, "attention_bias: biases have no place in GGUF's gemma3"),
        (activation == "gelu_pytorch_tanh", f"hidden_activation {activation!r}: only gelu_pytorch_tanh is run"),
        (shape.heads % shape.kv_heads == 0, f"{shape.heads} attention heads over {shape.kv_heads} key-value heads"),
    ]  # fmt: skip


def _is_global(layer: int) -> bool:
    return (layer + 1) % PERIOD == 0


def _refuse_untied(folder: Folder) -> None:
    if folder.config.get("tie_word_embeddings") is False:
        raise EdgeError(
            f"{folder.path / 'config.json'}: tie_word_embeddings is false: the output matrix is not the embedding",
            "tie them before training, as Gemma 3 does; an untied one can't be exported yet",
        )
