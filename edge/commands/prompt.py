"""`edge prompt`: what a runtime will really feed the model, beside what training fed it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, QUIET, together

if TYPE_CHECKING:
    from edge.records import Checkpoint
    from edge.renderers.compare import Result

DIFFERENT = 1  # as `diff` has it
_FILE = click.Path(path_type=Path)
_TOOLS = click.option(
    "--tools",
    "tools_file",
    type=_FILE,
    help="Tools of rows without their own: .json, .jsonl, .py (runs) [default: those of the project that the rows lie in].",
)
_RESULT = together(AS_JSON, QUIET)


@click.group()
def prompt() -> None:
    """Prompts as runtimes render them, held against training's by token ids.

    A model that was tuned on one rendering loses calls on another.

    \b
    edge prompt compare edge-tiny --target ollama --target flutter_gemma
    edge prompt compare build/tuned --rows data/eval.jsonl --json
    edge prompt show data/eval.jsonl --row 3 --target ollama
    """


@prompt.command()
@click.argument("checkpoint")
@click.option(
    "--rows", type=_FILE, metavar="FILE", help="Rows in any of the three shapes [default: eight built-in ones]."
)
@_TOOLS
@click.option("--target", "targets", multiple=True, metavar="NAME",
              help="litert_lm, litert_lm_builtin, flutter_gemma, ollama, llama_cpp [default: all].")  # fmt: skip
@_RESULT
def compare(
    checkpoint: str, rows: Path | None, tools_file: Path | None, targets: tuple[str, ...], as_json: bool, quiet: bool
) -> None:
    """How many rows each target renders otherwise than training, by the ids of CHECKPOINT's tokenizer.

    CHECKPOINT is a folder, or edge-tiny. For the first row that differs: the first token that does, on both sides, and
    what kind of difference it is. Exits with 0 if all are equal, 1 if not. Targets marked "not verified" are written from
    facts about their runtimes, which were not run here.

    \b
    edge prompt compare edge-tiny
    edge prompt compare build/tuned --rows data/eval.jsonl --target ollama --json
    """
    from edge import renderers
    from edge.console import Console
    from edge.renderers import compare as comparing
    from edge.train import nearby

    named = list(dict.fromkeys(targets)) or list(renderers.TARGETS)
    for name in named:
        renderers.get(name)
    folder = _folder(checkpoint)
    record = _record(folder)
    with Console(quiet) as console:
        bare = record is not None and nearby.tuned_bare(record)
        cases = comparing.read(rows, tools_file, bare, console) if rows else comparing.built_in()
        trained = record.renderer if record else renderers.TRAINING
        results = comparing.compare(cases, folder, named, console, trained)
    if as_json:
        told = [{**asdict(r), "equal": r.equal} for r in results]
        click.echo(json.dumps({"rows": len(cases), "targets": told}, ensure_ascii=False, indent=1))
    else:
        for result in results:
            _print(result)
    if not all(result.equal for result in results):
        raise click.exceptions.Exit(DIFFERENT)


@prompt.command()
@click.argument("file", type=_FILE)
@click.option("--row", type=int, default=1, show_default=True, metavar="N", help="Which row, from 1.")
@click.option("--target", default="training", show_default=True, metavar="NAME",
              help="training, litert_lm, litert_lm_builtin, flutter_gemma, ollama or llama_cpp.")  # fmt: skip
@click.option("--checkpoint", metavar="FOLDER", help="Whose chat template llama_cpp runs [default: the family's].")
@_TOOLS
def show(file: Path, row: int, target: str, checkpoint: str | None, tools_file: Path | None) -> None:
    """Print the prompt of one row of FILE as a target renders it.

    Rows without tools get those of the project that FILE lies in; without one the prompt has none, and that is said.

    \b
    edge prompt show data/eval.jsonl --row 3 --target ollama
    edge prompt show data/eval.jsonl --target llama_cpp --checkpoint build/tuned
    """
    from edge import renderers
    from edge.console import Console
    from edge.errors import EdgeError
    from edge.renderers import compare as comparing
    from edge.renderers import token_ids
    from edge.train import nearby

    renderer, console = renderers.get(target), Console()
    try:
        cases = comparing.read(file, tools_file, console=console)
    except nearby.ToolsMissing as lack:  # a model may have been tuned on just such prompts
        console.say(f"warning: {lack.message}; {lack.hint}")
        cases = comparing.read(file, bare=True)
    if not 1 <= row <= len(cases):
        raise EdgeError(f"{file}: no row {row}", f"it has rows 1 to {len(cases)}")
    case = cases[row - 1]
    template = token_ids.template(_folder(checkpoint)) if checkpoint else ""
    click.echo(renderer.render(case.messages, case.tools, template), nl=False)


def _folder(name: str) -> Path:
    from edge.train import bases

    return bases.folder_of(name) or Path(name)


def _record(folder: Path) -> Checkpoint | None:
    """How a checkpoint was tuned, if that is known."""
    from edge import records

    record = folder / "checkpoint.json"
    return records.load(records.Checkpoint, record) if record.exists() else None


def _print(result: Result) -> None:
    if result.missing:
        click.echo(f"{result.target}: not compared: {result.missing}")
        return
    refused = f", {result.refused} can't be rendered" if result.refused else ""
    click.echo(f"{result.target}: {result.differ} of {result.rows} rows differ{refused}")
    click.echo(f"  follows {result.follows}; {result.verified}")
    if result.equal:
        return
    if result.classes:
        click.echo("  " + ", ".join(f"{name} ({count} rows)" for name, count in result.classes.items()))
    _print_first(result.first or {})
    for unknown in result.unknown:
        click.echo(f"  not known: {unknown}")


def _print_first(first: dict[str, Any]) -> None:
    if "refused" in first:
        click.echo(f"  {first['row']}: {first['refused']}")
        return
    click.echo(f"  first: {first['row']}, token {first['token']}: {', '.join(first['classes'])}")
    for side in ("training", "target"):
        here = first[side]
        shown = json.dumps([here["before"], here["after"]], ensure_ascii=False)
        click.echo(f"    {side:<9} {shown} ids {here['ids']}, here {here['token']}")
