"""OpenAI's chat completions in words of ours: a request becomes messages and tools, an answer becomes choices and deltas.

What a small greedy model can't do is refused with OpenAI's own form of an error, and what is ignored is told in warnings.
Follows the API reference of `POST /v1/chat/completions` as the Python client 3.54 uses it. The core and the standard
library.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

from edge import dialects, renderers, tools
from edge.calls import Call, Parsed, read_json
from edge.dialects import Message, Tool, read_call
from edge.errors import EdgeError
from edge.records import Json

_STOPS = 4  # strings to stop at, as many as OpenAI takes
_GREEDY = ("temperature", "top_p", "presence_penalty", "frequency_penalty")  # and what of them says nothing:
_SAYS_NOTHING: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 0), "top_p": (None, 1), "presence_penalty": (None, 0), "frequency_penalty": (None, 0),
    "n": (None, 1), "logprobs": (None, False), "top_logprobs": (None, 0), "logit_bias": (None, {}), "functions": (None, []),
    "function_call": (None,), "audio": (None,), "modalities": (None, ["text"]), "prediction": (None,),
    "web_search_options": (None,), "response_format": (None, {"type": "text"}),
}  # fmt: skip
_NOT_HERE = tuple(name for name in _SAYS_NOTHING if name not in _GREEDY)
_TAKEN = ("model", "messages", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options", "max_tokens",
          "max_completion_tokens", "stop")  # fmt: skip
# Of a caller's own book-keeping, or without a meaning here: left out without a word.
_SILENT = ("user", "metadata", "store", "service_tier", "seed", "safety_identifier", "prompt_cache_key",
           "prompt_cache_retention", "reasoning_effort", "verbosity")  # fmt: skip


class Refused(Exception):
    """An HTTP status and what is wrong, in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: Optional[str] = None,
        code: Optional[str] = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Manner:
    """How this server asks: as edge.call.Target has it.

    declared: tools for requests that bring none. begins: whether an answer can be begun for the model.
    """

    name: str
    dialect: str
    renderer: str
    developer: Optional[str]
    max_tokens: int
    declared: list[Tool] = field(default_factory=list)
    begins: bool = True


@dataclass(frozen=True)
class Asked:
    """A request, understood. begin: what the answer is made to begin with, for a call that must come."""

    row: Json
    tools: list[Tool]
    max_tokens: int
    stop: tuple[str, ...]
    stream: bool
    usage: bool  # in a stream, as a last chunk
    one_call: bool
    begin: str = ""
    must: Optional[str] = None  # the tool that must be called, "" for any
    warnings: list[str] = field(default_factory=list)


# --- a request --------------------------------------------------------------------------------------------------------


def read_body(body: bytes) -> Json:
    """Raises Refused for what is no JSON object."""
    try:
        value = read_json(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def understand(body: Json, manner: Manner) -> Asked:
    """What is asked for. Raises Refused for what is malformed, and for what can't be done here."""
    warnings = _unused(body)
    declared = _tools(body, manner)
    must, offered = _choice(body.get("tool_choice"), declared)
    if must is not None and not manner.begins:
        raise Refused(400, "tool_choice: this runtime writes its prompts itself, so only auto and none are possible",
                      param="tool_choice", code="unsupported_parameter")  # fmt: skip
    messages = _messages(body.get("messages"), manner, bool(offered))
    try:
        prompt = renderers.prompt(manner.renderer, manner.dialect, messages, offered)
        prompt.encode()
    except EdgeError as error:
        raise Refused(400, f"{error.message}{f' ({error.hint})' if error.hint else ''}") from None
    except UnicodeEncodeError:
        raise Refused(400, "a text holds half a surrogate pair, which is no character", param="messages") from None
    warnings += [str(finding) for finding in dialects.get(manner.dialect).check(offered)]
    begin = _beginning(manner.dialect, must) if must is not None else ""
    options = body.get("stream_options") or {}
    return Asked(
        row={"id": "chat", "prompt": prompt + begin, "messages": messages, "tools": offered},
        tools=offered,
        max_tokens=_room(body, manner),
        stop=_stops(body.get("stop")),
        stream=_flag(body, "stream", False),
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        one_call=not _flag(body, "parallel_tool_calls", True),
        begin=begin,
        must=must,
        warnings=warnings,
    )


def _unused(body: Json) -> list[str]:
    """What is left out, said; raises Refused for what would make the answer another thing."""
    for name in _NOT_HERE:
        if name in body and body[name] not in _SAYS_NOTHING[name]:
            instead = "; use tools" if name.startswith("function") else ""
            raise Refused(400, f"{name} is not supported{instead}", param=name, code="unsupported_parameter")
    told = [f"{n} has no effect: answers are greedy" for n in _GREEDY if body.get(n) not in _SAYS_NOTHING[n]]
    unknown = [name for name in body if name not in (*_TAKEN, *_SILENT, *_SAYS_NOTHING)]
    return told + [f"{name} is not known and has no effect" for name in unknown]


def _flag(body: Json, name: str, default: bool) -> bool:
    value = body.get(name)
    if not isinstance(value, (bool, type(None))):
        raise Refused(400, f"{name} is neither true nor false", param=name)
    return default if value is None else value


def _room(body: Json, manner: Manner) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Refused(400, f"{name} is not a whole number from 1 on", param=name)
        return value
    return manner.max_tokens


def _stops(value: Any) -> tuple[str, ...]:
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or len(found) > _STOPS or not all(isinstance(s, str) and s for s in found):
        raise Refused(400, f"stop is a text, or a list of at most {_STOPS}", param="stop")
    return tuple(found)


def _tools(body: Json, manner: Manner) -> list[Tool]:
    given = body.get("tools")
    if given is None:
        return manner.declared
    if not isinstance(given, list):
        raise Refused(400, "tools is not a list", param="tools")
    for n, tool in enumerate(given):
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
            raise Refused(400, f'tools[{n}] is not {{"type": "function", "function": …}}', param=f"tools[{n}]")
    try:
        return [tools.normalise(tool, f"tools[{n}]")[0] for n, tool in enumerate(given)]
    except EdgeError as error:
        raise Refused(400, error.message, param="tools") from None


def _choice(value: Any, declared: list[Tool]) -> tuple[Optional[str], list[Tool]]:
    """The tool that must be called ("" for any, None if none must), and the tools that the model is shown."""
    if value in (None, "auto"):
        return None, declared
    if value == "none":
        return None, []
    names = [tool["function"]["name"] for tool in declared]
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    name = "" if value == "required" else function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise Refused(400, "tool_choice is auto, none, required or a function's name as an object", param="tool_choice")
    if not names or (name and name not in names):
        raise Refused(
            400,
            f"tool_choice: no tool {name!r} is declared" if name else "tool_choice without tools",
            param="tool_choice",
        )
    return name, declared


_PLACEHOLDER = "NAME"


def _beginning(dialect: str, must: Optional[str]) -> str:
    """How a call begins up to its name, and with that if it is known: the model goes on from there."""
    writer: Any = dialects.get(dialect)
    return str(writer.render_calls([Call(_PLACEHOLDER, {})])).partition(_PLACEHOLDER)[0] + (must or "")


# --- messages


_ROLES = ("system", "developer", "user", "assistant", "tool")


def _messages(given: Any, manner: Manner, declared: bool) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise Refused(400, "messages is not a list with a message in it", param="messages")
    names: dict[str, str] = {}
    read = [_message(message, f"messages[{n}]", names) for n, message in enumerate(given)]
    if read[0]["role"] in ("developer", "system") or not (manner.developer and declared):
        return read
    return [{"role": "developer", "content": manner.developer}, *read]


def _message(given: Any, where: str, names: dict[str, str]) -> Message:
    """names: of the calls so far, by id; those of this message are added."""
    role = given.get("role") if isinstance(given, dict) else None
    if role not in _ROLES:
        raise Refused(400, f"{where}: role {role!r}; known are {', '.join(_ROLES)}", param=f"{where}.role")
    calls = given.get("tool_calls")
    if role == "assistant" and calls:
        said = given.get("content")
        return {
            "role": role,
            "content": _text(said, where) or None if said else None,
            "tool_calls": _calls(calls, where, names),
        }
    if role == "tool":
        name = names.get(str(given.get("tool_call_id")))
        if name is None:
            raise Refused(
                400, f"{where}: tool_call_id names no call of an assistant's before it", param=f"{where}.tool_call_id"
            )
        return {"role": role, "name": name, "content": _answer(_text(given.get("content"), where))}
    content = given.get("content")
    return {"role": role, "content": _text("" if content is None and role == "assistant" else content, where)}


def _text(content: Any, where: str) -> str:
    """A text, or parts that are texts. Raises Refused for images and the like."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Refused(400, f"{where}: the content is no text", param=f"{where}.content")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise Refused(
                400, f"{where}: a part of type {kind!r:.40}; this model reads text only", param=f"{where}.content"
            )
    return "".join(part["text"] for part in content)


def _calls(given: Any, where: str, names: dict[str, str]) -> list[Json]:
    if not isinstance(given, list):
        raise Refused(400, f"{where}: tool_calls is not a list", param=f"{where}.tool_calls")
    found = []
    for item in given:
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(function, dict):
            raise Refused(400, f"{where}: a call without a function", param=f"{where}.tool_calls")
        try:
            call = read_call({**function, "arguments": function.get("arguments") or {}})
        except EdgeError as error:
            raise Refused(400, f"{where}: {error.message}", param=f"{where}.tool_calls") from None
        names[str(item.get("id"))] = call.name
        found.append({"type": "function", "function": call.to_json()})
    return found


def _answer(text: str) -> Any:
    """What a tool said: an object where it is JSON of one, which is how answers are written in training."""
    try:
        value = read_json(text)
    except ValueError:
        return text
    # FunctionGemma reads an object of these two keys as a named answer, so that one stays text.
    plain = isinstance(value, dict) and not value.keys() >= {"name", "response"}
    return value if plain else text if isinstance(value, (str, dict)) else {"value": value}


# --- an answer --------------------------------------------------------------------------------------------------------


class Reader:
    """An answer while it is written: what of it is text, and its calls, each once it is whole.

    Text is passed on up to the first character that a call may begin with; what follows is known at the end.
    """

    def __init__(self, asked: Asked, dialect: str) -> None:
        self._asked, self._dialect = asked, dialects.get(dialect)
        self._stream, self._text, self._told, self._calls = self._dialect.stream(), "", "", 0
        self.over = False  # nothing more is wanted of the model
        self.stopped = False  # by a stop string
        self._reads = bool(asked.tools)  # without tools there are no calls: all is text, whatever it looks like
        self._take(asked.begin)

    def feed(self, piece: str) -> Iterator[Json]:
        """The deltas that this piece completes."""
        yield from self._deltas(self._take(piece))
        plain = self._text[: self._plain()]
        if plain.strip():
            yield from self._say(plain)

    def close(self, text: str) -> tuple[Parsed, list[Json]]:
        """The whole answer as the runtime has it, and the deltas that are left to say. Raises Refused for a call that had
        to come and didn't."""
        whole = self._asked.begin + text
        deltas = list(self._deltas(self._take(whole[len(self._text) :]))) if whole.startswith(self._text) else []
        if not (self.over or deltas or whole.startswith(self._text)):
            self._text = whole  # the runtime's last word goes before what it told on the way
        parsed = self._dialect.parse(self._text) if self._reads else Parsed([], self._text)
        calls = parsed.calls[:1] if self._asked.one_call else parsed.calls
        said = parsed.text if calls or not parsed.errors else self._text  # nothing that it wrote is lost
        parsed = Parsed(calls, said if said.strip() else "", parsed.errors, parsed.notes)
        must = self._asked.must
        if must is not None and not any(must in ("", call.name) for call in calls):
            raise Refused(422, f"the model did not write a call of {must or 'a tool'}: {self._text!r:.200}",
                          param="tool_choice", code="tool_choice_unmet", kind="model_error")  # fmt: skip
        return parsed, [*deltas, *self._say(parsed.text)]

    def _take(self, piece: str) -> list[Call]:
        """The calls that are whole now; what lies behind a stop string, or behind the one call, is left out."""
        if self.over:
            return []
        text = self._text + piece
        cuts = [at for at in (text.find(stop, len(self._asked.begin)) for stop in self._asked.stop) if at >= 0]
        if cuts:
            piece, self.over, self.stopped = text[len(self._text) : min(cuts)], True, True
        self._text = text[: min(cuts)] if cuts else text
        found = self._stream.feed(piece) if self._reads else []
        self.over = self.over or (self._asked.one_call and bool(found))
        return found

    def _plain(self) -> int:
        """How far it is certain that this is text, and no stop string has begun."""
        ends = [at for mark in "<{" if (at := self._text.find(mark)) >= 0] if self._reads else []
        held = max(
            (n for stop in self._asked.stop for n in range(1, len(stop)) if self._text.endswith(stop[:n])), default=0
        )
        return min([*ends, len(self._text) - held])

    def _say(self, text: str) -> Iterator[Json]:
        if text != self._told and text.startswith(self._told):
            yield {"content": text[len(self._told) :]}
            self._told = text

    def _deltas(self, calls: list[Call]) -> Iterator[Json]:
        """A call as OpenAI tells it: its name first, then its arguments, here in one piece, since ours aren't JSON before."""
        for call in calls[: 1 - self._calls] if self._asked.one_call else calls:
            index, self._calls = self._calls, self._calls + 1
            told = tool_call(call)
            arguments = told["function"]["arguments"]
            told["function"]["arguments"] = ""
            yield {"tool_calls": [{"index": index, **told}]}
            yield {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def tool_call(call: Call) -> Json:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


@dataclass
class Completion:
    """One completion's envelope: the same id and time in every chunk."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, parsed: Parsed, reason: str, usage: Optional[Json], told: Json) -> Json:
        calls = [tool_call(call) for call in parsed.calls]
        message: Json = {"role": "assistant", "content": parsed.text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._envelope("chat.completion"), "choices": [choice], "usage": usage, **told}

    def chunk(self, delta: Json, reason: Optional[str] = None, told: Optional[Json] = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._envelope("chat.completion.chunk"), "choices": [choice], **(told or {})}

    def last(self, usage: Optional[Json]) -> Json:
        return {**self._envelope("chat.completion.chunk"), "choices": [], "usage": usage}

    def _envelope(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def finish(parsed: Parsed, sample: Json, stopped: bool) -> str:
    if parsed.calls:
        return "tool_calls"
    return "length" if sample.get("stop") == "length" and not stopped else "stop"


def usage(sample: Json) -> Optional[Json]:
    """None where the runtime doesn't tell: never an invented 0."""
    prompt, answer = sample.get("prompt_tokens"), sample.get("completion_tokens")
    if prompt is None or answer is None:
        return None
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def told(asked: Asked, parsed: Parsed) -> Json:
    """What OpenAI's form has no place for, under one key of our own: warnings, and what is wrong with the calls."""
    wrong = [w for call in parsed.calls for w in tools.validate_call(call, asked.tools)]
    found = {"warnings": asked.warnings, "errors": parsed.errors, "problems": wrong, "notes": parsed.notes}
    found = {name: values for name, values in found.items() if values}
    return {"edge": found} if found else {}
