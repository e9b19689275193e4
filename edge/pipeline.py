"""`edge run`: data -> tuned checkpoint -> artifacts -> measurements -> report, each step skipped when its result lies there.

A step's result carries a key, the digest of everything that went into it: inputs, options, the script and its pinned
environment. Same key and untouched files: kept. Nothing is half-written, so a run that was ended by Ctrl-C, `kill -9` or
a full disk goes on where it was: training from its last trainer checkpoint, a measurement after its last row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from edge import dialects, environments, records, rows, tools
from edge.bench import measure, report
from edge.bench.runtimes import READS
from edge.console import Console
from edge.devices.local import Local
from edge.environments import Builder, Spec
from edge.errors import EdgeError, MissingError
from edge.export import checkpoint, everything, families, gguf
from edge.export.handoff import after_run
from edge.export.job import Exported
from edge.export.quantisations import parse_all
from edge.kept import DONE
from edge.project import RUNTIMES, Project
from edge.records import Artifact, Checkpoint, Json, Measurement, Report
from edge.train import bases, fetching, readers
from edge.train import tune as tuning
from edge.train.data import datasets
from edge.train.readers import Reject, Row


@dataclass
class Outcome:
    """What a run leaves: the report, where it lies, the artifacts, and what this machine could not do."""

    report: Report
    files: dict[str, str]
    artifacts: list[Artifact]
    missing: list[Json] = field(default_factory=list)
    handoffs: list[str] = field(default_factory=list)  # folders, if [handoff] names targets


def run(
    project: Project, console: Console, wait: bool = False, show: Callable[[Outcome], None] | None = None
) -> Outcome:
    """Do everything that `edge.toml` asks for and that isn't done yet.

    Args:
        wait: if another run is at work on this project, wait for it instead of refusing.
        show: called with what there is before the slower formats begin.

    Raises: EdgeError and its kin; whatever was finished before stays.
    """
    with only_one(project.build / ".lock", console, wait), contextlib.closing(Builder(console)) as builder:
        data = read_data(project, console)
        base = find_base(project, console, builder)
        families.of(checkpoint.inspect(base.path))  # what can't be exported is refused before anything is tuned
        runtime, missing = choose_runtime(project)
        refuse_full_disk(project, base)
        builder.begin(*_able(environments.script(name) for name in ("tune", "gguf", runtime)))
        tuned = tune(project, base, data, console, builder)
        bench = _Bench(project, data, console, builder)
        bench.measure(_subject(base, "base"), "transformers")
        bench.measure(_subject(tuned, "tuned"), "transformers")
        made = [_gguf(project, tuned, data, console, builder)]
        bench.measure_all(made[0].artifacts, tuned, runtime)
        slow = {name: wanted for name, wanted in project.export.items() if name != "gguf"}
        if slow and made[0].artifacts and show:
            show(finish(project, data, bench.measurements, made, missing))
        builder.begin(*_able(everything.scripts(slow, proven=False, checkpoint=Path(tuned.path))))
        out = project.build / "artifacts"
        # All are made before one is measured: a conversion beside it would be in the figures.
        others = list(everything.export(tuned, slow, out, project.name, console, builder.get, cache=project.cache))
        for found in others:
            bench.measure_all(found.artifacts, tuned, runtime)
        made += others
        outcome = finish(project, data, bench.measurements, made, missing)
        if project.handoff.get("targets"):
            _hand_over(project, tuned, data, outcome, console, builder, show)
        return outcome


def _hand_over(
    project: Project,
    tuned: Checkpoint,
    data: Data,
    outcome: Outcome,
    console: Console,
    builder: Builder,
    show: Callable[[Outcome], None] | None,
) -> None:
    """What [handoff] asks for. Raises the first refusal, after what else there is was written and shown."""
    done, failed = after_run.hand_over(
        project, tuned, outcome.artifacts, data.rows, outcome.report.cells, console, builder.get
    )
    outcome.handoffs = [str(d.folder) for d in done]
    if failed:
        if show:
            show(outcome)
        raise failed[0]


def _gguf(project: Project, tuned: Checkpoint, data: Data, console: Console, builder: Builder) -> Exported:
    """The quick format, first: it needs no torch."""
    wanted, rows = project.export.get("gguf"), data.training if project.importance else None
    if not wanted:
        return Exported([], [])
    return gguf.export(tuned, wanted, project.build / "artifacts", project.name, console, builder.get, rows)


@contextlib.contextmanager
def only_one(lock: Path, console: Console, wait: bool) -> Iterator[None]:
    """One run a project. The lock ends with its process, however that ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = lock.with_suffix(".pid")
    guard = filelock.FileLock(lock)
    try:
        guard.acquire(timeout=0)
    except filelock.Timeout:
        who = holder.read_text().strip() if holder.exists() else "unknown"
        if not wait:
            raise EdgeError(
                f"another edge run is at work in {lock.parent.parent} (process {who})",
                "wait for it, or `edge run --wait`",
            ) from None
        console.say(f"another edge run is at work here (process {who}): waiting for it")
        guard.acquire()
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        guard.release()


# --- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """What was read: files for the workers, and counts for the report."""

    training: Path  # {"id", "prompt", "completion"} a line
    workload: Path  # {"id", "prompt", "expected", "user"} a line
    rows: list[Json]  # the workload's
    counts: Json


def read_data(project: Project, console: Console) -> Data:
    """Read tools and rows, write what training and measuring need, and say what was wrong with them."""
    dialect = dialects.get(project.dialect)
    toolbox = tools.declared(project.tools, dialect, console.say)
    manner = rows.Manner(project.dialect, project.developer, project.renderer)
    training, rejected = rows.read(project.train, "train", toolbox.tools, manner, console)
    evaluation, also = rows.read(project.eval, "eval", toolbox.tools, manner, console)
    folder = project.build / "data"
    rejected += also
    readers.write_rejects(rejected, folder / "rejects.jsonl")
    evaluation = evaluation[: project.bench["rows"] or None]
    shared = readers.shared_rows(training, evaluation)
    _say_counts(training, evaluation, rejected, shared, folder, console)
    if not training or not evaluation:
        empty = "training" if not training else "evaluation"
        raise EdgeError(f"{project.file}: no usable {empty} rows", f"why each was rejected: {folder / 'rejects.jsonl'}")
    rows.say_renderer(manner, console)
    workload = [rows.workload_row(r, toolbox.tools, manner) for r in evaluation]
    rows.write_lines(folder / "train.jsonl", (rows.training_row(r, toolbox.tools, manner) for r in training))
    rows.write_lines(folder / "eval.jsonl", workload)
    unseen = readers.unseen_tools(training, evaluation)
    for name in unseen:
        console.say(f"warning: evaluation calls {name}, and no training row does")
    counts = {
        "train_rows": len(training),
        "eval_rows": len(evaluation),
        "rejected": len(rejected),
        "reasons": dict(readers.count_reasons(rejected)),
        "shared_with_training": len(shared),
        "tools": len(toolbox.tools),
        "datasets": datasets.facts([*project.train, *project.eval]),
        "files": {
            str(file.relative_to(project.folder) if file.is_relative_to(project.folder) else file): records.digest_file(
                file
            )
            for file in [*project.train, *project.eval, project.tools]
            if isinstance(file, Path)
        },
        "unseen_tools": unseen,
    }
    return Data(folder / "train.jsonl", folder / "eval.jsonl", workload, counts)


def _say_counts(
    training: list[Row],
    evaluation: list[Row],
    rejected: list[Reject],
    shared: list[str],
    folder: Path,
    console: Console,
) -> None:
    console.say(f"{len(training)} rows to train on, {len(evaluation)} to measure on")
    for reason, count in readers.count_reasons(rejected).most_common():
        console.say(f"warning: {count} rows rejected: {reason} (see {folder / 'rejects.jsonl'})")
    if shared:
        console.say(
            f"warning: {len(shared)} evaluation rows are also in training, so scores flatter: {', '.join(shared[:3])}"
            + (" …" if len(shared) > 3 else "")
        )


# --- checkpoints ------------------------------------------------------------------------------------------------------


def find_base(project: Project, console: Console, builder: Builder) -> Checkpoint:
    """What [model] names; of the hub it is fetched into `build/base`."""
    client = fetching.Client(console, builder.get, project.folder)
    return bases.find(project.base, project.folder, project.build / "base", project.dialect, client)


def refuse_full_disk(project: Project, base: Checkpoint) -> None:
    """An estimate, before anything is made: the tuned checkpoint in float32, the trainer's, and every artifact."""
    tensors = checkpoint.inspect(base.path).tensors.values()
    elements = {t.name: math.prod(t.shape) for t in tensors}
    embedding = sum(n for name, n in elements.items() if "embed" in name)
    rest = sum(elements.values()) - embedding
    files = sum(q.estimate_bytes(rest, embedding, 0) for q in parse_all([*project.export.get("gguf", []), "f16"]))
    needed, free = 5 * sum(elements.values()) + 2 * files, shutil.disk_usage(project.folder).free
    if free < needed and not (project.build / "tuned" / DONE).exists():
        raise MissingError(
            f"{project.folder}: this run takes about {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free",
            "free some, or ask for fewer quantisations in [export]",
        )


def tune(project: Project, base: Checkpoint, data: Data, console: Console, builder: Builder) -> Checkpoint:
    """As [train] says, on the training rows; the loss of some evaluation rows is watched (see edge.train.tune)."""
    dialect, watched = dialects.get(base.dialect), data.workload.with_name("watched.jsonl")
    files = tuning.watched_rows(data.rows, project.training["eval_rows"], dialect, watched)
    given = tuning.Rows(data.training, files, data.counts)
    out = project.build / "tuned"
    return tuning.tune(base, given, project.training, out, project.name, console, builder.get, project.renderer)


# --- measuring --------------------------------------------------------------------------------------------------------


class _Bench:
    """Measures over the project's evaluation rows. A runtime that fails leaves a record that says so."""

    def __init__(self, project: Project, data: Data, console: Console, builder: Builder) -> None:
        self._project, self._data, self._console, self._builder = project, data, console, builder
        self.measurements: list[Measurement] = []

    def measure(self, subject: measure.Subject, runtime: str) -> None:
        project = self._project
        environment = self._builder.get(environments.spec(environments.script(runtime)))
        result = project.results / f"{subject.name}.json"
        with Local() as device:
            self.measurements.append(
                measure.measure(
                    subject,
                    _settings(project, runtime),
                    self._data.workload,
                    device,
                    environment,
                    result,
                    self._console,
                )
            )

    def measure_all(self, artifacts: list[Artifact], tuned: Checkpoint, runtime: str) -> None:
        """runtime: for GGUF; other formats have one each, .litertlm one more that writes prompts and reads calls itself."""
        for a in artifacts:
            name = a.quantisation if a.format == "gguf" else f"{a.format}-{a.quantisation}"
            tokenizer = families.tokenizer_file(Path(tuned.path)) if a.format == "tflite" else None
            subject = measure.Subject(name, Path(a.path), a.digest, "artifact", a.format, tokenizer)
            self.measure(subject, runtime if a.format == "gguf" else READS[a.format][0])
            if a.format == "litertlm" and self._project.bench["chat"] and self._project.dialect == "functiongemma":
                self.measure(dataclasses.replace(subject, name=f"{name}-chat"), "litert_lm_chat")


def _subject(checkpoint: Checkpoint, name: str) -> measure.Subject:
    return measure.Subject(name, Path(checkpoint.path), checkpoint.digest, "checkpoint", "checkpoint")


def choose_runtime(project: Project) -> tuple[str, list[Json]]:
    """The GGUF runtime that this machine can have, and what is missing for a better one."""
    wanted = project.bench["runtime"]
    missing: list[Json] = []
    for name in RUNTIMES if wanted == "auto" else (wanted,):
        lack = environments.missing(environments.spec(environments.script(name)))
        if not lack:
            return name, missing
        missing.append({"what": f"runtime {name}", "why": f"needs {lack}"})
    raise MissingError("no GGUF runtime can run here", f"{missing[0]['what']} {missing[0]['why']}")


def _settings(project: Project, runtime: str) -> measure.Settings:
    bench = project.bench
    threads = bench["threads"] or (measure.default_threads() if runtime != "transformers" else os.cpu_count() or 1)
    return measure.Settings(
        runtime=runtime,
        threads=threads,
        context=bench["context"],
        max_tokens=bench["max_tokens"],
        stop=dialects.get(project.dialect).STOP,
    )


def _able(scripts: Iterable[Path]) -> list[Spec]:
    """What environments these need, those left out that can't be built here."""
    return [it for it in map(environments.spec, scripts) if not environments.missing(it)]


def finish(
    project: Project, data: Data, measurements: list[Measurement], exported: list[Exported], missing: list[Json]
) -> Outcome:
    """Write `results/report.json` and `results/report.html`."""
    artifacts = [a for it in exported for a in it.artifacts]
    missing = [*(lack for it in exported for lack in it.missing), *missing]
    made = report.build(
        project.name, records.digest_file(data.workload), data.rows, measurements, artifacts, dialect=project.dialect,
        sources={m.subject_name: f"{m.subject_name}.json" for m in measurements}, data=data.counts, missing=missing,
    )  # fmt: skip
    files = {"json": project.results / "report.json", "html": project.results / "report.html"}
    report.save(made, files["json"], files["html"])
    return Outcome(made, {k: str(v) for k, v in files.items()}, artifacts, missing)
