"""Families of models: which formats each can become, who converts them, and what their checkpoints hold. Standard library only.

                 gguf   tflite  litertlm  task  onnx
Gemma 3 (text)   ours   yes     yes       yes   yes
Qwen 2.5, 3      llama  yes     yes       -     -
Llama 3          llama  yes     -         -     -

Gemma 3's text models become GGUF through our own converter (`gemma3.py`), which needs no torch, the others through
llama.cpp's; TFLite is made of all of them by litert-torch. Both know many more architectures: a family stands here once
its files were held against transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.export import gemma3
from edge.export.checkpoint import FLOATS, Folder
from edge.records import Json

FORMATS = ("gguf", "tflite", "litertlm", "task", "onnx")


@dataclass(frozen=True)
class Family:
    """name: for people. architecture: the class of transformers, by which converters choose.

    dialect: the one whose calls LiteRT-LM reads from a model of this type. litert_lm: its name for the model type, None if
    it has none.
    """

    name: str
    architecture: str
    dialect: str
    formats: tuple[str, ...]
    litert_lm: str | None


GEMMA = Family("Gemma 3 (text)", "Gemma3ForCausalLM", "functiongemma", FORMATS, "function_gemma")
# model_type -> family
CONVERTED = {
    "qwen2": Family("Qwen 2 and 2.5", "Qwen2ForCausalLM", "hermes", FORMATS[:3], "qwen2p5"),
    "qwen3": Family("Qwen 3", "Qwen3ForCausalLM", "hermes", FORMATS[:3], "qwen3"),
    "llama": Family("Llama 3", "LlamaForCausalLM", "llama3", FORMATS[:2], None),
}
_WHY = {
    "litertlm": "LiteRT-LM has no model type that reads its calls",
    "task": "MediaPipe's bundles carry SentencePiece tokenizers, and this family's is another kind",
    "onnx": "our ONNX exporter knows Gemma 3 alone",
}


@dataclass(frozen=True)
class Plan:
    """What a checkpoint's config.json promises: rows of the embedding, tokens of context, the tensors with their shapes."""

    rows: int
    context: int
    shapes: dict[str, tuple[int, ...]]

    @property
    def elements(self) -> int:
        return sum(math.prod(s) for s in self.shapes.values())


def of(folder: Folder) -> Family | None:
    """The family that llama.cpp's converter takes, None for Gemma 3.

    Raises: EdgeError for any other architecture, and for a model that a runtime would run differently.
    """
    if is_gemma(folder):
        gemma3.read(folder)
        return None
    return converted(folder)


def require(folder: Folder, file_format: str) -> Family:
    """The family, if it can become this format. Raises EdgeError saying which it can."""
    family = of(folder) or GEMMA
    if file_format not in family.formats:
        raise EdgeError(
            f"{folder.path}: a {family.name} can't be exported as {file_format}: {_WHY[file_format]}",
            f"it can be exported as {', '.join(family.formats)}",
        )
    return family


def is_gemma(folder: Folder) -> bool:
    return str(folder.config.get("model_type", "")).startswith("gemma3")


def tokenizer_file(folder: Path) -> Path:
    """What runtimes tokenise a TFLite of this checkpoint with: SentencePiece's model where there is one, else the JSON."""
    model = folder / "tokenizer.model"
    return model if model.is_file() else folder / "tokenizer.json"


def converted(folder: Folder) -> Family:
    """As `of`, without Gemma."""
    c, where = folder.config, folder.path / "config.json"
    family = CONVERTED.get(str(c.get("model_type")))
    names = c.get("architectures") or []
    if family is None or (names and family.architecture not in names):
        known = "; ".join(f"{f.name}: {', '.join(f.formats)}" for f in (GEMMA, *CONVERTED.values()))
        raise EdgeError(
            f"{where}: model_type {c.get('model_type')!r}, architectures {names}: can't be exported to GGUF, nor to any "
            "other format",
            f"formats by architecture: {known}",
        )
    for ok, what in (
        (c.get("hidden_act", "silu") == "silu", f"hidden_act {c.get('hidden_act')!r}: llama.cpp runs silu"),
        (not c.get("use_sliding_window"), "use_sliding_window: llama.cpp attends to everything in this family"),
        (c.get("num_experts") is None, "a mixture of experts"),
    ):
        if not ok:
            raise EdgeError(f"{where}: {what}", f"such a model can't be expressed in GGUF's {c['model_type']}")
    return family


# --- what a checkpoint holds ------------------------------------------------------------------------------------------


def plan(folder: Folder) -> Plan:
    """What the checkpoint should hold; that it does is checked: a loader would fill gaps with random numbers.

    Raises: EdgeError naming the key of config.json, or the first tensor that is off.
    """
    if is_gemma(folder):
        shape = gemma3.read(folder)
        weights = gemma3.weights(shape)
        gemma3.check_tensors(folder, weights)
        return Plan(shape.vocabulary, shape.context, {w.source: w.shape for w in weights})
    converted(folder)
    c, where = folder.config, folder.path / "config.json"
    try:
        found = Plan(_count(c, "vocab_size"), _count(c, "max_position_embeddings"), _shapes(c))
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeError(
            f"{where}: missing or unusable: {error}", "compare it with the config.json of the base model"
        ) from None
    _check_tensors(folder, found)
    return found


def _shapes(c: Json) -> dict[str, tuple[int, ...]]:
    hidden, ff, heads = (_count(c, k) for k in ("hidden_size", "intermediate_size", "num_attention_heads"))
    head = c.get("head_dim") or hidden // heads
    q, kv = heads * head, (c.get("num_key_value_heads") or heads) * head
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (_count(c, "vocab_size"), hidden)}
    for n in range(_count(c, "num_hidden_layers")):
        layer = f"model.layers.{n}."
        attention = {"q_proj": (q, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden), "o_proj": (hidden, q)}
        found.update({f"{layer}self_attn.{name}.weight": shape for name, shape in attention.items()})
        if c["model_type"] == "qwen2":
            found.update(
                {f"{layer}self_attn.{name}.bias": attention[name][:1] for name in ("q_proj", "k_proj", "v_proj")}
            )
        if c["model_type"] == "qwen3":
            found.update({f"{layer}self_attn.{name}.weight": (head,) for name in ("q_norm", "k_norm")})
        mlp = {"gate_proj": (ff, hidden), "up_proj": (ff, hidden), "down_proj": (hidden, ff)}
        found.update({f"{layer}mlp.{name}.weight": shape for name, shape in mlp.items()})
        found.update({f"{layer}{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")})
    found["model.norm.weight"] = (hidden,)
    return found if c.get("tie_word_embeddings") else {**found, "lm_head.weight": (_count(c, "vocab_size"), hidden)}


def _count(c: Json, key: str) -> int:
    value = c[key]
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} is {value!r}, not a whole number above 0")
    return value


def _check_tensors(folder: Folder, wanted: Plan) -> None:
    lost = [name for name in wanted.shapes if name not in folder.tensors]
    if lost:
        raise EdgeError(f"{folder.path}: {len(lost)} of {len(wanted.shapes)} tensors are missing, first {lost[0]}",
                        "export the whole, merged model as `save_pretrained` writes it")  # fmt: skip
    stray = sorted(name for name in folder.tensors if name not in wanted.shapes and not _harmless(name, folder.config))
    if stray:
        raise EdgeError(f"{folder.path}: {len(stray)} tensors are unknown, first {stray[0]}",
                        "merge adapters first; tensors left out silently would change the model")  # fmt: skip
    for name, shape in wanted.shapes.items():
        t = folder.tensors[name]
        if t.shape != shape:
            raise EdgeError(f"{t.file}: {name} is {list(t.shape)}, by config.json it should be {list(shape)}",
                            "config.json and weights are from different models")  # fmt: skip
        if t.dtype not in FLOATS:
            raise EdgeError(f"{t.file}: {name} is {t.dtype}", f"export from one of {', '.join(FLOATS)}")


def _harmless(name: str, c: Json) -> bool:
    """Tensors that a checkpoint may hold besides: a copy of the tied embedding, angles, biases that config.json names."""
    biased: Any = c.get("attention_bias") or c.get("mlp_bias")
    return name == "lm_head.weight" or name.endswith("rotary_emb.inv_freq") or bool(biased and name.endswith(".bias"))
