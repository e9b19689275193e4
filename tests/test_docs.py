"""What the README and the pages tell people to type: every `edge` line is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from edge.cli import main

TOP = Path(__file__).resolve().parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs" / "by-hand").glob("*.md"))]


def lines(page: Path) -> list[str]:
    """The `edge` lines in blocks of commands, comments taken off, split where one is followed by another."""
    blocks = re.findall(r"^\s*```\n(.*?)^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    said = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
    said = [re.sub(r"^(?:[A-Z_]+=\S+\s+)+", "", line) for line in said]
    return [line for line in said if line.startswith("edge ")]


def understood(line: str) -> None:
    """Raises click's errors for a command, an option or a count of arguments that there is not; runs nothing."""
    command: click.Command = main
    words = shlex.split(line, comments=True)[1:]
    context = click.Context(main, info_name="edge")
    while isinstance(command, click.Group) and (words or not command.invoke_without_command):
        name, found, words = command.resolve_command(context, words)
        assert found is not None, name
        command, context = found, click.Context(found, parent=context, info_name=name)
    _, left, _ = command.make_parser(context).parse_args(list(words))
    assert not left, f"too many arguments: {left}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    found = lines(page)
    assert len(found) >= 4
    for line in found:
        try:
            understood(line)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: {line}: {error.format_message()}")


def test_the_readme_and_a_new_project_tell_the_same_disk() -> None:
    gguf, every = map(
        float, re.findall(r"([\d.]+) GB (?:of disk for GGUF|for all)", PAGES[0].read_text(encoding="utf-8"))
    )
    (more,) = re.findall(r"([\d.]+) GB of disk", (TOP / "edge" / "template.toml").read_text(encoding="utf-8"))
    assert round(every - gguf, 1) == float(more)


@pytest.mark.parametrize("line", ["edge trian app", "edge export gguf m --quants q8_0", "edge inspect a.gguf --loud"])
def test_a_wrong_line_is_noticed(line: str) -> None:
    with pytest.raises(click.ClickException):
        understood(line)
