"""What each runtime really feeds the model for (messages, tools): one file per target, beside what training wrote.

A renderer is a module with these members:

    FOLLOWS    what it was written from, with the version
    VERIFIED   what it was held against, or "not verified, written from facts"
    UNKNOWN    what the source does not say; what is written there is the nearest that it does say
    render(messages, tools, template) -> the prompt, the start token that the runtime adds included

`template` is the checkpoint's chat template; only `llama_cpp` reads it. Tools that FunctionGemma's format can't express
are refused by all of them. Targets differ in the prompt only: the answer's format is the same everywhere.
Standard library only, Python 3.9; jinja2 is imported where a target is a Jinja template.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from edge import dialects
from edge.dialects import Message, Tool
from edge.errors import EdgeError

TRAINING = "training"  # the dialect's own rendering, which needs no file here
TARGETS = ("litert_lm", "litert_lm_builtin", "flutter_gemma", "ollama", "llama_cpp")
NAMES = (TRAINING, *TARGETS)


class Renderer(Protocol):
    FOLLOWS: str
    VERIFIED: str
    UNKNOWN: tuple[str, ...]

    def render(self, messages: list[Message], tools: list[Tool], template: str) -> str:
        """The prompt. Raises EdgeError for what can't be rendered, MissingError for want of jinja2."""
        ...


def get(name: str) -> Renderer:
    """The renderer of this name. Raises EdgeError naming those that exist."""
    if name not in NAMES:
        raise EdgeError(f"no target {name!r}", f"there are: {', '.join(NAMES)}")
    return cast(Renderer, importlib.import_module(f"{__name__}.{name}"))


def prompt(name: str, dialect: str, messages: list[Message], tools: list[Tool]) -> str:
    """The prompt as the target `name` writes it, or the dialect itself. Raises EdgeError for what can't be written."""
    if name == TRAINING:
        return dialects.get(dialect).render(messages, tools, add_generation_prompt=True)
    refuse_other(name, dialect)
    return get(name).render(messages, tools, "")


def refuse_other(name: str, dialect: str) -> None:
    """Raise EdgeError for a target that doesn't exist, or that writes no prompts of this dialect."""
    get(name)
    if name != TRAINING and dialect != "functiongemma":
        raise EdgeError(
            f"the target {name} writes FunctionGemma's prompts, and the dialect is {dialect}",
            f'set renderer = "{TRAINING}" in [model], or leave it out',
        )
