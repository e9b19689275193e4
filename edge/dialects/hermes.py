"""Hermes: the JSON format of Qwen 2.5 and Qwen 3, tools in the system turn, calls between <tool_call> tags.

`render` writes what Qwen 2.5's published chat template writes (its default system message included). The format carries
any JSON, so all that `check` refuses are control tokens inside strings, which a tokenizer would take for real ones.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from edge.calls import Call, Parsed, nested_deeper, read_json
from edge.callstream import CallStream, Syntax, Unreadable
from edge.dialects import Finding, Message, Tool, function_of, read_call, refuse, twice
from edge.errors import EdgeError

STOP = ("<|im_end|>", "<|endoftext|>")
_BEGIN, _END = "<tool_call>", "</tool_call>"
FUNCTION_TOKENS = (_BEGIN, _END, "<|im_start|>", *STOP)
CHAT_TEMPLATE = (pkgutil.get_data("edge.dialects", "hermes.jinja") or b"").decode()

_CONTROL = re.compile("|".join(map(re.escape, FUNCTION_TOKENS)))
_MAX_DEPTH = 64  # of values: no tool takes more, and whoever walks the result may recurse
# The wording that the models were trained with: part of the format.
_DEFAULT_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_TOOLS_HEAD = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def check(tools: list[Tool]) -> list[Finding]:
    """What the format can't express in these declarations; `render` refuses those with an error."""
    functions = [function_of(tool) for tool in tools]
    findings = twice(functions)
    for number, (function, tool) in enumerate(zip(functions, tools), 1):
        if isinstance(tool, dict):
            findings += _check_tool(function, tool)
        else:
            findings.append(Finding("error", "tools", "", f"tool {number} is not an object"))
    return findings


def _check_tool(function: dict[str, Any], tool: Tool) -> Iterator[Finding]:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        yield Finding("error", str(name), "", "the name is missing or not text")
        return
    try:
        _json(tool)
    except EdgeError as why:
        yield Finding("error", name, _property_of(function), why.message)
    if not function.get("description"):
        yield Finding("warning", name, "", "no description: the model has only the name")


def _property_of(function: dict[str, Any]) -> str:
    """The parameter that can't be written, "" if it is something else."""
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    for name, prop in properties.items() if isinstance(properties, dict) else ():
        try:
            _json({name: prop})
        except EdgeError:
            return str(name)
    return ""


def _json(value: Any) -> str:
    """JSON as Python writes it, not ASCII only. Raises EdgeError for what has no JSON or holds a control token."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as why:
        raise EdgeError(f"not JSON: {why}") from why
    return _plain(text, "a string")


def _plain(text: str, what: str) -> str:
    if found := _CONTROL.search(text):
        raise EdgeError(f"{what} holds the control token {found.group()}")
    return text


# Messages


def render(messages: list[Message], tools: list[Tool], add_generation_prompt: bool = True) -> str:
    """The exact prompt. Raises EdgeError naming the tool or the message for what can't be written."""
    refuse(check(tools))
    roles = [_role(message, number) for number, message in enumerate(messages, 1)]
    first = 1 if roles[:1] == ["system"] else 0
    system = _text(messages[0], 1) if first else _DEFAULT_SYSTEM
    listed = "".join(f"\n{_json(_declaration(tool))}" for tool in tools)
    parts = [_said_by("system", system + (f"{_TOOLS_HEAD}{listed}{_TOOLS_TAIL}" if tools else ""))]
    for i in range(first, len(messages)):
        opens, closes = roles[i - 1 : i] != ["tool"], roles[i + 1 : i + 2] != ["tool"]
        parts.append(_turn(roles[i], messages[i], i + 1, opens, closes))
    return "".join(parts) + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def completion(message: Message) -> str:
    """What the model writes in this turn, stop token included: what a training example teaches."""
    return f"{_written(message, 1)}<|im_end|>"


def render_calls(calls: list[Call]) -> str:
    """Calls as the model writes them, without a stop token: `parse` gives the same calls back."""
    return "\n".join(f"{_BEGIN}\n{_call(call)}\n{_END}" for call in calls)


def _declaration(tool: Tool) -> Tool:
    """As it was given if it is whole; a bare declaration is wrapped."""
    whole = isinstance(tool.get("function"), dict) and tool.get("type")
    return tool if whole else {"type": "function", "function": function_of(tool)}


def _said_by(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def _turn(role: str, message: Message, number: int, opens: bool, closes: bool) -> str:
    if role == "assistant":
        return _said_by(role, _written(message, number))
    if role != "tool":
        return _said_by(role, _text(message, number))
    # Responses in a row share one user turn.
    response = f"\n<tool_response>\n{_answer(message, number)}\n</tool_response>"
    return ("<|im_start|>user" if opens else "") + response + ("<|im_end|>\n" if closes else "")


def _role(message: Message, number: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("developer", "system", "user", "assistant", "model", "tool"):
        raise EdgeError(f"message {number}: role {role!r}", "use system, user, assistant or tool")
    return {"developer": "system", "model": "assistant"}.get(str(role), str(role))


def _text(message: Message, number: int) -> str:
    content = message.get("content")
    if not isinstance(content, str):
        raise EdgeError(f"message {number}: the content is not text: {content!r:.60}", "give it as one string")
    return _plain(content, f"message {number}: the text")


def _answer(message: Message, number: int) -> str:
    """A tool's answer: text as it is, anything else as JSON."""
    content = message.get("content")
    try:
        return _text(message, number) if isinstance(content, str) else _json(content)
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None


def _written(message: Message, number: int) -> str:
    items = message.get("tool_calls") or []
    if not isinstance(items, list):
        raise EdgeError(f"message {number}: tool_calls is not a list")
    try:
        calls = render_calls([read_call(item) for item in items])
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None
    text = "" if items and message.get("content") is None else _text(message, number)
    return text + ("\n" if text and calls else "") + calls


def _call(call: Call) -> str:
    if not call.name:
        raise EdgeError("a call without a name")
    try:
        text = f'{{"name": {_json(call.name)}, "arguments": {_json(call.arguments)}}}'
        if _read(text)[0] == call:
            return text
    except (EdgeError, Unreadable) as why:
        raise EdgeError(f"call {call.name}: {why}") from None
    raise EdgeError(f"call {call.name}: the arguments don't survive JSON (a key that is no text, a tuple)")


# Reading calls


def parse(text: str) -> Parsed:
    """A model's output to calls. Never raises, whatever the text; linear time."""
    parser = stream()
    parser.feed(text)
    return parser.close()


def stream() -> CallStream:
    # A quote behind a backslash opens and closes nothing, unless the backslash is itself escaped.
    return CallStream(Syntax(_BEGIN, _END, '"', STOP, _read, letters=("\\\\", '\\"')))


def _read(body: str) -> tuple[Call, list[str]]:
    try:
        value = read_json(body)
    except ValueError as why:
        raise Unreadable(f"not JSON: {why}"[:200]) from why
    if nested_deeper(value, _MAX_DEPTH):
        raise Unreadable(f"nested deeper than {_MAX_DEPTH} levels")
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise Unreadable("no function name")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise Unreadable(f"call {name[:40]}: the arguments are not an object")
    return Call(name, arguments), [] if "arguments" in value else ["no arguments given"]
