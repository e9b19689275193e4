"""`edge data check`: what is wrong with rows, each problem with its file, its line and its remedy.

An error keeps a row out of `edge run` (or stops it); a warning is something to know. The readers stop at the first fault
of a row, so a row with two shows the second once the first is mended.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.records import Json
from edge.train.data import datasets
from edge.train.readers import Reject, calls_of, unseen_tools
from edge.worker import Progress

from . import stats, text
from .near import THRESHOLD
from .source import Item, Loaded, Source, fault, read_sound
from .tokens import Length


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `line` is None for what concerns a file of tools; `file` is None for all rows together."""

    level: str  # "error" or "warning"
    kind: str
    file: str | None
    line: int | None
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.level, self.message) if part)


@dataclass(frozen=True)
class Checked:
    loaded: Loaded
    problems: list[Problem]  # errors first, each in the order of the files

    @property
    def errors(self) -> int:
        return sum(p.level == "error" for p in self.problems)

    def rejects(self) -> list[Reject]:
        """The rows with errors: unreadable ones, then those that are too long."""
        long = {(p.file, p.line): p.message for p in self.problems if p.kind == "too long"}
        rows = [item for item in self.loaded.items if (item.row.file, item.row.line) in long]
        said = [Reject(i.row.file, i.row.line, long[i.row.file, i.row.line], i.text) for i in rows]
        return [*self.loaded.rejects, *said]

    def to_json(self) -> Json:
        told = {"errors": self.errors, "warnings": len(self.problems) - self.errors}
        return {**stats.overview(self.loaded), **told, "problems": [asdict(p) for p in self.problems]}


def load(source: Source, progress: Progress | None = None) -> tuple[Loaded, list[Problem]]:
    """The rows of every file that is JSON lines, and a problem for each file that is not. Raises EdgeError for tools
    that the dialect can't express."""
    faults = {file: found for file in source.files if (found := fault(file))}
    problems = [_error("not JSON lines", str(f), 1, found.message, found.remedy) for f, found in faults.items()]
    return read_sound(source, [file for file in source.files if file not in faults], progress), problems


def check(
    loaded: Loaded,
    source: Source,
    lengths: Sequence[Length],
    limit: int,
    threshold: float = THRESHOLD,
    faults: Sequence[Problem] = (),
) -> Checked:
    """Everything that is wrong with these rows.

    Args:
        lengths: of `loaded.items`, in their order; rows over `limit` tokens are errors.
        faults: the problems of `load`.
    """
    items = loaded.items
    found = itertools.chain(
        faults,
        map(rejected, loaded.rejects),
        too_long(items, lengths, limit),
        encodings(source.files),
        undone(source),
        notes(items),
        few(items),
        tools(items, source),
        uncalled(items, source),
        unseen(items),
        mixed_types(items),
        responses(items),
        repeated(items),
        contradicting(items),
        leaking(items, threshold),
    )
    return Checked(loaded, sorted(found, key=lambda problem: problem.level != "error"))


def _error(kind: str, file: str | None, line: int | None, message: str, remedy: str) -> Problem:
    return Problem("error", kind, file, line, message, remedy)


def _warning(kind: str, item: Item, message: str, remedy: str) -> Problem:
    return Problem("warning", kind, item.row.file, item.row.line, message, remedy)


# ---- rows that the readers reject

REMEDIES = {
    "not JSON": "write one whole JSON object per line, with double quotes and without trailing commas",
    "not a row": "write one JSON object per line",
    "not text": "replace the half character: a tool cut a text in the middle of an emoji",
    "not UTF-8": "save the file as UTF-8: iconv -f CP949 (or the encoding that it has) -t UTF-8",
    "key given twice": "keep one of the two",
    "unknown format": "use messages, or user_content with tool_name and tool_arguments (README, Rows)",
    "broken arguments": "write the arguments as a JSON object, not as text",
    "arguments missing": "write {} for a call without arguments",
    "arguments twice encoded": "write the arguments as an object, or encode them once",
    "arguments not an object": 'name the values: {"room": "hall"}, not ["hall"]',
    "not a call": 'write {"function": {"name": …, "arguments": {…}}}',
    "undeclared tool": "declare the tool, correct the name, or take the row out",
    "undeclared argument": "declare the argument, or correct its name",
    "missing argument": "add it to the call, or take it out of the tool's `required`",
    "null argument": "leave the argument out, or declare it nullable",
    "wrong type": "write the value in the declared type (26 and \"26\" differ), or declare the type that rows have",
    "outside enum": "use a listed value, or add this one to the tool's enum",
    "unusable tools": "correct the row's tools: each is an object with a name, a description and JSON Schema parameters",
    "no user message": "add what the user said",
    "no answer": "end the row with the assistant's answer, or take the last messages off",
    "empty answer": "write the call, or the text that should be said instead",
    "content is not text": "write the content as one string",
    "unknown role": "use developer, user, assistant or tool",
    "control token": "take the token out of the text, or write it apart: it would end the turn or begin a call",
    "not expressible": "the model's format has no way to write this: change the value or the name",
    "stray tag": "put the call into tool_calls, or write it whole: the tag alone is no call",
    "misspelt tag": "correct the tag: a model would learn the misspelling",
    "malformed call": "correct the call's syntax: `edge calls render` shows how it is written",
    "text after a call": "put the text before the call, or into a turn of its own",
}  # fmt: skip
_OURS = "this is a file of rejected rows that edge wrote: name the data files, not this one"


def rejected(reject: Reject) -> Problem:
    """What the readers say of a row, with the remedy for its kind."""
    kind = reject.reason.partition(":")[0]
    remedy = _OURS if "keys file, line, reason, text" in reject.reason else REMEDIES[kind]
    return _error(kind, reject.file, reject.line, reject.reason, remedy)


def too_long(items: Sequence[Item], lengths: Sequence[Length], limit: int) -> Iterator[Problem]:
    """Training refuses these rows: cutting them would cut the call off."""
    remedy = (
        "shorten it, offer fewer tools in it, raise max_tokens in [train], or `edge data filter --rule max-tokens=…`"
    )
    for item, length in zip(items, lengths):
        if length.tokens is not None and length.tokens > limit:
            message = f"too long: {length.tokens} tokens, {limit} are allowed"
            yield _error("too long", item.row.file, item.row.line, message, remedy)


# ---- prompts


def notes(items: Iterable[Item]) -> Iterator[Problem]:
    """What is odd in prompts, each oddity once, at the first row that has it."""
    first: dict[str, list[Item]] = {}
    for item in items:
        for note in item.row.notes:
            first.setdefault(note, []).append(item)
    for note, found in first.items():
        kind = note.partition(":")[0]
        yield _warning(kind, found[0], f"{note} (in {len(found)} rows)", _ODD[kind])


_ODD = {
    "system role": "write developer in its place: nothing else changes",
    "tag in a prompt": "correct the tag if it shows the model how to call; leave it if it is meant as text",
}


def few(items: Sequence[Item]) -> Iterator[Problem]:
    """Too few rows to learn anything from."""
    train = [item for item in items if item.split != "eval"]
    if len(train) == 1:
        yield _warning("single row", train[0], "single row: there is one row to train on", "add rows: hundreds a tool")


# ---- files and tools


def undone(source: Source) -> Iterator[Problem]:
    """What a dataset's tables held in place of what its authors wrote."""
    for dataset in source.datasets:
        for line in datasets.told(dataset):
            yield Problem("warning", "unified table", None, None, f"unified table: {line}", _LINES)


_LINES = "if nulls or dates were meant, take the JSON lines that the table came from"


def encodings(files: Iterable[Path]) -> Iterator[Problem]:
    """Byte order marks and Windows line ends: read all the same, but other tools stumble over them."""
    for file in files:
        with file.open("rb") as f:
            if f.read(3) == b"\xef\xbb\xbf":
                yield Problem("warning", "BOM", str(file), 1, "BOM: a byte order mark before the first row", _PLAIN)
            f.seek(0)
            ends = [number for number, line in enumerate(f, 1) if line.endswith(b"\r\n")]
        if ends:
            message = f"CRLF: {len(ends)} lines with Windows line ends"
            yield Problem("warning", "CRLF", str(file), ends[0], message, _PLAIN)


_PLAIN = "save as UTF-8 without BOM and with LF line ends; edge reads it as it is, other tools may not"


def tools(items: Sequence[Item], source: Source) -> Iterator[Problem]:
    """What a model can't be told of the tools, and rows whose calls nothing checks."""
    remedy = "correct the declaration; `edge tools FILE` shows what the model is told"
    for finding in source.findings:
        yield Problem(finding.level, "tool", source.tools_file, None, f"tool {finding}", remedy)
    told = set()
    for item in items:
        for finding in item.row.findings:
            if finding not in told:
                told.add(finding)
                yield Problem(finding.level, "tool", item.row.file, item.row.line, f"tool {finding}", remedy)
    unchecked = [item for item in items if not item.tools and stats.all_calls(item.row)]
    if unchecked:
        message = f"no tools: the calls of {len(unchecked)} rows are checked against no declaration"
        yield _warning("no tools", unchecked[0], message, "name the tools: --tools FILE or --project FOLDER")


def uncalled(items: Sequence[Item], source: Source) -> Iterator[Problem]:
    """Tools that are declared and that no row calls: the model learns never to call them."""
    called = {call.name for item in items for call in stats.all_calls(item.row)}
    remedy = "add rows that call it, or don't declare it"
    for tool in source.tools if items else ():
        name = tool["function"]["name"]
        if name not in called:
            yield Problem("warning", "uncalled tool", source.tools_file, None, f"uncalled tool: {name}", remedy)
    told = {tool["function"]["name"] for tool in source.tools}
    for item in items:
        for tool in item.row.tools or ():
            name = tool["function"]["name"]
            if name not in called and name not in told:
                told.add(name)
                yield _warning("uncalled tool", item, f"uncalled tool: {name}, offered here first", remedy)


def unseen(items: Sequence[Item]) -> Iterator[Problem]:
    """Tools that evaluation rows call and that training never saw called."""
    train = [item.row for item in items if item.split != "eval"]
    held_out = [item for item in items if item.split == "eval"]
    for name in unseen_tools(train, (item.row for item in held_out)) if train else ():
        asking = next(item for item in held_out if name in {call.name for call in stats.all_calls(item.row)})
        remedy = "add training rows that call it, or read its score as one of a tool never met"
        yield _warning("unseen tool", asking, f"unseen tool: {name} is called here, and by no training row", remedy)


# ---- what only many rows show


def mixed_types(items: Iterable[Item]) -> Iterator[Problem]:
    """Arguments that are of one type in some rows and of another in others, at the first row of the rarer type."""
    found: dict[tuple[str, str], dict[str, list[Item]]] = {}
    for item in items:
        for call in stats.all_calls(item.row):
            for name, value in call.arguments.items():
                if value is not None:
                    found.setdefault((call.name, name), {}).setdefault(_type(value), []).append(item)
    for (tool, name), types in found.items():
        if len(types) > 1:
            counts = sorted(types.items(), key=lambda pair: -len(pair[1]))
            message = f"mixed types: {tool}.{name} is " + ", ".join(f"{t} in {len(rows)} calls" for t, rows in counts)
            yield _warning("mixed types", counts[-1][1][0], message, "write it in one type, and declare that")


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names[type(value)]


def responses(items: Iterable[Item]) -> Iterator[Problem]:
    """Tool responses to something that was not called just before."""
    for item in items:
        called: set[str] = set()
        for message in item.row.messages:
            if message["role"] == "assistant":
                called = {call.name for call in calls_of(message)}
            elif message["role"] == "tool":
                for name in _names(message):
                    if name not in called:
                        before = f"the call before it is {', '.join(sorted(called))}" if called else "no call before it"
                        told = f"stray response: {name} answers, {before}"
                        yield _warning("stray response", item, told, "name the tool that was called in the turn before")


def _names(message: Json) -> list[str]:
    content = message.get("content")
    entries = content if isinstance(content, list) else [content]
    return [str(e["name"] if isinstance(e, dict) and "response" in e and "name" in e else message.get("name"))
            for e in entries]  # fmt: skip


def repeated(items: Iterable[Item]) -> Iterator[Problem]:
    """Rows that an earlier one teaches already."""
    first: dict[tuple[str, str | None], Item] = {}
    for item in items:
        earlier = first.setdefault((text.identity(item.row), item.split), item)
        if earlier is not item:
            message = f"duplicate: the same conversation and answer as {earlier.place}"
            yield _warning("duplicate", item, message, "take it out: `edge data filter --rule unique`")


def contradicting(items: Iterable[Item]) -> Iterator[Problem]:
    """Same prompt and tools, different answers."""
    for group in stats.contradictions(items):
        for item in group[1:]:
            message = f"contradiction: the same prompt as {group[0].place}, another answer"
            yield _warning("contradiction", item, message, "keep the right answer; a model learns neither of two")


def leaking(items: Sequence[Item], threshold: float) -> Iterator[Problem]:
    """Evaluation rows that training has seen, so that scores flatter."""
    train = [item for item in items if item.split == "train"]
    evaluation = [item for item in items if item.split == "eval"]
    remedy = "take it out of one side; `edge data split` keeps near-duplicates together"
    exact = {item.place for item in stats.exact_leaks(train, evaluation)}
    near = {item.place: (item, other) for item, other in stats.near_leaks(train, evaluation, threshold)}
    for item in evaluation:
        if item.place in exact:
            yield _warning("leak", item, "leak: this evaluation row is in training too", remedy)
        elif item.place in near:
            other = near[item.place][1]
            yield _warning("near leak", item, f"near leak: this evaluation row is close to {other.place}", remedy)
