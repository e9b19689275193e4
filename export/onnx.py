"""ONNX artifacts from a checkpoint: folders that onnxruntime-genai runs as they are.

quantisation     folder           matrices                     embedding and output matrix, which are one
f32              NAME_f32_onnx    float32                      float32
int8             NAME_q8_onnx     int8, a scale for every 32   the same
int4             NAME_q4_onnx     int4, a scale for every 32   the same
int4-emb-int8    NAME_q4e8_onnx   int4, a scale for every 32   int8, a scale for every 32
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from edge import dialects, environments
from edge.console import Console
from edge.environments import Environment, Spec
from edge.export import checkpoint as checkpoints
from edge.export import families, onnx_model
from edge.export.job import Exported, Job, Made, only_one
from edge.export.onnx_model import Quantisation, parse_all
from edge.records import Artifact, Checkpoint

FORMAT = "onnx"
_PARTS = ("checkpoint", "gemma3", "onnx_model", "vocabulary", "workers/onnx")
_CODE = tuple(f"edge/export/{part}.py" for part in _PARTS)  # what decides the bytes of a folder


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    *,
    context: int | None = None,
) -> Exported:
    """Make the folder `out/NAME_TAG_onnx` for each, unless it is there already.

    Args:
        context: tokens of prompt and answer together; 4096, or what the model was trained for if that is less.

    Raises: EdgeError for a checkpoint that can't be exported, WorkerError when the worker fails.
    """
    wanted = parse_all(quantisations)
    families.require(checkpoints.inspect(checkpoint.path), FORMAT)
    shape, _ = onnx_model.read(checkpoints.inspect(checkpoint.path), dialects.get(checkpoint.dialect))
    onnx_model.check_rows(shape, wanted)
    tokens = onnx_model.context_of(shape, context)
    job = Job(checkpoint, FORMAT, out, name, console, environment)
    with only_one(out, console, "onnx"):
        return _export(wanted, job, tokens)


def _export(wanted: list[Quantisation], job: Job, context: int) -> Exported:
    done = {q.name: a for q in wanted if (a := job.kept(_folder(job, q), _key(job, q, context)))}
    todo = [q for q in wanted if q.name not in done]
    lack = environments.missing(environments.spec(environments.script("onnx"))) if todo else None
    missing = [{"what": _folder(job, q).name, "why": f"needs {lack}: GGUF can be exported here"} for q in todo if lack]
    if todo and not lack:
        done.update(_make(job, todo, context))
    return Exported([done[q.name] for q in wanted if q.name in done], missing)


def _make(job: Job, todo: list[Quantisation], context: int) -> dict[str, Artifact]:
    request = {
        "checkpoint": job.checkpoint.path,
        "dialect": job.checkpoint.dialect,
        "context": context,
        "files": [{"quantisation": q.name, "file": _folder(job, q).name} for q in todo],
        "notices": job.checkpoint.notices,
    }
    made = job.run("onnx", request, ", ".join(q.name for q in todo))
    try:
        return {q.name: _place(job, q, context, made) for q in todo}
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


def _place(job: Job, quantisation: Quantisation, context: int, made: Made) -> Artifact:
    told = next(a for a in made.answer["artifacts"] if a["quantisation"] == quantisation.name)
    options = {"key": _key(job, quantisation, context), "context": context}
    return job.place(made, told, _folder(job, quantisation), quantisation.name, options)


def _folder(job: Job, quantisation: Quantisation) -> Path:
    return job.out / f"{job.name}_{quantisation.tag}_onnx"


def _key(job: Job, quantisation: Quantisation, context: int) -> str:
    return job.key(["onnx"], quantisation.name, context, job.checkpoint.notices, code=_CODE)
