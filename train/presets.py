"""Settings of a tuning run: what each key may be, the presets by name with a reason for every value, and which one wins.

A flag goes before a preset that was named by a flag, that before the keys of edge.toml, those before a preset that
edge.toml names, that before the method's own defaults, those before the defaults in `edge/project.py`. The presets are
four published ways of tuning FunctionGemma by hand; where such a recipe is silent, the value is ours and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from edge.errors import EdgeError

Json = dict[str, Any]

CHOICES: dict[str, tuple[str, ...]] = {
    "method": ("lora", "qlora", "full"),
    "schedule": ("cosine", "linear", "constant"),
    "precision": ("auto", "bfloat16", "float32"),
    "attention": ("auto", "eager", "sdpa"),
    "checkpointing": ("auto", "on", "off"),
}
HALF = ("float16", "fp16", "half")
NO_HALF = (
    "float16 is refused: Gemma 3's activations pass its largest number, 65,504, and the loss becomes NaN;"
    " bfloat16 holds them, and float32 where the device has no bfloat16"
)
METHODS: dict[str, Json] = {"lora": {}, "qlora": {}, "full": {"learning_rate": 1e-5}}
ABOUT_METHODS = {
    "lora": "small matrices beside the frozen weights are trained, then merged in float32",
    "qlora": "the same over weights of 4 bits (bitsandbytes; CUDA only): for little GPU memory",
    "full": "every weight is trained: 16 bytes of memory a parameter; learning_rate defaults to 1e-5",
}


class Value(NamedTuple):
    value: Any
    why: str


@dataclass(frozen=True)
class Preset:
    about: str
    values: dict[str, Value]
    note: str = ""


_BF16 = Value("auto", "bfloat16 as in the recipe where the device has it, float32 elsewhere")
_BATCH = Value(4, "rows at once; with accumulate = 8 an update sees 32 rows a device")
_ACCUMULATE = Value(8, "the recipe's")
_GOOGLE_RATE = Value(1e-5, "low, since every weight moves: forgets little of what the base can do")

PRESETS: dict[str, Preset] = {
    "mobile-actions": Preset(
        "Google's recipe for FunctionGemma 270M on Mobile Actions: 9,654 rows, all weights",
        {
            "method": Value("full", "the recipe trains every weight"),
            "epochs": Value(2, "passes over the rows"),
            "batch_size": _BATCH,
            "accumulate": _ACCUMULATE,
            "learning_rate": _GOOGLE_RATE,
            "schedule": Value("cosine", "falls to zero over the run"),
            "warmup": Value(0.0, "the recipe names none"),
            "max_tokens": Value(997, "the recipe's; longer rows are refused here, not cut"),
            "precision": _BF16,
            "checkpointing": Value("auto", "on in the recipe; here if the memory estimate asks for it"),
            "eval_steps": Value(50, "updates between two looks at the held-out loss"),
        },
        "the loss is over completions alone, as completion_only_loss=True there",
    ),
    "flutter": Preset(
        "flutter_gemma's notebook: three tools, 284 rows, all weights",
        {
            "method": Value("full", "the notebook trains every weight"),
            "epochs": Value(3, "little data: three passes"),
            "batch_size": _BATCH,
            "accumulate": _ACCUMULATE,
            "learning_rate": _GOOGLE_RATE,
            "schedule": Value("cosine", "smooth decay"),
            "warmup": Value(0.1, "the first tenth of the updates rises, while Adam's averages settle"),
            "max_tokens": Value(1024, "the notebook's; longer rows are refused here, not cut"),
            "precision": _BF16,
        },
        "the notebook's loss is over prompts as well, ours over completions alone",
    ),
    "korean-lora": Preset(
        "LoRA on Korean requests for an air conditioner, run on a CPU afterwards",
        {
            "method": Value("lora", "an adapter, kept beside the merged checkpoint"),
            "epochs": Value(3, "passes over the rows"),
            "batch_size": Value(2, "rows at once; with accumulate = 8 an update sees 16 rows a device"),
            "accumulate": _ACCUMULATE,
            "learning_rate": Value(1e-4, "ten times that of all weights: only the adapter moves"),
        },
        "its FG_USE_FP16=1 is refused: float16 overflows in Gemma 3; rank and alpha are ours, the guide names none",
    ),
    "turing-6gb": Preset(
        "QLoRA on a GPU of 6 GB without bfloat16 (GTX 1660 SUPER): 900 rows in 92 minutes",
        {
            "method": Value("qlora", "weights of 4 bits leave room for the activations"),
            "precision": Value("float32", "Turing has no bfloat16, and float16 becomes NaN in Gemma 3"),
            "batch_size": Value(1, "ours: the report names none; one row at a time fits in 6 GB"),
            "accumulate": Value(16, "ours: an update of 16 rows"),
            "learning_rate": Value(2e-4, "ours: usual for QLoRA"),
            "checkpointing": Value("on", "ours: activations are computed again instead of kept"),
        },
        "merged in float32 from the base's own weights, not from the 4 bits",
    ),
}


def resolve(given: Json, defaults: Json, flags: Optional[Json] = None) -> Json:
    """Every setting of a run. Raises EdgeError for a preset that doesn't exist.

    Args:
        given: what edge.toml says, `preset` among it.
        defaults: of every key.
        flags: what was said for this run alone, likewise.
    """
    flags = flags or {}
    preset = _values({**given, **flags})
    chosen = {**given, **preset, **flags} if flags.get("preset") else {**preset, **given, **flags}
    method = chosen.get("method") or defaults["method"]
    return {**defaults, **METHODS[method], **chosen}


def differing(given: Json, flags: Optional[Json] = None) -> list[str]:
    """Where edge.toml and the preset want different values, and which one counts: a line each. Arguments as of `resolve`."""
    flags = flags or {}
    preset = _values({**given, **flags})
    lines = []
    for key, value in preset.items():
        if key in given and key not in flags and given[key] != value:
            ours, its = f"edge.toml's {key} {given[key]}", f"the preset's {key} {value}"
            first, second = (its, ours) if flags.get("preset") else (ours, its)
            lines.append(f"{first} goes before {second.replace(f' {key}', '')}")
    return lines


def _values(given: Json) -> Json:
    """Of the preset that is named, {} without one. Raises EdgeError for one that doesn't exist."""
    name = given.get("preset") or ""
    if name and name not in PRESETS:
        raise EdgeError(
            f"no preset named {name!r}", f"known: {', '.join(PRESETS)}; `edge train --presets` explains them"
        )
    return {key: it.value for key, it in PRESETS[name].values.items()} if name else {}


def wrong(key: str, value: Any) -> Optional[str]:
    """What is wrong with a value of the right type, if anything: "must be …"."""
    if key == "precision" and value in HALF:
        return f"can't be {value}: {NO_HALF.removeprefix('float16 is refused: ')}"
    if key == "preset" and value not in PRESETS:
        return f"must be {' or '.join(PRESETS)}, not {value!r}"
    if key in CHOICES and value not in CHOICES[key]:
        return f"must be {', '.join(CHOICES[key][:-1])} or {CHOICES[key][-1]}, not {value!r}"
    if key == "dropout" and not value < 1:
        return f"is a share, below 1, not {value}"
    return None


def to_json() -> Json:
    return {
        name: {
            "about": it.about,
            "note": it.note,
            "values": {key: {"value": v.value, "why": v.why} for key, v in it.values.items()},
        }
        for name, it in PRESETS.items()
    }


def explain() -> str:
    """Every preset with its values and their reasons, and the methods: for people."""
    lines = []
    for name, it in PRESETS.items():
        lines.append(f"{name}: {it.about}")
        lines += [f"    {key:<14} {v.value!s:<9} {v.why}" for key, v in it.values.items()]
        lines += [f"    note: {it.note}", ""]
    lines.append("methods:")
    lines += [f"    {name:<6} {about}" for name, about in ABOUT_METHODS.items()]
    return "\n".join(lines)
