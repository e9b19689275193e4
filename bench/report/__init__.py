"""From measurements to a Report: what tuning gained, what each quantisation cost, and how sure that is.

Everything is computed from the records on every call, so a report never holds a figure that its samples don't carry.

A cell (one per measurement, JSON):

    name, kind ("base", "tuned", "quantisation", "checkpoint"), subject (digest), format, bytes, quantisation
    rows        {"expected", "right", "wrong", "failed", "missing"}; complete: nothing missing and no error
    accuracy, name_accuracy, parse_rate                      estimates: {"value", "low", "high", "n"}
    tools, kinds                                             {name: estimate of accuracy}
    difference  {"to", "value", "low", "high", "n", "gained", "lost", "p", "verdict", "words"} or None
    first_token_ms, call_ms                                  estimates of the median, with "p95", "p99", "max"
    call_quantiles_ms                                        41 of them, each 2.5 %: the distribution's shape
    prefill_tokens_per_s, decode_tokens_per_s                estimates of the median over samples
    load_s, peak_rss_bytes, threads, load_average_before, load_average_after, prefix_cache, file_cache,
    temperature_…, clock_…, throttled, runtime, runtime_version, device, settings, started_at, error
    marks       what stands in the way of trusting the figures: ["noisy: …", "throttled", "emulated", "incomplete: …"]
    measurement {"path", "digest"} of the raw samples

An entry of `wrong`: row, subject (the cell's name), state, kind, said (the user's text), expected, got, why, errors,
raw, new (right in what the cell is compared with).
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge.bench import stats
from edge.bench.report.words import change, figure, megabytes, percent, points, said, verdict
from edge.bench.score import Outcome, Score, score, text_of
from edge.errors import EdgeError
from edge.records import Artifact, Json, Measurement, PathLike, Report, digest_value
from edge.records import save as save_record

BASE, TUNED = "base", "tuned"
QUANTILES = 40
NOISY_SPREAD = 2.0
RAW_CHARACTERS = 4000  # of a wrong output; the whole is in the measurement


def build(
    project: str,
    workload: str,
    rows: Sequence[Json],
    measurements: Sequence[Measurement],
    artifacts: Sequence[Artifact] = (),
    *,
    dialect: str,
    sources: Mapping[str, str] | None = None,
    data: Json | None = None,
    missing: Sequence[Json] = (),
    baseline: str = TUNED,
    created_at: str | None = None,
) -> Report:
    """Score every measurement and set it beside what it is to be compared with.

    Args:
        workload: the workload's digest; a measurement of another one is refused.
        rows: `{"id", "prompt", "expected": [{"name", "arguments"}], "user"?, "kind"?}`, all that was to be measured.
        sources: where each measurement's file lies, by subject name; relative to the report.
        data: counts, e.g. {"train": {"read", "rejected"}, "eval": {…}, "shared": 0}.
        missing: what could not be done here: {"what", "why", "hint"}.
        baseline: the name that quantisations are compared with.

    Raises EdgeError for rows that can't be scored and for measurements of another workload.
    """
    _refuse_strangers(measurements, workload)
    ordered = sorted(measurements, key=lambda m: _order(m, baseline))
    scores = [score(rows, m, dialect) for m in ordered]
    known = {a.digest: a for a in artifacts}
    compared = _Compared(ordered, scores, baseline)
    cells = [
        cell_json(m, s, known.get(m.subject), compared.difference(m, s), (sources or {}).get(m.subject_name))
        for m, s in zip(ordered, scores)
    ]
    texts = {row["id"]: said(row) for row in rows}
    wrong = [
        wrong_json(m.subject_name, o, texts[o.row], o.row in compared.right(m))
        for m, s in zip(ordered, scores)
        for o in s.outcomes
        if o.state in ("wrong", "failed")
    ]
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Report(
        project, created_at or now, workload, len(rows), baseline, cells, wrong, dict(data or {}), list(missing)
    )


def save(report: Report, json_path: PathLike, html_path: PathLike | None = None) -> None:
    """Write `report.json` and, where asked for, the page for people."""
    from edge.bench.report import html  # late: the page imports what is here
    from edge.records import write_text

    save_record(report, json_path)
    if html_path is not None:
        write_text(html_path, html.render(report))


def best(report: Report) -> Json | None:
    """The smallest whole artifact that no loss was seen in, or None."""
    fit = [c for c in report.cells if c["kind"] == "quantisation" and c["complete"] and c["bytes"] and _unharmed(c)]
    return min(fit, key=lambda c: int(c["bytes"]), default=None)


def _unharmed(cell: Json) -> bool:
    """Where nothing is right, nothing can be lost: that is no recommendation."""
    change = cell["difference"]
    return bool(change and change["verdict"] in ("gained", "none seen") and cell["accuracy"]["value"])


def headline(report: Report) -> list[str]:
    """What a reader takes away, in one or two sentences of plain text."""
    if not any(c["accuracy"]["n"] for c in report.cells):
        return ["Nothing was measured." if not report.cells else "No measurement produced a single answer."]
    return [sentence for sentence in (_tuning(report), _smallest(report)) if sentence]


def _tuning(report: Report) -> str:
    cell = next((c for c in report.cells if c["name"] == report.baseline and c["accuracy"]["n"]), None)
    if cell is None:
        return f"There is no measurement of {report.baseline} to compare with."
    now, d = percent(cell["accuracy"]["value"]), cell["difference"]
    if d is None:
        low, high = percent(cell["accuracy"]["low"]), percent(cell["accuracy"]["high"])
        return f"The {report.baseline} model gets {now} % of the calls right (95 % interval {low} to {high})."
    before = percent(next(c["accuracy"]["value"] for c in report.cells if c["name"] == d["to"]))
    by = f"{points(d['value'])} points, 95 % interval {points(d['low'])} to {points(d['high'])}"
    if d["verdict"] == "none seen":
        return f"Tuning made no difference that {d['n']} rows can show: {before} % right before, {now} % after ({by})."
    verb = "raised" if d["verdict"] == "gained" else "lowered"
    return f"Tuning {verb} right calls from {before} % to {now} % ({by})."


def _smallest(report: Report) -> str:
    if not any(c["kind"] == "quantisation" for c in report.cells):
        return "No artifact was measured."
    cell = best(report)
    if cell is None:
        return "There is no artifact of which it can be said that nothing was lost."
    ms = cell["call_ms"]["value"]
    speed = f", {figure(ms)} ms for the median call" if ms is not None else ""
    figures = f"{megabytes(cell['bytes'])} MB, {percent(cell['accuracy']['value'])} % right{speed}"
    return f"The smallest artifact with no loss seen is {cell['name']}: {figures}."


def _refuse_strangers(measurements: Sequence[Measurement], workload: str) -> None:
    for m in measurements:
        if m.workload != workload:
            raise EdgeError(
                f"{m.subject_name} was measured on another workload ({m.workload[:12]}, not {workload[:12]})",
                "measure it again: figures from different rows can't stand side by side",
            )


def _order(m: Measurement, baseline: str) -> tuple[int, int, str]:
    """Base, tuned, other checkpoints, then artifacts from the largest to the smallest."""
    place = {BASE: 0, baseline: 1}.get(m.subject_name, 2 if m.subject_kind == "checkpoint" else 3)
    return place, -(m.file_bytes or 0), m.subject_name


def _kind(m: Measurement) -> str:
    if m.subject_kind == "artifact":
        return "quantisation"
    return m.subject_name if m.subject_name in (BASE, TUNED) else "checkpoint"


class _Compared:
    """Which measurement each one is compared with: tuned with base, everything else with the baseline."""

    def __init__(self, measurements: Sequence[Measurement], scores: Sequence[Score], baseline: str) -> None:
        self._scores = {m.subject_name: s for m, s in zip(measurements, scores)}
        self._baseline = baseline

    def to(self, m: Measurement) -> str | None:
        other = BASE if m.subject_name == self._baseline else self._baseline
        return other if other in self._scores and m.subject_name not in (BASE, other) else None

    def right(self, m: Measurement) -> set[str]:
        other = self.to(m)
        return {o.row for o in self._scores[other].outcomes if o.right} if other else set()

    def difference(self, m: Measurement, mine: Score) -> Json | None:
        """Over the rows that both have reached; None if there are none."""
        other = self.to(m)
        if other is None:
            return None
        found = paired(self._scores[other], mine)
        if found.value is None:
            return None
        return difference_json(other, found)


def paired(theirs: Score, mine: Score) -> stats.Difference:
    """`mine` against `theirs` over the rows that both have reached; both of one workload."""
    both = [(a.right, b.right) for a, b in zip(theirs.outcomes, mine.outcomes) if "missing" not in (a.state, b.state)]
    return stats.paired_difference([a for a, _ in both], [b for _, b in both])


def difference_json(to: str, found: stats.Difference) -> Json:
    figures = dataclasses.asdict(found)
    return {"to": to, **figures, "verdict": verdict(figures), "words": change(figures)}


def cell_json(m: Measurement, s: Score, artifact: Artifact | None, difference: Json | None, source: str | None) -> Json:
    states = {state: s.count(state) for state in ("right", "wrong", "failed", "missing")}
    return {
        "name": m.subject_name,
        "kind": _kind(m),
        "subject": m.subject,
        "format": m.format or (artifact.format if artifact else None),
        "quantisation": artifact.quantisation if artifact else None,
        "bytes": m.file_bytes if m.file_bytes is not None else artifact.bytes if artifact else None,
        "rows": {"expected": len(s.outcomes), **states},
        "complete": not states["missing"] and not m.error and bool(s.outcomes),
        "accuracy": _json(s.accuracy),
        "name_accuracy": _json(s.names),
        "parse_rate": _json(s.parsed),
        "tools": {name: _json(e) for name, e in s.tools.items()},
        "kinds": {name: _json(e) for name, e in s.kinds.items()},
        "difference": difference,
        **_speed(m),
        **{name: getattr(m, name) for name in _CIRCUMSTANCES},
        "export_s": artifact.export_s if artifact else None,
        "marks": marks(m, states["missing"]),
        "measurement": {"path": source, "digest": digest_value(dataclasses.asdict(m))},
    }


_CIRCUMSTANCES = (
    "load_s", "peak_rss_bytes", "threads", "load_average_before", "load_average_after", "prefix_cache", "file_cache",
    "temperature_before_c", "temperature_after_c", "clock_before_hz", "clock_after_hz", "throttled", "runtime",
    "runtime_version", "device", "settings", "started_at", "error",
)  # fmt: skip


def _speed(m: Measurement) -> Json:
    done = [s for s in m.samples if not s.error]
    calls = _ms(s.call_s for s in done)
    quantiles = [stats.percentile(calls, i / QUANTILES) for i in range(QUANTILES + 1)] if calls else []
    # The first token comes out of the prefill, so the time from first to last made one token fewer.
    decoded = ((s.completion_tokens - 1 if s.completion_tokens else None, s.decode_s) for s in done)
    return {
        "first_token_ms": _latency(_ms(s.first_token_s for s in done)),
        "call_ms": _latency(calls),
        "call_quantiles_ms": [round(q, 3) for q in quantiles if q is not None],
        "prefill_tokens_per_s": _json(stats.rate((s.prompt_tokens, s.prefill_s) for s in done)),
        "decode_tokens_per_s": _json(stats.rate(decoded)),
    }


def _ms(seconds: Iterable[float | None]) -> list[float]:
    return [s * 1000 for s in seconds if s is not None and math.isfinite(s)]


def _latency(ms: list[float]) -> Json:
    tail = {"p95": stats.percentile(ms, 0.95), "p99": stats.percentile(ms, 0.99), "max": max(ms, default=None)}
    return {**_json(stats.median(ms)), **tail}


def _json(estimate: stats.Estimate) -> Json:
    return dataclasses.asdict(estimate)


def marks(m: Measurement, missing: int) -> list[str]:
    found = [f"noisy: {reason}" for reason in _noise(m)]
    if m.throttled:
        found.append("throttled: the device slowed itself down")
    if m.device.get("emulated"):
        found.append("emulated: not the figures of the device it stands for")
    if missing:
        found.append(f"incomplete: {missing} rows were never reached")
    return found


def _noise(m: Measurement) -> list[str]:
    """Why the timings can't be trusted: a busy machine, or time per token that varies for no reason of its own."""
    reasons = []
    cores = m.device.get("logical_cores") or m.device.get("cores")
    if cores and m.load_average_before is not None and m.load_average_before > cores:
        reasons.append(f"the load average was {m.load_average_before:.1f} on {cores} cores before it began")
    spread = _spread(m)
    if spread and spread > NOISY_SPREAD:
        reasons.append(f"the slowest 5 % of rows took {spread:.1f} times the median or more, for each token")
    return reasons


def _spread(m: Measurement) -> float | None:
    """p95 over p50 of the decoding time per token, or of the whole call where tokens were not timed.

    Per token, since two calls in one answer take longer than one on any machine, and that is no noise.
    """
    done = [s for s in m.samples if not s.error]
    steps = [(s.decode_s, s.completion_tokens) for s in done]
    tokens = [seconds / (count - 1) for seconds, count in steps if seconds and count and count > 1]
    each = tokens or [s.call_s for s in done if s.call_s is not None]
    middle, tail = stats.percentile(each, 0.5), stats.percentile(each, 0.95)
    return tail / middle if middle and tail else None


def wrong_json(subject: str, o: Outcome, text: str, new: bool) -> Json:
    raw = o.text if o.text is None or len(o.text) <= RAW_CHARACTERS else o.text[:RAW_CHARACTERS] + "…"
    found: dict[str, Any] = {"row": o.row, "subject": subject, "state": o.state, "kind": o.kind, "said": text_of(text)}
    calls = {"expected": [c.to_json() for c in o.expected], "got": [c.to_json() for c in o.got]}
    return {**found, **calls, "why": o.why, "errors": list(o.errors), "raw": raw, "new": new}
