"""`edge push`: a checkpoint, an adapter or artifacts go to the hub, with a card, a notice and their records.

What must not be handed on is not pushed: a refused artifact never, one that lost something or that nobody has proven or
measured only for a stated reason, which the card repeats. Manifests go along without the paths of this machine. The
worker is `workers/push.py`; the token is found by `credentials.py`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import edge
from edge import records
from edge.errors import EdgeError, GateError, MissingError
from edge.export import checkpoint as checkpoints
from edge.export.job import GEMMA_NOTICE, manifest_of, refused_of
from edge.records import Artifact, Checkpoint, Json
from edge.train import card, credentials, hub, tiny
from edge.train.fetching import Client, parsed

REFUSED = refused_of(Path("x")).name[1:]  # the ending of what must not be handed on
CARD, NOTICE = "README.md", "NOTICE"  # what is written here
_NEAR = ("*/checkpoint.json", "../*/checkpoint.json", "../../*/checkpoint.json", "../../build/*/checkpoint.json")


@dataclass(frozen=True)
class Options:
    """How to push, and what the card shall say where the records don't.

    private: make the repository so. revision: a branch. accept: why artifacts with a loss, or without proof, may go. base: a
    hub id. license: its id on the hub. datasets: hub ids. results: a report.json or an evaluation.json, None for the
    project's.
    """

    private: bool = False
    revision: str | None = None
    accept: str | None = None
    base: str | None = None
    license: str | None = None
    datasets: Sequence[str] = ()
    results: Path | None = None


@dataclass(frozen=True)
class Load:
    """What would be pushed, and what not: {name: why}. files: {path in the repository: file here}."""

    kind: str
    files: dict[str, Path]
    artifacts: list[Artifact] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    named_base: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)


def push(path: Path, name: str, client: Client, options: Options | None = None, dry_run: bool = False) -> Json:
    """Push what lies at `path` to the repository `name`.

    Args:
        dry_run: say what would be done; the hub is not asked.

    Returns: {"repository", "kind", "files": {path: bytes}, "left_out": {name: why}, "accepted", "card"} and, if it was
    done, "url", "commit", "created", "sent", "kept", "sent_bytes".

    Raises: EdgeError for what can't be pushed, GateError for what must not be, MissingError for a login or rights that
    are missing.
    """
    wanted = options or Options()
    repository = parsed(name)
    if repository.revision and wanted.revision:
        raise EdgeError(f"{name}: a branch in the name and another option for it", "give one of them")
    branch = wanted.revision or repository.revision
    results = _results(path, wanted.results)
    load = gather(path, results[0], wanted.accept)
    with tempfile.TemporaryDirectory() as folder:
        desk = Path(folder)
        files = {inside: _public(file, load, desk, wanted) for inside, file in load.files.items()}
        story = _story(repository.name, load, files, results, wanted)
        if story.notices:
            files[NOTICE] = _written(desk / NOTICE, "\n\n".join(story.notices) + "\n")
        text = card.write(story)  # which lists the files so far
        files[CARD] = _written(desk / CARD, text)
        answer = {"repository": str(hub.Id(repository.name, branch)), "kind": load.kind,
                  "files": {p: f.stat().st_size for p, f in files.items()}, "left_out": load.left_out,
                  "accepted": load.accepted, "card": text}  # fmt: skip
        if not dry_run:
            answer |= _send(repository.name, branch, files, wanted, client, desk)
    return answer


def _written(file: Path, text: str) -> Path:
    records.write_text(file, text)
    return file


def _send(name: str, branch: str | None, files: dict[str, Path], options: Options, client: Client, desk: Path) -> Json:
    if credentials.token(client.folder).value is None:
        raise MissingError(
            f"{name}: whoever pushes must be logged in, and nobody is",
            "set HF_TOKEN to a token with write access, here or in .env",
        )
    request = {
        "model": name,
        "revision": branch,
        "private": options.private,
        "message": f"Pushed with edge {edge.__version__}",
        "files": {path: str(file.absolute()) for path, file in files.items()},
    }
    answer = client.run("push", request, desk / "push", f"pushing to {hub.Id(name, branch)}")
    return {k: answer[k] for k in ("url", "commit", "created", "sent", "kept", "sent_bytes")}


# --- what there is ----------------------------------------------------------------------------------------------------


def gather(path: Path, report: Json, accept: str | None = None) -> Load:
    """What at `path` may be pushed.

    report: a report.json, {} for none. accept: see Options.

    Raises: EdgeError for what is nothing of ours, GateError if nothing of it may be pushed.
    """
    if path.is_dir() and (path / "config.json").is_file() and not (path / hub.ONNX).is_file():
        return _checkpoint(path)
    if path.is_dir() and (path / "adapter_config.json").is_file():
        return _adapter(path)
    if path.is_dir() and not (path / hub.ONNX).is_file():
        found = sorted(
            f
            for f in path.iterdir()
            if f.name.removesuffix(REFUSED).endswith(hub.ARTIFACTS) or (f / hub.ONNX).is_file()
        )
        return _artifacts(path, found, report, accept)
    return _artifacts(path, [path], report, accept)


def _checkpoint(path: Path) -> Load:
    checkpoints.inspect(path)
    names = hub.checkpoint_files([f.name for f in path.iterdir() if f.is_file()])
    return Load("checkpoint", {n: path / n for n in sorted(names) if n not in (CARD, NOTICE)}, checkpoint=_record(path))


def _adapter(path: Path) -> Load:
    weights = path / "adapter_model.safetensors"
    if not weights.is_file():
        raise EdgeError(f"{path}: no adapter_model.safetensors in it", "copy the adapter's whole folder")
    checkpoints.read_header(weights)
    names = hub.checkpoint_files([f.name for f in path.iterdir() if f.is_file()])
    told = records.read_json(path / "adapter_config.json")
    named = told.get("base_model_name_or_path") if isinstance(told, dict) else None
    files = {n: path / n for n in sorted(names) if n not in (CARD, NOTICE)}
    return Load("adapter", files, checkpoint=_record(path.resolve().parent), named_base=named or None)


def _artifacts(path: Path, found: list[Path], report: Json, accept: str | None) -> Load:
    kept, left_out, accepted = [], {}, {}
    for file in found:
        try:
            artifact = _whole(file)
            why = _doubt(artifact, report)
            if why and not accept:
                raise GateError(f"{file}: {why}", "with --accept REASON it is pushed all the same; the card says so")
            if why:
                accepted[file.name] = str(accept)
            kept.append(artifact)
        except EdgeError as error:
            if found == [path]:
                raise
            left_out[file.name] = error.message.removeprefix(f"{file}: ")
    if not kept:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        if left_out:
            raise GateError(
                f"{path}: nothing in it may be pushed: {why}", "with --accept REASON what is not refused is"
            )
        raise EdgeError(
            f"{path}: no checkpoint, no adapter and no artifact in it", "give what edge has made, or a folder of it"
        )
    files: dict[str, Path] = {}
    for artifact in kept:
        here = Path(artifact.path)
        inside = [here] if here.is_file() else sorted(f for f in here.iterdir() if f.is_file())
        files |= {(f.name if here.is_file() else f"{here.name}/{f.name}"): f for f in inside}
        files[manifest_of(here).name] = manifest_of(here)
    return Load("artifacts", files, kept, _made_from(kept[0]), left_out=left_out, accepted=accepted)


def _whole(file: Path) -> Artifact:
    """The artifact, if it is the one of its manifest and not refused."""
    if not file.exists():
        raise EdgeError(f"{file}: no such file or folder")
    if not manifest_of(file).is_file():
        raise EdgeError(
            f"{file}: no manifest beside it ({manifest_of(file).name})", "take it as one of ours first: edge import"
        )
    artifact = replace(records.load(Artifact, manifest_of(file)), path=str(file.absolute()))
    verdict = (artifact.proof or {}).get("verdict")
    if verdict == "refused" or file.name.endswith(REFUSED):
        why = "; ".join((artifact.proof or {}).get("why", [])) or "by its name"
        raise GateError(f"{file}: refused, so it is not handed on: {why}", "export it anew, in a larger quantisation")
    if records.digest_path(file) != artifact.digest:
        raise GateError(f"{file}: not the file of its manifest: it was altered since", "export or import it again")
    return artifact


def _doubt(artifact: Artifact, report: Json) -> str | None:
    """What speaks against handing it on, None if it is proven, or measured without a loss."""
    if artifact.proof:
        verdict, why = artifact.proof["verdict"], "; ".join(artifact.proof.get("why", []))
        return None if verdict == "proven" else f"{verdict}: {why}"
    cell = next((c for c in report.get("cells", []) if c["subject"] == artifact.digest), None)
    if cell is None:
        return "neither proven nor measured"
    if not cell["complete"]:
        return "its measurement is not complete"
    change = cell["difference"] or {}
    return f"measured, with a loss: {change['words']}" if change.get("verdict") == "lost" else None


# --- where it is from -------------------------------------------------------------------------------------------------


def _record(folder: Path) -> Checkpoint | None:
    """A checkpoint's own record, if it is of these very files."""
    try:
        found = records.load(Checkpoint, folder / "checkpoint.json")
        return found if found.digest == records.digest_folder(folder) else None
    except (EdgeError, OSError):
        return None


def _known(near: Path) -> Iterator[Checkpoint]:
    """Checkpoints that lie about: the project's base and tuned one, and the embedded model."""
    folder = near.resolve() if near.is_dir() else near.resolve().parent
    files = [f for pattern in _NEAR for f in sorted(_glob(folder, pattern))]
    for file in [*files, tiny.SHIPPED / "checkpoint.json"]:
        try:
            yield records.load(Checkpoint, file)
        except EdgeError:
            continue


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    while pattern.startswith("../"):
        folder, pattern = folder.parent, pattern[3:]
    return folder.glob(pattern)


def _made_from(artifact: Artifact) -> Checkpoint | None:
    return next((c for c in _known(Path(artifact.path).parent) if c.digest == artifact.checkpoint), None)


def _base(load: Load, near: Path, given: str | None) -> str | None:
    """The name of what it was tuned from: a hub id, or a word that is none."""
    if given:
        return str(parsed(given).name)
    record = load.checkpoint
    parent = next((c for c in _known(near) if record and c.digest == record.base), None)
    for name in (
        parent.source if parent else None,
        load.named_base,
        record.source if record and not record.base else None,
    ):
        found = hub.parse(name or "")
        if found and not Path(name or "").exists():
            return found.name
        if name == tiny.SHIPPED.name:
            return name
    return None


def _results(path: Path, given: Path | None) -> tuple[Json, Json]:
    """The project's report and its evaluation, {} for what there isn't; a file that is given goes before either."""
    found = {"cells": _above(path, "report.json"), "subjects": _above(path, "eval/evaluation.json")}
    if given:
        told = records.read_json(given)
        kind = next((k for k in found if isinstance(told, dict) and isinstance(told.get(k), list)), None)
        if not kind:
            raise EdgeError(
                f"{given}: no report", "give the report.json of `edge run` or the evaluation.json of `edge eval`"
            )
        found[kind] = told
    return found["cells"], found["subjects"]


def _above(path: Path, name: str) -> Json:
    """`results/NAME` of the folder or one above it."""
    for folder in [path.resolve(), *path.resolve().parents][:4]:
        with contextlib.suppress(EdgeError):
            told = records.read_json(folder / "results" / name)
            return told if isinstance(told, dict) else {}
    return {}


def _evaluated(load: Load, evaluation: Json) -> Json:
    """What `edge eval` found of what is pushed, or of the checkpoint that it was made from; {} if nothing."""
    if not load.checkpoint:
        return {}
    wanted = load.checkpoint.digest
    if load.kind == "adapter":  # evaluated on its base, unmerged
        folder = next(iter(load.files.values())).parent
        wanted = records.digest_value([load.checkpoint.base, records.digest_folder(folder)])
    return next((s for s in evaluation.get("subjects", []) if s["digest"] in (wanted, load.checkpoint.digest)), {})


def _story(name: str, load: Load, files: dict[str, Path], results: tuple[Json, Json], options: Options) -> card.Story:
    report, evaluation = results
    near = next(iter(load.files.values())).parent
    base = _base(load, near, options.base)
    notices = _notices(load, base, near)
    digests = {a.digest for a in load.artifacts}
    if load.checkpoint:
        digests |= {load.checkpoint.digest, load.checkpoint.base or ""}
    license_id = options.license or ("gemma" if GEMMA_NOTICE in notices else None)
    if not license_id and base == tiny.SHIPPED.name:
        license_id = "apache-2.0"
    return card.Story(
        name=name,
        kind=load.kind,
        files=files,
        checkpoint=load.checkpoint,
        base=base,
        artifacts=load.artifacts,
        cells=[c for c in report.get("cells", []) if c["subject"] in digests],
        workload=report.get("workload"),
        evaluated=_evaluated(load, evaluation),
        evaluation=evaluation,
        datasets=list(dict.fromkeys([*_datasets(load.checkpoint), *options.datasets])),
        license=license_id,
        notices=notices,
        accepted=load.accepted,
    )


def _notices(load: Load, base: str | None, near: Path) -> list[str]:
    told = [n for a in load.artifacts for n in a.notices] + (load.checkpoint.notices if load.checkpoint else [])
    if not told and base != tiny.SHIPPED.name and _gemma(load, base, near):
        told = [GEMMA_NOTICE]
    return list(dict.fromkeys(told))


def _gemma(load: Load, base: str | None, near: Path) -> bool:
    """Is it Gemma's, or derived from it, though no record says so?"""
    config = near / "config.json"
    told = records.read_json(config) if load.kind == "checkpoint" and config.is_file() else {}
    return str(told.get("model_type", "")).startswith("gemma") or "gemma" in (base or "").lower()


def _datasets(checkpoint: Checkpoint | None) -> list[str]:
    """Hub ids of data sets, where the training's record names them."""
    told = (checkpoint.training or {}).get("datasets") if checkpoint else None
    named = [d.get("dataset") if isinstance(d, dict) else d for d in told] if isinstance(told, list) else []
    return [str(d) for d in named if d]


# --- what others may see ----------------------------------------------------------------------------------------------


def _public(file: Path, load: Load, desk: Path, options: Options) -> Path:
    """The file, or a copy of it without this machine's paths."""
    if file.name.endswith(".json") and any(manifest_of(Path(a.path)) == file.absolute() for a in load.artifacts):
        return _copy(desk, file, lambda told: {**told, "path": Path(told["path"]).name})
    if file.name == "adapter_config.json":
        base = _base(load, file.parent, options.base)
        if not base:
            raise EdgeError(
                f"{file}: it names its base {load.named_base!r}, which is no model of the hub",
                "name it: --base owner/name",
            )
        return _copy(desk, file, lambda told: {**told, "base_model_name_or_path": base})
    if file.name == "config.json" and "_name_or_path" in file.read_text(encoding="utf-8", errors="replace"):
        return _copy(desk, file, lambda told: {k: v for k, v in told.items() if k != "_name_or_path"})
    return file


def _copy(desk: Path, file: Path, change: Any) -> Path:
    copy = desk / "changed" / file.name
    copy.parent.mkdir(exist_ok=True)
    told = records.read_json(file)
    records.write_text(copy, json.dumps(change(told), ensure_ascii=False, indent=2) + "\n")
    shutil.copymode(file, copy)
    return copy
