"""`edge run` end to end on the embedded model, smaller than the demo: real tuning, real workers, real llama.cpp."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edge import environments, pipeline, project, records, starter
from edge.console import Console
from edge.errors import EdgeError, MissingError
from edge.records import Artifact, Checkpoint, Measurement, Report

pytestmark = pytest.mark.slow
QUANTS = ["q8_0", "q4_k_m", "q4_0-emb-q4_0"]
ROWS = 24


def small(folder: Path) -> Path:
    """The starter project with little data."""
    starter.write(folder)
    for name, rows in (("train.jsonl", 64), ("eval.jsonl", ROWS)):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:rows]))
    text = (folder / "edge.toml").read_text()
    text = re.sub(r"epochs = .*", "epochs = 1", text)
    text = re.sub(r"gguf = .*", f"gguf = {json.dumps(QUANTS)}", text)
    text = re.sub(r"^(litertlm|task|onnx) = .*\n", "", text, flags=re.MULTILINE)
    (folder / "edge.toml").write_text(text)
    return folder


def edge(*arguments: str | Path, **kwargs) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = small(tmp_path_factory.mktemp("run") / "app")
    return folder, edge("run", folder)


def test_it_ends_with_a_table_and_the_path_of_a_report(done):
    folder, result = done
    assert result.returncode == 0, result.stderr
    assert str(folder / "results" / "report.html") in result.stdout
    for name in ("base", "tuned", *QUANTS):
        assert re.search(rf"^\| {re.escape(name)}", result.stdout, re.MULTILINE), result.stdout


def test_the_report_has_every_subject_on_the_same_rows(done):
    report = records.load(Report, done[0] / "results" / "report.json")
    assert [c["name"] for c in report.cells][:2] == ["base", "tuned"]
    assert {c["name"] for c in report.cells} == {"base", "tuned", *QUANTS}
    assert all(c["accuracy"]["n"] == ROWS for c in report.cells)
    page = (done[0] / "results" / "report.html").read_text()
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_measurements_hold_raw_samples_and_circumstances(done):
    for name in QUANTS:
        m = records.load(Measurement, done[0] / "results" / f"{name}.json")
        assert len(m.samples) == ROWS and m.error is None and m.threads and m.load_s
        assert m.peak_rss_bytes and m.peak_rss_bytes > m.file_bytes
        assert m.settings["GOMP_SPINCOUNT"] == "2000" and m.device["emulated"] is False
        for s in m.samples:
            assert s.prompt_tokens and s.completion_tokens
            assert 0 < s.prefill_s <= s.first_token_s < s.call_s and s.decode_s <= s.call_s
    tuned = records.load(Measurement, done[0] / "results" / "tuned.json")
    assert all(s.call_s is None for s in tuned.samples)  # scored in batches: unknown, not zero


def test_artifacts_carry_their_manifests(done):
    tuned = records.load(Checkpoint, done[0] / "build" / "tuned" / "checkpoint.json")
    for name in QUANTS:
        file = done[0] / "build" / "artifacts" / f"app-{name}.gguf"
        manifest = records.load(Artifact, Path(f"{file}.json"))
        assert manifest.digest == records.digest_file(file) and manifest.bytes == file.stat().st_size
        assert manifest.checkpoint == tuned.digest and len(manifest.stop_ids) == 3
        assert manifest.checks["tokenizer_strings_checked"] > 300
        assert manifest.notices == []  # edge-tiny holds no weights of Gemma
    assert tuned.training["rows"] == 64 and tuned.training["options"]["epochs"] == 1


def test_nothing_is_done_twice(done):
    before = {f: f.stat().st_mtime_ns for f in (done[0] / "build").rglob("*.gguf")}
    again = edge("run", done[0])
    assert again.returncode == 0
    assert "= tuned: trained already" in again.stderr
    assert again.stderr.count("exported already") == len(QUANTS)
    assert again.stderr.count("measured already") == len(QUANTS) + 2
    assert before == {f: f.stat().st_mtime_ns for f in (done[0] / "build").rglob("*.gguf")}


def test_an_altered_artifact_is_made_again_and_only_that(done):
    file = done[0] / "build" / "artifacts" / "app-q8_0.gguf"
    data = bytearray(file.read_bytes())
    good = bytes(data)
    data[-1] ^= 1
    file.write_bytes(data)
    again = edge("run", done[0])
    assert again.returncode == 0 and again.stderr.count("exported already") == len(QUANTS) - 1
    assert file.read_bytes() == good  # exporting is deterministic
    assert again.stderr.count("measured already") == len(QUANTS) + 2  # the same digest: the figures stand


def test_json(done):
    told = json.loads(edge("run", done[0], "--json", "-q").stdout)
    assert len(told["artifacts"]) == len(QUANTS) and len(told["cells"]) == len(QUANTS) + 2


def test_killed_while_measuring_it_goes_on_after_the_last_row(done, tmp_path):
    folder = done[0]
    (folder / "results" / "q8_0.json").unlink()
    samples = folder / "results" / "q8_0.samples"
    host = subprocess.Popen([sys.executable, "-m", "edge", "run", str(folder), "-q"], stdout=subprocess.DEVNULL)
    _wait(lambda: samples.exists() and samples.read_text().count("\n") > 5, host)
    host.send_signal(signal.SIGKILL)
    host.wait()
    time.sleep(1)  # the agent ends with its input
    kept = samples.read_text().splitlines()[1:-1]
    assert edge("run", folder, "-q").returncode == 0
    m = records.load(Measurement, folder / "results" / "q8_0.json")
    assert len(m.samples) == ROWS and not samples.exists()
    by_row = {s.row: s for s in m.samples}
    for line in map(json.loads, kept):
        assert by_row[line["row"]].call_s == line["call_s"]  # not measured twice


def test_killed_while_tuning_it_goes_on(tmp_path):
    folder = small(tmp_path / "app")
    toml = folder / "edge.toml"
    toml.write_text(toml.read_text().replace("epochs = 1", "epochs = 8"))
    host = subprocess.Popen([sys.executable, "-m", "edge", "run", str(folder), "-q"], stdout=subprocess.DEVNULL)
    partial = folder / "build" / "tuned.worker" / "partial" / "trainer"
    _wait(lambda: any((c / "trainer_state.json").exists() for c in partial.glob("checkpoint-*")), host)
    host.send_signal(signal.SIGKILL)
    host.wait()
    found = project.load(folder)
    with Console(quiet=True) as console:
        builder = environments.Builder(console)
        data = pipeline.read_data(found, console)
        base = pipeline.find_base(found, console, builder)
        tuned = pipeline.tune(found, base, data, console, builder)
        builder.close()
    assert "continuing from checkpoint-" in (folder / "build" / "tuned.worker" / "worker.log").read_text()
    assert tuned.training["steps"] == 8 * (64 // 8) and not partial.exists()


def test_ctrl_c_ends_everything_and_says_how_to_go_on(done):
    folder = done[0]
    (folder / "results" / "tuned.json").unlink()  # measured through torch, which takes seconds to load
    host = subprocess.Popen([sys.executable, "-m", "edge", "run", str(folder), "-q"], stderr=subprocess.PIPE, text=True)
    _wait(lambda: (folder / "results" / "tuned.samples").exists() and psutil.Process(host.pid).children(), host)
    children = psutil.Process(host.pid).children(recursive=True)
    host.send_signal(signal.SIGINT)
    told = host.communicate(timeout=30)[1]
    assert host.returncode == 130 and "run it again" in told
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert edge("run", folder, "-q").returncode == 0


def test_other_formats_come_after_the_first_table(done, tmp_path):
    """GGUF is shown while the slower formats are made; then there is one report of all, each by its own runtime."""
    folder = tmp_path / "app"
    shutil.copytree(done[0], folder)
    text = (folder / "edge.toml").read_text()
    text = re.sub(r"gguf = .*", 'gguf = ["q8_0"]\nlitertlm = ["int8"]\nonnx = ["int8"]', text)
    (folder / "edge.toml").write_text(text)
    result = edge("run", folder)
    assert result.returncode == 0, result.stderr
    early, _, late = result.stdout.partition("| base")[2].partition("| base")
    assert (
        "q8_0" in early and "onnx-int8" not in early and all(n in late for n in ("q8_0", "litertlm-int8", "onnx-int8"))
    )
    report = json.loads((folder / "results" / "report.json").read_text())
    cells = {c["name"]: c for c in report["cells"]}
    runtimes = {"q8_0": "llama_cpp", "litertlm-int8": "litert_lm", "onnx-int8": "onnxruntime"}
    assert {n: cells[n]["runtime"] for n in runtimes} == runtimes
    assert all(cells[n]["accuracy"]["n"] == ROWS and cells[n]["bytes"] and not cells[n]["error"] for n in runtimes)
    assert re.search("tuned.*trained already", result.stderr)


def test_two_runs_at_once(done):
    lock = done[0] / "build" / ".lock"
    with Console(quiet=True) as console, pipeline.only_one(lock, console, wait=False):
        second = edge("run", done[0])
    assert second.returncode == 2 and f"process {os.getpid()}" in second.stderr and "--wait" in second.stderr


def test_without_a_compiler_it_says_what_is_missing(done, monkeypatch):
    real = environments.missing
    monkeypatch.setattr(environments, "missing", lambda it: "a C++ compiler" if "c++" in it.needs else real(it))
    with Console(quiet=True) as console:
        outcome = pipeline.run(project.load(done[0]), console)
    assert {m["what"] for m in outcome.missing} == {
        "app-q4_k_m.gguf",
        "runtime llama_cpp",
    } or "app-q4_k_m.gguf" not in {
        m["what"]
        for m in outcome.missing  # made before, so it lies there
    }
    cells = {c["name"]: c for c in outcome.report.cells}
    assert cells["q8_0"]["runtime"] == "xllamacpp" and cells["q8_0"]["accuracy"]["n"] == ROWS
    assert cells["q8_0"]["call_ms"]["value"] > 0


def test_rows_that_are_in_training_too_are_counted(tmp_path, capsys):
    folder = small(tmp_path / "app")
    with (folder / "eval.jsonl").open("a") as f:
        f.write("".join((folder / "train.jsonl").read_text().splitlines(keepends=True)[:3]))
    data = pipeline.read_data(project.load(folder), Console())
    assert data.counts["shared_with_training"] == 3
    assert "3 evaluation rows are also in training" in capsys.readouterr().err


def test_rejected_rows_are_counted_and_kept(tmp_path, capsys):
    folder = small(tmp_path / "app")
    with (folder / "train.jsonl").open("a") as f:
        f.write('{"user_content": "x", "tool_name": "no_such_tool", "tool_arguments": "{}"}\n{broken\n')
    data = pipeline.read_data(project.load(folder), Console())
    rejects = [json.loads(line) for line in (folder / "build" / "data" / "rejects.jsonl").read_text().splitlines()]
    assert data.counts["rejected"] == 2 and [r["line"] for r in rejects] == [65, 66]
    assert "rows rejected" in capsys.readouterr().err


def test_odd_line_separators_in_a_row_stay_in_it(tmp_path):
    folder = small(tmp_path / "app")
    for name in ("train.jsonl", "eval.jsonl"):
        row = json.loads((folder / name).read_text(encoding="utf-8").split("\n")[0])
        row["messages"][1]["content"] += " \u2028 \u0085 end"
        with (folder / name).open("a", encoding="utf-8") as f:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    data = pipeline.read_data(project.load(folder), Console(quiet=True))
    for file, rows in ((data.training, 65), (data.workload, ROWS + 1)):
        read = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]  # as workers read it
        assert len(read) == rows and "\u2028 \u0085 end" in read[-1]["prompt"]


def test_rows_of_the_other_split_are_left_out(tmp_path, capsys):
    folder = small(tmp_path / "app")
    lines = (folder / "train.jsonl").read_text().splitlines()
    marked = [
        json.dumps({**json.loads(line), "metadata": "eval" if i % 4 else "train"}) for i, line in enumerate(lines)
    ]
    (folder / "train.jsonl").write_text("\n".join(marked) + "\n")
    data = pipeline.read_data(project.load(folder), Console())
    assert data.counts["train_rows"] == 16 and "48 rows that say they are not for train" in capsys.readouterr().err


def test_a_run_that_does_not_fit_on_the_disk_is_refused_first(tmp_path, monkeypatch):
    folder = small(tmp_path / "app")
    usage = type(shutil.disk_usage(folder))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**6))
    with pytest.raises(MissingError, match="this run takes about"):
        pipeline.run(project.load(folder), Console(quiet=True))


def test_no_usable_rows(tmp_path):
    folder = small(tmp_path / "app")
    (folder / "eval.jsonl").write_text("{broken\n")
    with pytest.raises(EdgeError, match="no usable evaluation rows"):
        pipeline.read_data(project.load(folder), Console(quiet=True))


def _wait(condition, host, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert host.poll() is None and time.monotonic() < end
        time.sleep(0.02)
