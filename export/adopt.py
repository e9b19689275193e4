"""`edge import`: what others have made becomes a project's own, so that it is inspected, linted, proven and measured like ours.

From a file or a folder here, or from the model hub: an artifact gets a manifest, a checkpoint its record, an adapter is
merged into its base. Files are copied, not changed: nothing is repaired, and what is wrong is for `edge lint` to say. A
proof that somebody else has written is not taken over.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import edge
from edge import records
from edge.errors import EdgeError
from edge.export import inspect, job, lint
from edge.export.inspect import folder
from edge.export.inspect.found import Found
from edge.export.job import manifest_of
from edge.project import valid_name
from edge.records import Artifact, Checkpoint, Json
from edge.train import fetching, hub, merge, tiny
from edge.train.fetching import Client

FORMATS = ("gguf", "tflite", "litertlm", "task", "onnx")
STAGE = ".hub"  # in the folder that is filled: what is being fetched


@dataclass(frozen=True)
class Wish:
    """What is wanted of something from elsewhere.

    out: where it goes; None for build/artifacts, of a checkpoint build/models. name: what it shall be called; None for what
    it is called there. dialect: None for that of its vocabulary. notices: licence sentences besides those that
    come with it. checkpoint: what it was made from, if that is known. base: of an adapter, a folder or a hub id; None for the
    one that it names. file: which artifact of a repository with several.
    """

    out: Path | None = None
    name: str | None = None
    dialect: str | None = None
    notices: Sequence[str] = ()
    checkpoint: Checkpoint | None = None
    base: str | None = None
    file: str | None = None

    def target(self, kind: str, name: str, ending: str = "") -> Path:
        """Where it goes. kind: see Source. name: what it is called there."""
        chosen = valid_name(self.name or name, "--name" if self.name else "give --name")
        place = self.out or Path("build") / ("artifacts" if kind == "artifact" else "models")
        return place / f"{chosen}{ending}"


@dataclass(frozen=True)
class Source:
    """What lies here now.

    name: what it is called. origin: where on the hub it is from. passing: it was fetched for this alone, and may be moved.
    """

    path: Path
    kind: str  # "artifact", "checkpoint", "adapter"
    name: str
    origin: str | None = None
    notices: tuple[str, ...] = ()
    passing: bool = False


def bring(source: str, wish: Wish, client: Client) -> Artifact | Checkpoint:
    """Take a file, a folder or a hub id as one of ours.

    Raises: EdgeError for what is nothing that edge takes, or lies there already; MissingError for access that is missing.
    """
    found = local(source)
    if found:
        return _take(found, wish, client)
    with _from_hub(source, wish, client) as fetched:
        return _take(fetched, wish, client)


def local(source: str) -> Source | None:
    """What lies at a path; None for a hub id that is no path here. Raises EdgeError for what is neither."""
    path = Path(source).expanduser()
    if path.exists():
        if inspect.format_of(path) is not folder:
            return Source(path, "artifact", path.resolve().name if path.is_dir() else path.resolve().stem)
        return Source(path, "checkpoint" if (path / "config.json").is_file() else "adapter", path.resolve().name)
    file = source.endswith(hub.ARTIFACTS) or (path.parent != Path() and path.parent.is_dir())
    if hub.parse(source) and (not file or source.startswith("hf://")):
        return None
    raise EdgeError(f"{source}: no such file or folder", "or name a model of the hub: owner/name, owner/name@revision")


def _take(source: Source, wish: Wish, client: Client) -> Artifact | Checkpoint:
    if source.kind == "artifact":
        return adopt(source, wish)
    if wish.checkpoint:
        raise EdgeError(
            f"{source.path}: {_A[source.kind]}, which is not proven beside another", "leave --checkpoint out"
        )
    if source.kind == "adapter":
        return _merged(source, wish, client)
    if wish.base:
        raise EdgeError(f"{source.path}: a checkpoint, which needs no base", "leave --base out")
    return _checkpoint(source, wish)


# --- from the hub -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _from_hub(model: str, wish: Wish, client: Client) -> Iterator[Source]:
    """What is wanted of a repository, fetched; gone afterwards, but for what was cut off, which the next try goes on with.

    Raises EdgeError where it holds several artifacts and none was named, and before fetching if its place is taken.
    """
    told = fetching.look(model, client)
    paths, origin, name = told["files"], f"{told['model']}@{told['revision']}", told["model"].partition("/")[2]
    kind = hub.kind(paths) or "artifacts"
    inside = ""
    if kind == "artifacts" or wish.file:
        inside, kind = _chosen(model, paths, wish.file), "artifact"
        name = PurePosixPath(inside).stem if inside in paths else PurePosixPath(inside).name or name
        ending = PurePosixPath(inside).suffix if inside in paths else "_onnx"
        wanted = [inside] if inside in paths else hub.artifact_files(paths, inside)
        wanted += [m for m in [f"{inside}.json"] if m in paths]
    else:
        ending, wanted = "", hub.checkpoint_files(paths)
    target = wish.target(kind, name, ending)
    _refuse_taken(target)
    # The commit is in the question: what was listed is what is fetched.
    stage = target.parent / STAGE / records.digest_value([origin, inside])[:16]
    fetching.files(origin, wanted, stage, client)
    try:
        (stage / fetching.DONE).unlink(missing_ok=True)
        yield Source(stage / inside, kind, name, origin, tuple(fetching.notices(told)), passing=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        shutil.rmtree(stage.with_name(f"{stage.name}.worker"), ignore_errors=True)
        with contextlib.suppress(OSError):
            stage.parent.rmdir()


def _chosen(model: str, paths: dict[str, int], file: str | None) -> str:
    there = hub.artifacts(paths)
    matching = [a for a in there if file in (None, a, PurePosixPath(a).name)]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(f"{a} ({paths[a] / 1e6:,.1f} MB)" if a in paths else a for a in there[:20])
    if not there:
        raise EdgeError(
            f"{model} holds nothing that edge takes: {', '.join(list(paths)[:5]) or 'no files'}",
            "it takes checkpoints in safetensors, LoRA adapters, GGUF, .litertlm, .task, .tflite, ONNX for genai",
        )
    if file:
        raise EdgeError(f"{model} has no artifact {file!r}, or several of that name", f"there are: {listed}")
    raise EdgeError(f"{model} holds {len(there)} artifacts", f"name one with --file: {listed}")


# --- artifacts --------------------------------------------------------------------------------------------------------


def adopt(source: Source, wish: Wish) -> Artifact:
    """Put an artifact in its place, or leave it if it lies there, and write its manifest.

    Raises: EdgeError for what is no artifact, is of no dialect that we know, or has a manifest already.
    """
    path = source.path
    found = inspect.read(path)
    if found.format not in FORMATS or (found.format == "onnx" and not path.is_dir()):
        raise EdgeError(f"{path}: {_WHAT.get(found.format, found.format)}", _INSTEAD.get(found.format))
    if found.manifest and not found.manifest.error and not source.origin:
        raise EdgeError(f"{path}: it has a manifest already ({found.manifest.path})", "it can be used as it is")
    spoken = _dialect(path, wish, found)
    claimed = _claimed(path) if source.origin else None
    file = wish.target("artifact", source.name, _ending(path, found))
    if file.resolve() != path.resolve():
        _put(path, file, source.passing)
    artifact = _record(found, file, spoken, source, wish, claimed)
    records.save(artifact, manifest_of(file))
    return artifact


def _dialect(path: Path, wish: Wish, found: Found) -> str:
    spoken = (
        wish.dialect or (wish.checkpoint.dialect if wish.checkpoint else None) or (lint.dialect_of(found) or (None,))[0]
    )
    if spoken is None:
        raise EdgeError(
            f"{path}: its vocabulary has the function tokens of no dialect that edge knows", "give --dialect"
        )
    return spoken


def _claimed(path: Path) -> Artifact | None:
    """The manifest that came along, if it is one and of this very file."""
    try:
        told = records.load(Artifact, manifest_of(path))
        return told if told.digest == records.digest_path(path) else None
    except (EdgeError, OSError):
        return None


def _record(found: Found, file: Path, dialect: str, source: Source, wish: Wish, claimed: Artifact | None) -> Artifact:
    """What is in the file goes before what a manifest from elsewhere says; that adds what a file can't say."""
    checkpoint = wish.checkpoint
    told = [*found.notices, *(claimed.notices if claimed else []), *source.notices, *wish.notices,
            *(checkpoint.notices if checkpoint else [])]  # fmt: skip
    made = checkpoint.digest if checkpoint else claimed.checkpoint if claimed else "unknown"
    origin: Json = {"from": source.origin or file.name}
    return Artifact(
        digest=records.digest_path(file),
        path=str(file.absolute()),
        format=found.format,
        quantisation=found.quantisation or (claimed.quantisation if claimed else "unknown"),
        bytes=records.size_path(file),
        checkpoint=made,
        dialect=dialect,
        exporter=f"imported by edge {edge.__version__}" + (f", made by {claimed.exporter}" if claimed else ""),
        options=origin,
        chat_template_sha256=found.template_sha256,
        stop_ids=[t.ids[0] for t in found.stops if len(t.ids) == 1],
        stop_tokens=[t.text for t in found.stops if t.text],
        context_tokens=found.cache_tokens or found.context_tokens,
        notices=list(dict.fromkeys(told)),
    )


def _ending(source: Path, found: Found) -> str:
    return "_onnx" if found.format == "onnx" else source.suffix or f".{found.format}"


# --- checkpoints and adapters -----------------------------------------------------------------------------------------


def _checkpoint(source: Source, wish: Wish) -> Checkpoint:
    """Put a checkpoint's files in their place, with its record. Raises EdgeError for one that is not whole."""
    found = inspect.read(source.path)
    spoken = _dialect(source.path, wish, found)
    record = job.read_checkpoint(source.path, spoken, source.origin)
    target = wish.target("checkpoint", source.name)
    if target.resolve() != source.path.resolve():
        _put(source.path, target, source.passing, hub.checkpoint_files([f.name for f in source.path.iterdir()]))
    notices = list(dict.fromkeys([*(record.notices or source.notices), *wish.notices]))
    made = replace(record, digest=records.digest_folder(target), path=str(target.absolute()), notices=notices)
    records.save(made, target / "checkpoint.json")
    return made


def _merged(source: Source, wish: Wish, client: Client) -> Checkpoint:
    """The adapter merged into its base. A base of the hub is fetched and kept beside, under its own name."""
    dialect = wish.dialect or "functiongemma"
    config = records.read_json(source.path / "adapter_config.json")
    named = wish.base or str(config.get("base_model_name_or_path") or "" if isinstance(config, dict) else "")
    target = wish.target("checkpoint", source.name)
    _refuse_taken(target)
    known = hub.parse(named)
    if named == tiny.SHIPPED.name:
        base = tiny.SHIPPED
    elif named and Path(named).is_dir():
        base = Path(named)
    elif known:
        base = target.parent / known.name.replace("/", "--")
        fetching.fetch(named, base, dialect, client)
    else:
        raise EdgeError(
            f"{source.path}: its base {named!r} is no folder here and no hub id", "give it: --base FOLDER or owner/name"
        )
    made = merge.merge(source.path, base, target, dialect, client.console)
    notices = list(dict.fromkeys([*made.notices, *source.notices, *wish.notices]))
    made = replace(made, source=source.origin or made.source, notices=notices)
    records.save(made, target / "checkpoint.json")
    return made


# --- files ------------------------------------------------------------------------------------------------------------


def _put(source: Path, file: Path, move: bool, names: Sequence[str] | None = None) -> None:
    """Whole or not at all. names: of a folder, the files that are wanted."""
    _refuse_taken(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    if move:
        source.replace(file)
        return
    partial = file.with_name(f".{file.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if names is not None:
            partial.mkdir()
            for name in names:
                shutil.copyfile(source / name, partial / name)
        elif source.is_dir():
            shutil.copytree(source, partial)
        else:
            shutil.copyfile(source, partial)
        partial.replace(file)
    finally:
        shutil.rmtree(partial, ignore_errors=True) if partial.is_dir() else partial.unlink(missing_ok=True)


def _refuse_taken(target: Path) -> None:
    if target.exists():
        raise EdgeError(f"{target}: already there", "give another --name, or delete it")


_A = {"checkpoint": "a checkpoint", "adapter": "an adapter"}
_WHAT = {"onnx": "a lone .onnx file, without tokenizer and stop tokens"}
_INSTEAD = {"onnx": "give the folder that onnxruntime-genai runs"}
