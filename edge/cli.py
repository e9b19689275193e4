"""The command line: each command parses, makes one library call and shows the result. Errors are caught here, once.

Results go to standard output, progress to standard error. Exit codes: 0 done, 1 done with rows that failed, 2 bad input,
3 something missing on this machine, 4 a worker or runtime failed, 5 a device failed, 6 a gate refused, 130 interrupted.
Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import sys

try:
    import errno
    import functools
    import io
    import json
    from collections.abc import Iterable
    from pathlib import Path
    from typing import TYPE_CHECKING, Any

    import click

    from edge import __version__
    from edge.commands import artifacts
    from edge.commands.bench import bench
    from edge.commands.call import call
    from edge.commands.data import data
    from edge.commands.devices import devices
    from edge.commands.eval import eval_
    from edge.commands.export import export
    from edge.commands.handoff import handoff
    from edge.commands.hub import push
    from edge.commands.options import AS_JSON, DIALECT, FOLDER, QUIET
    from edge.commands.pick import pick
    from edge.commands.prompt import prompt
    from edge.commands.report import report
    from edge.commands.runners import runners
    from edge.commands.serve import serve
    from edge.commands.tiny import tiny
    from edge.commands.train import merge, train
    from edge.errors import EdgeError
except KeyboardInterrupt:  # so early that no command is there to say more
    print("edge: interrupted", file=sys.stderr)
    sys.exit(130)

if TYPE_CHECKING:
    from edge.pipeline import Outcome
    from edge.records import Report


_RIGHTS = "change the rights there, or name another place"
_REMEDIES = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "nothing can be written there: name another place",
    errno.ENOSPC: "free some space, or name another place; EDGE_CACHE puts environments elsewhere",
    errno.ENOENT: "check the path",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder, and check what is before it in the path",
}


class Group(click.Group):
    """Turns an EdgeError into a message with its remedy and its exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EdgeError as error:
            click.echo(f"edge: {error.message}", err=True)
            if error.hint:
                click.echo(f"      {error.hint}", err=True)
            raise click.exceptions.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            click.echo("edge: interrupted; run it again: what takes long goes on where it was", err=True)
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            raise  # `| head`: click ends quietly
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            click.echo(f"edge: {name}{error.strerror or error}", err=True)
            if error.errno in _REMEDIES:
                click.echo(f"      {_REMEDIES[error.errno]}", err=True)
            raise click.exceptions.Exit(3 if error.errno == errno.ENOSPC else 2) from None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edge")
def main() -> None:
    """Tune a small function-calling model, export it, and measure what that cost.

    \b
    edge demo                  the whole way on an embedded model, with a report at the end
    edge init app && edge run app
    edge data check rows.jsonl --tools tools.py
    edge train app --preset korean-lora && edge eval app
    edge export all CHECKPOINT
    edge call "two lattes, please" --artifact build/artifacts/app-q8_0.gguf
    edge devices add pi5 ssh:pi@raspberrypi.local && edge bench build/artifacts/* --device local --device pi5
    edge report && edge pick --device pi5 --min-accuracy 0.9
    edge handoff flutter build/artifacts/app_q8_ekv1024.litertlm
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # half a surrogate pair, or what the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")


# --- projects ---------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", type=FOLDER, required=False)
@click.option("--explain", is_flag=True, help="List every key of edge.toml with its default, and write nothing.")
@AS_JSON
def init(folder: Path | None, explain: bool, as_json: bool) -> None:
    """Write a small working project into FOLDER: edge.toml, tools.py, training and evaluation data.

    \b
    edge init app && edge run app
    """
    from edge import starter

    if explain:
        click.echo(json.dumps(starter.keys(), ensure_ascii=False) if as_json else starter.explain())
    elif folder is None:
        raise click.UsageError("give the folder to write, such as: edge init app")
    else:
        _print_lines([str(file) for file in starter.write(folder)], as_json)


def _print_lines(lines: list[str], as_json: bool) -> None:
    click.echo(json.dumps(lines, ensure_ascii=False) if as_json else "\n".join(lines))


@main.command()
@click.argument("project", type=click.Path(path_type=Path), default=".")
@click.option("--wait", is_flag=True, help="If another run is at work on this project, wait for it.")
@AS_JSON
@QUIET
def run(project: Path, wait: bool, as_json: bool, quiet: bool) -> None:
    """Tune, export, measure and report as PROJECT's edge.toml says (default: the one here).

    What is done already is kept, by digest; a run that was stopped goes on where it was.
    """
    from edge import pipeline
    from edge import project as projects
    from edge.console import Console
    from edge.train import presets

    loaded = projects.load(project)
    with Console(quiet) as console:
        for line in presets.differing(loaded.tuning):
            console.say(line)
        outcome = pipeline.run(loaded, console, wait, None if as_json else _early)
    _show(outcome, as_json)


@main.command()
@click.argument("folder", type=FOLDER, default="demo")
@click.option("--from-scratch", is_flag=True, help="Train a small base model live first, instead of the embedded one.")
@AS_JSON
@QUIET
def demo(folder: Path, from_scratch: bool, as_json: bool, quiet: bool) -> None:
    """The whole way on the embedded model: a project in FOLDER (default: demo), tuned, exported, measured, reported.

    Takes a quarter of an hour the first time, most of it downloads and compiling llama.cpp, and some four minutes after
    that; a table of the GGUF files comes before the other formats are made. With --from-scratch the base model too is
    trained before your eyes, in some minutes more, and GGUF alone is made; it has then seen less than a tenth of what
    the embedded one has, so expect fewer right calls.
    """
    from edge import pipeline, starter
    from edge import project as projects
    from edge.console import Console

    with Console(quiet) as console:
        if not (folder / "edge.toml").exists():
            base = starter.SCRATCH if from_scratch else projects.EMBEDDED
            starter.write(folder, base, every_format=not from_scratch)
            console.say(f"wrote a project to {folder}")
        if from_scratch:
            starter.train_base(folder, console)
        outcome = pipeline.run(projects.load(folder), console, show=None if as_json else _early)
    _show(outcome, as_json)


def _early(outcome: Outcome) -> None:
    """What there is so far, while the slower formats are made."""
    _print_table(outcome.report)


def _show(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"report": outcome.files, "artifacts": [a.path for a in outcome.artifacts],
                               "cells": outcome.report.cells, "missing": outcome.missing,
                               "handoffs": outcome.handoffs}))  # fmt: skip
    else:
        _print_table(outcome.report)
        for lack in outcome.missing:
            click.echo(f"not done here: {lack['what']} {lack['why']}")
        for folder in outcome.handoffs:
            click.echo(f"handed over: {folder}")
        click.echo(f"report: {outcome.files['html']}")
    if any(cell.get("error") for cell in outcome.report.cells):
        raise click.exceptions.Exit(1)


def _print_table(made: Report) -> None:
    from edge.bench.report import headline, table

    if not sys.stdout.isatty():
        click.echo(table.markdown(made))
        return
    from rich.console import Console as Rich

    click.echo("\n" + "\n".join(headline(made)) + "\n")
    Rich().print(table.render(made))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@DIALECT
@AS_JSON
def tools(file: Path, dialect: str, as_json: bool) -> None:
    """Show what a model will be told about the tools in FILE (.py, .json, .jsonl), and what it can't be told.

    A .py file is imported, so it runs. Exits with 2 if a tool can't be expressed.
    """
    from edge import dialects
    from edge import tools as declarations

    box = declarations.load(file, functools.partial(click.echo, err=True))
    findings = declarations.check(box, dialects.get(dialect))
    if as_json:
        click.echo(
            json.dumps({"tools": box.tools, "findings": [vars(f) for f in findings]}, ensure_ascii=False, indent=1)
        )
    else:
        errors = {f.tool for f in findings if f.level == "error"}
        for finding in findings:
            click.echo(f"{finding.level}: {finding}", err=True)
        good = [t for t in box.tools if t["function"]["name"] not in errors]
        click.echo(dialects.get(dialect).render([], good, add_generation_prompt=False))
    if any(f.level == "error" for f in findings):
        raise click.exceptions.Exit(2)


# --- calls ------------------------------------------------------------------------------------------------------------


@main.group(cls=Group)
def calls() -> None:
    """Prompts and calls without a model: JSON lines in, JSON lines out.

    A line that can't be read gives {"error": {"line", "message"}}; the rest goes on, and the exit code is 1.
    """


LINES = click.argument("file", type=click.File("rb"), default="-")


@calls.command()
@LINES
@DIALECT
def render(file: Any, dialect: str) -> None:
    """{"messages", "tools", "add_generation_prompt"} -> {"text"}, the exact prompt.

    \b
    echo '{"messages":[{"role":"user","content":"hi"}],"tools":[]}' | edge calls render
    """
    from edge import callrows, dialects

    _lines(callrows.render(file, dialects.get(dialect), file.name))


@calls.command()
@LINES
@DIALECT
def parse(file: Any, dialect: str) -> None:
    """{"text"} -> {"calls": [{"name", "arguments"}], "text", "errors"}.

    \b
    echo '{"text":"<start_function_call>call:f{x:1}<end_function_call>"}' | edge calls parse
    """
    from edge import callrows, dialects

    _lines(callrows.parse(file, dialects.get(dialect), file.name))


@calls.command()
@LINES
@click.option("--rule", type=click.Choice(["exact", "unordered", "bfcl"]),
              help="For rows that name none [default: bfcl if they have functions and a category, else exact].")  # fmt: skip
def score(file: Any, rule: str | None) -> None:
    """{"functions", "prediction", "ground_truth", "category", "rule"} -> {"valid", "error"}.

    \b
    exact      calls in order, names and argument mappings equal, typed
    unordered  the same in any order
    bfcl       as the Berkeley leaderboard's checker: ground_truth holds alternatives, functions are required
    """
    from edge import callrows

    _lines(callrows.score(file, rule, file.name))


def _lines(results: Iterable[dict[str, Any]]) -> None:
    from edge import callrows

    failed = False
    for result in results:
        failed = failed or callrows.failed(result)
        click.echo(callrows.encode(result))
    if failed:
        raise click.exceptions.Exit(1)


for _command in (artifacts.inspect, artifacts.lint, artifacts.adopt, bench, call, data, devices, eval_, export, handoff, merge,
                 pick, prompt, push, report, runners, serve, tiny, train):  # fmt: skip
    main.add_command(_command)


# --- this machine -----------------------------------------------------------------------------------------------------


@main.group(cls=Group)
def env() -> None:
    """The pinned environments that workers and runtimes run in."""


@env.command("list")
@AS_JSON
@QUIET
def env_list(as_json: bool, quiet: bool) -> None:
    """Which there are, for what, whether they are built, and how large they are."""
    from edge import machine
    from edge.console import Console

    with Console(quiet) as console:
        found = machine.environments_here(console)
    if as_json:
        click.echo(json.dumps(found))
        return
    for it in found:
        click.echo(
            f"{it['name']:<13} {it['state']:<10} {it['megabytes'] or 0:>6.0f} MB  for {', '.join(it['scripts']) or '-'}"
        )
        if it["needs"]:
            click.echo(f"{'':<13} needs {it['needs']}")


@env.command("build")
@click.argument("names", nargs=-1)
@AS_JSON
@QUIET
def env_build(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Build environments now: NAMES as `edge env list` has them, or of workers and runtimes.

    Without NAMES those that tuning, exporting and measuring on this machine take; what runners, adb and the benchmarks of
    our own claims take is built when it is needed.
    """
    from edge import environments, machine
    from edge.console import Console

    wanted = [machine.named(n) for n in names] or environments.scripts()
    with Console(quiet) as console:
        built = environments.build_all(wanted, console)
    _print_lines([f"{spec.name}: {environment.python}" for spec, environment in built], as_json)


@env.command("clean")
@click.option("--all", "everything", is_flag=True, help="Also those in use by this version of edge.")
@AS_JSON
@QUIET
def env_clean(everything: bool, as_json: bool, quiet: bool) -> None:
    """Delete environments that nothing here uses any more (other pins, half-built)."""
    from edge import machine
    from edge.console import Console

    with Console(quiet) as console:
        removed = machine.clean(everything, console)
    _print_lines([f"removed {name}" for name in removed], as_json)


@main.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """What this machine has and lacks, and what each thing is for. Exits with 3 if something essential is missing."""
    from edge import machine

    checks = machine.doctor()
    if as_json:
        click.echo(json.dumps([vars(c) for c in checks]))
    for check in () if as_json else checks:
        click.echo(f"{'ok  ' if check.ok else 'MISS' if check.essential else '-   '} {check.name:<16} {check.found}")
        if not check.ok:
            click.echo(f"{'':<21} for {check.purpose}; {check.remedy}")
    if any(c.essential and not c.ok for c in checks):
        raise click.exceptions.Exit(3)


if __name__ == "__main__":
    sys.exit(main())
