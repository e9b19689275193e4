"""`edge inspect`, `edge lint`, `edge import`: what is in an artifact, what will go wrong with it, one from elsewhere.

Errors are caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import click

from edge.commands.options import AS_JSON, FOLDER, PROVING, QUIET
from edge.errors import EdgeError, GateError

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_PATH)
@AS_JSON
def inspect(file: Path, as_json: bool) -> None:
    """Say what is in FILE: a .gguf, .tflite, .task, .litertlm or .onnx file, or a folder.

    Folders are Hugging Face checkpoints, LoRA adapters and what onnxruntime-genai runs. Nothing is loaded or run. A file
    that is cut short or damaged exits with 2; one that is not the file of its manifest is shown, and says so.

    \b
    edge inspect build/artifacts/app-q8_0.gguf
    edge inspect model.litertlm --json
    """
    from edge.export.inspect import read, show

    found = read(file)
    click.echo(json.dumps(found.to_json(), ensure_ascii=False) if as_json else show.text(found))


@click.command()
@click.argument("files", type=_PATH, nargs=-1)
@click.option("--rules", "list_rules", is_flag=True, help="List every rule, and read no file.")
@AS_JSON
def lint(files: tuple[Path, ...], list_rules: bool, as_json: bool) -> None:
    """Say what will go wrong with FILES on a device: what happens there, and the fix.

    Takes what `edge inspect` takes. Exits with 6 if there is an error; warnings and notes alone exit with 0.

    \b
    edge lint build/artifacts/*.gguf
    edge lint --rules
    """
    from edge.export import job
    from edge.export import lint as rules

    if list_rules:
        click.echo(_table(as_json))
        return
    if not files:
        raise click.UsageError("give a file or a folder, such as: edge lint model.litertlm")
    others = tuple(f for f in files if not job.is_manifest(f))
    if not others:
        raise EdgeError(
            f"{files[0]}: a manifest, not an artifact", f"name the file: edge lint {files[0].with_suffix('')}"
        )
    files = others
    found: list[rules.Finding] = []
    unread: list[EdgeError] = []
    for file in files:  # one that can't be read keeps nothing back of what is wrong with the others
        try:
            found += rules.check(file)
        except EdgeError as error:
            unread.append(error)
    errors = sum(f.severity == rules.ERROR for f in found)
    if as_json:
        told = {"files": [str(f) for f in files], "errors": errors, "unread": [e.message for e in unread],
                "findings": [vars(f) for f in found]}  # fmt: skip
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        click.echo("\n".join([*map(str, found), _summary(len(files), len(unread), [f.severity for f in found])]))
    for other in unread[1:]:
        click.echo(f"edge: {other.message}", err=True)
    if unread:
        raise unread[0]
    if errors:
        raise click.exceptions.Exit(GateError.exit_code)


@click.command("import")
@click.argument("source")
@click.option("--out", type=FOLDER, help="Where it goes [default: build/artifacts, of a checkpoint build/models].")
@click.option("--name", help="What it is called [default: as it is].")
@click.option("--file", metavar="PATH", help="Which artifact of a repository that holds several.")
@click.option("--base", metavar="BASE", help="Of an adapter: a folder or owner/name [default: what it names].")
@click.option("--dialect", help="functiongemma, hermes or llama3 [default: by its vocabulary].")
@click.option("--notice", "notices", multiple=True, help="A licence sentence that goes with it; several times.")
@click.option(
    "--checkpoint", help="What an artifact was made from, a folder or edge-tiny: then it is proven beside that."
)
@PROVING
@AS_JSON
@QUIET
def adopt(source: str, out: Path | None, name: str | None, file: str | None, base: str | None, dialect: str | None,
          notices: tuple[str, ...], checkpoint: str | None, as_json: bool, quiet: bool, **proving: Any) -> None:  # fmt: skip
    """Take what others have made as one of ours: SOURCE is a file, a folder, or owner/name[@revision] of the model hub.

    An artifact (.gguf, .litertlm, .task, .tflite, an ONNX folder) gets a manifest; with --checkpoint it is also proven. A
    merged model gets its record, an adapter is merged into its base. What came is inspected and linted. Exits with 6 if it
    has errors or is refused.

    \b
    edge import downloads/functiongemma-270m-it-q4.gguf
    edge import someone/functiongemma-270m-it-GGUF --file functiongemma-270m-it-Q8_0.gguf
    edge import someone/my-functiongemma@v2 && edge export all build/models/my-functiongemma
    edge import ./my-adapter --base google/functiongemma-270m-it --name my-model
    edge import model.litertlm --checkpoint ./my-model --notice "Gemma is provided under …"
    """
    from edge import environments
    from edge.console import Console
    from edge.export import adopt as importer
    from edge.export import gate, job
    from edge.export import lint as rules
    from edge.export.inspect import read, show
    from edge.records import Artifact
    from edge.train import bases, fetching

    limits = gate.set_limits(proving["limits"])
    with Console(quiet) as console, contextlib.closing(environments.Builder(console)) as builder:
        origin = bases.here(checkpoint, dialect or "functiongemma") if checkpoint else None
        wish = importer.Wish(out, name, dialect, notices, origin, base, file)
        made = importer.bring(source, wish, fetching.Client(console, builder.get))
        if isinstance(made, Artifact) and origin and not proving["unproven"]:
            exported = job.Exported([made], [])
            asked = gate.questions_for(origin, proving["rows"], proving["count"], proving["tools_file"], console)
            found = gate.proven(origin, lambda: [exported], asked, Path(made.path).parent, console, builder.get, limits)
            made = next(iter(found)).artifacts[0]
    findings = rules.check(made.path)
    kind = "artifact" if isinstance(made, Artifact) else "checkpoint"
    if as_json:
        told = {kind: vars(made), "inspect": read(made.path).to_json(), "findings": [vars(f) for f in findings]}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        verdict = made.proof["verdict"] if isinstance(made, Artifact) and made.proof else "unproven"
        end = verdict if kind == "artifact" else f"export it: edge export all {made.path}"
        click.echo("\n".join([show.text(read(made.path)), *map(str, findings), f"{made.path}: {end}"]))
    if any(f.severity == rules.ERROR for f in findings):
        raise click.exceptions.Exit(GateError.exit_code)


def _table(as_json: bool) -> str:
    from edge.export import lint as rules

    fields = ("id", "severity", "formats", "happens", "fix")
    table = [{k: getattr(r, k) for k in fields} for r in (rules.DAMAGED, *rules.RULES)]
    if as_json:
        return json.dumps(table, ensure_ascii=False)
    return "\n".join(
        f"{r['severity']:<8} {r['id']} ({', '.join(r['formats'])})\n         {r['happens']}\n         fix: {r['fix']}"
        for r in table
    )


def _summary(files: int, unread: int, severities: list[str]) -> str:
    """Such as: 1 file: 2 errors, 1 warning."""
    counts = [(severities.count(s), word) for s, word in (("error", "error"), ("warning", "warning"), ("info", "note"))]
    parts = [f"{n} {word}{'s' * (n > 1)}" for n, word in counts if n]
    said = ", ".join([*parts, *([f"{unread} not read"] if unread else [])])
    return f"{files} file{'s' * (files > 1)}: {said or 'nothing found'}"
