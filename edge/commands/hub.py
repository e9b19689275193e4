"""`edge push`: what was made goes to the model hub.

Errors are caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import AS_JSON, QUIET


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the repository private; refused if it is there and public.")
@click.option("--revision", metavar="BRANCH", help="Push to this branch, made if need be [default: main].")
@click.option("--dry-run", is_flag=True, help="Show what would be pushed, and the card; the hub is not asked.")
@click.option(
    "--accept", metavar="REASON", help="Push what lost something or is not proven; the card gives the reason."
)
@click.option("--base", metavar="OWNER/NAME", help="What it was tuned from, if the records don't say so.")
@click.option(
    "--license", "license_id", metavar="ID", help="The licence's id on the hub [default: gemma for its derivatives]."
)
@click.option(
    "--dataset", "datasets", multiple=True, metavar="OWNER/NAME", help="A data set that it was tuned on; several times."
)
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="A report.json or evaluation.json whose scores the card shows [default: the project's].")  # fmt: skip
@AS_JSON
@QUIET
def push(path: Path, repository: str, private: bool, revision: str | None, dry_run: bool, accept: str | None, base: str | None,
         license_id: str | None, datasets: tuple[str, ...], results: Path | None, as_json: bool, quiet: bool) -> None:  # fmt: skip
    """Push PATH to the model hub: a checkpoint, an adapter, an artifact, or a folder of artifacts.

    A card is written for it (data, settings, scores, quantisations, licence), and the notice that Gemma's terms ask for.
    A refused artifact is not pushed (exit code 6), one with a loss or without proof only with --accept. Files that are
    there already are not sent again, so a push that was cut off goes on. The login is HF_TOKEN, HUGGINGFACE_HUB_TOKEN, either
    of them in .env here, or that of `hf auth login`; it needs write access.

    \b
    edge push build/tuned me/my-model --private
    edge push build/artifacts me/my-model-gguf --dry-run
    edge push build/artifacts/app-q4_0.gguf me/my-model-gguf --accept "for phones with 2 GB"
    """
    from edge import environments
    from edge.console import Console
    from edge.train import fetching
    from edge.train import push as pushing

    options = pushing.Options(private, revision, accept, base, license_id, datasets, results)
    with Console(quiet) as console, contextlib.closing(environments.Builder(console)) as builder:
        client = fetching.Client(console, builder.get)
        told = pushing.push(path, repository, client, options, dry_run)
    click.echo(json.dumps(told, ensure_ascii=False) if as_json else _text(told, dry_run))


def _text(told: dict[str, Any], dry_run: bool) -> str:
    """One line a file, what was left out, and where it lies."""
    kept = set(told.get("kept", ()))
    lines = [f"{'=' if path in kept else '+'} {path}  {size / 1e6:,.2f} MB" for path, size in told["files"].items()]
    lines += [f"- {name}: not pushed: {why}" for name, why in told["left_out"].items()]
    if dry_run:
        return "\n".join([*lines, "", told["card"]])
    done = f"{told['sent_bytes'] / 1e6:,.2f} MB sent, {len(kept)} of {len(told['files'])} files were there"
    return "\n".join([*lines, f"{told['url']}  commit {told['commit'][:12]}: {done}"])
