"""Scores, the report's cells, and the page: what it says, that it is whole, and that no model can write into it."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pages
import pytest
from rich.console import Console

from edge import records
from edge.bench import report as reports
from edge.bench.report import charts, html, table, words
from edge.bench.score import score
from edge.errors import EdgeError
from edge.records import Artifact, Measurement, Report, Sample

WORKLOAD = "ab" * 32
HOSTILE = "</script></pre><img src=x onerror=alert(1)>\x00\x1b[31m\u202e & \uffff"


def call(city: str, name: str = "get_weather") -> dict[str, Any]:
    return {"name": name, "arguments": {"city": city, "days": 2}}


def text(city: str, name: str = "get_weather") -> str:
    return f"<start_function_call>call:{name}{{city:<escape>{city}<escape>,days:2}}<end_function_call>"


def workload(n: int) -> list[dict[str, Any]]:
    prompt = "<start_of_turn>user\nweather in {0}?<end_of_turn>\n<start_of_turn>model\n"
    return [
        {"id": f"r{i}", "prompt": prompt.format(i), "expected": [call(f"c{i}")], "kind": "single"} for i in range(n)
    ]


def sample(i: int, right: bool = True, **changes: Any) -> Sample:
    timed = {"prompt_tokens": 100, "completion_tokens": 11, "prefill_s": 0.05, "first_token_s": 0.06, "decode_s": 0.1}
    fields = {
        "row": f"r{i}",
        "text": text(f"c{i}" if right else "elsewhere"),
        **timed,
        "call_s": 0.16 + i / 1e4,
        **changes,
    }
    return Sample(**fields)


def untimed(i: int, right: bool) -> Sample:
    return Sample(row=f"r{i}", text=text(f"c{i}" if right else "elsewhere"))


def measured(name: str, samples: list[Sample], **changes: Any) -> Measurement:
    kind = "checkpoint" if name in ("base", "tuned") else "artifact"
    fields: dict[str, Any] = {
        "subject": records.digest_value(name), "subject_name": name, "subject_kind": kind, "runtime": "fake",
        "runtime_version": "fake 1", "device": {"name": "local", "logical_cores": 2, "memory_bytes": 8_000_000_000},
        "workload": WORKLOAD, "threads": 2, "samples": samples, "load_average_before": 0.5, "load_average_after": 1.0,
    }  # fmt: skip
    if kind == "artifact":
        fields |= {"file_bytes": 5_000_000, "load_s": 0.1, "peak_rss_bytes": 60_000_000, "format": "gguf"}
    return Measurement(**{**fields, **changes})


def usual(n: int = 40) -> Report:
    """Base is never right, tuned nearly always, q8 as tuned, q4 half as often."""
    runs = [
        measured("q4", [sample(i, i % 2 == 0) for i in range(n)], file_bytes=3_000_000),
        measured("base", [untimed(i, False) for i in range(n)]),
        measured("q8", [sample(i, i > 0) for i in range(n)]),
        measured("tuned", [untimed(i, i > 0) for i in range(n)]),
    ]
    return build(workload(n), runs)


def build(rows: list[dict[str, Any]], runs: list[Measurement], **options: Any) -> Report:
    return reports.build("demo", WORKLOAD, rows, runs, dialect="functiongemma", **options)


def cell(report: Report, name: str) -> dict[str, Any]:
    return next(c for c in report.cells if c["name"] == name)


# ---- scores


def test_states_of_a_row() -> None:
    samples = [
        sample(0),
        sample(1, right=False),
        sample(2, text=None, error="context too short"),
        sample(3, text=text("c3") + "<start_function_call>call:get_weather{city:"),
    ]
    found = score(workload(5), measured("q8", samples), "functiongemma")
    assert [o.state for o in found.outcomes] == ["right", "wrong", "failed", "wrong", "missing"]
    assert found.outcomes[2].why == "context too short"
    assert found.outcomes[3].errors and found.outcomes[3].why
    assert (found.accuracy.value, found.accuracy.n) == (0.25, 4)
    assert (found.names.value, found.parsed.value) == (0.75, 0.5)
    assert found.tools["get_weather"].n == found.kinds["single"].n == 4


def test_values_are_typed_and_silence_can_be_right() -> None:
    rows = [{"id": "a", "expected": [call("x")]}, {"id": "b", "expected": []}]
    samples = [Sample("a", text("x").replace("days:2", "days:2.0")), Sample("b", "I can't do that.")]
    found = score(rows, measured("q8", samples), "functiongemma")
    assert [o.state for o in found.outcomes] == ["wrong", "right"]
    assert set(found.tools) == {"get_weather", "(no call)"}


def test_half_a_surrogate_pair_is_no_text_that_a_file_can_hold() -> None:
    found = score(workload(1), measured("q8", [Sample("r0", text("c0") + "\ud800")]), "functiongemma")
    assert (found.outcomes[0].text or "").encode().endswith(b"?") and found.outcomes[0].right


def test_a_group_counts_a_row_once() -> None:
    rows = [{"id": "r0", "expected": [call("a"), call("b")]}]
    assert score(rows, measured("q8", [sample(0)]), "functiongemma").tools["get_weather"].n == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a"}], "row 1"),
        ([{"expected": []}], "row 1"),
        ([{"id": "a", "expected": []}, {"id": "a", "expected": []}], "used twice"),
        ([{"id": "a", "expected": "get_weather"}], "row a"),
    ],
)
def test_a_bad_workload_is_named(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        score(rows, measured("q8", []), "functiongemma")


# ---- cells


def test_order_and_differences() -> None:
    report = usual()
    assert [c["name"] for c in report.cells] == ["base", "tuned", "q8", "q4"]
    assert [c["kind"] for c in report.cells] == ["base", "tuned", "quantisation", "quantisation"]
    assert cell(report, "base")["difference"] is None
    tuned, q8, q4 = (cell(report, name)["difference"] for name in ("tuned", "q8", "q4"))
    assert (tuned["to"], tuned["verdict"], tuned["gained"]) == ("base", "gained", 39)
    assert (q8["to"], q8["verdict"], q8["value"]) == ("tuned", "none seen", 0)
    assert re.fullmatch(r"no difference seen \(±\d+\.\d\)", q8["words"])
    assert (q4["verdict"], q4["lost"], q4["gained"], q4["words"]) == ("lost", 20, 1, "lost")


def test_speed_comes_from_the_samples() -> None:
    q8 = cell(usual(), "q8")
    assert q8["prefill_tokens_per_s"]["value"] == pytest.approx(2000)
    assert q8["decode_tokens_per_s"]["value"] == pytest.approx(100), "the first token is the prefill's"
    assert q8["first_token_ms"]["value"] == pytest.approx(60)
    assert q8["call_ms"]["value"] == pytest.approx(161.95)
    assert q8["call_ms"]["low"] < q8["call_ms"]["value"] < q8["call_ms"]["high"] < q8["call_ms"]["p95"]
    assert len(q8["call_quantiles_ms"]) == 41 and q8["call_quantiles_ms"] == sorted(q8["call_quantiles_ms"])
    tuned = cell(usual(), "tuned")
    assert tuned["call_ms"]["value"] is tuned["decode_tokens_per_s"]["value"] is tuned["load_s"] is None
    assert tuned["call_quantiles_ms"] == []


def test_wrong_calls_are_listed_and_the_new_ones_marked() -> None:
    wrong = [w for w in usual().wrong if w["subject"] == "q4"]
    assert len(wrong) == 20 and all(w["new"] for w in wrong)
    first = wrong[0]
    assert (first["row"], first["said"]) == ("r1", "weather in 1?")
    assert first["expected"][0]["arguments"]["city"] == "c1" and first["got"][0]["arguments"]["city"] == "elsewhere"
    assert first["raw"] == text("elsewhere") and "city" in first["why"]
    assert not any(w["new"] for w in usual().wrong if w["subject"] == "q8"), "tuned had that one wrong too"


def test_an_incomplete_measurement_says_so_and_is_compared_on_what_it_has() -> None:
    stopped = measured("q8", [sample(i) for i in range(10)], error={"kind": "crash", "message": "killed", "hint": None})
    report = build(workload(40), [measured("tuned", [untimed(i, True) for i in range(40)]), stopped])
    q8 = cell(report, "q8")
    assert q8["rows"] == {"expected": 40, "right": 10, "wrong": 0, "failed": 0, "missing": 30}
    assert not q8["complete"] and q8["difference"]["n"] == 10
    assert q8["marks"] == ["incomplete: 30 rows were never reached"]
    assert reports.best(report) is None
    assert "killed" in html.render(report) and "killed" in table.markdown(report)


def test_noise_is_marked() -> None:
    busy = measured("a", [sample(i) for i in range(20)], load_average_before=3.0)
    slow = [sample(i, decode_s=0.1 if i % 5 else 0.5) for i in range(20)]
    longer = [sample(i, decode_s=0.1 if i % 5 else 0.5, completion_tokens=11 if i % 5 else 51) for i in range(20)]
    runs = [busy, measured("b", slow), measured("c", longer), measured("d", [], throttled=True)]
    report = build(workload(20), runs)
    assert "load average was 3.0 on 2 cores" in cell(report, "a")["marks"][0]
    assert cell(report, "b")["marks"][0].startswith("noisy: the slowest 5 %")
    assert cell(report, "c")["marks"] == [], "a longer answer is no noise"
    assert cell(report, "d")["marks"][0].startswith("throttled")
    assert "a ~" in table.markdown(report)


def test_the_artifact_adds_what_it_knows() -> None:
    run = measured("q8_0", [sample(0)], file_bytes=None)
    made = Artifact(run.subject, "m.gguf", "gguf", "q8_0", 4_200_000, "c", "functiongemma", "gguf", export_s=1.5)
    report = build(workload(1), [run], artifacts=[made], sources={"q8_0": "measurements/q8_0.json"})
    found = report.cells[0]
    assert (found["bytes"], found["quantisation"], found["export_s"]) == (4_200_000, "q8_0", 1.5)
    assert found["measurement"]["path"] == "measurements/q8_0.json" and len(found["measurement"]["digest"]) == 64


def test_another_workload_is_refused() -> None:
    with pytest.raises(EdgeError, match="another workload"):
        build(workload(1), [measured("q8", [sample(0)], workload="cd" * 32)])


def test_the_headline_says_what_the_intervals_carry() -> None:
    gain, best = reports.headline(usual())
    assert gain.startswith("Tuning raised right calls from 0.0 % to 97.5 % (+97.5 points")
    assert best.startswith("The smallest artifact with no loss seen is q8: 5.00 MB, 97.5 % right, 162 ms")
    same = [measured(name, [untimed(i, i > 9) for i in range(20)]) for name in ("base", "tuned")]
    assert "made no difference that 20 rows can show" in reports.headline(build(workload(20), same))[0]
    nothing = [measured(name, [untimed(i, False) for i in range(20)]) for name in ("tuned", "q8")]
    assert reports.best(build(workload(20), nothing)) is None, "where nothing is right, nothing can be lost"


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"user": "hello", "prompt": "x"}, "hello"),
        ({"prompt": "<|im_start|>user\nfirst<|im_end|><|im_start|>user\nsecond\nline<|im_end|>"}, "second\nline"),
        ({"prompt": "a" * 500}, "…" + "a" * 240),
        ({}, ""),
    ],
)
def test_what_the_user_said(row: dict[str, Any], shown: str) -> None:
    assert words.said(row) == shown


# ---- the page


def test_the_page_is_whole_and_says_it() -> None:
    report = usual()
    page = pages.read(html.render(report))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1 and "caption" in tags
    assert all("aria-labelledby" in a for tag, a in page.tags if a.get("class") == "chart")
    assert all(a["tabindex"] == "0" and a["aria-label"] for _, a in page.tags if a.get("class") == "scroll")
    for shown in ("Tuning raised", "no difference seen", "lost", "q8", "weather in 1?", "Bonett and Price"):
        assert shown in page.text
    assert html.render(report) == html.render(report)


def test_a_hostile_model_stays_text() -> None:
    said = text(HOSTILE)
    samples = [sample(0, text=HOSTILE), sample(1, text=said), sample(2, text=None, error=HOSTILE)]
    error = {"kind": HOSTILE, "message": HOSTILE, "hint": HOSTILE}
    run = measured(f"q{HOSTILE[:-2]}", samples, device={"name": "<b>", HOSTILE[:-2]: HOSTILE[:-2]}, error=error)
    rows = [{**row, "user": HOSTILE, "kind": HOSTILE[:-2]} for row in workload(3)]
    report = build(rows, [run, measured("tuned", [untimed(i, True) for i in range(3)])], missing=[{"what": HOSTILE}],
                   data={HOSTILE: HOSTILE})  # fmt: skip
    page = pages.read(html.render(dataclasses.replace(report, project=HOSTILE)))
    assert "<img src=x onerror=alert(1)>" in page.text


def cases() -> dict[str, Report]:
    n = 20
    failed = {"kind": "crash", "message": "died", "hint": None}
    tuned = measured("tuned", [untimed(i, True) for i in range(n)])
    zero = [sample(i, call_s=0.0, first_token_s=0.0, decode_s=0.0, prefill_s=0.0) for i in range(n)]
    odd = [sample(i, call_s=float("nan"), first_token_s=float("inf")) for i in range(n)]
    timed = [sample(i) for i in range(n)]
    return {
        "nothing": build([], []),
        "no rows": build([], [tuned, measured("q8", [])]),
        "all wrong": build(workload(n), [measured(m, [sample(i, False) for i in range(n)]) for m in ("tuned", "q8")]),
        "all failed": build(workload(n), [measured(m, [], error=failed) for m in ("base", "tuned", "q8", "q4")]),
        "no latency": build(workload(n), [tuned, measured("q8", [untimed(i, True) for i in range(n)])]),
        "zero latency": build(workload(n), [tuned, measured("q8", zero)]),
        "no number": build(workload(n), [measured("q8", odd)]),
        "one row": build(workload(1), [measured("q8", [sample(0)])]),
        "no size": build(workload(n), [measured("q8", timed, file_bytes=None)]),
        "many": build(workload(n), [measured(f"q{i}", timed) for i in range(12)]),
        "timed checkpoints": build(workload(n), [measured("base", timed), measured("tuned", timed)]),
        "foreign device": build(workload(n), [measured("q8", timed, device={})]),
    }


@pytest.mark.parametrize(("name", "report"), cases().items(), ids=cases().keys())
def test_edges_can_be_shown(name: str, report: Report, tmp_path: Path) -> None:
    pages.read(html.render(report))
    assert table.markdown(report)
    Console(width=100, file=io.StringIO()).print(table.render(report))
    reports.save(report, tmp_path / "report.json", tmp_path / "report.html")
    assert records.load(Report, tmp_path / "report.json") == json_form(report)


def json_form(report: Report) -> Report:
    return Report(**json.loads(json.dumps(dataclasses.asdict(report))))


def test_long_lists_are_cut_and_counted() -> None:
    rows = workload(300)
    wordy = "<start_function_call>call:get_weather{city:<escape>" + "x" * 3000 + "<escape>}<end_function_call>"
    runs = [measured(f"q{k}", [sample(i, text=wordy) for i in range(300)]) for k in range(5)]
    report = build(rows, [measured("tuned", [untimed(i, True) for i in range(300)]), *runs])
    page = html.render(report)
    assert "270 more are in report.json" in page
    assert len(page.encode()) < 300_000


# ---- charts and tables


def labels(drawn: str) -> list[charts.Box]:
    found = re.findall(r'class="label t\d" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)<', drawn)
    wide = [(float(x) - (8 * len(t) if a == "end" else 0), float(y), 8 * len(t)) for x, y, a, t in found]
    return [charts.Box(x, y - 11, x + size, y + 3) for x, y, size in wide]


@pytest.mark.parametrize(("width", "height"), [(1000, 470), (350, 400)])
def test_labels_keep_off_each_other(width: int, height: int) -> None:
    n, names = 100, ["f16", "q8_0", "q6_k", "q4_k_m", "q4_0-emb-q4_0"]
    runs = [
        measured(q, [sample(i, i % 9 > k % 3) for i in range(n)], file_bytes=4_000_000 + k) for k, q in enumerate(names)
    ]
    report = build(workload(n), runs)
    drawn = charts.scatter(report.cells, {name: i for i, name in enumerate(names)}, width, height)
    boxes = labels(drawn)
    assert len(boxes) == 5
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(b.left >= 0 and b.right <= width and b.top >= 0 and b.bottom <= height for b in boxes)


def test_the_scatter_holds_what_was_measured() -> None:
    report = usual()
    drawn = charts.scatter(report.cells, {"q8": 0, "q4": 1}, 1000, 470)
    assert drawn.count('<g class="dot') == 2
    assert "tuned 97.5 %" in drawn and "base 0.0 %" in drawn
    radii = {m[0]: float(m[1]) for m in re.findall(r"<title>(q\d):.*?<circle cx=\S+ cy=\S+ r=\"([\d.]+)\"", drawn)}
    assert (radii["q4"] / radii["q8"]) ** 2 == pytest.approx(3 / 5, abs=0.02), "the area is the size"


@pytest.mark.parametrize(
    ("values", "least"),
    [([0.0, 0.0], 0.1), ([1.0, 1.0], 0.1), ([0.1, 0.93], 0.1), ([3.2, 4000.0], 1e-6), ([7e-7], 1e-6)],
)
def test_axes_hold_their_values(values: list[float], least: float) -> None:
    found = charts.axis(values, 0, 100, 5, least)
    assert found.low <= min(values) and max(values) <= found.high
    assert 2 <= len(found.ticks) <= 13


def test_the_terminal_table_fits() -> None:
    report = usual()
    report.cells[2]["name"] = "q4_0-emb-q4_0 [bold]"[:16]
    printer = Console(width=100, file=io.StringIO())
    with printer.capture() as printed_to:
        printer.print(table.render(report))
    lines = printed_to.get().splitlines()
    assert max(map(len, lines)) <= 100
    printed = "\n".join(lines)
    assert "…" not in printed
    assert "97.5 [87–100]" in printed and "161.95" not in printed and "162/164" in printed


@pytest.mark.parametrize("width", [150, 100, 90, 80, 70, 60, 50, 40, 30])
def test_no_figure_of_the_terminal_table_is_ever_cut(width: int) -> None:
    """Columns are left out whole, and that is said."""
    report = usual()
    one = copy.deepcopy(report.cells[2])
    one |= {"name": "litertlm-int8-chat", "bytes": 286_000_000, "peak_rss_bytes": 1_234_000_000}
    one["call_ms"] |= {"value": 457.0, "p95": 1044.0}
    one["prefill_tokens_per_s"]["value"], one["decode_tokens_per_s"]["value"] = 21_476.0, 4_460.0
    report.cells.append(one)
    printer = Console(width=width, file=io.StringIO())
    with printer.capture() as printed_to:
        printer.print(table.render(report))
    printed = printed_to.get()
    assert max(map(len, printed.splitlines())) <= width
    flat = " ".join(printed.split())
    left_out = flat.partition("left out: ")[2].partition("; the whole table takes 102 columns")[0].split(", ")
    assert (left_out == [""]) == (width == 150)
    row = next(line for line in printed.splitlines() if line.startswith("lite"))
    for head, value in zip(table.COLUMNS[1:], table._values(one)[1:]):
        head = head.replace("\n", " ")
        assert (value.strip() in row) != (head in left_out), (head, row)
    if width == 80:
        assert row.startswith("litertlm-int8-chat ") and row.endswith("457/1,044 1,234"), "the shape that it was cut in"


def test_markdown_is_one_line_a_cell() -> None:
    report = usual()
    report.cells[2]["name"] = "a|b"
    rows = [line for line in table.markdown(report).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert "a\\|b" in rows[4]
    assert "+97.5" in rows[3] and "\\*" in rows[3]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0.00"), (0.0123, "0.012"), (1.234, "1.23"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1,234")],
)
def test_figures_keep_three_digits(value: float | None, shown: str) -> None:
    assert words.figure(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0.0"), (-0.0001, "0.0"), (-0.012, "−1.2"), (0.2, "+20.0")]
)
def test_points_carry_their_sign(value: float | None, shown: str) -> None:
    assert words.points(value) == shown
