"""`{"user_content", "tool_name", "tool_arguments"}`: one request, one call, as flutter_gemma's guide writes it.

`tool_arguments` is an object or one written as JSON. A null `tool_name` means that no call is right: an empty answer.
"""

from __future__ import annotations

from typing import Optional

from edge.dialects import Dialect, Message
from edge.records import Json

from . import BadRow, answer, read_call, read_message


def matches(record: Json) -> bool:
    return "user_content" in record and "tool_name" in record


def messages(record: Json, dialect: Dialect, developer: Optional[str]) -> list[Message]:
    first = [{"role": "developer", "content": developer}] if developer else []
    return [*first, read_message({"role": "user", "content": record["user_content"]}), _answer(record)]


def _answer(record: Json) -> Message:
    name, arguments = record["tool_name"], record.get("tool_arguments")
    if name is None:
        if arguments not in (None, "", "{}", {}):
            raise BadRow("not a call: tool_arguments without a tool_name")
        return answer([])
    return answer([read_call(name, arguments)])
