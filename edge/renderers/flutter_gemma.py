"""flutter_gemma with a `.task`: the prompt that its Dart code writes. The engine puts the start token in front.

Google's sentence always stands first in the developer turn; a newline follows it and every declaration; properties stay
in the declared order; the type of the parameters is always OBJECT; those named as keywords are dropped. The history is
cleared after each text that the model wrote.
"""

from __future__ import annotations

from typing import Any

from edge.dialects import Message, Tool, function_of

from . import writing

FOLLOWS = "flutter_gemma f19ee6c (August 2026), its .task path, from facts noted of it"
VERIFIED = "not verified, written from facts"
UNKNOWN = (
    "where an app's own developer text goes: it is left out here, whatever is more than Google's sentence",
    "a prompt without tools: no developer turn here",
    "whether declarations are written again once the history was cleared: they are here",
    "`nullable`, which it writes in part: left out here",
    "keys of `items`: in the declared order here",
    "earlier calls: their arguments sorted here, as the keys of responses are",
    "whether the user's text is stripped: it is kept as given here",
)
SENTENCE = "You are a model that can do function calling with the following functions"
_WAY = writing.Way(order=writing.as_given, values=writing.ignoring_case, dropped=writing.RESERVED)


def render(messages: list[Message], tools: list[Tool], template: str = "") -> str:
    _, rest = writing.split(messages, tools)
    texts = [n for n, m in enumerate(rest) if m["role"] in ("assistant", "model") and not m.get("tool_calls")]
    rest = rest[texts[-1] + 1 :] if texts else rest
    declarations = "".join(f"{_WAY.declaration(_object(tool))}\n" for tool in tools)
    developer = f"<start_of_turn>developer\n{SENTENCE}\n{declarations}<end_of_turn>\n" if tools else ""
    return f"<bos>{developer}{_WAY.turns(rest, _response)}"


def _object(tool: Tool) -> Tool:
    function = function_of(tool)
    schema = function.get("parameters")
    return {"function": {**function, "parameters": {**schema, "type": "OBJECT"}}} if schema else tool


def _response(name: str, value: Any) -> str:
    return writing.wrap(name, _WAY.value(value if isinstance(value, dict) else {"value": value}))
