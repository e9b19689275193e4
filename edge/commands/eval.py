"""`edge eval`: base against tuned on the same rows with the same prompts. The library is `bench/evaluate.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.commands import data_tables as tables
from edge.commands.options import AS_JSON, QUIET

if TYPE_CHECKING:
    from edge.bench.evaluation import Evaluation

Json = dict[str, Any]
_PATH = click.Path(path_type=Path)


@click.command("eval")
@click.argument("subjects", nargs=-1, metavar="[PROJECT | CHECKPOINT_OR_ADAPTER...]")
@click.option("--data", multiple=True, metavar="FILE", help="Rows to answer, by name, glob or hub id; several times.")
@click.option("--tools", type=_PATH, help="Tools of rows without their own: .json, .jsonl, .py (runs).")
@click.option("--base", metavar="CHECKPOINT", help="What adapters belong to and all is compared with: a folder, edge-tiny or a hub id "
              "[default: what the adapters name, or the project's].")  # fmt: skip
@click.option("-p", "--project", type=_PATH, help="Take what is not given here from this folder's edge.toml.")
@click.option("--trained-on", multiple=True, metavar="FILE",
              help="Training rows: warns of tools that they never call and of rows in both [default: the project's].")  # fmt: skip
@click.option("--rows", type=click.IntRange(min=0), metavar="N",
              help="How many, from the top; 0 for all [default: the project's bench.rows, else all].")  # fmt: skip
@click.option("--out", type=_PATH, help="Folder for answers and figures [default: PROJECT/results/eval, else eval].")
@click.option("--dialect", help="functiongemma, hermes, … [default: what edge.toml or the subjects' records say].")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer [default: the project's, or 128]."
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Of the CPU [default: all].")
@AS_JSON
@QUIET
def eval_(
    subjects: tuple[str, ...],
    project: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare what models answer to the same rows: a project's base and tuned one, or checkpoints and adapters.

    Adapters stay unmerged beside their base. Answers are greedy and kept in --out: what was stopped goes on, and scoring
    again costs nothing. evaluation.html there shows every wrong row side by side, evaluation.json holds all of it.

    \b
    exact         calls in order, names and arguments equal in value and type
    BFCL AST      as the Berkeley leaderboard's checker, the expected value accepted alone
    any order     as exact, the calls in any order
    same meaning  as exact, with these taken as equal: letters of other case or width; blanks, quotes around a text and
                  punctuation at its end; 20, 20.0 and "20"; "true" and true; 2025-06-06, June 6, 2025 and 2025년 6월 6일;
                  14:00, 14:00:00, 2 pm and 오후 2시; not 6/6/2025, which may be either
    names         the right tools in order
    arguments     expected arguments with exactly the right value, or one that means the same
    tokens        of the right answer's tokens, those that the model expects most, given the ones before
    parsed        outputs without a call that can't be read
    coverage      called where a call is right;  abstention: didn't where none is
    parallel, multi-turn    exact, of rows with several calls, of rows with earlier turns

    Exits with 1 if the runtime failed on rows.

    \b
    edge eval app
    edge eval app/build/tuned --base edge-tiny --data app/eval.jsonl --tools app/tools.py
    edge eval app/build/tuned/adapter --base edge-tiny --data "held-out/*.jsonl" --rows 200 --json
    """
    from edge.bench.evaluate import evaluate
    from edge.console import Console

    if project is None and not options["data"] and len(subjects) <= 1 and _is_project(subjects):
        project, subjects = Path(subjects[0] if subjects else "."), ()
    with Console(quiet) as console:
        found = evaluate(subjects, project=project, console=console, **options)
    if as_json:
        tables.print_json(vars(found))
    else:
        show(found)
    if any(subject["rows"]["failed"] for subject in found.subjects):
        raise click.exceptions.Exit(1)


def _is_project(subjects: tuple[str, ...]) -> bool:
    place = Path(subjects[0]) if subjects else Path()
    return place.suffix == ".toml" or (place / "edge.toml").is_file()


def show(found: Evaluation) -> None:
    """The scores, the five most common kinds of mistake with an example each, and where the rest is."""
    from edge.bench.evaluation import headline

    click.echo("\n".join(headline(found)) + "\n")
    _metrics(found)
    for subject in found.subjects:
        if subject["mistakes"] and (subject["difference"] or len(found.subjects) == 1):
            _mistakes(found, subject)
    click.echo(f"every wrong row: {found.files['html']}")


def _metrics(found: Evaluation) -> None:
    from edge.bench.evaluation import chance
    from edge.bench.metrics import METRICS
    from edge.bench.report.words import UNKNOWN, percent, points

    compared = [s for s in found.subjects if s["difference"]]
    head = ["%", "rows", *(s["name"] for s in found.subjects)]
    for s in compared:
        head += ["change" if len(compared) == 1 else f"{s['name']}, change", "95 % interval", "p"]
    lines = []
    for key, metric in METRICS.items():
        values = [s["metrics"][key] for s in found.subjects]
        if not any(v["n"] for v in values):
            continue
        line: list[Any] = [metric.title, max(v["rows"] for v in values), *(percent(v["value"]) for v in values)]
        for s in compared:
            d = s["difference"][key]
            bounds = UNKNOWN if d["low"] is None else f"{points(d['low'])} to {points(d['high'])}"
            line += [points(d["value"]), bounds, chance(d["p"]).removeprefix("= ")]
        lines.append(line)
    tables.print_table(head, lines, "l" + "r" * (len(head) - 1))


def _mistakes(found: Evaluation, subject: Json) -> None:
    from edge.bench.evaluation import common_mistakes

    name, wrong = subject["name"], sum(subject["mistakes"].values())
    before = next((s["mistakes"] for s in found.subjects if s["kind"] == "base" and s is not subject), None)
    click.echo(f"{name}: {wrong:,} wrong row{'s' * (wrong != 1)}; the most common kinds of mistake")
    head = ["", "rows", *(["in base"] if before is not None else []), "for example"]
    lines = []
    for kind, count, entry in common_mistakes(found, name):
        lines.append([kind, count, *([before.get(kind, 0)] if before is not None else []), _example(entry)])
    tables.print_table(head, lines, "l" + "r" * (len(head) - 2) + "l")


def _example(entry: Json) -> str:
    """The user's words, and what differs first: expected → got."""
    first = entry["differences"][0]
    expected, got = (_value(first[side]) if side in first else "nothing" for side in ("expected", "got"))
    what = f"{first['argument']}: " if "argument" in first else ""
    differs = "no call" if first["kind"] == "no call" else f"{what}{expected} → {got}"
    return f'"{_short(entry["said"], 44)}"  {_short(differs, 60)}'


def _value(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, width: int) -> str:
    one = " ".join(text.split())
    return one if len(one) <= width else f"{one[: width - 1]}…"
