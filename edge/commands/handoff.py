"""`edge handoff`: a folder that works, for an app team; and whether a folder is still what its contract says.

Errors are caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands.options import AS_JSON, FOLDER, QUIET, together

if TYPE_CHECKING:
    from edge.export.handoff.write import Done

_PATH = click.Path(path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
PACKAGES = ("flutter_edge_ai", "flutter_gemma")

_COMMON = together(
    click.argument("artifact", type=_PATH),
    click.option("--out", type=FOLDER,
                 help="The folder to write [default: build/handoff/NAME-TARGET, of flutter NAME-FORMAT-flutter]."),
    click.option("--accept", metavar="REASON",
                 help="Hand over what is degraded, not proven, fails lint, or is given other prompts; the contract keeps the reason."),
    click.option("--tools", "tools", type=_FILE, metavar="FILE",
                 help="The app's tools (.json, .jsonl, .py runs) [default: those that it was tuned on]."),
    click.option("--system", metavar="TEXT", help="The developer message [default: that of its training]."),
    click.option("--checkpoint", type=FOLDER, help="What the artifact was made from, if it lies elsewhere."),
    click.option("--results", type=FOLDER, help="Where more measurements lie, such as a phone's own."),
    click.option("--notice", "notices", multiple=True, metavar="TEXT", help="A licence sentence that goes with it; several times."),
    click.option("--max-tokens", type=click.IntRange(8), default=256, show_default=True, metavar="N", help="Longest answer."),
    click.option("--sign", type=_FILE, metavar="KEY", help="Sign the contract: a minisign secret key."),
    AS_JSON,
    QUIET,
)  # fmt: skip


@click.group()
def handoff() -> None:
    """One folder for an app team: the model, code that calls it, and a contract of what was proven.

    One that nothing has judged yet is proven first, if its checkpoint and rows lie near (`edge run` leaves both). An
    artifact that was refused is never handed over. One that is degraded or not proven, fails lint, is given other prompts
    than in training, or other tools, needs --accept REASON. A folder that somebody has worked in is never overwritten.

    \b
    edge handoff flutter build/artifacts/app_q8_ekv1024.task
    edge handoff ollama build/artifacts/app-q8_0.gguf --accept "raw.py is what our app uses"
    edge handoff verify build/handoff/app-q8_0-ollama
    """


@handoff.command()
@_COMMON
@click.option(
    "--package", type=click.Choice(PACKAGES), default=PACKAGES[0], show_default=True, help="2.x, or its forerunner 1.x."
)
@click.option("--url", metavar="URL", help="Where the app downloads the model [default: it is an asset].")
def flutter(package: str, url: str | None, **given: Any) -> None:
    """A Dart package for a .task or .litertlm: typed tools, a dispatcher, installation with progress, a widget test.

    \b
    edge handoff flutter build/artifacts/app_q8_ekv1024.litertlm --url https://example.com/models/app.litertlm
    """
    _run("flutter", given, package=package, url=url)


@handoff.command()
@_COMMON
@click.option("--url", metavar="URL", help="Where the app downloads the model [default: it is an asset].")
def android(url: str | None, **given: Any) -> None:
    """Kotlin sources for LiteRT-LM's API and a .litertlm, with a benchmark that writes edge's measurements.

    \b
    edge handoff android build/artifacts/app_q8_ekv1024.litertlm
    """
    _run("android", given, url=url)


@handoff.command()
@_COMMON
def ollama(**given: Any) -> None:
    """A Modelfile for a .gguf, a script that creates the model and proves that its tools survived, and two clients.

    Ollama itself was not run: the scripts were tested against a server that answers as its sources say.

    \b
    edge handoff ollama build/artifacts/app-q8_0.gguf --accept "raw.py is what our app uses"
    """
    _run("ollama", given)


def _run(target: str, given: dict[str, Any], **more: Any) -> None:
    from edge.console import Console
    from edge.export.handoff import signing, write

    as_json, quiet, key = given.pop("as_json"), given.pop("quiet"), given.pop("sign")
    file = given.pop("artifact")
    with Console(quiet) as console:
        if key:
            signing.refuse_unusable(key, console)
        wish = write.Wish(**given, **more)
        write.prove(target, file, wish, console)
        done = write.hand_over(target, file, wish, console)
        if key:
            signing.sign(done.folder, key, console)
    _show(done, bool(key), as_json)


def _show(done: Done, signed: bool, as_json: bool) -> None:
    if as_json:
        told = {"folder": str(done.folder), "state": done.state, "digest": done.contract["digest"], "signed": signed,
                "accepted": done.contract["accepted"], "warnings": done.contract["warnings"], "steps": done.steps}  # fmt: skip
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    mark = "=" if done.state == "kept" else "✓"
    click.echo(f"{mark} {done.folder}{': already there' if done.state == 'kept' else ''}")
    click.echo(f"  contract {done.contract['digest']}{' (signed)' if signed else ''}")
    for number, step in enumerate(done.steps, 1):
        click.echo(f"  {number}. {step}")


@handoff.command("page")
@click.argument("folders", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=_FILE, default="results/handoff.html", show_default=True, help="The page to write.")
@AS_JSON
def page_(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """One page for the app team on FOLDERS: what was handed over, what it scores, what to expect on each device.

    Opens offline, light and dark. Each folder has its own as report.html; `edge run` writes this one if [handoff] names targets.

    \b
    edge handoff page build/handoff/*
    """
    from edge.bench.report import handoff as page
    from edge.export.handoff import contract

    page.save([contract.sound(folder) for folder in folders], out)
    click.echo(json.dumps({"page": str(out)}) if as_json else f"page: {out}")


@handoff.command()
@click.argument("folder", type=FOLDER)
@click.option("--digest", metavar="HEX", help="What the contract's digest shall be, from whoever handed it over.")
@click.option("--key", metavar="KEY", help="Check the signature: a minisign public key, or a file with one.")
@AS_JSON
@QUIET
def verify(folder: Path, digest: str | None, key: str | None, as_json: bool, quiet: bool) -> None:
    """Is FOLDER what its contract says? Every file's digest, the contract's own, its form; with --key its signature.

    Exits with 6 if not. A receiver without edge runs the folder's verify.py, which needs Python 3.9 and nothing else.

    \b
    edge handoff verify build/handoff/app-q8_0-ollama
    edge handoff verify downloads/app --key RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3
    """
    from edge.console import Console
    from edge.errors import GateError
    from edge.export.handoff import contract, signing
    from edge.export.handoff import verify as checking

    told = contract.read(folder)
    wrong = checking.problems(folder, contract.schema(), digest)
    trusted = None
    if key:
        with Console(quiet) as console:
            trusted = signing.check(folder, key, console)
        wrong += trusted.problems
    unknown = checking.unknown(folder, told)
    if as_json:
        comment = trusted.comment if trusted else None
        click.echo(json.dumps({"ok": not wrong, "problems": wrong, "unknown": unknown, "digest": checking.digest_of(told),
                               "signature": comment}, ensure_ascii=False))  # fmt: skip
    else:
        for line in wrong:
            click.echo(f"wrong: {line}")
        for path in unknown:
            click.echo(f"not in the contract: {path}")
        if not wrong:
            signed = f"; signed: {trusted.comment}" if trusted else ""
            click.echo(
                f"all {len(told['files'])} files are as the contract says; its digest: {checking.digest_of(told)}{signed}"
            )
    if wrong:
        raise click.exceptions.Exit(GateError.exit_code)
