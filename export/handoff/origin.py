"""Where an artifact comes from: its checkpoint, and what training said before the user's words (tools, developer message).

The tools are taken from the rows that lie beside the checkpoint, and held against the training prompts themselves, which
are found by the digest in the checkpoint's record: the order in which the model learned its tools is the order in which
they stand there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge import dialects, records, renderers
from edge import tools as declarations
from edge.dialects import Message, Tool
from edge.errors import EdgeError
from edge.records import Artifact, Checkpoint, Json
from edge.renderers import TRAINING
from edge.train import readers

_UP = 4  # folders above the artifact in which a checkpoint is looked for
_DECLARED = re.compile(r"<start_function_declaration>declaration:([^{]+)\{")
_MARK = "What the user says stands here."
CASES = 16


@dataclass(frozen=True)
class Origin:
    """checkpoint: None if it lies nowhere near. training, workload: rows as the model saw them; None if not found."""

    checkpoint: Checkpoint | None
    training: Path | None
    workload: Path | None
    renderer: str = TRAINING

    @property
    def results(self) -> list[Path]:
        """Folders in which measurements may lie."""
        near = [Path(self.checkpoint.path).parent, Path(self.checkpoint.path).parent.parent] if self.checkpoint else []
        return [folder / "results" for folder in near if (folder / "results").is_dir()]


@dataclass(frozen=True)
class Lesson:
    """What training showed the model before the user's words, and questions to ask of whoever serves it.

    as_trained: training's own prompts begin so; None if there are none to compare with. doubt: why not. cases: {"id", "messages",
    "tools", "expected"?}.
    """

    tools: list[Tool]
    system: str
    system_varies: bool
    source: str
    as_trained: bool | None
    rows: int = 0
    same_order: int = 0
    doubt: str | None = None
    cases: list[Json] = field(default_factory=list)


def find(artifact: Artifact, file: Path, given: Path | None = None) -> Origin:
    """The checkpoint that an artifact names by its digest, and its rows.

    given: the checkpoint's folder, if it lies elsewhere. Raises EdgeError if that is another checkpoint.
    """
    folder, found = _checkpoint(artifact, file, given)
    if not found or not folder:
        return Origin(None, None, None)
    training = _training_rows(folder, found)
    near = [training.parent] if training else []
    places = [*near, folder.parent / "data", folder.with_name(f"{folder.name}.worker") / "data"]
    workload = next((p / "eval.jsonl" for p in places if (p / "eval.jsonl").is_file()), None)
    return Origin(replace(found, path=str(folder)), training, workload, found.renderer)


def _checkpoint(artifact: Artifact, file: Path, given: Path | None) -> tuple[Path | None, Checkpoint | None]:
    above = list(file.resolve().parents)[:_UP]
    files = (
        [given / "checkpoint.json"]
        if given
        else [f for a in above for f in [a / "checkpoint.json", *sorted(a.glob("*/checkpoint.json"))]]
    )
    for record in files:
        if not record.is_file():
            continue
        try:
            found = records.load(Checkpoint, record)
        except EdgeError:
            continue
        if found.digest == artifact.checkpoint:  # never so for an artifact from elsewhere, which names none
            return record.parent, found
    if given:
        raise EdgeError(
            f"{given}: not the checkpoint that {file.name} was made from ({artifact.checkpoint[:12]})",
            "give the folder whose checkpoint.json has that digest, or leave --checkpoint out",
        )
    return None, None


def _training_rows(folder: Path, checkpoint: Checkpoint) -> Path | None:
    """The file of {"id", "prompt", "completion"} whose digest the record has."""
    wanted = (checkpoint.training or {}).get("data")
    run = folder / "training" / "run.json"
    told = records.read_json(run) if run.is_file() else {}
    named = [Path(told["rows"]["file"])] if isinstance(told.get("rows"), dict) else []
    places = [
        *named,
        folder.parent / "data/train.jsonl",
        folder.with_name(f"{folder.name}.worker") / "data/train.jsonl",
    ]
    return next((p for p in places if wanted and p.is_file() and records.digest_file(p) == wanted), None)


# --- what was learned -------------------------------------------------------------------------------------------------


def lesson(origin: Origin, dialect: str, tools_file: Path | None = None, system: str | None = None) -> Lesson:
    """The tools in the order in which they were learned, and the developer message.

    tools_file: the app's tools, in place of those that are found. system: likewise the developer message.

    Raises: EdgeError if no declarations are found, or the training rows have different sets of them.
    """
    prompts = _prompts(origin.training)
    measured = cases(origin.workload)
    known, source = _known(origin, measured, tools_file)
    orders = (
        Counter(tuple(_DECLARED.findall(p)) for p in prompts)
        if dialect == "functiongemma"
        else Counter[tuple[str, ...]]()
    )
    orders.pop((), None)
    learned = orders.most_common(1)[0][0] if orders else ()
    _refuse_unclear(orders, known, tools_file)
    named = {tool["function"]["name"]: tool for tool in known}
    whole = bool(learned) and set(learned) == set(named)
    tools = [named[name] for name in learned] if whole else known
    system, varies = _system(measured, system)
    lesson = Lesson(tools, system, varies, source, None, len(prompts), orders.get(tuple(named), 0), None, measured)
    return _compared(lesson, prompts, orders, dialect, origin.renderer, learned)


def _prompts(training: Path | None) -> list[str]:
    return [row["prompt"] for row in _rows(training)]


def cases(workload: Path | None) -> list[Json]:
    """Rows that were measured on, with the messages and tools that their prompts were written from.

    Another file of that name may lie there, of rows as people write them: those are left out. Raises EdgeError.
    """
    return [row for row in _rows(workload) if row.keys() >= {"id", "prompt", "messages", "tools"}]


def _rows(file: Path | None) -> Iterator[Json]:
    """The objects of a file of JSON lines. Raises EdgeError naming the line."""
    for number, line in records.read_lines(file) if file else ():
        try:
            row = json.loads(line or "null")
        except (ValueError, RecursionError) as error:
            raise EdgeError(
                f"{file}, line {number}: not JSON: {error}", "mend the line, or move the file away"
            ) from None
        if isinstance(row, dict):
            yield row


def _known(origin: Origin, cases: Sequence[Json], tools_file: Path | None) -> tuple[list[Tool], str]:
    """Every declaration that can be found, by name the first, and where they are from. Raises EdgeError for none."""
    if tools_file:
        return declarations.load(tools_file).tools, tools_file.name
    for source, found in _sources(origin, cases):
        tools = {tool["function"]["name"]: tool for each in found for tool in each}
        if tools:
            return list(tools.values()), source
    raise EdgeError(
        "no tool declarations are found for this artifact: its training rows don't lie near",
        "give them: --tools tools.json, in the order in which it was tuned on them (--checkpoint FOLDER, if it lies elsewhere)",
    )


def _sources(origin: Origin, cases: Sequence[Json]) -> Iterator[tuple[str, Iterator[list[Tool]]]]:
    yield "rows that it was measured on", (row["tools"] for row in cases)
    training = (origin.checkpoint.training if origin.checkpoint else None) or {}
    told = training.get("tools_file")
    if told and Path(told).is_file() and Path(told).suffix != ".py":  # which would run, unasked
        yield Path(told).name, iter([declarations.load(told).tools])
    if origin.checkpoint:
        files = list(_unchanged(training.get("files") or {}, Path(origin.checkpoint.path)))
        rows = (
            readers.read(files, [], dialects.get(origin.checkpoint.dialect), readers.DEVELOPER) if files else iter(())
        )
        yield "training rows", (row.tools or [] for row in rows if isinstance(row, readers.Row))


def _unchanged(files: Json, folder: Path) -> Iterator[Path]:
    """Those of the named files of rows that still are what was trained on; relative ones are the project's."""
    for name, digest in files.items():
        for file in (Path(name), folder.parent.parent / name):
            if file.suffix == ".jsonl" and file.is_file() and records.digest_file(file) == digest:
                yield file
                break


def _refuse_unclear(orders: Counter[tuple[str, ...]], known: Sequence[Tool], tools_file: Path | None) -> None:
    sets = {frozenset(order) for order in orders}
    if len(sets) > 1 and not tools_file:
        raise EdgeError(
            f"the training rows declare {len(sets)} different sets of tools, {len(known)} tools in all",
            "name those of the app, in the order in which it will declare them: --tools tools.json",
        )


def _system(cases: Sequence[Json], given: str | None) -> tuple[str, bool]:
    said = [str(m["content"]) for row in cases for m in row["messages"][:1] if m["role"] in ("developer", "system")]
    if given is not None:
        return given, False
    return (said[0], len(set(said)) > 1) if said else (readers.DEVELOPER, False)


def head(lesson: Lesson, renderer: str, dialect: str) -> str:
    """What stands in every prompt before the user's words, as `renderer` writes it."""
    messages: list[Message] = [{"role": "developer", "content": lesson.system}] if lesson.system else []
    prompt = renderers.prompt(renderer, dialect, [*messages, {"role": "user", "content": _MARK}], lesson.tools)
    return prompt.partition(_MARK)[0]


def _compared(
    lesson: Lesson,
    prompts: Sequence[str],
    orders: Counter[tuple[str, ...]],
    dialect: str,
    renderer: str,
    learned: tuple[str, ...],
) -> Lesson:
    """The lesson, held against the training prompts: byte for byte, the developer message apart where it varies."""
    if not prompts:
        return lesson
    names = tuple(tool["function"]["name"] for tool in lesson.tools)
    same = orders.get(names, 0)
    wanted = head(lesson, renderer, dialect)
    doubt = None
    if lesson.system_varies:
        wanted = (
            wanted[wanted.index("<start_function_declaration>") :]
            if "<start_function_declaration>" in wanted
            else wanted
        )
        agree = any(wanted in prompt for prompt in prompts)
    else:
        agree = any(prompt.startswith(wanted) for prompt in prompts)
    if dialect == "functiongemma" and not agree:
        doubt = _why(names, learned, orders)
    elif not agree:
        doubt = "no training prompt begins with these tools and this developer message"
    return replace(lesson, as_trained=agree, same_order=same, doubt=doubt)


def _why(names: tuple[str, ...], learned: tuple[str, ...], orders: Counter[tuple[str, ...]]) -> str:
    trained = {name for order in orders for name in order}
    if not trained:
        return "it was tuned on prompts without tools"
    new, gone = [n for n in names if n not in trained], [n for n in learned if n not in names]
    if new or gone:
        said = [f"it was never told of {', '.join(new)}"] * bool(new) + [
            f"it was tuned with {', '.join(gone)} beside"
        ] * bool(gone)
        return "; ".join(said)
    if names not in orders:
        return f"it was tuned on another order: {', '.join(learned)}"
    return "it was tuned on these names with other descriptions, parameters or another developer message"
