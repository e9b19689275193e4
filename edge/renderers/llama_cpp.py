"""llama.cpp: the chat template in the GGUF's metadata, which is the checkpoint's."""

from __future__ import annotations

from edge.dialects import Message, Tool, functiongemma, refuse

from . import jinja

FOLLOWS = "the checkpoint's chat_template.jinja, run as llama-cpp-python 0.3.36 does it"
VERIFIED = "byte for byte against its Jinja2ChatFormatter"
UNKNOWN = ("llama-server runs the template by an engine of its own, which was not asked",)


def render(messages: list[Message], tools: list[Tool], template: str = "") -> str:
    """Without a template: the one that our GGUFs carry for a checkpoint that has none."""
    refuse(functiongemma.check(tools))
    return jinja.run(template or functiongemma.CHAT_TEMPLATE, messages, tools)
