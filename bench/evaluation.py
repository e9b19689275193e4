"""What `edge eval` found, as a record; and what a reader takes away from it first."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.bench.report.words import UNKNOWN, percent, points, verdict
from edge.bench.stats import CONFIDENCE
from edge.records import SCHEMA, Json


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation.json` holds.

    subjects: one a checkpoint or adapter, the base first if there is one:

        name, kind ("base", "checkpoint", "adapter"), path, adapter, digest, runtime_version, measurement (its file)
        rows         {"expected", "right", "wrong", "failed", "missing"}
        metrics      {name: {"value", "low", "high", "n", "rows", "bootstrap"}}, see edge.bench.metrics.METRICS
        difference   None, or to the base: {name: {"value", "low", "high", "n", "gained", "lost", "p", "bootstrap"}}
        tools, scripts, kinds   {group: {"value", "low", "high", "n"}} of exact
        arguments    {tool: {argument: {"n", "right", "same", "extra"}}}
        mistakes     {kind: rows}, by the first mistake of each wrong row

    mistakes: every wrong row of every subject: subject, row, kind, state, said, expected, got, why, errors, raw, stop, new
    (right in the base), differences [{"kind", "call", "argument", "expected", "got"}].
    """

    name: str
    created_at: str
    dialect: str
    renderer: str
    workload: str
    rows: int
    subjects: list[Json]
    mistakes: list[Json]
    data: Json = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def common_mistakes(found: Evaluation, name: str, most: int = 5) -> list[tuple[str, int, Json]]:
    """The kinds of mistake that this subject makes most: kind, rows, and one of them, the shortest."""
    of = {s["name"]: s["mistakes"] for s in found.subjects}[name]
    ranked = sorted(of, key=lambda kind: -of[kind])[:most]
    rows_of = {kind: [m for m in found.mistakes if m["subject"] == name and m["kind"] == kind] for kind in ranked}
    return [(kind, of[kind], min(rows_of[kind], key=lambda m: len(m["said"]))) for kind in ranked]


def headline(found: Evaluation) -> list[str]:
    """What a reader takes away: a sentence a subject."""
    sentences = []
    for subject in found.subjects:
        exact, difference = subject["metrics"]["exact"], (subject["difference"] or {}).get("exact")
        share = f"{subject['name']} gets {percent(exact['value'])} % of {exact['n']} row{'s' * (exact['n'] != 1)} exactly right"
        if not difference:
            sentences.append(f"{share} (95 % interval {percent(exact['low'])} to {percent(exact['high'])}).")
            continue
        by = f"{points(difference['value'])} points, 95 % interval {points(difference['low'])} to {points(difference['high'])}"
        told = {"gained": "more than the base", "lost": "fewer than the base"}.get(shown(difference))
        sentences.append(f"{share}, {told or 'no difference from the base that these rows can show'} ({by}, "
                         f"p {chance(difference['p'])}).")  # fmt: skip
    return sentences


def shown(difference: Json) -> str:
    """ "gained" or "lost" where the interval and, if there is one, the test say so; of few rows they may disagree."""
    word, p = verdict(difference), difference["p"]
    return word if p is None or p < 1 - CONFIDENCE else "none seen"


def chance(p: float | None) -> str:
    """A test's p with its sign: "= 0.031", "< 0.0001"."""
    return UNKNOWN if p is None else "< 0.0001" if p < 1e-4 else f"= {p:.2g}"
