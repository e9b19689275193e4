"""`edge data synth`: rows made from tools."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from edge.commands import data_tables as tables
from edge.commands.options import AS_JSON, QUIET

_FILE = click.Path(path_type=Path)
_SHARE = click.FloatRange(0, 1)


def _explain(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from edge.train.data import synth_grammar

        click.echo(synth_grammar.__doc__)
        ctx.exit()


@click.command()
@click.option("--tools", "tools_file", type=_FILE, help="The tools: .json, .jsonl, or .py (runs).")
@click.option(
    "-p", "--project", type=_FILE, help="Take tools, dialect and developer message from this folder's edge.toml."
)
@click.option("--grammar", type=_FILE, help="The project's own words for its tools, in TOML or JSON.")
@click.option("--explain-grammar", is_flag=True, is_eager=True, expose_value=False, callback=_explain,
              help="Print the format of that file, with an example, and exit.")  # fmt: skip
@click.option("-n", "--count", type=click.IntRange(1), default=500, show_default=True, help="How many rows.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same one gives the same rows.")
@click.option("--lang", "languages", multiple=True, type=click.Choice(["en", "ko"]), default=["en"], show_default=True,
              help="Once for each language; shared evenly.")  # fmt: skip
@click.option("--parallel", type=_SHARE, default=0.2, show_default=True, help="Share of rows with several calls.")
@click.option("--none", type=_SHARE, default=0.1, show_default=True, help="Share of rows that no tool fits.")
@click.option("--multi", type=_SHARE, default=0.1, show_default=True, help="Share of rows with earlier turns.")
@click.option("--clock/--no-clock", default=None, help="Whether rows tell the date [default: if a tool takes dates].")
@click.option("--developer", metavar="TEXT", help="The developer message [default: the project's, else the usual one].")
@click.option("--with-tools", is_flag=True, help="Write the tools into each row.")
@click.option("-o", "--out", type=_FILE, required=True, help="Where the rows go.")
@click.option("--holdout", type=_FILE, help="Rows to test with: other phrasings and words, none near to OUT's.")
@click.option("--holdout-count", type=click.IntRange(1), help="How many [default: a fifth of --count].")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@AS_JSON
@QUIET
def synth(
    tools_file: Path | None,
    project: Path | None,
    grammar: Path | None,
    count: int,
    seed: int,
    languages: tuple[str, ...],
    parallel: float,
    none: float,
    multi: float,
    clock: bool | None,
    developer: str | None,
    with_tools: bool,
    out: Path,
    holdout: Path | None,
    holdout_count: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make rows from tools: requests in many phrasings, with values that the tools allow.

    Phrasings come from names and descriptions, values from types, limits, formats and names. What people really say about
    your tools you know better: --grammar adds it.

    \b
    edge data synth --tools tools.py --count 500 --seed 1 --out train.jsonl --holdout eval.jsonl
    edge data synth -p app --grammar words.toml --lang en --lang ko --parallel 0.3 --out app/train.jsonl
    """
    from edge.console import Console
    from edge.errors import EdgeError
    from edge.train.data import output, source, synth_grammar
    from edge.train.data import synth as making

    if parallel + none + multi > 1:
        raise click.UsageError(f"--parallel, --none and --multi are {parallel + none + multi:g} together: at most 1")
    files = [file for file in (out, holdout) if file]
    if len({file.resolve() for file in files}) < len(files):
        raise click.UsageError("--out and --holdout are the same file")
    with Console(quiet) as console:
        found = source.of_tools(tools_file, project, developer, console)
        output.refuse_existing(files, found, force)
        said = synth_grammar.load(grammar, found.tools) if grammar else None
        settings = making.Settings(
            count, seed, tuple(dict.fromkeys(languages)), parallel, none, multi, clock, found.developer or "", with_tools
        )  # fmt: skip
        with console.task("making rows") if count > 2000 else contextlib.nullcontext() as progress:
            made = {out: making.make(found.tools, settings, said, None, progress)}
            if made[out].exhausted:
                most = len(made[out].rows)
                raise EdgeError(f"only {most} different rows could be made of {len(found.tools)} tools; nothing was written",
                                f"give --count {most}, or more phrasings with --grammar")  # fmt: skip
            if holdout:
                made[holdout] = making.make_holdout(
                    found.tools, settings, holdout_count or max(1, count // 5), said, made[out]
                )
        for one in made.values():
            bad = making.refused(one.rows, found)
            if bad:
                raise EdgeError(
                    f"a row can't be used: {bad.reason}: {bad.text[:200]}", "give its values with --grammar"
                )
        output.write({file: making.lines(one.rows) for file, one in made.items()})
    if as_json:
        tables.print_json({str(file): one.to_json() for file, one in made.items()})
        return
    _print(made, found.tools)
    tables.print_made({file: len(one.rows) for file, one in made.items()})
    for file, one in made.items():
        if one.exhausted:
            click.echo(f"warning: no more rows that differ enough from the training rows were found for {file}: more "
                       "phrasings with `held` in a grammar help")  # fmt: skip


def _print(made: dict[Path, Any], tools: list[Any]) -> None:
    several = list(made.values())
    head = ["calls", *(file.name for file in made)]
    rows = [[t["function"]["name"], *(one.tools[t["function"]["name"]] for one in several)] for t in tools]
    tables.print_table(head, rows, "l" + "r" * len(several))
    kinds = list(dict.fromkeys(kind for one in several for kind in one.kinds))
    rows = [[kind, *(one.kinds[kind] for one in several)] for kind in kinds]
    tables.print_table(["kind of row", *head[1:]], rows, "l" + "r" * len(several))
