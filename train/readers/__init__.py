"""Training and evaluation rows, read line by line into one shape. One file per data format; its name is the format's.

A format is a module with `matches(record) -> bool` and `messages(record, dialect, developer) -> list[Message]`, which
brings a row's conversation into the one form: arguments as objects, calls out of the text. What holds for every
format is here: reading, tools, and the checks that each row must pass. A row that fails one becomes a Reject with its
reason and reading goes on: a quietly repaired row would teach something that its author never wrote.
Standard library only, Python 3.9.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Optional, Union

from edge.calls import Call
from edge.dialects import Dialect, Finding, Message, Tool, function_of, refuse
from edge.errors import EdgeError
from edge.records import Json, PathLike, decode_line, digest_value, write_text
from edge.tools import normalise, validate_call

DEVELOPER = "You are a model that can do function calling with the following functions"
ROLES = ("developer", "system", "user", "assistant", "tool")
SPLITS = ("train", "eval")
SHOWN = 300  # characters of a rejected line that are kept


@dataclass(frozen=True)
class Row:
    """One conversation that ends with the assistant's answer. Rows share tools: don't change them in place."""

    id: str  # "file:line"
    messages: list[Message]
    tools: Optional[list[Tool]]  # None: the project's
    calls: list[Call]  # the answer's; empty: the right answer is no call
    split: Optional[str]  # "train" or "eval" if the row says so
    file: str
    line: int
    findings: tuple[Finding, ...] = ()  # about the row's own tools
    notes: tuple[str, ...] = ()  # what is odd in its prompt, in words that are equal for equal oddities


@dataclass(frozen=True)
class Reject:
    """A row that can't be used. `reason` is `kind: details`."""

    file: str
    line: int
    reason: str
    text: str


class BadRow(Exception):
    """Why a row is rejected: `kind: details`. Never leaves this package."""


def read(
    paths: Iterable[PathLike], tools: list[Tool], dialect: Dialect, developer: Optional[str] = DEVELOPER
) -> Iterator[Union[Row, Reject]]:
    """Every row of these JSON-lines files, good or bad, in order; one line in memory at a time.

    Args:
        paths: the files. Each line's format is found out by itself: a file may mix them.
        tools: the project's; calls of rows without tools of their own are checked against them, if there are any.
        dialect: calls written as text are parsed by it, and a row that it can't render is rejected.
        developer: what a row says first if its format has no place for it (`flat`); None adds nothing.

    Raises EdgeError for a file that is missing or empty (at once), and for tools that the dialect can't express.
    """
    files = [Path(path) for path in paths]
    for file in files:
        _refuse_empty(file)
    refuse(dialect.check(tools))
    # Remembered by its text: thousands of rows carry the same few tools.
    own_tool = functools.lru_cache(maxsize=4096)(functools.partial(_own_tool, dialect))
    return _read(files, _Context(tools, dialect, developer, own_tool))


def write_rejects(rejects: Iterable[Reject], path: PathLike) -> None:
    """`rejects.jsonl`: one object per row, an empty file if there are none."""
    lines = ({"file": r.file, "line": r.line, "reason": r.reason, "text": r.text} for r in rejects)
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def count_reasons(rejects: Iterable[Reject]) -> Counter[str]:
    """How many rows were rejected for each kind of reason: for the screen."""
    return Counter(reject.reason.partition(":")[0] for reject in rejects)


def unseen_tools(train: Iterable[Row], evaluation: Iterable[Row]) -> list[str]:
    """Tools that evaluation rows call and no training row calls, by name: what they score, tuning didn't teach."""
    taught = {call.name for row in train for call in _made(row)}
    return sorted({call.name for row in evaluation for call in _made(row)} - taught)


def _made(row: Row) -> Iterator[Call]:
    return (call for message in row.messages if message["role"] == "assistant" for call in calls_of(message))


def shared_rows(train: Iterable[Row], evaluation: Iterable[Row]) -> list[str]:
    """Ids of evaluation rows that training has seen: the same prompt, or the same user text with the same calls."""
    seen = {key for row in train for key in _keys(row)}
    return [row.id for row in evaluation if not seen.isdisjoint(_keys(row))]


def _keys(row: Row) -> tuple[str, str]:
    said = [str(m.get("content", "")).strip() for m in row.messages if m["role"] == "user"]
    return digest_value(["prompt", row.messages[:-1]]), digest_value(["calls", said, [c.to_json() for c in row.calls]])


# ---- reading


@dataclass(frozen=True)
class _Context:
    tools: list[Tool]
    dialect: Dialect
    developer: Optional[str]
    own_tool: Callable[[str], tuple[Tool, list[Finding]]]


def _refuse_empty(file: Path) -> None:
    try:
        with file.open("rb") as f:
            if not f.read(4).lstrip(b"\xef\xbb\xbf"):
                raise EdgeError(f"{file}: file is empty", "a data file holds one JSON object per line")
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}") from None


def _read(files: list[Path], context: _Context) -> Iterator[Union[Row, Reject]]:
    names = Counter(file.name for file in files)
    for file in files:
        label = file.name if names[file.name] == 1 else str(file)
        blank = True
        with file.open("rb") as f:
            for number, raw in enumerate(f, 1):
                if raw.strip():
                    blank = False
                    yield _line(raw, file, label, number, context)
        if blank:
            raise EdgeError(f"{file}: file is empty (blank lines only)", "a data file holds one JSON object per line")


def _line(raw: bytes, file: Path, label: str, number: int, context: _Context) -> Union[Row, Reject]:
    try:
        return _row(_decoded(raw, file, number), file, label, number, context)
    except BadRow as error:
        reason = str(error)
    except RecursionError:
        reason = "not JSON: nested too deeply"
    return Reject(str(file), number, reason, raw.decode("utf-8-sig", "replace").rstrip("\r\n")[:SHOWN])


def _decoded(raw: bytes, file: Path, number: int) -> str:
    try:
        return decode_line(raw, file, number)
    except EdgeError as error:
        raise BadRow(f"not UTF-8: {error.hint}") from None


def _row(text: str, file: Path, label: str, number: int, context: _Context) -> Row:
    record = loads(text)
    if not isinstance(record, dict):
        raise BadRow(
            "not a row: a line must hold one JSON object"
            + (" (this is a list: write one row per line)" if isinstance(record, list) else "")
        )
    own, findings = _own_tools(record.get("tools"), context)
    messages = _format(record).messages(record, context.dialect, context.developer)
    _check_turns(messages)
    for said in messages:
        if said["role"] == "assistant":
            refuse_tags(said.get("content", ""), context.dialect)
    tools = context.tools if own is None else own
    _check_calls(messages, tools, undeclared=own is not None or bool(tools))
    _check_render(messages, tools, context.dialect)
    split = record.get("metadata")
    return Row(
        f"{label}:{number}",
        messages,
        own,
        calls_of(messages[-1]),
        split if split in SPLITS else None,
        str(file),
        number,
        findings,
        tuple(_notes(messages, context.dialect)),
    )


@functools.cache
def formats() -> dict[str, Any]:
    """The format modules by name."""
    return {m.name: importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)}


def _format(record: Json) -> Any:
    for module in formats().values():
        if module.matches(record):
            return module
    raise BadRow(
        f"unknown format: keys {', '.join(sorted(record))[:100] or '(none)'}; "
        "a row has messages, or user_content with tool_name and tool_arguments"
    )


# ---- what the formats share


def loads(text: str) -> Any:
    """JSON as the standard has it: a key given twice, NaN and half a surrogate pair are refused, not guessed."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRow("not text: half a surrogate pair, which is no character") from None
    except ValueError as error:
        raise BadRow(f"not JSON: {error}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise BadRow(f"key given twice: {twice!r} in one object")
    return value


def _no_number(word: str) -> NoReturn:
    raise BadRow(f"not JSON: {word} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadRow(f"not JSON: {text} is larger than any float")
    return value


def answer(calls: list[Call], text: str = "") -> Message:
    """The assistant's message that says this and makes these calls; blank text beside calls is left out."""
    said = {"content": text} if text.strip() or not calls else {}
    made = {"tool_calls": [{"type": "function", "function": call.to_json()} for call in calls]} if calls else {}
    return {"role": "assistant", **said, **made}


def calls_of(message: Message) -> list[Call]:
    functions = (call["function"] for call in message.get("tool_calls", []))
    return [Call(function["name"], function["arguments"]) for function in functions]


def conversation(record: Json) -> bool:
    """Whether a row holds messages: what the two formats with `messages` have in common."""
    return isinstance(record.get("messages"), list)


def read_message(given: Any) -> Message:
    """One message as OpenAI or Hugging Face write it, in the one form; null entries, as they write them, left out."""
    if not isinstance(given, dict) or given.get("role") not in ROLES:
        role = given.get("role") if isinstance(given, dict) else given
        raise BadRow(f"unknown role: {role!r} (known: {', '.join(ROLES)})")
    role, content = given["role"], given.get("content")
    if role == "tool":
        return {key: value for key, value in given.items() if value is not None}
    if not isinstance(content, (str, type(None))):
        raise BadRow(f"content is not text: {role}'s is a {type(content).__name__}")
    if role != "assistant":
        return {"role": role, "content": content or ""}
    calls = given.get("tool_calls") or []
    if not isinstance(calls, list):
        raise BadRow("not a call: tool_calls is no list")
    if not calls and not (content or "").strip():
        raise BadRow("empty answer: the assistant neither calls nor says anything")
    return answer([_call(call) for call in calls], content or "")


def _call(given: Any) -> Call:
    function = function_of(given)
    if not function:
        raise BadRow('not a call: write {"function": {"name", "arguments"}}')
    return read_call(function.get("name"), function.get("arguments"))


def read_call(name: Any, given: Any) -> Call:
    """A call whose arguments are an object, or one written as JSON (once)."""
    if not isinstance(name, str) or not name:
        raise BadRow(f"not a call: its name is {name!r}")
    if given is None:
        raise BadRow(f"arguments missing: {name} has none; write {{}} for a call without arguments")
    arguments = loads(given) if isinstance(given, str) else given
    if isinstance(given, str) and isinstance(arguments, str):
        raise BadRow(f"arguments twice encoded: {name}'s are JSON inside a JSON string; encode them once")
    if not isinstance(arguments, dict):
        raise BadRow(f"arguments not an object: {name}'s are a {type(arguments).__name__}")
    return Call(name, arguments)


_TAG = re.compile(r"<[^<>\n]{1,40}>")


def refuse_tags(text: str, dialect: Dialect, stray: bool = True) -> None:
    """Reject text of an assistant that holds what was meant for a control token (`</end_function_call>`) or is one.

    stray: false for text that still holds its calls, where exact tokens belong.
    """
    for tag in _TAG.findall(text):
        if tag in dialect.FUNCTION_TOKENS:
            if stray:
                raise BadRow(f"stray tag: {tag} outside a call")
        elif meant := _meant(tag, dialect):
            raise BadRow(f"misspelt tag: {tag}, where {meant} was meant")


def _meant(tag: str, dialect: Dialect) -> Optional[str]:
    """The control token that somebody meant who wrote this tag."""
    tokens = {_letters(token): token for token in dialect.FUNCTION_TOKENS}
    near = difflib.get_close_matches(_letters(tag), tokens, 1, cutoff=0.85)
    return tokens[near[0]] if near else None


TAG_NOTE = "tag in a prompt: the {} says {}; the model's own is {}, so this is plain text"


def _notes(messages: list[Message], dialect: Dialect) -> Iterator[str]:
    """What a prompt holds that was probably not meant so. Nothing is lost by it, so the row is kept."""
    if any(m["role"] == "system" for m in messages) and _says_developer(dialect):
        yield "system role: this model knows a developer instead; it is written as one, in training and in inference"
    for said in messages:
        if said["role"] in ("developer", "system", "user"):
            for tag in dict.fromkeys(_TAG.findall(said["content"])):
                meant = None if tag in dialect.FUNCTION_TOKENS else _meant(tag, dialect)
                if meant:
                    yield TAG_NOTE.format(said["role"], tag, meant)


def _says_developer(dialect: Dialect) -> bool:
    """Whether a system message becomes the developer's turn."""
    said = [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]
    return "developer" in dialect.render(said, [])


def _letters(tag: str) -> str:
    return re.sub("[^a-z]", "", tag.lower())


# ---- checks


def _own_tools(given: Any, context: _Context) -> tuple[Optional[list[Tool]], tuple[Finding, ...]]:
    if given is None:
        return None, ()
    if isinstance(given, str) and given.lstrip().startswith("["):  # so that a table's columns have one type
        given = loads(given)
    if not isinstance(given, list):
        raise BadRow(f"unusable tools: a {type(given).__name__}, not a list")
    read = [context.own_tool(json.dumps(tool, ensure_ascii=False)) for tool in given]
    names = Counter(tool["function"]["name"] for tool, _ in read)
    if len(names) < len(read):
        raise BadRow(f"unusable tools: {names.most_common(1)[0][0]} is declared twice")
    return [tool for tool, _ in read], tuple(f for _, findings in read for f in findings)


def _own_tool(dialect: Dialect, text: str) -> tuple[Tool, list[Finding]]:
    try:
        tool, findings = normalise(json.loads(text), "the row's tools")
    except EdgeError as error:
        raise BadRow(f"unusable tools: {error.message}") from None
    return tool, [*findings, *dialect.check([tool])]


def _check_turns(messages: list[Message]) -> None:
    if not any(m["role"] == "user" and m["content"].strip() for m in messages):
        raise BadRow("no user message: nothing to answer")
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"no answer: the last message is the {messages[-1]['role']}'s, not the assistant's")


def _check_calls(messages: list[Message], tools: list[Tool], undeclared: bool) -> None:
    """Every call against its tool; without any tools only what no tool needs to be known for."""
    for made in (c for m in messages if m["role"] == "assistant" for c in calls_of(m)):
        nulls = [f"null argument: {made.name}.{key} is null" for key, value in made.arguments.items() if value is None]
        for problem in validate_call(made, tools) if undeclared else nulls:
            raise BadRow(problem + (_NULL if problem.startswith("null argument") else ""))


_NULL = (
    "; leave out what was not said. datasets.load_dataset fills every row up with nulls:"
    " use the JSONL file that the rows came from"
)


def _check_render(messages: list[Message], tools: list[Tool], dialect: Dialect) -> None:
    # Here, where file and line are known, not an hour later in a training run.
    try:
        dialect.render(messages, tools, add_generation_prompt=False)
    except EdgeError as error:
        raise BadRow(f"not expressible: {error.message}") from None
