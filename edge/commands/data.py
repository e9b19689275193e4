"""`edge data`: what is in rows and what is wrong with them; fewer rows, two sides of rows, rows in another shape.

Each command finds its source, makes one library call and shows the result; the library is in `train/data`. Errors are
caught by `edge/cli.py`. Library imports stand inside the commands, so that `edge --help` is quick.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from edge.commands import data_tables as tables
from edge.commands.data_synth import synth
from edge.commands.options import AS_JSON, QUIET, F, together

if TYPE_CHECKING:
    from edge.console import Console
    from edge.train.data.source import Item, Source
    from edge.train.data.tokens import Length
    from edge.worker import Progress

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
    """Rows: check, count, filter, split, convert and make them.

    FILES are JSON lines in any of the three shapes, mixed as you like, by name, glob or hub dataset
    (owner/name[@revision][:configuration or glob]); without FILES, those of the
    --project. Rows that bring no tools of their own need --tools or --project for their calls to be checked.

    \b
    edge data check "data/*.jsonl" --tools tools.json
    edge data stats --project app
    edge data check google/mobile-actions
    edge data filter rows.jsonl --out small.jsonl --rule single-call --rule max-per-tool=150
    edge data split rows.jsonl --out data --eval 0.1
    edge data convert rows.jsonl --out flat.jsonl --to flat
    edge data synth --tools tools.py --out train.jsonl --holdout eval.jsonl
    """


data.add_command(synth)
_ROWS = together(
    click.argument("patterns", nargs=-1, metavar="[FILES]..."),
    click.option("--tools", "tools_file", type=_FILE, help="Tools of rows without their own: .json, .jsonl, .py (runs)."),
    click.option("-p", "--project", type=_FILE, help="Take what is not given here from this folder's edge.toml."),
    click.option("--dialect", help="functiongemma, hermes or llama3 [default: the project's, else functiongemma]."),
    click.option("--developer", metavar="TEXT",
                 help='What a row in the flat shape says first; "" for nothing [default: the usual sentence].'),
)  # fmt: skip
EVALUATION = click.option("--eval-file", "evaluation", multiple=True, metavar="FILE",
                          help="Held-out rows, by name, glob or hub dataset: looked at too, and for leaks.")  # fmt: skip
LENGTHS = together(
    click.option("--tokenizer", metavar="FOLDER",
                 help="Count tokens with this checkpoint's tokenizer; edge-tiny for ours [default: the project's base]."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N",
                 help="Tokens that a row may have [default: the project's max_tokens, else 1024]."),
)  # fmt: skip
THRESHOLD = click.option("--threshold", type=_Range(0.5, 1), default=0.8, show_default=True,
                         help="How much of their character 5-shingles near-duplicates share.")  # fmt: skip
OUT = together(
    click.option("-o", "--out", type=_FILE, required=True, help="Where the rows go; the rejected ones go beside it."),
    click.option("--force", is_flag=True, help="Replace files that are there."),
)
RESULT = together(AS_JSON, QUIET)


def rows_given(command: F) -> F:
    """The options that say which rows; the command gets them as one mapping, `given`, which `_source` takes."""

    @functools.wraps(command)
    def run(**options: Any) -> Any:
        given = {name: options.pop(name) for name in ("patterns", "tools_file", "project", "dialect", "developer")}
        return command(given=given, **options)

    return cast(F, _ROWS(run))


# --- looking ----------------------------------------------------------------------------------------------------------


@data.command()
@rows_given
@EVALUATION
@LENGTHS
@THRESHOLD
@click.option("--rejects", type=_FILE, help="Write the rows with errors here, each with its reason.")
@click.option("--force", is_flag=True, help="Replace that file if it is there.")
@click.option("--show", type=click.IntRange(min=1), default=5, show_default=True, help="Problems of one kind to print.")
@RESULT
def check(
    given: Json,
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
        found = _source(console, given, evaluation)
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
        tables.print_json(checked.to_json())
    else:
        tables.print_overview(checked.to_json())
        tables.print_problems(checked.problems, show)
        tables.print_count(checked.errors, len(checked.problems) - checked.errors, bool(folder))
    if checked.errors:
        raise click.exceptions.Exit(2)


@data.command()
@rows_given
@EVALUATION
@LENGTHS
@THRESHOLD
@RESULT
def stats(
    given: Json,
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
        found = _source(console, given, evaluation)
        with _late(console, "reading") as progress:
            loaded = source.read(found, progress)
        folder = tokens.find(tokenizer, found)
        lengths = tokens.measure(loaded.items, found, folder, console)
        with _late(console, "counting") as progress:
            told = counter.stats(loaded, lengths, limit or found.limit or tokens.LIMIT, threshold, progress)
    if as_json:
        tables.print_json(told)
    else:
        tables.print_overview(told)
        tables.print_stats(told)


# --- making -----------------------------------------------------------------------------------------------------------


@data.command("filter")
@rows_given
@click.option("-r", "--rule", "rules", multiple=True, metavar="RULE", help="One of those above; give it several times.")
@click.option("--tokenizer", metavar="FOLDER", help="For max-tokens; edge-tiny for ours [default: the project's base].")
@THRESHOLD
@OUT
@RESULT
def filter_(
    given: Json,
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
        found = _source(console, given)
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
        tables.print_json({"out": str(out), "rejects": str(output.rejects_of(out)), "kept": len(result.kept),
                     "rejected": len(result.rejects), "rules": result.steps})  # fmt: skip
        return
    rows = [[s["rule"], s["dropped"], s["kept"], tables.example(s["example"])] for s in result.steps]
    tables.print_table(["rule", "dropped", "kept", "for example"], rows, "lrrl")
    tables.print_made({out: len(result.kept), output.rejects_of(out): len(result.rejects)})


@data.command()
@rows_given
@click.option("-o", "--out", type=_FILE, required=True, help="The folder for train.jsonl, eval.jsonl, rejects.jsonl.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--eval", "share", type=_Range(0, 1, min_open=True, max_open=True), default=0.1,
              show_default=True, help="Share that is held out, of groups of near-duplicates.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Another one gives another split.")
@THRESHOLD
@RESULT
def split(
    given: Json,
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
    OUT/rejects.jsonl. A row that says its side itself (metadata: "train" or "eval") keeps it.

    \b
    edge data split rows.jsonl --out data
    edge data split rows.jsonl more.jsonl --out data --eval 0.2 --seed 7 --force
    """
    from edge.train.data import output
    from edge.train.data import split as splitter

    made = {name: out / f"{name}.jsonl" for name in ("train", "eval", "rejects")}
    with _console(quiet) as console:
        found = _source(console, given)
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
        tables.print_json(told)
    else:
        tables.print_split(told, uneven)
        tables.print_made(
            {made["train"]: len(sides.train), made["eval"]: len(sides.eval), made["rejects"]: len(sides.rejects)}
        )


@data.command()
@rows_given
@click.option("--to", required=True, type=click.Choice(["mobile-actions", "flat", "raw-call"]), help="The shape.")
@click.option("--with-tools", is_flag=True, help="Write the tools of --tools or --project into rows that have none.")
@OUT
@RESULT
def convert(
    given: Json,
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
        found = _source(console, given)
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
        tables.print_json({"out": str(out), "rejects": str(output.rejects_of(out)), "rows": len(result.lines),
                     "verbatim": result.verbatim, "rejected": len(result.rejects), "reasons": counts})  # fmt: skip
        return
    click.echo(f"{len(result.lines)} rows as {to}, {result.verbatim} of them were so already")
    for reason, count in counts.items():
        click.echo(f"{count} rejected: {reason}")
    tables.print_made({out: len(result.lines), output.rejects_of(out): len(result.rejects)})


# --- steps that commands share ----------------------------------------------------------------------------------------


def _console(quiet: bool) -> Console:
    from edge.console import Console

    return Console(quiet)


def _source(console: Console, given: Json, evaluation: Sequence[str] = ()) -> Source:
    from edge.train.data import source

    return source.find(**given, evaluation=evaluation, console=console)


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
