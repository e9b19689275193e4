"""`edge tiny`: the embedded base model, trained again or examined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import AS_JSON, FOLDER, QUIET


@click.group()
def tiny() -> None:
    """The embedded base model, edge-tiny: train it again, or examine one.

    \b
    edge tiny score                              what the card of the shipped one says
    edge tiny train build/mine --steps 2000      a shorter training, of some ten minutes
    edge tiny score build/mine --rows 300 --json
    """


@tiny.command("train")
@click.argument("out", type=FOLDER, default="build/edge-tiny")
@click.option(
    "--steps", type=click.IntRange(min=1), help="Of 20 examples each [default: 23,100; the shipped one took 30,300]."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Of weights and data [default: 1, the shipped one's in its first go].",
)
@click.option(
    "--heads",
    type=click.IntRange(min=1),
    help="Prompts a step, of 10 questions each [default: 2; a GPU wants 32 or more].",
)
@click.option("--plain", is_flag=True, help="Start from random weights only, without those that can copy.")
@click.option("--from", "model", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Go on from this model instead; give another --seed, the same would repeat its rows.")  # fmt: skip
@AS_JSON
@QUIET
def tiny_train(
    out: Path,
    steps: int | None,
    seed: int | None,
    heads: int | None,
    plain: bool,
    model: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the embedded base model from nothing into OUT. A stopped training goes on where it was, by the same options.

    A model that is in OUT is replaced; a folder of anything else is refused. The shipped one took 281 CPU minutes in
    two goes, as its card says. OUT also gets the model card, with scores.
    """
    from edge.console import Console
    from edge.train import tiny as trainer

    if plain and model:
        raise click.UsageError("--plain and --from exclude each other")
    how: dict[str, Any] = {"start": "plain" if plain else "copying", "heads": heads, "model": model}
    with Console(quiet) as console:
        made = trainer.make(out, console, steps or trainer.STEPS, trainer.SEED if seed is None else seed, **how)
    click.echo(json.dumps(made) if as_json else out / "CARD.md")


@tiny.command("score")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--rows", type=click.IntRange(min=1), default=1000, show_default=True, help="Questions in each set.")
@click.option("--fake", metavar="KIND", help="Round the weights first, as a quantisation would: int8, int4-block32, …")
@AS_JSON
@QUIET
def tiny_score(model: Path | None, rows: int, fake: str | None, as_json: bool, quiet: bool) -> None:
    """Exact match of MODEL (default: the shipped one) on held-out rows: by set, tool, language and kind of row."""
    from edge.console import Console
    from edge.train import tiny as trainer

    with Console(quiet) as console:
        scores = trainer.score(model or trainer.SHIPPED, console, rows, fake)
    if as_json:
        click.echo(json.dumps(scores))
        return
    for title in ("sets", "languages", "kinds", "tools"):
        click.echo(f"| {title} | exact | 95 % interval | rows |\n|---|---|---|---|\n{trainer.table(scores[title])}\n")
