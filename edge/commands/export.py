"""`edge export`: artifacts that a device runs, from a Hugging Face checkpoint. One command a format."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, DIALECT, FOLDER, PROVING, QUIET, F, together

if TYPE_CHECKING:
    from edge.export.job import Exported
    from edge.records import Artifact


@click.group()
def export() -> None:
    """Artifacts that a device runs, from a Hugging Face checkpoint; each with a manifest (FILE.json).

    CHECKPOINT is a folder, or edge-tiny.

    \b
    edge export all ./my-model
    edge export gguf ./my-model --quant q8_0 --quant q4_0-emb-q4_0
    edge export litertlm ./my-model --quant int8 --quant int4-block32 --cache 2048
    edge export task ./my-model --profile turns
    """


_PLACED = together(
    click.argument("checkpoint"),
    click.option("--out", type=FOLDER, default="build/artifacts", show_default=True, help="Where they go."),
    click.option("--name", help="What they are called [default: the checkpoint's folder]."),
)


def _common(default: str, about: str) -> Callable[[F], F]:
    """What every format takes."""
    quant = click.option("--quant", "quantisations", multiple=True, default=[default], show_default=True, help=about)
    return together(_PLACED, quant, PROVING, DIALECT, AS_JSON, QUIET)


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
@click.option("--importance", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help='Training rows, JSON lines {"prompt", "completion"} of exact texts: what matters to them is kept best. '
                   "Some quantisations under 4 bits can't be made without.")  # fmt: skip
def gguf(importance: Path | None, **given: Any) -> None:
    """GGUF files for llama.cpp and Ollama, of Gemma 3, Qwen 2.5, Qwen 3 and Llama 3 (text)."""
    from edge.export import gguf as exporter
    from edge.export.quantisations import parse_all

    parse_all(list(given["quantisations"]), importance=importance is not None)
    _run(functools.partial(exporter.export, rows=importance), given)


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


@export.command()
@_common("int8", "int8, int4, int4-emb-int8 (the embedding in int8) or f32; give it several times.")
@click.option("--context", type=int, metavar="N",
              help="Tokens of prompt and answer together [default: 4096, or what the model was trained for].")  # fmt: skip
def onnx(context: int | None, **given: Any) -> None:
    """ONNX folders, NAME_q8_onnx and so on, for onnxruntime-genai and ONNX Runtime."""
    from edge.export import onnx as exporter
    from edge.export import onnx_model

    onnx_model.parse_all(list(given["quantisations"]))
    _run(functools.partial(exporter.export, context=context), given)


@export.command("all")
@_PLACED
@click.option("--format", "formats", multiple=True, metavar="FORMAT[=QUANT,…]",
              help="gguf, tflite, litertlm, task, task-legacy or onnx; several times [default: all of them].")  # fmt: skip
@_SHAPED
@PROVING
@DIALECT
@AS_JSON
@QUIET
def everything(prefill: tuple[int, ...], cache: int, formats: tuple[str, ...], **given: Any) -> None:
    """Every format from one checkpoint, side by side as memory allows, each artifact proven.

    \b
    edge export all ./my-model
    edge export all ./my-model --format gguf=q8_0,q4_k_m --format litertlm
    """
    from edge.export import everything as exporter

    wanted = exporter.parse(list(formats))
    make = functools.partial(exporter.export, wanted=wanted, prefill=prefill, cache=cache)
    scripts = functools.partial(exporter.scripts, wanted, not given["unproven"])
    _make(make, given, scripts)


def _run(exporter: Callable[..., Exported], given: dict[str, Any]) -> None:
    """One format."""
    chosen = list(given["quantisations"])
    _make(lambda checkpoint, **how: [exporter(checkpoint, chosen, **how)], given)


def _make(
    exporter: Callable[..., Iterable[Exported]],
    given: dict[str, Any],
    scripts: Callable[[Path], Iterable[Path]] = lambda _: (),
) -> None:
    """Export, prove, show what was made and what was not (exit code 3) or was refused (6).

    scripts: of a checkpoint, whose environments are built while other things run.
    """
    from edge import environments
    from edge.console import Console
    from edge.export import gate
    from edge.project import valid_name
    from edge.train import bases

    folder = Path(given["checkpoint"]).resolve().name
    name = valid_name(given["name"] or folder, "--name" if given["name"] else f"give --name: {given['checkpoint']}")
    limits, out = gate.set_limits(given["limits"]), given["out"]
    with Console(given["quiet"]) as console, contextlib.closing(environments.Builder(console)) as builder:
        source = bases.here(given["checkpoint"], given["dialect"])
        builder.begin(
            *(it for it in map(environments.spec, scripts(Path(source.path))) if not environments.missing(it))
        )
        make: Callable[[], Iterable[Exported]]
        make = functools.partial(exporter, source, out=out, name=name, console=console, environment=builder.get)
        if not given["unproven"]:
            asked = gate.questions_for(source, given["rows"], given["count"], given["tools_file"], console)
            make = functools.partial(gate.proven, source, make, asked, out, console, builder.get, limits)
        made = list(make())
    _show([a for m in made for a in m.artifacts], [lack for m in made for lack in m.missing], given["as_json"])


def _show(artifacts: list[Artifact], missing: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"artifacts": [vars(a) for a in artifacts], "missing": missing}))
    for artifact in () if as_json else artifacts:
        verdict = artifact.proof["verdict"] if artifact.proof else "unproven"
        click.echo(f"{artifact.path}  {artifact.bytes / 1e6:.1f} MB  {verdict}")
    for lack in missing:
        click.echo(f"not made: {lack['what']}: {lack['why']}", err=True)
    if any(a.proof and a.proof["verdict"] == "refused" for a in artifacts):
        raise click.exceptions.Exit(6)
    if missing:
        raise click.exceptions.Exit(3)
