"""What `edge data` prints for people: tables and sentences, from what the library counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edge.train.data.check import Problem

Json = dict[str, Any]


def print_json(value: Any) -> None:
    from edge.callrows import encode

    click.echo(encode(value))


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]], align: str) -> None:
    """Columns as wide as a terminal shows them (Hangul and Han take two cells); align: l or r for each."""
    from rich.cells import cell_len

    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in [head, *rows]]
    widths = [max(map(cell_len, column)) for column in zip(*cells)]
    for row in cells:
        padded = [
            " " * (w - cell_len(c)) + c if side == "r" else c + " " * (w - cell_len(c))
            for c, w, side in zip(row, widths, align)
        ]
        click.echo("  ".join(padded).rstrip())
    click.echo()


def _short(text: str, width: int = 70) -> str:
    one = " ".join(text.split())
    return one if len(one) <= width else f"{one[: width - 1]}…"


def example(example: Json | None) -> str:
    return _short(f"{example['file']}:{example['line']} {example['reason']}", 90) if example else ""


def print_made(files: dict[Path, int]) -> None:
    for file, rows in files.items():
        click.echo(f"{file}  {rows:,} rows")


def print_overview(told: Json) -> None:
    rows = [[file, n["rows"], n["rejected"]] for file, n in told["files"].items()]
    print_table(["file", "rows", "rejected"], rows, "lrr")
    click.echo("shapes: " + _counts(told["shapes"]))
    click.echo(f"of {told['rows']:,} rows: {told['no_call']:,} without a call, {told['several_turns']:,} of several turns, "
               f"{told['with_tool_responses']:,} with tool responses, {told['with_tools_of_their_own']:,} with tools of "
               "their own")  # fmt: skip
    if set(told["splits"]) - {"not said"}:
        click.echo("split: " + _counts(told["splits"]))
    click.echo()


def _counts(counts: dict[Any, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def print_problems(problems: Sequence[Problem], show: int) -> None:
    """By kind: how many, the remedy once, the first few."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.level, problem.kind), []).append(problem)
    for (level, kind), found in kinds.items():
        click.echo(f"{level}: {kind}, {len(found):,} times" if len(found) > 1 else f"{level}: {kind}")
        for problem in found[:show]:
            where = f"{problem.file}:{problem.line}" if problem.line else problem.file or "all rows"
            click.echo(f"  {where}: {_short(problem.message, 160)}")
        if len(found) > show:
            click.echo(f"  … {len(found) - show:,} more (--show {len(found)}, or --json)")
        click.echo(f"  remedy: {found[0].remedy}\n")


def print_count(errors: int, warnings: int, tokens: bool) -> None:
    if not tokens:
        click.echo("lengths were not looked at: that takes --tokenizer FOLDER")
    click.echo(f"{errors:,} errors, {warnings:,} warnings")


def print_stats(told: Json) -> None:
    click.echo("calls per row: " + _counts(told["calls_per_row"]))
    click.echo("script of the user's text (not its language): " + _counts(told["scripts"]) + "\n")
    rows = [[name, t["offered"], t["rows"], t["calls"]] for name, t in told["tools"].items()]
    print_table(["tool", "offered", "rows that call it", "calls"], rows, "lrrr")
    _print_arguments(told["tools"])
    _print_lengths(told["lengths"])
    _print_repetitions(told["repetitions"])
    _print_leaks(told["leaks"])


def _print_arguments(tools: Json) -> None:
    rows = [
        [f"{tool}.{name}", a["calls"], t["calls"], a["distinct"], a["once"], a["in_text"], _values(a)]
        for tool, t in tools.items()
        for name, a in t["arguments"].items()
    ]
    if rows:
        head = ["argument", "given", "of calls", "distinct", "once", "in the text", "most common"]
        print_table(head, rows, "lrrrrrl")


def _values(argument: Json) -> str:
    common = ", ".join(f"{_short(value, 24)} {count}" for value, count in argument["common"][:3])
    unseen = argument.get("enum_unseen")
    return common + (f"; never: {_short(', '.join(map(str, unseen)), 40)}" if unseen else "")


def _print_lengths(told: Json) -> None:
    rows = [[unit, s["median"], s["p95"], s["longest"], s["longest_at"]]
            for unit in ("characters", "bytes", "tokens") if (s := told[unit])]  # fmt: skip
    if not rows:
        return
    print_table(["prompt and answer", "median", "95 %", "longest", "where"], rows, "lrrrl")
    if told["tokens"] is None:
        click.echo("tokens: not counted, that takes a tokenizer (--tokenizer FOLDER, or --project)\n")
    else:
        where = f": {', '.join(told['over_limit_at'])}" if told["over_limit"] else ""
        click.echo(f"rows over the limit of {told['limit']:,} tokens: {told['over_limit']:,}{where}\n")


def _print_repetitions(told: Json) -> None:
    click.echo(f"duplicates: {told['duplicates']:,} rows repeat a conversation and its answer")
    click.echo(f"near-duplicates: {told['near_duplicates']:,} rows whose text is an earlier one's or close to it "
               f"({told['threshold']:g} of its shingles)")  # fmt: skip
    click.echo(f"phrasings: {told['phrasings']:,}, with values and numbers masked; the most common: "
               + ", ".join(f"“{_short(text, 40)}” {count}" for text, count in told["common_phrasings"][:3]))  # fmt: skip
    if told["contradictions"]:
        click.echo(f"contradictions, prompts with several answers: {len(told['contradictions']):,}: "
                   + "; ".join(" and ".join(places[:2]) for places in told["contradictions"][:3]))  # fmt: skip


def _print_leaks(told: Json | None) -> None:
    if told is None:
        click.echo("leaks: not looked for; name held-out rows with --eval-file")
        return
    exact, near, rows = told["exact"], told["near"], told["eval_rows"]
    click.echo(f"leaks into evaluation ({rows:,} rows): {len(exact):,} are in training, {len(near):,} are there or close to "
               f"a row there, {told['same_phrasing']:,} are phrased as a row there is")  # fmt: skip
    for a, b in near[:3]:
        click.echo(f"  {a} is close to {b}")


def print_split(told: Json, uneven: bool) -> None:
    tools = {**told["tools"]["train"], **told["tools"]["eval"]}
    rows = [[t, told["tools"]["train"].get(t, 0), told["tools"]["eval"].get(t, 0)] for t in sorted(tools)]
    print_table(["calls", "train", "eval"], rows, "lrr")
    placed = told["train"] + told["eval"]
    click.echo(f"{100 * told['eval'] / placed:.1f} % of the rows are held out; {told['groups']:,} groups of near-duplicates, "
               f"the largest has {told['largest_group']:,} rows")  # fmt: skip
    without = [tool for tool, train, held_out in rows if train and not held_out]
    if without:
        click.echo(f"not measured, no evaluation row calls it: {', '.join(without)}")
    if uneven:
        click.echo("warning: most rows are near to one another, so --eval can't be kept; try a higher --threshold")
    if told["leaks"]:
        click.echo(f"warning: {told['leaks']:,} rows stay where their metadata says, near to rows on the other side")
