"""What `edge bench` shall measure: found, named, and refused where it can't be measured, before anything runs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import dialects, environments, records, rows, tools
from edge import project as projects
from edge.bench import measure, profiles, subjects
from edge.bench.measure import Settings, Subject
from edge.bench.profiles import Profile
from edge.bench.runtimes import COMPARES, READS
from edge.console import Console
from edge.devices import inventory
from edge.devices.inventory import Entry
from edge.dialects import Tool
from edge.errors import DeviceError, EdgeError
from edge.export import families, inspect, job, lint
from edge.export.inspect.found import Found
from edge.project import Project
from edge.records import Artifact, Checkpoint, Json
from edge.rows import Manner
from edge.train import readers, tiny
from edge.train.data import source, tokens
from edge.train.readers import Reject, Row

SCHEMA = 1  # of the results folder
LOCAL = "local"
REFERENCE = "transformers"  # runs the float checkpoint
UNKNOWN = "unknown"  # the runtime of a cell whose device did not say what it can run
CONTEXT, MAX_TOKENS, STEP = 1024, 128, 256
SLOW_STALL_S = (
    1200.0  # emulated: a prompt of 600 tokens took two minutes on a busy machine, and the warm-up feeds one, too
)
BENCH, WORKLOADS, EARLIER = "bench.json", "workloads", "earlier"  # in the results folder
OTHER_FOLDERS = (WORKLOADS, EARLIER)


@dataclass(frozen=True)
class Wish:
    """What was asked for; None and empty: what a project says, else the default.

    files: artifacts; none: the project's. data: rows by name, glob or hub id. rows: how many, from the top; 0 for all.
    stall_s: how long a runtime may say nothing. base: the float checkpoint; baseline: whether it is measured. project: a
    folder with edge.toml [default: where this runs, if there is one].
    """

    files: Sequence[Path] = ()
    devices: Sequence[str] = (LOCAL,)
    data: Sequence[str] = ()
    tools: Path | None = None
    rows: int | None = None
    profile: str = "quick"
    threads: Sequence[int] = ()
    runtimes: Sequence[str] = ()
    budget_s: float | None = None
    stall_s: float | None = None
    out: Path | None = None
    base: Path | None = None
    baseline: bool = True
    project: Path | None = None


@dataclass(frozen=True)
class Cell:
    """One square of the matrix."""

    subject: Subject
    settings: Settings
    device: str

    @property
    def name(self) -> str:
        return f"{self.subject.name}.{self.settings.runtime}.t{self.settings.threads}"

    def __str__(self) -> str:
        if self.settings.runtime == UNKNOWN:
            return f"{self.device}: {self.subject.name}"
        threads = f"{self.settings.threads} thread{'s' if self.settings.threads > 1 else ''}"
        return f"{self.device}: {self.subject.name} ({self.settings.runtime}, {threads})"


@dataclass(frozen=True)
class Plan:
    """workload: the lines of its file. artifacts: by subject name. left_out: {"file", "device", "why"} of what one device
    can't run and another one does. unreached: devices that did not answer, of whose cells runtime and threads are unknown.
    """

    out: Path
    profile: Profile
    budget_s: float
    dialect: str
    project: str
    rows: list[Json]
    workload: str
    artifacts: dict[str, Artifact]
    cells: list[Cell]
    baseline: Cell | None
    left_out: list[Json] = field(default_factory=list)
    unreached: dict[str, DeviceError] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the workload's file."""
        return hashlib.sha256(self.workload.encode()).hexdigest()


def out_of(wish: Wish) -> Path:
    """The results folder: --out, else results/bench beside edge.toml or here."""
    project = _project(wish)
    return wish.out or (project.results if project else Path("results")) / "bench"


def make(wish: Wish, console: Console) -> Plan:
    """Look at everything that was named. Nothing is measured, and nothing is written.

    Raises: EdgeError for what can't be measured, DeviceError if none of the devices can be reached.
    """
    profile = profiles.get(wish.profile)
    project, out = _project(wish), out_of(wish)
    refuse_newer(out)
    entries = list(dict.fromkeys(map(_entry, wish.devices)))
    found = [_artifact(path) for path in _files(wish, project, console)]
    dialect = _dialect(found, project)
    sources = {a.checkpoint: _checkpoint(a, wish, project) for a, _ in found}
    checkpoint = _one_checkpoint(sources, wish, console)
    artifacts = _named([a for a, _ in found], out)
    given, manner, declared = _rows(wish, profile, project, dialect, checkpoint, console)
    workload = [rows.workload_row(row, declared, manner) for row in given]
    looks = {a.digest: look for a, look in found}
    max_tokens = project.bench["max_tokens"] if project else MAX_TOKENS
    context = _context(artifacts, looks, given, workload, sources, manner, max_tokens, project, console)
    settings = Settings("", 0, context, max_tokens, dialects.get(dialect).STOP)
    named = {name: _subject(name, a, sources[a.checkpoint]) for name, a in artifacts.items()}
    cells, left_out, unreached = _cells(named, entries, wish, profile, project, settings, console)
    here = next((entry for entry in entries if entry.kind == LOCAL), inventory.get(LOCAL))
    return Plan(
        out=out,
        profile=profile,
        budget_s=profile.budget_s if wish.budget_s is None else wish.budget_s,
        dialect=dialect,
        project=project.name if project else Path.cwd().name,
        rows=workload,
        workload="".join(json.dumps(row) + "\n" for row in workload),
        artifacts=artifacts,
        cells=cells,
        baseline=_baseline(checkpoint, here, wish, profile, settings, artifacts, console),
        left_out=left_out,
        unreached=unreached,
    )


def _project(wish: Wish) -> Project | None:
    if wish.project is None and not Path("edge.toml").is_file():
        return None
    return projects.load(wish.project or Path())


def refuse_newer(out: Path) -> None:
    """Raises EdgeError if a newer edge wrote something in this results folder: it would be overwritten."""
    for file in (out / BENCH, *sorted(out.glob("*/*.json"))):
        try:
            told = records.read_json(file)
        except EdgeError:
            continue
        written = told.get("schema") if isinstance(told, dict) else None
        newest = SCHEMA if file.name == BENCH else records.SCHEMA
        if isinstance(written, int) and written > newest:
            raise EdgeError(
                f"{file}: written by a newer edge (schema {written}, this one writes {newest})",
                "upgrade edgecall, or give another --out",
            )


def _entry(name: str) -> Entry:
    """Raises EdgeError for a device that isn't there, naming those that are."""
    if name in OTHER_FOLDERS:
        raise EdgeError(
            f"a device {name!r}: the results folder has another folder of that name", "call the device otherwise"
        )
    return inventory.get(name)


# --- artifacts --------------------------------------------------------------------------------------------------------


def _files(wish: Wish, project: Project | None, console: Console) -> list[Path]:
    given = [path for path in wish.files if not job.is_manifest(path)]
    if wish.files and not given:
        first = wish.files[0]
        raise EdgeError(f"{first}: a manifest, not an artifact", f"name the file: edge bench {first.with_suffix('')}")
    for path in given:
        if path.name == "edge.toml" or (path / "edge.toml").is_file():
            folder = path.parent if path.name == "edge.toml" else path
            raise EdgeError(
                f"{path}: a project, not an artifact", f"its artifacts are measured by: edge bench -p {folder}"
            )
    if not given and project:
        given = _exported(project, console)
        if not given:
            named = f" {wish.project}" if wish.project else ""
            raise EdgeError(
                f"{project.build / 'artifacts'}: nothing exported yet",
                f"make its artifacts: edge run{named}, or edge export all CHECKPOINT; or name others: edge bench FILE",
            )
    if not given:
        raise EdgeError(
            "nothing to measure",
            "name artifacts, such as: edge bench model.gguf; or a project, a folder with an edge.toml: edge bench -p FOLDER",
        )
    return list(dict.fromkeys(path.resolve() for path in given))


def _exported(project: Project, console: Console) -> list[Path]:
    """What the project has with a manifest. A TFLite that lies there only because a bundle carries it is left out: nobody
    asked for it, and so none was proven."""
    there = [f for f in sorted((project.build / "artifacts").glob("*")) if f.suffix != ".refused"]
    found = [f for f in there if job.manifest_of(f).is_file()]
    told: dict[Path, Artifact] = {}
    for file in found:
        with contextlib.suppress(EdgeError):  # a manifest that can't be read tells nothing
            told[file] = records.load(Artifact, job.manifest_of(file))
    carried = {(a.checkpoint, a.quantisation): f for f, a in told.items() if a.format in ("litertlm", "task")}
    for file, a in told.items():
        bundle = carried.get((a.checkpoint, a.quantisation))
        if a.format == "tflite" and bundle and a.proof is None and "tflite" not in project.export:
            console.say(f"left out: {file.name}, which {bundle.name} carries; name it to measure it as well")
            found.remove(file)
    return found


def _artifact(path: Path) -> tuple[Artifact, Found]:
    """By the manifest beside it, else by what is in it. Raises EdgeError for what is no whole artifact."""
    found = inspect.read(path)
    if found.format not in READS or (found.format == "onnx" and not path.is_dir()):
        what = (
            "a lone .onnx file, without tokenizer and stop tokens"
            if found.format == "onnx"
            else f"{'an' if found.format == 'adapter' else 'a'} {found.format}"
        )
        raise EdgeError(f"{path}: {what}: no runtime reads it", f"artifacts are measured: {', '.join(READS)}")
    digest = records.digest_path(path)
    if found.manifest and not found.manifest.error:
        told = records.load(Artifact, Path(found.manifest.path))
        if told.digest != digest:
            raise EdgeError(f"{path}: {found.manifest.differs or 'not the file that its manifest describes'}",
                            f"export it again, or delete {found.manifest.path}")  # fmt: skip
        return dataclasses.replace(told, path=str(path)), found
    spoken = lint.dialect_of(found)
    if spoken is None and found.format != "tflite":  # which has no vocabulary in it
        raise EdgeError(
            f"{path}: its vocabulary has the function tokens of no dialect that edge knows",
            "`edge import FILE --dialect NAME` gives it a manifest",
        )
    artifact = Artifact(
        digest=digest,
        path=str(path),
        format=found.format,
        quantisation=found.quantisation or "unknown",
        bytes=records.size_path(path),
        checkpoint="unknown",
        dialect=spoken[0] if spoken else "",
        exporter="unknown",
        stop_tokens=[t.text for t in found.stops if t.text],
        context_tokens=found.cache_tokens or found.context_tokens,
    )
    return artifact, found


def _dialect(found: Sequence[tuple[Artifact, Found]], project: Project | None) -> str:
    spoken = {a.dialect: a.path for a, _ in reversed(found) if a.dialect}
    if project:
        spoken.setdefault(project.dialect, str(project.file))
    if len(spoken) > 1:
        each = "; ".join(f"{path}: {name}" for name, path in spoken.items())
        raise EdgeError(f"these are of different dialects: {each}", "the rows are written in one: measure them apart")
    return next(iter(spoken), "functiongemma")


def _named(artifacts: Sequence[Artifact], out: Path) -> dict[str, Artifact]:
    """Short names, each once in a results folder: what another file there was called stays that file's."""
    known: dict[str, Json] = {}
    if (out / BENCH).is_file():
        known = records.read_json(out / BENCH).get("subjects") or {}
    found: dict[str, Artifact] = {}
    short = [_short(a) for a in artifacts]
    for a, name in zip(artifacts, short):
        places = {n for n, told in known.items() if told.get("path") == a.path}
        mine = next(iter(places - set(found)), None)
        if mine is None:
            taken = {*found, *(n for n, told in known.items() if told.get("path") != a.path)}
            stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(a.path).name).strip("-.") or "artifact"
            wanted = [*([name] if short.count(name) == 1 else []), stem, *(f"{stem}-{n}" for n in range(2, 99))]
            mine = next(n for n in wanted if n not in taken)
        found[mine] = a
    return found


def _short(a: Artifact) -> str:
    name = a.quantisation if a.format == "gguf" else f"{a.format}-{a.quantisation}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or a.format


def _subject(name: str, a: Artifact, checkpoint: Checkpoint | None) -> Subject:
    tokenizer = None
    if a.format == "tflite":
        if checkpoint is None:
            raise EdgeError(
                f"{a.path}: a TFLite has no tokenizer in it, and its checkpoint isn't found",
                "name the checkpoint that it was made from: --base FOLDER (with --no-base it isn't measured)",
            )
        tokenizer = families.tokenizer_file(Path(checkpoint.path))
    return Subject(name, Path(a.path), a.digest, "artifact", a.format, tokenizer)


# --- the checkpoint ---------------------------------------------------------------------------------------------------


def _checkpoint(a: Artifact, wish: Wish, project: Project | None) -> Checkpoint | None:
    """What an artifact was made from: --base, else what lies near with the digest that its manifest tells."""
    known = re.fullmatch(r"[0-9a-f]{64}", a.checkpoint)
    if wish.base is not None:
        given = job.read_checkpoint(subjects.folder_of(wish.base), a.dialect or "functiongemma")
        if known and given.digest != a.checkpoint:
            raise EdgeError(
                f"{a.path}: made from another checkpoint ({a.checkpoint[:12]}) than {wish.base} ({given.digest[:12]})",
                "give the one that it was made from, or --no-base",
            )
        return given
    if not known:
        return None
    for folder in _near(Path(a.path), project):
        if records.digest_folder(folder) == a.checkpoint:
            return job.read_checkpoint(folder, a.dialect)
    return None


def _near(file: Path, project: Project | None) -> Iterator[Path]:
    """Folders with a checkpoint: the embedded model, the project's, those beside the artifact's folder."""
    builds = [*([project.build] if project else []), Path("build").absolute(), file.parent, file.parent.parent]
    places = [tiny.SHIPPED]
    for build in dict.fromkeys(builds):
        places += [build / "tuned", build / "base", *sorted(build.glob("*")), *sorted((build / "models").glob("*"))]
    for place in dict.fromkeys(places):
        if (place / "config.json").is_file() and any(place.glob("*.safetensors")):
            yield place


def _one_checkpoint(
    sources: dict[str, Checkpoint | None], wish: Wish, console: Console
) -> Checkpoint | None:  # fmt: skip
    found = {c.digest: c for c in sources.values() if c}
    if wish.baseline and not found:
        console.say(
            "warning: the checkpoint that these were made from isn't found, so there are no differences to it: "
            "name it with --base"
        )
    if wish.baseline and len(found) > 1:
        console.say(f"warning: made from {len(found)} checkpoints, so none is the baseline")
    return next(iter(found.values())) if len(found) == 1 else None


def _baseline(
    checkpoint: Checkpoint | None,
    here: Entry,
    wish: Wish,
    profile: Profile,
    settings: Settings,
    artifacts: dict[str, Artifact],
    console: Console,
) -> Cell | None:
    """The row that paired differences refer to: the float checkpoint, measured on this machine."""
    if checkpoint is None or not wish.baseline or not profile.answers:
        return None
    with inventory.device(here) as device:
        lack = device.lacks(REFERENCE)
    if lack:
        console.say(f"warning: the checkpoint can't be measured here, so there are no differences to it: {lack}")
        return None
    folder = Path(checkpoint.path)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-.") or "checkpoint"
    name = f"{name}-checkpoint" if name in artifacts else name
    subject = Subject(name, folder, checkpoint.digest, "checkpoint", "checkpoint")
    threads = _most_threads(LOCAL, None)
    return Cell(subject, dataclasses.replace(settings, runtime=REFERENCE, threads=threads), here.name)


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(
    wish: Wish,
    profile: Profile,
    project: Project | None,
    dialect: str,
    checkpoint: Checkpoint | None,
    console: Console,
) -> tuple[list[Row], Manner, list[Tool]]:
    """The rows to answer, how prompts are written, and the tools of rows that bring none."""
    recorded = checkpoint.renderer if checkpoint else "training"
    manner = Manner(
        dialect,
        project.developer if project else readers.DEVELOPER,
        project.renderer if project else recorded,
    )
    if not profile.answers and not wish.data and not project:
        return [], manner, []
    file = wish.tools or (project.tools if project else None)
    declared = tools.declared(file, dialects.get(manner.dialect), console.say).tools if file else []
    files = source.expand(map(str, wish.data)) if wish.data else list(project.eval) if project else []
    if not files:
        raise EdgeError("no rows to answer", "name them: --data FILE, with --tools FILE for rows without their own")
    given, rejected = rows.read(files, "eval", declared, manner, console)
    for reason, count in readers.count_reasons(rejected).most_common():
        console.say(f"warning: {count} rows rejected: {reason}")
    limit = (
        wish.rows if wish.rows is not None else project.bench["rows"] if project and not profile.rows else profile.rows
    )
    chosen = given[: limit or None]
    if profile.answers:
        _refuse_unscorable(chosen, rejected)
    rows.say_renderer(manner, console)
    return chosen, manner, declared


def _refuse_unscorable(chosen: Sequence[Row], rejected: Sequence[Reject]) -> None:
    if not chosen:
        first = rejected[0] if rejected else None
        why = f": {first.file}:{first.line}: {first.reason}" if first else ""
        raise EdgeError(f"no usable rows to measure on{why}", "`edge data check FILE` tells what is wrong with each")
    if not any(row.calls for row in chosen):
        raise EdgeError(
            f"none of the {len(chosen)} rows expects a call, so a model that never calls would be right in all of them",
            "add rows whose answer calls",
        )


def _context(
    artifacts: dict[str, Artifact],
    looks: dict[str, Found],
    given: Sequence[Row],
    workload: Sequence[Json],
    sources: dict[str, Checkpoint | None],
    manner: Manner,
    max_tokens: int,
    project: Project | None,
    console: Console,
) -> int:
    """Tokens to allocate: the project's, or what the longest row and an answer need.

    Raises EdgeError for rows that an artifact has no room for, prompt and right answer together.
    """
    least = int(project.bench["context"]) if project else CONTEXT
    speak = dialects.get(manner.dialect)
    texts = [(told["prompt"], speak.completion(row.messages[-1])) for told, row in zip(workload, given)]
    folder = _tokenizer(artifacts, sources)
    script = environments.spec(environments.script("count_tokens"))
    if not texts or folder is None or environments.missing(script):
        return least  # a row that is too long will be an error of its own
    lengths = tokens.count(texts, folder, console)
    for name, a in artifacts.items():
        look = looks[a.digest]
        room = min((n for n in (look.cache_tokens, look.context_tokens) if n), default=None)
        long = [n for n in lengths if room and n + 1 > room]
        if long:
            raise EdgeError(
                f"{a.path}: {len(long)} of {len(lengths)} rows are longer than its context: up to {max(long):,} tokens with "
                f"the right answer, and {name} holds {room:,}",
                "export it with a longer cache (--cache), take shorter rows, or fewer with --rows",
            )
    longest = max(lengths) + max_tokens
    if longest <= least:
        return least
    wanted = -(-longest // STEP) * STEP
    console.say(f"the longest row has {max(lengths):,} tokens: a context of {wanted:,} is allocated, not {least:,}")
    return wanted


def _tokenizer(artifacts: dict[str, Artifact], sources: dict[str, Checkpoint | None]) -> Path | None:
    """A folder with a tokenizer.json of this family."""
    folders = [Path(c.path) for c in sources.values() if c]
    folders += [Path(a.path) for a in artifacts.values() if a.format == "onnx"]
    return next((f for f in folders if (f / "tokenizer.json").is_file()), None)


# --- the matrix -------------------------------------------------------------------------------------------------------


def _cells(
    named: dict[str, Subject],
    entries: Sequence[Entry],
    wish: Wish,
    profile: Profile,
    project: Project | None,
    settings: Settings,
    console: Console,
) -> tuple[list[Cell], list[Json], dict[str, DeviceError]]:
    """Every artifact on every device with every runtime that was named, or else the best one there.

    What one device can't run and another can is left out there, and said. A device that can't be reached keeps nothing back
    of the others: its cells are of an unknown runtime. Raises EdgeError for an artifact that none can run, a device that can
    run none, and for a runtime that was named and can't be had; DeviceError if no device can be reached.
    """
    cells: list[Cell] = []
    lacking: list[Json] = []
    unreached: dict[str, DeviceError] = {}
    for entry in entries:
        try:
            able, lacks = _cells_of(entry, named, wish, profile, project, settings, console)
        except DeviceError as error:
            unreached[entry.name] = error
            continue
        cells += able
        lacking += lacks
    if len(unreached) == len(entries):
        raise next(iter(unreached.values()))
    for name, why_not in unreached.items():
        console.say(f"warning: nothing is measured on {name}: {why_not.message}")
    for lack in lacking:
        others = [cell for cell in cells if cell.subject.name == lack["name"]]
        message = f"{lack['file']}: can't be measured on {lack['device']}: {lack['why']}"
        if not others and not unreached:
            raise EdgeError(message, f"{named[lack['name']].format} is read by {_readers(named[lack['name']].format)}")
        if others and (wish.runtimes or not any(cell.device == lack["device"] for cell in cells)):
            raise EdgeError(
                message, "which can: " + ", ".join(dict.fromkeys(f"{c.device} ({c.settings.runtime})" for c in others))
            )
        console.say(f"warning: {lack['name']} is left out on {lack['device']}: {lack['why']}")
    unknown = dataclasses.replace(settings, runtime=UNKNOWN)
    return (
        [*cells, *(Cell(subject, unknown, name) for name in unreached for subject in named.values())],
        lacking,
        unreached,
    )


def _cells_of(
    entry: Entry,
    named: dict[str, Subject],
    wish: Wish,
    profile: Profile,
    project: Project | None,
    settings: Settings,
    console: Console,
) -> tuple[list[Cell], list[Json]]:
    """Of one device: its cells, and what it can't run. Raises DeviceError if it can't be reached."""
    cells: list[Cell] = []
    lacking: list[Json] = []
    asking = contextlib.nullcontext() if entry.kind == LOCAL else console.task(f"asking {entry.name}")
    with asking, inventory.device(entry) as device:
        facts = device.facts()
        counts = _threads(wish, profile, project, entry.kind, facts)
        stall_s = wish.stall_s or (SLOW_STALL_S if facts.get("emulated") else settings.stall_s)
        for name, subject in named.items():
            chosen, why = _runtimes(subject, device, wish.runtimes)
            if not chosen:
                lacking.append({"file": str(subject.path), "name": name, "device": entry.name, "why": why})
            cells += [
                Cell(subject, dataclasses.replace(settings, runtime=runtime, threads=n, stall_s=stall_s), entry.name)
                for runtime in chosen
                for n in counts
            ]
    return cells, lacking


def _readers(form: str) -> str:
    return ", ".join(_known(form))


def _known(form: str) -> list[str]:
    """Runtimes that read a format, best first: of GGUF the one that devices without Python have as well."""
    return list(dict.fromkeys([*READS[form], COMPARES[form], *(["llama_server"] if form == "gguf" else [])]))


def _runtimes(subject: Subject, device: Any, wanted: Sequence[str]) -> tuple[list[str], str]:
    """Those to measure with, and why there is none."""
    if wanted:
        known = [r for r in dict.fromkeys(wanted) if r in _known(subject.format)]
        if not known:
            return [], f"{' and '.join(wanted)} can't load a .{subject.format}"
    else:
        every = READS[subject.format] if device.kind == LOCAL else _known(subject.format)
        known = [r for r in every if not r.endswith("_chat")]
    lacks = {runtime: device.lacks(runtime) for runtime in known}
    able = [runtime for runtime, lack in lacks.items() if not lack]
    why = "; ".join(f"{runtime}: {lack}" for runtime, lack in lacks.items() if lack)
    if wanted:
        return ([], why) if len(able) < len(known) else (able, "")
    return able[:1], why


def _threads(wish: Wish, profile: Profile, project: Project | None, kind: str, facts: Json) -> list[int]:
    if wish.threads:
        return list(dict.fromkeys(wish.threads))
    if profile.threads:
        return [profile.threads]
    if project and project.bench["threads"] and kind == LOCAL:
        return [int(project.bench["threads"])]
    return [_most_threads(kind, facts.get("cores"))]


def _most_threads(kind: str, cores: int | None) -> int:
    """The physical cores, at most 4: more slows small models down."""
    return measure.default_threads() if kind == LOCAL else min(cores or 1, 4)
