"""`edge pick`: the best artifact for a device under limits. The library is `bench/pick.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands import data_tables as tables
from edge.commands.options import AS_JSON

if TYPE_CHECKING:
    from edge.bench.pick import Candidate, Choice


Callback = Callable[[click.Context, click.Parameter, str | None], Any]


def _amount(reader: str) -> Callback:
    """A number with a unit, read by that function of bench/pick.py."""

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        from edge.bench import pick

        try:
            return None if text is None else getattr(pick, reader)(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


@click.command("pick")
@click.option("--device", required=True, metavar="NAME", help="For which of the devices that were measured.")
@click.option("--max-size", callback=_amount("parse_bytes"), metavar="SIZE", help="Of the file, such as 300MB.")
@click.option("--max-rss", callback=_amount("parse_bytes"), metavar="SIZE", help="Peak memory, such as 400MB or 1.2GB.")
@click.option("--max-p95", callback=_amount("parse_seconds"), metavar="TIME",
              help="19 of 20 calls are done by then, such as 800ms.")  # fmt: skip
@click.option(
    "--min-accuracy", callback=_amount("parse_share"), metavar="SHARE", help="Right calls, such as 0.9 or 90%."
)
@click.option("--results", type=click.Path(path_type=Path), default="results/bench", show_default=True, metavar="FOLDER",
              help="What edge bench wrote.")  # fmt: skip
@click.option(
    "--workload", metavar="DIGEST", help="Beginning of the digest of the rows [default: those measured last]."
)
@click.option("--allow-emulated", is_flag=True, help="Also of an emulated device, whose figures are no real one's.")
@AS_JSON
def pick(
    device: str,
    max_size: int | None,
    max_rss: int | None,
    max_p95: float | None,
    min_accuracy: float | None,
    results: Path,
    workload: str | None,
    allow_emulated: bool,
    as_json: bool,
) -> None:
    """Pick the best artifact for a device under limits; say why each other one fell out, and how sure that is.

    Of those that keep every limit the most often right wins. Where the paired 95 % interval shows no difference to it, the
    fastest median call wins; where the rows show none in that either, the smallest file. What is nominally no better than
    one that is shown to be worse, or slower, counts as that too.

    How sure: the share of 1,000 draws that keep p95 and accuracy within their limits. For p95 the rows are drawn anew;
    accuracy is drawn from Beta(right + 1/2, wrong + 1/2), so that few rows that are all right don't look certain. Exits
    with 1 if nothing keeps the limits, and says what comes nearest.

    \b
    edge pick --device pi5 --max-rss 400MB --max-p95 800ms --min-accuracy 0.9
    edge pick --device phone --max-size 300MB --json
    """
    from edge.bench import pick as picking
    from edge.bench.report import folder

    limits = picking.Limits(max_size, max_rss, max_p95, min_accuracy)
    found = picking.pick(folder.read(results, workload), device, limits, allow_emulated)
    if as_json:
        tables.print_json(found.to_json())
    else:
        show(found)
    if found.picked is None:
        raise click.exceptions.Exit(1)


def show(found: Choice) -> None:
    from edge.bench.pick import CRITERION

    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if found.picked:
        click.echo(f"{found.picked.name}  {_figures(found.picked)}")
        _sure(found.picked)
        artifact = found.results.artifacts.get(found.picked.cell.measurement.subject)
        click.echo(f"  {artifact.path}" if artifact else f"  {found.picked.cell.measurement.subject[:12]}")
    else:
        click.echo(f"nothing that was measured on {found.device} keeps these limits")
        if found.nearest:
            click.echo(f"nearest: {found.nearest.name}  {_figures(found.nearest)}: {'; '.join(found.nearest.why)}")
    if found.others:
        click.echo("\nfell out")
    for other in found.others:
        click.echo(f"  {other.name}  {_figures(other)}")
        for reason in other.why:
            click.echo(f"    {reason}")
        for doubt in other.doubts if other.out else ():
            click.echo(f"    {doubt}")
    click.echo(f"\n{CRITERION}")


def _sure(c: Candidate) -> None:
    if c.sure is not None:
        click.echo(f"  keeps p95 and accuracy within the limits in {100 * c.sure:.0f} % of the draws")
    for doubt in c.doubts:
        click.echo(f"  {doubt}")


def _figures(c: Candidate) -> str:
    from edge.bench.report.words import figure, megabytes, percent

    m, a = c.cell.measurement, c.accuracy
    parts = [f"{percent(a.value)} % right [{percent(a.low)}, {percent(a.high)}]"] if a.value is not None else []
    if c.median_s.value is not None and c.p95_s.value is not None:
        parts.append(f"median {figure(c.median_s.value * 1000)} ms, p95 {figure(c.p95_s.value * 1000)} ms{_bounds(c)}")
    parts += [f"{megabytes(m.peak_rss_bytes)} MB memory"] if m.peak_rss_bytes else []
    parts += [f"{megabytes(m.file_bytes)} MB file"] if m.file_bytes else []
    return ", ".join(parts)


def _bounds(c: Candidate) -> str:
    from edge.bench.report.words import figure

    low, high = c.p95_s.low, c.p95_s.high
    return "" if low is None or high is None else f" [{figure(low * 1000)}, {figure(high * 1000)}]"
