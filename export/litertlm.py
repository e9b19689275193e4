"""`.litertlm` artifacts: a TFLite, its tokenizer and what LiteRT-LM must know, in one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import families, tflite
from edge.export.job import Exported, Job, only_one
from edge.records import Checkpoint

FORMAT = "litertlm"
_CODE = ("edge/export/workers/litertlm.py", "edge/export/litert_template")  # both templates


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    *,
    prefill: tuple[int, ...] = tflite.PREFILL,
    cache: int = tflite.CACHE,
) -> Exported:
    """Make `out/NAME_TAG_ekvCACHE.litertlm` for each, unless it is there already, and the TFLite that it carries.

    Raises: EdgeError for a checkpoint, dialect or shape that can't be exported, WorkerError when a worker fails.
    """
    wanted, shape = tflite.parse_all(quantisations), tflite.shape_of(prefill, cache)
    family = families.require(checkpoints.inspect(checkpoint.path), FORMAT)
    if checkpoint.dialect != family.dialect:
        raise EdgeError(
            f"no .litertlm for the dialect {checkpoint.dialect}: of a {family.name} LiteRT-LM reads {family.dialect} calls",
            "export it as tflite, or as gguf",
        )
    job = Job(checkpoint, FORMAT, out, name, console, environment)
    it = tflite.Bundle("litertlm", "litertlm", {}, _CODE)
    with only_one(out, console, "litert"):
        return tflite.bundle(job, it, wanted, shape)
