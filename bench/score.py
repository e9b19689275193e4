"""From what a model wrote to right and wrong, row by row: the same rules for every runtime and format.

A runtime's failure on a row counts as wrong and says so; a row without a sample counts as missing, since a run that was
cut short says nothing about the rows that it never reached. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from edge import dialects
from edge.bench.stats import Estimate, proportion
from edge.calls import Call, exact, read_calls
from edge.errors import EdgeError
from edge.records import Json, Sample

NO_CALL = "(no call)"  # stands for the tool in rows whose right answer is no call


@dataclass(frozen=True)
class Outcome:
    """One row. `state` is "right", "wrong", "failed" (the runtime gave an error) or "missing" (no sample).

    why: the first difference, or None. errors: what the parser could not read. text: the model's output, or None.
    """

    row: str
    state: str
    expected: list[Call]
    got: list[Call]
    kind: Optional[str] = None
    why: Optional[str] = None
    errors: tuple[str, ...] = ()
    text: Optional[str] = None
    stop: Optional[str] = None  # the token that ended the output, or "length"

    @property
    def right(self) -> bool:
        return self.state == "right"


@dataclass(frozen=True)
class Score:
    """Every row's outcome, in the workload's order, and what they add up to (missing rows left out)."""

    outcomes: list[Outcome]
    accuracy: Estimate
    names: Estimate  # the calls' names are right, in order
    parsed: Estimate  # an output without parser errors
    tools: dict[str, Estimate]  # over the rows whose expected calls name this tool
    kinds: dict[str, Estimate]  # over the rows of this kind

    def count(self, state: str) -> int:
        return sum(o.state == state for o in self.outcomes)


class Answered(Protocol):
    """As much of a Measurement as scoring looks at."""

    @property
    def samples(self) -> Sequence[Sample]: ...


def score(rows: Sequence[Json], measurement: Answered, dialect: str) -> Score:
    """Score the samples of a measurement against its workload.

    Args:
        rows: `{"id", "expected": [{"name", "arguments"}], "kind"?}`; an empty `expected` means: no call is right.
        dialect: how the outputs are read, see edge.dialects.

    Raises EdgeError for rows without an id or expected calls, for an id used twice, and for an unknown dialect.
    """
    parse = dialects.get(dialect).parse
    samples = {sample.row: sample for sample in reversed(measurement.samples)}  # of several the first
    expected = _expected(rows)
    outcomes = [
        _outcome(name, row.get("kind"), expected[name], samples.get(name), parse) for name, row in zip(expected, rows)
    ]
    seen = [o for o in outcomes if o.state != "missing"]
    return Score(
        outcomes,
        accuracy=share(seen, lambda o: o.right),
        names=share(seen, lambda o: o.text is not None and names_of(o.got) == names_of(o.expected)),
        parsed=share(seen, lambda o: o.text is not None and not o.errors),
        tools=groups(seen, lambda o: names_of(o.expected) or [NO_CALL]),
        kinds=groups(seen, lambda o: [o.kind] if o.kind else []),
    )


def text_of(value: str) -> str:
    """Text that can be written as UTF-8: half a surrogate pair, which JSON allows, becomes a question mark."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _expected(rows: Sequence[Json]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = {}
    for number, row in enumerate(rows, 1):
        name = row.get("id")
        if not isinstance(name, str) or "expected" not in row:
            raise EdgeError(f"workload, row {number}: a row has an id and the expected calls")
        if name in found:
            raise EdgeError(f"workload, row {number}: the id {name!r} is used twice")
        try:
            found[name] = read_calls(row["expected"])
        except EdgeError as error:
            raise EdgeError(f"workload, row {name}: {error.message}", error.hint) from None
    return found


def _outcome(
    row: str, kind: Optional[str], expected: list[Call], sample: Optional[Sample], parse: Callable[[str], Any]
) -> Outcome:
    if sample is None:
        return Outcome(row, "missing", expected, [], kind)
    if sample.error or sample.text is None:
        return Outcome(row, "failed", expected, [], kind, why=sample.error or "the runtime returned no text")
    text = text_of(sample.text)
    parsed = parse(text)
    # Calls that match beside one that can't be read are not what was asked for: the app would see an error.
    why = exact(parsed.calls, expected) or next(iter(parsed.errors), None)
    state = "wrong" if why else "right"
    return Outcome(row, state, expected, parsed.calls, kind, why, tuple(parsed.errors), text, sample.stop)


def names_of(calls: Iterable[Call]) -> list[str]:
    return [call.name for call in calls]


def share(outcomes: Sequence[Outcome], is_so: Callable[[Outcome], bool]) -> Estimate:
    """Of which share of the rows this is so."""
    return proportion(sum(map(is_so, outcomes)), len(outcomes))


def groups(outcomes: Sequence[Outcome], keys: Callable[[Outcome], list[str]]) -> dict[str, Estimate]:
    """The accuracy of each group, by name; a row belongs to a group once, however often its key comes up."""
    members: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for key in dict.fromkeys(keys(outcome)):
            members.setdefault(key, []).append(outcome)
    return {key: share(members[key], lambda o: o.right) for key in sorted(members)}
