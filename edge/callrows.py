"""The loops behind `edge calls render|parse|score`: a line of JSON in, one result out, in order.

A line that can't be used gives `{"error": {"line": N, "message": …, "hint": …}}` in its place and the rest goes on:
one bad row in ten thousand must not cost the others. Blank lines are skipped. `failed` tells such a result from one
whose answer is that a prediction is wrong. `encode` turns a result into a line.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional

from edge import bfcl
from edge.calls import RULES, exact, nested_deeper, read_calls, read_json, unordered
from edge.dialects import Dialect
from edge.errors import EdgeError

Row = dict[str, Any]
_MAX_DEPTH = 100  # what reads a row may recurse


def render(lines: Iterable[bytes], dialect: Dialect, name: str = "<stdin>") -> Iterator[Row]:
    """`{"messages", "tools", "add_generation_prompt"}` -> `{"text"}`, with "warnings" when there are any."""
    return _each(lines, name, lambda row: _render(row, dialect))


def parse(lines: Iterable[bytes], dialect: Dialect, name: str = "<stdin>") -> Iterator[Row]:
    """`{"text"}` -> `{"calls", "text", "errors"}`, with "notes" when there are any."""
    return _each(lines, name, lambda row: dialect.parse(_get(row, "text", str)).to_json())


def score(lines: Iterable[bytes], rule: Optional[str] = None, name: str = "<stdin>") -> Iterator[Row]:
    """`{"prediction", "ground_truth", "functions", "category", "rule"}` -> `{"valid", "error"}`.

    The row's "rule" counts unless it is null; else the argument; else bfcl for a row that has functions and a category,
    exact otherwise.
    A prediction of any shape has an answer; a ground truth that can't be used is an error.
    """
    return _each(lines, name, lambda row: _score(row, rule))


def failed(result: Row) -> bool:
    """Whether the line could not be used (a wrong prediction is a result)."""
    return isinstance(result.get("error"), dict)


def encode(result: Row) -> str:
    """One line without its newline; text that UTF-8 can't carry (half of a surrogate pair) is escaped."""
    text = json.dumps(result, ensure_ascii=False)
    return text if _encodable(text) else json.dumps(result)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _each(lines: Iterable[bytes], name: str, answer: Callable[[Row], Row]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        if not line.strip():
            continue
        try:
            yield answer(_row(line))
        except EdgeError as why:
            error = {"line": number, "message": f"{name}:{number}: {why.message}"}
            yield {"error": {**error, "hint": why.hint} if why.hint else error}


def _row(line: bytes) -> Row:
    try:
        row = read_json(line.decode("utf-8"))
    except UnicodeDecodeError as why:
        raise EdgeError(f"not UTF-8: {why}") from why
    except ValueError as why:
        raise EdgeError(f"not JSON: {why}") from why
    if not isinstance(row, dict):
        raise EdgeError("not a JSON object")
    if nested_deeper(row, _MAX_DEPTH):
        raise EdgeError(f"nested deeper than {_MAX_DEPTH} levels")
    return row


def _get(row: Row, key: str, kind: type) -> Any:
    if key not in row:
        raise EdgeError(f'no "{key}"')
    if not isinstance(row[key], kind):
        raise EdgeError(f'"{key}" is {type(row[key]).__name__}, not {kind.__name__}')
    return row[key]


def _render(row: Row, dialect: Dialect) -> Row:
    messages = _get(row, "messages", list)
    tools = _get(row, "tools", list) if row.get("tools") is not None else []
    prompt = _get(row, "add_generation_prompt", bool) if "add_generation_prompt" in row else True
    text = dialect.render(messages, tools, prompt)
    warnings = [str(finding) for finding in dialect.check(tools)]
    return {"text": text, "warnings": warnings} if warnings else {"text": text}


def _score(row: Row, rule: Optional[str]) -> Row:
    if "prediction" not in row:
        raise EdgeError('no "prediction"')
    chosen = rule if row.get("rule") is None else row["rule"]
    if chosen is None:
        chosen = "bfcl" if row.get("functions") and row.get("category") else "exact"
    if chosen not in RULES:
        raise EdgeError(f"no rule {chosen!r}", f"use one of: {', '.join(RULES)}")
    why = _bfcl(row) if chosen == "bfcl" else _compare(row, exact if chosen == "exact" else unordered)
    return {"valid": why is None, "error": why}


def _bfcl(row: Row) -> Optional[str]:
    return bfcl.check(row["prediction"], row.get("ground_truth"), row.get("functions"), row.get("category"))


def _compare(row: Row, rule: Callable[..., Optional[str]]) -> Optional[str]:
    try:
        expected = read_calls(_get(row, "ground_truth", list))
    except EdgeError as why:
        raise EdgeError(f"ground truth: {why.message}") from why
    try:
        predicted = read_calls(row["prediction"])
    except EdgeError as why:
        return why.message
    return rule(predicted, expected)
