"""GGUF artifacts from a checkpoint: which worker makes which quantisation.

Gemma 3         our own converter (`workers/gguf.py`), numpy for what numpy can, llama.cpp for the rest
Qwen, Llama     llama.cpp's converter (`workers/convert_hf.py`) for f32, f16, bf16, q8_0, llama.cpp for the rest
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge import environments, records
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import families, importance
from edge.export.importance import Importance
from edge.export.job import Exported, Job, Made, only_one
from edge.export.quantisations import Quantisation, parse_all
from edge.records import Artifact, Checkpoint, Json

FORMAT = "gguf"
IMPORTANCE_TOKENS = 50_000  # that an importance matrix is made from, as many as llama.cpp's usual 100 chunks of 512
_PARTS = ("gguf", "gguf_file", "gemma3", "checkpoint", "families", "importance", "quantisations", "vocabulary",
          "token_check", "workers/gguf", "workers/convert_hf", "workers/imatrix", "workers/quantise")  # fmt: skip
_CODE = tuple(f"edge/export/{part}.py" for part in _PARTS)  # what decides the bytes of a file
_BY_LLAMAS_CONVERTER = ("f32", "f16", "bf16", "q8_0")


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    rows: Path | None = None,
) -> Exported:
    """Make `out/NAME-QUANTISATION.gguf` for each, unless it is there already.

    Quantisations that need a compiler are left out, and said so, where there is none.

    Args:
        rows: JSON lines {"prompt", "completion"}, exact texts: an importance matrix is made from them, `out/NAME.imatrix`,
            and used for every quantisation that it changes.

    Raises: EdgeError for a checkpoint that can't be exported, WorkerError when a worker fails.
    """
    if rows and not rows.is_file():
        raise EdgeError(f"{rows}: no such file", 'give JSON lines {"prompt": "…", "completion": "…"}')
    wanted = parse_all(quantisations, importance=rows is not None)
    family = families.of(checkpoints.inspect(checkpoint.path))
    job = Job(checkpoint, FORMAT, out, name, console, environment)
    with only_one(out, console, "gguf"):
        return _Export(job, "convert_hf" if family else "gguf", rows).run(wanted)


@dataclass
class _Export:
    """converter: the worker that reads the checkpoint. rows: of the importance matrix, None for none."""

    job: Job
    converter: str
    rows: Path | None

    def __post_init__(self) -> None:
        self._rows_digest = records.digest_path(self.rows) if self.rows else None

    def run(self, wanted: list[Quantisation]) -> Exported:
        job = self.job
        done = {q.name: a for q in wanted if (a := job.kept(self._file(q), self._key(q)))}
        todo = [q for q in wanted if q.name not in done]
        direct = [q for q in todo if not self._by_llama(q)]
        by_llama = [q for q in todo if self._by_llama(q)]
        lack = environments.missing(environments.spec(environments.script("quantise"))) if by_llama else None
        missing = [{"what": self._file(q).name, "why": f"needs {lack}"} for q in by_llama] if lack else []
        by_llama = [] if lack else by_llama
        if direct or by_llama:
            done.update(self._make(direct, by_llama))
        return Exported([done[q.name] for q in wanted if q.name in done], missing)

    def _by_llama(self, q: Quantisation) -> bool:
        """Whether the quantise worker makes it, which needs a compiler."""
        if self.converter == "convert_hf":
            return q.name not in _BY_LLAMAS_CONVERTER
        return q.made_by != "numpy" or self._weighted(q)

    def _weighted(self, q: Quantisation) -> bool:
        return q.weighted and self.rows is not None

    def _file(self, q: Quantisation) -> Path:
        return self.job.out / f"{self.job.name}-{q.name}.gguf"

    def _key(self, q: Quantisation) -> str:
        workers = [self.converter, *(["quantise"] if self._by_llama(q) else [])]
        weights = [self._importance_key()] if self._weighted(q) else []
        return self.job.key(workers, q.name, *weights, code=_CODE)

    def _make(self, direct: list[Quantisation], by_llama: list[Quantisation]) -> dict[str, Artifact]:
        job = self.job
        names = [q.name for q in direct]
        names += ["f16"] if by_llama and "f16" not in names else []  # what llama.cpp quantises from
        weights = self._importance() if any(self._weighted(q) for q in by_llama) else None
        request = {"checkpoint": job.checkpoint.path, "dialect": job.checkpoint.dialect, "quantisations": names}
        made = job.run(self.converter, request, ", ".join(names))
        folders = [made.folder]
        try:
            done = {}
            if by_llama:
                chosen = [q.name for q in by_llama]
                again = self._quantise(made.folder / f"{job.name}-f16.gguf", chosen, weights)
                folders.append(again.folder)
                # What is true of the source's metadata is true of its quantisations: llama.cpp carries it over.
                checks = {**made.answer["checks"], **again.answer["checks"]}
                again = replace(again, answer={**made.answer, **again.answer, "checks": checks})
                done = {q.name: self._place(q, again, weights) for q in by_llama}
            return {**done, **{q.name: self._place(q, made, None) for q in direct}}
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def _quantise(self, source: Path, names: list[str], weights: Importance | None) -> Made:
        request: Json = {"source": str(source), "quantisations": names}
        if weights:
            request.update(importance=str(self._importance_file()), checkpoint=self.job.checkpoint.digest)
        return self.job.run("quantise", request, ", ".join(names))

    def _place(self, q: Quantisation, made: Made, weights: Importance | None) -> Artifact:
        told = next(a for a in made.answer["artifacts"] if a["quantisation"] == q.name)
        told = {**told, "checks": {"tensor_types": told["tensor_types"]}}
        options: Json = {"key": self._key(q)}
        if weights and self._weighted(q):
            options["importance"] = weights.facts()
        return self.job.place(made, told, self._file(q), q.name, options)

    # the importance matrix

    def _importance_file(self) -> Path:
        return self.job.out / f"{self.job.name}.imatrix"

    def _importance_key(self) -> str:
        return self.job.key(["imatrix"], self._rows_digest, IMPORTANCE_TOKENS, code=_CODE)

    def _importance(self) -> Importance:
        """The matrix that lies there, if it is the one that would be made; else a new one."""
        file, key = self._importance_file(), self._importance_key()
        note = file.with_name(f"{file.name}.json")
        if file.exists() and note.exists():
            try:
                if records.read_json(note) == {"key": key, "digest": records.digest_path(file)}:
                    return importance.read(file)
            except (EdgeError, ValueError):
                pass
        request = {
            "checkpoint": self.job.checkpoint.path, "digest": self.job.checkpoint.digest, "rows": str(self.rows),
            "rows_sha256": self._rows_digest, "most_tokens": IMPORTANCE_TOKENS,
        }  # fmt: skip
        made = self.job.run("imatrix", request, "an importance matrix")
        note.unlink(missing_ok=True)
        (made.folder / made.answer["file"]).replace(file)
        shutil.rmtree(made.folder, ignore_errors=True)
        records.save({"key": key, "digest": records.digest_path(file)}, note)
        return importance.read(file)
