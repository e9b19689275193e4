"""`edge merge`: an adapter and its base become a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.commands.options import AS_JSON, DIALECT, FOLDER, QUIET


@click.command()
@click.argument("adapter", type=FOLDER)
@click.option("--base", type=FOLDER, help="What it was trained on [default: what its adapter_config.json names].")
@click.option("--out", type=FOLDER, required=True, help="The checkpoint to make; replaced whole if it is one.")
@DIALECT
@AS_JSON
@QUIET
def merge(adapter: Path, base: Path | None, out: Path, dialect: str, as_json: bool, quiet: bool) -> None:
    """Merge the LoRA ADAPTER into its base, in float32: the checkpoint that `edge export` takes.

    An adapter of another base, one that changes nothing and one that holds no numbers are refused. What base and adapter
    expected together after 16 prompts, the merged checkpoint must expect as well. The adapter is kept, and copied along.

    \b
    edge merge my-adapter --base functiongemma-270m-it --out my-model
    edge export all my-model
    """
    from edge.console import Console
    from edge.train import merge as merging

    with Console(quiet) as console:
        made = merging.merge(adapter, base, out, dialect, console)
    told = (made.training or {})["merged"]
    if as_json:
        click.echo(json.dumps(vars(made), ensure_ascii=False))
    else:
        click.echo(
            f"{made.path}: {told['changed']} matrices changed, logits within {told['largest']:.1g} of base and adapter"
        )
