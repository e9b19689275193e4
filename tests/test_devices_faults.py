"""What goes wrong with devices, done to real ones (stand-ins): nothing measured is lost, nothing is measured twice, nothing is
left running there, and the message says what to do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import Phone, Pi, Standin, requires_standins, standin, standins_allowed  # noqa: F401

from edge import environments, records
from edge.bench import matrix, measure
from edge.bench.plan import Wish
from edge.console import Console
from edge.devices import runners
from edge.devices.adb import Adb
from edge.devices.ssh import Ssh
from edge.devices.ssh_failures import Lost
from edge.errors import DeviceError, EdgeError
from edge.export import everything, job
from edge.records import Measurement
from edge.train import tiny

pytestmark = [pytest.mark.slow, requires_standins]
QUIET = Console(quiet=True)
ROWS, TOKENS = 10, 12
OURS = "llama-server|agent|dd of=|sha256sum"  # what may run there of ours
RUNTIME = r"^\S*/qemu-aarch64 \S*/llama-server "  # and not a shell that names it
COMMAND = """
import click
from edge.cli import Group
from edge.commands.bench import bench
app = click.group(cls=Group)(lambda: None)
app.add_command(bench)
app()
"""


@pytest.fixture(scope="module")
def pi(standins_allowed: None) -> Iterator[Pi]:  # noqa: F811
    """To do harm to; each test leaves it in order."""
    with standin("pi", disk_mb=300) as device:
        yield device


@pytest.fixture(scope="module")
def phone(standins_allowed: None) -> Iterator[Phone]:  # noqa: F811
    with standin("phone", disk_mb=300) as device:
        yield device


@pytest.fixture
def pi5(pi: Pi) -> Iterator[Ssh]:
    with Ssh("pi5", pi.host, config=str(pi.config)) as device:
        yield device
        device.clean()


@pytest.fixture
def pixel(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Adb]:
    for name, value in phone.env.items():
        monkeypatch.setenv(name, value)
    with Adb("pixel", phone.serial) as device:
        yield device
        device.clean()


@pytest.fixture(params=["pi", "phone"])
def both(request: pytest.FixtureRequest) -> tuple[Standin, Any]:
    """A stand-in and the device that it is to us."""
    names = {"pi": ("pi", "pi5"), "phone": ("phone", "pixel")}[request.param]
    there, device = (request.getfixturevalue(name) for name in names)
    return there, device


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, and the program that runs it there."""
    if not runners.find("armv8.2"):
        runners.build("armv8.2", QUIET)
    checkpoint = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
    out = tmp_path_factory.mktemp("artifact")
    made = everything.export(checkpoint, {"gguf": ["q8_0"]}, out, "m", QUIET, lambda s: environments.ensure(s, QUIET))
    return next(Path(a.path) for it in made for a in it.artifacts)


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("workload") / "workload.jsonl"
    rows = [{"id": str(n), "prompt": f"Set the timer to {n} minutes and play song number {n}."} for n in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def undisturbed(artifact: Path, workload: Path, pi: Pi, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the model answers if nothing happens: {row: text}."""
    with Ssh("pi5", pi.host, config=str(pi.config)) as device:
        result = tmp_path_factory.mktemp("undisturbed") / "m.json"
        made = measured(device, artifact, workload, result)
        assert not made.error, made.error
        assert made.device["emulated"] is True
    return {s.row: s.text for s in made.samples}


def settings_of() -> measure.Settings:
    return measure.Settings("llama_server", 1, 128, TOKENS, ())


def measured(
    device: Any, artifact: Path, workload: Path, result: Path, settings: measure.Settings | None = None
) -> Measurement:
    subject = measure.Subject("m", artifact, records.digest_file(artifact), "artifact", "gguf")
    settings = settings or settings_of()
    environment = device.environment("llama_server", QUIET)
    return measure.measure(subject, settings, workload, device, environment, result, QUIET)


@contextlib.contextmanager
def when(happened: Callable[[], bool], do: Callable[[], Any]) -> Iterator[None]:
    """Does something as soon as something has happened meanwhile; it must have."""
    ended, done = threading.Event(), threading.Event()

    def wait() -> None:
        while not happened():
            if ended.wait(0.01):
                return
        do()
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert done.is_set(), "it was over before"


def rows_in(file: Path, count: int) -> Callable[[], bool]:
    """Whether the journal of a measurement has so many rows (after a line with its key)."""
    return lambda: file.is_file() and file.read_text().count("\n") > count


def nothing_runs(there: Standin, within_s: float = 30.0) -> bool:
    end = time.monotonic() + within_s
    while found := [command for command in there.processes() if re.search(OURS, command)]:
        if time.monotonic() > end:
            raise AssertionError(found)
        time.sleep(0.1)
    return True


def same_answers_and_no_row_twice(made: Measurement, before: Measurement | None, expected: dict[str, str]) -> None:
    assert not made.error, made.error
    assert {s.row: s.text for s in made.samples} == expected and len(made.samples) == ROWS
    if before is not None:
        kept = {s.row: s.call_s for s in before.samples}
        assert 2 <= len(kept) < ROWS and kept.items() <= {s.row: s.call_s for s in made.samples}.items()


# --- in the middle of a measurement -----------------------------------------------------------------------------------


def kill_the_runtime(there: Standin) -> None:
    assert there.kill(RUNTIME)


def freeze_the_runtime(there: Standin) -> None:
    assert there.kill(RUNTIME, signal.SIGSTOP)


def take_its_memory(there: Standin) -> None:
    there.limit_memory(there.used_mb() - there.largest_mb() // 2)  # a probe that ends meanwhile is smaller than that


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {  # what is done, and what must be said
    "killed": (kill_the_runtime, "killed|ended|memory|answers no more|broke off"),
    "frozen": (freeze_the_runtime, "said nothing for 5 s"),
    "out of memory": (take_its_memory, "memory"),
    "rebooted": (lambda there: there.reboot(0.5), "connection was lost|nothing answers"),
    "cut off": (lambda there: there.cut(), "connection was lost|does not answer|said nothing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_measurement_that_was_broken_off_goes_on(
    both: tuple[Any, Any], fault: str, artifact: Path, workload: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    there, device = both
    do, says = FAULTS[fault]
    result = tmp_path / "m.json"

    def harm() -> None:
        if fault in ("frozen", "cut off"):  # from now on: until the first row a slow machine may be silent for longer
            object.__setattr__(settings, "stall_s", 30.0 if there.kind == "pi" and fault == "cut off" else 5.0)
        do(there)

    for _ in range(3):  # on a busy machine rows come in bursts: the last may be here before the fault takes hold
        result.unlink(missing_ok=True)
        settings = settings_of()
        try:
            with when(rows_in(result.with_suffix(".samples"), 2), harm):
                broken = measured(device, artifact, workload, result, settings)
        finally:
            there.mend()
            there.limit_memory(None)
        if broken.error:
            break
    assert broken.error and re.search(says, f"{broken.error['message']} {broken.error['hint']}"), broken.error
    assert broken.error["hint"]
    same_answers_and_no_row_twice(measured(device, artifact, workload, result), broken, undisturbed)
    assert nothing_runs(there)


def test_a_short_cut_is_not_noticed(
    both: tuple[Any, Any], artifact: Path, workload: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    there, device = both

    def cut() -> None:
        there.cut()
        time.sleep(3)
        there.mend()

    with when(rows_in(tmp_path / "m.samples", 2), cut):
        made = measured(device, artifact, workload, tmp_path / "m.json")
    same_answers_and_no_row_twice(made, None, undisturbed)


def test_an_illegal_instruction_is_explained(
    artifact: Path, workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Pi 4, a program that was built for a newer one."""
    monkeypatch.setattr(runners, "class_of", lambda features: "armv8.2")
    with standin("pi", "cortex-a72") as pi4, Ssh("pi4", pi4.host, config=str(pi4.config)) as device:
        made = measured(device, artifact, workload, tmp_path / "m.json")
        assert made.error and re.search("SIGILL|Illegal instruction", made.error["message"]), made.error
        assert re.search("another processor|has not", made.error["message"] + str(made.error["hint"])), made.error
        assert nothing_runs(pi4)


# --- edge bench -------------------------------------------------------------------------------------------------------


@pytest.fixture
def wish(pi: Pi, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wish:
    """Rows with one small tool, measured on the Pi alone."""
    monkeypatch.setenv("EDGE_CONFIG", str(tmp_path))
    (tmp_path / "devices.toml").write_text(f'[pi5]\naddress = "ssh:{pi.host}"\nconfig = "{pi.config}"\n')
    tool = {"type": "function", "function": {"name": "light_on", "description": "Turn on a light", "parameters": {
        "type": "object", "properties": {"room": {"type": "string", "description": "Where"}}, "required": ["room"]}}}  # fmt: skip
    rooms = ("hall", "kitchen", "garage", "attic", "cellar", "garden")
    rows = [
        {"messages": [{"role": "user", "content": f"Light in the {room}, please"},
                      {"role": "assistant", "tool_calls": [{"type": "function", "function": {
                          "name": "light_on", "arguments": {"room": room}}}]}], "tools": [tool]}
        for room in rooms
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Wish(
        files=[artifact],
        devices=["pi5"],
        data=[str(tmp_path / "rows.jsonl")],
        threads=(1,),
        out=tmp_path / "bench",
        baseline=False,
    )


def journal(wish: Wish) -> dict[str, Any]:
    """{row: call_s} of what is unfinished."""
    assert wish.out
    found = {}
    for file in (wish.out / "pi5").glob("*.partial") if wish.out.is_dir() else ():
        for line in file.read_text().splitlines():
            with contextlib.suppress(ValueError):  # it is being written
                if line.startswith('{"sample"') and (told := json.loads(line)["sample"]):
                    found[told["row"]] = told["call_s"]
    return found


def finished(wish: Wish) -> Measurement:
    assert wish.out
    (file,) = (wish.out / "pi5").glob("*.json")
    return records.load(Measurement, file)


def test_a_bench_waits_for_a_device_that_reboots(pi: Pi, wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}

    def reboot() -> None:
        kept.update(journal(wish))
        pi.reboot(1)

    with when(lambda: len(journal(wish)) >= 2, reboot):
        outcome = matrix.run(wish, QUIET)
    assert not outcome.failed
    made = finished(wish)
    assert len(made.samples) == len({s.row for s in made.samples}) == 6 and not made.error
    assert kept.items() <= {s.row: s.call_s for s in made.samples}.items() and nothing_runs(pi)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_runs_there_when_the_host_is_stopped(pi: Pi, wish: Wish, how: signal.Signals) -> None:
    command = [sys.executable, "-c", COMMAND, "bench", str(wish.files[0]), "--data", wish.data[0], "--no-base",
               "--threads", "1", "--out", str(wish.out), "--device", "pi5"]  # fmt: skip
    host = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 240
    while len(journal(wish)) < 2:
        assert host.poll() is None and time.monotonic() < end, host.communicate()
        time.sleep(0.01)
    host.send_signal(how)
    _, said = host.communicate(timeout=60)
    assert host.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), said
    assert nothing_runs(pi, within_s=40)
    kept = journal(wish)
    outcome = matrix.run(wish, QUIET)
    made = finished(wish)
    assert not outcome.failed and len(made.samples) == 6 and len(kept) >= 2
    assert kept.items() <= {s.row: s.call_s for s in made.samples}.items()


# --- files ------------------------------------------------------------------------------------------------------------


def random_file(folder: Path, megabytes: int) -> tuple[Path, str]:
    file = folder / "data.bin"
    file.write_bytes(os.urandom(megabytes << 20))
    return file, records.digest_file(file)


def test_one_altered_bit_is_noticed_and_sent_again(both: tuple[Any, Any], tmp_path: Path) -> None:
    """Of ssh the connection breaks; adb passes it on, and our sha256 sees it."""
    there, device = both
    file, digest = random_file(tmp_path, 8)
    before = there.received()
    there.garble(after_bytes=4 << 20)
    place = device.push(file, digest)
    assert there.received() - before > 9 << 20  # some of it came twice
    assert there.run(f"sha256sum {place}").stdout.split()[0] == digest


def test_a_push_goes_on_after_the_link_was_cut(pi: Pi, pi5: Ssh, tmp_path: Path) -> None:
    file, digest = random_file(tmp_path, 24)
    before = pi.received()
    pi.cut(after_bytes=16 << 20)
    mend = threading.Timer(30, pi.mend)  # ssh gives up after 15 to 20 seconds
    mend.start()
    try:
        place = pi5.push(file, digest)
    finally:
        mend.join()
    assert pi.run(f"sha256sum {place}").stdout.split()[0] == digest
    assert 24 << 20 < pi.received() - before < 34 << 20  # the first 16 MB were not sent again


def test_a_full_disk_is_said_with_what_it_takes(both: tuple[Any, Any], tmp_path: Path) -> None:
    there, device = both
    file, digest = random_file(tmp_path, 24)  # 25.2 MB
    there.fill_disk(leave_bytes=9_000_000)
    try:
        with pytest.raises(EdgeError, match=r"takes 25(\.2)? MB") as caught:
            device.push(file, digest)
        assert re.search(r"\b(8|9)(\.\d)? MB are free", caught.value.message), caught.value.message
        assert "edge devices clean" in str(caught.value.hint)
    finally:
        there.empty_disk()
    place = device.push(file, digest)
    assert there.run(f"sha256sum {place}").stdout.split()[0] == digest


def test_a_disk_that_fills_up_in_the_middle(both: tuple[Any, Any], tmp_path: Path) -> None:
    """Another program takes the room that was free when the push began."""
    there, device = both
    file, digest = random_file(tmp_path, 48)
    sent = there.received()
    with (
        when(lambda: there.received() - sent > 4 << 20, lambda: there.fill_disk(leave_bytes=1 << 20)),
        pytest.raises(EdgeError) as caught,
    ):
        device.push(file, digest)
    there.empty_disk()
    assert "full" in caught.value.message or "free" in caught.value.message, caught.value.message
    place = device.push(file, digest)
    assert there.run(f"sha256sum {place}").stdout.split()[0] == digest


# --- the way there ----------------------------------------------------------------------------------------------------


def test_another_host_key_is_refused_and_explained() -> None:
    with standin("pi") as pi:
        with Ssh("pi5", pi.host, config=str(pi.config)) as device:
            assert device.run(["true"]).status == 0
        pi.new_host_key()
        began, received = time.monotonic(), pi.received()
        with pytest.raises(DeviceError, match="its host key is another one than last time") as caught:
            Ssh("pi5", pi.host, config=str(pi.config)).__enter__()
        assert not isinstance(caught.value, Lost) and "ssh-keygen -R" in str(caught.value.hint)
        assert time.monotonic() - began < 20 and pi.received() - received < 8192


def test_the_same_device_after_a_reboot(both: tuple[Any, Any]) -> None:
    there, device = both
    assert device.run(["echo", "1"]).out == "1\n"
    there.reboot(0.2)
    assert device.run(["echo", "2"]).out == "2\n"


def test_a_command_that_hangs_is_ended_there_too(both: tuple[Any, Any]) -> None:
    there, device = both
    assert device.run(["sleep", "600"], timeout_s=2).status is None
    end = time.monotonic() + 20
    while any("sleep" in command for command in there.processes()):
        assert time.monotonic() < end, there.processes()
        time.sleep(0.1)


def test_one_of_two_phones_another_one_and_none(phone: Phone, pixel: Adb, tmp_path: Path) -> None:
    with standin("phone") as other:
        assert "connected" in phone.server("connect", other.serial).stdout
        other.write("/data/local/tmp/who", "other\n")
        phone.write("/data/local/tmp/who", "this\n")
        with Adb("other", other.serial) as second:
            assert [d.run(["cat", "/data/local/tmp/who"]).out for d in (pixel, second)] == ["this\n", "other\n"]
        with pytest.raises(DeviceError, match="R5CT10ABCDE") as caught:
            Adb("lost", "R5CT10ABCDE").__enter__()
        assert phone.serial in caught.value.message and other.serial in caught.value.message
        phone.server("disconnect", other.serial)
    phone.server("disconnect")
    with pytest.raises(DeviceError, match="adb sees: none"):
        Adb("lost", "R5CT10ABCDE").__enter__()
    with Adb("pixel", phone.serial) as device:  # it is connected again by its address
        assert device.run(["echo", "x"]).out == "x\n"
