"""Base against tuned: the same rows, the same prompts, greedy; what each gets right, how sure that is, and every mistake.

    from edge.bench.evaluate import evaluate
    found = evaluate(["app/build/tuned"], ["app/eval.jsonl"], tools="app/tools.py", base="edge-tiny")
    found.subjects[-1]["metrics"]["exact"]          # {"value": 0.87, "low": 0.85, "high": 0.89, "n": 961, …}
    found.subjects[-1]["difference"]["exact"]["p"]  # McNemar's exact test, two-sided
    [m for m in found.mistakes if m["kind"] == "value near"]

Answers lie in `out` as Measurements, one a subject, and are kept: what was stopped goes on after the last batch, and
scoring again costs nothing. All figures are computed from them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import dialects, environments, records, rows, tools
from edge import project as projects
from edge.bench import measure, mistakes
from edge.bench import subjects as candidates
from edge.bench.evaluation import Evaluation, common_mistakes, headline
from edge.bench.metrics import METRICS, Facts, Judged, by_argument, figures
from edge.bench.score import NO_CALL, Outcome, groups, names_of, score
from edge.bench.subjects import BASE, Candidate
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import Tool
from edge.errors import EdgeError, from_json
from edge.export import checkpoint as checkpoints
from edge.locks import only_one
from edge.project import Project
from edge.records import Json, Measurement
from edge.rows import Manner
from edge.train import readers
from edge.train.data import source, text
from edge.train.readers import Reject, Row

RUNTIME = "transformers"
RAW_CHARACTERS = 4000  # of a wrong output; the whole is in the measurement
MAX_TOKENS = 128  # longest answer where no project says another


@dataclass(frozen=True)
class _Data:
    """The rows to answer, and what is known of them."""

    file: Path  # {"id", "prompt", "expected", "user", "completion"} a line
    workload: list[Json]
    facts: dict[str, Facts]
    counts: Json
    warnings: list[str]


def evaluate(
    subjects: Sequence[str | Path] = (),
    data: Sequence[str | Path] = (),
    *,
    project: str | Path | None = None,
    tools: str | Path | None = None,
    base: str | Path | None = None,
    trained_on: Sequence[str | Path] = (),
    rows: int | None = None,
    out: str | Path | None = None,
    dialect: str | None = None,
    developer: str | None = None,
    max_tokens: int | None = None,
    threads: int | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Let every subject answer the same rows, greedily, and compare them with the base.

    Args:
        subjects: folders of checkpoints, or of LoRA adapters, which stay unmerged; none: the project's `build/tuned`.
        data: files, globs or hub datasets of rows; none: the project's evaluation rows.
        project: a folder with `edge.toml`, or that file: what is not given here comes from it.
        tools: declares the tools of rows that bring none (.py is run).
        base: the checkpoint that adapters belong to and that every subject is compared with; none: the one that the
            adapters name, or the project's. `edge-tiny` is the embedded model; a hub id is fetched once, into `out`.
        trained_on: training rows, to warn of tools that they never call and of rows that are in both.
        rows: how many of the rows, from the top; 0 takes all [default: the project's `bench.rows`, else all].
        out: the folder for answers and figures [default: PROJECT/results/eval, else ./eval].
        dialect: how prompts are written and calls read [default: the project's, else what the subjects' records say].
        developer: what a flat row says first.
        max_tokens: the longest answer [default: the project's, else 128].
        threads: of the CPU [default: the project's, else all].
        console: where progress goes; none: nowhere.

    Raises EdgeError for input that can't be used (rows without expected calls, a checkpoint of another dialect, an adapter
    of another base), MissingError and WorkerError for what this machine lacks or a worker fails at. Rows on which the
    runtime failed are in the result.
    """
    console = console or Console(quiet=True)
    given = projects.load(Path(project)) if project is not None else None
    target = Path(out) if out is not None else given.results / "eval" if given else Path("eval")
    spoken, every = _subjects(subjects, base, dialect, given, target, console)
    manner = Manner(spoken, developer or (given.developer if given else readers.DEVELOPER), _renderer(every, given))
    busy = EdgeError(f"another edge eval is at work in {target}", "wait for it, or give another --out")
    with only_one(target / ".lock", busy):
        read = _read(data, Path(tools) if tools else None, trained_on, rows, manner, given, target, console)
        settings = _settings(every, max_tokens, threads, spoken, given)
        measured = _measure(every, settings, read, target, console)
        return _finish(given.name if given else _title(every), every, measured, read, manner, target)


# --- what is evaluated ------------------------------------------------------------------------------------------------


def _subjects(
    given: Sequence[str | Path],
    base: str | Path | None,
    dialect: str | None,
    project: Project | None,
    out: Path,
    console: Console,
) -> tuple[str, list[Candidate]]:
    """The dialect, and the candidates, the base first."""
    if not given and not project:
        raise EdgeError("nothing to evaluate", "give a checkpoint or an adapter, or a project with edge.toml")
    if project and not given:
        tuned = project.build / "tuned"
        if not tuned.is_dir():
            raise EdgeError(f"{tuned}: nothing is tuned yet", f"edge run {project.folder}, or name a checkpoint")
        given = [tuned]
    for one in given:
        if not candidates.folder_of(one).is_dir():
            raise EdgeError(f"{one}: no such folder", "give the folder of a checkpoint or of an adapter")
    told = [r for one in given if (r := candidates.recorded(candidates.folder_of(one)))]
    spoken = dialect or (project.dialect if project else told[0].dialect if told else "functiongemma")
    dialects.get(spoken)
    for record in told:
        if record.dialect != spoken:
            raise EdgeError(f"{record.path}: tuned for the dialect {record.dialect}, not {spoken}",
                            "prompts of another dialect would measure nothing: --dialect " + record.dialect)  # fmt: skip
    if base is not None:
        base = _given_base(base, out / "base", spoken, console)
    elif project:
        base = _project_base(project, console)
    return spoken, candidates.find(given, base, spoken)


def _given_base(base: str | Path, out: Path, dialect: str, console: Console) -> Path:
    """A folder, the embedded model's, or a hub model, which is fetched once into `out`."""
    from edge.train import bases, fetching

    folder = candidates.folder_of(base)
    if folder.is_dir():
        return folder
    with contextlib.closing(environments.Builder(console)) as builder:
        client = fetching.Client(console, builder.get)
        return Path(bases.find(str(base), Path(), out, dialect, client).path)


def _project_base(project: Project, console: Console) -> Path:
    from edge import pipeline  # it is the larger part: here, so that an evaluation without a project does without

    with contextlib.closing(environments.Builder(console)) as builder:
        return Path(pipeline.find_base(project, console, builder).path)


def _renderer(every: Sequence[Candidate], project: Project | None) -> str:
    """Who writes the prompts: the same for all, so that what tuned learned is what base is asked."""
    told = [r.renderer for one in every if (r := candidates.recorded(one.adapter or Path(one.checkpoint.path)))]
    ours = [name for name in told if name != "training"]
    return project.renderer if project else ours[0] if ours else "training"


def _title(every: Sequence[Candidate]) -> str:
    return " and ".join(one.name for one in every if one.name != BASE)


def _settings(
    every: Sequence[Candidate], max_tokens: int | None, threads: int | None, dialect: str, project: Project | None
) -> measure.Settings:
    bench: Json = project.bench if project else {}
    limits = [checkpoints.inspect(Path(one.checkpoint.path)).config.get("max_position_embeddings") for one in every]
    return measure.Settings(
        runtime=RUNTIME,
        threads=threads or bench.get("threads") or os.cpu_count() or 1,
        context=min([int(n) for n in limits if n], default=1024),
        max_tokens=max_tokens or bench.get("max_tokens") or MAX_TOKENS,
        stop=dialects.get(dialect).STOP,
    )


# --- the rows ---------------------------------------------------------------------------------------------------------


def _read(
    data: Sequence[str | Path],
    tools_file: Path | None,
    trained_on: Sequence[str | Path],
    most: int | None,
    manner: Manner,
    project: Project | None,
    out: Path,
    console: Console,
) -> _Data:
    file = tools_file or (project.tools if project else None)
    declared = tools.declared(file, dialects.get(manner.dialect), console.say).tools if file else []
    files = source.expand(map(str, data)) if data else list(project.eval) if project else []
    if not files:
        raise EdgeError("no rows to answer", "name them: --data FILE")
    given, rejected = rows.read(files, "eval", declared, manner, console)
    readers.write_rejects(rejected, out / "rejects.jsonl")
    for reason, count in readers.count_reasons(rejected).most_common():
        console.say(f"warning: {count} rows rejected: {reason} (see {out / 'rejects.jsonl'})")
    limit = most if most is not None else project.bench["rows"] if project else 0
    chosen = given[: limit or None]
    _refuse_unscorable(chosen, rejected, out)
    taught = source.expand(map(str, trained_on)) if trained_on else list(project.train) if project else []
    training = rows.read(taught, "train", declared, manner, console)[0] if taught else []
    warnings, unseen, shared = _compare(chosen, training, bool(taught))
    for warning in warnings:
        console.say(f"warning: {warning}")
    rows.say_renderer(manner, console)
    workload = [{**rows.workload_row(row, declared, manner),
                 "completion": rows.training_row(row, declared, manner)["completion"]} for row in chosen]  # fmt: skip
    rows.write_lines(out / "workload.jsonl", workload)
    counts = {
        "files": [str(file) for file in files],
        "rows": len(chosen),
        "not taken": len(given) - len(chosen),
        "without_tools": sum(not (declared if row.tools is None else row.tools) for row in chosen),
        "rejected": len(rejected),
        "reasons": dict(readers.count_reasons(rejected)),
        "training_rows": len(training) if taught else None,
        "shared_with_training": len(shared) if taught else None,
        "tools_unseen_in_training": unseen if taught else None,
    }
    return _Data(
        out / "workload.jsonl", workload, {row.id: _facts(row, declared, unseen) for row in chosen}, counts, warnings
    )


def _refuse_unscorable(chosen: Sequence[Row], rejected: Sequence[Reject], out: Path) -> None:
    if not chosen:
        first = f"; the first, {rejected[0].file}:{rejected[0].line}: {rejected[0].reason}" if rejected else ""
        raise EdgeError("no usable evaluation rows", f"why each was rejected: {out / 'rejects.jsonl'}{first}")
    if not any(row.calls for row in chosen):
        raise EdgeError(
            f"none of the {len(chosen)} rows expects a call, so a model that never calls would be right in all of them",
            "add rows whose answer calls; where answers hold calls as text, --dialect says how they are written",
        )


def _compare(chosen: Sequence[Row], training: Sequence[Row], known: bool) -> tuple[list[str], list[str], list[str]]:
    """Warnings, tools that training never called, and rows that are in training too."""
    if not known:
        return [], [], []
    unseen, shared = readers.unseen_tools(training, chosen), readers.shared_rows(training, chosen)
    warnings = []
    if unseen:
        count = sum(any(call.name in unseen for call in row.calls) for row in chosen)
        warnings.append(f"training never calls {', '.join(unseen)}, and {count} evaluation rows do")
    if shared:
        warnings.append(f"{len(shared)} evaluation rows are also in training, so scores flatter: "
                        f"{', '.join(shared[:3])}{' …' if len(shared) > 3 else ''}")  # fmt: skip
    return warnings, unseen, shared


def _facts(row: Row, declared: list[Tool], unseen: Sequence[str]) -> Facts:
    said = text.said(row)
    before = row.messages[:-1]
    turns = sum(m["role"] == "user" for m in before) > 1 or any(m["role"] in ("assistant", "tool") for m in before)
    return Facts(
        tools=declared if row.tools is None else row.tools,
        several_turns=turns,
        script=text.script(said),
        said=said,
        unseen=tuple(sorted({call.name for call in row.calls} & set(unseen))),
    )


# --- answers ----------------------------------------------------------------------------------------------------------


def _measure(
    every: Sequence[Candidate], settings: measure.Settings, read: _Data, out: Path, console: Console
) -> dict[str, Measurement]:
    environment = environments.ensure(environments.spec(environments.script(RUNTIME)), console)
    found = {}
    for one in every:
        _start_tokens(
            _tokens_file(out, one.name), [one.digest, records.digest_file(read.file)], out / f"{one.name}.json"
        )
        # What the runtime needs besides a folder stands in a file of its own (bench/runtimes/transformers.py).
        told = {"checkpoint": one.checkpoint.path, "adapter": str(one.adapter) if one.adapter else None,
                "answers": str(read.file.absolute()), "tokens": str(_tokens_file(out, one.name).absolute())}  # fmt: skip
        path = out / f"{one.name}.subject.json"
        records.save(told, path)
        subject = measure.Subject(one.name, path.absolute(), one.digest, "checkpoint", "checkpoint")
        with Local() as device:
            made = measure.measure(subject, settings, read.file, device, environment, out / f"{one.name}.json", console)
        if made.error:
            raise from_json(made.error)
        found[one.name] = made
    return found


def _tokens_file(out: Path, name: str) -> Path:
    return out / f"{name}.tokens.jsonl"


def _start_tokens(file: Path, of: list[str], result: Path) -> None:
    """A file of counts that are another subject's or other rows' is begun anew, and the answers that go with it."""
    mark = json.dumps({"of": records.digest_value(of)}) + "\n"
    with contextlib.suppress(OSError), file.open(encoding="utf-8") as f:
        if f.readline() == mark:
            return
    for made in (result, result.with_suffix(".samples")):
        made.unlink(missing_ok=True)
    records.write_text(file, mark)


def _tokens(file: Path) -> dict[str, tuple[float, float]]:
    """{row: (right, of)}; a row that was answered twice, since the first time was cut off, counts as it was the last time."""
    found = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line of a stopped run may be cut short
            told = json.loads(line)
            found[told["row"]] = (told["right"], told["of"])
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def _finish(
    name: str,
    every: Sequence[Candidate],
    measured: dict[str, Measurement],
    read: _Data,
    manner: Manner,
    out: Path,
) -> Evaluation:
    from edge.bench.report import evaluation as page  # the page imports what is here

    judged = {one.name: _judge(measured[one.name], read, manner.dialect, out) for one in every}
    values, differences = figures(_reached(judged), BASE)
    right = {j.outcome.row for j in judged.get(BASE, []) if j.outcome.right}
    files = {"json": str(out / "evaluation.json"), "html": str(out / "evaluation.html")}
    made = Evaluation(
        name=name,
        created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        dialect=manner.dialect,
        renderer=manner.renderer,
        workload=records.digest_file(read.file),
        rows=len(read.workload),
        subjects=[
            _subject(one, judged[one.name], measured[one.name], values[one.name], differences.get(one.name), out)
            for one in every
        ],
        mistakes=[m for one in every for m in _mistakes(one.name, judged[one.name], right)],
        data=read.counts,
        warnings=read.warnings,
        files=files,
    )
    records.save(made, files["json"])
    records.write_text(files["html"], page.render(made))
    return made


def _judge(measured: Measurement, read: _Data, dialect: str, out: Path) -> list[Judged]:
    tokens = _tokens(_tokens_file(out, measured.subject_name))
    outcomes = score(read.workload, measured, dialect).outcomes
    return [Judged(o, read.facts[o.row], tokens.get(o.row)) for o in outcomes]


def _reached(judged: dict[str, list[Judged]]) -> dict[str, list[Judged]]:
    """The rows that all subjects have reached."""
    missing = {j.outcome.row for rows_ in judged.values() for j in rows_ if j.outcome.state == "missing"}
    return {name: [j for j in rows_ if j.outcome.row not in missing] for name, rows_ in judged.items()}


def _subject(
    one: Candidate, judged: list[Judged], measured: Measurement, values: Json, difference: Json | None, out: Path
) -> Json:
    outcomes = [j.outcome for j in judged if j.outcome.state != "missing"]
    facts = {j.outcome.row: j.facts for j in judged}
    first = Counter(mistakes.find(o)[0].kind for o in outcomes if not o.right)
    return {
        "name": one.name,
        "kind": one.kind,
        "path": one.checkpoint.path,
        "adapter": str(one.adapter) if one.adapter else None,
        "digest": one.digest,
        "runtime_version": measured.runtime_version,
        "settings": measured.settings,
        "measurement": str(out / f"{one.name}.json"),
        "rows": {"expected": len(judged), **{state: sum(j.outcome.state == state for j in judged)
                                             for state in ("right", "wrong", "failed", "missing")}},
        "metrics": values,
        "difference": difference,
        "tools": _groups(outcomes, lambda o: names_of(o.expected) or [NO_CALL]),
        "scripts": _groups(outcomes, lambda o: [facts[o.row].script]),
        "kinds": _groups(outcomes, lambda o: _kinds(o, facts[o.row])),
        "arguments": by_argument([j for j in judged if j.outcome.state != "missing"]),
        "mistakes": {kind: first[kind] for kind in mistakes.KINDS if first[kind]},
    }  # fmt: skip


def _groups(outcomes: Sequence[Outcome], keys: Any) -> Json:
    return {name: dataclasses.asdict(estimate) for name, estimate in groups(outcomes, keys).items()}


def _kinds(outcome: Outcome, facts: Facts) -> list[str]:
    number = len(outcome.expected)
    calls = "no call" if not number else "one call" if number == 1 else "several calls"
    unseen = ["tool unseen in training"] if facts.unseen else []
    return [calls, "several turns" if facts.several_turns else "one turn", *unseen]


def _mistakes(name: str, judged: Sequence[Judged], right_in_base: set[str]) -> Iterator[Json]:
    for j in judged:
        o, found = j.outcome, mistakes.find(j.outcome)
        if not found:
            continue
        raw = o.text if o.text is None or len(o.text) <= RAW_CHARACTERS else o.text[:RAW_CHARACTERS] + "…"
        yield {
            "subject": name,
            "row": o.row,
            "kind": found[0].kind,
            "state": o.state,
            "said": j.facts.said,
            "expected": [c.to_json() for c in o.expected],
            "got": [c.to_json() for c in o.got],
            "why": o.why,
            "errors": list(o.errors),
            "raw": raw,
            "stop": o.stop,
            "new": name != BASE and o.row in right_in_base,
            "differences": [m.to_json() for m in found],
        }


__all__ = ["METRICS", "Evaluation", "common_mistakes", "evaluate", "headline"]
