"""What becomes of a matrix where room, clock or heat play tricks, and what its results folder keeps."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pages
import pytest
from test_matrix import QUIET, Leaving, made, record, wish  # noqa: F401 (a fixture)

from edge import environments, records
from edge.bench import matrix, plan, profiles, room, running
from edge.bench.report import folder, matrix_page
from edge.bench.report import matrix as matrix_report
from edge.console import Console
from edge.devices import Full, Stopped, inventory, ssh
from edge.devices.local import Local
from edge.errors import DeviceError
from edge.records import write_text


def planned(out: Path, workload: str, profile: str = "quick") -> plan.Plan:
    return plan.Plan(out, profiles.get(profile), 0.0, "functiongemma", "p", [], workload, {}, [], None)


def test_room_is_made_of_what_is_ours_alone(tmp_path: Path) -> None:
    """The results folder may be one that holds other things; rates alone are of no rows."""
    first, second = planned(tmp_path, "a\n"), planned(tmp_path, "b\n")
    room.make_room(tmp_path, first)
    room.write_down(tmp_path, first, first.digest, {"started_at": "x", "ended_at": None, "devices": ["local"]})
    theirs = {"notes.txt": "mine", "src/main.py": "mine", "src/data.json": "{}", ".git/config": "mine"}
    app = json.dumps({"subject": "s", "workload": first.digest, "runtime": "app"})
    ours = {"local/q8.json": "{}", "local/q8.log": "", "app/phone.json": app, "report.html": "<p>"}
    rates = {"local/q8.llama-bench.json": "{}", "local/q8.model-card.partial": ""}
    for name, text in {**theirs, **ours, **rates}.items():
        write_text(tmp_path / name, text)
    room.make_room(tmp_path, second)
    assert all((tmp_path / name).read_text() == text for name, text in {**theirs, **rates}.items())
    moved = tmp_path / plan.EARLIER / first.digest[:12]
    assert all((moved / name).read_text() == text for name, text in ours.items())
    assert not any((tmp_path / name).exists() for name in ours) and (moved / plan.BENCH).is_file()
    room.make_room(tmp_path, first)  # and back
    assert all((tmp_path / name).read_text() == text for name, text in {**theirs, **rates, **ours}.items())
    assert not moved.exists()


def test_two_runs_at_the_same_moment_are_two(tmp_path: Path) -> None:
    """As the clock tells it, which may be set back."""
    given = planned(tmp_path, "a\n")
    for failed in (1, 0):
        entry = {"started_at": "2026-11-21T12:00:00+00:00", "ended_at": None, "failed": None, "devices": ["local"]}
        room.write_down(tmp_path, given, given.digest, entry)
        room.write_down(
            tmp_path, given, given.digest, {**entry, "ended_at": "2026-11-21T11:00:00+00:00", "failed": failed}
        )
    assert [run["failed"] for run in records.read_json(tmp_path / plan.BENCH)["runs"]] == [1, 0]


@pytest.mark.parametrize(
    ("now", "ever", "throttled"),
    [([None], [None], None), ([False, False], [False, False], False), ([False, True, False], [False, True, True], True),
     ([False, False], [False, True], True), ([False, False], [True, True], False), ([False], [None], False)],
)  # fmt: skip
def test_what_throttled_between_two_looks_is_known_afterwards(
    now: list[Any], ever: list[Any], throttled: bool | None
) -> None:
    assert running._throttled([{"throttled": a, "throttled_since_boot": b} for a, b in zip(now, ever)]) is throttled


# --- with a model -----------------------------------------------------------------------------------------------------


class Cramped(Local):
    """This machine as a device that has no room for one of two files, found out where `at` says."""

    at = ""

    def push(self, path: Path, digest: str) -> str:
        if Cramped.at == "push" and "q8_0" in path.name:
            raise Full("its disk is full", "free some")
        return super().push(path, digest)

    def environment(self, runtime: str, console: Console) -> environments.Environment:
        if Cramped.at == runtime:
            raise DeviceError("its disk is full", "free some")
        return super().environment(runtime, console)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["push", "xllamacpp"])
def test_a_full_device_fails_what_needs_the_room_and_no_more(
    made: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    monkeypatch.setattr(inventory, "device", lambda entry: Cramped())
    monkeypatch.setattr(Cramped, "at", at)
    given = ("q8_0", "q4_0") if at == "push" else ("q4_0",)
    runtimes = ("llama_cpp",) if at == "push" else ("llama_cpp", "xllamacpp")
    found = matrix.run(wish(made, tmp_path, *given, rows=2, runtimes=runtimes), QUIET)
    (failed,) = found.failed
    broken = record(tmp_path, failed.cell.name)
    assert failed.error == broken.error == {"kind": "device", "message": "its disk is full", "hint": "free some"}
    assert not broken.samples and broken.device["cores"] and broken.workload == found.plan.digest
    (whole,) = (m for _, m, _ in found.measurements if not m.error)
    assert len(whole.samples) == 2 and (whole.subject_name, whole.runtime) == ("q4_0", "llama_cpp")
    shown = matrix_report.build(folder.read(tmp_path))
    assert [(c["name"], c["error"] == failed.error) for c in shown.cells if c["error"]] == [(broken.subject_name, True)]
    assert "its disk is full" in pages.read(matrix_page.render(shown)).text
    again = matrix.run(
        wish(made, tmp_path, *given, rows=2, runtimes=runtimes), QUIET
    )  # it is tried again, the other kept
    assert [s.what for s in again.failed] == ["failed"] and record(tmp_path, "q4_0.llama_cpp.t1") == whole


@pytest.mark.slow
def test_a_device_that_was_off_and_is_there_again(
    made: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is off the others are measured; later nothing remains of its error."""
    monkeypatch.setenv("EDGE_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(ssh, "_pause", lambda seconds: None)
    devices = tmp_path / "config" / "devices.toml"
    write_text(devices, '[pi5]\naddress = "ssh:pi@127.0.0.1:1"\n')
    given = wish(made, tmp_path / "bench", "q4_0", rows=2, devices=("pi5", "local"))
    first = matrix.run(given, QUIET)
    assert [state.cell.device for state in first.failed] == ["pi5"]
    assert len(record(tmp_path / "bench", "q4_0.llama_cpp.t1").samples) == 2
    shown = {c["on"]: c["error"] for c in matrix_report.build(folder.read(tmp_path / "bench")).cells}
    assert shown["local"] is None and "nothing answers on that port" in shown["pi5"]["message"]
    write_text(devices, '[pi5]\naddress = "local"\n')
    assert not matrix.run(given, QUIET).failed
    cells = matrix_report.build(folder.read(tmp_path / "bench")).cells
    assert sorted((c["on"], c["error"]) for c in cells) == [("local", None), ("pi5", None)]


class Slow(Local):
    """This machine as a device that a file takes a minute to."""

    def push(self, path: Path, digest: str) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        if self.stop.wait(60):
            raise Stopped
        return super().push(path, digest)


@pytest.mark.slow
def test_ctrl_c_is_heard_in_the_middle_of_a_transfer(
    made: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inventory, "device", lambda entry: Slow())
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        matrix.run(wish(made, tmp_path, "q4_0", rows=2), QUIET)
    assert time.monotonic() - began < 10 and not [t for t in threading.enumerate() if t.name.startswith("bench ")]


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_figure_and_no_order(
    made: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wall clock of this process: a day back or forth whenever it is read."""
    days = itertools.cycle([0, 1, -400, 30, -1])

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.now(tz) + datetime.timedelta(days=next(days))

    real, clock = datetime.datetime, time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 86400 * next(days))
    monkeypatch.setattr(datetime, "datetime", Jumping)
    monkeypatch.setattr(inventory, "device", lambda entry: Leaving())
    monkeypatch.setattr(matrix, "_BACK_OFF_S", 0.1)
    monkeypatch.setattr(Leaving, "left", 2)
    began = time.monotonic()
    for _ in range(2):  # the second one finds everything there
        found = matrix.run(wish(made, tmp_path, "q8_0"), QUIET)
    took = time.monotonic() - began
    assert not found.failed
    m = record(tmp_path, "q8_0.llama_cpp.t1")
    rows = [row["id"] for row in found.plan.rows]
    assert [s.row for s in m.samples] == rows and len(rows) == 12
    assert all(0 < s.first_token_s <= s.call_s < took for s in m.samples if s.first_token_s and s.call_s)
    seen = [v["at_s"] for v in m.vitals]
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] < took
    assert all(0 < load["load_s"] < took for load in m.loads) and m.cpu_s and m.cpu_s > 0
    runs = records.read_json(tmp_path / plan.BENCH)["runs"]
    assert len(runs) == 2 and all(run["ended_at"] and run["failed"] == 0 for run in runs)
