"""Which families of models can become GGUF, and who converts them. Standard library only.

Gemma 3's text models go through our own converter (`gemma3.py`), which needs no torch; those below through llama.cpp's.
That one knows many more architectures: a family stands here once its files were held against transformers.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import EdgeError
from edge.export import gemma3
from edge.export.checkpoint import Folder


@dataclass(frozen=True)
class Family:
    """name: for people. architecture: the class of transformers, by which llama.cpp's converter chooses."""

    name: str
    architecture: str


# model_type -> family
CONVERTED = {
    "qwen2": Family("Qwen 2 and 2.5", "Qwen2ForCausalLM"),
    "qwen3": Family("Qwen 3", "Qwen3ForCausalLM"),
    "llama": Family("Llama 3", "LlamaForCausalLM"),
}


def of(folder: Folder) -> Family | None:
    """The family that llama.cpp's converter takes, None for Gemma 3.

    Raises: EdgeError for any other architecture, and for a model that llama.cpp would run differently.
    """
    if str(folder.config.get("model_type", "")).startswith("gemma3"):
        gemma3.read(folder)
        return None
    return converted(folder)


def converted(folder: Folder) -> Family:
    """As `of`, without Gemma."""
    c, where = folder.config, folder.path / "config.json"
    family = CONVERTED.get(str(c.get("model_type")))
    names = c.get("architectures") or []
    if family is None or (names and family.architecture not in names):
        known = ", ".join(f.name for f in CONVERTED.values())
        raise EdgeError(
            f"{where}: model_type {c.get('model_type')!r}, architectures {names}: can't be exported to GGUF",
            f"GGUF: Gemma 3 (text), {known}; tflite, litertlm and task: Gemma 3 (text) alone, so no format remains for "
            "this one; `edge export --help` lists the formats",
        )
    for ok, what in (
        (c.get("hidden_act", "silu") == "silu", f"hidden_act {c.get('hidden_act')!r}: llama.cpp runs silu"),
        (not c.get("use_sliding_window"), "use_sliding_window: llama.cpp attends to everything in this family"),
        (c.get("num_experts") is None, "a mixture of experts"),
    ):
        if not ok:
            raise EdgeError(f"{where}: {what}", f"such a model can't be expressed in GGUF's {c['model_type']}")
    return family
