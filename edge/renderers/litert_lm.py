"""LiteRT-LM with a `.litertlm` of ours: the template that it carries, which the runtime runs in place of its own format.

The runtime's engine is MiniJinja; here the same template is run by Jinja. The runtime puts the start token in front.
"""

from __future__ import annotations

import pkgutil

from edge.dialects import Message, Tool, functiongemma, refuse

from . import jinja

FOLLOWS = "our own template (export/litert_template.jinja), as LiteRT-LM 0.18.1 runs it"
VERIFIED = "byte for byte against render_message_to_string of litert-lm-api 0.18.1"
UNKNOWN = ("versions before 0.18",)
TEMPLATE = (pkgutil.get_data("edge.export", "litert_template.jinja") or b"").decode()


def render(messages: list[Message], tools: list[Tool], template: str = "") -> str:
    refuse(functiongemma.check(tools))
    return "<bos>" + jinja.run(TEMPLATE, messages, tools)
