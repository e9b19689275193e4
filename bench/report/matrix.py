"""The report of `edge bench`: every cell of artifacts x runtimes x devices x threads, from its records alone.

It is a Report whose cells have, besides what bench/report/__init__.py lists,

    key             "DEVICE/NAME/RUNTIME/THREADS", once in a report;   on: the device's folder
    label           what tells it apart on its device: the name, with runtime and threads where there are several
    emulated        measured on a stand-in; then no timing, memory or energy is in the cell, only whether the calls were right
    call_p95_ms     estimate of p95 (call_ms has that of the median), by drawing rows
    loads           {"cold", "warm"}: estimates of the median load in seconds
    shapes          [{"prefill_tokens", "decode_tokens", "prefill_tokens_per_s", "decode_tokens_per_s"}]: of `rates`
    cpu_s_per_call, energy_j_per_call, cache_bytes, profile, rounds
    vitals          [{"at_s", "round", …}] of the device while this was measured
    front           {"median", "p95"}: whether nothing on this device is both as accurate and as fast and better in one

`difference` is to the float checkpoint, wherever that was measured, over the same rows. An entry of `wrong` is of a cell:
its `subject` is the cell's key. `data` holds "notes" (what was left out), "devices" ({name: facts}), "rates" (of
measurements that have nothing else, as `shapes` with the cell's names) and "agreement" (the same file on two devices:
{"name", "runtime", "devices", "n", "same"}: rows with the same calls).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from edge.bench import report as reports
from edge.bench import stats
from edge.bench.report.folder import Cell, Results
from edge.bench.report.words import figure, megabytes, percent, said
from edge.bench.score import Outcome
from edge.records import Json, Measurement, Report

NOTHING = dataclasses.asdict(stats.Estimate(None, None, None, 0))
# What a stand-in's processor, memory or clock decides, and not the artifact.
_OF_THE_DEVICE: Json = {
    **{key: {**NOTHING, "p95": None, "p99": None, "max": None} for key in ("first_token_ms", "call_ms")},
    **dict.fromkeys(("call_p95_ms", "prefill_tokens_per_s", "decode_tokens_per_s"), NOTHING),
    "call_quantiles_ms": [], "loads": {"cold": NOTHING, "warm": NOTHING}, "shapes": [], "vitals": [],
    **dict.fromkeys((
        "load_s", "peak_rss_bytes", "cpu_s_per_call", "energy_j_per_call", "temperature_before_c", "temperature_after_c",
        "clock_before_hz", "clock_after_hz", "load_average_before", "load_average_after", "throttled"), None),
}  # fmt: skip


def build(results: Results, created_at: str | None = None) -> Report:
    """Everything that can be said of a results folder."""
    ordered = sorted(results.cells, key=lambda c: _order(c, results))
    labels = _labels(ordered)
    cells = [_cell(c, results, labels[c.key]) for c in ordered]
    for device in results.devices:
        _mark_fronts([c for c in cells if c["on"] == device])
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    every = sorted([*results.cells, *results.rates], key=lambda c: len(c.measurement.device))
    facts = {c.device: c.measurement.device for c in every}  # where one did not answer, what another one has told
    data = {
        "notes": results.notes,
        "devices": {d: facts[d] for d in results.devices},
        "rates": [_rates(c) for c in sorted(results.rates, key=lambda c: _order(c, results))],
        "agreement": _agreement(results),
    }
    return Report(
        results.project, created_at or now, results.workload, len(results.rows), results.baseline or "", cells,
        _wrong(ordered, results), data,
    )  # fmt: skip


def headline(report: Report) -> list[str]:
    """How much was measured, and for each real device the smallest artifact that no loss was seen in."""
    artifacts = {c["subject"] for c in report.cells if c["kind"] == "quantisation"}
    if not report.cells:
        return ["Rates alone were measured." if report.data["rates"] else "Nothing was measured."]
    real = [d for d, facts in report.data["devices"].items() if not facts.get("emulated")]
    told = [
        f"{_count(len(artifacts), 'artifact')}, {_count(len(report.data['devices']), 'device')}, {report.rows} rows each."
    ]
    for device in real:
        told.append(_best_sentence(report, device))
    failed = sum(bool(c["error"]) for c in report.cells)
    told += [f"{failed} of {len(report.cells)} measurements failed."] if failed else []
    return [sentence for sentence in told if sentence]


def by_device(report: Report) -> Iterator[tuple[str, Report]]:
    """The cells of each device as a report of their own, in which they are called by their labels."""
    for device in report.data["devices"]:
        cells = [{**c, "name": c["label"]} for c in report.cells if c["on"] == device]
        if cells:
            yield device, dataclasses.replace(report, cells=cells)


def best_on(report: Report, device: str) -> Json | None:
    """The smallest whole artifact there that no loss was seen in; the faster of two runtimes."""
    of = [c for c in report.cells if c["on"] == device and not c["emulated"]]
    best = reports.best(dataclasses.replace(report, cells=of))
    same = [c for c in of if best and c["subject"] == best["subject"] and c["complete"] and c["call_ms"]["value"] is not None
            and (c["difference"] or {}).get("verdict") in ("gained", "none seen")]  # fmt: skip
    return min(same, key=lambda c: float(c["call_ms"]["value"]), default=best)


def _best_sentence(report: Report, device: str) -> str:
    cell = best_on(report, device)
    if cell is None:
        return ""
    ms = cell["call_ms"]["value"]
    speed = f", {figure(ms)} ms for the median call" if ms is not None else ""
    return (
        f"On {device} the smallest with no loss seen is {cell['label']}: {megabytes(cell['bytes'])} MB, "
        f"{percent(cell['accuracy']['value'])} % right{speed}."
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# ---- cells


def _order(cell: Cell, results: Results) -> tuple[int, bool, int, str, str, int]:
    m = cell.measurement
    return (
        results.devices.index(cell.device), cell.is_artifact, -(m.file_bytes or 0), cell.name, m.runtime, m.threads or 0,
    )  # fmt: skip


def _labels(cells: Sequence[Cell]) -> dict[str, str]:
    """Names as short as they can be: a runtime or a number of threads is said only where a device has several."""
    runtimes, threads = Counter[tuple[str, str]](), Counter[tuple[str, str, str]]()
    for device, name, _ in {c.place[:3] for c in cells}:
        runtimes[device, name] += 1
    for place in {c.place for c in cells}:
        threads[place[:3]] += 1
    return {
        c.key: c.name
        + (f" {c.measurement.runtime}" if runtimes[c.place[:2]] > 1 else "")
        + (f" t{c.measurement.threads}" if threads[c.place[:3]] > 1 else "")
        for c in cells
    }


def _cell(cell: Cell, results: Results, label: str) -> Json:
    assert cell.score is not None
    m, reference = cell.measurement, results.reference
    difference = None
    if reference and reference.score and cell.key != reference.key:
        found = reports.paired(reference.score, cell.score)
        difference = reports.difference_json(reference.name, found) if found.value is not None else None
    source = str(cell.file.relative_to(results.folder))
    made = {
        **reports.cell_json(m, cell.score, results.artifacts.get(m.subject), difference, source),
        "name": cell.name,
        "key": cell.key,
        "on": cell.device,
        "label": label,
        "emulated": cell.emulated,
        "call_p95_ms": dataclasses.asdict(stats.quantile([[s * 1000 for s in row] for row in calls_by_row(m).values()], 0.95)),
        "loads": {kind: _load(m, kind) for kind in ("cold", "warm")},
        "shapes": shapes(m),
        "cpu_s_per_call": m.cpu_s / len(m.samples) if m.cpu_s is not None and m.samples else None,
        "energy_j_per_call": m.energy_j / len(m.samples) if m.energy_j is not None and m.samples else None,
        "cache_bytes": m.cache_bytes,
        "profile": m.profile,
        "rounds": len({s.round for s in m.samples if s.round is not None}) or None,
        "vitals": m.vitals,
        "front": {"median": False, "p95": False},
    }  # fmt: skip
    if cell.emulated:
        made |= _OF_THE_DEVICE
        made["marks"] = [mark for mark in made["marks"] if not mark.startswith(("noisy", "throttled"))]
    return made


def calls_by_row(m: Measurement) -> dict[str, list[float]]:
    """Seconds of whole calls, those that gave an answer, by row."""
    found: dict[str, list[float]] = {}
    for s in m.samples:
        if s.call_s is not None and not s.error:
            found.setdefault(s.row, []).append(s.call_s)
    return found


def _load(m: Measurement, kind: str) -> Json:
    """Warm is what is not known to be cold: a phone's file cache can't be asked."""
    loads = m.loads or [{"load_s": m.load_s, "file_cache": m.file_cache}]
    seconds = [load.get("load_s") for load in loads if (load.get("file_cache") or "warm") == kind]
    return dataclasses.asdict(stats.median(seconds))


def shapes(m: Measurement) -> list[Json]:
    """The rates of each shape: so many tokens fed, so many made."""
    found: dict[tuple[int, int], list[Json]] = {}
    for r in m.rates:
        found.setdefault((r.get("prefill_tokens") or 0, r.get("decode_tokens") or 0), []).append(r)
    return [
        {
            "prefill_tokens": fed,
            "decode_tokens": made,
            "prefill_tokens_per_s": dataclasses.asdict(stats.rate((fed, r.get("prefill_s")) for r in each)),
            "decode_tokens_per_s": dataclasses.asdict(stats.rate((made, r.get("decode_s")) for r in each)),
        }
        for (fed, made), each in sorted(found.items())
    ]


def _rates(cell: Cell) -> Json:
    m = cell.measurement
    return {
        "key": cell.key, "on": cell.device, "name": cell.name, "runtime": m.runtime, "threads": m.threads,
        "profile": m.profile, "emulated": cell.emulated, "error": m.error, "started_at": m.started_at,
        "shapes": [] if cell.emulated else shapes(m),
    }  # fmt: skip


# ---- what is seen across cells


def _mark_fronts(cells: Sequence[Json]) -> None:
    for which, key in (("median", "call_ms"), ("p95", "call_p95_ms")):
        both = [c for c in cells if c["kind"] == "quantisation" and c["complete"] and c[key]["value"] is not None]
        for cell in both:
            cell["front"] = {**cell["front"], which: not any(_beats(other, cell, key) for other in both)}


def _beats(one: Json, other: Json, key: str) -> bool:
    """As accurate and as fast, and better in one of both."""
    mine, theirs = ((c["accuracy"]["value"], -c[key]["value"]) for c in (one, other))
    return all(a >= b for a, b in zip(mine, theirs)) and mine != theirs


def _wrong(cells: Iterable[Cell], results: Results) -> list[Json]:
    texts = {row["id"]: said(row) for row in results.rows}
    reference = results.reference
    known = {o.row for o in reference.score.outcomes if o.right} if reference and reference.score else set()
    return [
        reports.wrong_json(c.key, o, texts[o.row], o.row in known and c is not reference)
        for c in cells
        if c.score
        for o in c.score.outcomes
        if o.state in ("wrong", "failed")
    ]


def _agreement(results: Results) -> list[Json]:
    """The same file in the same runtime on two devices: on how many of the rows that both answered the calls are the same."""
    firsts: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in sorted(results.cells, key=lambda c: _order(c, results)):
        if cell.is_artifact and cell.score and len(cell.score.outcomes) > cell.missing:
            of = firsts.setdefault((cell.measurement.subject, cell.measurement.runtime), {})
            of.setdefault(cell.device, cell)  # of several numbers of threads the fewest: they change no call
    found = []
    for (_, runtime), of in firsts.items():
        for a, b in combinations(of.values(), 2):
            assert a.score and b.score
            both = [(x, y) for x, y in zip(a.score.outcomes, b.score.outcomes) if _answered(x) and _answered(y)]
            same = sum(_said_same(x, y) for x, y in both)
            found.append(
                {"name": a.name, "runtime": runtime, "devices": [a.device, b.device], "n": len(both), "same": same}
            )
    return found


def _answered(o: Outcome) -> bool:
    return o.state in ("right", "wrong")


def _said_same(a: Outcome, b: Outcome) -> bool:
    return [c.to_json() for c in a.got] == [c.to_json() for c in b.got] and a.errors == b.errors
