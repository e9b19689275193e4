"""Llama 3.2: tools as JSON in the first user turn, a call as a bare JSON object with "name" and "parameters".

`render` writes what the published chat template of Llama 3.2 1B and 3B Instruct writes, with these differences:
- the date is that template's own for want of a clock: with today's, a prompt of tomorrow would be another one;
- it allows one call a turn; several are written one after the other, "; " between them, as vLLM's parser of this format
  reads them;
- it drops the text beside a call without a word: here that is an error;
- an answer of a tool is JSON always (so is a text, in quotes, in the published one too).

In answers also read: `<|python_tag|>` before a call, "arguments" for "parameters", `"type": "function"` in front. The
calls of Meta's built-in tools (code behind `<|python_tag|>`) are none of ours: an error.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import pkgutil
from typing import Optional

from edge.calls import Call, Parsed, read_json
from edge.callstream import Unreadable
from edge.dialects import Finding, Message, Tool, refuse
from edge.errors import EdgeError
from edge.jsonformat import Writer, calls_of, declaration, role
from edge.jsonstream import ObjectStream, Syntax

STOP = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
_BEGIN, _OPEN, _CLOSE, _TAG = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"
FUNCTION_TOKENS = (_BEGIN, _OPEN, _CLOSE, _TAG, *STOP)
CHAT_TEMPLATE = (pkgutil.get_data("edge.dialects", "llama3.jinja") or b"").decode()

_WRITER = Writer(FUNCTION_TOKENS)
_json = _WRITER.json
_BETWEEN = "; "
# The wording that the models were trained with: part of the format.
_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
_TOOLS_HEAD = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    'answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name '
    "and its value}.Do not use variables.\n\n"
)


def check(tools: list[Tool]) -> list[Finding]:
    """What the format can't express in these declarations; `render` refuses those with an error."""
    return _WRITER.check(tools)


# Messages


def render(messages: list[Message], tools: list[Tool], add_generation_prompt: bool = True) -> str:
    """The exact prompt. Raises EdgeError naming the tool or the message for what can't be written."""
    refuse(check(tools))
    roles = [role(message, number) for number, message in enumerate(messages, 1)]
    first = 1 if roles[:1] == ["system"] else 0
    system = _text(messages[0], 1) if first else ""
    parts = [_BEGIN, _said_by("system", ("Environment: ipython\n" if tools else "") + _DATES + system)]
    if tools and roles[first : first + 1] != ["user"]:
        raise EdgeError(
            f"message {first + 1}: the tools stand in the first user turn, which must come here",
            "begin with the user's message",
        )
    for i in range(first, len(messages)):
        listed = _listed(tools) if tools and i == first else ""
        parts.append(_turn(roles[i], messages[i], i + 1, listed))
    return "".join(parts) + (_header("assistant") if add_generation_prompt else "")


def completion(message: Message) -> str:
    """What the model writes in this turn, stop token included: what a training example teaches."""
    return f"{_written(message, 1)}{STOP[0]}"


def render_calls(calls: list[Call]) -> str:
    """Calls as the model writes them, without a stop token: `parse` gives the same calls back."""
    return _BETWEEN.join(_call(call) for call in calls)


def _listed(tools: list[Tool]) -> str:
    return _TOOLS_HEAD + "".join(f"{_json(declaration(tool), indent=4)}\n\n" for tool in tools)


def _header(speaker: str) -> str:
    return f"{_OPEN}{speaker}{_CLOSE}\n\n"


def _said_by(speaker: str, text: str) -> str:
    return f"{_header(speaker)}{text}{STOP[0]}"


def _turn(speaker: str, message: Message, number: int, listed: str) -> str:
    if speaker == "assistant":
        return _said_by(speaker, _written(message, number))
    if speaker != "tool":
        return _said_by(speaker, listed + _text(message, number))
    try:
        return _said_by("ipython", _json(message.get("content")))
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None


def _text(message: Message, number: int) -> str:
    return _WRITER.text(message, number).strip()


def _written(message: Message, number: int) -> str:
    calls = calls_of(message, number)
    if not calls:
        return _text(message, number)
    if message.get("content") is not None and _text(message, number):
        raise EdgeError(
            f"message {number}: text beside calls, for which this format has no place",
            "take the text out, or make it a turn of its own",
        )
    try:
        return render_calls(calls)
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None


def _call(call: Call) -> str:
    if not call.name:
        raise EdgeError("a call without a name")
    try:
        text = f'{{"name": {_json(call.name)}, "parameters": {_json(call.arguments)}}}'
    except EdgeError as why:
        raise EdgeError(f"call {call.name}: {why}") from None
    read = parse(text)
    if read.calls != [call]:
        raise EdgeError(f"call {call.name}: {read.errors[0] if read.errors else _UNLIKE}")
    return text


_UNLIKE = "the arguments don't survive JSON (a key that is no text, a tuple)"

# Reading calls


def parse(text: str) -> Parsed:
    """A model's output to calls. Never raises, whatever the text; linear time."""
    parser = stream()
    parser.feed(text)
    return parser.close()


def stream() -> ObjectStream:
    return ObjectStream(Syntax(("name", "type", "parameters", "arguments"), _TAG, STOP, _read))


def _read(body: str) -> Optional[tuple[Call, list[str]]]:
    try:
        value = read_json(body)
    except ValueError as why:
        raise Unreadable(f"not JSON: {why}"[:200]) from why
    name, given = value.get("name"), next((k for k in ("parameters", "arguments") if k in value), None)
    named = isinstance(name, str) and bool(name)
    if given is None:  # other JSON may have a name too
        return (Call(name, {}), ["no parameters given"]) if named and value.keys() <= {"name", "type"} else None
    if not named:
        raise Unreadable("no function name")
    if not isinstance(value[given], dict):
        raise Unreadable(f"call {name[:40]}: the parameters are not an object")
    return Call(name, value[given]), [] if given == "parameters" else [f'"{given}" for "parameters"']
