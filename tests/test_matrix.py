"""`edge bench` on real artifacts of the embedded model: what it measures, and that nothing is lost and nothing measured twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge import environments, records
from edge.bench import files, matrix, plan, profiles, score
from edge.bench.journal import Journal, sample
from edge.bench.plan import Wish
from edge.console import Console
from edge.devices import Lost, inventory
from edge.devices.local import Local
from edge.errors import EdgeError
from edge.export import everything, job
from edge.records import Measurement, write_text
from edge.train import generator, tiny

QUIET = Console(quiet=True)
COMMAND = """
import click
from edge.cli import Group
from edge.commands.bench import bench
app = click.group(cls=Group)(lambda: None)
app.add_command(bench)
app()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model as GGUF, two of them, and rows with their own tools."""
    top = tmp_path_factory.mktemp("matrix")
    return {**exported(top, {"gguf": ["q8_0", "q4_0"]}), "rows": rows_file(top / "rows.jsonl", 12)}


def exported(top: Path, wanted: dict[str, list[str]]) -> dict[str, Path]:
    """{name: file} of the embedded model; skips where it can't be made."""
    checkpoint = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
    found = {}
    for it in everything.export(checkpoint, wanted, top / "out", "m", QUIET, lambda s: environments.ensure(s, QUIET)):
        if it.missing:
            pytest.skip(str(it.missing))
        for a in it.artifacts:
            found[a.quantisation if a.format == "gguf" else f"{a.format}-{a.quantisation}"] = Path(a.path)
    return found


def rows_file(file: Path, count: int) -> Path:
    """Rows of the model's own lessons, some of which call."""
    found = [{"messages": r["messages"], "tools": r["tools"]} for r in generator.rows(count, seed=5)]
    write_text(file, "".join(json.dumps(row) + "\n" for row in found))
    return file


def wish(made: dict[str, Path], out: Path, *names: str, **more: Any) -> Wish:
    given = {"baseline": False, "threads": (1,), "data": [str(made["rows"])], **more}
    return Wish(files=[made[name] for name in names or ("q8_0", "q4_0")], out=out, **given)


def record(out: Path, name: str, device: str = "local") -> Measurement:
    return records.load(Measurement, out / device / f"{name}.json")


def start(made: dict[str, Path], out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, "bench", str(made["q8_0"]), str(made["q4_0"]), "--data", str(made["rows"]),
               "--no-base", "--threads", "1", "--out", str(out), *arguments]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def journals(out: Path) -> dict[str, list[dict[str, Any]]]:
    """{cell: samples} of what is unfinished."""
    found = {}
    for file in (out / "local").glob("[!.]*.partial") if (out / "local").is_dir() else ():
        lines = [line for line in file.read_text().splitlines() if line.startswith('{"sample"')]
        with contextlib.suppress(ValueError):  # a line that is being written
            found[file.name.removesuffix(".quick.partial")] = [json.loads(line)["sample"] for line in lines]
    return found


def wait_for_samples(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while sum(map(len, journals(out).values())) < count:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)


# --- without a model --------------------------------------------------------------------------------------------------


def test_of_several_samples_the_first_is_scored() -> None:
    m = Measurement("", "", "artifact", "r", None, {}, "", 1)
    right, wrong = (
        {"row": "a", "text": text} for text in ("Hello.", "<start_function_call>call:f{}<end_function_call>")
    )
    for first, second, accuracy in ((right, wrong, 1.0), (wrong, right, 0.0)):
        samples = [records.Sample(**sample(first, 0)), records.Sample(**sample(second, 1))]
        made = records.Measurement(**{**vars(m), "samples": samples})
        assert score.score([{"id": "a", "expected": []}], made, "functiongemma").accuracy.value == accuracy


def test_a_journal_goes_on_after_a_line_that_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "x.partial"
    first = Journal(file, "key")
    first.add("sample", sample({"row": "a", "text": "x"}, 0), cpu_s=1.5)
    first.add("part", {"rows": 1, "energy_j": 2.0, "cache_bytes": 7})
    first.add("sample", sample({"row": "b", "text": "y"}, 0), cpu_s=0.5)
    file.write_text(file.read_text()[:-9])
    again = Journal(file, "key")
    assert again.answered("a", 0) and not again.answered("b", 0) and not again.answered("a", 1)
    assert (again.cpu_s, again.energy_j, again.most("cache_bytes"), again.most("peak_rss_bytes")) == (1.5, 2.0, 7, None)
    again.add("sample", sample({"row": "b", "text": "y"}, 0), cpu_s=0.5)
    assert again.cpu_s == 2.0 and again.energy_j is None  # what this row took is in no part
    assert len(Journal(file, "key").samples) == 2 and not Journal(file, "another").samples


def test_pages_are_dropped_only_if_the_kernel_does(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(os.urandom(3_000_000))
    file.read_bytes()
    if files._resident(file) < 1:
        pytest.skip("this system doesn't tell")
    assert files.drop_pages(str(file)) == (files._resident(file) <= 0.02)
    memory = Path("/dev/shm") / f"edge-{os.getpid()}"
    if memory.parent.is_dir():
        memory.write_bytes(b"x" * 100_000)
        try:
            assert not files.drop_pages(str(memory))  # it lies nowhere else
        finally:
            memory.unlink()


def test_what_a_runtime_leaves_beside_an_artifact(tmp_path: Path) -> None:
    file = tmp_path / "m[1].litertlm"
    for name in (file.name, f"{file.name}.json", "m[1].old_cache", "another"):
        (tmp_path / name).write_bytes(b"12345")
    before = files.beside(str(file))
    assert set(before) == {"m[1].old_cache"} and files.written(str(file), before) == 0
    (tmp_path / "m[1].litertlm_cache").write_bytes(b"x" * 100)
    (tmp_path / "another").write_bytes(b"x" * 1000)
    assert files.written(str(file), before) == 100


# --- real runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_format_is_measured_and_the_checkpoint_with_it(tmp_path: Path) -> None:
    made = exported(tmp_path, {"gguf": ["q8_0"], "tflite": ["int8"], "litertlm": ["int8"], "onnx": ["int8"]})
    made["rows"] = rows_file(tmp_path / "rows.jsonl", 24)
    names = ("q8_0", "tflite-int8", "litertlm-int8", "onnx-int8")
    out = tmp_path / "bench"
    states: dict[str, set[str]] = {}
    found = matrix.run(
        wish(made, out, *names, baseline=True),
        QUIET,
        lambda all_: [states.setdefault(s.cell.subject.name, set()).add(s.what) for s in all_],  # type: ignore[func-returns-value]
    )
    assert not found.failed and {cell.subject.name for cell, _, _ in found.measurements} == {*names, "edge-tiny"}
    assert all({"waiting", "round 1", "round 2", "done"} <= states[name] for name in names)
    workload = records.digest_file(next((out / plan.WORKLOADS).iterdir()))
    told = records.read_json(out / plan.BENCH)
    assert told["workload"] == workload and told["baseline"] == "edge-tiny" and set(told["subjects"]) == set(names)
    assert told["runs"][0]["failed"] == 0 and told["runs"][0]["ended_at"]
    for cell, m, file in found.measurements:
        assert m.workload == workload and not m.error and len({s.row for s in m.samples}) == 24
        assert file == out / "local" / f"{cell.name}.json" and not list(file.parent.glob("*.partial"))
        if m.subject_kind == "artifact":
            assert [one["round"] for one in m.loads] == [0, 1] and m.loads[1]["file_cache"] == "warm"
            assert m.loads[0]["file_cache"] == "cold" and m.load_s == m.loads[1]["load_s"]
            assert [(r["prefill_tokens"], r["decode_tokens"], r["round"]) for r in m.rates] == [
                (128, 32, 0), (128, 32, 0), (128, 32, 1), (128, 32, 1)]  # fmt: skip
            assert all(r["prefill_s"] > 0 and r["decode_s"] > 0 for r in m.rates)
            assert {s.round for s in m.samples} == {0, 1} and m.cache_bytes == 0 and m.profile == "quick"
            spent = sum(s.call_s for s in m.samples if s.call_s)
            assert m.cpu_s and 0.02 * spent < m.cpu_s < 1.5 * spent + 0.2  # one thread, on a machine that may be busy
            assert m.peak_rss_bytes and m.peak_rss_bytes > 20e6 and len(m.vitals) >= 6
            assert m.file_bytes == records.size_path(made[cell.subject.name])
    reports = matrix.reports(found)
    cells = {c["name"]: c for c in reports["local"].cells}
    assert cells["edge-tiny"]["accuracy"]["value"] > 0.3 and cells["q8_0"]["difference"]["to"] == "edge-tiny"
    assert abs(cells["q8_0"]["accuracy"]["value"] - cells["edge-tiny"]["accuracy"]["value"]) < 0.2
    before = {file: file.read_bytes() for _, _, file in found.measurements}
    again = matrix.run(wish(made, out, *names, baseline=True), QUIET)
    assert not again.failed and before == {file: file.read_bytes() for _, _, file in again.measurements}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_after_the_last_row(made: dict[str, Path], tmp_path: Path, how: int) -> None:
    out = tmp_path / "bench"
    first = start(made, out)
    wait_for_samples(out, 9, first)
    agents = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(how)
    _, said = first.communicate(timeout=60)
    assert first.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "what was measured is kept" in said and "Traceback" not in said
    _, alive = psutil.wait_procs(agents, timeout=30)
    assert agents and not alive  # nothing is left running
    kept = journals(out)
    assert sum(map(len, kept.values())) >= 9 and records.read_json(out / plan.BENCH)["runs"][0]["ended_at"] is None
    second = start(made, out)
    printed, said = second.communicate(timeout=240)
    assert second.returncode == 0, said
    assert "right %" in printed and "q8_0" in printed and not journals(out)
    for cell, samples in kept.items():
        m = record(out, cell)
        assert len(m.samples) == 12 and len({s.row for s in m.samples}) == 12
        times = {s.row: s.call_s for s in m.samples}
        assert all(times[s["row"]] == s["call_s"] for s in samples)  # measured once
        assert len({s.call_s for s in m.samples}) == 12
    assert all(len(record(out, f"{q}.llama_cpp.t1").rates) == 4 for q in ("q8_0", "q4_0"))


@pytest.mark.slow
def test_a_crash_is_a_record_and_the_rest_goes_on(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bench"
    run = start(made, out)
    wait_for_samples(out, 2, run)
    (crashed,) = (cell for cell, samples in journals(out).items() if samples)
    for child in psutil.Process(run.pid).children(recursive=True):
        if "agent.py" in " ".join(child.cmdline()):
            child.kill()
    printed, said = run.communicate(timeout=240)
    assert run.returncode == 1 and f"failed: local: {crashed.split('.')[0]}" in printed, said
    other = next(f"{q}.llama_cpp.t1" for q in ("q8_0", "q4_0") if not crashed.startswith(q))
    broken, whole = record(out, crashed), record(out, other)
    assert broken.error and broken.error["kind"] == "crash" and 2 <= len(broken.samples) < 12
    assert not whole.error and len(whole.samples) == 12
    before = (out / "local" / f"{other}.json").read_bytes()
    second = start(made, out, "--json")
    printed, said = second.communicate(timeout=240)
    assert second.returncode == 0, said
    assert {c["name"]: c["complete"] for c in json.loads(printed)["cells"]} == {"q8_0": True, "q4_0": True}
    mended = record(out, crashed)
    assert not mended.error and len(mended.samples) == 12 and (out / "local" / f"{other}.json").read_bytes() == before
    old = {s.row: s.call_s for s in broken.samples}
    assert old.items() <= {s.row: s.call_s for s in mended.samples}.items()


@pytest.mark.slow
def test_on_one_device_one_thing_at_a_time(made: dict[str, Path], tmp_path: Path) -> None:
    first = start(made, tmp_path / "a")
    wait_for_samples(tmp_path / "a", 1, first)
    second = start(made, tmp_path / "b")
    _, said = second.communicate(timeout=300)
    assert "another edge bench measures on local: waiting" in said
    assert first.wait(timeout=60) == 0 and second.returncode == 0
    ended = max(path.stat().st_mtime for path in (tmp_path / "a" / "local").glob("*.json"))
    assert min(path.stat().st_mtime for path in (tmp_path / "b" / "local").glob("*.log")) > ended
    first.communicate()


@pytest.mark.slow
def test_full_repeats_until_the_budget_ends_or_the_median_is_known(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was measured in full stands for a quick measurement, but not the other way round."""
    given = wish(made, tmp_path / "bench", "q8_0", profile="full", rows=8, budget_s=0.0)
    cell = "q8_0.llama_cpp.t1"
    matrix.run(given, QUIET)
    once = record(tmp_path / "bench", cell)
    assert len(once.samples) == 8 and [one["round"] for one in once.loads] == [0, 1, 2, 3] and len(once.rates) == 12
    before = (tmp_path / "bench" / "local" / f"{cell}.json").read_bytes()
    matrix.run(wish(made, tmp_path / "bench", "q8_0", profile="quick", rows=8), QUIET)
    assert (tmp_path / "bench" / "local" / f"{cell}.json").read_bytes() == before
    tight = profiles.Profile(**{**vars(profiles.get("full")), "narrow": 1e-9, "most_rounds": 7})
    wide = profiles.Profile(**{**vars(profiles.get("full")), "narrow": 100.0, "most_rounds": 7})
    for profile, rounds in ((tight, 7), (wide, 4)):
        monkeypatch.setitem(profiles.PROFILES, "full", profile)
        out = tmp_path / f"of-{rounds}"
        matrix.run(wish(made, out, "q8_0", profile="full", rows=8), QUIET)
        m = record(out, cell)
        places = [(s.row, s.round) for s in m.samples]
        assert {n for _, n in places} == set(range(rounds)) and len(set(places)) == len(places) == 2 * rounds
        assert len(m.rates) == 12 and len(m.loads) == rounds


@pytest.mark.slow
def test_results_of_other_rows_make_room_and_come_back(made: dict[str, Path], tmp_path: Path) -> None:
    out, cell = tmp_path / "bench", "q4_0.llama_cpp.t1"
    for count in (2, 3, 2):
        matrix.run(wish(made, out, "q4_0", rows=count), QUIET)
        told = records.read_json(out / plan.BENCH)
        m = record(out, cell)
        assert told["rows"] == len(m.samples) == count and m.workload == told["workload"]
        (moved,) = (out / plan.EARLIER).iterdir() if (out / plan.EARLIER).is_dir() else [None]
        if count == 2 and moved is None:
            first = (out / "local" / f"{cell}.json").read_bytes()
        else:
            assert moved and record(moved, cell).samples != m.samples
    assert (out / "local" / f"{cell}.json").read_bytes() == first


@pytest.mark.slow
def test_rates_alone_have_files_of_their_own(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bench"
    matrix.run(wish(made, out, "q8_0", rows=2), QUIET)
    before = (out / "local" / "q8_0.llama_cpp.t1.json").read_bytes()
    found = matrix.run(Wish(files=[made["q8_0"]], out=out, profile="model-card"), QUIET)
    m = record(out, "q8_0.llama_cpp.t4.model-card")
    assert not found.failed and not m.samples and m.threads == 4 and m.profile == "model-card"
    assert [(r["prefill_tokens"], r["decode_tokens"]) for r in m.rates] == [(512, 32)] * 5
    assert (out / "local" / "q8_0.llama_cpp.t1.json").read_bytes() == before
    assert records.read_json(out / plan.BENCH)["rows"] == 2 and not (out / plan.EARLIER).exists()


class Leaving(Local):
    """This machine as a device that is lost `left` times, each time after `after` rows of a session."""

    left = 0
    after = 2

    @contextlib.contextmanager
    def agent(self, *arguments: Any) -> Iterator[Any]:
        with super().agent(*arguments) as agent:
            receive, rows = agent.channel.receive, 0

            def lose(timeout_s: float | None = None) -> Any:
                nonlocal rows
                if Leaving.left and rows >= Leaving.after:
                    Leaving.left -= 1
                    raise Lost("the cable is out", "put it in again")
                message = receive(timeout_s)
                rows += "sample" in message
                return message

            agent.channel.receive = lose
            yield agent


@pytest.mark.slow
def test_a_lost_device_is_waited_for(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inventory, "device", lambda entry: Leaving())
    monkeypatch.setattr(matrix, "_BACK_OFF_S", 0.1)
    monkeypatch.setattr(Leaving, "left", 3)
    found = matrix.run(wish(made, tmp_path / "a", "q8_0"), Console())
    assert not found.failed and capsys.readouterr().err.count("the cable is out; trying again") == 3
    m = record(tmp_path / "a", "q8_0.llama_cpp.t1")
    places = [(s.row, s.round) for s in m.samples]
    assert len(places) == len(set(places)) == 12 and not m.error and len(m.rates) == 4
    assert len(m.loads) > 2  # a session a loss
    monkeypatch.setattr(Leaving, "left", 10**6)
    monkeypatch.setattr(Leaving, "after", 0)
    monkeypatch.setattr(matrix, "_PATIENCE_S", 0.5)
    found = matrix.run(wish(made, tmp_path / "b", "q8_0"), QUIET)
    assert [state.error["kind"] for state in found.failed if state.error] == ["device"]
    assert record(tmp_path / "b", "q8_0.llama_cpp.t1").error["message"] == "the cable is out"  # type: ignore[index]


@pytest.mark.slow
def test_ctrl_c_in_the_library_leaves_no_thread(made: dict[str, Path], tmp_path: Path) -> None:
    def stop(states: Any) -> None:
        if any(state.done >= 2 for state in states) and not asked.is_set():
            asked.set()
            os.kill(os.getpid(), signal.SIGINT)

    asked = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        matrix.run(wish(made, tmp_path / "bench"), QUIET, stop)
    end = time.monotonic() + 20
    while any(t.name.startswith("bench ") for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert sum(map(len, journals(tmp_path / "bench").values())) >= 2


@pytest.mark.slow
def test_rows_longer_than_the_context_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    """Counted by the checkpoint's own tokenizer, before anything runs."""
    short = tmp_path / "short.gguf"
    short.write_bytes(made["q8_0"].read_bytes())
    told = records.read_json(job.manifest_of(made["q8_0"]))
    data = short.read_bytes().replace(
        b"gemma3.context_length\x04\x00\x00\x00", b"gemma3.context_length\x04\x00\x00\x00"
    )
    at = data.index(b"gemma3.context_length") + len(b"gemma3.context_length") + 4
    short.write_bytes(data[:at] + (200).to_bytes(4, "little") + data[at + 4 :])
    records.save({**told, "digest": records.digest_file(short), "path": str(short)}, job.manifest_of(short))
    given = wish({**made, "short": short}, tmp_path / "bench", "q8_0", "short")
    with pytest.raises(EdgeError, match=r"short\.gguf: \d+ of 12 rows are longer than its context.*holds 200"):
        matrix.run(given, QUIET)
    assert not (tmp_path / "bench").exists()


@pytest.mark.slow
def test_a_runtime_that_hangs_is_stopped(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "bench"
    run = start(made, out, "--stall", "5s")
    wait_for_samples(out, 2, run)
    (hung,) = (cell for cell, samples in journals(out).items() if samples)
    agents = [c for c in psutil.Process(run.pid).children(recursive=True) if "agent.py" in " ".join(c.cmdline())]
    for agent in agents:
        agent.suspend()
    printed, said = run.communicate(timeout=240)
    assert run.returncode == 1 and "said nothing for 5 s" in printed, said
    assert not psutil.wait_procs(agents, timeout=10)[1]
    error = record(out, hung).error
    assert error and error["kind"] == "crash" and len(record(out, hung).samples) >= 2
