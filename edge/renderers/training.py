"""What training writes: our dialect."""

from __future__ import annotations

from edge.dialects import Message, Tool, functiongemma

FOLLOWS = "FunctionGemma's published chat template (13,792 bytes, git blob 16294794d9)"
VERIFIED = "byte for byte against prompts that the published template printed"
UNKNOWN: tuple[str, ...] = ()


def render(messages: list[Message], tools: list[Tool], template: str = "") -> str:
    return functiongemma.render(messages, tools)
