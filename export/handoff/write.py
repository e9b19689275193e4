"""`edge handoff TARGET ARTIFACT`: one folder that works, checked as its receiver would check it, in its place whole or not at all.

from edge.console import Console
from edge.export.handoff import write
done = write.hand_over("ollama", Path("build/artifacts/app-q8_0.gguf"), write.Wish(), Console())
done.folder, done.steps
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge import dialects, environments, records
from edge.bench.report import handoff as page
from edge.console import Console
from edge.errors import EdgeError, GateError, MissingError
from edge.export import gate
from edge.export.handoff import Job, Target, contract, measured, origin, refuse, target, verify
from edge.records import Artifact, Json

REPORT, NOTICE, README = "report.html", "NOTICE.txt", "README.md"
_SHOWN = 8


@dataclass(frozen=True)
class Wish:
    """What is wanted.

    out: the folder [default: build/handoff/NAME-TARGET]. accept: why what speaks against it doesn't count. tools: the app's
    declarations, in place of those found with the checkpoint; system: likewise the developer message. notices: licence
    sentences besides the artifact's. package: of Flutter. url: where an app will download the model. checkpoint, results: where
    they lie, if not near the artifact. max_tokens: of an answer.
    """

    out: Path | None = None
    accept: str | None = None
    tools: Path | None = None
    system: str | None = None
    notices: Sequence[str] = ()
    package: str = "flutter_edge_ai"
    url: str | None = None
    checkpoint: Path | None = None
    results: Path | None = None
    max_tokens: int = contract.MAX_TOKENS


@dataclass(frozen=True)
class Done:
    """state: "written", "replaced" (an untouched older one), "kept" (the same lay there already)."""

    folder: Path
    contract: Json
    steps: list[str]
    state: str


def hand_over(name: str, file: Path, wish: Wish, console: Console) -> Done:
    """Write the folder for a target.

    Raises: EdgeError for input that can't be used and for a folder that somebody has changed, GateError for what is refused.
    """
    if wish.tools and wish.tools.suffix == ".py" and wish.tools.is_file():
        console.say(f"importing {wish.tools} (it runs; use JSON for tools that you don't trust)")
    job, told = prepare(name, file, wish)
    for what in told["accepted"]:
        console.say(f"accepted: {what['what']} ({what['reason']})")
    for warning in told["warnings"]:
        console.say(f"warning: {warning}")
    module = target(name)
    out = wish.out or _default(name, module, job)
    out = out.resolve() if out.is_symlink() else out  # what it leads to is filled; the link stays
    _refuse_strange(out)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with console.task(f"handing {file.name} over to {name}"):
            whole = _fill(module, job, _since(told, out), partial)
            _check(module, job, partial)
            state = _place(partial, out, whole)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Done(out, contract.read(out), module.steps(dataclasses.replace(job, contract=whole)), state)


def _default(name: str, module: Target, job: Job) -> Path:
    """Two formats of one name are two folders."""
    kind = f"-{job.record.format}" if len(module.FORMATS) > 1 else ""
    return Path("build") / "handoff" / f"{job.name}{kind}-{name}"


def prove(name: str, file: Path, wish: Wish, console: Console) -> None:
    """Let an artifact that nothing has judged yet be judged beside its checkpoint, if that and its rows lie near.

    Raises: EdgeError for what the target doesn't take in any case, so that nobody waits for its proof; MissingError if this
    machine lacks what a proof needs, unless there is a reason to hand it over without one.
    """
    record = _taken(name, file)
    where = origin.find(record, file, wish.checkpoint)
    if record.proof or not where.checkpoint:
        return
    rows = [row for row in origin.cases(where.workload) if "expected" in row]
    if not rows:
        return
    folder = file.parent / ".gate" / where.checkpoint.digest[:12]
    try:
        with (
            contextlib.closing(environments.Builder(console)) as builder,
            gate.Gate(where.checkpoint, rows[: gate.ROWS], folder, console, builder.get) as judge,
        ):
            judge.prove(record)
    except MissingError as error:
        if not wish.accept:
            raise
        console.say(f"warning: not proven: {error.message}")


def prepare(name: str, file: Path, wish: Wish) -> tuple[Job, Json]:
    """Everything that is known, and the contract but for `files` and `digest`. Raises as `hand_over` does."""
    module = target(name)
    record = _taken(name, file)
    found, findings = refuse.look(file)
    notices = refuse.notices(record, wish.notices, found)
    record = dataclasses.replace(record, notices=notices)
    where = origin.find(record, file, wish.checkpoint)
    lesson = origin.lesson(where, record.dialect, wish.tools, wish.system)
    warnings = refuse.declarations_fit(lesson.tools, record.dialect)
    served = refuse.served(refuse.renders(module, record, found), lesson, record, where.renderer, found)
    doubts = refuse.doubts(record, lesson, served, findings)
    accepted = refuse.accept(file.name, doubts, wish.accept)
    workloads = [p for p in [where.workload] if p]
    figures = measured.find(record, _results(where, wish.results), workloads, record.dialect)
    warnings += _warnings(lesson, served, figures, record)
    options = {"package": wish.package if name == "flutter" else None, "download_url": _url(wish.url)}
    asset = module.ASSET.replace("{file}", file.name)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.removesuffix(file.suffix) or file.name).strip("-.") or "model"
    told = contract.build(
        name, safe, asset, record, where, lesson, served, figures, notices=notices, accepted=accepted, warnings=warnings,
        options=options, max_tokens=wish.max_tokens,
    )  # fmt: skip
    job = Job(
        name=safe, artifact=file, record=record, tools=lesson.tools, dialect=record.dialect, renderer=where.renderer,
        context_tokens=told["model"]["context_tokens"], max_tokens=told["sampling"]["max_tokens"],
        stop_tokens=told["stop"]["tokens"], system=lesson.system, contract=told,
        options={**options, "cases": _cases(lesson, record, figures.answers)},
    )  # fmt: skip
    return job, told


def _taken(name: str, file: Path) -> Artifact:
    """The artifact, if this target takes its kind at all."""
    record = refuse.artifact(file)
    refuse.other_format(name, target(name), record)
    refuse.other_dialect(name, target(name), record)
    refuse.odd_name(file)
    return record


def _results(where: origin.Origin, given: Path | None) -> list[Path]:
    if given and not given.is_dir():
        raise EdgeError(f"{given}: no such folder", "give the one that the measurements lie in, or leave --results out")
    return [*where.results, *([given] if given else [])]


def _url(url: str | None) -> str | None:
    if url and not re.fullmatch(r"https?://[^/\s]+/\S+", url):
        raise EdgeError(f"--url {url}: not the address of a file", "such as https://example.com/models/app-q8_0.gguf")
    return url


def _warnings(lesson: origin.Lesson, served: Sequence[Json], figures: measured.Found, record: Artifact) -> list[str]:
    found = []
    if lesson.as_trained is None:
        found.append("no training rows at hand: whether it was tuned on these very declarations is not known")
    if lesson.system_varies:
        found.append(
            "the developer message was not the same in all training rows (a date?): the app must write it as they had it"
        )
    found += [f"{s['renderer']}: {s['verified']}" for s in served if s["verified"].startswith("not verified")]
    if figures.emulated:
        found.append(f"{figures.emulated} measurements on emulated devices are left out: they are nobody's figures")
    if not figures.entries:
        found.append("not measured on any device")
    return found


def _cases(lesson: origin.Lesson, record: Artifact, answers: dict[str, str]) -> list[Json]:
    """Questions with the calls that the file itself was seen to make, right ones, for a proof on the receiver's side.

    Without a measurement: with the calls that are right. Those with one call come first.
    """
    parse = dialects.get(record.dialect).parse
    found = []
    for case in lesson.cases:
        if case["tools"] != lesson.tools:  # it was asked with another prompt than apps will send
            continue
        expected = case.get("expected") or []
        seen = [c.to_json() for c in parse(answers[case["id"]]).calls] if case["id"] in answers else expected
        if expected and seen == expected:
            found.append(case)
    return sorted(found, key=lambda c: len(c["expected"]))


# --- the folder ---------------------------------------------------------------------------------------------------------


def _fill(module: Target, job: Job, told: Json, folder: Path) -> Json:
    """Write everything; the contract comes last."""
    job = dataclasses.replace(job, contract=told)
    texts = {
        verify.SCHEMA: contract.SCHEMA.read_text(encoding="utf-8"),
        "verify.py": Path(verify.__file__).read_text(encoding="utf-8"),
        REPORT: page.render([told]),
        NOTICE: _notice(told),
        README: _readme(told),
        **module.files(job),
    }
    asset = folder / told["model"]["file"]
    asset.parent.mkdir(parents=True)
    if job.artifact.is_dir():
        shutil.copytree(job.artifact, asset)
    else:
        shutil.copyfile(job.artifact, asset)
    for path, text in texts.items():
        records.write_text(folder / path, text)
        if path.endswith((".sh", "gradlew")):
            (folder / path).chmod(0o755)
    return contract.finish(told, folder)


def _notice(told: Json) -> str:
    lines = told["notices"] or ["No terms of others are known for this model."]
    return "\n\n".join(lines) + "\n"


def _readme(told: Json) -> str:
    """For a target that writes none of its own."""
    return (
        f"# {told['name']} for {told['target']}\n\n"
        "`contract.json` says what this is and what it was proven to do, `report.html` shows it.\n"
        "`python3 verify.py` checks every file.\n"
    )


def _check(module: Target, job: Job, folder: Path) -> None:
    """As the receiver would. Raises GateError: what is written must work."""
    wrong = [*verify.problems(folder, contract.schema()), *module.check(folder, job)]
    if wrong:
        raise GateError(
            f"the folder would not work: {'; '.join(wrong[:_SHOWN])}", "nothing was written; this is a fault of edge's"
        )


# --- what lies there already --------------------------------------------------------------------------------------------


def _refuse_strange(out: Path) -> None:
    """Raise EdgeError for a place where something lies that no handoff wrote."""
    if out.exists() and not out.is_dir():
        raise EdgeError(f"{out}: a file", "give a folder: --out")
    if out.is_dir() and any(out.iterdir()) and not (out / verify.CONTRACT).is_file():
        raise EdgeError(f"{out}: something else lies there, without a contract.json", "give a new folder: --out")


def _since(told: Json, out: Path) -> Json:
    """The contract with the date of the one that lies there, if they say the same otherwise: then so do all files."""
    if not (out / verify.CONTRACT).is_file():
        return told
    old = contract.read(out)
    changing = ("created_at", "files", "digest")
    now = json.loads(json.dumps(told))
    same = {k: v for k, v in old.items() if k not in changing} == {k: v for k, v in now.items() if k not in changing}
    return {**told, "created_at": old["created_at"]} if same and "created_at" in old else told


def _place(partial: Path, out: Path, whole: Json) -> str:
    """Move the new folder into its place. Raises EdgeError if what lies there was changed by somebody."""
    if not out.exists() or not any(out.iterdir()):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists():
            out.rmdir()
        partial.replace(out)
        return "written"
    old = contract.read(out)
    _refuse_changed(out, old, whole)
    if old == whole:
        return "kept"
    trash = out.with_name(f".{out.name}.{os.getpid()}.old")
    shutil.rmtree(trash, ignore_errors=True)
    out.replace(trash)
    try:
        partial.replace(out)
    except OSError:
        trash.replace(out)
        raise
    shutil.rmtree(trash, ignore_errors=True)
    return "replaced"


def _refuse_changed(out: Path, old: Json, new: Json) -> None:
    """Raise EdgeError, told three ways: what was changed there, what this handoff would change, and what both would."""
    files = verify.files_of(old)
    changed = [p for p in files if verify.damage(out, p, files[p])]
    edited = [verify.CONTRACT] if old.get("digest") != verify.digest_of(old) else []
    added = verify.unknown(out, old)
    if not changed and not added and not edited:
        return
    ours = {p for p in {*files, *new["files"]} if files.get(p) != new["files"].get(p)}
    both = [p for p in changed if p in ours] + [p for p in added if p in new["files"]]
    alone = [p for p in changed if p not in ours]
    parts = [("changed there", alone + edited), ("changed there and by this handoff", both),
             ("added there", [p for p in added if p not in new["files"]]),
             ("changed by this handoff alone", sorted(ours - {*changed, *both}))]  # fmt: skip
    said = "; ".join(f"{what}: {_list(paths)}" for what, paths in parts if paths)
    raise EdgeError(
        f"{out}: somebody has worked in it, so it is not overwritten: {said}",
        f"write a new one and compare: --out {out}-new && diff -r {out} {out}-new",
    )


def _list(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
