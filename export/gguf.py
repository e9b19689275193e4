"""GGUF artifacts from a checkpoint: which worker makes which quantisation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge import environments
from edge.console import Console
from edge.environments import Environment, Spec
from edge.export.job import Exported, Job, Made, only_one
from edge.export.quantisations import Quantisation, parse_all
from edge.records import Artifact, Checkpoint

FORMAT = "gguf"
_PARTS = ("gguf", "gguf_file", "gemma3", "checkpoint", "quantisations", "vocabulary", "token_check", "workers/gguf",
          "workers/quantise")  # fmt: skip
_CODE = tuple(f"edge/export/{part}.py" for part in _PARTS)  # what decides the bytes of a file


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
) -> Exported:
    """Make `out/NAME-QUANTISATION.gguf` for each, unless it is there already.

    Quantisations that need a compiler are left out, and said so, where there is none.

    Raises: EdgeError for a checkpoint that can't be exported, WorkerError when a worker fails.
    """
    wanted = parse_all(quantisations)
    job = Job(checkpoint, FORMAT, out, name, console, environment)
    with only_one(out, console):
        return _export(wanted, job)


def _export(wanted: list[Quantisation], job: Job) -> Exported:
    done = {q.name: a for q in wanted if (a := job.kept(_file(job, q), _key(job, q)))}
    todo = [q for q in wanted if q.name not in done]
    by_numpy = [q for q in todo if q.made_by == "numpy"]
    by_llama = [q for q in todo if q.made_by != "numpy"]
    lack = environments.missing(environments.spec(environments.script("quantise"))) if by_llama else None
    missing = [{"what": _file(job, q).name, "why": f"needs {lack}"} for q in by_llama] if lack else []
    by_llama = [] if lack else by_llama
    if by_numpy or by_llama:
        done.update(_make(job, by_numpy, by_llama))
    return Exported([done[q.name] for q in wanted if q.name in done], missing)


def _file(job: Job, quantisation: Quantisation) -> Path:
    return job.out / f"{job.name}-{quantisation.name}.gguf"


def _key(job: Job, quantisation: Quantisation) -> str:
    workers = ["gguf"] if quantisation.made_by == "numpy" else ["gguf", "quantise"]
    return job.key(workers, quantisation.name, code=_CODE)


def _make(job: Job, by_numpy: list[Quantisation], by_llama: list[Quantisation]) -> dict[str, Artifact]:
    names = [q.name for q in by_numpy]
    names += ["f16"] if by_llama and "f16" not in names else []  # what llama.cpp quantises from
    request = {"checkpoint": job.checkpoint.path, "dialect": job.checkpoint.dialect, "quantisations": names}
    made = job.run("gguf", request, ", ".join(names))
    folders = [made.folder]
    try:
        done = {}
        if by_llama:
            chosen = [q.name for q in by_llama]
            source = str(made.folder / f"{job.name}-f16.gguf")
            again = job.run("quantise", {"source": source, "quantisations": chosen}, ", ".join(chosen))
            folders.append(again.folder)
            # What is true of the source's metadata is true of its quantisations: llama.cpp carries it over.
            checks = {**made.answer["checks"], **again.answer["checks"]}
            again = replace(again, answer={**made.answer, **again.answer, "checks": checks})
            done = {q.name: _place(job, q, again) for q in by_llama}
        return {**done, **{q.name: _place(job, q, made) for q in by_numpy}}
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _place(job: Job, quantisation: Quantisation, made: Made) -> Artifact:
    told = next(a for a in made.answer["artifacts"] if a["quantisation"] == quantisation.name)
    told = {**told, "checks": {"tensor_types": told["tensor_types"]}}
    options = {"key": _key(job, quantisation)}
    return job.place(made, told, _file(job, quantisation), quantisation.name, options)
