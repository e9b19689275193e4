"""Running a chat template by jinja2, which is no part of the core: MissingError where it isn't installed."""

from __future__ import annotations

import datetime
import json
from typing import Any

from edge.dialects import Message, Tool
from edge.errors import EdgeError, MissingError


def run(template: str, messages: list[Message], tools: list[Tool]) -> str:
    """The prompt. Sandboxed, since a template comes with a checkpoint. Raises EdgeError if it can't be run."""
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise MissingError(
            "this target is a Jinja template, and jinja2 is not installed", "pip install jinja2"
        ) from None

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(template).render(
            messages=messages, tools=tools, add_generation_prompt=True, bos_token="<bos>", eos_token="<eos>",
            raise_exception=_refuse, strftime_now=lambda form: datetime.datetime.now().strftime(form),
        )  # fmt: skip
    except (jinja2.TemplateError, TypeError) as why:
        raise EdgeError(f"the chat template can't be run: {why}", "see edge lint for the artifact's template") from None


def _to_json(value: Any, indent: Any = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise EdgeError(f"the chat template refuses: {message}")
