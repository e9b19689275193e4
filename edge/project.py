"""`edge.toml`: what one project is made of. Every key, its type, its default and what it means stand in `KEYS` and nowhere else."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

from edge import dialects, renderers
from edge.bench.runtimes import READS
from edge.errors import EdgeError
from edge.export import handoff, onnx_model, quantisations, tflite
from edge.train import presets
from edge.train.data.datasets import Hub, hub_id
from edge.train.readers import DEVELOPER

EMBEDDED = "edge-tiny"
REQUIRED = object()

PARSERS: dict[str, Callable[..., Any]] = {  # of quantisations, by format
    "gguf": quantisations.parse_all,
    "tflite": tflite.parse_all,
    "litertlm": tflite.parse_all,
    "task": tflite.parse_all,
    "onnx": onnx_model.parse_all,
}
RUNTIMES = READS["gguf"]  # auto takes the first that this machine can run
LEAST = {
    "warmup": 0,
    "seed": 0,
    "threads": 0,
    "rows": 0,
    "dropout": 0,
    "weight_decay": 0,
    "spike": 0,
    "eval_rows": 0,
    "eval_steps": 0,
}  # fmt: skip; else 1 for integers, and more than 0 for floats

# table -> key -> (type, default, meaning); list means a list of strings
KEYS: dict[str, dict[str, tuple[type, Any, str]]] = {
    "project": {
        "name": (str, REQUIRED, "names the artifacts"),
    },
    "model": {
        "base": (str, EMBEDDED, "the embedded edge-tiny, a folder, or a hub id such as google/functiongemma-270m-it"),
        "dialect": (str, "functiongemma", "how prompts are written and calls are read"),
        "renderer": (
            str,
            "training",
            "write prompts as this target will: training (the dialect's own), ollama, flutter_gemma, …",
        ),
    },
    "tools": {
        "file": (str, "tools.py", "Python functions with type hints and docstrings (imported: it runs), or JSON"),
    },
    "data": {
        "train": (
            list,
            ["train.jsonl"],
            "files to tune on, globs, or hub datasets: owner/name[@revision][:configuration or glob]",
        ),
        "eval": (list, ["eval.jsonl"], "held-out files to measure on, likewise; rows that say their side keep to it"),
        "developer": (str, DEVELOPER, "the developer message of rows that have none"),
    },
    "train": {
        "preset": (
            str,
            "",
            "settings by name, which the keys below go before (but not before `--preset`): see `edge train --presets`",
        ),
        "method": (str, "lora", "lora, qlora (CUDA only) or full"),
        "epochs": (int, 3, "passes over the training rows"),
        "learning_rate": (float, 2e-4, "the peak (1e-5 if method is full)"),
        "schedule": (str, "cosine", "how it falls after the warm-up: cosine, linear, constant"),
        "warmup": (float, 0.05, "share of the updates over which the learning rate rises"),
        "weight_decay": (float, 0.0, "AdamW's"),
        "batch_size": (int, 8, "rows at once on a device"),
        "accumulate": (int, 1, "batches whose gradients are added before an update"),
        "processes": (int, 1, "processes that share the rows, one a GPU: torchrun is started with that many"),
        "rank": (int, 16, "LoRA's r"),
        "alpha": (int, 32, "LoRA's alpha"),
        "dropout": (float, 0.0, "LoRA's dropout"),
        "dora": (bool, False, "DoRA: LoRA that learns the lengths of the weights apart"),
        "rslora": (bool, False, "rsLoRA: alpha by the root of the rank"),
        "targets": (str, "all-linear", "the modules that LoRA adapts: all-linear, or names with commas between"),
        "max_tokens": (int, 1024, "longest row; longer ones are refused, never cut"),
        "precision": (str, "auto", "auto (bfloat16 where it is faster), bfloat16 or float32; float16 fails in Gemma 3"),
        "attention": (str, "auto", "auto (sdpa where it is found equal to eager), eager or sdpa"),
        "checkpointing": (
            str,
            "auto",
            "compute activations again to save memory: auto (if the estimate asks for it), on, off",
        ),
        "eval_rows": (int, 100, "held-out rows whose loss is looked at, from the top; 0 for none"),
        "eval_steps": (int, 0, "updates between two looks; 0 looks after each epoch"),
        "spike": (
            float,
            3.0,
            "stop at a loss so many times the usual one (and 2 above it; in the first epoch above guessing too); 0 never does",
        ),
        "seed": (int, 0, "of shuffling and LoRA's start"),
        "threads": (int, 0, "CPU threads; 0 takes all cores"),
    },
    "export": {
        "gguf": (list, ["f16", "q8_0", "q4_k_m", "q4_0-emb-q4_0"], "GGUF quantisations"),
        "importance": (bool, False, "weigh GGUF types by what matters to the training rows (an importance matrix)"),
        "tflite": (list, [], "TFLite quantisations: int8, int8-weight-only, int4-block32, int4-channel, f32"),
        "litertlm": (list, [], "the same for .litertlm"),
        "task": (list, [], "the same for .task"),
        "onnx": (list, [], "ONNX quantisations: int8, int4, int4-emb-int8, f32"),
        "cache": (int, 1024, "tokens of prompt and answer together, of what carries a TFLite"),
    },
    "bench": {
        "rows": (int, 300, "evaluation rows to measure on, from the top; 0 takes all"),
        "threads": (int, 0, "CPU threads; 0 takes the physical cores, at most 4"),
        "context": (int, 1024, "tokens of context to allocate"),
        "max_tokens": (int, 128, "longest answer"),
        "chat": (bool, True, "measure .litertlm also as apps run it: LiteRT-LM writes the prompts and reads the calls"),
        "runtime": (str, "auto", "llama_cpp, xllamacpp, or auto: the first that this machine can run"),
    },
    "handoff": {
        "targets": (list, [], "whom `edge run` ends with a folder for: flutter, android, ollama"),
        "artifact": (
            str,
            "auto",
            "a quantisation or a file's name; auto: the smallest proven one that the target loads",
        ),
        "package": (str, "flutter_edge_ai", "of Flutter: flutter_edge_ai (2.x) or flutter_gemma (1.x)"),
        "url": (str, "", "where an app will download the model; empty: it is an asset"),
        "accept": (str, "", "why what speaks against handing over doesn't count; the contract keeps it"),
        "notices": (list, [], "licence sentences besides the model's own"),
        "sign": (str, "", "a minisign secret key, to sign the contracts with"),
    },
}
HANDOFF_PACKAGES = ("flutter_edge_ai", "flutter_gemma")


@dataclass(frozen=True)
class Project:
    """A project as read: paths are absolute, every default filled in. Tables without paths are plain dicts."""

    file: Path
    name: str
    base: str
    dialect: str
    renderer: str
    tools: Path
    train: tuple[Path | Hub, ...]
    eval: tuple[Path | Hub, ...]
    developer: str
    training: dict[str, Any]  # [train], the preset and the defaults filled in
    tuning: dict[str, Any]  # of it what the file itself says
    export: dict[str, list[str]]  # format -> quantisations, those that are asked for
    importance: bool
    cache: int
    bench: dict[str, Any]
    handoff: dict[str, Any] = field(default_factory=dict)  # [handoff]

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def results(self) -> Path:
        return self.folder / "results"


def load(path: Path) -> Project:
    """Read an `edge.toml`, or the one in a folder. Raises EdgeError naming the file, the line and the nearest known key."""
    file = _plain((path / "edge.toml" if path.is_dir() else path).absolute())
    try:
        text = file.read_text(encoding="utf-8")
        given = tomllib.loads(text)
    except FileNotFoundError:
        raise EdgeError(f"{file}: no such file", "`edge init FOLDER` writes a project to start from") from None
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}", "check the path and its rights") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        remedy = (
            'such as: name = "app" below [project]; texts in quotes, lists in []; `edge init --explain` shows every key'
        )
        raise EdgeError(f"{file}: not TOML: {error}", remedy) from None
    values = _Reader(file, text).read(given)
    folder, data = file.parent, values["data"]
    tuning = {key: values["train"][key] for key in given.get("train", {})}
    dialects.get(values["model"]["dialect"])
    renderers.refuse_other(values["model"]["renderer"], values["model"]["dialect"])
    for name, parse_all in PARSERS.items():  # said now, not after an hour of tuning
        if values["export"][name]:
            weighed = {"importance": values["export"]["importance"]} if name == "gguf" else {}
            parse_all(values["export"][name], **weighed)
    for target in values["handoff"]["targets"]:
        formats = handoff.target(target).FORMATS
        if not any(values["export"][name] for name in formats):
            raise EdgeError(
                f"{file}: [handoff] names {target}, and [export] asks for nothing that it loads",
                f"add {' or '.join(formats)} to [export]",
            )
    return Project(
        file=file,
        name=valid_name(values["project"]["name"], file),
        base=values["model"]["base"],
        dialect=values["model"]["dialect"],
        renderer=values["model"]["renderer"],
        tools=_plain(folder / values["tools"]["file"]),
        train=_files(folder, data["train"], file),
        eval=_files(folder, data["eval"], file),
        developer=data["developer"],
        training=presets.resolve(tuning, values["train"]),
        tuning=tuning,
        export={name: wanted for name, wanted in values["export"].items() if name in PARSERS and wanted},
        importance=values["export"]["importance"],
        cache=values["export"]["cache"],
        bench=values["bench"],
        handoff=values["handoff"],
    )


def _plain(path: Path) -> Path:
    """Without `..`; otherwise as it is named, links too."""
    return path.resolve() if ".." in path.parts else path


class _Reader:
    """Checks tables and keys against KEYS, and knows on which line a key stands."""

    def __init__(self, file: Path, text: str) -> None:
        self._file, self._lines = file, text.splitlines()

    def read(self, given: dict[str, Any]) -> dict[str, dict[str, Any]]:
        for table, content in given.items():
            if table not in KEYS:
                self._unknown(table, KEYS, "table")
            if not isinstance(content, dict):
                raise EdgeError(f"{self._where(table)}: {table} is a table: write [{table}]")
            for key in content:
                if key not in KEYS[table]:
                    self._unknown(key, KEYS[table], f"key in [{table}]", table)
        return {table: {k: self._value(table, k, given.get(table, {})) for k in keys} for table, keys in KEYS.items()}

    def _value(self, table: str, key: str, content: dict[str, Any]) -> Any:
        _, default, meaning = KEYS[table][key]
        if key not in content:
            if default is REQUIRED:
                raise EdgeError(f"{self._file}: [{table}] has no {key}", f"{key}: {meaning}")
            return default
        return checked(table, key, content[key], self._where(key, table))

    def _unknown(self, name: str, known: dict[str, Any], what: str, table: str = "") -> None:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise EdgeError(f"{self._where(name, table)}: no {what} named {name!r}", f"{hint}known: {', '.join(known)}")

    def _where(self, name: str, table: str = "") -> str:
        """The file and the line of a key, looked for from its table's header on."""
        header = re.compile(rf"^\s*\[\s*{re.escape(table)}\s*\]")
        start = next((i for i, text in enumerate(self._lines) if table and header.match(text)), 0)
        pattern = re.compile(rf"^\s*\[?\[?\s*[\"']?{re.escape(name)}[\"']?\s*[\].=]")
        line = next((i for i, text in enumerate(self._lines, 1) if i > start and pattern.match(text)), None)
        return f"{self._file}, line {line}" if line else str(self._file)


def checked(table: str, key: str, value: Any, where: str) -> Any:
    """A value as its key takes it. Raises EdgeError for a wrong type or range.

    where: the file and line that it was read from, "" for an option.
    """
    kind, _, meaning = KEYS[table][key]
    named = f"{where}: {key} in [{table}]" if where else key
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, list) and not all(isinstance(v, str) and v for v in value)):
        names = {
            str: "a string",
            int: "an integer",
            float: "a number",
            list: "a list of strings",
            bool: "true or false",
        }
        raise EdgeError(f"{named} must be {names[kind]}, not {value!r}", f"{key}: {meaning}")
    wrong = _wrong(key, value)
    if wrong:
        raise EdgeError(f"{named} {wrong}", f"{key}: {meaning}")
    return value


def _wrong(key: str, value: Any) -> str | None:
    """What is wrong with a value of the right type, if anything."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        least = LEAST.get(key, 1 if isinstance(value, int) else None)
        if least is not None and not value >= least:
            return f"must be at least {least}, not {value}"
        if not math.isfinite(value) or (least is None and value <= 0):
            return f"must be above 0, not {value}"
        if key == "warmup" and value >= 1:
            return f"is a share of the steps, below 1, not {value}"
    told = presets.wrong(key, value)
    if told:
        return told
    if key == "targets" and isinstance(value, list) and (other := [v for v in value if v not in handoff.TARGETS]):
        return f"must be of {', '.join(handoff.TARGETS)}, not {other[0]!r}"
    if key == "package" and value not in HANDOFF_PACKAGES:
        return f"must be {' or '.join(HANDOFF_PACKAGES)}, not {value!r}"
    if key == "runtime" and value not in ("auto", *RUNTIMES):
        return f"must be auto, {' or '.join(RUNTIMES)}, not {value!r}"
    return "must not be empty" if value == "" or (value == [] and key not in PARSERS) else None


def check_training(flags: dict[str, Any], given: dict[str, Any] | None = None) -> dict[str, Any]:
    """All of [train] from some of its keys. Raises EdgeError for a key that isn't one, a value of the wrong type or range.

    given: what an edge.toml says (`Project.tuning`), where `flags` is what was said besides.
    """
    unknown = [key for key in flags if key not in KEYS["train"]]
    if unknown:
        raise EdgeError(f"no setting named {unknown[0]!r}", f"known: {', '.join(KEYS['train'])}")
    defaults = {key: default for key, (_, default, _) in KEYS["train"].items()}
    said = {key: checked("train", key, value, "") for key, value in flags.items()}
    return presets.resolve(given or {}, defaults, said)


def valid_name(name: str, where: object) -> str:
    """A name that artifacts can have as files. Raises EdgeError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise EdgeError(
            f"{where}: name {name!r} can't be a file's name", "use letters, digits, dot, dash and underscore"
        )
    return name


def _files(folder: Path, patterns: list[str], file: Path) -> tuple[Path | Hub, ...]:
    found: list[Path | Hub] = []
    for pattern in patterns:
        path = folder / pattern
        matches: list[Path | Hub] = [path] if path.is_file() else []
        if not matches and not Path(pattern).is_absolute():
            matches = [*sorted(folder.glob(pattern))]
        if not matches and (dataset := hub_id(pattern, folder)):
            matches = [dataset]
        if not matches:
            raise EdgeError(f"{file}: no file {pattern!r} in {folder}", "paths in [data] are relative to edge.toml")
        found.extend(m for m in matches if m not in found)
    return tuple(found)
