"""`edge train`: tune a checkpoint. `edge merge`: an adapter and its base become a checkpoint."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, DIALECT, FOLDER, QUIET, together
from edge.train.presets import CHOICES, PRESETS

if TYPE_CHECKING:
    from edge.console import Console
    from edge.records import Checkpoint

_FILE = click.Path(dir_okay=False, path_type=Path)
_OWN = ("base", "data", "evaluation", "tools_file", "out")  # what a project says in edge.toml

SETTINGS = together(
    click.option(
        "--preset", type=click.Choice(list(PRESETS)), help="Settings by name, before edge.toml's; --presets explains."
    ),
    click.option("--method", type=click.Choice(CHOICES["method"]), help="[default: lora]"),
    click.option("--epochs", type=click.IntRange(1), help="Passes over the rows [default: 3]."),
    click.option("--learning-rate", type=float, help="[default: 2e-4; 1e-5 for full]"),
    click.option("--schedule", type=click.Choice(CHOICES["schedule"]), help="How it falls [default: cosine]."),
    click.option("--warmup", type=float, help="Share of the updates over which it rises [default: 0.05]."),
    click.option("--weight-decay", type=float, help="AdamW's [default: 0]."),
    click.option("--batch-size", type=click.IntRange(1), help="Rows at once on a device [default: 8]."),
    click.option("--accumulate", type=click.IntRange(1), help="Batches an update [default: 1]."),
    click.option("--processes", type=click.IntRange(1), help="Processes, one a GPU, under torchrun [default: 1]."),
    click.option("--rank", type=click.IntRange(1), help="LoRA's r [default: 16]."),
    click.option("--alpha", type=click.IntRange(1), help="LoRA's alpha [default: 32]."),
    click.option("--dropout", type=float, help="LoRA's dropout [default: 0]."),
    click.option("--dora/--no-dora", default=None, help="DoRA."),
    click.option("--rslora/--no-rslora", default=None, help="rsLoRA."),
    click.option("--targets", help="What LoRA adapts: all-linear, or names with commas [default: all-linear]."),
    click.option("--max-tokens", type=click.IntRange(1), help="Longer rows are refused [default: 1024]."),
    click.option("--precision", help="auto, bfloat16 or float32 [default: auto]."),
    click.option("--attention", type=click.Choice(CHOICES["attention"]), help="[default: auto]"),
    click.option("--checkpointing", type=click.Choice(CHOICES["checkpointing"]), help="[default: auto]"),
    click.option("--eval-rows", type=click.IntRange(0), help="Held-out rows to look at [default: 100]."),
    click.option("--eval-steps", type=click.IntRange(0), help="Updates between looks [default: an epoch]."),
    click.option("--spike", type=float, help="Stop at a loss so many times the usual; 0 never does [default: 3]."),
    click.option("--seed", type=click.IntRange(0), help="[default: 0]"),
    click.option("--threads", type=click.IntRange(0), help="CPU threads [default: all cores]."),
)


def _print_presets(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    from edge.train import presets

    if wanted and not context.resilient_parsing:
        as_json = context.params.get("as_json")
        click.echo(json.dumps(presets.to_json(), ensure_ascii=False) if as_json else presets.explain())
        context.exit()


@click.command()
@click.argument("project", type=click.Path(path_type=Path), required=False)
@click.option(
    "--presets",
    is_flag=True,
    expose_value=False,
    callback=_print_presets,
    help="List the presets and the methods with the reason of every value.",
)
@click.option("--base", help="edge-tiny, a checkpoint's folder, or a hub id; with --data and --out, without a project.")
@click.option("--data", multiple=True, metavar="FILE", help="Rows to tune on: files, globs, hub datasets. Repeatable.")
@click.option("--eval", "evaluation", multiple=True, metavar="FILE", help="Held-out rows, whose loss is looked at.")
@click.option("--tools", "tools_file", type=_FILE, help="Tools of rows without their own: .json, .jsonl, .py (runs).")
@click.option("--out", type=FOLDER, help="The checkpoint to make; replaced whole if it is one.")
@SETTINGS
@click.option("--wait", is_flag=True, help="If another run is at work on this project, wait for it.")
@DIALECT
@click.option("--json", "as_json", is_flag=True, is_eager=True, help="Print the result as JSON.")
@QUIET
def train(
    project: Path | None,
    base: str | None,
    data: tuple[str, ...],
    evaluation: tuple[str, ...],
    tools_file: Path | None,
    out: Path | None,
    wait: bool,
    dialect: str,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Tune as PROJECT's edge.toml says (default: the one here), or what --base, --data and --out name.

    The same step as in `edge run`: PROJECT/build/tuned is kept if nothing has changed, and a run that was stopped goes on
    where it was. Flags go before --preset, that before edge.toml's keys, those before a preset that edge.toml names. Rows that
    are too long are refused, never cut; a loss that is no number, or jumps, stops the run, names the rows and keeps the
    weights before them.

    \b
    edge train app --preset korean-lora --epochs 1
    edge train --base google/functiongemma-270m-it --data train.jsonl --tools tools.py --out tuned
    edge train --base edge-tiny --data "rows/*.jsonl" --eval held.jsonl --out tuned --method full --json
    edge train app --processes 2          two GPUs, through torchrun
    edge train --presets
    """  # fmt: skip
    from edge.console import Console

    named = {key: value for key, value in given.items() if value is not None}
    apart = dict(zip(_OWN, (base, data, evaluation, tools_file, out)))
    wanted = [key for key, value in apart.items() if value]
    if wanted and project:
        raise click.UsageError("give a project, or --base, --data and --out; a project says those in edge.toml")
    if wanted and not (base and data and out):
        raise click.UsageError("without a project, --base, --data and --out are needed")
    with Console(quiet) as console:
        if base and out:
            made = _files(base, data, evaluation, tools_file, out, dialect, named, console)
        else:
            made = _project(project or Path(), named, wait, console)
    _show(made, as_json)


def _files(
    base: str, data: tuple[str, ...], evaluation: tuple[str, ...], tools_file: Path | None, out: Path, dialect: str,
    named: dict[str, Any], console: Console,
) -> Checkpoint:  # fmt: skip
    from edge.train import tune

    return tune.tune_files(
        base, data, out, options=tune.settings(**named), console=console, evaluation=evaluation, tools_file=tools_file,
        dialect=dialect,
    )  # fmt: skip


def _project(folder: Path, named: dict[str, Any], wait: bool, console: Console) -> Checkpoint:
    import contextlib

    from edge import pipeline
    from edge import project as projects
    from edge.environments import Builder
    from edge.train import presets

    project = projects.load(folder)
    project = dataclasses.replace(project, training=projects.check_training(named, project.tuning))
    for line in presets.differing(project.tuning, named):
        console.say(line)
    locked = pipeline.only_one(project.build / ".lock", console, wait)
    with locked, contextlib.closing(Builder(console)) as builder:
        data = pipeline.read_data(project, console)
        return pipeline.tune(project, pipeline.find_base(project, console, builder), data, console, builder)


def _show(made: Checkpoint, as_json: bool) -> None:
    told = made.training or {}
    if as_json:
        click.echo(json.dumps({**vars(made), "run": str(Path(made.path) / "training")}, ensure_ascii=False))
        return
    loss, held = told["loss"], told["eval_loss"]
    after = f"; held out {held[0][1]:.3f} to {held[-1][1]:.3f}" if held else ""
    click.echo(f"{made.path}: {told['rows']} rows, {told['steps']} updates, {told['seconds']:.0f} s")
    click.echo(
        f"loss {loss[0][1]:.3f} to {loss[-1][1]:.3f}{after}; curves: {Path(made.path) / 'training' / 'plot.svg'}"
    )
    if told["method"] != "full":
        click.echo(f"the adapter is kept: {Path(made.path) / 'adapter'}")


@click.command()
@click.argument("adapter", type=FOLDER)
@click.option(
    "--base",
    help="What it was trained on: edge-tiny, a folder, or a hub id [default: what its adapter_config.json names].",
)
@click.option("--out", type=FOLDER, required=True, help="The checkpoint to make; replaced whole if it is one.")
@DIALECT
@AS_JSON
@QUIET
def merge(adapter: Path, base: str | None, out: Path, dialect: str, as_json: bool, quiet: bool) -> None:
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
