"""FunctionGemma: declarations in braces, strings between <escape> tokens, calls as call:NAME{key:value}.

`render` writes byte for byte what the chat template published with the model writes. Where that template prints
something arbitrary (a union of types, a control token inside a string), where it loses something silently and where a
call could not be read back, this file refuses or warns, naming tool and property: a model would learn the damage.

Reading is strict where runtimes disagree (no braces, a trailing comma, a key that is no name: an error record) and
keeps what it can (an unknown bare word: a string and a note).

Standard library only, Python 3.9.
"""

from __future__ import annotations

import math
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, Optional

from edge.calls import Call, Parsed
from edge.callstream import CallStream, Syntax, Unreadable
from edge.dialects import Finding, Message, Tool, function_of, read_call, refuse, twice
from edge.errors import EdgeError

STOP = ("<end_of_turn>", "<start_function_response>", "<eos>")
_BEGIN, _END, _ESCAPE = "<start_function_call>", "<end_function_call>", "<escape>"
FUNCTION_TOKENS = (
    "<start_function_declaration>", "<end_function_declaration>", _BEGIN, _END,
    "<start_function_response>", "<end_function_response>", _ESCAPE,
    "<start_of_turn>", "<end_of_turn>", "<eos>",
)  # fmt: skip
CHAT_TEMPLATE = (pkgutil.get_data("edge.dialects", "functiongemma.jinja") or b"").decode()

_CONTROL = re.compile("|".join(map(re.escape, (*FUNCTION_TOKENS, "<pad>", "<bos>", "<unk>"))))
_TURN = re.compile("<start_of_turn>|<end_of_turn>|<bos>|<eos>|<pad>")  # what would end a turn from within
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]*")
_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_RESERVED = ("description", "type", "properties", "required", "nullable")  # property names that the template drops
_TOP = ("type", "properties", "required")  # the keywords of a tool's parameters that it prints
_INNER = (*_TOP, "description", "enum", "items")  # those of a property
_ANNOTATIONS = ("title", "$schema", "$id", "$anchor", "$comment", "$defs", "definitions")  # nothing for a model
_NO_ITEMS = "the type of its items is not given: the model can't know what goes in"
_MAX_DEPTH = 64  # of values: no tool takes more, and whoever walks the result may recurse
_MAX_NUMBER = 640  # characters that every Python converts, whatever its limit is set to; longer is no number


# Declarations


def check(tools: list[Tool]) -> list[Finding]:
    """What the format can't express in these declarations; `render` refuses those with an error."""
    found = twice([function_of(tool) for tool in tools])
    for number, tool in enumerate(tools, 1):
        if isinstance(tool, dict):
            found += _check_function(function_of(tool))
        else:
            found.append(Finding("error", "tools", "", f"tool {number} is not an object"))
    return found


def _check_function(function: dict[str, Any]) -> Iterator[Finding]:
    tool = str(function.get("name"))
    if not isinstance(function.get("name"), str) or not _NAME.fullmatch(tool):
        yield Finding("error", tool, "", f"the name is not of the form {_NAME.pattern}")
    yield from _check_description(function, tool, "")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        yield Finding("error", tool, "", "parameters is not a JSON Schema object")
    elif parameters:
        yield from _check_type(parameters, tool, "")
        if isinstance(parameters.get("type"), str) and parameters["type"].upper() != "OBJECT":
            yield Finding("warning", tool, "", f"parameters are of type {parameters['type']}, not OBJECT")
        said_above = parameters.get("description") == function.get("description")
        yield from _check_dropped(parameters, tool, "", (*_TOP, "description") if said_above else _TOP)
        yield from _check_properties(parameters, tool, "")


def _check_properties(schema: dict[str, Any], tool: str, path: str) -> Iterator[Finding]:
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, dict):
        yield Finding("error", tool, path, "properties is not an object")
        return
    for name, prop in properties.items():
        where = f"{path}.{name}" if path else str(name)
        if name in _RESERVED:
            yield Finding("warning", tool, where, "DROPPED: the model never sees a property of this name; rename it")
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            yield Finding("error", tool, where, f"the name is not of the form {_NAME.pattern}")
        elif not isinstance(prop, dict):
            yield Finding("error", tool, where, "not a JSON Schema object")
        else:
            yield from _check_property(prop, tool, where)
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield Finding("error", tool, path, "required is not a list of names")
    else:
        for name in required:
            if name not in properties:
                yield Finding("warning", tool, path, f"required names {name!r}, which is no property")
            yield from _check_text(name, tool, path, "required")


def _check_property(prop: dict[str, Any], tool: str, path: str) -> Iterator[Finding]:
    yield from _check_description(prop, tool, path)
    yield from _check_type(prop, tool, path)
    kind = _type(prop)
    for keyword, on in (("enum", "STRING"), ("properties", "OBJECT"), ("required", "OBJECT"), ("items", "ARRAY")):
        if prop.get(keyword) and kind != on:
            yield Finding("warning", tool, path, f"DROPPED: {keyword} on a {kind}; only {on} has it")
    yield from _check_dropped(prop, tool, path, _INNER)
    if kind == "STRING" and prop.get("enum"):
        yield from _check_enum(prop["enum"], tool, path)
    elif kind == "OBJECT":
        if not prop.get("properties"):
            yield Finding("warning", tool, path, "an OBJECT without properties: the model can't know what goes in")
        yield from _check_properties(prop, tool, path)
    elif kind == "ARRAY" and prop.get("items"):
        yield from _check_items(prop["items"], tool, path)
    elif kind == "ARRAY":
        yield Finding("warning", tool, path, _NO_ITEMS)


def _check_dropped(schema: dict[str, Any], tool: str, path: str, printed: tuple[str, ...]) -> Iterator[Finding]:
    silent = (*printed, *_ANNOTATIONS)
    lost = [str(key) for key, value in schema.items() if key not in silent and not _says_nothing(key, value)]
    if lost:
        verb = "has" if len(lost) == 1 else "have"
        yield Finding("warning", tool, path, f"DROPPED: {', '.join(lost)} {verb} no place in the format")


def _says_nothing(key: str, value: Any) -> bool:
    """Whether a keyword is what holds without it: null for what may be left out, no properties but the declared."""
    return (key == "default" and value is None) or (key == "additionalProperties" and value is False)


def _check_enum(values: Any, tool: str, path: str) -> Iterator[Finding]:
    if not isinstance(values, list):
        yield Finding("error", tool, path, "enum is not a list")
        return
    yield from _check_value(values, tool, path, "enum")


def _check_items(items: Any, tool: str, path: str) -> Iterator[Finding]:
    path = f"{path}[]"
    if not isinstance(items, dict):
        yield Finding("warning", tool, path, "DROPPED: items is not a schema")
        return
    yield from _check_type(items, tool, path)
    if _type(items) == "ARRAY" and not items.get("items"):
        yield Finding("warning", tool, path, _NO_ITEMS)
    yield from _check_properties(items, tool, path)
    for key, value in items.items():
        if value is None:
            yield Finding("warning", tool, path, f"DROPPED: {key} is null")
        elif key not in ("type", "properties", "required"):
            yield from _check_text(key, tool, path, "a key")
            yield from _check_value(value, tool, path, str(key))


def _check_description(schema: dict[str, Any], tool: str, path: str) -> Iterator[Finding]:
    if schema.get("description") is None:
        yield Finding("warning", tool, path, "no description: the model sees an empty one")
    else:
        yield from _check_text(schema["description"], tool, path, "description")


def _check_type(schema: dict[str, Any], tool: str, path: str) -> Iterator[Finding]:
    kind = schema.get("type")
    if kind is None or kind == "":
        yield Finding("error", tool, path, "no type")
    elif not isinstance(kind, str):
        yield Finding("error", tool, path, f"the type is {kind!r}: the format has one type, no union")
    elif kind.upper() not in _TYPES:
        yield Finding("warning", tool, path, f"type {kind} is not JSON Schema's; written as {kind.upper()}")
        yield from _check_text(kind, tool, path, "type")


def _check_text(text: Any, tool: str, path: str, what: str) -> Iterator[Finding]:
    if not isinstance(text, str):
        yield Finding("error", tool, path, f"{what} is not text: {text!r}")
    elif found := _CONTROL.search(text):
        yield Finding("error", tool, path, f"{what} holds the control token {found.group()}")


def _check_value(value: Any, tool: str, path: str, what: str) -> Iterator[Finding]:
    try:
        _value(value, escape_keys=True)
    except EdgeError as why:
        yield Finding("error", tool, path, f"{what}: {why.message}")


def _declaration(function: dict[str, Any]) -> str:
    parameters = function.get("parameters")
    schema = f",parameters:{{{_parameters(parameters)}}}" if parameters else ""
    body = f"declaration:{function['name']}{{{_description(function)}{schema}}}"
    return f"<start_function_declaration>{body}<end_function_declaration>"


def _parameters(schema: dict[str, Any]) -> str:
    properties, required = schema.get("properties"), schema.get("required")
    parts = [f"properties:{_properties(properties)}"] if properties else []
    parts += [f"required:{_value(required)}"] if required else []
    return ",".join([*parts, f"type:{_escape(_type(schema))}"])


def _properties(properties: dict[str, Any]) -> str:
    kept = [f"{name}:{_property(prop)}" for name, prop in _by_key(properties) if name not in _RESERVED]
    return f"{{{','.join(kept)}}}"


def _property(prop: dict[str, Any]) -> str:
    kind, parts = _type(prop), [_description(prop)]
    if kind == "STRING" and prop.get("enum"):
        parts.append(f"enum:{_value(prop['enum'], escape_keys=True)}")
    elif kind == "OBJECT":
        parts.append(f"properties:{_properties(prop.get('properties') or {})}")
        parts += [f"required:{_value(prop['required'])}"] if prop.get("required") else []
    elif kind == "ARRAY" and prop.get("items") and isinstance(prop["items"], dict):
        parts.append(f"items:{_items(prop['items'])}")
    return f"{{{','.join([*parts, f'type:{_escape(kind)}'])}}}"


def _items(items: dict[str, Any]) -> str:
    parts = []
    for key, value in _by_key(items):
        if key == "properties" and value is not None:
            parts.append(f"properties:{_properties(value)}")
        elif key == "type":
            parts.append(f"type:{_escape(_type(items))}")
        elif value is not None and not (key == "required" and not value):
            parts.append(f"{key}:{_value(value, escape_keys=True)}")
    return f"{{{','.join(parts)}}}"


def _description(schema: dict[str, Any]) -> str:
    return f"description:{_escape(schema.get('description') or '')}"


def _type(schema: dict[str, Any]) -> str:
    return str(schema.get("type")).upper()


# Values


def _value(value: Any, escape_keys: bool = False, depth: int = 0) -> str:
    """A JSON value as the format writes it. Raises EdgeError for what can't be written."""
    if depth > _MAX_DEPTH:
        raise EdgeError(f"a value is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        pairs = (f"{_key(k, escape_keys)}:{_value(v, escape_keys, depth + 1)}" for k, v in _by_key(value))
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(_value(item, escape_keys, depth + 1) for item in value)}]"
    return _escape(value) if isinstance(value, str) else _bare(value)


def _bare(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) >= 10 ** (_MAX_NUMBER - 1):
            raise EdgeError(f"an integer of {_MAX_NUMBER} digits or more")
        return int.__repr__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)
    raise EdgeError(f"{value!r} is no JSON value")


def _key(key: Any, escaped: bool) -> str:
    if not isinstance(key, str):
        raise EdgeError(f"the key {key!r} is not text")
    return _escape(key) if escaped else _plain(key, f"the key {key!r}")


def _escape(text: str) -> str:
    return f"{_ESCAPE}{_plain(text, 'a string')}{_ESCAPE}"


def _plain(text: str, what: str, forbidden: re.Pattern[str] = _CONTROL) -> str:
    if found := forbidden.search(text):
        hint = "a call belongs in tool_calls" if found.group() in (_BEGIN, _END) else None
        raise EdgeError(f"{what} holds the control token {found.group()}", hint)
    return text


def _by_key(mapping: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(mapping.items(), key=lambda pair: str(pair[0]).lower())


# Messages


def render(messages: list[Message], tools: list[Tool], add_generation_prompt: bool = True) -> str:
    """The exact prompt. Raises EdgeError naming tool and property, or the message, for what can't be written."""
    refuse(check(tools))
    first = 1 if messages and _role(messages[0], 1) in ("developer", "system") else 0
    parts = ["<bos>"]
    if first or tools:
        text = _text(messages[0], 1) if first else ""
        declarations = "".join(_declaration(function_of(tool)) for tool in tools)
        parts.append(f"<start_of_turn>developer\n{text}{declarations}<end_of_turn>\n")
    after_tool = False
    for number, message in enumerate(messages[first:], first + 1):
        parts.append(_turn(message, number, not after_tool, last=number == len(messages)))
        after_tool = message["role"] == "tool"  # whoever speaks next goes on in the same turn
    if add_generation_prompt and not after_tool:
        parts.append("<start_of_turn>model\n")
    return "".join(parts)


def completion(message: Message) -> str:
    """What the model writes in this turn, stop token included: what a training example teaches."""
    calls = _calls(message, 1)
    return _said(message, 1) + calls + ("<start_function_response>" if calls else "<end_of_turn>")


def render_calls(calls: list[Call]) -> str:
    """Calls as the model writes them, without a stop token: `parse` gives the same calls back."""
    return "".join(f"{_BEGIN}call:{_call(call.name, call.arguments)}{_END}" for call in calls)


def _turn(message: Message, number: int, opens: bool, last: bool) -> str:
    role = _role(message, number)
    if role == "tool":
        return "".join(_response(*answer, number) for answer in _answers(message, number))
    head = f"<start_of_turn>{role}\n" if opens else ""
    if role != "model":
        return f"{head}{_text(message, number)}<end_of_turn>\n"
    calls = _calls(message, number)
    end = ("<start_function_response>" if last else "") if calls else "<end_of_turn>\n"
    return head + _said(message, number) + calls + end


def _role(message: Message, number: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("developer", "system", "user", "assistant", "model", "tool"):
        raise EdgeError(f"message {number}: role {role!r}", "use developer, user, assistant or tool")
    return "model" if role == "assistant" else str(role)


def _text(message: Message, number: int) -> str:
    content = message.get("content")
    if not isinstance(content, str):
        raise EdgeError(f"message {number}: the content is not text: {content!r:.60}", "give it as one string")
    # A developer's text is the author's own, and may explain the format of calls; nobody else's may hold its tokens.
    forbidden = _TURN if message.get("role") in ("developer", "system") else _CONTROL
    return _plain(content.strip(), f"message {number}: the text", forbidden)


def _said(message: Message, number: int) -> str:
    """The text of a model turn: with calls it may be missing."""
    return "" if message.get("tool_calls") and message.get("content") is None else _text(message, number)


def _calls(message: Message, number: int) -> str:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise EdgeError(f"message {number}: tool_calls is not a list")
    try:
        return render_calls([read_call(call) for call in calls])
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None


def _call(name: str, arguments: Any) -> str:
    if not _NAME.fullmatch(name):
        raise EdgeError(f"call {name!r}: the name is not of the form {_NAME.pattern}")
    if not isinstance(arguments, dict):
        raise EdgeError(f"call {name}: the arguments are not a mapping")
    for key, value in arguments.items():
        try:
            _value(value, depth=1)
            _check_keys({key: value})
        except EdgeError as why:
            raise EdgeError(f"call {name}, argument {key!r}: {why.message}") from None
    return name + _value(arguments)


def _check_keys(value: Any) -> None:
    """Keys are bare in a call: one that is no name could not be read back."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                raise EdgeError(f"the key {key!r} is not of the form {_NAME.pattern}")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_keys(item)


def _answers(message: Message, number: int) -> Iterator[tuple[Any, Any]]:
    """Name and value of each response in a tool message."""
    content = message.get("content")
    for item in content if isinstance(content, list) else [content]:
        if isinstance(item, dict) and "name" in item and "response" in item:
            yield item["name"], item["response"]
        elif isinstance(item, (dict, str)) and not isinstance(content, list):
            yield message.get("name"), item
        else:
            raise EdgeError(
                f"message {number}: a tool's content is not a response: {item!r:.60}",
                'give a mapping or a string with "name" on the message, or {"name", "response"}, or a list of those',
            )


def _response(name: Any, value: Any, number: int) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise EdgeError(f"message {number}: a tool's response needs the tool's name, not {name!r}")
    try:
        body = _value(value if isinstance(value, dict) else {"value": value})
    except EdgeError as why:
        raise EdgeError(f"message {number}: the response of {name}: {why.message}") from None
    return f"<start_function_response>response:{name}{body}<end_function_response>"


# Reading calls

_SPACE = " \t\r\n"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BARE = re.compile(r"[^,}\]]*")
_WORDS = {"true": True, "false": False, "null": None, "None": None}


def parse(text: str) -> Parsed:
    """A model's output to calls. Never raises, whatever the text; linear time."""
    parser = stream()
    parser.feed(text)
    return parser.close()


def stream() -> CallStream:
    return CallStream(Syntax(_BEGIN, _END, _ESCAPE, STOP, _read))


def _read(body: str) -> tuple[Call, list[str]]:
    reader = _Reader(body)
    return reader.call(), reader.notes


class _Reader:
    """One call, from `call:` to the closing brace, read from left to right; `at` never goes back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.notes: list[str] = []

    def call(self) -> Call:
        name = self._name()
        arguments = self._object(0)
        if self._peek():
            raise Unreadable(f"call {name}: {self._here()} after the closing brace")
        return Call(name, arguments)

    def _name(self) -> str:
        if self._peek() != "c" or not self.text.startswith("call:", self.at):
            raise Unreadable(f"{self._here()} instead of call:")
        brace = self.text.find("{", self.at)
        name = self.text[self.at + len("call:") : len(self.text) if brace < 0 else brace].strip(_SPACE)
        if not _NAME.fullmatch(name):
            raise Unreadable(f"{name[:40]!r} is not a function's name" if name else "no function name")
        if brace < 0:
            raise Unreadable(f"call {name}: no braces after the name")
        self.at = brace
        return name

    def _value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise Unreadable(f"nested deeper than {_MAX_DEPTH} levels")
        first = self._peek()
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._list(depth)
        return self._string() if self.text.startswith(_ESCAPE, self.at) else self._word()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        while self._more("}", first=not found):
            key = self._key()
            value = self._value(depth + 1)
            if key in found:
                self.notes.append(f"key {key[:40]!r} is given twice; the first value counts")
            found.setdefault(key, value)
        return found

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        while self._more("]", first=not found):
            found.append(self._value(depth + 1))
        return found

    def _more(self, close: str, first: bool) -> bool:
        """Step over the closing bracket (no more) or over the comma before the next item."""
        mark = self._peek()
        if mark == close:
            self.at += 1
            return False
        if not first:
            if mark != ",":
                raise Unreadable(f"{self._here()} instead of a comma or {close}")
            self.at += 1
        return True

    def _key(self) -> str:
        self._peek()
        if self.text.startswith(_ESCAPE, self.at):
            key = self._string()
        else:
            name = _NAME.match(self.text, self.at)
            if not name:
                raise Unreadable(f"{self._here()} instead of a key")
            key, self.at = name.group(), name.end()
        if self._peek() != ":":
            raise Unreadable(f"{self._here()} instead of a colon after the key {key[:40]!r}")
        self.at += 1
        return key

    def _string(self) -> str:
        start = self.at + len(_ESCAPE)
        end = self.text.find(_ESCAPE, start)
        if end < 0:
            raise Unreadable("truncated: a string without its closing <escape>")
        self.at = end + len(_ESCAPE)
        return self.text[start:end]

    def _word(self) -> Any:
        match = _BARE.match(self.text, self.at)
        word = match.group().strip(_SPACE) if match else ""
        if not word or _ESCAPE in word:
            raise Unreadable(f"{self._here()} instead of a value")
        self.at += len(match.group()) if match else 0
        if word in _WORDS:
            return _WORDS[word]
        number = _number(word)
        if number is None:
            self.notes.append(f"the bare word {word[:40]!r} is kept as a string")
        return word if number is None else number

    def _peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while self.text[self.at : self.at + 1] in (" ", "\t", "\r", "\n"):
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _here(self) -> str:
        rest = self.text[self.at : self.at + 20]
        return repr(rest) if rest else "truncated: the end"


def _number(word: str) -> Optional[float]:
    """By JSON's grammar: an integer stays one. None for a word that is no number or that no double can hold."""
    match = _NUMBER.fullmatch(word) if len(word) <= _MAX_NUMBER else None
    if not match:
        return None
    if not any(match.groups()):
        return int(word)
    return float(word) if math.isfinite(float(word)) else None
