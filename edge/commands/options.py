"""Options that many commands take, worded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress.")
DIALECT = click.option("--dialect", default="functiongemma", show_default=True, help="functiongemma, hermes or llama3.")
FOLDER = click.Path(file_okay=False, path_type=Path)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which `--help` shall list them."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


PROVING = together(
    click.option("--rows", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                 help="Rows (JSON lines) to prove on [default: built-in ones]."),
    click.option("--tools", "tools_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                 help="Tools of rows without their own: .json, .jsonl, .py (runs) [default: those of the rows' project]."),
    click.option("--count", type=click.IntRange(1), default=50, show_default=True, metavar="N",
                 help="How many rows to prove on."),
    click.option("--limit", "limits", multiple=True, metavar="CLASS.LIMIT=VALUE",
                 help='A limit of the proof, such as "4 bits.kl=0.5".'),
    click.option("--unproven", is_flag=True, help="Don't hold what was made against the checkpoint."),
)  # fmt: skip
