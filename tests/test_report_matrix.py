"""The report of `edge bench`: what it takes from a results folder, what it says of emulated devices, the page and the tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pages
import pytest
from benchresults import PI, REAL, Folder
from click.testing import CliRunner, Result

from edge import records
from edge.bench.report import device_charts, folder, matrix, matrix_page, matrix_text
from edge.commands.report import report as command
from edge.errors import EdgeError
from edge.records import Report

HOSTILE = "</script></pre><img src=x onerror=alert(1)>\x00\x1b[31m\u202e & \uffff"


def usual(path: Path, n: int = 100) -> Folder:
    """A Pi and its stand-in: q8_0 as the checkpoint, q4_0 faster and half as good, one that died, rates alone."""
    made = Folder(path, n)
    made.tuned(wrong=range(5))
    loads = [{"load_s": 0.4, "file_cache": "cold", "round": 0}, {"load_s": 0.1, "file_cache": "warm", "round": 1}]
    rates = [{"prefill_tokens": 512, "prefill_s": 1.0, "decode_tokens": 128, "decode_s": 4.0, "round": 0}] * 7
    vitals = [{"at_s": 10.0 * i, "round": i // 3, "temperature_c": 50.0 + i, "clock_hz": 2.4e9 - 2e8 * i, "load_average": 1.0,
               "throttled": i > 4, "energy_j": None, "available_bytes": None} for i in range(6)]  # fmt: skip
    made.add("q8_0", samples=made.samples(range(5), 0.2), file_bytes=5_000_000, loads=loads, rates=rates, vitals=vitals,
             throttled=True, cpu_s=40.0, energy_j=n * 2.0, cache_bytes=1_000_000)  # fmt: skip
    made.add("q4_0", samples=made.samples(range(50), 0.1), file_bytes=3_000_000)
    made.add("q2_k", samples=[], error={"kind": "crash", "message": "ended by SIGILL", "hint": "needs LSE atomics"})
    made.add(
        "q8_0", "stand-in", samples=made.samples(range(7), 9.87), device={**PI, "emulated": True}, file_bytes=5_000_000
    )
    alone = dataclasses.replace(
        REAL, subject=records.digest_value("q8_0"), samples=[], rates=rates, profile="llama-bench", device=PI
    )
    made.put(alone, "pi5", "q8_0.llama_cpp.t4.llama-bench.json")
    return made


def build(made: Folder) -> Report:
    return matrix.build(folder.read(made.path))


def cell(report: Report, name: str, device: str = "pi5") -> dict[str, Any]:
    return next(c for c in report.cells if (c["name"], c["on"]) == (name, device))


# ---- what is read


def test_cells_come_from_the_records(tmp_path: Path) -> None:
    report = build(usual(tmp_path))
    assert list(report.data["devices"]) == ["local", "pi5", "stand-in"]
    q8 = cell(report, "q8_0")
    assert (q8["key"], q8["label"], q8["difference"]["to"]) == ("pi5/q8_0/llama_cpp/4", "q8_0", "tuned")
    assert q8["difference"]["verdict"] == "none seen" and cell(report, "q4_0")["difference"]["verdict"] == "lost"
    assert (q8["loads"]["cold"]["value"], q8["loads"]["warm"]["value"]) == (0.4, 0.1)
    assert (
        q8["shapes"][0]["prefill_tokens_per_s"]["value"] == 512
        and q8["shapes"][0]["decode_tokens_per_s"]["value"] == 32
    )
    assert (q8["cpu_s_per_call"], q8["energy_j_per_call"], q8["cache_bytes"]) == (0.4, 2.0, 1_000_000)
    p95 = q8["call_p95_ms"]
    assert p95["low"] < p95["value"] < p95["high"] and p95["value"] == pytest.approx(q8["call_ms"]["p95"])
    assert q8["front"] == {"median": True, "p95": True} == cell(report, "q4_0")["front"]
    assert cell(report, "q2_k")["error"]["message"] == "ended by SIGILL"
    assert [r["profile"] for r in report.data["rates"]] == ["llama-bench"]
    assert report.data["agreement"] == [
        {"name": "q8_0", "runtime": "llama_cpp", "devices": ["pi5", "stand-in"], "n": 100, "same": 98}
    ]


def test_a_load_whose_file_cache_nobody_could_ask_for_is_told(tmp_path: Path) -> None:
    """As on a phone, where the server and its files are not the agent's."""
    made = usual(tmp_path)
    loads = [{"load_s": s, "file_cache": None, "round": n} for n, s in enumerate((2.5, 1.5))]
    made.add("q8_0", "pi5", threads=3, samples=made.samples(range(3), 0.1), loads=loads)
    found = next(c for c in build(made).cells if c["threads"] == 3)
    assert found["loads"]["cold"]["value"] is None and found["loads"]["warm"]["value"] == 2.0


def test_what_is_dominated_is_off_the_front(tmp_path: Path) -> None:
    made = usual(tmp_path)
    made.add("slow", samples=made.samples(range(6), 0.3))
    report = build(made)
    assert not cell(report, "slow")["front"]["median"] and cell(report, "q4_0")["front"]["median"]


def test_an_emulated_device_has_no_times_anywhere(tmp_path: Path) -> None:
    made = usual(tmp_path)
    report = build(made)
    found = cell(report, "q8_0", "stand-in")
    assert found["emulated"] and found["accuracy"]["value"] == 0.93
    for key in ("call_ms", "call_p95_ms", "first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s"):
        assert found[key]["value"] is None, key
    for key in ("load_s", "peak_rss_bytes", "cpu_s_per_call", "energy_j_per_call", "throttled", "load_average_before"):
        assert found[key] is None, key
    assert not found["vitals"] and not found["call_quantiles_ms"] and not found["front"]["median"]
    page = matrix_page.render(report)
    before, after = page.split("Emulated: no device’s figures")
    assert "stand-in" not in before.split("<main>")[1] and 'aria-label="Answers on stand-in, emulated"' in after
    line = next(c for c in csv.DictReader(io.StringIO(matrix_text.table(report))) if c["on"] == "stand-in")
    assert (line["emulated"], line["accuracy"]) == ("True", "0.93")
    assert line["call_ms_median"] == line["peak_rss_bytes"] == ""


def forms(made: Folder) -> list[str]:
    """All forms of the report, but for the digest of the records."""
    report = matrix.build(folder.read(made.path), created_at="2026-11-21T10:00:00+00:00")
    texts = [
        matrix_page.render(report),
        matrix_text.markdown(report),
        matrix_text.table(report),
        json.dumps(report.cells),
    ]
    return [re.sub(r'"digest": "\w+"', "", text) for text in texts]


@pytest.mark.parametrize("emulated", [True, False])
def test_an_emulator_s_speed_and_memory_change_nothing_in_a_report(tmp_path: Path, emulated: bool) -> None:
    """Another speed, memory and temperature on the stand-in: not a letter differs; of a real device every form does."""
    made = usual(tmp_path)
    device = {**PI, "emulated": emulated}
    made.add("q8_0", "stand-in", samples=made.samples(range(7), 3.0), device=device, file_bytes=5_000_000)
    before = forms(made)
    vitals = [{"at_s": at, "round": 0, "temperature_c": 70.0, "throttled": True} for at in (0.0, 60.0)]
    made.add("q8_0", "stand-in", samples=made.samples(range(7), 9.0), device=device, file_bytes=5_000_000, vitals=vitals,
             peak_rss_bytes=10**9, load_s=77.0, cpu_s=5000.0, energy_j=900.0, throttled=True, load_average_before=99.0,
             rates=[{"prefill_tokens": 8, "prefill_s": 2.0, "decode_tokens": 8, "decode_s": 2.0, "round": 0}])  # fmt: skip
    assert [a == b for a, b in zip(before, forms(made))] == [emulated] * 4


def test_a_phone_s_own_record_is_read(tmp_path: Path) -> None:
    """As the generated Android app writes it: unknown keys left out, one more name for the same file."""
    made = usual(tmp_path)
    sample = {"row": "r0", "text": "<start_function_call>call:get_weather{city:<escape>c0<escape>}<end_function_call>",
              "call_s": 0.4, "prompt_tokens": 80, "completion_tokens": 12, "first_token_s": 0.2}  # fmt: skip
    told = {
        "schema": 1, "subject": records.digest_value("q8_0"), "subject_name": "app-q8", "subject_kind": "artifact",
        "format": "litertlm", "runtime": "litert_lm_android", "runtime_version": "0.18.1", "workload": made.digest, "threads": 4,
        "device": {"name": "Pixel 8", "emulated": False, "os": "Android 15"}, "file_bytes": 5_000_000, "prefix_cache": False,
        "file_cache": "warm", "settings": {"limit": 1}, "started_at": "2026-11-21T12:00:00+00:00", "load_s": 0.9,
        "peak_rss_bytes": 300_000_000, "throttled": False, "samples": [sample], "of_the_app": True,
    }  # fmt: skip
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "measurement.json").write_text(json.dumps(told))
    found = cell(build(made), "q8_0", "phone")
    assert (found["runtime"], found["rows"]["right"], found["call_ms"]["value"]) == ("litert_lm_android", 1, 400)
    assert found["marks"] == ["incomplete: 99 rows were never reached"] and found["loads"]["warm"]["value"] == 0.9
    told |= {"subject": "ff" * 32, "subject_name": "q8_0"}
    (tmp_path / "phone" / "measurement.json").write_text(json.dumps(told))
    assert cell(build(made), "q8_0@ffffffff", "phone"), "of another file than the folder's own q8_0"


def test_several_workloads(tmp_path: Path) -> None:
    usual(tmp_path)
    new = Folder(tmp_path, 30, salt="again")
    new.add("q6_k", started_at="2026-11-22T10:00:00+00:00")
    results = folder.read(tmp_path)
    assert results.workload == new.digest and [c.name for c in results.cells] == ["q6_k"]
    assert "the newest; measurements of other rows are left out" in results.notes[0]
    old = next(f.stem for f in (tmp_path / "workloads").iterdir() if f.stem != new.digest[:12])
    assert len(folder.read(tmp_path, old[:6]).cells) == 5
    with pytest.raises(EdgeError, match="no workloads begin with 'xyz'"):
        folder.read(tmp_path, "xyz")


def test_of_two_of_the_same_cell_the_newer_counts(tmp_path: Path) -> None:
    made = Folder(tmp_path, 10)
    first = made.add("q8_0")
    made.put(dataclasses.replace(first, started_at="2026-11-21T11:00:00+00:00", peak_rss_bytes=7), "pi5", "again.json")
    results = folder.read(tmp_path)
    assert [c.measurement.peak_rss_bytes for c in results.cells] == [7]
    assert "q8_0.llama_cpp.t4.json: left out, again.json is newer" in results.notes[0]


def break_index(made: Folder) -> None:
    made.set(schema=99)


def break_measurement(made: Folder) -> None:
    file = made.path / "pi5" / "q8_0.llama_cpp.t4.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 99}))


def break_rows(made: Folder) -> None:
    file = made.path / "workloads" / f"{made.digest[:12]}.jsonl"
    file.write_text(file.read_text() + "\n")


def drop_rows(made: Folder) -> None:
    (made.path / "workloads" / f"{made.digest[:12]}.jsonl").unlink()


def drop_index(made: Folder) -> None:
    (made.path / "bench.json").unlink()


def cut_index(made: Folder) -> None:
    (made.path / "bench.json").write_text('{"schema": 1,')


def cut_measurement(made: Folder) -> None:
    (made.path / "pi5" / "q8_0.llama_cpp.t4.json").write_text("{")


def drop_devices(made: Folder) -> None:
    for file in made.path.glob("*/*.json"):
        file.unlink()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (break_index, r"bench\.json: written by a newer edge \(schema 99"),
        (break_measurement, r"q8_0\.llama_cpp\.t4\.json: written by a newer edge"),
        (break_rows, r"\.jsonl: altered"),
        (drop_rows, r"\.jsonl: missing"),
        (drop_index, r"no bench\.json"),
        (cut_index, r"bench\.json.*not JSON"),
        (cut_measurement, r"t4\.json.*not JSON"),
        (drop_devices, "nothing was measured yet"),
    ],
)
def test_a_folder_that_can_not_be_read(tmp_path: Path, fault: Any, message: str) -> None:
    made = usual(tmp_path, 20)
    folder.read(tmp_path)
    fault(made)
    with pytest.raises(EdgeError, match=message):
        folder.read(tmp_path)


def test_the_folder_of_a_run_is_told_from_one_of_a_bench(tmp_path: Path) -> None:
    for name in ("report.json", "report.html"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(EdgeError) as caught:
        folder.read(tmp_path)
    assert "results of edge run" in str(caught.value.hint)
    with pytest.raises(EdgeError, match="no such folder"):
        folder.read(tmp_path / "nowhere")


def test_results_of_other_rows_are_named(tmp_path: Path) -> None:
    """A small bench put them aside: every form says so, and the folder that it names can be shown."""
    made = usual(tmp_path / "results", 20)
    assert "other rows" not in "".join(build(made).data["notes"])
    old = Folder(made.path / "earlier" / "c9c1", 50, salt=" then")
    for name in ("q8_0", "q4_0", "q2_k", "f16"):
        old.add(name)
    (made.path / "earlier" / "broken").mkdir()
    (made.path / "earlier" / "broken" / "bench.json").write_text("{")
    (note,) = build(made).data["notes"]
    assert note.startswith("4 artifacts were measured over other rows (50, workload c9c1): ")
    (place,) = re.findall(r"edge report (\S+)", note)
    assert json.loads(run("--json", place).stdout)["rows"] == 50
    report = build(made)
    assert note in pages.read(matrix_page.render(report)).text and note in run("--md", made.path).stdout
    assert json.loads(run("--json", made.path).stdout)["data"]["notes"] == [note]


def test_a_mark_is_told_once(tmp_path: Path) -> None:
    """Noisy for two reasons is noisy."""
    made = Folder(tmp_path, 40)
    slow = [dataclasses.replace(s, decode_s=9.0) if i % 10 == 0 else s for i, s in enumerate(made.samples())]
    made.add("q8_0", samples=slow, load_average_before=99.0)
    report = build(made)
    assert [mark.partition(":")[0] for mark in report.cells[0]["marks"]] == ["noisy", "noisy"]
    assert matrix_text.markdown(report).count("noisy") == 1
    assert matrix_page.render(report).count('<small class="mark">noisy</small>') == 1


# ---- the page


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    page = pages.read(matrix_page.render(build(usual(tmp_path))))
    for shown in ("3 artifacts, 3 devices", "lost", "no difference seen", "ended by SIGILL",
                  "throttled", "temperature", "clock", "llama-bench", "weather in 7?", "Do devices agree?", "Pareto"):  # fmt: skip
        assert shown in page.text, shown
    charts = [a for tag, a in page.tags if a.get("class") == "chart"]
    assert len(charts) == 2 * 5, "median, p95, latencies, memory and temperature of the Pi, wide and narrow"
    assert any(a.get("class") == "front" for _, a in page.tags) and any(
        a.get("class") == "throttled" for _, a in page.tags
    )


def test_wrong_calls_can_be_chosen_by_quantisation(tmp_path: Path) -> None:
    source = matrix_page.render(build(usual(tmp_path)))
    assert '<input type="radio" class="w1" name="wrong">q4_0 (50)' in source
    articles = re.findall(r'<article class="wrong ([^"]+)">.*?</article>', source, re.S)
    assert len(articles) == 50, "a row is shown once, however many have it wrong"
    assert sum("q1" in a.split() for a in articles) == 50 and sum("q0" in a.split() for a in articles) == 7
    assert sum("new" in a.split() for a in articles) == 45
    assert ".wrongs:has(.w1:checked) .wrong:not(.q1)" in source
    first = next(a for a in re.findall(r"<article.*?</article>", source, re.S) if "r6<" in a)
    assert "<b>q4_0</b> on pi5; <b>q8_0</b> on stand-in" in first, "one answer, and those who gave it"


def test_a_hostile_model_stays_text(tmp_path: Path) -> None:
    made = usual(tmp_path, 20)
    bad = HOSTILE.replace("/", "").replace("\x00", "")
    made.add(bad[:40], samples=made.samples(text=HOSTILE), error={"kind": HOSTILE, "message": HOSTILE, "hint": HOSTILE},
             runtime_version=HOSTILE, profile=HOSTILE, device={**PI, "model": HOSTILE, HOSTILE: HOSTILE})  # fmt: skip
    made.put(dataclasses.replace(REAL, workload=made.digest, samples=made.samples(range(3)), subject_name=HOSTILE),
             "dev<b>ice", "x.json")  # fmt: skip
    report = dataclasses.replace(build(made), project=HOSTILE)
    page = pages.read(matrix_page.render(report))
    assert "<img src=x onerror=alert(1)>" in page.text and "dev<b>ice" in page.text
    lines = list(csv.reader(io.StringIO(matrix_text.table(report))))
    assert {len(line) for line in lines} == {len(lines[0])} and len(lines) == 1 + len(report.cells)


@pytest.mark.parametrize("name", ["no baseline", "all failed", "one row", "only emulated", "rates alone", "untimed"])
def test_edges_can_be_shown(tmp_path: Path, name: str) -> None:
    made = Folder(tmp_path, 1 if name == "one row" else 10)
    failed = {"kind": "crash", "message": "died", "hint": None}
    cases: dict[str, dict[str, Any]] = {
        "all failed": {"samples": [], "error": failed, "file_bytes": None, "peak_rss_bytes": None},
        "only emulated": {"device": {**PI, "emulated": True}},
        "rates alone": {"samples": [], "rates": [{"prefill_tokens": 5, "prefill_s": 0.0, "decode_tokens": 0}], "profile": "model-card"},
        "untimed": {"samples": [
            dataclasses.replace(s, call_s=None, decode_s=None, prefill_s=None) for s in made.samples()], "started_at": None},
    }  # fmt: skip
    made.add("q8_0", **cases.get(name, {}))
    report = build(made)
    assert (
        pages.read(matrix_page.render(report)).text
        and matrix_text.markdown(report)
        and matrix_text.table(report)
        and matrix.headline(report)
    )
    records.save(report, tmp_path / "report.json")
    assert records.load(Report, tmp_path / "report.json").rows == report.rows
    assert folder.read(tmp_path).cells or name == "rates alone", "the report itself is no measurement"


def test_a_long_pause_is_cut_out_of_the_time_line() -> None:
    vitals = [{"at_s": at, "round": 0, "temperature_c": 50.0} for at in (0.0, 60.0, 7260.0, 7320.0)]
    shown = {"name": "q", "label": "q", "key": "k", "started_at": "2026-11-21T10:00:00+00:00", "vitals": vitals}
    moments = device_charts.moments([shown])
    assert [m.at_s for m in moments] == [0, 60, 90, 150] and moments[2].after_gap == 7200
    assert "2.0 h later" in device_charts.timeline([shown], {"q": 0}, 1000, "pi")
    assert device_charts.timeline([{**shown, "started_at": "yesterday"}], {"q": 0}, 1000, "pi") == ""


# ---- tables and the command


def test_markdown_and_csv_have_a_line_a_cell(tmp_path: Path) -> None:
    report = build(usual(tmp_path))
    lines = [line for line in matrix_text.markdown(report).splitlines() if line.startswith("| q")]
    assert len(lines) == 5, "three on the Pi, its rates, one on the stand-in"
    assert any("failed: ended by SIGILL" in line for line in lines)
    found = list(csv.DictReader(io.StringIO(matrix_text.table(report))))
    assert [line["key"] for line in found] == [c["key"] for c in report.cells]
    assert float(found[1]["call_ms_median"]) == cell(report, found[1]["name"])["call_ms"]["value"]


def test_a_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    made = Folder(tmp_path, 5)
    made.add("q8_0", runtime_version='=HYPERLINK("x")')
    assert "'=HYPERLINK" in matrix_text.table(build(made))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    made = usual(tmp_path / "bench", 20)
    done = run(made.path)
    assert done.exit_code == 0 and "| q8" in done.stdout
    assert (
        "</html>" in (made.path / "report.html").read_text() and records.load(Report, made.path / "report.json").cells
    )
    done = run(made.path, "--csv", tmp_path / "a.csv", "--json")
    assert json.loads(done.stdout)["rows"] == 20 and (tmp_path / "a.csv").read_text().startswith("key,")
    assert json.loads(run("--json", made.path).stdout)["rows"] == 20, "a folder is the results"
    failed = run(made.path, "--md", tmp_path)
    assert isinstance(failed.exception, EdgeError) and "is a folder" in failed.exception.message
    assert run(made.path, "--tolerance", "0.1").exit_code == 2


# ---- what `edge bench` really leaves


@pytest.mark.slow
def test_a_real_bench_from_rows_to_the_choice(tmp_path: Path) -> None:
    """The embedded model as GGUF, measured here: the report has its figures, and a choice is made."""
    from edge import environments
    from edge.bench import matrix as benching
    from edge.bench import pick as picking
    from edge.bench.plan import Wish
    from edge.console import Console
    from edge.export import gguf, job
    from edge.train import generator, tiny

    quiet, out = Console(quiet=True), tmp_path / "bench"
    checkpoint = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
    made = gguf.export(checkpoint, ["q8_0", "q4_0"], tmp_path, "tiny", quiet, lambda s: environments.ensure(s, quiet))
    if made.missing:
        pytest.skip(str(made.missing))
    rows = [{"messages": r["messages"], "tools": r["tools"]} for r in generator.rows(20, seed=5)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [Path(a.path) for a in made.artifacts]
    for profile in ("quick", "model-card"):
        benching.run(Wish(files=files, out=out, data=[str(data)], rows=20, threads=(1,), profile=profile), quiet)

    report = matrix.build(folder.read(out))
    reference, *cells = report.cells
    assert reference["kind"] == "checkpoint" and report.baseline == reference["name"]
    assert {c["name"] for c in cells} == {"q8_0", "q4_0"} and len(report.data["rates"]) == 2
    for c in cells:
        assert c["complete"] and c["difference"]["n"] == 20 and c["difference"]["to"] == reference["name"]
        assert c["call_ms"]["value"] and c["loads"]["cold"]["value"] and c["cpu_s_per_call"] and c["peak_rss_bytes"]
        assert c["vitals"] and c["shapes"] and not c["emulated"]
    assert any(c["front"]["median"] for c in cells)
    page = pages.read(matrix_page.render(report))
    assert "load average" in page.text and "model-card" in page.text
    assert any(a.get("aria-label") == "Rates on local" for _, a in page.tags)
    found = picking.pick(folder.read(out), "local", picking.Limits(max_p95_s=60.0))
    assert found.picked and found.picked.cell.is_artifact and len(found.others) == 1
