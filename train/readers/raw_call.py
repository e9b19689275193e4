"""`{"messages"}` whose assistant writes calls as raw text in the dialect's own syntax; other text is the answer itself.

The text is parsed, so that it is rendered again exactly as the dialect writes it, whatever blanks stood between calls.
"""

from __future__ import annotations

from typing import Optional

from edge.dialects import Dialect, Message
from edge.records import Json

from . import BadRow, answer, conversation, read_message, refuse_tags


def matches(record: Json) -> bool:
    return conversation(record) and not any(isinstance(m, dict) and m.get("tool_calls") for m in record["messages"])


def messages(record: Json, dialect: Dialect, developer: Optional[str]) -> list[Message]:
    read = [read_message(given) for given in record["messages"]]
    return [_parsed(m["content"], dialect) if m["role"] == "assistant" else m for m in read]


def _parsed(content: str, dialect: Dialect) -> Message:
    found = dialect.parse(content)
    if found.errors:
        refuse_tags(content, dialect, stray=False)  # a misspelt tag says more than what the parser met then
        raise BadRow(f"malformed call: {found.errors[0]}")
    if found.notes:
        raise BadRow(f"malformed call: {found.notes[0]}")
    if found.calls and not content.lstrip().startswith(found.text.strip()):
        raise BadRow("text after a call: it would be trained before the call, where the format has it")
    return answer(found.calls, found.text)
