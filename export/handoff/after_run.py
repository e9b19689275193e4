"""`[handoff]` in edge.toml: what `edge run` ends with, a folder for each target, from the smallest artifact that is proven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import records
from edge.bench.report import handoff as page
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError, GateError
from edge.export import gate
from edge.export.handoff import signing, target, write
from edge.export.job import manifest_of
from edge.records import Artifact, Checkpoint, Json

if TYPE_CHECKING:
    from edge.project import Project

PAGE = "handoff.html"


def hand_over(
    project: Project,
    tuned: Checkpoint,
    artifacts: Sequence[Artifact],
    rows: Sequence[Json],
    cells: Sequence[Json],
    console: Console,
    environment: Callable[[Spec], Environment],
) -> tuple[list[write.Done], list[EdgeError]]:
    """A folder for each target in `build/handoff/`, and `results/handoff.html` on all of them. One that fails keeps none of the
    others back.

    rows: of the workload, on which artifacts are proven. cells: of the report: what lost calls there comes last.
    """
    given, done, failed = project.handoff, [], list[EdgeError]()
    harmed = {c["subject"] for c in cells if (c["difference"] or {}).get("verdict") == "lost"}
    with gate.Gate(tuned, list(rows[: gate.ROWS]), project.build / "artifacts" / ".gate" / tuned.digest[:12],
                   console, environment) as judge:  # fmt: skip
        for name in given["targets"]:
            try:
                chosen = _choose(name, given, artifacts, harmed, judge)
                done.append(_write(project, name, chosen, console))
            except EdgeError as error:
                error.message = f"handoff to {name}: {error.message}"
                failed.append(error)
    if done:
        page.save([d.contract for d in done], project.results / PAGE)
    return done, failed


def _choose(
    name: str, given: dict[str, Any], artifacts: Sequence[Artifact], harmed: set[str], judge: gate.Gate
) -> Path:
    """The artifact that is asked for, or the smallest proven one. Raises EdgeError, or GateError if none may go."""
    formats = target(name).FORMATS
    fit = [a for a in map(_now, artifacts) if a and a.format in formats]
    wanted = given["artifact"]
    if wanted != "auto":
        fit = [a for a in fit if wanted in (a.quantisation, Path(a.path).name)]
    if not fit:
        there = ", ".join(Path(a.path).name for a in artifacts) or "none"
        named = "" if wanted == "auto" else f" {wanted}"
        raise EdgeError(
            f"no artifact{named} of {' or '.join(formats)} was made (there are: {there})",
            f"ask for one in [export]: {formats[0]} = […]",
        )
    judged = []
    for artifact in sorted(fit, key=lambda a: (a.digest in harmed, a.bytes)):
        found = judge.prove(artifact)
        if (found.proof or {})["verdict"] == "proven":
            return Path(found.path)
        judged.append(found)
    usable = [a for a in judged if (a.proof or {})["verdict"] == "degraded"]
    if usable and given["accept"]:
        return Path(max(usable, key=lambda a: a.bytes).path)
    said = "; ".join(f"{Path(a.path).name} is {(a.proof or {})['verdict']}" for a in judged)
    raise GateError(
        f"no proven artifact: {said}",
        'add a quantisation with more bits to [export], or accept = "why" for a degraded one',
    )


def _now(artifact: Artifact) -> Artifact | None:
    """The artifact with what its manifest says by now; None if it was refused meanwhile."""
    file = Path(artifact.path)
    return records.load(Artifact, manifest_of(file)) if manifest_of(file).exists() and file.exists() else None


def _write(project: Project, name: str, file: Path, console: Console) -> write.Done:
    given = project.handoff
    key = project.folder / Path(given["sign"]).expanduser() if given["sign"] else None
    if key:
        signing.refuse_unusable(key, console)
    wish = write.Wish(
        out=project.build / "handoff" / f"{project.name}-{name}", accept=given["accept"] or None, notices=given["notices"],
        package=given["package"], url=given["url"] or None, checkpoint=project.build / "tuned",
    )  # fmt: skip
    done = write.hand_over(name, file, wish, console)
    if key:
        signing.sign(done.folder, key, console)
    console.say(f"{'=' if done.state == 'kept' else '✓'} handed over to {name}: {done.folder}")
    for number, step in enumerate(done.steps, 1):
        console.say(f"  {number}. {step}")
    return done
