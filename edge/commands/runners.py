"""`edge runners`: llama.cpp's own programs for devices.

Errors are caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import AS_JSON, QUIET


@click.group()
def runners() -> None:
    """llama.cpp's own programs (llama-server, llama-bench, llama-completion) for phones and other processors.

    A phone has no Python, so GGUF runs there in llama.cpp's server. It is compiled here once for a class of processors, by a
    compiler that comes as a package; `edge bench` pushes it and asks it.
    """


@runners.command()
@click.option("--for", "names", metavar="CLASS", multiple=True,
              help="Of processors, several times [default: armv8.2: Raspberry Pi 5, phones since 2018].")  # fmt: skip
@AS_JSON
@QUIET
def build(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Compile them for a class of processors; what is there already is kept. Some 10 minutes of one core a class.

    \b
    edge runners build
    edge runners build --for armv8.0        for a Raspberry Pi 4
    """
    from edge.console import Console
    from edge.devices import runners as library

    with Console(quiet) as console:
        made = {name: str(library.build(name, console)) for name in names or (library.DEFAULT,)}
    click.echo(json.dumps(made) if as_json else "\n".join(f"{name}: {path}" for name, path in made.items()))


@runners.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--for", "name", metavar="CLASS", required=True, help="Of processors: `edge runners list` has them.")
@AS_JSON
def add(path: Path, name: str, as_json: bool) -> None:
    """Take your own static programs for a class: PATH is llama-server, or a folder with it. They go before ours.

    \b
    edge runners add downloads/llama-server --for armv8.2
    """
    from edge.devices import runners as library

    made = library.add(path, name)
    click.echo(json.dumps({name: str(made)}) if as_json else f"{name}: {made}")


@runners.command("list")
@AS_JSON
def list_(as_json: bool) -> None:
    """The classes of processors, and which of them have programs here."""
    from edge.devices import runners as library

    found = library.listed()
    click.echo(json.dumps(found) if as_json else "\n".join(map(_line, found)))


@runners.command()
@click.option("--all", "everything", is_flag=True, help="Also those in use by this version of edge, and your own.")
@AS_JSON
def clean(everything: bool, as_json: bool) -> None:
    """Delete what nothing here uses any more (another version, half-built)."""
    from edge.devices import runners as library

    removed = library.clean(everything)
    click.echo(json.dumps(removed) if as_json else "\n".join(f"removed {name}" for name in removed))


def _line(it: dict[str, Any]) -> str:
    size = f"{it['megabytes']:.0f} MB" if it["megabytes"] else ""
    return f"{it['name']:<10} {it['state']:<10} {size:>6}  {it['about']}"
