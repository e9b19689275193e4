"""`edge export`: artifacts that a device runs, from a Hugging Face checkpoint. One command a format."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, DIALECT, FOLDER, QUIET, F, together

if TYPE_CHECKING:
    from edge.export.job import Exported


@click.group()
def export() -> None:
    """Artifacts that a device runs, from a Hugging Face checkpoint; each with a manifest (FILE.json).

    \b
    edge export gguf ./my-model --quant q8_0 --quant q4_0-emb-q4_0
    edge export litertlm ./my-model --quant int8 --quant int4-block32 --cache 2048
    edge export task ./my-model --profile turns
    """


def _common(default: str, about: str) -> Callable[[F], F]:
    """What every format takes."""
    return together(
        click.argument("checkpoint", type=FOLDER),
        click.option("--quant", "quantisations", multiple=True, default=[default], show_default=True, help=about),
        click.option("--out", type=FOLDER, default="build/artifacts", show_default=True, help="Where they go."),
        click.option("--name", help="What they are called [default: the checkpoint's folder]."),
        DIALECT,
        AS_JSON,
        QUIET,
    )


# What the formats that carry a TFLite take besides.
_SHAPED = together(
    click.option("--prefill", type=int, multiple=True, default=[256], show_default=True, metavar="N",
                 help="Prompt tokens fed at once, a signature each; give it several times."),
    click.option("--cache", type=int, default=1024, show_default=True, metavar="N",
                 help="Tokens of prompt and answer together."),
)  # fmt: skip
_LITERT = "int8, int8-weight-only, int4-block32, int4-channel or f32; give it several times."


@export.command()
@_common("q8_0", "Such as f16, q8_0, q4_k_m, q4_0-emb-q4_0; give it several times.")
def gguf(**given: Any) -> None:
    """GGUF files for llama.cpp and Ollama."""
    from edge.export import gguf as exporter
    from edge.export.quantisations import parse_all

    parse_all(list(given["quantisations"]))
    _run(exporter.export, given)


@export.command()
@_common("int8", _LITERT)
@_SHAPED
def tflite(prefill: tuple[int, ...], cache: int, **given: Any) -> None:
    """TFLite files, NAME_q8_ekv1024.tflite and so on. The float32 one is made along: others start from it."""
    from edge.export import tflite as exporter

    exporter.parse_all(list(given["quantisations"]))
    _run(functools.partial(exporter.export, prefill=prefill, cache=cache), given)


@export.command()
@_common("int8", _LITERT)
@_SHAPED
def litertlm(prefill: tuple[int, ...], cache: int, **given: Any) -> None:
    """.litertlm files for LiteRT-LM on Android, iOS and desktops, with our template and the model's stop ids."""
    from edge.export import litertlm as exporter
    from edge.export import tflite

    tflite.parse_all(list(given["quantisations"]))
    _run(functools.partial(exporter.export, prefill=prefill, cache=cache), given)


@export.command()
@_common("int8", _LITERT)
@_SHAPED
@click.option("--profile", default="flutter_gemma", show_default=True,
              help="Who writes the turn markers: flutter_gemma (its Dart code), or turns (they go into the file).")  # fmt: skip
@click.option("--bundler", default="current", show_default=True,
              help="current, or legacy: mediapipe 0.10.21 with numpy 1.26.")  # fmt: skip
def task(prefill: tuple[int, ...], cache: int, profile: str, bundler: str, **given: Any) -> None:
    """.task files for MediaPipe and flutter_gemma."""
    from edge.export import task as exporter
    from edge.export import tflite

    tflite.parse_all(list(given["quantisations"]))
    _run(functools.partial(exporter.export, prefill=prefill, cache=cache, profile=profile, bundler=bundler), given)


def _run(exporter: Callable[..., Exported], given: dict[str, Any]) -> None:
    """Export, show what was made and what was not (exit code 3)."""
    from edge import environments
    from edge.console import Console
    from edge.export import job
    from edge.project import valid_name

    folder = given["checkpoint"].resolve().name
    name = valid_name(given["name"] or folder, "--name" if given["name"] else f"give --name: {given['checkpoint']}")
    with Console(given["quiet"]) as console:
        source = job.read_checkpoint(given["checkpoint"], given["dialect"])
        made = exporter(source, list(given["quantisations"]), given["out"], name, console,
                        lambda spec: environments.ensure(spec, console))  # fmt: skip
    if given["as_json"]:
        click.echo(json.dumps({"artifacts": [vars(a) for a in made.artifacts], "missing": made.missing}))
    for artifact in () if given["as_json"] else made.artifacts:
        click.echo(f"{artifact.path}  {artifact.bytes / 1e6:.1f} MB")
    for lack in made.missing:
        click.echo(f"not made: {lack['what']} {lack['why']}", err=True)
    if made.missing:
        raise click.exceptions.Exit(3)
