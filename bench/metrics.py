"""What is counted when answers are compared with the right ones: each metric is (right, all) of a row, summed over rows.

A row that a metric says nothing about counts (0, 0). A row on which the runtime failed is wrong wherever it counts; an
output with something that looks like a call and can't be read is wrong as a whole, as in `edge.bench.score`. Of a row's
calls, `edge.calls` and `edge.bfcl` say what is right: the rules of `edge calls score`. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from edge import bfcl
from edge.bench import mistakes, semantics, stats
from edge.bench.score import Outcome, names_of
from edge.calls import Call, unordered
from edge.dialects import Tool, function_of
from edge.errors import EdgeError
from edge.records import Json

Count = tuple[float, float]
NOTHING: Count = (0, 0)


@dataclass(frozen=True)
class Facts:
    """What is known of a row besides its answer."""

    tools: list[Tool]  # what the prompt declares; []: nothing
    several_turns: bool  # something was said or called before the last thing that the user said
    script: str  # of the user's text: hangul, latin, …
    said: str
    unseen: tuple[str, ...] = ()  # expected tools that no training row calls


@dataclass(frozen=True)
class Judged:
    """One row as it was answered. `tokens`: how many of the right answer's tokens were expected, and how many it has."""

    outcome: Outcome
    facts: Facts
    tokens: Optional[Count] = None


def _row(right: bool) -> Count:
    return (1 if right else 0, 1)


def _if_answered(judged: Judged, rule: Callable[[list[Call], list[Call]], bool]) -> Count:
    o = judged.outcome
    return _row(o.state in ("right", "wrong") and not o.errors and rule(o.got, o.expected))


def _exact(judged: Judged) -> Count:
    return _row(judged.outcome.right)


def _unordered(judged: Judged) -> Count:
    return _if_answered(judged, lambda got, expected: unordered(got, expected) is None)


def _semantic(judged: Judged) -> Count:
    return _if_answered(judged, semantics.same_calls)


def _bfcl(judged: Judged) -> Count:
    found = bfcl_verdict(judged.outcome, judged.facts.tools)
    return NOTHING if found is None else _row(found)


def bfcl_verdict(outcome: Outcome, tools: list[Tool]) -> Optional[bool]:
    """The leaderboard's verdict with the expected value as the one that is accepted; None where it can't judge.

    It needs the declared tools. The category is what the expected calls make it: none irrelevance, one simple, more
    parallel (in any order). An output that can't be read is no prediction.
    """
    if not tools:
        return None
    number = len(outcome.expected)
    category = "irrelevance" if not number else "simple" if number == 1 else "parallel"
    truth = [{c.name: _truth(c, tools)} for c in outcome.expected]
    if outcome.state == "failed":
        return False
    prediction = None if outcome.errors else [c.to_json() for c in outcome.got]
    try:
        return bfcl.check(prediction, truth, tools, category) is None
    except EdgeError:
        return None


def _truth(call: Call, tools: list[Tool]) -> Json:
    declared = next((f for t in tools if (f := function_of(t)).get("name") == call.name), {})
    properties = (declared.get("parameters") or {}).get("properties") or {}
    return {key: [_accepted(value, properties.get(key) or {})] for key, value in call.arguments.items()}


def _accepted(value: Any, schema: Json) -> Any:
    """An accepted value as BFCL writes it: in a declared object, and in a list of such, each key holds alternatives."""
    if schema.get("type") == "object" and isinstance(value, dict):
        return {key: [item] for key, item in value.items()}
    items = schema.get("items") or {}
    if schema.get("type") == "array" and items.get("type") == "object" and isinstance(value, list):
        return [_accepted(item, items) for item in value]
    return value


def _names(judged: Judged) -> Count:
    return _if_answered(judged, lambda got, expected: names_of(got) == names_of(expected))


def _arguments(judged: Judged) -> Count:
    return _sum(judged, lambda right, same: right)


def _arguments_semantic(judged: Judged) -> Count:
    return _sum(judged, lambda right, same: same)


def _sum(judged: Judged, which: Callable[[bool, bool], bool]) -> Count:
    found = list(arguments(judged.outcome))
    return (sum(which(right, same) for _, _, right, same in found), len(found))


def arguments(outcome: Outcome) -> list[tuple[str, str, bool, bool]]:
    """(tool, argument, right, the same in meaning) for each expected argument of a row.

    Of the call that was made in place of the expected one, see `edge.bench.mistakes.pair`; another tool's arguments count
    for nothing.
    """
    got = [] if outcome.state == "failed" else outcome.got
    found = []
    for e, g in mistakes.pair(outcome.expected, got):
        if e is None:
            continue
        want = outcome.expected[e]
        made = got[g].arguments if g is not None and got[g].name == want.name else {}
        for key, value in want.arguments.items():
            right = key in made and mistakes.same_value(value, made[key])
            found.append((want.name, key, right, right or (key in made and semantics.same(value, made[key]))))
    return found


def _tokens(judged: Judged) -> Count:
    return judged.tokens or NOTHING


def _parsed(judged: Judged) -> Count:
    return _row(judged.outcome.state != "failed" and not judged.outcome.errors)


def _coverage(judged: Judged) -> Count:
    return _row(bool(judged.outcome.got)) if judged.outcome.expected else NOTHING


def _abstention(judged: Judged) -> Count:
    o = judged.outcome
    return NOTHING if o.expected else _row(o.state != "failed" and not o.got and not o.errors)


def _parallel(judged: Judged) -> Count:
    return _exact(judged) if len(judged.outcome.expected) > 1 else NOTHING


def _multi_turn(judged: Judged) -> Count:
    return _exact(judged) if judged.facts.several_turns else NOTHING


@dataclass(frozen=True)
class Metric:
    """`title` for a table, `meaning` for a person, `count` for a row. `whole`: a row counts as one, right or wrong."""

    title: str
    meaning: str
    count: Callable[[Judged], Count]
    whole: bool = True


METRICS: dict[str, Metric] = {
    "exact": Metric("exact", "calls in order, names and arguments equal in value and type; Google's, which sees strings alone, "
                    "as long as all arguments are strings", _exact),
    "bfcl": Metric("BFCL AST", "as the Berkeley leaderboard's checker, the expected value accepted alone; rows with tools",
                   _bfcl),
    "unordered": Metric("any order", "as exact, the calls in any order", _unordered),
    "semantic": Metric("same meaning", "as exact, with dates, numbers and case normalised", _semantic),
    "names": Metric("names", "the right tools in order, whatever their arguments", _names),
    "arguments": Metric("arguments", "expected arguments that have exactly the right value", _arguments, False),
    "arguments_semantic": Metric("arguments' meaning", "expected arguments whose value means the same", _arguments_semantic,
                                 False),
    "tokens": Metric("tokens", "of the right answer's tokens, those that the model expects most, given the ones before",
                     _tokens, False),
    "parsed": Metric("parsed", "outputs in which everything that looks like a call can be read", _parsed),
    "coverage": Metric("coverage", "called, of the rows where a call is right", _coverage),
    "abstention": Metric("abstention", "did not call, of the rows where no call is right", _abstention),
    "parallel": Metric("parallel", "exact, of the rows with several expected calls", _parallel),
    "multi_turn": Metric("multi-turn", "exact, of the rows with earlier turns", _multi_turn),
}  # fmt: skip


def figures(subjects: Mapping[str, Sequence[Judged]], base: Optional[str]) -> tuple[dict[str, Json], dict[str, Json]]:
    """Every metric of every subject, and how far each subject is from `base`, over the rows that all have reached.

    Returns ({subject: {metric: {"value", "low", "high", "n", "rows", "bootstrap"}}},
    {subject: {metric: {"value", "low", "high", "n", "gained", "lost", "p", "bootstrap"}}}).

    The interval of whole rows is Wilson's, of their differences Bonett and Price's with McNemar's exact p; of arguments and
    tokens both are bootstrapped over rows, and p is unknown. `bootstrap` is that interval for all of them.
    """
    columns = {(s, m): [metric.count(j) for j in rows] for s, rows in subjects.items() for m, metric in METRICS.items()}
    others = [s for s in subjects if base in subjects and s != base]
    wanted = [((base or "", m), (s, m)) for s in others for m in METRICS]
    rows = max((len(rows) for rows in subjects.values()), default=0)
    drawn, apart = stats.bootstrap(columns, wanted, stats.RESAMPLES if rows <= 4000 else stats.RESAMPLES // 4)
    values = {s: {m: _figure(columns[s, m], METRICS[m], drawn[s, m]) for m in METRICS} for s in subjects}
    differences: dict[str, Json] = {s: {} for s in others}
    for ((_, m), (s, _m)), interval in zip(wanted, apart):
        differences[s][m] = _difference(columns[base or "", m], columns[s, m], METRICS[m], interval)
    return values, differences


def _figure(column: list[Count], metric: Metric, drawn: Optional[tuple[float, float]]) -> Json:
    right, total = (math.fsum(part) for part in zip(*column)) if column else (0.0, 0.0)
    if metric.whole:
        estimate = stats.proportion(int(right), int(total))
    else:
        low, high = drawn or (None, None)
        estimate = stats.Estimate(stats.ratio(column), low, high, int(total))
    return {**asdict(estimate), "rows": sum(1 for _, n in column if n), "bootstrap": list(drawn) if drawn else None}


def _difference(first: list[Count], second: list[Count], metric: Metric, drawn: Optional[tuple[float, float]]) -> Json:
    bounds = list(drawn) if drawn else None
    if metric.whole:
        pairs = [(bool(a), bool(b)) for (a, n), (b, k) in zip(first, second) if n and k]
        found = stats.paired_difference([a for a, _ in pairs], [b for _, b in pairs])
        return {**asdict(found), "bootstrap": bounds}
    before, after = stats.ratio(first), stats.ratio(second)
    value = None if before is None or after is None else after - before
    low, high = drawn or (None, None)
    n = sum(1 for (_, a), (_, b) in zip(first, second) if a and b)
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "gained": None,
        "lost": None,
        "p": None,
        "bootstrap": bounds,
    }


def by_argument(rows: Sequence[Judged]) -> dict[str, dict[str, Json]]:
    """{tool: {argument: {"n", "right", "same"}}} over the expected calls, and "extra": how often one came unasked."""
    found: dict[str, dict[str, Json]] = {}
    for judged in rows:
        for tool, key, right, same in arguments(judged.outcome):
            entry = found.setdefault(tool, {}).setdefault(key, {"n": 0, "right": 0, "same": 0, "extra": 0})
            entry["n"] += 1
            entry["right"] += right
            entry["same"] += same
        for mistake in mistakes.find(judged.outcome):
            if mistake.kind == "extra argument" and mistake.argument is not None and mistake.call is not None:
                tool = judged.outcome.expected[mistake.call - 1].name
                entry = found.setdefault(tool, {}).setdefault(
                    mistake.argument, {"n": 0, "right": 0, "same": 0, "extra": 0}
                )
                entry["extra"] += 1
    return {tool: dict(sorted(found[tool].items())) for tool in sorted(found)}
