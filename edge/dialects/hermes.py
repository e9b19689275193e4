"""Hermes: the JSON format of Qwen 2.5 and Qwen 3, tools in the system turn, calls between <tool_call> tags.

`render` writes what Qwen 2.5's published chat template writes (its default system message included). The format carries
any JSON, so all that `check` refuses are control tokens inside strings, which a tokenizer would take for real ones.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import pkgutil

from edge.calls import Call, Parsed, nested_deeper, read_json
from edge.callstream import CallStream, Syntax, Unreadable
from edge.dialects import Finding, Message, Tool, refuse
from edge.errors import EdgeError
from edge.jsonformat import MAX_DEPTH, Writer, calls_of, declaration, role

STOP = ("<|im_end|>", "<|endoftext|>")
_BEGIN, _END = "<tool_call>", "</tool_call>"
FUNCTION_TOKENS = (_BEGIN, _END, "<|im_start|>", *STOP)
CHAT_TEMPLATE = (pkgutil.get_data("edge.dialects", "hermes.jinja") or b"").decode()

_WRITER = Writer(FUNCTION_TOKENS)
_json = _WRITER.json
_text = _WRITER.text
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
    return _WRITER.check(tools)


# Messages


def render(messages: list[Message], tools: list[Tool], add_generation_prompt: bool = True) -> str:
    """The exact prompt. Raises EdgeError naming the tool or the message for what can't be written."""
    refuse(check(tools))
    roles = [role(message, number) for number, message in enumerate(messages, 1)]
    first = 1 if roles[:1] == ["system"] else 0
    system = _text(messages[0], 1) if first else _DEFAULT_SYSTEM
    listed = "".join(f"\n{_json(declaration(tool))}" for tool in tools)
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


def _said_by(speaker: str, text: str) -> str:
    return f"<|im_start|>{speaker}\n{text}<|im_end|>\n"


def _turn(speaker: str, message: Message, number: int, opens: bool, closes: bool) -> str:
    if speaker == "assistant":
        return _said_by(speaker, _written(message, number))
    if speaker != "tool":
        return _said_by(speaker, _text(message, number))
    # Responses in a row share one user turn.
    response = f"\n<tool_response>\n{_answer(message, number)}\n</tool_response>"
    return ("<|im_start|>user" if opens else "") + response + ("<|im_end|>\n" if closes else "")


def _answer(message: Message, number: int) -> str:
    """A tool's answer: text as it is, anything else as JSON."""
    content = message.get("content")
    try:
        return _text(message, number) if isinstance(content, str) else _json(content)
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None


def _written(message: Message, number: int) -> str:
    given = calls_of(message, number)
    try:
        calls = render_calls(given)
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None
    text = "" if given and message.get("content") is None else _text(message, number)
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
    if nested_deeper(value, MAX_DEPTH):
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise Unreadable("no function name")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise Unreadable(f"call {name[:40]}: the arguments are not an object")
    return Call(name, arguments), [] if "arguments" in value else ["no arguments given"]
