"""`{"metadata", "tools", "messages"}` with calls in `tool_calls`: google/mobile-actions, OpenAI's fine-tuning files.

`metadata` ("train" or "eval") and `tools` (Google's upper-case types too) are read for every format, in `__init__`.
"""

from __future__ import annotations

from typing import Optional

from edge.dialects import Dialect, Message
from edge.records import Json

from . import conversation, read_message


def matches(record: Json) -> bool:
    return conversation(record) and any(isinstance(m, dict) and m.get("tool_calls") for m in record["messages"])


def messages(record: Json, dialect: Dialect, developer: Optional[str]) -> list[Message]:
    return [read_message(given) for given in record["messages"]]
