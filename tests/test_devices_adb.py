"""Phones over adb: what `adb devices` shows, recorded; and (slow) a real adbd, in which real models answer."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import requires_standins

from edge import environments, records
from edge.bench import measure
from edge.console import Console
from edge.devices import Lost, Stopped, adb, runners
from edge.dialects import functiongemma
from edge.errors import DeviceError
from edge.export import everything, job
from edge.train import tiny

QUIET = Console(quiet=True)
# As adb 34 and 36 print them (serials changed).
LISTED = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
28271FDH2004FV         device usb:1-4 product:shiba model:Pixel_8 device:shiba transport_id:3
R5CT10ABCDE            unauthorized usb:1-2 transport_id:4
192.168.1.20:5555      offline transport_id:5
0123456789ABCDEF       no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html] usb:1-1 transport_id:1
emulator-5554          device product:sdk_gphone64_arm64 model:sdk_gphone64_arm64 device:emu64a transport_id:6

"""  # noqa: E501


def test_reads_what_adb_lists() -> None:
    assert adb.parse_devices(LISTED) == {
        "28271FDH2004FV": "device",
        "R5CT10ABCDE": "unauthorized",
        "192.168.1.20:5555": "offline",
        "0123456789ABCDEF": "no permissions",
        "emulator-5554": "device",
    }
    assert adb.parse_devices("List of devices attached\n\n") == {}
    assert adb.parse_devices("List of devices attached\nabc\tunauthorized\n") == {"abc": "unauthorized"}


@pytest.mark.parametrize(
    ("serial", "says", "remedy"),
    [
        ("R5CT10ABCDE", "unauthorized", "accept"),
        ("192.168.1.20:5555", "offline", "adb disconnect 192.168.1.20:5555"),
        ("0123456789ABCDEF", "no permissions", "udev"),
        ("nothere", "28271FDH2004FV (device), R5CT10ABCDE (unauthorized)", "edge devices add"),
    ],
)
def test_says_what_to_do_with_a_phone_that_is_not_ready(serial: str, says: str, remedy: str) -> None:
    known = adb.parse_devices(LISTED)
    error = adb.not_ready("phone", serial, known.get(serial), known)
    assert isinstance(error, DeviceError) and error.exit_code == 5
    assert isinstance(error, Lost) == (known.get(serial) in (None, "offline"))  # what may pass is waited for
    assert says in error.message and remedy in (error.hint or "")


def test_a_phone_that_is_not_there_among_none() -> None:
    assert "none" in adb.not_ready("phone", "x", None, {}).message


# --- a real adbd --------------------------------------------------------------------------------------------------------


@pytest.fixture
def device(phone: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[adb.Adb]:
    for name, value in phone.env.items():
        monkeypatch.setenv(name, value)
    with adb.Adb("phone", phone.serial, python="bundle") as it:
        yield it


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model by format."""
    out = tmp_path_factory.mktemp("artifacts")
    checkpoint = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
    wanted = {"gguf": ["q8_0"], "litertlm": ["int8"]}
    made = everything.export(checkpoint, wanted, out, "m", QUIET, lambda it: environments.ensure(it, QUIET))
    return {a.format: Path(a.path) for it in made for a in it.artifacts}


pytestmark_real = [pytest.mark.slow, requires_standins]


def real(test: Any) -> Any:
    for mark in pytestmark_real:
        test = mark(test)
    return test


@real
def test_what_it_is_and_what_runs_on_it(device: adb.Adb) -> None:
    facts = device.facts()
    assert facts["model"] == "Google Pixel 8 (stand-in)" and facts["android"] == "14" and facts["kind"] == "adb"
    assert facts["machine"] == "aarch64" and "atomics" in facts["features"] and facts["emulated"] is True
    assert device.vitals()["temperature_c"] == 41.0
    bare = adb.Adb("phone", device.serial)
    assert "Python" in (bare.lacks("litert_lm") or "") and device.lacks("litert_lm") is None
    assert "machine only" in (device.lacks("transformers") or "")


@real
def test_commands_keep_their_status_output_and_quotes(device: adb.Adb) -> None:
    done = device.run(["sh", "-c", "echo \"it's\" '$HOME'; echo no >&2; exit 7"])
    assert (done.status, done.out, done.err) == (7, "it's $HOME\n", "no\n")
    assert device.run(["sleep", "5"], timeout_s=0.5).status is None


@real
def test_files_are_sent_once_and_whole(device: adb.Adb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "_PART", 1 << 20)
    file = tmp_path / "a b.bin"
    file.write_bytes(os.urandom(adb._PART + 12345))
    digest = records.digest_file(file)
    there = device.push(file, digest)
    device.pull(there, tmp_path / "back")
    assert records.digest_file(tmp_path / "back") == digest
    before = device.shell(f"stat -c %Y '{there}'").out
    assert device.push(file, digest) == there and device.shell(f"stat -c %Y '{there}'").out == before
    # Cut off after the first part: that part stays. Altered there: noticed by the sha256, and sent again.
    device.shell(f"rm '{there}'; head -c {adb._PART + 99} /dev/zero > '{there}.partial'")
    device.push(file, digest)
    device.pull(there, tmp_path / "again")
    assert records.digest_file(tmp_path / "again") == digest
    assert [name for name, _ in device.pushed()] == [there]
    assert device.clean() and not device.pushed()


@real
def test_clean_removes_all_of_ours_and_nothing_else(phone: Any, device: adb.Adb, tmp_path: Path) -> None:
    """Also of a folder that somebody keeps other things in; what runs there of ours is ended."""
    file = tmp_path / "x"
    file.write_text("ours")
    place = "/data/local/tmp/shared"
    device.shell(f"mkdir {place}; echo mine >{place}/mine")
    shared = adb.Adb("phone", device.serial, folder=place)
    with shared:
        there = shared.push(file, records.digest_file(file))
        left = adb._GUARD.format(folder=place, command="sleep 100 llama-server")
        with subprocess.Popen(
            ["adb", "-s", device.serial, "shell", left], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as run:
            assert run.stdout and run.stdout.readline().startswith(b"__EDGE_PID=")
            assert [path for path, _ in shared.clean()] == [there]
            assert run.wait(20) is not None
    assert device.shell(f"ls -A {place}").out.split() == ["mine"]
    assert device.shell(f"rm -r {place}").status == 0 and not any("sleep" in line for line in phone.processes())


@real
def test_a_push_that_was_stopped_ends_and_goes_on(
    phone: Any, device: adb.Adb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb, "_PART", 1 << 20)
    file = tmp_path / "x.bin"
    file.write_bytes(os.urandom(8 << 20))
    before = phone.received()

    def watch() -> None:
        while phone.received() - before < 3 << 20:
            time.sleep(0.01)
        device.stop.set()

    stopper = threading.Thread(target=watch)
    stopper.start()
    with pytest.raises(Stopped):
        device.push(file, records.digest_file(file))
    stopper.join()
    device.stop.clear()
    device.push(file, records.digest_file(file))
    assert phone.received() - before < 11 << 20  # what had arrived was not sent again
    device.clean()


@real
def test_llama_cpp_answers_there_as_here(device: adb.Adb, artifacts: dict[str, Path], tmp_path: Path) -> None:
    runners.build(runners.class_of(set(device.facts()["features"])), QUIET)
    assert answers(device, "llama_server", artifacts["gguf"], tmp_path) == here(
        "llama_cpp", artifacts["gguf"], tmp_path
    )


@real
def test_litert_lm_answers_there_as_here(device: adb.Adb, artifacts: dict[str, Path], tmp_path: Path) -> None:
    """Through the bundle."""
    file = artifacts["litertlm"]
    assert answers(device, "litert_lm", file, tmp_path) == here("litert_lm", file, tmp_path)
    assert device.clean() and not device.pushed()


def here(runtime: str, file: Path, folder: Path) -> list[Any]:
    from edge.devices.local import Local

    return answers(Local(), runtime, file, folder)


def answers(device: Any, runtime: str, file: Path, folder: Path) -> list[Any]:
    """What the artifact wrote for a short prompt; nothing of ours is left running."""
    tool = "<start_function_declaration>declaration:lamp{description:<escape>Lamp.<escape>}<end_function_declaration>"
    prompt = f"<bos><start_of_turn>developer\n{tool}<end_of_turn>\n<start_of_turn>user\nlamp<end_of_turn>\n<start_of_turn>model\n"
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"id": "1", "prompt": prompt}) + "\n")
    subject = measure.Subject("m", file, records.digest_file(file), "artifact", file.suffix[1:])
    settings = measure.Settings(runtime, 1, 256, 12, functiongemma.STOP)
    environment = device.environment(runtime, QUIET)
    made = measure.measure(
        subject, settings, rows, device, environment, folder / f"{device.name}-{runtime}.json", QUIET
    )
    assert made.error is None and made.load_s and (made.peak_rss_bytes or 0) > file.stat().st_size
    assert device.name == "local" or made.device["emulated"]
    if device.name != "local":
        assert "llama-server" not in device.shell("ps -A").out and "ld-linux" not in device.shell("ps -A -f").out
    return [(s.text, s.prompt_tokens, s.completion_tokens, s.error) for s in made.samples]
