"""`edge data`: what is in rows and what is wrong with them; fewer rows, two sides of rows, rows in another shape.

Each command finds its source, makes one library call and shows the result; the library is in `train/data`. Errors are
caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edge.console import Console
    from edge.train.data.check import Problem
    from edge.train.data.source import Item, Source
    from edge.train.data.tokens import Length
    from edge.worker import Progress

F = TypeVar("F", bound=Callable[..., Any])
Json = dict[str, Any]
_SLOW_S = 1.0  # what takes longer gets a progress line
_FILE = click.Path(path_type=Path)


class _Range(click.FloatRange):
    """Without NaN, which is beyond no bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if number == number else self.fail(f"{value!r} is no number.", param, ctx)


@click.group()
def data() -> None:
    """Rows: check, count, filter, split and convert them.

    FILES are JSON lines in any of the three shapes, mixed as you like, by name or glob; without FILES, those of the
    --project. Rows that bring no tools of their own need --tools or --project for their calls to be checked.

    \b
    edge data check "data/*.jsonl" --tools tools.json
    edge data stats --project app
    edge data filter rows.jsonl --out small.jsonl --rule single-call --rule max-per-tool=150
    edge data split rows.jsonl --out data --eval 0.1
    edge data convert rows.jsonl --out flat.jsonl --to flat
    """


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


SOURCE = _options(
    click.argument("files", nargs=-1),
    click.option("--tools", "tools_file", type=_FILE, help="Tools of rows without their own: .json, .jsonl, .py (runs)."),
    click.option("-p", "--project", type=_FILE, help="Take what is not given here from this folder's edge.toml."),
    click.option("--dialect", help="functiongemma or hermes [default: the project's, else functiongemma]."),
    click.option("--developer", metavar="TEXT",
                 help='What a row in the flat shape says first; "" for nothing [default: the usual sentence].'),
)  # fmt: skip
EVALUATION = click.option("--eval-file", "evaluation", multiple=True, metavar="FILE",
                          help="Held-out rows, by name or glob: looked at too, and for leaks.")  # fmt: skip
LENGTHS = _options(
    click.option("--tokenizer", metavar="FOLDER",
                 help="Count tokens with this checkpoint's tokenizer; edge-tiny for ours [default: the project's base]."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N",
                 help="Tokens that a row may have [default: the project's max_tokens, else 1024]."),
)  # fmt: skip
THRESHOLD = click.option("--threshold", type=_Range(0.5, 1), default=0.8, show_default=True,
                         help="How much of their character 5-shingles near-duplicates share.")  # fmt: skip
OUT = _options(
    click.option("-o", "--out", type=_FILE, required=True, help="Where the rows go; the rejected ones go beside it."),
    click.option("--force", is_flag=True, help="Replace files that are there."),
)
RESULT = _options(
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
)


# --- looking ----------------------------------------------------------------------------------------------------------


@data.command()
@SOURCE
@EVALUATION
@LENGTHS
@THRESHOLD
@click.option("--rejects", type=_FILE, help="Write the rows with errors here, each with its reason.")
@click.option("--force", is_flag=True, help="Replace that file if it is there.")
@click.option("--show", type=click.IntRange(min=1), default=5, show_default=True, help="Problems of one kind to print.")
@RESULT
def check(
    files: tuple[str, ...],
    tools_file: Path | None,
    project: Path | None,
    dialect: str | None,
    developer: str | None,
    evaluation: tuple[str, ...],
    tokenizer: str | None,
    limit: int | None,
    threshold: float,
    rejects: Path | None,
    force: bool,
    show: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """What is in FILES and what is wrong with it: file, line and remedy for each problem.

    An error keeps a row out of training, a warning doesn't. Exits with 2 if there are errors. A row's first error is told.

    \b
    edge data check train.jsonl --tools tools.json
    edge data check "data/*.jsonl" --eval-file held-out.jsonl --tokenizer edge-tiny --limit 512
    edge data check --project app --json
    """
    from edge.train.data import check as checker
    from edge.train.data import output, tokens

    with _console(quiet) as console:
        found = _source(console, files, tools_file, project, dialect, developer, evaluation)
        if rejects:
            output.refuse_existing([rejects], found, force)
        with _late(console, "reading") as progress:
            loaded, faults = checker.load(found, progress)
        at_most = limit or found.limit or tokens.LIMIT
        folder = tokens.find(tokenizer, found)
        lengths = tokens.measure(loaded.items, found, folder, console) if folder else []
        with _late(console, "looking for repetitions"):
            checked = checker.check(loaded, found, lengths, at_most, threshold, faults)
    if rejects:
        output.write({rejects: output.rejected_lines(checked.rejects())})
    if as_json:
        _print_json(checked.to_json())
    else:
        _print_overview(checked.to_json())
        _print_problems(checked.problems, show)
        _print_count(checked.errors, len(checked.problems) - checked.errors, bool(folder))
    if checked.errors:
        raise click.exceptions.Exit(2)


@data.command()
@SOURCE
@EVALUATION
@LENGTHS
@THRESHOLD
@RESULT
def stats(
    files: tuple[str, ...],
    tools_file: Path | None,
    project: Path | None,
    dialect: str | None,
    developer: str | None,
    evaluation: tuple[str, ...],
    tokenizer: str | None,
    limit: int | None,
    threshold: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Counts over FILES: calls, tools and arguments, values, lengths, scripts, repetitions, leaks.

    Lengths are of what is trained on, prompt with tools and answer. Tokens need --tokenizer or --project.

    \b
    edge data stats "data/*.jsonl" --tools tools.json --tokenizer edge-tiny
    edge data stats train.jsonl --eval-file eval.jsonl --json
    """
    from edge.train.data import source, tokens
    from edge.train.data import stats as counter

    with _console(quiet) as console:
        found = _source(console, files, tools_file, project, dialect, developer, evaluation)
        with _late(console, "reading") as progress:
            loaded = source.read(found, progress)
        folder = tokens.find(tokenizer, found)
        lengths = tokens.measure(loaded.items, found, folder, console)
        with _late(console, "counting") as progress:
            told = counter.stats(loaded, lengths, limit or found.limit or tokens.LIMIT, threshold, progress)
    if as_json:
        _print_json(told)
    else:
        _print_overview(told)
        _print_stats(told)


# --- making -----------------------------------------------------------------------------------------------------------


@data.command("filter")
@SOURCE
@click.option("-r", "--rule", "rules", multiple=True, metavar="RULE", help="One of those above; give it several times.")
@click.option("--tokenizer", metavar="FOLDER", help="For max-tokens; edge-tiny for ours [default: the project's base].")
@THRESHOLD
@OUT
@RESULT
def filter_(
    files: tuple[str, ...],
    tools_file: Path | None,
    project: Path | None,
    dialect: str | None,
    developer: str | None,
    rules: tuple[str, ...],
    tokenizer: str | None,
    threshold: float,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Keep the rows of FILES that every RULE keeps, from left to right, as they stand.

    The others go to OUT's neighbour NAME.rejects.jsonl with the rule and the reason.

    \b
    single-call        answers with exactly one call
    parallel           answers with two calls or more
    no-call            answers without a call
    has-arguments      answers with a call that has an argument
    valid              calls agree with their declared tools; undeclared ones go
    tool=NAME[,NAME]   answers that call these tools and no other
    not-tool=NAME[,…]  answers that call none of these
    script=NAME        most letters of the user's text are hangul, latin, …
    max-chars=N        prompt and completion have at most N characters
    max-tokens=N       the same in tokens; needs --tokenizer
    unique             the first of rows with the same conversation and answer
    near-unique        the first of rows with the same answer to nearly the same text
    max-per-tool=N     the first N rows that call a tool
    max-per-phrasing=N the first N rows that differ in their values alone
    sample=N           N rows, chosen by their content: the same ones every time

    \b
    edge data filter rows.jsonl -o small.jsonl -r single-call -r unique -r max-per-tool=150
    edge data filter "data/*.jsonl" -o ko.jsonl -r script=hangul -r max-tokens=512 --tokenizer edge-tiny
    """
    from edge.train.data import filter as filtering
    from edge.train.data import output, tokens

    for rule in rules:
        filtering.parse(rule)
    if not rules:
        raise click.UsageError("give at least one --rule")
    with _console(quiet) as console:
        found = _source(console, files, tools_file, project, dialect, developer)
        output.refuse_existing([out, output.rejects_of(out)], found, force)
        loaded = _read(console, found)
        lengths: dict[str, Length] = {}
        if filtering.needs_lengths(rules):
            folder = tokens.find(tokenizer, found) if filtering.needs_tokens(rules) else None
            measured = tokens.measure(loaded.items, found, folder, console)
            lengths = {item.place: length for item, length in zip(loaded.items, measured)}
        with _late(console, "filtering") as progress:
            result = filtering.run(loaded, rules, filtering.Context(lengths, threshold, progress))
        _refuse_none(result.kept, f"no row is left after {', '.join(rules)}", result.rejects)
        made = {out: _verbatim(result.kept), output.rejects_of(out): output.rejected_lines(result.rejects)}
        output.write(made)
    if as_json:
        _print_json({"out": str(out), "rejects": str(output.rejects_of(out)), "kept": len(result.kept),
                     "rejected": len(result.rejects), "rules": result.steps})  # fmt: skip
        return
    rows = [[s["rule"], s["dropped"], s["kept"], _example(s["example"])] for s in result.steps]
    _print_table(["rule", "dropped", "kept", "for example"], rows, "lrrl")
    _print_made({out: len(result.kept), output.rejects_of(out): len(result.rejects)})


@data.command()
@SOURCE
@click.option("-o", "--out", type=_FILE, required=True, help="The folder for train.jsonl, eval.jsonl, rejects.jsonl.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--eval", "share", type=_Range(0, 1, min_open=True, max_open=True), default=0.1,
              show_default=True, help="Share that is held out, of groups of near-duplicates.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Another one gives another split.")
@THRESHOLD
@RESULT
def split(
    files: tuple[str, ...],
    tools_file: Path | None,
    project: Path | None,
    dialect: str | None,
    developer: str | None,
    out: Path,
    force: bool,
    share: float,
    seed: int,
    threshold: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Split FILES into OUT/train.jsonl and OUT/eval.jsonl by their content, near-duplicates on one side.

    Two rows are near if their user texts are equal or alike by --threshold, as they are or with their values masked.
    Rows added at the end later leave every earlier row on its side; one that is near to both sides goes to
    OUT/rejects.jsonl. A row that says its
    side itself (metadata: "train" or "eval") keeps it.

    \b
    edge data split rows.jsonl --out data
    edge data split rows.jsonl more.jsonl --out data --eval 0.2 --seed 7 --force
    """
    from edge.train.data import output
    from edge.train.data import split as splitter

    made = {name: out / f"{name}.jsonl" for name in ("train", "eval", "rejects")}
    with _console(quiet) as console:
        found = _source(console, files, tools_file, project, dialect, developer)
        output.refuse_existing(made.values(), found, force)
        loaded = _read(console, found)
        with _late(console, "splitting") as progress:
            sides = splitter.split(loaded, share, seed, threshold, progress)
        _refuse_none(sides.train, "no row falls to training", sides.rejects, "take a smaller --eval or another --seed")
        uneven = splitter.too_uneven(sides, len(loaded.items))
        hint = "most rows are near to one another: try a higher --threshold" if uneven else "take a larger --eval"
        _refuse_none(sides.eval, f"no row falls to evaluation: {sides.groups} groups of near-duplicates",
                     sides.rejects, f"{hint}, or another --seed")  # fmt: skip
        output.write({
            made["rejects"]: output.rejected_lines(sides.rejects),
            made["eval"]: _verbatim(sides.eval),
            made["train"]: _verbatim(sides.train),
        })  # fmt: skip
    told = {**sides.to_json(), "files": {name: str(file) for name, file in made.items()},
            "tools": {"train": splitter.counts(sides.train), "eval": splitter.counts(sides.eval)}}  # fmt: skip
    if as_json:
        _print_json(told)
    else:
        _print_split(told, uneven)
        _print_made(
            {made["train"]: len(sides.train), made["eval"]: len(sides.eval), made["rejects"]: len(sides.rejects)}
        )


@data.command()
@SOURCE
@click.option("--to", required=True, type=click.Choice(["mobile-actions", "flat", "raw-call"]), help="The shape.")
@click.option("--with-tools", is_flag=True, help="Write the tools of --tools or --project into rows that have none.")
@OUT
@RESULT
def convert(
    files: tuple[str, ...],
    tools_file: Path | None,
    project: Path | None,
    dialect: str | None,
    developer: str | None,
    to: str,
    with_tools: bool,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the rows of FILES in one shape. Each is read back before it is written.

    Rows that the shape has no place for go to OUT's neighbour NAME.rejects.jsonl with the reason. A flat row holds one
    request and at most one call, and its developer message is the same for all: name it with --developer.

    \b
    mobile-actions  {"messages": [… "tool_calls" …], "tools", "metadata"}
    flat            {"user_content", "tool_name", "tool_arguments"}
    raw-call        {"messages"} with calls written as the model writes them

    \b
    edge data convert rows.jsonl --to mobile-actions --with-tools --tools tools.json -o rows.ma.jsonl
    edge data convert rows.jsonl --to flat --developer "You control a home." -o flat.jsonl
    """
    from edge.train.data import convert as converter
    from edge.train.data import output

    with _console(quiet) as console:
        found = _source(console, files, tools_file, project, dialect, developer)
        output.refuse_existing([out, output.rejects_of(out)], found, force)
        if with_tools and not found.tools:
            raise click.UsageError("--with-tools needs --tools FILE or --project FOLDER")
        loaded = _read(console, found)
        with _late(console, "converting"):
            result = converter.convert(loaded, found, to, with_tools)
        _refuse_none(result.lines, f"no row can be written as {to}", result.rejects)
        output.write({out: output.lines(result.lines), output.rejects_of(out): output.rejected_lines(result.rejects)})
    counts = _reasons(result.rejects)
    if as_json:
        _print_json({"out": str(out), "rejects": str(output.rejects_of(out)), "rows": len(result.lines),
                     "verbatim": result.verbatim, "rejected": len(result.rejects), "reasons": counts})  # fmt: skip
        return
    click.echo(f"{len(result.lines)} rows as {to}, {result.verbatim} of them were so already")
    for reason, count in counts.items():
        click.echo(f"{count} rejected: {reason}")
    _print_made({out: len(result.lines), output.rejects_of(out): len(result.rejects)})


# --- steps that commands share ----------------------------------------------------------------------------------------


def _console(quiet: bool) -> Console:
    from edge.console import Console

    return Console(quiet)


def _source(
    console: Console,
    files: Sequence[str],
    tools_file: Path | None,
    project: Path | None,
    dialect: str | None,
    developer: str | None,
    evaluation: Sequence[str] = (),
) -> Source:
    from edge.train.data import source

    return source.find(files, evaluation=evaluation, tools_file=tools_file, project=project, dialect=dialect,
                       developer=developer, say=console.say)  # fmt: skip


def _read(console: Console, found: Source) -> Any:
    from edge.train.data import source

    with _late(console, "reading") as progress:
        return source.read(found, progress)


@contextlib.contextmanager
def _late(console: Console, what: str) -> Iterator[Progress]:
    """A task that shows once it has taken a second: most take less, and need no lines."""
    lock, shown, over = threading.Lock(), list[Any](), threading.Event()
    with contextlib.ExitStack() as stack:

        def show() -> None:
            with lock:
                if not over.is_set():
                    shown.append(stack.enter_context(console.task(what)))

        def progress(done: float | None, total: float | None, more: str = "") -> None:
            for task in shown:
                task(done, total, more)

        timer = threading.Timer(_SLOW_S, show)
        timer.daemon = True
        timer.start()
        try:
            yield progress
        finally:
            timer.cancel()
            with lock:
                over.set()


def _verbatim(items: Sequence[Item]) -> str:
    from edge.train.data import output

    return output.lines(item.text for item in items)


def _refuse_none(kept: Sequence[Any], message: str, rejects: Sequence[Any], hint: str = "") -> None:
    """Nothing is written then: an empty file of rows is no use to anybody, and every command refuses one."""
    from edge.errors import EdgeError

    if not kept:
        last = f"the last to go, {rejects[-1].file}:{rejects[-1].line}: {rejects[-1].reason}" if rejects else ""
        raise EdgeError(f"{message}; nothing was written", "; ".join(part for part in (hint, last) if part) or None)


def _reasons(rejects: Sequence[Any]) -> dict[str, int]:
    """How many rows for each whole reason without what differs from row to row."""
    from collections import Counter

    parts = (reject.reason.split(": ", 2) for reject in rejects)
    return dict(Counter(": ".join(p[:2] if p[0].startswith("no place") else p[:1]) for p in parts).most_common())


# --- showing ----------------------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    from edge.callrows import encode

    click.echo(encode(value))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[Any]], align: str) -> None:
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


def _example(example: Json | None) -> str:
    return _short(f"{example['file']}:{example['line']} {example['reason']}", 90) if example else ""


def _print_made(files: dict[Path, int]) -> None:
    for file, rows in files.items():
        click.echo(f"{file}  {rows:,} rows")


def _print_overview(told: Json) -> None:
    rows = [[file, n["rows"], n["rejected"]] for file, n in told["files"].items()]
    _print_table(["file", "rows", "rejected"], rows, "lrr")
    click.echo("shapes: " + _counts(told["shapes"]))
    click.echo(f"of {told['rows']:,} rows: {told['no_call']:,} without a call, {told['several_turns']:,} of several turns, "
               f"{told['with_tool_responses']:,} with tool responses, {told['with_tools_of_their_own']:,} with tools of "
               "their own")  # fmt: skip
    if set(told["splits"]) - {"not said"}:
        click.echo("split: " + _counts(told["splits"]))
    click.echo()


def _counts(counts: dict[Any, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _print_problems(problems: Sequence[Problem], show: int) -> None:
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


def _print_count(errors: int, warnings: int, tokens: bool) -> None:
    if not tokens:
        click.echo("lengths were not looked at: that takes --tokenizer FOLDER")
    click.echo(f"{errors:,} errors, {warnings:,} warnings")


def _print_stats(told: Json) -> None:
    click.echo("calls per row: " + _counts(told["calls_per_row"]))
    click.echo("script of the user's text (not its language): " + _counts(told["scripts"]) + "\n")
    rows = [[name, t["offered"], t["rows"], t["calls"]] for name, t in told["tools"].items()]
    _print_table(["tool", "offered", "rows that call it", "calls"], rows, "lrrr")
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
        _print_table(head, rows, "lrrrrrl")


def _values(argument: Json) -> str:
    common = ", ".join(f"{_short(value, 24)} {count}" for value, count in argument["common"][:3])
    unseen = argument.get("enum_unseen")
    return common + (f"; never: {_short(', '.join(map(str, unseen)), 40)}" if unseen else "")


def _print_lengths(told: Json) -> None:
    rows = [[unit, s["median"], s["p95"], s["longest"], s["longest_at"]]
            for unit in ("characters", "bytes", "tokens") if (s := told[unit])]  # fmt: skip
    if not rows:
        return
    _print_table(["prompt and answer", "median", "95 %", "longest", "where"], rows, "lrrrl")
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


def _print_split(told: Json, uneven: bool) -> None:
    tools = {**told["tools"]["train"], **told["tools"]["eval"]}
    rows = [[t, told["tools"]["train"].get(t, 0), told["tools"]["eval"].get(t, 0)] for t in sorted(tools)]
    _print_table(["calls", "train", "eval"], rows, "lrr")
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
