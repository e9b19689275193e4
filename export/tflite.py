"""TFLite artifacts from a checkpoint, and what goes on from them: `.litertlm` and `.task` carry a TFLite.

The conversion takes minutes and gigabytes, so it happens once for a checkpoint and a shape: the float32 TFLite is an
artifact of its own, kept by its key, and every quantisation is made from it in seconds.

    quantisation     file tag    the quantizer's recipe
    f32              f32         none
    int8             q8          dynamic_wi8_afp32: int8 weights by channel, activations quantised as they come
    int8-weight-only q8wo        weight_only_wi8_afp32: int8 weights by channel, computed in float32
    int4-block32     q4b32       dynamic_wi4b32_afp32: int4 weights, a scale for every 32
    int4-channel     q4c         dynamic_wi4c_afp32: int4 weights by channel
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge import environments
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import families
from edge.export.job import Exported, Job, Made, only_one
from edge.records import Artifact, Checkpoint, Json

FORMAT = "tflite"
PREFILL, CACHE = (256,), 1024  # tokens; what the seeds convert with
_MAX_CACHE = 32768
_REMAINS = "GGUF can be exported here"
# A conversion is minutes at best: it is not done again for a change elsewhere in edge/export.
_CODE = tuple(
    f"edge/export/{f}.py" for f in ("checkpoint", "families", "gemma3", "litert", "vocabulary", "workers/tflite")
)


@dataclass(frozen=True)
class Quantisation:
    """One of them. tag: in the file's name; recipe: the quantizer's, None for float32."""

    name: str
    tag: str
    recipe: str | None


QUANTISATIONS = {
    q.name: q
    for q in (
        Quantisation("f32", "f32", None),
        Quantisation("int8", "q8", "dynamic_wi8_afp32"),
        Quantisation("int8-weight-only", "q8wo", "weight_only_wi8_afp32"),
        Quantisation("int4-block32", "q4b32", "dynamic_wi4b32_afp32"),
        Quantisation("int4-channel", "q4c", "dynamic_wi4c_afp32"),
    )
}


@dataclass(frozen=True)
class Shape:
    """In tokens. prefill: how many each prefill signature takes at once; cache: prompt and answer together."""

    prefill: tuple[int, ...] = PREFILL
    cache: int = CACHE

    def to_json(self) -> Json:
        return {"prefill": list(self.prefill), "cache": self.cache}


def shape_of(prefill: tuple[int, ...], cache: int) -> Shape:
    """The shape, its lengths in order and each once. Raises EdgeError for lengths that can't work."""
    lengths = tuple(sorted(set(prefill)))
    if not lengths or lengths[0] < 1:
        raise EdgeError(f"prefill lengths {list(prefill)}: at least one is needed, each of 1 token or more")
    if not 2 <= cache <= _MAX_CACHE:
        raise EdgeError(f"a cache of {cache} tokens", f"take 2 to {_MAX_CACHE}; {CACHE} is usual")
    if lengths[-1] > cache:
        raise EdgeError(
            f"a prefill of {lengths[-1]} tokens does not fit a cache of {cache}",
            "take a shorter prefill: a runtime feeds a longer prompt in several pieces",
        )
    return Shape(lengths, cache)


def parse(name: str) -> Quantisation:
    """The quantisation of this name, any case. Raises EdgeError naming the nearest."""
    word = name.strip().lower()
    if word in QUANTISATIONS:
        return QUANTISATIONS[word]
    near = [q.name for q in QUANTISATIONS.values() if word and (q.tag == word or q.name.startswith(word))]
    near = near or difflib.get_close_matches(word, list(QUANTISATIONS), n=1, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise EdgeError(f"no quantisation {name!r}", f"{hint}there are: {' '.join(QUANTISATIONS)}")


def parse_all(names: list[str]) -> list[Quantisation]:
    """Several, in order, each once. Raises EdgeError if there are none."""
    found = {q.name: q for q in map(parse, names)}
    if not found:
        raise EdgeError("no quantisation given", "name at least one, such as int8")
    return list(found.values())


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    *,
    prefill: tuple[int, ...] = PREFILL,
    cache: int = CACHE,
) -> Exported:
    """Make `out/NAME_TAG_ekvCACHE.tflite` for each, unless it is there already; the float32 one is made along.

    Raises: EdgeError for a checkpoint or a shape that can't be exported, WorkerError when the worker fails.
    """
    wanted, shape = parse_all(quantisations), shape_of(prefill, cache)
    job = Job(checkpoint, FORMAT, out, name, console, environment)
    with only_one(out, console, "litert"):
        return make(job, wanted, shape)


def make(job: Job, wanted: list[Quantisation], shape: Shape) -> Exported:
    """The same for those that hold the folder's lock already: it can't be taken twice."""
    families.require(checkpoints.inspect(job.checkpoint.path), FORMAT)  # refused before anything is built
    done = {q.name: a for q in wanted if (a := job.kept(_file(job, q, shape), _key(job, q, shape)))}
    todo = [q for q in wanted if q.name not in done]
    lack = environments.missing(environments.spec(environments.script("tflite"))) if todo else None
    if lack:
        missing = [{"what": _file(job, q, shape).name, "why": f"needs {lack}: {_REMAINS}"} for q in todo]
        return Exported([done[q.name] for q in wanted if q.name in done], missing)
    if todo:
        done.update(_make(job, todo, shape))
    return Exported([done[q.name] for q in wanted], [])


def _make(job: Job, todo: list[Quantisation], shape: Shape) -> dict[str, Artifact]:
    plain = QUANTISATIONS["f32"]
    source = job.kept(_file(job, plain, shape), _key(job, plain, shape)) if plain not in todo else None
    todo = todo if source or plain in todo else [plain, *todo]
    request = {
        "checkpoint": job.checkpoint.path,
        "dialect": job.checkpoint.dialect,
        "source": source.path if source else None,
        "files": [{"quantisation": q.name, "recipe": q.recipe, "file": _file(job, q, shape).name} for q in todo],
        **shape.to_json(),
    }
    made = job.run("tflite", request, ", ".join(q.name for q in todo))
    try:
        if source:  # what was done to the weights was done when it was made
            made = replace(made, answer={**made.answer, "checks": {**made.answer["checks"], **_of_conversion(source)}})
        return {q.name: _place(job, q, shape, made) for q in todo}
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


def _of_conversion(source: Artifact) -> Json:
    return {k: v for k, v in source.checks.items() if k in ("cut_rows", "filled_blocks", "tensors")}


def _place(job: Job, quantisation: Quantisation, shape: Shape, made: Made) -> Artifact:
    told = next(a for a in made.answer["artifacts"] if a["quantisation"] == quantisation.name)
    options = {"key": _key(job, quantisation, shape), **shape.to_json()}
    return job.place(made, told, _file(job, quantisation, shape), quantisation.name, options)


def _file(job: Job, quantisation: Quantisation, shape: Shape) -> Path:
    return job.out / file_name(job.name, quantisation, shape, "tflite")


def _key(job: Job, quantisation: Quantisation, shape: Shape) -> str:
    return job.key(["tflite"], quantisation.name, shape.to_json(), code=_CODE)


# --- what carries a TFLite --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bundle:
    """A format that wraps a TFLite.

    exporter: the worker. ending: of the file's name, after the cache length. options: the worker's own. code: files that
    decide what it writes, besides those that decide what the TFLite is.
    """

    exporter: str
    ending: str
    options: Json
    code: tuple[str, ...]


def bundle(job: Job, it: Bundle, wanted: list[Quantisation], shape: Shape) -> Exported:
    """Make the bundles that are not there yet, each from its TFLite, which is made if need be. Needs the lock."""
    families.require(checkpoints.inspect(job.checkpoint.path), job.format)
    files = {q.name: job.out / file_name(job.name, q, shape, it.ending) for q in wanted}
    code = (*_CODE, *it.code)
    workers, more = ["tflite", it.exporter], (shape.to_json(), it.options, job.checkpoint.notices)
    keys = {q.name: job.key(workers, q.name, *more, code=code) for q in wanted}
    done = {q.name: a for q in wanted if (a := job.kept(files[q.name], keys[q.name]))}
    todo = [q for q in wanted if q.name not in done]
    lack = environments.missing(environments.spec(environments.script(it.exporter))) if todo else None
    if lack:
        missing = [{"what": files[q.name].name, "why": f"needs {lack}: {_REMAINS}"} for q in todo]
        return Exported([done[q.name] for q in wanted if q.name in done], missing)
    models = make(replace(job, format=FORMAT), todo, shape) if todo else Exported([], [])
    if models.missing:
        missing = [{"what": files[q.name].name, "why": models.missing[0]["why"]} for q in todo]
        return Exported([done[q.name] for q in wanted if q.name in done], missing)
    if todo:
        done.update(_bundle(job, it, models.artifacts, files, keys, shape))
    return Exported([done[q.name] for q in wanted], [])


def _bundle(
    job: Job, it: Bundle, models: list[Artifact], files: dict[str, Path], keys: dict[str, str], shape: Shape
) -> dict[str, Artifact]:
    request = {
        "checkpoint": job.checkpoint.path,
        "dialect": job.checkpoint.dialect,
        "cache": shape.cache,
        "files": [
            {"quantisation": m.quantisation, "model": m.path, "sha256": m.digest, "file": files[m.quantisation].name}
            for m in models
        ],
        "notices": job.checkpoint.notices,
        **it.options,
    }
    made = job.run(it.exporter, request, ", ".join(m.quantisation for m in models))
    try:
        return {m.quantisation: _place_bundle(job, it, made, m, files, keys, shape) for m in models}
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


def _place_bundle(
    job: Job, it: Bundle, made: Made, model: Artifact, files: dict[str, Path], keys: dict[str, str], shape: Shape
) -> Artifact:
    name = model.quantisation
    told = next(a for a in made.answer["artifacts"] if a["quantisation"] == name)
    checks = {**_of_conversion(model), **made.answer["checks"]}
    options = {"key": keys[name], **shape.to_json(), **it.options}
    return job.place(replace(made, answer={**made.answer, "checks": checks}), told, files[name], name, options)


def file_name(name: str, quantisation: Quantisation, shape: Shape, ending: str) -> str:
    """As the seeds name theirs: `functiongemma_q8_ekv1024.task`."""
    separator = "" if ending.startswith("_") else "."
    return f"{name}_{quantisation.tag}_ekv{shape.cache}{separator}{ending}"
