"""`edge report`: what `edge bench` measured, as a page, a table or figures. The library is `bench/report`, `bench/compare.py`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge.bench.compare import Comparison
    from edge.records import Report

_PATH = click.Path(path_type=Path)
_DEFAULT = "results/bench"
FORMATS = ("html", "md", "csv", "json")


@click.command("report")
@click.argument("results", type=_PATH, required=False)
@click.option(
    "--html", is_flag=False, flag_value="-", metavar="[FILE]", help="Write the page [default: RESULTS/report.html]."
)
@click.option(
    "--md",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Markdown; without FILE printed, as the next two.",
)
@click.option("--csv", is_flag=False, flag_value="-", metavar="[FILE]", help="A line for each measurement.")
@click.option("--json", is_flag=False, flag_value="-", metavar="[FILE]", help="Everything, every wrong call too.")
@click.option(
    "--compare", nargs=2, type=_PATH, metavar="OLD NEW", help="Hold two results folders against each other instead."
)
@click.option("--tolerance", type=click.FloatRange(min=0.0), metavar="SHARE",
              help="With --compare: by what share time, memory and size may grow [default: 0.05].")  # fmt: skip
@click.option(
    "--workload", metavar="DIGEST", help="Beginning of the digest of the rows to show [default: those measured last]."
)
def report(
    results: Path | None,
    compare: tuple[Path, Path] | None,
    tolerance: float | None,
    workload: str | None,
    **outputs: str | None,
) -> None:
    """Show what edge bench measured in RESULTS (default: results/bench), from its records alone.

    Writes RESULTS/report.html and report.json and prints a table, or writes just what is asked for. The page opens offline:
    for each device accuracy against latency, latencies, memory, temperature and clock, and every wrong call.

    Figures of emulated devices are never shown as a device's: their answers stand apart, without times.

    With --compare it exits with 1 if something got worse: a failure, fewer right calls or a slower median call as far as their
    95 % intervals say, more memory or a larger file.

    \b
    edge report
    edge report results/bench --csv figures.csv --md
    edge report --compare before/bench results/bench
    """
    results, wanted = _asked(results, outputs)
    if compare:
        _compare(compare, workload, tolerance, results, wanted)
        return
    if tolerance is not None:
        raise click.UsageError("--tolerance goes with --compare")
    from edge.bench.report import folder, matrix

    place = results or Path(_DEFAULT)
    made = matrix.build(folder.read(place, workload))
    if not wanted:
        _show(made)
        wanted = {"html": str(place / "report.html"), "json": str(place / "report.json")}
    if wanted.get("html") == "-":
        wanted["html"] = str(place / "report.html")
    for name, target in wanted.items():
        _write(_text(made, name), target)


def _show(made: Report) -> None:
    """A table for each device, emulated ones without timings; Markdown where nobody watches."""
    from edge.bench.report import matrix, matrix_text, table

    if not sys.stdout.isatty():
        click.echo(matrix_text.markdown(made))
        return
    from rich.console import Console

    click.echo("\n" + "\n".join([*matrix.headline(made), *made.data["notes"]]))
    for device, of in matrix.by_device(made):
        emulated = ", emulated: no device's figures" if made.data["devices"][device].get("emulated") else ""
        click.echo(f"\n{device}{emulated}")
        Console().print(table.render(of, matrix_text.LEGEND))


def _asked(results: Path | None, outputs: dict[str, str | None]) -> tuple[Path | None, dict[str, str]]:
    """What goes where. A folder behind an option that needs no file is the results folder."""
    wanted = {name: str(outputs[name]) for name in FORMATS if outputs[name] is not None}
    for name, target in wanted.items():
        if target != "-" and Path(target).is_dir():
            if results is not None:
                raise EdgeError(f"--{name} {target}: is a folder", "name the file to write, or leave it out")
            results, wanted[name] = Path(target), "-"
    return results, wanted


def _text(made: Report, name: str) -> str:
    from edge.bench.report import matrix_page, matrix_text
    from edge.callrows import encode

    if name == "html":
        return matrix_page.render(made)
    if name == "json":
        return encode(dataclasses.asdict(made)) + "\n"
    return matrix_text.markdown(made) if name == "md" else matrix_text.table(made)


def _write(text: str, target: str) -> None:
    from edge.records import write_text

    if target == "-":
        click.echo(text, nl=False)
        return
    write_text(target, text)
    click.echo(f"wrote {target}", err=True)


def _compare(
    folders: tuple[Path, Path],
    workload: str | None,
    tolerance: float | None,
    results: Path | None,
    wanted: dict[str, str],
) -> None:
    from edge.bench import compare
    from edge.bench.report import folder

    if results is not None or set(wanted) - {"json"}:
        raise click.UsageError("--compare takes its two folders, and of the forms only --json")
    old, new = (folder.read(place, workload) for place in folders)
    found = compare.compare(old, new, compare.TOLERANCE if tolerance is None else tolerance)
    if wanted:
        from edge.callrows import encode

        _write(encode(found.to_json()) + "\n", wanted["json"])
    if wanted.get("json") != "-":
        show(found)
    if found.worse:
        raise click.exceptions.Exit(1)


def show(found: Comparison) -> None:
    """What changed or can't be told, cell by cell, how many figures show no difference, and what only one of both has."""
    from edge.bench.compare import SAME

    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    for pair in found.pairs:
        told = [c for c in pair.changes if c.verdict != SAME]
        same = [c.what for c in pair.changes if c.verdict == SAME]
        click.echo(pair.key)
        for change in told:
            click.echo(f"  {change.verdict:<10}  {change.words}")
        if same:
            click.echo(f"  {SAME}: {', '.join(same)}")
    for key in found.gone:
        click.echo(f"{key}: only in {found.old}")
    for key in found.added:
        click.echo(f"{key}: only in {found.new}")
    worse = [p.key for p in found.pairs if p.worse]
    click.echo(
        f"\nworse: {', '.join(worse)}" if worse else f"\nnothing got worse, as far as these {len(found.pairs)} show"
    )
